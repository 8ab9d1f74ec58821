# SPDX-License-Identifier: Apache-2.0
"""What a waypoint writes into the Kubernetes API: status of its class, its Gateway and of routes,
Events, and the bindings that `auto` means; by one of two processes, the leader. Its configuration
comes from files here, in which there is what the API has."""

import contextlib
import json
import os
import subprocess
import time
from datetime import datetime

import pytest
from lablib import BIN_DIR, stays, wait_until
from mesh.kube_objects import Objects
from mesh.topology import Mesh, Node

GATEWAY_API = "gateway.networking.k8s.io/v1"
ISTIO = "networking.istio.io/v1"
CONTROLLER = "ztun.io/waypoint-controller"
LABEL = "istio.io/use-waypoint"


class Waypoint(Node):
    """One of those behind demo/way, in the namespace of a pod."""

    def __init__(self, mesh, pod):
        super().__init__(mesh, pod.node)
        self.name, self.netns, self.program = pod.name, pod.netns, BIN_DIR / "waypoint"
        self.log_path = mesh.dir / f"{pod.name}.log"
        self.args = ["--gateway", "demo/way", "--pod", pod.name, "--kube-status", mesh.api.url,
                     "--auto-binding=true"]

    def status(self):
        return json.loads(self.get("/status")[1])["statusWriter"]


class Both(Mesh):
    """Objects go to the files, which the waypoints read, and to the API."""

    def write(self, kind, name, doc, ns=""):
        if hasattr(self, "api"):
            self.api.put(doc)
        return super().write(kind, name, doc, ns)

    def delete(self, kind, name, ns="demo"):
        with self.api.lock:
            del self.api.objects[self.api.find(kind, name, ns)[0]]
        super().delete(kind, name, ns)

    def from_api(self, kind, name, ns="demo"):
        """What the API has now comes to the waypoints, as a watch would bring it."""
        Mesh.write(self, kind, name, self.api.get(kind, name, ns), ns)

    @contextlib.contextmanager
    def having(self, *docs):
        """Objects for the time of a block."""
        for doc in docs:
            self.apply(doc)
        try:
            yield
        finally:
            for doc in docs:
                self.delete(doc["kind"], doc["metadata"]["name"], doc["metadata"]["namespace"])

    @property
    def leader(self):
        return next((w for w in self.waypoints if w.process.poll() is None
                     and w.status()["isLeader"]), None)


def http_route(name, parent, backend="web", **more):
    return {"apiVersion": GATEWAY_API, "kind": "HTTPRoute",
            "metadata": {"name": name, "namespace": "demo"},
            "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": parent, "port": 80}],
                     "rules": [{"backendRefs": [{"name": backend, "port": 80}], **more}]}}


def virtual_service(name, host, **http):
    http.setdefault("route", [{"destination": {"host": host}}])
    return {"apiVersion": ISTIO, "kind": "VirtualService",
            "metadata": {"name": name, "namespace": "demo"},
            "spec": {"hosts": [host], "http": [http]}}


def reference_grant():
    return {"apiVersion": GATEWAY_API, "kind": "ReferenceGrant",
            "metadata": {"name": "grant", "namespace": "far"},
            "spec": {"from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute",
                               "namespace": "demo"}],
                     "to": [{"group": "", "kind": "Service"}]}}


def bind(mesh, name, waypoint="way"):
    path = mesh.config / f"Service-demo-{name}.json"
    doc = json.loads(path.read_text())
    doc["metadata"]["labels"] = {LABEL: waypoint} if waypoint else {}
    mesh.apply(doc)


@pytest.fixture(scope="module")
def mesh():
    made = Both(1)
    api = made.api = Objects(made, "node1", "10.77.0.1", 8001)
    try:
        pods = [made.pod(name, 1, sa="way", labels={"app": "way"}) for name in ("way-1", "way-2")]
        made.waypoints = [Waypoint(made, pod) for pod in pods]
        made.nodes.update({w.name: w for w in made.waypoints})
        made.apply({"apiVersion": GATEWAY_API, "kind": "GatewayClass",
                    "metadata": {"name": "ztun-waypoint"}, "spec": {"controllerName": CONTROLLER}})
        made.apply({"apiVersion": GATEWAY_API, "kind": "Gateway",
                    "metadata": {"name": "way", "namespace": "demo"},
                    "spec": {"gatewayClassName": "ztun-waypoint", "listeners": [
                        {"name": "mesh", "port": 15008, "protocol": "HBONE"}]}})
        made.vips["way"] = made.service("way", ports=[
            {"name": "hbone", "port": 15008, "protocol": "TCP"}], selector={"app": "way"})
        for name in ("web", "plain"):
            made.service(name)
        api.start()
        for waypoint in made.waypoints:
            waypoint.start(wait=False)
        for waypoint in made.waypoints:
            waypoint.wait_ready()
        wait_until(lambda: "addresses" in api.get("Gateway", "way", "demo").get("status", {}), 10)
        made.from_api("Gateway", "way")  # from here on services can be bound to it
        yield made
    finally:
        bad = made.stop()
        api.stop()
    assert not bad, "\n".join(bad)


