# SPDX-License-Identifier: Apache-2.0
"""What ztunnel's own tests (tests/namespaced.rs) assert, under the same names."""

import base64
import json
import re
import signal
import socket
import ssl
import threading
import time

import pytest
from lablib import SANITIZED, stays, wait_until
from mesh.fixtures import make_mesh, module_mesh, shown  # noqa: F401
from mesh.h2 import Ended, hbone, tls
from mesh.pki import Authority
from mesh.topology import echo, echo_twice, read_exactly, say, sink
from test_metrics_doc import documented

OPENED, CLOSED = "istio_tcp_connections_opened_total", "istio_tcp_connections_closed_total"
RECEIVED, SENT = "istio_tcp_received_bytes_total", "istio_tcp_sent_bytes_total"
FAILED = "istio_tcp_connections_failed_total"


def build(mesh):
    mesh.pod("client", 1)
    mesh.pod("near", 1, port=8080)
    mesh.pod("server", 2, port=8080)
    mesh.pod("plain-client", 1, captured=False)
    mesh.pod("plain-server", 2, captured=False, port=8080)
    mesh.pod("web-a", 1, labels={"app": "web"}, port={"name": "http", "containerPort": 8081})
    mesh.pod("web-b", 2, labels={"app": "web"}, port={"name": "http", "containerPort": 8082})
    for name in ("near", "server", "plain-server"):
        mesh.vips[name] = mesh.service(name)
    mesh.vips["web"] = mesh.service("web", target="http")


mesh = module_mesh(build)


@pytest.fixture(scope="module")
def authority(mesh):
    made = Authority(mesh.ca)
    yield made
    made.close()


class Wire:
    """Everything that passes a node's eth0 while the block runs."""

    def __init__(self, mesh, node):
        with mesh.inside(node):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.settimeout(0.05)
        self.data, self.ports, self.is_on = bytearray(), set(), True
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while True:
            try:
                packet, address = self.socket.recvfrom(1 << 16)
            except OSError:
                if not self.is_on:
                    return
                continue
            if address[0] == "eth0":
                self.data += packet
                if len(packet) > 38 and packet[12:14] == b"\x08\x00" and packet[23] == 6:
                    self.ports.add(int.from_bytes(packet[36:38], "big"))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        time.sleep(0.05)
        self.is_on = False
        self.thread.join(5)
        self.socket.close()


def check_metrics(since, reporter, security):
    labels = {"reporter": reporter, "source_workload": "client" if security != "plain-in"
              else "plain-client"}
    labels["connection_security_policy"] = "mutual_tls" if security == "mutual_tls" else "unknown"
    wait_until(lambda: since(CLOSED, **labels) == 1, 3, f"one connection closed ({reporter})")
    assert since(OPENED, **labels) == 1
    assert since(RECEIVED, **labels) == 11
    assert since(SENT, **labels) == 22


def check_log(node, mark, direction, mesh, source, destination, mtls):
    got = node.access(mark, direction=direction)
    assert len(got) == 1, got
    line = got[0]
    assert line["message"] == "connection complete" and line["level"] == "info"
    assert "error" not in line
    assert line["src.addr"].startswith(mesh.pods[source].ip + ":")
    assert (line["src.workload"], line["src.namespace"]) == (source, "demo")
    assert (line["dst.workload"], line["dst.namespace"]) == (destination, "demo")
    assert line["src.cluster"] == "Kubernetes"
    # ztunnel counts from its own point of view in the log: what it sent on, what came back.
    want = (11, 22) if direction == "outbound" else (22, 11)
    assert (line["bytes_sent"], line["bytes_recv"]) == want, direction
    assert re.fullmatch(r"\d+ms", line["duration"])
    if mtls:
        assert line["src.identity"] == mesh.pods[source].identity
        assert line["dst.identity"] == mesh.pods[destination].identity
        assert line["dst.addr"] == f"{mesh.pods[destination].ip}:15008"
        assert line["dst.hbone_addr"] == f"{mesh.pods[destination].ip}:8080"
    else:
        assert "src.identity" not in line and "dst.identity" not in line
        assert line["dst.addr"] == f"{mesh.pods[destination].ip}:8080"
        assert "dst.hbone_addr" not in line
    return line


