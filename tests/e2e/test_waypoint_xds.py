# SPDX-License-Identifier: Apache-2.0
"""A waypoint under istiod: workloads, services, bindings and certificates come from istiod, L7
resources and the labels of Pods from files, which say nothing of addresses. The ztuns on both sides
know only what istiod sends."""

import json
import os
import subprocess

import pytest
from lablib import BIN_DIR, wait_until
from mesh.fixtures import shown  # noqa: F401
from mesh.topology import Load, Mesh, Node
from mesh.web import answering
from mesh.xds import ADDRESS, POLICY, Discovery, Own, deny_port, service, workload

VIP, WAY_VIP = "10.96.8.1", "10.96.8.2"
WEB = {"demo/web.demo.svc.cluster.local": {80: 8080}}
WAY = {"demo/way.demo.svc.cluster.local": {15008: 15008}}
HTTP11 = 1
GET = b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"
SERVERS = ("web-1", "web-2")


class Waypoint(Node):
    """In the namespace of the pod `way`."""

    def __init__(self, mesh, pod):
        super().__init__(mesh, pod.node)
        self.name, self.netns, self.program = pod.name, pod.netns, BIN_DIR / "waypoint"
        self.log_path = mesh.dir / "waypoint.log"
        self.source_args = ["--config", mesh.rules, *mesh.istiod.xds_args]
        self.ca_args = mesh.istiod.args
        self.args = ["--gateway", "demo/way", "--pod", pod.name]
        self.env = {"INSTANCE_IP": pod.ip}


class Rules(Mesh):
    """`rules`: the waypoint's files."""

    def __init__(self, nodes):
        super().__init__(nodes)
        self.rules = self.dir / "rules"
        self.rules.mkdir()

    def put(self, kind, name, api, ns="demo", meta=None, **rest):
        """Writes an object for the waypoint, and waits until it has it."""
        doc = {"apiVersion": api, "kind": kind, **rest,
               "metadata": {"name": name, "namespace": ns, **(meta or {})}}
        self.change(lambda: self.rename(kind, name, doc))

    def rename(self, kind, name, doc):
        temporary = self.rules / ".new"
        temporary.write_text(json.dumps(doc))
        temporary.rename(self.rules / f"{kind}-{name}.json")

    def take(self, kind, name):
        self.change((self.rules / f"{kind}-{name}.json").unlink)

    def change(self, change):
        way = self.nodes["way"]
        mark = way.mark()
        change()
        wait_until(lambda: way.log(mark, message="configuration applied"), 10, "the waypoint has it")


# Answers a request with the name of the pod, and with the header that a rule adds.
web = answering(lambda conn, fields: f"{conn.pod} {fields.get('x-rule', '-')}")


class Named:
    """A connection that knows whose it is."""

    def __init__(self, conn, pod):
        self.conn, self.pod = conn, pod

    def __getattr__(self, name):
        return getattr(self.conn, name)


def members(mesh, *names):
    """Those pods are the service's endpoints."""
    istiod = mesh.istiod
    answers = istiod.set(ADDRESS, *(workload(mesh.pods[name], WEB if name in names else ())
                                    for name in SERVERS))
    assert all(a.error is None for a in answers)


def bind(mesh, waypoint="way"):
    mesh.istiod.set(ADDRESS, service("web", VIP, {80: 8080}, waypoint=waypoint, protocol=HTTP11))


@pytest.fixture(scope="module")
def mesh():
    made = Rules(2)
    istiod = made.istiod = Discovery(made)
    try:
        for name, node in (("client", 1), ("way", 2), *((name, 2) for name in SERVERS)):
            made.pod(name, node, sa="web" if name in SERVERS else None)
        own = {name: Own(made, made.pods[name]) for name in ("client", *SERVERS)}
        for node in own.values():
            node.ca_args = istiod.args
        proxies = {**own, "way": Waypoint(made, made.pods["way"])}
        made.nodes.update(proxies)
        istiod.set(ADDRESS, workload(made.pods["client"]), workload(made.pods["way"], WAY),
                   service("way", WAY_VIP, {15008: 15008}))
        bind(made)
        members(made, *SERVERS)
        istiod.start()
        for node in proxies.values():
            node.start(wait=False)
        for node in proxies.values():
            node.wait_ready()
        for name in SERVERS:
            made.serve(name, 8080, lambda conn, name=name: web(Named(conn, name)))
        kept, made.servers = made.servers, []  # for the whole module
        yield made
        for server in kept:
            server.close()
        for node in own.values():
            assert node.alive()
    finally:
        bad = made.stop()
        istiod.stop()
    assert not bad, "\n".join(bad)


