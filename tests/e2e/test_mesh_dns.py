# SPDX-License-Identifier: Apache-2.0
"""The DNS proxy as a pod meets it: names of the mesh from the snapshot, all else relayed."""

import socket

import pytest
from lablib import wait_until
from mesh import dns
from mesh.dns import A, AAAA, CNAME, HTTPS, MX, NOERROR, NXDOMAIN, SERVFAIL, SRV, TXT, Upstream
from mesh.fixtures import module_mesh, shown  # noqa: F401
from mesh.topology import echo

UPSTREAM = "10.77.0.2"
on_both = pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])


def service_entry(name, hosts, addresses=(), **spec):
    return {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
            "metadata": {"name": name, "namespace": "demo"},
            "spec": {"hosts": hosts, "addresses": list(addresses),
                     "ports": [{"number": 80, "name": "http", "protocol": "TCP"}], **spec}}


def build(mesh):
    servers = {"annotations": {"ztun.io/nameservers": UPSTREAM}}
    mesh.write_namespace("other")
    mesh.pod("client", 1, families=(4, 6), **servers)
    mesh.pod("stranger", 1, ns="other", **servers)
    mesh.pod("lost", 1, annotations={"ztun.io/nameservers": "10.77.0.99"})
    mesh.pod("plain", 1, captured=False)
    mesh.pod("server", 2, port=8080, families=(4, 6))
    mesh.pod("h1", 2, labels={"app": "headless"}, hostname="h1", subdomain="headless")
    mesh.pod("h2", 1, labels={"app": "headless"})
    mesh.vips["server"] = mesh.service("server")
    mesh.service("headless", headless=True)
    mesh.service("dual", families=(4, 6), selector={"app": "server"})
    mesh.service("there", ns="other", selector={"app": "stranger"})
    mesh.apply(service_entry("external", ["api.example.com"], ["240.0.0.1"], resolution="STATIC",
                             endpoints=[{"address": "10.77.0.2"}]))
    mesh.apply(service_entry("wild", ["*.wild.example.com"], ["240.0.0.2"], resolution="STATIC",
                             endpoints=[{"address": "10.77.0.2"}]))


mesh = module_mesh(build)


@pytest.fixture(scope="module")
def upstream(mesh):
    made = Upstream(mesh, "node2", UPSTREAM, {
        ("www.outside.example", A): (NOERROR, [b"\x09\x09\x09\x09"]),
        ("www.outside.example", MX): (NOERROR, [b"\0\x0a\x04mail\xc0\x0c"]),
        ("_sip._tcp.outside.example", SRV): (NOERROR, [b"\0\1\0\2\x13\xc4\x03sip\0"]),
        ("big.outside.example", TXT): (NOERROR, [bytes([200]) + b"x" * 200] * 20),
        ("broken.outside.example", A): (dns.REFUSED, []),
        ("server.demo.svc.cluster.local", SRV): (NOERROR, [b"\0\1\0\2\0\x50\x01s\0"]),
    })
    yield made
    made.close()


@pytest.fixture(autouse=True)
def with_upstream(upstream):
    pass


def values(answer, kind):
    return sorted(value for _, k, _, value in answer.records if k == kind)


@pytest.mark.main
@on_both
@pytest.mark.parametrize("name", ["server.demo.svc.cluster.local", "server.demo.svc",
                                  "server.demo", "server", "SERVER.demo.SVC.cluster.local"])
def test_service_names(mesh, name, tcp):
    got = dns.resolve(mesh, "client", name, tcp=tcp)
    assert got.rcode == NOERROR
    assert values(got, A) == [mesh.vips["server"]]
    assert 0 < got.records[-1][2] <= 30
    assert not got.flags & 0x0200


def test_absent_family_is_an_empty_answer(mesh):
    got = dns.resolve(mesh, "client", "server.demo.svc.cluster.local", AAAA)
    assert got.rcode == NOERROR and not got.records