@pytest.fixture
def api(mesh):
    wait_until(lambda: mesh.leader.status()["toDo"] == 0, 10, "all is written")
    yield mesh.api
    mesh.api.rule = None


def conditions(owner):
    return {c["type"]: (c["status"], c["reason"]) for c in owner["conditions"]}


def entries(api, name, kind="HTTPRoute"):
    return api.get(kind, name, "demo").get("status", {}).get("parents", [])


def ours(api, name):
    return [e for e in entries(api, name) if e["controllerName"] == CONTROLLER]


@pytest.mark.parametrize("flags, code, text", [
    (["--auto-binding=true"], 2, "--auto-binding needs --kube-status"),
    (["--kube-status", "/nowhere"], 1, "/nowhere"),
])
def test_settings(tmp_path, flags, code, text):
    ports = [f"--{name}=127.0.0.1:0" for name in ("admin", "metrics", "readiness", "listen")]
    done = subprocess.run([BIN_DIR / "waypoint", "--config", tmp_path, "--ca-dir", tmp_path / "ca",
                           "--gateway", "demo/way", *ports, *flags], env=os.environ,
                          capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == code and text in done.stdout + done.stderr, done


@pytest.mark.main
def test_gateway(mesh, api):
    status = api.get("Gateway", "way", "demo")["status"]
    assert conditions(status) == {"Accepted": ("True", "Accepted"),
                                  "Programmed": ("True", "Programmed")}
    assert status["addresses"] == [
        {"type": "Hostname", "value": "way.demo.svc.cluster.local"},
        {"type": "IPAddress", "value": mesh.vips["way"]}]
    assert conditions(status["listeners"][0])["Programmed"] == ("True", "Programmed")
    accepted = api.get("GatewayClass", "ztun-waypoint")["status"]["conditions"][0]
    assert accepted["status"] == "True" and accepted["observedGeneration"] == 1
    datetime.strptime(accepted["lastTransitionTime"], "%Y-%m-%dT%H:%M:%SZ")
    # What was written comes back, and nothing is written again.
    n = len([w for w in api.writes if "leases" not in w[1]])
    mesh.apply({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "news", "namespace": "demo"}})
    stays(lambda: len([w for w in api.writes if "leases" not in w[1]]) == n, 0.5)


@pytest.mark.main
def test_routes(mesh, api):
    """Of services that are bound here, beside what others say of them."""
    other = {"controllerName": "istio.io/gateway-controller", "conditions": [],
             "parentRef": {"group": "", "kind": "Service", "name": "web", "port": 80}}
    bind(mesh, "web")
    with mesh.having(http_route("good", "web"), http_route("not-ours", "plain")):
        good = {"Accepted": ("True", "Accepted"), "ResolvedRefs": ("True", "ResolvedRefs")}
        wait_until(lambda: conditions(ours(api, "good")[0]) == good, 10)
        api.change("HTTPRoute", "good", "demo", lambda d: d["status"]["parents"].append(other))
        # A write that crosses with another's is made anew.
        crossed = []

        def cross(method, path):
            if method == "PATCH" and not crossed:
                crossed.append(path)
                api.change("HTTPRoute", "good", "demo",
                           lambda d: d["metadata"].setdefault("labels", {}).update(x="y"))

        api.rule = cross
        mesh.apply(http_route("good", "web", backend="missing"))
        wait_until(lambda: conditions(ours(api, "good")[0])["ResolvedRefs"]
                   == ("False", "BackendNotFound"), 10)
        assert crossed and other in entries(api, "good") and len(entries(api, "good")) == 2
        assert entries(api, "not-ours") == []
        # Of another namespace, without its consent and with it.
        route = http_route("good", "web", backend="missing")
        route["spec"]["rules"][0]["backendRefs"][0]["namespace"] = "far"
        mesh.apply(route)
        wait_until(lambda: conditions(ours(api, "good")[0])["ResolvedRefs"]
                   == ("False", "RefNotPermitted"), 10)
        with mesh.having(reference_grant()):
            wait_until(lambda: conditions(ours(api, "good")[0])["ResolvedRefs"]
                       == ("False", "BackendNotFound"), 10)
        # The service is bound elsewhere: our word goes, others' stay.
        bind(mesh, "web", None)
        wait_until(lambda: entries(api, "good") == [other], 10)


