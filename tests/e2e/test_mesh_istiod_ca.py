# SPDX-License-Identifier: Apache-2.0
"""istiod as the CA: certificates of the pods over gRPC, and a CA that misbehaves."""

import os
import re
import subprocess
import threading
from concurrent import futures

import grpc
import pytest
from lablib import BIN_DIR, ZTUN, wait_until
from mesh.fixtures import make_mesh, shown  # noqa: F401
from mesh.istiod import Istiod, Root, strings
from mesh.topology import Load, Mesh, echo

CODE = grpc.StatusCode


def use(mesh, istiod):
    for node in mesh.nodes.values():
        node.ca_args = istiod.args
    return istiod


@pytest.fixture(scope="module")
def mesh():
    """Two nodes; pods `client` and `second` have one service account."""
    made = Mesh(2)
    istiod = made.istiod = use(made, Istiod(made))
    try:
        istiod.start()
        for node in made.nodes.values():
            node.env = {"CA_HEADER_X-Test": "of the environment"}
        made.pod("client", 1)
        made.pod("second", 1, sa="client")
        made.pod("server", 2, port=8080)
        made.vips["server"] = made.service("server")
        made.peer_authentication("strict", "STRICT")
        made.start("--secret-ttl", "6h")
        yield made
        made.gauges_are_zero()
    finally:
        bad = made.stop()
        istiod.stop()
    assert not bad, "\n".join(bad)


@pytest.fixture
def istiod(mesh):
    yield mesh.istiod
    mesh.istiod.rule = mesh.istiod.seconds = None


def state(node, pod):
    """Of a pod's identity, as config_dump has it; None: nobody wants it."""
    for entry in node.config_dump()["certificates"]:
        if entry["identity"] == pod.identity:
            return entry["state"]
    return None


def has_certificate(node, pod, timeout=10):
    wait_until(lambda: state(node, pod) == "Available", timeout, f"{pod.name} has a certificate")


@pytest.mark.main
def test_requests(mesh, istiod):
    """One request for a service account, in its name; the traffic has the identities."""
    with mesh.serve("server", 8080, echo):
        mark = mesh.nodes[2].mark()
        assert mesh.ask("client", (mesh.vips["server"], 80)) == b"hello world"
        assert mesh.ask("second", (mesh.vips["server"], 80)) == b"hello world"
        line = mesh.nodes[2].access(mark, direction="inbound")[0]
        assert line["src.identity"] == mesh.pods["client"].identity
        assert line["dst.identity"] == mesh.pods["server"].identity
    assert len(istiod.asked("client")) == 1 and len(istiod.asked("server")) == 1
    for request in istiod.requests:
        assert request.uris == [request.impersonated]
        assert request.seconds == 6 * 3600
        assert request.metadata["authorization"] == "Bearer token-1"
        assert request.metadata["clusterid"] == "Kubernetes"
        assert request.metadata["x-test"] == "of the environment"
        assert request.metadata["user-agent"].startswith("ztun/")
    keys = {r.csr.public_key().public_numbers().x for r in istiod.requests}
    assert len(keys) == len(istiod.requests)


def test_waypoint_asks_for_itself(mesh, istiod):
    """A waypoint has one identity, that of its own token: nobody is impersonated."""
    ports = [f"--{name}=127.0.0.1:{16000 + i}" for i, name
             in enumerate(["admin", "metrics", "readiness", "listen"])]
    process = mesh.popen("node1", BIN_DIR / "waypoint", "--config", mesh.config, *istiod.args,
                         "--gateway", "demo/wp", *ports, stdout=subprocess.DEVNULL)
    try:
        request = wait_until(lambda: istiod.asked("wp"), 10, "the waypoint asks")[0]
        assert request.uris == ["spiffe://cluster.local/ns/demo/sa/wp"]
        assert request.impersonated is None
        assert request.metadata["authorization"].startswith("Bearer token-")
    finally:
        process.terminate()
        assert process.wait(10) == 0


def test_token_is_read_again(mesh, istiod):
    istiod.put(istiod.token_file, "token-2")
    mesh.pod("later", 1)
    wait_until(lambda: istiod.asked("later"), 10, "the request has come")
    assert istiod.asked("later")[0].metadata["authorization"] == "Bearer token-2"
    mesh.delete("Pod", "later")


@pytest.mark.main
def test_denied(mesh, istiod):
    """A service account that istiod refuses: said in log and metric; others are not held up."""
    node = mesh.nodes[1]
    mark, since = node.mark(), node.since()

    def rule(request, context):
        if request.account == "refused":
            context.abort(CODE.PERMISSION_DENIED, "no pod of it on node1\n")

    with istiod.ruled(rule), mesh.serve("server", 8080, echo):
        mesh.pod("refused", 1)
        mesh.pod("fine", 1)
        lines = wait_until(lambda: node.log(mark, message="no certificate from the CA"), 10)
        assert lines[0]["identity"] == mesh.pods["refused"].identity
        assert "10.77.0.2:15012: PERMISSION_DENIED: no pod of it on node1" in lines[0]["reason"]
        assert "CA_TRUSTED_NODE_ACCOUNTS" in lines[0]["reason"]
        assert since("certificate_request_failures_total", reason="permission_denied") >= 1
        wait_until(lambda: mesh.ask("fine", (mesh.vips["server"], 80)) == b"hello world", 10)
    wait_until(lambda: node.log(mark, message="certificate issued",
                                identity=mesh.pods["refused"].identity), 15, "it is tried again")
    for name in ("refused", "fine"):
        mesh.delete("Pod", name)