def test_dual_stack_service(mesh):
    for kind in (A, AAAA):
        got = dns.resolve(mesh, "client", "dual.demo.svc.cluster.local", kind)
        assert len(values(got, kind)) == 1


def test_short_names_are_of_the_clients_namespace(mesh, upstream):
    assert dns.resolve(mesh, "stranger", "server").rcode == NXDOMAIN
    assert values(dns.resolve(mesh, "stranger", "server.demo"), A) == [mesh.vips["server"]]
    assert values(dns.resolve(mesh, "client", "there.other"), A)


@pytest.mark.main
def test_headless_service(mesh):
    got = dns.resolve(mesh, "client", "headless.demo.svc.cluster.local")
    assert values(got, A) == sorted([mesh.pods["h1"].ip, mesh.pods["h2"].ip])
    got = dns.resolve(mesh, "client", "h1.headless.demo.svc.cluster.local")
    assert values(got, A) == [mesh.pods["h1"].ip]


def test_endpoint_that_is_not_ready_is_not_in_a_headless_name(mesh):
    mesh.settle(lambda: mesh.set_ready("h2", False))
    got = dns.resolve(mesh, "client", "headless.demo.svc.cluster.local")
    assert values(got, A) == [mesh.pods["h1"].ip]
    mesh.settle(lambda: mesh.set_ready("h2", True))


@pytest.mark.parametrize("suffix", ["demo.svc.cluster.local", "svc.cluster.local", "cluster.local"])
def test_search_domains(mesh, suffix):
    """A resolver with search domains asks for NAME.SUFFIX first: answered at once, by an alias."""
    name = f"api.example.com.{suffix}"
    got = dns.resolve(mesh, "client", name)
    assert got.rcode == NOERROR and values(got, A) == ["240.0.0.1"]
    assert values(got, CNAME) == ["api.example.com"]
    assert got.records[0][0].lower() == name


def test_service_entry(mesh):
    assert values(dns.resolve(mesh, "client", "api.example.com"), A) == ["240.0.0.1"]
    assert values(dns.resolve(mesh, "client", "a.wild.example.com"), A) == ["240.0.0.2"]
    assert dns.resolve(mesh, "client", "wild.example.com").rcode == NXDOMAIN


@pytest.mark.main
@on_both
def test_forwarding(mesh, upstream, tcp):
    """A name of nobody's here: asked upstream, from the pod, and the answer is as it came."""
    got = dns.resolve(mesh, "client", "www.outside.example", tcp=tcp)
    assert got.records == [("www.outside.example", A, 77, "9.9.9.9")]
    question = upstream.seen[-1]
    assert question[2:4] == ("tcp" if tcp else "udp", mesh.pods["client"].ip)


@pytest.mark.parametrize("name,kind", [
    ("www.outside.example", MX), ("_sip._tcp.outside.example", SRV),
    ("www.outside.example", HTTPS), ("server.demo.svc.cluster.local", SRV)])
def test_other_types_are_relayed_byte_for_byte(mesh, upstream, name, kind):
    packet = dns.query(name, kind, extra=b"\0\0\x29\x04\xd0\0\0\x80\0\0\0")
    got = dns.resolve(mesh, "client", name, raw=packet)
    question = upstream.seen[-1]
    assert question[4][2:] == packet[2:], "the question went out as it was"
    assert got.raw[2:] == upstream.answer(packet, "udp", ("test", 0))[2:]


def test_errors_are_relayed(mesh):
    assert dns.resolve(mesh, "client", "nobody.outside.example").rcode == NXDOMAIN
    assert dns.resolve(mesh, "client", "broken.outside.example").rcode in (dns.REFUSED, SERVFAIL)


def test_truncated_answer_then_tcp(mesh):
    got = dns.resolve(mesh, "client", "big.outside.example", TXT)
    assert got.flags & 0x0200 and not got.records
    got = dns.resolve(mesh, "client", "big.outside.example", TXT, tcp=True)
    assert len(got.records) == 20


