# SPDX-License-Identifier: Apache-2.0
"""ztun in dedicated mode: one for each pod, in the pod's own network namespace. The tests of the
same name are ztunnel's (tests/namespaced.rs)."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess

import pytest
from lablib import ZTUN, wait_until
from mesh import dns
from mesh.dns import NOERROR, A, Upstream
from mesh.fixtures import shown  # noqa: F401
from mesh.topology import Mesh, Node, echo, echo_twice, say, who

UPSTREAM = "10.77.0.2"
BIND = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'


class Dedicated(Node):
    """The ztun of a pod. Its /etc/resolv.conf names our server."""

    def __init__(self, mesh, pod, *args):
        super().__init__(mesh, pod.node)
        self.name, self.netns = pod.name, pod.netns
        self.log_path = mesh.dir / f"ztun-{pod.name}.log"
        self.args = ["--proxy-mode", "dedicated", "--workload", f"{pod.ns}/{pod.name}/{pod.sa}",
                     *args]
        mesh.nodes[pod.name] = self

    def start(self, *args, wait=True, wrap=(), stdout=None):
        resolv = self.mesh.dir / "resolv.conf"
        resolv.write_text(f"nameserver {UPSTREAM}\n")
        return super().start(*self.args, *args, wait=wait, stdout=stdout,
                             wrap=["unshare", "--mount", "sh", "-c", BIND, resolv, *wrap])


def build(mesh):
    tunnel = {"labels": {"networking.istio.io/tunnel": "http"}, "captured": False}
    for name, node in (("client", 1), ("server", 2)):
        pod = mesh.pod(name, node, port=8080, annotations={"ztun.io/netns": ""}, **tunnel)
        Dedicated(mesh, pod, "--socks5=true")
    mesh.pod("shared", 2, port=8080)  # of the node's ztun
    mesh.pod("plain-client", 1, captured=False)
    mesh.pod("plain-server", 2, captured=False, port=8080)
    for name in ("server", "shared"):
        mesh.vips[name] = mesh.service(name)


@pytest.fixture(scope="module")
def mesh():
    made = Mesh(2)
    upstream = None
    try:
        upstream = Upstream(made, "node2", UPSTREAM, {
            ("db.outside.example", A): (NOERROR, [socket.inet_aton("10.77.0.2")]),
            ("www.outside.example", A): (NOERROR, [b"\x09\x09\x09\x09"])})
        build(made)
        made.start()
        made.upstream = upstream
        yield made
        made.gauges_are_zero()
    finally:
        bad = made.stop()
        if upstream is not None:
            upstream.close()
    assert not bad, "\n".join(bad)


def client_server(mesh, source, destination, mtls):
    """One call with 11 bytes out and 22 back, and what the proxies say of it."""
    out, inner = mesh.nodes.get(source), mesh.nodes.get(destination)
    marks = {node: (node.mark(), node.since()) for node in (out, inner) if node}
    with mesh.serve(destination, 8080, echo_twice):
        assert mesh.ask(source, (destination, 8080)) == b"hello world" * 2
    for node, (mark, since) in marks.items():
        direction = "outbound" if node is out else "inbound"
        line = node.access(mark, direction=direction)[0]
        assert line["message"] == "connection complete" and "error" not in line, line
        assert (line["src.workload"], line["dst.workload"]) == (source, destination)
        assert line["src.addr"].startswith(mesh.pods[source].ip + ":")
        if mtls:
            assert line["src.identity"] == mesh.pods[source].identity
            assert line["dst.identity"] == mesh.pods[destination].identity
            assert line["dst.addr"] == f"{mesh.pods[destination].ip}:15008"
            assert line["dst.hbone_addr"] == f"{mesh.pods[destination].ip}:8080"
        else:
            assert "src.identity" not in line and "dst.hbone_addr" not in line
        labels = {"reporter": "source" if node is out else "destination",
                  "connection_security_policy": "mutual_tls" if mtls else "unknown"}
        wait_until(lambda: since("istio_tcp_connections_closed_total", **labels) == 1, 3)  # noqa: B023
        assert since("istio_tcp_connections_opened_total", **labels) == 1
        assert since("istio_tcp_received_bytes_total", **labels) == 11
        assert since("istio_tcp_sent_bytes_total", **labels) == 22


@pytest.mark.main
def test_cross_node_captured_dedicated(mesh):
    client_server(mesh, "client", "server", True)


@pytest.mark.main
def test_server_uncaptured_dedicated(mesh):
    client_server(mesh, "client", "plain-server", False)


@pytest.mark.main
def test_client_uncaptured_dedicated(mesh):
    client_server(mesh, "plain-client", "server", False)


@pytest.mark.main
def test_with_shared_ones(mesh):
    """Pods of a node's ztun are the same to it, in both directions, by VIP and by name."""
    with mesh.serve("shared", 8080, who), mesh.serve("server", 8080, who):
        assert mesh.ask("client", (mesh.vips["shared"], 80)) == mesh.pods["client"].ip.encode()
        assert mesh.ask("shared", (mesh.vips["server"], 80)) == mesh.pods["shared"].ip.encode()
    assert mesh.nodes[2].access(direction="outbound", src__workload="shared",
                                dst__workload="server")
    assert mesh.nodes["server"].access(direction="inbound", src__workload="shared")


