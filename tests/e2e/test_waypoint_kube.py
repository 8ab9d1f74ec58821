# SPDX-License-Identifier: Apache-2.0
"""A waypoint whose configuration is the Kubernetes API's, and one that misbehaves. The ztuns on both
sides have the same objects as files."""

import json
import os
import re
import subprocess

import pytest
from lablib import BIN_DIR, wait_until
from mesh.fixtures import shown  # noqa: F401
from mesh.kube import KubeApi, dump, failure
from mesh.topology import Mesh, Node
from mesh.web import answering

GET = b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"
PORT = 6443


class Waypoint(Node):
    def __init__(self, mesh, pod):
        super().__init__(mesh, pod.node)
        self.name, self.netns, self.program = pod.name, pod.netns, BIN_DIR / "waypoint"
        self.log_path = mesh.dir / "waypoint.log"
        self.source_args = mesh.api.args
        self.args = ["--gateway", "demo/way", "--pod", pod.name]


class Both(Mesh):
    """Each object is a file, and the API has it."""

    def __init__(self, nodes):
        self.api = None
        super().__init__(nodes)
        self.api = KubeApi(self.dir / "api")
        for path in sorted(self.config.glob("*.json")):
            self.api.put(json.loads(path.read_text()))

    def write(self, kind, name, doc, ns=""):
        if self.api is not None:
            self.api.put(doc)
        return super().write(kind, name, doc, ns)

    def listen_api(self):
        node = self.nodes[2]
        self.api.start(node.ip, self.listen(node.name, PORT, node.ip))


# Answers a request with the value of a header that a rule adds.
web = answering(lambda conn, fields: fields.get("x-rule", "-"))


def rule(value, name="web", host="web", **more):
    return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": name, "namespace": "demo", **more},
            "spec": {"hosts": [host], "http": [{
                "headers": {"request": {"set": {"x-rule": value}}},
                "route": [{"destination": {"host": "web"}}]}]}}


def objects(mesh):
    mesh.pod("client", 1)
    mesh.pod("web", 2, port=8080)
    mesh.pod("way", 2, captured=False)
    mesh.vip = mesh.service("web", ports=[{"name": "http", "port": 80, "targetPort": 8080}])
    mesh.service("way", ports=[{"name": "mesh", "port": 15008, "targetPort": 15008}])
    mesh.apply({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
                "metadata": {"name": "way", "namespace": "demo"},
                "spec": {"gatewayClassName": "istio-waypoint", "listeners": [
                    {"name": "mesh", "port": 15008, "protocol": "HBONE"}]},
                "status": {"addresses": [{"type": "Hostname",
                                          "value": "way.demo.svc.cluster.local"}]}})
    service = json.loads((mesh.config / "Service-demo-web.json").read_text())
    service["metadata"]["labels"] = {"istio.io/use-waypoint": "way"}
    mesh.apply(service)


@pytest.fixture(scope="module")
def mesh():
    made = Both(2)
    api = made.api
    try:
        objects(made)
        api.publish_authority()
        api.absent = {"grpcroutes", "telemetries"}
        api.put(rule("first"))
        made.listen_api()
        made.nodes["way"] = way = Waypoint(made, made.pods["way"])
        for node in made.nodes.values():
            node.start(wait=False)
        for node in made.nodes.values():
            node.wait_ready()
        made.serve("web", 8080, web)
        kept, made.servers = made.servers, []  # for the whole module
        yield made
        for server in kept:
            server.close()
        assert way.alive()
        made.gauges_are_zero()
    finally:
        bad = made.stop()
        api.stop()
    assert not bad, "\n".join(bad)


@pytest.fixture
def api(mesh):
    """All watches are there, and the rule adds `first`."""
    def watches():
        have = status(mesh)["watches"]
        return all(w["state"] in ("watching", "absent") for w in have)

    wait_until(watches, 60, "all watches")
    if ask(mesh) != "first":
        mesh.api.put(rule("first"))
        becomes(mesh, "first")
    mesh.api.asked.clear()
    return mesh.api


def status(mesh):
    return json.loads(mesh.nodes["way"].get("/status")[1])["kubernetes"]


def watch_of(mesh, resource, name=None, ns=None):
    return next(w for w in status(mesh)["watches"] if w["resource"] == resource
                and name in (None, w["name"]) and ns in (None, w["namespace"]))