def test_late_answers_hold_up_nobody(mesh, istiod):
    """Six identities whose answers do not come leave room for the others."""
    release, n = threading.Event(), 6

    def rule(request, context):
        if request.account.startswith("slow"):
            release.wait(20)

    with istiod.ruled(rule):
        for i in range(n):
            mesh.pod(f"slow{i}", 1, wire=False)
        wait_until(lambda: all(istiod.asked(f"slow{i}") for i in range(n)), 10)
        for i in range(4):
            mesh.pod(f"quick{i}", 1, wire=False)
        node = mesh.nodes[1]
        for i in range(4):
            has_certificate(node, mesh.pods[f"quick{i}"], 5)
        assert state(node, mesh.pods["slow0"]) != "Available"
        release.set()
        for i in range(n):
            has_certificate(node, mesh.pods[f"slow{i}"])
    for name in [f"slow{i}" for i in range(n)] + [f"quick{i}" for i in range(4)]:
        mesh.delete("Pod", name)


def test_first_certificate_is_waited_for(mesh, istiod):
    """By connections to the pod and by its own, which come before the CA has answered."""
    release, node = threading.Event(), mesh.nodes[2]

    def rule(request, context):
        if request.account == "held":
            release.wait(20)

    def tunnels():
        return b":15008" in mesh.run("held", "ss", "-Htn", "state", "established").stdout

    with istiod.ruled(rule):
        mark = node.mark()
        held = mesh.pod("held", 2, port=8080)
        wait_until(lambda: istiod.asked("held") and node.log(mark, message="pod is served"), 10)
        with mesh.serve("held", 8080, echo), mesh.serve("server", 8080, echo), \
                futures.ThreadPoolExecutor(2) as pool:
            asked = [pool.submit(mesh.ask, source, to, timeout=15) for source, to in
                     (("client", (held.ip, 8080)), ("held", (mesh.vips["server"], 80)))]
            wait_until(tunnels, 10, "a connection has come to the pod")
            assert state(node, held) == "Initializing" and not any(a.done() for a in asked)
            release.set()
            assert [a.result() for a in asked] == [b"hello world"] * 2
    mesh.delete("Pod", "held")