def client_server(mesh, source, destination, mtls):
    """One call with 11 bytes out and 22 back; then what both proxies say of it."""
    client, server = mesh.pods[source], mesh.pods[destination]
    nodes = mesh.nodes[client.node], mesh.nodes[server.node]
    marks, since = [n.mark() for n in nodes], [n.since() for n in nodes]
    with mesh.serve(destination, 8080, echo_twice):
        assert mesh.ask(source, (destination, 8080)) == b"hello world" * 2
    if source == "client":
        check_metrics(since[0], "source", "mutual_tls" if mtls else "plain")
        check_log(nodes[0], marks[0], "outbound", mesh, source, destination, mtls)
    if destination != "plain-server":
        check_metrics(since[1], "destination", "mutual_tls" if mtls else "plain-in")
        check_log(nodes[1], marks[1], "inbound", mesh, source, destination, mtls)


@pytest.mark.main
def test_local_captured_inpod(mesh):
    client_server(mesh, "client", "near", True)


@pytest.mark.main
def test_cross_node_captured_inpod(mesh):
    with Wire(mesh, "node2") as wire:
        client_server(mesh, "client", "server", True)
    assert 15008 in wire.ports and 8080 not in wire.ports
    assert b"hello world" not in wire.data


@pytest.mark.main
def test_server_uncaptured_inpod(mesh):
    with Wire(mesh, "node2") as wire:
        client_server(mesh, "client", "plain-server", False)
    assert b"hello world" in wire.data and 15008 not in wire.ports


@pytest.mark.main
def test_client_uncaptured_inpod(mesh):
    client_server(mesh, "plain-client", "server", False)


def test_metrics_are_documented(mesh):
    """Every name that is there now; tests/test_metrics_doc.py compares with what is declared."""
    for node in mesh.nodes.values():
        names = set(re.findall(r"^# TYPE (\w+)", node.get("/metrics", 15020)[1], re.M))
        assert "hbone_pool_streams_total" in names
        assert names - documented() == set()
    one, two = mesh.nodes.values()
    since = one.since()
    with mesh.serve("server", 8080, echo):
        assert mesh.ask("client", ("server", 8080)) == b"hello world"
    wait_until(lambda: since("hbone_pool_streams_total") >= 1, 3)  # up to a second old
    assert one.metric("hbone_pool_tunnels") >= 1
    wait_until(lambda: two.metric("hbone_server_tunnels") >= 1, 3)


def test_metrics_compression(mesh):
    """Also in the test of ztunnel: the scrape is the same, compressed."""
    import gzip
    import http.client
    node = mesh.nodes[1]
    conn = http.client.HTTPConnection("127.0.0.1", 15020, timeout=5)
    conn.sock = mesh.connect("node1", ("127.0.0.1", 15020))
    conn.request("GET", "/stats/prometheus", headers={"Accept-Encoding": "gzip"})
    response = conn.getresponse()
    body = response.read()
    conn.close()
    assert response.getheader("Content-Encoding") == "gzip"
    assert b"istio_build" in gzip.decompress(body)
    assert node.get("/stats/prometheus", 15020)[0] == 200


@pytest.mark.main
def test_service_loadbalancing(mesh):
    """50 calls reach both endpoints, each on its own target port of that name."""
    with mesh.serve("web-a", 8081, say("a")) as a, mesh.serve("web-b", 8082, say("b")) as b:
        got = [mesh.ask("client", (mesh.vips["web"], 80)) for _ in range(50)]
    assert got.count(b"a") + got.count(b"b") == 50
    assert 5 < len(a.conns) < 45 and len(a.conns) + len(b.conns) == 50


def by_host_name(mesh, authority, pod, port, host, service_port):
    """A CONNECT whose authority is a service's host name, to one of its pods."""
    peer = authority.issue("spiffe://cluster.local/ns/demo/sa/gateway")
    mark = mesh.nodes[2].mark()
    with mesh.serve(pod, port, echo):
        h2 = hbone(mesh, "plain-client", (pod, 15008), peer)
        stream = h2.connect(f"{host}.demo.svc.cluster.local:{service_port}")
        assert h2.status(stream) == "200"
        h2.send(stream, b"hello", end=True)
        h2.until(lambda: stream in h2.ended)
        assert h2.data[stream] == b"hello"
        assert h2.status(h2.connect(f"{host}.demo.svc.cluster.local:81")) == "503", "no such port"
        h2.close()
    assert mesh.nodes[2].access(mark, dst__service=f"{host}.demo.svc.cluster.local")


