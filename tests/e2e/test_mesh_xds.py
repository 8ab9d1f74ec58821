# SPDX-License-Identifier: Apache-2.0
"""istiod as the source of workloads, services and policies, and one that misbehaves. The ztuns are
dedicated ones, without any files; the last test has one of a node, as in a cluster."""

import json
import os
import subprocess

import grpc
import pytest
from lablib import ZTUN, wait_until
from mesh.cni import Agent, redirect
from mesh.fixtures import shown  # noqa: F401
from mesh.topology import Mesh, echo
from mesh.xds import ADDRESS, POLICY, Discovery, Own, deny_port, service, workload

VIP = "10.96.7.1"
WEB = {"demo/web.demo.svc.cluster.local": {80: 8080}}


@pytest.fixture(scope="module")
def mesh():
    made = Mesh(2)
    istiod = made.istiod = Discovery(made)
    try:
        for name, node in (("client", 1), ("server", 2)):
            made.pod(name, node)
        made.own = {name: Own(made, made.pods[name]) for name in ("client", "server")}
        made.nodes.update(made.own)
        istiod.set(ADDRESS, workload(made.pods["client"]), workload(made.pods["server"], WEB),
                   service("web", VIP, {80: 8080}))
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
    mesh.istiod.connected(2)
    return mesh.istiod


def works(mesh):
    with mesh.serve("server", 8080, echo):
        return mesh.ask("client", (VIP, 80)) == b"hello world"


def status(node):
    return json.loads(node.get("/status")[1])["xds"]


@pytest.mark.parametrize("flags, env, code, text", [
    ([], {}, 2, "--config or --xds-address is required"),
    (["--xds-address", ""], {}, 2, "--config or --xds-address is required"),
    (["--xds-address", "https://h:1", "--instance-ip", "x"], {}, 2, '"x" is not an IP address'),
    (["--xds-address", "ftp://h:1"], {}, 1, "ftp://h:1"),
    (["--xds-address", "https://h:1"], {"XDS_HEADER_X": "a\nb"}, 2, "XDS_HEADER_X"),
    (["--xds-address", "https://h:1"], {"ISTIO_METAJSON_X": "["}, 1,
     "ISTIO_METAJSON_X: is not JSON"),
])
def test_settings(tmp_path, flags, env, code, text):
    ports = [f"--{name}=127.0.0.1:0" for name in ("admin", "metrics", "readiness")]
    done = subprocess.run([ZTUN, "--ca-dir", tmp_path / "ca", "--node", "n", *ports, *flags],
                          env={**os.environ, **env}, capture_output=True, text=True, timeout=20,
                          check=False)
    assert done.returncode == code and text in done.stdout + done.stderr, done


@pytest.mark.main
def test_traffic(mesh, istiod):
    """Between two pods that only istiod knows, in a tunnel; and who the streams' clients are."""
    mark = mesh.own["server"].mark()
    assert works(mesh)
    line = mesh.own["server"].access(mark, direction="inbound")[0]
    assert line["src.identity"] == mesh.pods["client"].identity
    assert line["dst.identity"] == mesh.pods["server"].identity
    streams = {s.pod: s for s in istiod.connected(2)}
    assert set(streams) == {"client", "server"}
    for name, stream in streams.items():
        pod = mesh.pods[name]
        first = stream.asks[0]
        assert first.node[1].decode() == (f"ztunnel~{pod.ip}~{name}.demo~"
                                          "demo.svc.cluster.local")
        assert first.metadata["NAMESPACE"] == "demo" and first.metadata["FLAVOUR"] == "plain"
        assert first.metadata["INSTANCE_IPS"] == pod.ip
        assert stream.metadata["authorization"] == "Bearer token-1"
        assert stream.metadata["clusterid"] == "Kubernetes"
        assert stream.metadata["x_test"] == "yes"
        assert all(a.error is None and not a.subscribe for a in stream.asks)
    for node in mesh.own.values():
        assert not node.log(message="own pod is not served"), "it was not known yet, that is all"
        assert node.metric("istio_xds_message_total", url=ADDRESS) >= 1
        assert node.metric("istio_xds_message_bytes_total", url=ADDRESS) > 100
        have = status(node)
        assert have["connected"] and have["workloads"] == 2 and have["services"] == 1


