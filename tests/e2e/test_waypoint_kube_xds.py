# SPDX-License-Identifier: Apache-2.0
"""A waypoint as it is in a cluster under istiod: workloads, services and bindings come from istiod,
rules from the Kubernetes API's watches, and status is written there: all three at once."""

import json

import pytest
from lablib import BIN_DIR, wait_until
from mesh.fixtures import shown  # noqa: F401
from mesh.kube import KubeApi
from mesh.kube_objects import Objects
from mesh.topology import Mesh, Node
from mesh.web import answering
from mesh.xds import ADDRESS, Discovery, Own, service, workload

VIP, WAY_VIP = "10.96.8.1", "10.96.8.2"
WEB = {"demo/web.demo.svc.cluster.local": {80: 8080}}
WAY = {"demo/way.demo.svc.cluster.local": {15008: 15008}}
HTTP11 = 1
GET = b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"
GATEWAY_API = "gateway.networking.k8s.io/v1"
CONTROLLER = "ztun.io/waypoint-controller"

# Answers a request with the value of a header that a rule adds.
web = answering(lambda conn, fields: fields.get("x-rule", "-"))


class Waypoint(Node):
    def __init__(self, mesh, pod):
        super().__init__(mesh, pod.node)
        self.name, self.netns, self.program = pod.name, pod.netns, BIN_DIR / "waypoint"
        self.log_path = mesh.dir / "waypoint.log"
        self.source_args = [*mesh.watched.args, *mesh.istiod.xds_args]
        self.ca_args = mesh.istiod.args
        self.args = ["--gateway", "demo/way", "--pod", pod.name, "--kube-status", mesh.written.url]
        self.env = {"INSTANCE_IP": pod.ip}


class Cluster(Mesh):
    """`watched` and `written`: what the API has, as it is read and as it is written."""

    def put(self, doc):
        self.written.put(doc)
        self.watched.put(doc)

    def bind(self, waypoint):
        self.istiod.set(ADDRESS, service("web", VIP, {80: 8080}, waypoint=waypoint,
                                         protocol=HTTP11))

    def ask(self):
        head, _, body = super().ask("client", (VIP, 80), GET).decode().partition("\r\n\r\n")
        assert head.startswith("HTTP/1.1 200 "), head
        return body

    def conditions(self):
        """Of our entry in the route's status; {} = there is none."""
        parents = self.written.get("HTTPRoute", "web", "demo").get("status", {}).get("parents", [])
        return {c["type"]: (c["status"], c["reason"]) for p in parents
                if p["controllerName"] == CONTROLLER for c in p["conditions"]}


def route(value, **match):
    rule = {"filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {
        "set": [{"name": "x-rule", "value": value}]}}], "backendRefs": [{"name": "web", "port": 80}]}
    if match:
        rule["matches"] = [match]
    return {"apiVersion": GATEWAY_API, "kind": "HTTPRoute",
            "metadata": {"name": "web", "namespace": "demo"},
            "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "web"}],
                     "rules": [rule]}}


def objects(mesh):
    mesh.put({"apiVersion": GATEWAY_API, "kind": "GatewayClass",
              "metadata": {"name": "ztun-waypoint"}, "spec": {"controllerName": CONTROLLER}})
    mesh.put({"apiVersion": GATEWAY_API, "kind": "Gateway",
              "metadata": {"name": "way", "namespace": "demo"},
              "spec": {"gatewayClassName": "ztun-waypoint", "listeners": [
                  {"name": "mesh", "port": 15008, "protocol": "HBONE"}]}})
    mesh.put(route("first"))


@pytest.fixture(scope="module")
def mesh():
    made = Cluster(2)
    istiod = made.istiod = Discovery(made)
    watched = made.watched = KubeApi(made.dir / "api")
    written = made.written = Objects(made, "node1", "10.77.0.1", 8001)
    try:
        for name, node in (("client", 1), ("way", 2), ("web", 2)):
            made.pod(name, node)
        own = [Own(made, made.pods[name]) for name in ("client", "web")]
        for node in own:
            node.ca_args = istiod.args
        objects(made)
        watched.publish_authority()
        watched.start(made.nodes[2].ip, made.listen(made.nodes[2].name, 6443, made.nodes[2].ip))
        proxies = [*own, Waypoint(made, made.pods["way"])]
        made.nodes.update({node.name: node for node in proxies})
        istiod.set(ADDRESS, workload(made.pods["client"]), workload(made.pods["web"], WEB),
                   workload(made.pods["way"], WAY), service("way", WAY_VIP, {15008: 15008}))
        made.bind("way")
        istiod.start()
        written.start()
        for node in proxies:
            node.start(wait=False)
        for node in proxies:
            node.wait_ready()
        made.serve("web", 8080, web)
        kept, made.servers = made.servers, []  # for the whole module
        yield made
        for server in kept:
            server.close()
    finally:
        bad = made.stop()
        istiod.stop()
        watched.stop()
        written.stop()
    assert not bad, "\n".join(bad)


def test_all_three(mesh):
    """The binding is istiod's, the rule is the API's, and each change of either is told there."""
    good = {"Accepted": ("True", "Accepted"), "ResolvedRefs": ("True", "ResolvedRefs")}
    assert mesh.ask() == "first"
    wait_until(lambda: mesh.conditions() == good, 20)
    gateway = wait_until(lambda: mesh.written.get("Gateway", "way", "demo").get("status"), 20)
    assert [a["value"] for a in gateway["addresses"]] == ["way.demo.svc.cluster.local", WAY_VIP]
    mesh.put(route("second"))
    wait_until(lambda: mesh.ask() == "second", 20)
    mesh.bind(None)  # istiod's word
    wait_until(lambda: mesh.conditions() == {}, 20)
    wait_until(lambda: mesh.ask() == "-", 20)
    mesh.bind("way")
    wait_until(lambda: mesh.conditions() == good and mesh.ask() == "second", 20)
    # What cannot be read: the last good version goes on, and both are told.
    mesh.put(route("third", path={"type": "Odd", "value": "/"}))
    wait_until(lambda: mesh.conditions().get("Accepted") == ("False", "UnsupportedValue"), 20)
    assert mesh.ask() == "second"
    mesh.put(route("fourth"))
    wait_until(lambda: mesh.conditions() == good and mesh.ask() == "fourth", 20)


def test_who_is_away(mesh):
    """Each of the three goes on without the others."""
    way = mesh.nodes["way"]
    mesh.put(route("before"))
    wait_until(lambda: mesh.ask() == "before", 20)
    mesh.written.stop()
    mesh.istiod.stop()
    try:
        mesh.put(route("alone"))
        wait_until(lambda: mesh.ask() == "alone", 20)
        assert way.get("/healthz/ready", 15021)[0] == 200
    finally:
        mesh.istiod.start()
        mesh.written.start()
    status = json.loads(way.get("/status")[1])
    assert status["kubernetes"]["synced"] and status["statusWriter"]["isLeader"] in (True, False)
    wait_until(lambda: mesh.conditions().get("Accepted") == ("True", "Accepted"), 40)