def test_many_queries_on_one_tcp_connection(mesh):
    import struct
    with mesh.connect("client", ("10.96.0.10", 53)) as conn:
        packets = [dns.query(name) for name in ("server", "www.outside.example") * 10]
        for packet in packets:
            conn.sendall(struct.pack(">H", len(packet)) + packet)
        got = {dns.read_tcp(conn)[:2] for _ in packets}
        assert got == {p[:2] for p in packets}


def test_upstream_that_is_silent(mesh):
    """SERVFAIL before a client's own patience (5 s) ends; names of the mesh need no upstream."""
    assert values(dns.resolve(mesh, "lost", "server"), A) == [mesh.vips["server"]]
    assert dns.resolve(mesh, "lost", "www.outside.example", timeout=6).rcode == SERVFAIL


def test_pod_outside_the_mesh_is_left_alone(mesh, upstream):
    n = len(upstream.seen)
    got = dns.resolve(mesh, "plain", "www.outside.example", server=UPSTREAM)
    assert values(got, A) == ["9.9.9.9"]
    assert dns.resolve(mesh, "plain", "server.demo.svc.cluster.local",
                       server=UPSTREAM).rcode == NXDOMAIN
    assert len(upstream.seen) == n + 2


def test_no_open_resolver(mesh):
    """Nobody else can ask a pod's DNS proxy."""
    packet = dns.query("server.demo.svc.cluster.local")
    for source in ("plain", "stranger", "node1"):
        with mesh.socket(source, kind=socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.3)
            # what a captured pod asks on port 53 goes to its own proxy
            for port in (15053,) if source == "stranger" else (15053, 53):
                with pytest.raises(OSError):
                    sock.connect((mesh.pods["client"].ip, port))
                    sock.send(packet)
                    sock.recv(512)


def test_garbage_is_survived(mesh):
    import os
    with mesh.socket("client", kind=socket.SOCK_DGRAM) as sock:
        for i in range(200):
            sock.sendto(os.urandom(i % 60 + 1), ("10.96.0.10", 53))
    for data in (b"\0\0", b"\xff\xff" + b"x" * 100, b"\0\x0c" + b"\0" * 12):
        with mesh.connect("client", ("10.96.0.10", 53)) as conn:
            conn.sendall(data)
    assert values(dns.resolve(mesh, "client", "server"), A) == [mesh.vips["server"]]


def test_metrics(mesh):
    labels = {"source_canonical_service": "stranger", "request_query_type": "A",
              "request_protocol": "udp"}
    since = mesh.nodes[1].since()
    dns.resolve(mesh, "stranger", "server.demo")
    dns.resolve(mesh, "stranger", "www.outside.example")
    wait_until(lambda: since("istio_dns_requests_total", **labels) == 2, 3)
    assert since("istio_dns_upstream_requests_total", **labels) == 1
    assert since("istio_dns_upstream_request_duration_seconds_count", **labels) == 1


def test_endpoint_that_is_a_name(mesh):
    """Its address is looked up by ztun; connections to it are counted as ztunnel's on-demand DNS."""
    one = mesh.nodes[1]
    mesh.settle(lambda: mesh.apply(service_entry(
        "byname", ["db.example.com"], ["240.0.0.3"], resolution="DNS",
        endpoints=[{"address": "localhost", "ports": {"http": 7070}}])))
    since = one.since()
    with mesh.serve("client", 7070, echo):
        wait_until(lambda: mesh.ask("client", ("240.0.0.3", 80)) == b"hello world", 5)
    assert since("istio_on_demand_dns_total", hostname="localhost", source_workload="client",
                 source_workload_namespace="demo") >= 1
    mesh.delete("ServiceEntry", "byname")


def test_resolve_and_connect(mesh):
    vip = values(dns.resolve(mesh, "client", "server"), A)[0]
    with mesh.serve("server", 8080, echo):
        assert mesh.ask("client", (vip, 80)) == b"hello world"