def test_svc_hostname_port(mesh, authority):
    """The service's port becomes its target port."""
    by_host_name(mesh, authority, "server", 8080, "server", 80)


def test_svc_hostname_named_port(mesh, authority):
    """A named target port is looked up in the pod: each of the two has another number for it."""
    by_host_name(mesh, authority, "web-b", 8082, "web", 80)


def test_svc_hostname_of_another_pod(mesh, authority):
    """A service that the pod is no endpoint of, and one that there is not."""
    h2 = hbone(mesh, "plain-client", ("server", 15008),
               authority.issue("spiffe://cluster.local/ns/demo/sa/gateway"))
    for host in ("near", "nothing"):
        assert h2.status(h2.connect(f"{host}.demo.svc.cluster.local:80")) in ("400", "503")
    h2.close()


def test_svc_without_that_port(mesh):
    mark = mesh.nodes[1].mark()
    to = (mesh.vips["server"], 81)
    mesh.fails("client", to)
    line = mesh.nodes[1].access(mark, dst__addr=f"{to[0]}:{to[1]}")[0]
    assert "no such port" in line["error"]


def test_svc_without_endpoints(mesh):
    vip = []
    mesh.settle(lambda: vip.append(mesh.service("nobody")))
    mark = mesh.nodes[1].mark()
    mesh.fails("client", (vip[0], 80))
    assert "no healthy upstream" in mesh.nodes[1].access(mark)[0]["error"]


def test_unknown_destination_passes(mesh):
    """Row 7 of the outbound decision: what the mesh does not know is left alone."""
    with mesh.serve("node2", 9000, echo):
        assert mesh.ask("client", (mesh.nodes[2].ip, 9000)) == b"hello world"


def test_connection_to_closed_port(mesh):
    mark = mesh.nodes[1].mark()
    mesh.fails("client", ("server", 9999))
    line = mesh.nodes[1].access(mark, dst__hbone_addr=f"{mesh.pods['server'].ip}:9999")[0]
    assert "503" in line["error"], line


@pytest.mark.main
def test_policy(mesh):
    """A rule that denies: refused with 401, logged on both sides; without it all is well again."""
    one, two = mesh.nodes.values()
    with mesh.serve("server", 8080, echo):
        mesh.settle(lambda: mesh.policy("deny-client", "DENY", [
            {"from": [{"source": {"principals": ["cluster.local/ns/demo/sa/client"]}}]}],
            {"app": "server"}))
        marks, since = (one.mark(), two.mark()), two.since()
        mesh.fails("client", ("server", 8080))
        out = one.access(marks[0], direction="outbound")[0]
        assert "401" in out["error"] and out["level"] == "error", out
        inner = two.access(marks[1], direction="inbound")[0]
        assert "demo/deny-client" in inner["error"], inner
        assert since(FAILED, reporter="destination", response_flags="DENY") == 1
        # others, and the same one to others, are not concerned
        with mesh.serve("near", 8080, echo):
            assert mesh.ask("client", ("near", 8080)) == b"hello world"
            assert mesh.ask("near", ("server", 8080)) == b"hello world"
        mesh.settle(lambda: mesh.delete("AuthorizationPolicy", "deny-client"))
        assert mesh.ask("client", ("server", 8080)) == b"hello world"


def test_hbone_ip_mismatch(mesh, authority):
    """A CONNECT for another pod than the one that is asked: 400, and nothing is dialled."""
    peer = authority.issue("spiffe://cluster.local/ns/demo/sa/client")
    mark = mesh.nodes[2].mark()
    with mesh.serve("near", 8080, echo) as near, mesh.serve("server", 8080, echo):
        h2 = hbone(mesh, "plain-client", ("server", 15008), peer)
        assert h2.status(h2.connect(f"{mesh.pods['near'].ip}:8080")) == "400"
        assert h2.status(h2.connect("127.0.0.1:8080")) == "400"
        # the tunnel is fine
        assert h2.status(h2.connect(f"{mesh.pods['server'].ip}:8080")) == "200"
        h2.close()
        assert not near.conns
    assert mesh.nodes[2].access(mark, direction="inbound")[0]["level"] == "error"