def test_policy(mesh, istiod):
    """In force with the acknowledgement, and gone with its removal."""
    mark = mesh.own["server"].mark()
    assert all(a.error is None for a in istiod.set(POLICY, deny_port("no", 8080)))
    with mesh.serve("server", 8080, echo):
        mesh.fails("client", (VIP, 80))
    line = mesh.own["server"].access(mark, direction="inbound")[0]
    assert "explicitly denied by: demo/no" in line["error"]
    istiod.remove(POLICY, "demo/no")
    assert works(mesh)


def test_refused(mesh, istiod):
    """A resource that is wrong is named, the others of its response count, and what it was stays."""
    server = mesh.pods["server"]
    uid, good = workload(server, WEB)
    bad = workload(server, WEB, tunnel=2)[1]
    fresh = service("other", "10.96.7.2", {80: 8080})
    for answer in istiod.push(ADDRESS, {uid: ("v9", bad), fresh[0]: ("v9", fresh[1])}):
        assert answer.error == f"{uid}: tunnel_protocol: LEGACY_ISTIO_MTLS is not supported"
    assert works(mesh)
    for node in mesh.own.values():
        have = status(node)
        assert have["services"] == 2 and have["workloads"] == 2 and have["refused"] >= 1
        assert "LEGACY_ISTIO_MTLS" in have["lastRefused"]
    answers = istiod.push(ADDRESS, {uid: ("v10", good)}, [fresh[0]])
    assert all(a.error is None for a in answers)
    assert all(status(node)["services"] == 1 for node in mesh.own.values())


def test_ranges(mesh, istiod):
    """A service by ranges of addresses: the longest with the address, after workloads and VIPs. The
    dump has them, and the gateway of a workload's network, as ztunnel's."""
    server, key = mesh.pods["server"], "demo/out.demo.svc.cluster.local"

    def has(*ranges, gateway=None):
        istiod.set(ADDRESS, service("out", [], {80: 8080}, ranges=ranges),
                   workload(server, {**WEB, key: {80: 8080}}, gateway=gateway))

    def asks(*ips):
        return [mesh.ask("client", (ip, 80)) for ip in ips]

    has("10.96.0.0/16", "fd96::/64", gateway=("far", "10.99.0.1", 15443))
    istiod.set(ADDRESS, service("wide", [], {80: 1}, ranges=["10.0.0.0/8", "fd96::/16"]))
    mark = mesh.own["client"].mark()
    with mesh.serve("server", 8080, echo):
        assert asks("10.96.200.1", VIP) == [b"hello world"] * 2
    lines = mesh.own["client"].access(mark, n=2, direction="outbound")
    assert [line["dst.service"] for line in lines] == [key[5:], "web.demo.svc.cluster.local"]
    dump = mesh.own["client"].config_dump()
    shown = {s["hostname"]: s for s in dump["services"]}
    assert shown[key[5:]]["cidrVips"] == [{"network": "", "cidr": "10.96.0.0/16"},
                                          {"network": "", "cidr": "fd96::/64"}]
    assert "cidrVips" not in shown["web.demo.svc.cluster.local"]
    gateways = {w["name"]: w.get("networkGateway") for w in dump["workloads"]}
    assert gateways == {"client": None, "server": {"destination": "far/10.99.0.1",
                                                   "hboneMtlsPort": 15443}}
    has("10.95.0.0/16")
    with mesh.serve("server", 8080, echo):
        assert asks("10.95.0.1") == [b"hello world"]
        mesh.fails("client", ("10.96.200.1", 80))  # wide's now, which has no endpoint
    istiod.remove(ADDRESS, key, "demo/wide.demo.svc.cluster.local")
    istiod.set(ADDRESS, workload(server, WEB))
    assert works(mesh)


def test_stream_ends(mesh, istiod):
    """The next one tells what is known, gets what changed meanwhile, and loses what is gone."""
    since = {name: node.since() for name, node in mesh.own.items()}
    istiod.set(ADDRESS, service("gone", "10.96.7.3", {80: 8080}))
    before = istiod.connected(2)
    with istiod.lock:
        del istiod.resources[ADDRESS]["demo/gone.demo.svc.cluster.local"]
        name, body = service("new", "10.96.7.4", {80: 8080})
        istiod.resources[ADDRESS][name] = ("v1", body)
    istiod.send((grpc.StatusCode.UNAVAILABLE, "try another one"))
    wait_until(lambda: not any(s in before for s in istiod.connected(2)), 10, "new streams")
    for stream in istiod.connected(2):
        first = next(a for a in stream.asks if a.type == ADDRESS)
        assert "demo/gone.demo.svc.cluster.local" in first.known
        assert first.known[f"Kubernetes//Pod/demo/{stream.pod}"].startswith("v")
    for node_name, node in mesh.own.items():
        names = {s["name"] for s in node.config_dump()["services"]}
        assert "new" in names and "gone" not in names
        assert since[node_name]("istio_xds_connection_terminations_total", reason="Error") == 1
    istiod.remove(ADDRESS, name)
    assert works(mesh)