@pytest.mark.main
def test_dns(mesh):
    """Its DNS proxy answers the pod; its own queries, for endpoints that are names, pass it by: there
    they would get the address of the ServiceEntry."""
    mesh.settle(lambda: mesh.apply(
        {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
         "metadata": {"name": "database", "namespace": "demo"},
         "spec": {"hosts": ["db.outside.example"], "addresses": ["240.0.0.9"],
                  "ports": [{"number": 9000, "name": "tcp", "protocol": "TCP"}],
                  "resolution": "DNS"}}))
    name = "server.demo.svc.cluster.local"
    assert dns.resolve(mesh, "client", name).records[0][3] == mesh.vips["server"]
    assert dns.resolve(mesh, "client", "www.outside.example").records[0][3] == "9.9.9.9"
    assert dns.resolve(mesh, "client", "db.outside.example").records[0][3] == "240.0.0.9"
    with mesh.serve("node2", 9000, echo):
        wait_until(lambda: mesh.ask("client", ("240.0.0.9", 9000)) == b"hello world", 5)
        with mesh.connect("client", ("127.0.0.1", 15080)) as conn:
            conn.sendall(b"\5\1\0\5\1\0\3\x12db.outside.example\x23\x28hello")
            got = b""
            while len(got) < 17:
                got += conn.recv(100)
            assert got[:4] == b"\5\0\5\0" and got[12:] == b"hello"
    seen = [item for item in mesh.upstream.seen if item[0] == "db.outside.example"]
    assert seen and {address for _, _, _, address, _ in seen} <= {
        mesh.pods["client"].ip, mesh.pods["server"].ip, *(n.ip for n in mesh.nodes.values())}


def get(mesh, where, to, path):
    conn = http.client.HTTPConnection(to[0], timeout=5)
    conn.sock = mesh.connect(where, to)
    with contextlib.closing(conn):
        conn.request("GET", path)
        response = conn.getresponse()
        response.read()
        return response.status


@pytest.mark.main
def test_policy(mesh):
    """STRICT keeps plain text from the application; the operator's ports are not the application's,
    and a scrape by the mesh comes through a tunnel."""
    server = mesh.pods["server"]
    with mesh.serve("server", 8080, echo):
        mesh.settle(lambda: mesh.peer_authentication("strict", "STRICT"))
        try:
            mesh.fails("plain-client", ("server", 8080))
            assert mesh.ask("client", ("server", 8080)) == b"hello world"
            for where in ("plain-client", "shared"):
                assert get(mesh, where, (server.ip, 15020), "/metrics") == 200
                assert get(mesh, where, (server.ip, 15021), "/healthz/ready") == 200
            mesh.fails("plain-client", (server.ip, 15000))
            mesh.fails("shared", (server.ip, 15000))
        finally:
            mesh.settle(lambda: mesh.delete("PeerAuthentication", "strict"))
    line = mesh.nodes["server"].access(direction="inbound", src__workload="shared",
                                       dst__hbone_addr=f"{server.ip}:15020")[0]
    assert "error" not in line