# Each case: target, port, and whether already the connection must fail (else the request must).
def malicious(mesh, source, cases):
    for target, port, want in cases:
        what = f"{source} to {target}:{port}"
        try:
            conn = mesh.connect(source, (target, port), timeout=2)
        except socket.timeout:
            raise AssertionError(f"{what}: hangs") from None
        except OSError:
            # To refuse at once is as good as to accept and to hang up.
            assert want in ("connection", "request"), what
            continue
        with conn:
            assert want != "connection", f"{what}: connected"
            conn.settimeout(2)
            got = b""
            try:
                conn.sendall(b"hello world\r\n\r\n")
                while data := conn.recv(4096):
                    got += data
            except socket.timeout:
                raise AssertionError(f"{what}: hangs") from None
            except OSError:
                pass
        if want == "http":
            assert got.startswith(b"HTTP/1.1 400"), what
        else:
            assert b"HTTP" not in got and b"hello" not in got, f"{what}: {got!r}"


def test_malicious_calls_inpod(mesh):
    """The matrix of ztun's own ports, from a captured pod and from one that is not: each way to
    make ztun call itself, or to reach its listeners, is refused and never hangs."""
    zt, ourself, lo = mesh.nodes[1].ip, mesh.pods["client"].ip, "127.0.0.1"
    malicious(mesh, "client", [
        (zt, 15001, "request"), (zt, 15006, "request"), (zt, 15008, "request"),
        (zt, 15080, "request"),
        (ourself, 15001, "request"), (ourself, 15006, "request"), (ourself, 15008, "request"),
        (ourself, 15080, "request"), (ourself, 15000, "request"), (ourself, 15020, "request"),
        (ourself, 15021, "request"),
        (lo, 15001, "request"), (lo, 15006, "request"), (lo, 15008, "request"),
        (lo, 15080, "connection"), (lo, 15000, "connection"), (lo, 15020, "connection"),
        (lo, 15021, "connection"),
    ])
    other = mesh.pods["server"].ip
    malicious(mesh, "client", [(other, p, "request") for p in (15001, 15006, 15008, 15053, 15080)])
    malicious(mesh, "plain-client", [
        (other, 15001, "request"), (other, 15006, "request"), (other, 15008, "request"),
        (other, 15080, "request"), (other, 15000, "request"), (other, 15020, "request"),
        (other, 15021, "request"), (other, 15053, "request"),
    ])
    # ports of the node: the admin port is its own business, the others speak HTTP only
    malicious(mesh, "plain-client", [(zt, 15000, "connection"), (zt, 15001, "connection"),
                                     (zt, 15006, "connection"), (zt, 15008, "connection"),
                                     (zt, 15053, "connection"),
                                     (zt, 15020, "http"), (zt, 15021, "http")])


def test_trust_domain_mismatch_rejected(mesh, authority):
    """A peer of the same CA, but of another trust domain: no connection, in either role."""
    stranger = authority.issue("spiffe://other.example/ns/demo/sa/client")
    mark = mesh.nodes[2].mark()
    with mesh.serve("server", 8080, echo) as server:
        with pytest.raises((OSError, Ended)):
            h2 = hbone(mesh, "plain-client", ("server", 15008), stranger)
            h2.status(h2.connect(f"{mesh.pods['server'].ip}:8080"))
        assert not server.conns
    line = mesh.nodes[2].access(mark)[0]
    assert "TLS" in line["error"], line
    assert line["src.addr"].startswith(mesh.pods["plain-client"].ip)