def test_garbage(mesh, istiod):
    """What is no response ends the stream, and nothing else."""
    for data in (b"\x12\xff\xff\xff", b""):
        before = istiod.connected(2)
        istiod.send(data)
        wait_until(lambda: not any(s in before for s in istiod.connected(2)), 10, "new streams")  # noqa: B023
        assert works(mesh)
    # A type that nobody asked for is refused by its nonce.
    nonce, data = istiod.response("type.googleapis.com/other.Type", {}, nonce="odd")
    istiod.send(data)
    for stream in istiod.connected(2):
        answer = wait_until(lambda: stream.answered(nonce), 10)  # noqa: B023
        assert answer.error == "this type was not asked for"
    assert all(a.error is None for a in istiod.push(ADDRESS, {}))


def test_many_at_once(mesh, istiod):
    """A response of some MiB, in many frames."""
    names = [f"s{i}" for i in range(5000)]
    fresh = dict(service(n, f"10.97.{i >> 8}.{i & 255}", {p: p for p in range(1, 30)})
                 for i, n in enumerate(names))
    answers = istiod.push(ADDRESS, {n: ("1", b) for n, b in fresh.items()})
    assert all(a.error is None for a in answers)
    assert all(status(node)["services"] == 5001 for node in mesh.own.values())
    istiod.push(ADDRESS, {}, list(fresh))
    assert all(status(node)["services"] == 1 for node in mesh.own.values())
    assert works(mesh)


def test_away(mesh, istiod):
    """Without istiod what is known stays; a ztun that starts is not ready before it answers."""
    client = mesh.own["client"]
    istiod.stop()
    try:
        assert works(mesh)
        assert client.get("/healthz/ready", 15021)[0] == 200
        assert client.end() == 0
        client.start(wait=False)

        def reason():
            assert client.process.poll() is None
            return client.get("/healthz/ready", 15021)

        wait_until(lambda: "no first response of 10.77.0.2:15012 yet: " in reason()[1], 10,
                   "the reason is told")
        assert reason()[0] != 200
        wait_until(lambda: client.metric("istio_xds_connection_terminations_total",
                                         reason="ConnectionError") >= 1, 10)
    finally:
        istiod.start()
    client.wait_ready()
    istiod.connected(2)
    assert works(mesh)


def test_wrong_certificate(mesh, istiod):
    """The server's name counts."""
    client = mesh.own["client"]
    istiod.tls_name = "somebody.else"
    try:
        istiod.restart()
        wait_until(lambda: "certificate" in (status(client)["problem"] or ""), 20)
        assert not status(client)["connected"] and works(mesh)
    finally:
        istiod.tls_name = "istiod.istio-system.svc"
        istiod.restart()
    istiod.connected(2, 30)
    assert works(mesh)


def test_all_from_a_cluster(tmp_path):
    """Pods from istio-cni's agent, workloads and certificates from istiod: no file says anything."""
    made = Mesh(1)
    istiod = Discovery(made, where="node1", address="10.77.0.1")
    agent = Agent(tmp_path / "zds.sock")
    bad = []
    try:
        node = made.nodes[1]
        pods = [made.pod(name, 1, annotations={"ztun.io/netns": ""}) for name in ("client", "server")]
        for pod in pods:
            redirect(made, pod)
        node.source_args, node.ca_args = istiod.xds_args, istiod.args
        node.args = ["--inpod-uds", agent.path]
        istiod.start()
        node.start(wait=False)
        agent.conn = agent.snapshot(pods)
        node.wait_ready()
        # The agent's pods come first here, what istiod knows of them after.
        istiod.set(ADDRESS, workload(pods[0]), workload(pods[1], WEB),
                   service("web", VIP, {80: 8080}))
        mark = node.mark()
        with made.serve("server", 8080, echo):
            assert made.ask("client", (VIP, 80)) == b"hello world"
        line = node.access(mark, direction="inbound")[0]
        assert line["src.identity"] == pods[0].identity
        assert line["dst.identity"] == pods[1].identity
        assert {r.impersonated for r in istiod.requests} == {p.identity for p in pods}
        made.gauges_are_zero()
    finally:
        agent.close()
        bad = made.stop()
        istiod.stop()
    assert not bad, "\n".join(bad)