@pytest.fixture
def istiod(mesh):
    mesh.istiod.connected(4)
    return mesh.istiod


def ask(mesh):
    """(who answered, what the rule added)"""
    head, _, body = mesh.ask("client", (VIP, 80), GET).decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 "), head
    return body.split(" ")


def seen(mesh, n=24):
    return {ask(mesh)[0] for _ in range(n)}


def status(node):
    return json.loads(node.get("/status")[1])


def virtual_service(mesh, **http):
    http.setdefault("route", [{"destination": {"host": "web"}}])
    mesh.put("VirtualService", "web", "networking.istio.io/v1", spec={"hosts": ["web"], "http": [http]})


@pytest.mark.parametrize("flags, code, text", [
    ([], 2, "--config, --kube or --xds-address is required"),
    (["--xds-address", "https://h:1", "--instance-ip", "x"], 2, '"x" is not an IP address'),
    (["--xds-address", "ftp://h:1"], 1, "ftp://h:1"),
])
def test_settings(tmp_path, flags, code, text):
    ports = [f"--{name}=127.0.0.1:0" for name in ("admin", "metrics", "readiness", "listen")]
    done = subprocess.run([BIN_DIR / "waypoint", "--ca-dir", tmp_path / "ca", "--gateway", "demo/way",
                           *ports, *flags], env=os.environ, capture_output=True, text=True, timeout=20,
                          check=False)
    assert done.returncode == code and text in done.stdout + done.stderr, done


@pytest.mark.main
def test_traffic(mesh, istiod):
    """By istiod alone, then with a rule; and what istiod was told."""
    assert seen(mesh) == set(SERVERS)
    virtual_service(mesh, headers={"request": {"set": {"x-rule": "yes"}}})
    try:
        assert ask(mesh)[1] == "yes"
        line = mesh.nodes["client"].access(direction="outbound")[-1]
        assert line["dst.identity"] == mesh.pods["way"].identity
        inbound = [line for name in SERVERS for line in mesh.nodes[name].log(direction="inbound")]
        assert {line["src.identity"] for line in inbound} <= {mesh.pods["way"].identity}
    finally:
        mesh.take("VirtualService", "web")
    assert ask(mesh)[1] == "-"
    way = next(s for s in istiod.connected(4) if s.pod == "way")
    first, pod = way.asks[0], mesh.pods["way"]
    assert first.node[1].decode() == f"waypoint~{pod.ip}~way.demo~demo.svc.cluster.local"
    assert first.metadata["NAMESPACE"] == "demo"
    assert way.metadata["authorization"] == "Bearer token-1"
    have = status(mesh.nodes["way"])
    assert have["boundServices"] == ["demo/web.demo.svc.cluster.local"]
    assert have["xds"]["connected"] and have["xds"]["workloads"] == 4
    assert have["counts"]["workloads"] == 4 and have["counts"]["services"] == 2


def test_pods_give_labels(mesh, istiod):
    """Subsets are by the labels of Pods, whose other fields count for nothing: istiod's do."""
    for name in SERVERS:
        mesh.put("Pod", name, "v1", meta={"labels": {"version": name}},
                 spec={"nodeName": "x", "containers": [{"name": "main"}]},
                 status={"phase": "Running", "podIP": "10.9.9.9"})
    mesh.put("DestinationRule", "web", "networking.istio.io/v1", spec={
        "host": "web", "subsets": [{"name": n, "labels": {"version": n}} for n in SERVERS]})
    try:
        for name in SERVERS:
            virtual_service(mesh, route=[{"destination": {"host": "web", "subset": name}}])
            assert seen(mesh, 6) == {name}
        assert status(mesh.nodes["way"])["counts"]["workloads"] == 4, "no workload twice"
        mesh.put("Pod", "web-1", "v1", meta={"labels": {"version": "web-2"}},
                 spec={"nodeName": "x", "containers": [{"name": "main"}]})
        assert seen(mesh) == set(SERVERS)
    finally:
        for kind, name in (("VirtualService", "web"), ("DestinationRule", "web"),
                           *(("Pod", n) for n in SERVERS)):
            mesh.take(kind, name)