def ask(mesh):
    head, _, body = mesh.ask("client", (mesh.vip, 80), GET).decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 "), head
    return body


def becomes(mesh, value, timeout=40):
    wait_until(lambda: ask(mesh) == value, timeout, f"the rule adds {value}")


@pytest.mark.parametrize("flags, text", [
    (["--kube", "in-cluster"], "in-cluster: KUBERNETES_SERVICE_HOST"),
    (["--kube", "/nonexistent"], "/nonexistent: No such file"),
    (["--kube", "https://h", "--config", "/tmp"], "two sources of the same objects"),
    (["--kube", "https://h", "--state-dir", "/tmp"], "--state-dir is for --config"),
    (["--kube-namespaces", "a", "--config", "/tmp"], "--kube-namespaces is for --kube"),
    (["--kube", "https://h:1", "--kube-namespaces", "a,B"], "is no list of namespaces"),
    (["--config", "/tmp", "--revision", "Odd"], '"Odd" is no name of a revision'),
    ([], "--config, --kube or --xds-address is required"),
])
def test_settings(tmp_path, flags, text):
    ports = [f"--{name}=127.0.0.1:0" for name in ("admin", "metrics", "readiness", "listen")]
    env = {k: v for k, v in os.environ.items() if not k.startswith("KUBERNETES_")}
    done = subprocess.run([BIN_DIR / "waypoint", "--ca-dir", tmp_path / "ca", "--gateway",
                           "demo/way", *ports, *flags], env=env, capture_output=True, text=True,
                          timeout=20, check=False)
    assert done.returncode in (1, 2) and text in done.stdout + done.stderr, done


@pytest.mark.main
def test_traffic(mesh, api):
    """All of it by the API, and a change of a rule."""
    assert ask(mesh) == "first"
    mark = mesh.nodes["way"].mark()
    api.put(rule("second"))
    becomes(mesh, "second")
    applied = wait_until(lambda: mesh.nodes["way"].log(mark, message="configuration applied"), 10)
    assert [line["changed"] for line in applied] == [1]
    api.delete("VirtualService", "web", "demo")
    becomes(mesh, "-")
    api.put(rule("first"))
    becomes(mesh, "first")
    have = status(mesh)
    assert have["synced"] and have["server"] == f"{api.address}:{PORT}" and have["errors"] == 0
    assert sum(w["needed"] for w in have["watches"]) == len(have["watches"])
    assert watch_of(mesh, "grpcroutes")["state"] == "absent"
    assert {w["namespace"] for w in have["watches"] if w["resource"] == "httproutes"} == {
        "demo", "istio-system"}
    way = mesh.nodes["way"]
    assert way.metric("kube_watch_events_total", resource="virtualservices", type="MODIFIED") >= 1
    assert way.metric("kube_watches", state="absent") == 4
    assert way.metric("kube_watch_lists_total", resource="pods") >= 1


def test_burst_is_one_publication(mesh, api):
    mark = mesh.nodes["way"].mark()
    for i in range(300):
        api.put(rule("x", f"many-{i}", f"many-{i}"))
    wait_until(lambda: watch_of(mesh, "virtualservices", ns="demo")["events"]["ADDED"] >= 300, 20)
    api.put(rule("burst"))
    becomes(mesh, "burst")
    applied = mesh.nodes["way"].log(mark, message="configuration applied")
    assert len(applied) <= 8, applied
    for i in range(300):
        api.delete("VirtualService", f"many-{i}", "demo")
    api.put(rule("first"))
    becomes(mesh, "first")