BAD = {
    "other-identity": (lambda i, r: i.answer(r, uri="spiffe://cluster.local/ns/x/sa/y"),
                       "a certificate of another identity"),
    "expired": (lambda i, r: i.answer(r, start=-100, seconds=-10), "that has expired"),
    "no-roots": (lambda i, r: strings(i.root.pem), "lacks the certificate or the roots"),
    "no-pem": (lambda i, r: strings("what?", i.root.pem), "certificate chain"),
    "garbage": (lambda i, r: b"\xff\xff\xff", "cannot be read"),
    "other-key": (lambda i, r: strings(i.root.server("x.example")[1].decode(), i.root.pem), ""),
    "too-large": (lambda i, r: strings("x" * (1 << 20), i.root.pem), "more than 1048576 bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_answer(mesh, istiod, name):
    """Nothing of it is used; the next one is."""
    make, text = BAD[name]
    node, asked = mesh.nodes[1], []
    mark = node.mark()

    def rule(request, context):
        if request.account == name:
            asked.append(request)
            return make(istiod, request) if len(asked) == 1 else None
        return None

    with istiod.ruled(rule):
        pod = mesh.pod(name, 1, wire=False)
        lines = wait_until(lambda: node.log(mark, message="no certificate from the CA",
                                            identity=pod.identity), 10)
        assert text in lines[0]["reason"], lines
        has_certificate(node, pod)
    mesh.delete("Pod", name)


def test_rotation_under_load(mesh, istiod):
    """Certificates that live for seconds are replaced in time: no request fails."""
    for node in mesh.nodes.values():
        node.end()
    istiod.seconds = 4
    mesh.start()
    before = len(istiod.asked("client"))
    with mesh.serve("server", 8080, echo), \
            Load(mesh, "client", (mesh.vips["server"], 80), threads=2) as load:
        wait_until(lambda: len(istiod.asked("client")) >= before + 2, 30, "two renewals")
        n = len(load.answers)
        wait_until(lambda: len(load.answers) > n + 20, 10)
    mark = mesh.nodes[2].mark()
    istiod.stop()  # for a while
    wait_until(lambda: mesh.nodes[2].log(mark, message="no certificate from the CA"), 15)
    istiod.start()
    wait_until(lambda: mesh.nodes[2].log(mark, message="certificate issued"), 20)
    keys = {r.csr.public_key().public_numbers().x for r in istiod.asked("client")}
    assert len(keys) == len(istiod.asked("client")), "each has a key of its own"


def test_new_root(mesh, istiod):
    """Another root in an answer: all are renewed, and peers of both are taken meanwhile."""
    for node in mesh.nodes.values():
        node.end()
    istiod.seconds = 60
    mesh.start()
    old, new = istiod.root, Root("new")
    with mesh.serve("server", 8080, echo), Load(mesh, "client", (mesh.vips["server"], 80)):
        istiod.roots = old.pem + new.pem
        first = mesh.pod("first", 1, wire=False)
        has_certificate(mesh.nodes[1], first)
        n = len(istiod.asked("client"))
        wait_until(lambda: len(istiod.asked("client")) > n, 20, "the others are renewed, before their time")
    istiod.roots = old.pem
    mesh.delete("Pod", "first")


# What a CA does at the start


@pytest.fixture
def away(make_mesh):  # noqa: F811
    """A node whose CA, known by name, is not there yet."""
    made = []

    def build(mesh):
        istiod = use(mesh, Istiod(mesh, where="node1", address="127.0.0.1", host="localhost"))
        made.append(istiod)
        mesh.istiod = istiod
        mesh.pod("client", 1)

    mesh = make_mesh(build, nodes=1, start=False)
    yield mesh
    for istiod in made:
        istiod.stop()


def failure(mesh, mark, text):
    return wait_until(lambda: mesh.nodes[1].log(mark, message="no certificate from the CA",
                                                reason=re.compile(text)), 10, text)


@pytest.mark.main
def test_away_and_back(away):
    """No CA, no token, no roots, another's certificate: each is said, none is for ever."""
    istiod, node = away.istiod, away.nodes[1]
    mark = node.mark()
    node.start(wait=False)
    failure(away, mark, r"localhost:15012: (127\.0\.0\.1|::1): Connection refused")
    istiod.tls_root = Root("strangers")
    istiod.start()
    failure(away, mark, f"does not chain to the trust bundle.*{istiod.roots_file}")
    istiod.tls_root, istiod.tls_name = istiod.root, "www.example.com"
    istiod.restart()
    failure(away, mark, "name: localhost or istiod.istio-system.svc")
    istiod.tls_name = "istiod.istio-system.svc"
    istiod.token_file.unlink()
    istiod.restart()
    failure(away, mark, f"no token: {istiod.token_file}")
    assert state(node, away.pods["client"]) != "Available"
    istiod.put(istiod.token_file, "token-3")
    has_certificate(node, away.pods["client"], 30)
    assert istiod.requests[-1].metadata["authorization"] == "Bearer token-3"
    assert node.metric("certificate_request_failures_total", reason="unavailable") >= 2


def test_roots_come_late_and_change(away):
    """The file of the roots is mounted after the start, and replaced later."""
    istiod, node = away.istiod, away.nodes[1]
    istiod.roots_file.unlink()
    istiod.start()
    mark = node.mark()
    node.start(wait=False)
    failure(away, mark, f"{istiod.roots_file}: No such file or directory")
    istiod.put(istiod.roots_file, istiod.root.pem)
    has_certificate(node, away.pods["client"], 30)
    # Roots that are no roots are told, and the last ones stay in force.
    other = Root("other")
    istiod.put(istiod.roots_file, "nonsense")
    pod = away.pod("second", 1, wire=False)
    has_certificate(node, pod)
    istiod.tls_root = other
    istiod.restart()
    istiod.put(istiod.roots_file, other.pem)
    pod = away.pod("third", 1, wire=False)
    has_certificate(node, pod, 30)


USAGE = {
    "both": (["--ca-dir", "/x", "--ca-address", "https://istiod:15012"], {}, 2, "give one"),
    "neither": ([], {"CA_ADDRESS": ""}, 2, "--ca-dir or --ca-address is required"),
    "bad-header": (["--ca-address", "https://istiod:1"], {"CA_HEADER_a b": "x"}, 2, "CA_HEADER_a b"),
    "no-port": (["--ca-address", "https://istiod"], {}, 1, "expected https://HOST:PORT"),
    "plain-text": (["--ca-address", "http://127.0.0.1:15010"], {}, 1, "over https:// alone"),
}


@pytest.mark.parametrize("name", USAGE)
def test_settings(tmp_path, name):
    """What cannot be meant ends ztun with a reason."""
    args, env, code, text = USAGE[name]
    ports = ["--admin", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--readiness", "127.0.0.1:0"]
    done = subprocess.run([ZTUN, "--config", tmp_path, "--node", "n", *ports, *args],
                          env={**os.environ, **env}, capture_output=True, timeout=20, check=False)
    assert done.returncode == code, done
    assert text in done.stderr.decode() + done.stdout.decode(), done
