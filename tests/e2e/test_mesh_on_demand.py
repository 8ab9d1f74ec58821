# SPDX-License-Identifier: Apache-2.0
"""Discovery on demand: istiod is asked for what connections go to, and for no more. Dedicated ztuns
without any files."""

import json
import select
import socket
import subprocess
import time

import pytest
from lablib import ZTUN, wait_until
from mesh import dns
from mesh.fixtures import shown  # noqa: F401
from mesh.topology import Mesh, echo, read_all
from mesh.xds import ADDRESS, Discovery, Own, service, workload

VIP, WEB = "10.96.7.1", "demo/web.demo.svc.cluster.local"


@pytest.fixture(scope="module")
def mesh():
    made = Mesh(2)
    istiod = made.istiod = Discovery(made)
    try:
        for name, node in (("client", 1), ("server", 2), ("other", 2), ("plain", 2)):
            made.pod(name, node)
        made.own = {name: Own(made, made.pods[name]) for name in ("client", "server")}
        made.nodes.update(made.own)
        for node in made.own.values():
            node.args = [a for a in node.args if not a.startswith("--dns")] + ["--xds-on-demand=true"]
        items = [workload(made.pods["client"]), workload(made.pods["server"], {WEB: {80: 8080}}),
                 service("web", VIP, {80: 8080})]
        istiod.resources[ADDRESS] = {name: ("v1", body) for name, body in items}
        istiod.start()
        for node in made.own.values():
            node.start(wait=False)
        for node in made.own.values():
            node.wait_ready()
        yield made
        made.gauges_are_zero()
    finally:
        bad = made.stop()
        istiod.stop()
    assert not bad, "\n".join(bad)


@pytest.fixture
def istiod(mesh):
    yield mesh.istiod
    mesh.istiod.is_silent = False


def stream(istiod, pod="client"):
    return wait_until(lambda: next((s for s in list(istiod.streams) if s.pod == pod), None), 20)


def status(node):
    return json.loads(node.get("/status")[1])["xds"]


def ask(mesh, to):
    return mesh.ask("client", to) == b"hello world"


def addresses_of(mesh, host):
    return [v for _, kind, _, v in dns.resolve(mesh, "client", host, timeout=10).records if kind == dns.A]


@pytest.mark.main
def test_traffic(mesh, istiod):
    """By the service's address, in a tunnel, when nothing but the own pod was known."""
    node = mesh.own["client"]
    have = status(node)
    assert have["onDemand"] and have["workloads"] == 1 and have["services"] == 0
    own = "Kubernetes//Pod/demo/client"
    assert stream(istiod).wanted == [own]
    mark = mesh.own["server"].mark()
    with mesh.serve("server", 8080, echo):
        assert ask(mesh, (VIP, 80))
        assert stream(istiod).wanted == [own, f"/{VIP}"]
        assert ask(mesh, (VIP, 80)) and ask(mesh, (mesh.pods["server"].ip, 8080))
    assert stream(istiod).wanted == [own, f"/{VIP}"], "what came with the service is known"
    line = mesh.own["server"].access(mark, direction="inbound")[0]
    assert line["src.identity"] == mesh.pods["client"].identity
    have = status(node)
    assert have["workloads"] == 2 and have["services"] == 1 and have["demands"] == 2
    # The server learns whose connection that was: for the ones that follow.
    wait_until(lambda: f"/{mesh.pods['client'].ip}" in stream(istiod, "server").wanted, 5)


def answers(mesh, to):
    try:
        return ask(mesh, to)
    except OSError:
        return False


def test_one_question(mesh, istiod):
    """Many connections to one address that nobody has: one question, and all pass through."""
    to, node = (mesh.pods["plain"].ip, 8081), mesh.own["client"]
    wanted = f"/{to[0]}"
    istiod.is_silent = True
    with mesh.serve("plain", 8081, echo):
        conns = [mesh.connect("client", to) for _ in range(20)]
        for conn in conns:
            conn.sendall(b"hello world")
            conn.shutdown(socket.SHUT_WR)
        question = wait_until(lambda: next(a for a in stream(istiod).asks if wanted in a.subscribe), 5)
        assert not select.select(conns, [], [], 0.1)[0], "they wait for the answer"
        istiod.is_silent = False
        istiod.answer_demand(stream(istiod), question)
        for conn in conns:
            with conn:
                assert read_all(conn) == b"hello world"
        assert stream(istiod).wanted.count(wanted) == 1
        mark = node.mark()
        assert ask(mesh, to)
    line = node.access(mark, direction="outbound")[0]
    assert line["dst.service"] == "PassthroughCluster"