def test_reset_within_an_event(mesh, api):
    """The watch goes on behind the last whole event, without a list."""
    lists = watch_of(mesh, "virtualservices", ns="demo")["lists"]
    data = dump("MODIFIED", rule("half"))
    api.say("virtualservices", data[:len(data) // 2], ns="demo")
    api.cut("virtualservices", "demo")
    api.put(rule("after"))
    becomes(mesh, "after")
    assert watch_of(mesh, "virtualservices", ns="demo")["lists"] == lists


def test_bookmarks_only(mesh, api):
    """A watch goes on from a bookmark: what is older is not asked for any more."""
    version = api.bookmark("virtualservices", "demo")
    wait_until(lambda: watch_of(mesh, "virtualservices", ns="demo")["resourceVersion"] == version)
    api.say("virtualservices", None, ns="demo")
    again = wait_until(lambda: next((a for a in api.asked if a.is_watch and a.ns == "demo"
                                     and a.plural == "virtualservices"), None), 20)
    assert again.query["resourceVersion"] == version


def test_too_old(mesh, api):
    """410 while it was away: a list, by which what is gone goes too. A page that expires as well."""
    lists = watch_of(mesh, "virtualservices", ns="demo")["lists"]
    n_objects = status(mesh)["objects"]
    api.put(rule("gone", "other", "other"))
    wait_until(lambda: status(mesh)["objects"] == n_objects + 1, 10)
    for i in range(600):
        api.objects["virtualservices"]["demo", f"page-{i}"] = json.loads(json.dumps(
            rule("x", f"page-{i}", f"page-{i}", resourceVersion=str(api.version))))
    with api.lock:
        api.objects["virtualservices"].pop(("demo", "other"))
    api.put(rule("listed"))
    api.forget()
    with api.fault(410, "virtualservices", "demo", watch=False, times=1, reason="Expired"):
        api.cut("virtualservices", "demo")
        wait_until(lambda: watch_of(mesh, "virtualservices", ns="demo")["lists"] > lists, 40)
    becomes(mesh, "listed")
    wait_until(lambda: status(mesh)["objects"] == n_objects + 600, 10)  # `other` is gone
    with api.lock:
        for i in range(600):
            del api.objects["virtualservices"]["demo", f"page-{i}"]
    api.put(rule("first"))
    api.forget()
    api.cut("virtualservices", "demo")
    wait_until(lambda: status(mesh)["objects"] == n_objects, 40)


@pytest.mark.parametrize("fault", [
    {"status": 429, "headers": {"retry-after": "1"}, "reason": "TooManyRequests"},
    {"status": 500, "data": b"oops"}, {"status": 200, "data": b"<html>"}], ids=["429", "500", "html"])
def test_refused_for_a_while(mesh, api, fault):
    """What is known stays in force; said in status, and it recovers."""
    with api.fault(plural="virtualservices", ns="demo", **fault) as active:
        api.cut("virtualservices", "demo")
        wait_until(lambda: active.n >= 2, 20, "it is asked again")
        assert ask(mesh) == "first"
        problem = watch_of(mesh, "virtualservices", ns="demo")["problem"]
        assert ("429 TooManyRequests" in problem or "500: oops" in problem
                or "no answer of the API" in problem), problem
        assert mesh.nodes["way"].get("/healthz/ready", 15021)[0] == 200
    api.put(rule("recovered"))
    becomes(mesh, "recovered")


def test_token_is_renewed(mesh, api):
    token = f"{next(iter(api.tokens))}+"
    with api.lock:
        api.tokens = {token}  # the file follows later
    api.cut("virtualservices", "demo")
    wait_until(lambda: "401" in watch_of(mesh, "virtualservices", ns="demo").get("problem", ""), 20)
    api.renew_token(token)
    api.put(rule("token"))
    becomes(mesh, "token")
    assert api.watching("virtualservices", "demo").token == token


def test_authority_is_renewed(mesh, api):
    """The server has a certificate of another CA, and ca.crt follows later."""
    mark = mesh.nodes["way"].mark()
    api.pause()
    api.renew_authority()
    mesh.listen_api()
    api.put(rule("other CA"))
    way = mesh.nodes["way"]
    wait_until(lambda: way.log(mark, message="the Kubernetes API does not answer, what is known "
                                             "stays in force"), 60)
    assert ask(mesh) != "other CA"
    api.publish_authority()
    becomes(mesh, "other CA", 60)
    wait_until(lambda: way.log(mark, message="the Kubernetes API answers again"), 40)
    assert len(way.log(mark, message="the Kubernetes API does not answer, what is known stays in "
                                     "force")) == 1


def test_duplicates_and_stale_events(mesh, api):
    first = api.put(rule("newer"))
    becomes(mesh, "newer")
    stale = watch_of(mesh, "virtualservices", ns="demo")["staleEvents"]
    old = rule("older", resourceVersion="5")
    api.say("virtualservices", dump("MODIFIED", first), dump("MODIFIED", old), ns="demo")
    wait_until(lambda: watch_of(mesh, "virtualservices", ns="demo")["staleEvents"] == stale + 1, 10)
    assert ask(mesh) == "newer"


def test_error_event_and_garbage(mesh, api):
    """Neither ends it."""
    for data in (dump("ERROR", failure(500, "InternalError", "etcd")), b"garbage\n",
                 b'{"type":"MODIFIED","object":{"metadata":[}}\n'):
        before = watch_of(mesh, "virtualservices", ns="demo")["failures"]
        api.say("virtualservices", data, ns="demo")
        wait_until(lambda: watch_of(mesh, "virtualservices", ns="demo")["failures"] > before, 10)  # noqa: B023
        value = f"after {len(data)}"
        api.put(rule(value))
        becomes(mesh, value)


def test_large_object(mesh, api):
    notes = {f"note-{i}": "x" * 100000 for i in range(52)}
    api.put(rule("large", annotations=notes))
    becomes(mesh, "large")


def test_broken_object_keeps_its_last_good_version(mesh, api):
    mark = mesh.nodes["way"].mark()
    doc = rule("broken")
    doc["spec"]["http"][0]["timeout"] = "soon"
    api.put(doc)
    way = mesh.nodes["way"]
    wait_until(lambda: way.log(mark, message="configuration rejected, the last good state stays in "
                                             "force"), 10)
    assert ask(mesh) == "first"
    assert "timeout" in status(mesh)["messages"][0]
    # One that is unknown to us is of a newer version.
    doc = rule("unknown")
    doc["spec"]["http"][0]["newField"] = 1
    api.put(doc)
    becomes(mesh, "unknown")
    assert "newField" in status(mesh)["messages"][0]
    api.put(rule("first"))
    becomes(mesh, "first")
    wait_until(lambda: status(mesh)["messages"] == [], 10)


def test_secrets_are_read_by_name(mesh, api):
    def secrets():
        return {w["name"] for w in status(mesh)["watches"] if w["resource"] == "secrets"}

    assert secrets() == set()
    api.put({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
             "metadata": {"name": "out", "namespace": "demo"},
             "spec": {"host": "out", "trafficPolicy": {
                 "tls": {"mode": "SIMPLE", "credentialName": "out-tls"}}}})
    wait_until(lambda: secrets() == {"out-tls", "out-tls-cacert"}, 20)
    wait_until(lambda: {a.query["fieldSelector"] for a in api.asked if a.plural == "secrets"} == {
        "metadata.name=out-tls", "metadata.name=out-tls-cacert"}, 20)
    mark = mesh.nodes["way"].mark()
    many = [{"name": f"s{i}", "trafficPolicy": {
        "tls": {"mode": "SIMPLE", "credentialName": f"many-{i}"}}} for i in range(120)]
    api.put({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
             "metadata": {"name": "many", "namespace": "demo"},
             "spec": {"host": "many", "subsets": many}})
    wait_until(lambda: mesh.nodes["way"].log(mark, problem=re.compile(
        "DestinationRule demo/many: Secret many-119 is not read")), 40)
    assert len(secrets()) == 200
    api.delete("DestinationRule", "many", "demo")
    wait_until(lambda: secrets() == {"out-tls", "out-tls-cacert"}, 20)
    api.delete("DestinationRule", "out", "demo")
    wait_until(lambda: secrets() == set(), 20)
    api.put(rule("still there"))
    becomes(mesh, "still there")


def test_what_may_be_refused(mesh, api):
    """A right that is not essential is missing: it is ready without it. The MeshConfig of its
    revision counts."""
    way = mesh.nodes["way"]
    api.put({"apiVersion": "v1", "kind": "ConfigMap",
             "metadata": {"name": "istio-blue", "namespace": "istio-system"},
             "data": {"mesh": "trustDomain: cluster.local\naccessLogFile: /dev/stdout\n"}})
    with api.fault(status=403, plural="gatewayclasses", reason="Forbidden"):
        assert way.end() == 0
        api.asked.clear()
        mark = way.mark()
        way.args += ["--revision", "blue"]
        way.start()
        way.wait_ready()
        refused = way.log(mark, message="a kind may not be read from the Kubernetes API, it goes "
                                        "without")
        assert [line["resource"] for line in refused] == ["gatewayclasses"]
        assert "annotations of classes" in refused[0]["without"]
        assert not watch_of(mesh, "gatewayclasses")["needed"]
        assert way.metric("kube_synced") == 1
        wait_until(lambda: ask(mesh) == "first", 20)
    assert {a.query["fieldSelector"] for a in api.asked if a.plural == "configmaps"} == {
        "metadata.name=istio-blue"}
    wait_until(lambda: way.log(mark, message="a kind is read from the Kubernetes API again"), 40)