def test_route_of_a_service_entry(mesh, api):
    entry = {"apiVersion": ISTIO, "kind": "ServiceEntry",
             "metadata": {"name": "out", "namespace": "demo", "labels": {LABEL: "way"}},
             "spec": {"hosts": ["out.example.com"], "location": "MESH_EXTERNAL", "resolution": "STATIC",
                      "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]}}
    route = http_route("out", "out", backend="web")
    route["spec"]["parentRefs"] = [{"group": "networking.istio.io", "kind": "ServiceEntry", "name": "out"}]
    with mesh.having(entry, route):
        wait_until(lambda: conditions(ours(api, "out")[0])["Accepted"] == ("True", "Accepted"), 10)


def message(owner, kind):
    return next(c for c in owner["conditions"] if c["type"] == kind)["message"]


def test_what_cannot_be_read(mesh, api):
    """A route, the Gateway and a policy that are broken say so where operators look."""
    bind(mesh, "web")
    odd = http_route("odd", "web", matches=[{"path": {"type": "Odd", "value": "/"}}])
    with mesh.having(odd):
        wait_until(lambda: conditions(ours(api, "odd")[0])["Accepted"]
                   == ("False", "UnsupportedValue"), 10)
        text = message(ours(api, "odd")[0], "Accepted")
        assert "spec.rules[0].matches[0].path.type" in text and "in force" not in text
        mesh.apply(http_route("odd", "web"))
        wait_until(lambda: conditions(ours(api, "odd")[0])["Accepted"] == ("True", "Accepted"), 10)
        mesh.apply(odd)  # again, and there is something that was valid
        wait_until(lambda: "what was valid last stays in force"
                   in message(ours(api, "odd")[0], "Accepted"), 10)
    gateway = api.get("Gateway", "way", "demo")
    good = json.loads(json.dumps(gateway))
    gateway["spec"]["listeners"][0]["port"] = "none"
    try:
        mesh.apply(gateway)
        wait_until(lambda: conditions(api.get("Gateway", "way", "demo")["status"])["Accepted"]
                   == ("False", "Invalid"), 10)
        status = api.get("Gateway", "way", "demo")["status"]
        assert "spec.listeners[0].port" in message(status, "Accepted") and status["addresses"]
    finally:
        mesh.apply(good)
    wait_until(lambda: conditions(api.get("Gateway", "way", "demo")["status"])["Accepted"]
               == ("True", "Accepted"), 10)
    policy = {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
              "metadata": {"name": "odd", "namespace": "demo"},
              "spec": {"targetRefs": [{"group": "", "kind": "Service", "name": "web"}],
                       "action": "ODD"}}
    with mesh.having(policy):
        event = wait_until(lambda: [e for e in api.all("Event") if
                                    e["involvedObject"]["kind"] == "AuthorizationPolicy"], 10)[0]
        assert event["reason"] == "NotInForce" and "spec.action" in event["message"]


def test_failures(mesh, api):
    """Refused, and failing for a while: it is tried again, and said once."""
    bind(mesh, "web")
    mark = mesh.leader.mark()
    asked = []

    def fail(method, path):
        if path.endswith("/again/status"):
            asked.append(path)
            return 500 if len(asked) < 3 else None
        return None

    api.rule = fail
    with mesh.having(http_route("again", "web")):
        wait_until(lambda: ours(api, "again"), 15)
        wait_until(lambda: mesh.leader.status()["problem"] == "", 5)
        assert len(asked) == 3
        assert len(mesh.leader.log(mark, message="the API takes no status")) == 1


def test_events(mesh, api):
    """What of a VirtualService is not in force, once."""
    bind(mesh, "web")

    def events():
        return [e for e in api.all("Event") if e["involvedObject"]["name"] == "odd"]

    n = len(events())
    with mesh.having(virtual_service("odd", "web", delegate={"name": "nowhere"}, route=None)):
        event = wait_until(lambda: events()[n:], 10)[0]
        assert event["involvedObject"]["uid"] == "uid-odd" and event["type"] == "Warning"
        assert "nowhere" in event["message"]
        mesh.apply({"apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": {"name": "more-news", "namespace": "demo"}})
        stays(lambda: len(events()) == n + 1, 0.5)


def label(api, name="auto"):
    return api.get("Service", name, "demo")["metadata"].get("labels", {}).get(LABEL)


def test_auto_binding(mesh, api):
    """Bound while it has a rule; what others wrote, and what others take away, is theirs."""
    mesh.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": "demo", "labels": {"ztun.io/use-waypoint": "auto"}}})
    for name in ("auto", "users"):
        mesh.service(name)
    bind(mesh, "users", "another")
    mesh.apply(virtual_service("users", "users"))
    mesh.apply(virtual_service("auto", "auto"))
    wait_until(lambda: label(api) == "way", 10)
    mesh.from_api("Service", "auto")
    assert label(api, "users") == "another" and label(api, "way") is None
    wait_until(lambda: mesh.leader.metric("kube_bindings_total", result="bound") >= 1, 10)
    mesh.delete("VirtualService", "auto")
    wait_until(lambda: label(api) is None, 10)
    mesh.from_api("Service", "auto")
    assert label(api, "users") == "another"
    # Somebody's tool puts its own version back, again and again.
    mark = mesh.leader.mark()
    mesh.apply(virtual_service("auto", "auto"))
    wait_until(lambda: label(api) == "way", 10)
    mesh.from_api("Service", "auto")
    wait_until(lambda: mesh.leader.status()["toDo"] == 0, 10)
    api.change("Service", "auto", "demo", lambda d: d["metadata"].update(labels={}, managedFields=[]))
    mesh.from_api("Service", "auto")
    wait_until(lambda: mesh.leader.log(mark, message="somebody takes the binding away that this "
                                       "service needs: it is written again, later and later"), 10)
    stays(lambda: label(api) is None, 0.5)
    mesh.delete("VirtualService", "auto")
    mesh.delete("VirtualService", "users")


def test_leaders(mesh, api):
    """One writes. It gives the lease back when it ends, and the other one goes on."""
    bind(mesh, "web")
    first = mesh.leader
    second = next(w for w in mesh.waypoints if w is not first)
    assert not second.status()["isLeader"]
    assert second.status()["leader"].startswith(f"{first.name}_")
    n = api.get("Lease", "ztun-waypoint-way", "demo")["spec"]["leaseTransitions"]
    assert first.end() == 0
    lease = api.get("Lease", "ztun-waypoint-way", "demo")["spec"]
    assert lease["holderIdentity"] == "" or lease["holderIdentity"].startswith(second.name)
    wait_until(lambda: second.status()["isLeader"], 6)
    assert api.get("Lease", "ztun-waypoint-way", "demo")["spec"]["leaseTransitions"] == n + 1
    mesh.apply(http_route("later", "web"))
    wait_until(lambda: ours(api, "later"), 10)
    first.start()
    wait_until(lambda: first.status()["leader"].startswith(f"{second.name}_"), 10)
    assert not first.status()["isLeader"]


def test_many_routes(mesh, api):
    """What is to be said of many is said at a rate, and the API is not stormed."""
    bind(mesh, "web")
    routes = [http_route(f"many-{i}", "web") for i in range(50)]
    leader = mesh.leader
    written = leader.metric("kube_writes_total", kind="HTTPRoute", result="ok") or 0
    api.asked.clear()
    with mesh.having(*routes):
        wait_until(lambda: all(ours(api, f"many-{i}") for i in range(50)), 30)
        wait_until(lambda: leader.metric("kube_objects_to_write") == 0, 10)
        asked = sorted(at for at, _, path in api.asked if "/httproutes/" in path)
        assert len(asked) == 100  # each was looked at and written, once
        # 30 at once, then 20 a second; and one, as a write follows its look.
        for i, at in enumerate(asked):
            n = sum(at <= other < at + 1 for other in asked[i:])
            assert n <= 30 + 20 + 2, (n, asked)
        assert asked[-1] - asked[0] >= (100 - 30 - 2) / 20 - 0.2
    assert leader.metric("kube_writes_total", kind="HTTPRoute", result="ok") - written >= 50


def test_lost_lease(mesh, api):
    """Who finds somebody else in the lease writes nothing; it has it again when that one is gone."""
    bind(mesh, "web")
    leader, name = mesh.leader, "ztun-waypoint-way"
    assert [w.metric("kube_leader") for w in mesh.waypoints].count(1) == 1

    def hold(who, seconds):
        api.change("Lease", name, "demo", lambda d: d["spec"].update(
            holderIdentity=who, leaseDurationSeconds=seconds,
            renewTime=f"2026-01-01T00:00:00.{time.monotonic_ns() % 1000000:06}Z"))

    hold("somebody", 3600)
    wait_until(lambda: not leader.status()["isLeader"], 10)
    assert leader.metric("kube_leader") == 0
    assert leader.metric("kube_lease_failures_total", reason="conflict") >= 1
    with mesh.having(http_route("unsaid", "web")):
        stays(lambda: not ours(api, "unsaid"), 1)
        hold("", 1)
        wait_until(lambda: mesh.leader, 10)
        wait_until(lambda: ours(api, "unsaid"), 10)
        assert sum(w.metric("kube_leader") for w in mesh.waypoints) == 1


def test_without_the_api(mesh, api):
    """It is away: the waypoint stays ready, and what is to be said is said later."""
    leader = mesh.leader
    api.stop()
    bind(mesh, "web")
    mesh.apply(http_route("late", "web"))
    try:
        wait_until(lambda: leader.status()["problem"] != "", 15)
        assert leader.get("/healthz/ready", 15021)[0] == 200
    finally:
        api.start()
    wait_until(lambda: ours(api, "late"), 30)