def mesh_config(mesh, **settings):
    text = "".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items())
    mesh.settle(lambda: mesh.apply({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": text}}))


def test_trust_domain_aliases(make_mesh):
    """Peers of an alias are let in from the moment when MeshConfig names it, and no longer than
    that; a policy may call them by either name."""
    mesh = make_mesh(lambda m: (m.pod("plain", 1, captured=False), m.pod("server", 2, port=8080)))
    authority = Authority(mesh.ca)
    peer = authority.issue("spiffe://old.example/ns/demo/sa/client")
    target, to = f"{mesh.pods['server'].ip}:8080", ("server", 15008)

    def is_refused():
        with pytest.raises((OSError, Ended)):
            h2 = hbone(mesh, "plain", to, peer)
            h2.status(h2.connect(target))
        return True

    def status():
        h2 = hbone(mesh, "plain", to, peer)
        try:
            return h2.status(h2.connect(target))
        finally:
            h2.close()

    try:
        with mesh.serve("server", 8080, echo):
            assert is_refused()
            mesh_config(mesh, trustDomainAliases=["older.example", "old.example"])
            wait_until(lambda: status() == "200", 5)
            for principal, want in (("cluster.local/ns/demo/sa/client", "200"),
                                    ("older.example/ns/demo/sa/client", "200"),
                                    ("cluster.local/ns/demo/sa/other", "401")):
                mesh.settle(lambda: mesh.policy("only", "ALLOW", [  # noqa: B023
                    {"from": [{"source": {"principals": [principal]}}]}]))  # noqa: B023
                assert status() == want, principal
            mesh.settle(lambda: mesh.delete("AuthorizationPolicy", "only"))
            h2 = hbone(mesh, "plain", to, peer)
            stream = h2.connect(target)
            assert h2.status(stream) == "200"
            mark = mesh.nodes[2].mark()
            mesh_config(mesh)
            h2.end()
            assert stream not in h2.ended, "what is no longer trusted is cut"
            assert "no longer trusted" in mesh.nodes[2].access(mark)[0]["error"]
            assert is_refused()
    finally:
        authority.close()


def test_connect_timeout(make_mesh):
    """MeshConfig's, of plain TCP."""
    mesh = make_mesh(lambda m: (m.pod("client", 1), m.pod("away", 2, captured=False)), nodes=2)
    for line in ("add table inet filter", "add chain inet filter forward "
                 "{ type filter hook forward priority 0; }",
                 "add rule inet filter forward tcp dport 8080 drop"):
        assert mesh.run("node2", "nft", line).returncode == 0
    mesh_config(mesh, connectTimeout="1500ms")
    mark, start = mesh.nodes[1].mark(), time.monotonic()
    mesh.fails("client", ("away", 8080), timeout=9)
    assert 1.3 < time.monotonic() - start < 5
    assert "timed out" in mesh.nodes[1].access(mark, direction="outbound")[0]["error"]


def test_server_identity_is_checked(make_mesh):
    """The pod that answers must have the identity that the mesh expects at that address."""
    mesh = make_mesh(lambda m: (m.pod("client", 1), m.pod("fake", 2, port=8080)), nodes=2,
                     start=False)
    mesh.nodes[1].start()
    authority = Authority(mesh.ca)
    try:
        for spiffe, is_good in ((mesh.pods["fake"].identity, True),
                                ("spiffe://cluster.local/ns/demo/sa/other", False),
                                ("spiffe://other.example/ns/demo/sa/fake", False)):
            context = authority.issue(spiffe).context(server=True)
            seen = []

            def handshake(conn, context=context, seen=seen):
                with context.wrap_socket(conn, server_side=True) as secure:
                    seen.append(secure.recv(24))

            mark = mesh.nodes[1].mark()
            with mesh.serve("fake", 15008, handshake):
                mesh.fails("client", ("fake", 8080))
            line = mesh.nodes[1].access(mark, direction="outbound")[0]
            assert (b"PRI" in (seen[0] if seen else b"")) == is_good, (spiffe, seen)
            assert ("TLS" in line["error"]) != is_good, line
    finally:
        authority.close()


def certificates(node):
    """Identities for which the node holds a certificate, by its metrics and by its dump."""
    by_metric = {labels["identity"].rsplit("/", 1)[1] for labels, _ in
                 node.metrics().find("certificate_expiry_seconds")}
    by_dump = {c["identity"].rsplit("/", 1)[1] for c in node.config_dump()["certificates"]}
    assert by_metric == by_dump, (by_metric, by_dump)
    return by_metric


def test_prefetch_forget_certs(make_mesh):
    """The certificates follow the pods of the node."""
    mesh = make_mesh(lambda m: m.pod("first", 1))
    one, two = mesh.nodes.values()
    wait_until(lambda: certificates(one) == {"first"}, 5)
    mesh.pod("remote", 2, sa="sa1")
    wait_until(lambda: certificates(two) == {"sa1"}, 5)
    assert certificates(one) == {"first"}, "not for remote nodes"
    mesh.pod("a", 1, sa="sa1")
    wait_until(lambda: certificates(one) == {"first", "sa1"}, 5)
    mesh.pod("b", 1, sa="sa1")
    mesh.delete("Pod", "remote")
    mesh.delete("Pod", "b")
    wait_until(lambda: not certificates(two), 5)
    stays(lambda: certificates(one) == {"first", "sa1"}, 0.3)
    mesh.delete("Pod", "a")
    wait_until(lambda: certificates(one) == {"first"}, 5, "the last pod takes it along")


def live_flow(mesh, source="client", to=("server", 8080)):
    """A connection with one answered message."""
    conn = mesh.connect(source, to)
    conn.sendall(b"ping")
    assert read_exactly(conn, 4) == b"ping"
    return conn


def ended(conn, timeout=5):
    """How a connection that must end has ended."""
    conn.settimeout(timeout)
    try:
        return "eof" if conn.recv(1) == b"" else "data"
    except socket.timeout:
        raise AssertionError("still open") from None
    except ConnectionError:
        return "reset"


@pytest.mark.main
def test_ztunnel_shutdown(make_mesh):
    """SIGTERM: a running flow goes on until the deadline, new ones are refused, then all is cut."""
    mesh = make_mesh(lambda m: (m.pod("client", 1), m.pod("server", 2, port=8080)), "--drain=6s")
    two = mesh.nodes[2]
    with mesh.serve("server", 8080, echo):
        conn = live_flow(mesh)
        mark, start = two.mark(), time.monotonic()
        two.process.send_signal(signal.SIGTERM)
        is_ready = True
        while (age := time.monotonic() - start) < 3.7:
            conn.sendall(b"still")
            assert read_exactly(conn, 5) == b"still"
            if age > 0.3 and is_ready:
                try:  # the port is a successor's from now on: nobody answers, or not with 200
                    is_ready = two.get("/healthz/ready", 15021)[0] == 200
                except OSError:
                    is_ready = False
            if age > 2.5:
                mesh.fails("client", ("server", 8080))
            time.sleep(0.1)
        assert not is_ready, "a draining ztun is not ready"
        assert ended(conn) == "reset", "cut, and does not look complete"
        assert 3.7 < time.monotonic() - start < 6.5
        assert two.process.wait(8) == 0
        assert time.monotonic() - start < 8
        conn.close()
    line = [x for x in two.access(mark, direction="inbound") if "drain" in x.get("error", "")]
    assert line and line[0]["bytes_recv"] > 0, two.log_tail()


def test_quitquitquit(make_mesh):
    """The admin page drains as a signal does; only POST."""
    mesh = make_mesh(lambda m: (m.pod("client", 1), m.pod("server", 2, port=8080)), "--drain=1s")
    two = mesh.nodes[2]
    with mesh.serve("server", 8080, echo):
        conn = live_flow(mesh)
        assert two.get("/quitquitquit")[0] == 405
        conn.sendall(b"on")
        assert read_exactly(conn, 2) == b"on"
        assert two.http("POST", "/quitquitquit")[0] == 200
        assert two.process.wait(5) == 0
        assert ended(conn) == "reset"
        conn.close()
    assert two.log(message="draining")


def test_heap_profile(make_mesh):
    """Where the allocator has profiling a profile, else a page that says what is missing."""
    mesh = make_mesh(start=False)
    one = mesh.nodes[1]
    one.start()
    status, text = one.get("/debug/pprof/heap")
    assert status != 200 and "MALLOC_CONF" in text or SANITIZED, (status, text)
    one.end()
    one.env = {"MALLOC_CONF": "prof:true,prof_active:true"}
    one.start()
    status, text = one.get("/debug/pprof/heap")
    assert (status == 200 and text.startswith("heap_v2/")) or "profil" in text, (status, text)


def test_second_signal_ends_at_once(make_mesh):
    mesh = make_mesh(lambda m: (m.pod("client", 1), m.pod("server", 2, port=8080)), "--drain=30s")
    with mesh.serve("server", 8080, echo):
        conn = live_flow(mesh)
        two = mesh.nodes[2]
        two.process.send_signal(signal.SIGTERM)
        wait_until(lambda: two.log(message="draining"), 3)
        two.process.send_signal(signal.SIGTERM)
        assert two.process.wait(3) == 0
        assert ended(conn) in ("reset", "eof")
        conn.close()


@pytest.mark.main
def test_server_shutdown(mesh):
    """The server's end is seen by the client, through both proxies."""
    server = mesh.serve("server", 8080, echo)
    conn = live_flow(mesh)
    server.close()
    assert ended(conn) == "eof"
    conn.close()
    mesh.fails("client", ("server", 8080))


class Revocation:
    """A mesh whose ztuns read a CRL, a certificate authority that writes it."""

    def __init__(self, make_mesh):
        self.mesh = make_mesh(lambda m: (m.pod("client", 1), m.pod("plain", 1, captured=False),
                                         m.pod("server", 2, port=8080)), start=False)
        self.mesh.nodes[1].start("--config", self.mesh.config)  # makes the CA
        self.mesh.nodes[1].end()
        self.authority = Authority(self.mesh.ca)
        self.path = self.mesh.dir / "crl.pem"
        self.authority.crl(self.path)
        self.mesh.start("--crl", self.path)

    def server_certificate(self):
        peer = self.authority.issue("spiffe://cluster.local/ns/demo/sa/probe")
        with tls(self.mesh, "plain", ("server", 15008), peer) as conn:
            return conn.getpeercert(True)

    def client_certificate(self):
        """Of the workload that node 1's ztun serves."""
        certificates = self.mesh.nodes[1].config_dump()["certificates"]
        chain = next(c for c in certificates if c["identity"].endswith("/sa/client"))["certChain"]
        pem = base64.b64decode(chain[0]["pem"]).decode()
        return ssl.PEM_cert_to_DER_cert(pem[:pem.index("-----END CERTIFICATE-----") + 26])

    def revoke(self, cert):
        marks = [(n, n.mark()) for n in self.mesh.nodes.values()]
        self.authority.revoke(cert)
        self.authority.crl(self.path)
        for node, mark in marks:
            wait_until(lambda: node.log(mark, message="revocation list loaded"), 8)  # noqa: B023


@pytest.fixture
def revocation(make_mesh):
    made = Revocation(make_mesh)
    yield made
    made.authority.close()


def test_crl_inbound(revocation):
    """crl_inbound_rejects_revoked_cert and
    crl_inbound_terminates_existing_connection_on_revocation."""
    mesh, two = revocation.mesh, revocation.mesh.nodes[2]
    peer = revocation.authority.issue(mesh.pods["client"].identity)
    other = revocation.authority.issue("spiffe://cluster.local/ns/demo/sa/other")
    target = f"{mesh.pods['server'].ip}:8080"
    with mesh.serve("server", 8080, echo) as server:
        tunnels = []
        for cert in (peer, other):
            h2 = hbone(mesh, "plain", ("server", 15008), cert)
            stream = h2.connect(target)
            assert h2.status(stream) == "200"
            h2.send(stream, b"hello")
            h2.until(lambda: h2.data.get(stream) == b"hello")  # noqa: B023
            tunnels.append((h2, stream))
        mark, since = two.mark(), two.since()
        revocation.revoke(peer.cert)
        tunnels[0][0].end(timeout=5)
        line = two.access(mark, direction="inbound")[0]
        assert "revoked" in line["error"], line
        wait_until(lambda: since(CLOSED, response_flags="CERT_REVOKED") == 1, 3)
        wait_until(lambda: server.errors, 3, "the application sees a reset")
        # the other peer's connection lives
        h2, stream = tunnels[1]
        h2.send(stream, b" world", end=True)
        h2.until(lambda: stream in h2.ended)
        assert h2.data[stream] == b"hello world"
        # and a new one with the revoked certificate does not come about
        mark, since = two.mark(), two.since()
        with pytest.raises((OSError, Ended)):
            again = hbone(mesh, "plain", ("server", 15008), peer)
            again.status(again.connect(target))
        line = two.access(mark, message="connection failed")[0]
        assert "revoked" in line["error"], line
        assert since("istio_crl_policy_rejections_total", reporter="destination") == 1
        assert since(FAILED, response_flags="CERT_REVOKED") == 1
        for h2, _ in tunnels:
            h2.close()


def test_crl_outbound(revocation):
    """crl_outbound_rejects_revoked_cert and
    crl_outbound_terminates_existing_connection_on_revocation."""
    mesh, one = revocation.mesh, revocation.mesh.nodes[1]
    with mesh.serve("server", 8080, echo):
        conn = live_flow(mesh)
        mark = one.mark()
        revocation.revoke(revocation.server_certificate())
        assert ended(conn) == "reset"
        conn.close()
        line = one.access(mark, direction="outbound")[0]
        assert "revoked" in line["error"], line
        mark, since = one.mark(), one.since()
        two = mesh.nodes[2]
        two_mark, two_since = two.mark(), two.since()
        mesh.fails("client", ("server", 8080))
        line = one.access(mark, direction="outbound")[0]
        assert "revoked" in line["error"], line
        assert since("istio_crl_policy_rejections_total", reporter="source") == 1
        assert since(FAILED, response_flags="CERT_REVOKED") == 1
        # the server knows it from the client's alert
        line = two.access(two_mark, direction="inbound")[0]
        assert "the peer sent certificate_revoked" in line["error"], line
        assert two_since(FAILED, response_flags="CERT_REVOKED") == 1


def test_crl_own_certificate(revocation):
    """The server refuses a client whose certificate is revoked, when the client's handshake is
    already over: the alert says why, on the client's side too."""
    mesh, (one, two) = revocation.mesh, revocation.mesh.nodes.values()
    with mesh.serve("server", 8080, echo):
        revocation.revoke(revocation.client_certificate())
        for _ in range(3):
            marks, since = (one.mark(), two.mark()), one.since()
            mesh.fails("client", ("server", 8080))
            line = one.access(marks[0], direction="outbound")[0]
            assert "the peer sent certificate_revoked" in line["error"], line
            assert since(FAILED, response_flags="CERT_REVOKED") == 1
            line = two.access(marks[1], direction="inbound")[0]
            assert "the peer's certificate chain is revoked" in line["error"], line


def test_plain_text_log(make_mesh):
    """The access log in text: RFC 3339 time, level, target, message, then k=v after tabs."""
    mesh = make_mesh(lambda m: (m.pod("client", 1), m.pod("server", 2, port=8080)), start=False)
    for node in mesh.nodes.values():
        node.start("--log-format", "plain")
    with mesh.serve("server", 8080, echo_twice):
        mesh.ask("client", ("server", 8080))
    pattern = re.compile(
        r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z\tinfo\taccess\tconnection complete\t"
        r"src\.addr=\S+ src\.workload=\"client\" src\.namespace=\"demo\" "
        r"src\.identity=\"spiffe://cluster\.local/ns/demo/sa/client\" .*"
        r"dst\.addr=\S+:15008 dst\.hbone_addr=\S+:8080 .*dst\.workload=\"server\" .*"
        r"direction=\"outbound\" bytes_sent=11 bytes_recv=22 duration=\"\d+ms\"$", re.M)
    wait_until(lambda: pattern.search(mesh.nodes[1].log_path.read_text()), 3, "a line as expected")


def test_drained_gauges(mesh):
    with mesh.serve("server", 8080, sink):
        conns = [mesh.connect("client", ("server", 8080)) for _ in range(20)]
        try:
            wait_until(lambda: mesh.nodes[1].metric("istio_tcp_sockets_open", reporter="source")
                       == 20, 3, "20 open sockets")
        finally:
            for conn in conns:
                conn.close()
    mesh.gauges_are_zero()