def test_own_ports(mesh):
    """No way to make it call itself."""
    own = mesh.pods["client"].ip
    for ip in (own, "127.0.0.1"):
        for port in (15001, 15006, 15008):
            mesh.fails("client", (ip, port))
    for port in (15001, 15006, 15008, 15080):
        mesh.fails("plain-client", (own, port))
    assert get(mesh, "client", ("127.0.0.1", 15000), "/") == 200, "admin is the pod's own there"


def test_what_it_shows(mesh):
    """One pod, up, whatever the node's other ones are."""
    node = mesh.nodes["client"]
    status = json.loads(node.get("/status")[1])
    assert [(p["name"], p["state"], p["netns"]) for p in status["pods"]] == \
        [("client", "Up", "/proc/self/ns/net")]
    assert node.metric("workload_manager_active_proxy_count") == 1
    dump = node.config_dump()
    assert dump["config"]["proxyMode"] == "Dedicated"
    assert list(dump["workloadState"]) == ["Kubernetes//Pod/demo/client"]


def test_pod_and_account(mesh):
    """Ready when the pod is there, with the service account that was told; fails closed else."""
    node, pod = mesh.nodes["server"], mesh.pods["server"]
    right = json.loads(json.dumps(pod.doc))
    pod.doc["spec"]["serviceAccountName"] = "shared"
    mesh.settle(lambda: mesh.apply(pod.doc))
    status, text = wait_until(
        lambda: (got := node.get("/healthz/ready", 15021))[0] == 500 and got, 3)
    assert "demo/server: the Pod has another service account" in text
    with mesh.serve("server", 8080, echo):
        mesh.fails("client", ("server", 8080), timeout=6)
        pod.doc = right
        mesh.settle(lambda: mesh.apply(pod.doc))
        node.wait_ready()
        assert mesh.ask("client", ("server", 8080)) == b"hello world"


def test_restart(mesh):
    """The rules stay, so that nothing passes by a ztun that was killed; the next one goes on."""
    node = mesh.nodes["client"]
    with mesh.serve("plain-server", 8080, say("x")) as server:
        node.process.send_signal(signal.SIGKILL)
        node.process.wait()
        mesh.fails("client", ("plain-server", 8080))
        assert not server.conns
        node.start()
        assert mesh.ask("client", ("plain-server", 8080)) == b"x"


def test_second_one_beside(mesh):
    """A successor in the same namespace takes over without losing a connection."""
    node = mesh.nodes["client"]
    first = node.process
    node.log_path = node.log_path.with_suffix(".second.log")
    node.start(wait=False)
    mesh.extra.append(first)
    wait_until(lambda: node.log(message="pod is served"), 10)
    with mesh.serve("server", 8080, echo):
        first.send_signal(signal.SIGTERM)
        while first.poll() is None:
            assert mesh.ask("client", ("server", 8080)) == b"hello world"
        assert first.wait() == 0
        node.wait_ready()
        assert mesh.ask("client", ("server", 8080)) == b"hello world"


@pytest.mark.parametrize("args, env, text", [
    (["--proxy-mode", "alone"], {}, "expected shared or dedicated"),
    ([], {"PROXY_MODE": "dedicated"}, "--workload go together"),
    ([], {"PROXY_WORKLOAD_INFO": "a/b/c"}, "--workload go together"),
    (["--workload", "a/b"], {"PROXY_MODE": "dedicated"}, "NAMESPACE/NAME/SERVICE-ACCOUNT"),
    (["--workload", "a//c"], {"PROXY_MODE": "dedicated"}, "NAMESPACE/NAME/SERVICE-ACCOUNT"),
    (["--workload", "a/b/c/d"], {"PROXY_MODE": "dedicated"}, "NAMESPACE/NAME/SERVICE-ACCOUNT"),
])
def test_wrong_usage(args, env, text):
    done = subprocess.run([ZTUN, "--config=x", "--ca-dir=y", "--node=z", *args],
                          capture_output=True, text=True, timeout=20, env={**os.environ, **env})
    assert done.returncode == 2 and text in done.stderr, done