def test_endpoints_change_under_load(mesh, istiod):
    """Come, go, are unhealthy: no request is lost, and who is out gets none."""
    with Load(mesh, "client", (VIP, 80), threads=2, data=GET, check=lambda got: b" 200 " in got[:13]):
        for _ in range(3):
            for names in (SERVERS[:1], SERVERS, SERVERS[1:], SERVERS):
                members(mesh, *names)
                assert seen(mesh, 8) <= set(names)
        uid, body = workload(mesh.pods["web-1"], WEB, status=1)
        istiod.set(ADDRESS, (uid, body))
        assert seen(mesh, 6) == {"web-2"}
        members(mesh, *SERVERS)


def test_policies_by_target(mesh, istiod):
    """Of the Gateway's own class alone; istiod's policies are for the ztuns of pods."""
    mesh.put("Gateway", "way", "gateway.networking.k8s.io/v1", spec={
        "gatewayClassName": "ztun-waypoint",
        "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]})
    rules = [{"from": [{"source": {"principals": ["cluster.local/ns/demo/sa/client"]}}]}]
    name = "AuthorizationPolicy", "of-class"
    try:
        for target, works in (("istio-waypoint", True), ("ztun-waypoint", False)):
            mesh.put(*name, "security.istio.io/v1", ns="istio-system", spec={
                "action": "DENY", "rules": rules, "targetRefs": [{
                    "group": "gateway.networking.k8s.io", "kind": "GatewayClass", "name": target}]})
            if works:
                assert ask(mesh)
            else:
                mesh.fails("client", (VIP, 80), GET)
    finally:
        mesh.take(*name)
        mesh.take("Gateway", "way")
    assert all(a.error is None for a in istiod.set(POLICY, deny_port("no", 9090)))
    assert ask(mesh)
    istiod.remove(POLICY, "demo/no")


def test_bound_elsewhere(mesh, istiod):
    """The binding is istiod's to change."""
    bind(mesh, None)
    mark = mesh.nodes["client"].mark()
    assert ask(mesh)
    line = mesh.nodes["client"].access(mark, direction="outbound")[-1]
    assert line["dst.identity"] == mesh.pods["web-1"].identity, "directly"
    assert status(mesh.nodes["way"])["boundServices"] == []
    bind(mesh)
    mark = mesh.nodes["client"].mark()
    assert ask(mesh)
    line = mesh.nodes["client"].access(mark, direction="outbound")[-1]
    assert line["dst.identity"] == mesh.pods["way"].identity


def test_istiod_restarts(mesh, istiod):
    """Nothing is lost meanwhile, and its news count again after."""
    with Load(mesh, "client", (VIP, 80), threads=2, data=GET, check=lambda got: b" 200 " in got[:13]):
        istiod.stop()
        virtual_service(mesh, headers={"request": {"set": {"x-rule": "away"}}})
        assert ask(mesh)[1] == "away", "rules count without istiod"
        istiod.start()
        istiod.connected(4, 30)
        members(mesh, "web-2")
        assert seen(mesh, 6) == {"web-2"}
        mesh.take("VirtualService", "web")
        members(mesh, *SERVERS)


def test_starts_without_istiod(mesh, istiod):
    """Not ready before it has heard everything once."""
    way = mesh.nodes["way"]
    assert way.end() == 0
    istiod.stop()
    try:
        way.start(wait=False)
        wait_until(lambda: "no first response of 10.77.0.2:15012 yet: " in
                   way.get("/healthz/ready", 15021)[1], 10)
        assert way.get("/healthz/ready", 15021)[0] != 200
    finally:
        istiod.start()
    way.wait_ready(30)
    istiod.connected(4, 30)
    assert seen(mesh) == set(SERVERS)