def test_comes_later(mesh, istiod):
    """What was nobody's is asked for again after a while: istiod does not tell of an address. What
    came is removed by its name."""
    pod, node = mesh.pods["other"], mesh.own["client"]

    def goes_to(wanted):
        mark = node.mark()
        assert ask(mesh, (pod.ip, 8080))
        return node.access(mark, direction="outbound")[0].get("dst.workload") == wanted

    with mesh.serve("other", 8080, echo):
        assert goes_to(None)
        name, body = workload(pod, tunnel=0)
        with istiod.lock:
            istiod.resources[ADDRESS][name] = ("v1", body)
        wait_until(lambda: goes_to("other"), 10)
        with istiod.lock:
            del istiod.resources[ADDRESS][name]
        nonce, data = istiod.response(ADDRESS, {}, [name])
        stream(istiod).answers.put(data)
        wait_until(lambda: stream(istiod).answered(nonce), 5)
        assert goes_to(None)


def test_new_endpoints(mesh, istiod):
    """Of a service that had none: istiod tells of them when it is asked for the service."""
    to = ("10.96.7.30", 80)
    name, body = service("moved", to[0], {80: 8080})
    with istiod.lock:
        istiod.resources[ADDRESS][name] = ("v1", body)
    mesh.fails("client", to)
    uid, body = workload(mesh.pods["server"], {WEB: {80: 8080}, name: {80: 8080}})
    with istiod.lock:
        istiod.resources[ADDRESS][uid] = ("v3", body)
    with mesh.serve("server", 8080, echo):
        wait_until(lambda: answers(mesh, to), 10)


def test_waypoint(mesh, istiod):
    """A waypoint is asked for by name; one that nobody has refuses."""
    name, body = service("bound", "10.96.7.9", {80: 8080}, waypoint="wp")
    with istiod.lock:
        istiod.resources[ADDRESS][name] = ("v1", body)
    mark = mesh.own["client"].mark()
    mesh.fails("client", ("10.96.7.9", 80))
    assert stream(istiod).wanted[-2:] == ["/10.96.7.9", "demo/wp.demo.svc.cluster.local"]
    line = mesh.own["client"].access(mark, direction="outbound")[0]
    assert "waypoint" in line["error"]


def test_names(mesh, istiod):
    """The DNS proxy asks for services of Kubernetes, by their full names, once each."""
    name, body = service("named", "10.96.7.20", {80: 8080})
    with istiod.lock:
        istiod.resources[ADDRESS][name] = ("v1", body)
    for host in ("named.demo.svc.cluster.local", "named.demo.svc.cluster.local.demo.svc.cluster.local"):
        assert "10.96.7.20" in addresses_of(mesh, host)
    assert stream(istiod).wanted.count(name) == 1
    n = len(stream(istiod).wanted)
    with mesh.socket("client", kind=socket.SOCK_DGRAM) as sock:  # who answers these does not matter
        for host in ("missing.demo.svc.cluster.local", "missing.demo.svc.cluster.local", "www.example.com"):
            sock.sendto(dns.query(host), ("10.96.0.10", 53))
    wait_until(lambda: len(stream(istiod).wanted) > n, 5)
    with istiod.lock:
        name, body = service("last", "10.96.7.21", {80: 8080})
        istiod.resources[ADDRESS][name] = ("v1", body)
    assert addresses_of(mesh, "last.demo.svc.cluster.local") == ["10.96.7.21"]
    assert set(stream(istiod).wanted[n:]) == {"demo/missing.demo.svc.cluster.local", name}


def test_away(mesh, istiod):
    """Without istiod what is known goes on; what is not is refused after a while, and asked for again
    with the next stream."""
    node, to = mesh.own["client"], "10.96.7.66"
    istiod.stop()
    wait_until(lambda: not status(node)["connected"], 10)
    mark = node.mark()
    with mesh.serve("server", 8080, echo):
        assert ask(mesh, (VIP, 80))
        start = time.monotonic()
        mesh.fails("client", (to, 80), timeout=15)
        assert time.monotonic() - start < 12
        line = node.access(mark, dst__addr=f"{to}:80")[0]
        assert "did not say in time" in line["error"]
        name, body = service("late", to, {80: 8080})
        pods = workload(mesh.pods["server"], {WEB: {80: 8080}, name: {80: 8080}})
        with istiod.lock:
            istiod.resources[ADDRESS].update({name: ("v1", body), pods[0]: ("v2", pods[1])})
        istiod.start()
        wait_until(lambda: status(node)["connected"], 30)
        first = stream(istiod)
        wait_until(lambda: {f"/{to}", f"/{VIP}"} <= set(first.wanted), 5, "all is asked for again")
        assert WEB in next(a for a in first.asks if a.type == ADDRESS).known
        assert ask(mesh, (to, 80)) and ask(mesh, (VIP, 80))
    assert first.wanted.count(f"/{to}") == 1


def test_needs_istiod(tmp_path):
    done = subprocess.run([ZTUN, "--config", tmp_path, "--ca-dir", tmp_path / "ca", "--node", "n",
                           "--xds-on-demand=true"], capture_output=True, text=True, timeout=20,
                          check=False)
    assert done.returncode == 2 and "--xds-on-demand needs --xds-address" in done.stderr
