# SPDX-License-Identifier: Apache-2.0
"""Peers that break the rules: on each port, in the handshake, in HTTP/2, in the request. Every time
the answer is the right one, ztun lives, others are served, and nothing is left over."""

import random
import socket
import ssl
import struct
import time

import pytest
from lablib import PATIENCE, SANITIZED, wait_until
from mesh import h2 as http2
from mesh.fixtures import module_mesh, shown  # noqa: F401
from mesh.h2 import (ACK, CANCEL, CONTINUATION, DATA, END_HEADERS, ENHANCE_YOUR_CALM, FRAME_SIZE_ERROR,
                     GOAWAY, HEADERS, PADDED, PING, PREFACE, PROTOCOL_ERROR,
                     RST_STREAM, SETTINGS, WINDOW_UPDATE, H2, Ended, block, frame, hbone, tls)
from mesh.pki import Authority
from mesh.topology import echo, linger0, read_exactly

MB = 1 << 20


def build(mesh):
    mesh.pod("client", 1)
    mesh.pod("plain", 1, captured=False)
    mesh.pod("server", 2, port=8080)
    mesh.nodes[2].env = {"UNSTABLE_ENABLE_SOCKS5": "true"}


mesh = module_mesh(build)


@pytest.fixture(scope="module")
def authority(mesh):
    made = Authority(mesh.ca)
    yield made
    made.close()


@pytest.fixture(scope="module")
def peer(authority):
    return authority.issue("spiffe://cluster.local/ns/demo/sa/client")


@pytest.fixture(autouse=True)
def all_is_well(mesh, shown):  # noqa: F811
    """Around each test: a flow that runs meanwhile; a new one afterwards; no gauge, no descriptor
    and no memory left."""
    server = mesh.serve("server", 8080, echo)
    with mesh.connect("client", ("server", 8080)) as conn:
        conn.sendall(b"ping")
        assert read_exactly(conn, 4) == b"ping"
        before = mesh.nodes[2].fds()
        yield
        conn.sendall(b"pong")
        assert read_exactly(conn, 4) == b"pong", "the flow that ran meanwhile goes on"
    for node in mesh.nodes.values():
        node.alive()
    assert mesh.ask("client", ("server", 8080)) == b"hello world"
    wait_until(lambda: mesh.nodes[2].fds() <= before, 15, "descriptors are given back")
    server.close()
    mesh.gauges_are_zero()


@pytest.fixture
def target(mesh):
    return f"{mesh.pods['server'].ip}:8080"


@pytest.fixture
def tunnel(mesh, peer):
    made = hbone(mesh, "plain", ("server", 15008), peer)
    yield made
    made.close()


def is_ended(conn, timeout=5):
    """The other side ends the connection, whatever it says before."""
    conn.settimeout(timeout)
    try:
        while conn.recv(1 << 16):
            pass
    except socket.timeout:
        raise AssertionError("the connection stays open") from None
    except OSError:
        pass


# Garbage


GARBAGE = {
    "random": random.Random(1).randbytes(5000),
    "zeros": bytes(3000),
    "ones": b"\xff" * 3000,
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "h2 in the clear": PREFACE + frame(SETTINGS),
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "huge record": b"\x16\x03\x01\xff\xff" + b"\x01" * 70000,
    "empty records": b"\x16\x03\x01\0\0" * 1000,
    "half a client hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 100,
    "alert": b"\x15\x03\x03\0\x02\x02\x28",
}


@pytest.mark.main
@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("port", [15001, 15006, 15008, 15053])
def test_garbage(mesh, port, garbage):
    """Each of the pod's ports, from outside and from the pod itself."""
    for source in ("plain", "server"):
        try:
            conn = mesh.connect(source, ("server", port), timeout=2)
        except OSError:
            continue
        with conn:
            try:
                conn.sendall(GARBAGE[garbage])
                conn.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            is_ended(conn)


@pytest.mark.parametrize("port", [15020, 15021, 15000])
def test_garbage_at_the_nodes_ports(mesh, port):
    for data in [*GARBAGE.values(), b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
                 b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 5000 + b"\r\n",
                 b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n"]:
        with mesh.connect("node2", ("127.0.0.1", port)) as conn:
            try:
                conn.sendall(data)
                conn.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            is_ended(conn)
    assert mesh.nodes[2].get("/healthz/ready", 15021)[0] == 200


# Handshakes


def refused(mesh, mark, text, make):
    """The handshake, or the first request after it, fails; nothing is dialled; the log says why."""
    n = len(mesh.servers[-1].conns)
    with pytest.raises((OSError, ssl.SSLError, Ended)):
        made = make()
        conn = made if isinstance(made, H2) else H2(made)
        try:
            conn.status(conn.connect(f"{mesh.pods['server'].ip}:8080"))
        finally:
            conn.close()
    assert len(mesh.servers[-1].conns) == n
    lines = mesh.nodes[2].access(mark, level="warn")
    assert text in lines[0]["error"], lines


def test_tls_12(mesh, peer):
    refused(mesh, mesh.nodes[2].mark(), "TLS", lambda: tls(
        mesh, "plain", ("server", 15008), peer, version=ssl.TLSVersion.TLSv1_2))


@pytest.mark.parametrize("alpn", [("http/1.1",), ("h3",), ()], ids=["http1", "h3", "none"])
def test_wrong_alpn(mesh, peer, alpn):
    refused(mesh, mesh.nodes[2].mark(), "TLS",
            lambda: tls(mesh, "plain", ("server", 15008), peer, alpn=alpn))


@pytest.mark.main
def test_no_client_certificate(mesh, peer):
    refused(mesh, mesh.nodes[2].mark(), "TLS",
            lambda: tls(mesh, "plain", ("server", 15008), peer, with_cert=False))


CERTIFICATES = {
    "expired": dict(spiffe="spiffe://cluster.local/ns/demo/sa/client", start=-7200, end=-60),
    "not yet valid": dict(spiffe="spiffe://cluster.local/ns/demo/sa/client", start=3600, end=7200),
    "other trust domain": dict(spiffe="spiffe://elsewhere/ns/demo/sa/client"),
    "not a SPIFFE id": dict(spiffe="https://cluster.local/ns/demo/sa/client"),
    "short SPIFFE id": dict(spiffe="spiffe://cluster.local/demo/client"),
    "empty parts": dict(spiffe="spiffe://cluster.local/ns//sa/client"),
    "dns name only": dict(spiffe="", sans="DNS:server.demo.svc"),
    "no name": dict(spiffe="", sans=""),
    "two URIs": dict(spiffe="", sans="URI:spiffe://cluster.local/ns/demo/sa/client,"
                                     "URI:spiffe://cluster.local/ns/demo/sa/server"),
    "server only": dict(spiffe="spiffe://cluster.local/ns/demo/sa/client", usage="serverAuth"),
}


@pytest.mark.parametrize("what", CERTIFICATES)
def test_wrong_certificate(mesh, authority, what):
    refused(mesh, mesh.nodes[2].mark(), "TLS", lambda: tls(
        mesh, "plain", ("server", 15008), authority.issue(**CERTIFICATES[what])))


@pytest.mark.main
def test_certificate_of_a_strange_authority(mesh, peer):
    stranger = Authority()
    try:
        leaf = stranger.issue("spiffe://cluster.local/ns/demo/sa/client")
        leaf.root = peer.root
        refused(mesh, mesh.nodes[2].mark(), "TLS",
                lambda: tls(mesh, "plain", ("server", 15008), leaf))
    finally:
        stranger.close()


def test_slow_handshakes(mesh, peer):
    """A client that says nothing, one that says half, one that says a byte a second: all are
    ended after 10 s; one that never asks for anything after its handshake, too. The same with
    SOCKS5."""
    conns = [mesh.connect("plain", ("server", 15008)) for _ in range(3)]
    conns[1].sendall(GARBAGE["half a client hello"])
    quiet = tls(mesh, "plain", ("server", 15008), peer)
    begun = hbone(mesh, "plain", ("server", 15008), peer)
    socks = [mesh.connect("server", ("127.0.0.1", 15080)) for _ in range(2)]
    start = time.monotonic()
    drips = {conns[2]: GARBAGE["half a client hello"], socks[1]: b"\5\xff" + bytes([7] * 20)}
    open_conns = {*conns, *socks, quiet, begun.sock}
    for i in range(13):
        for conn in list(open_conns):
            conn.settimeout(0.001)
            try:
                if conn in drips:
                    conn.send(drips[conn][i:i + 1])
                while conn.recv(4096):
                    pass
                open_conns.discard(conn)
            except (socket.timeout, ssl.SSLWantReadError):
                pass
            except OSError:
                open_conns.discard(conn)
        if not open_conns:
            break
        time.sleep(1)
    assert not open_conns, f"{len(open_conns)} of 7 are still open"
    assert 8 < time.monotonic() - start
    for conn in [*conns, *socks, quiet]:
        conn.close()
    begun.close()


# Requests: the right status, and the tunnel stays


def field_list(target, **changes):
    fields = {":method": "CONNECT", ":authority": target, **changes}
    return [(k, v) for k, v in fields.items() if v is not None]


@pytest.mark.main
@pytest.mark.parametrize("fields,want", [
    ([(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "a")], "400"),
    ([(":method", "POST"), (":scheme", "https"), (":path", "/"), (":authority", "a")], "400"),
    ([(":method", "CONNECT"), (":authority", "nonsense")], "400"),
    ([(":method", "CONNECT"), (":authority", "10.77.2.12")], "400"),
    ([(":method", "CONNECT"), (":authority", "10.77.2.12:0")], "400"),
    ([(":method", "CONNECT"), (":authority", "10.77.2.12:70000")], "400"),
    ([(":method", "CONNECT"), (":authority", "10.77.2.12:8080x")], "400"),
    ([(":method", "CONNECT"), (":authority", "user@10.77.2.12:8080")], "400"),
    ([(":method", "CONNECT"), (":authority", "[::1]:8080")], "400"),
    ([(":method", "CONNECT"), (":authority", "10.0.0.1:8080")], "400"),
    ([(":method", "CONNECT"), (":authority", "")], "400"),
    ([(":method", "CONNECT"), (":authority", "x" * 2000 + ":80")], "400"),
], ids=lambda v: "".join(x for _, x in v)[:30] if isinstance(v, list) else v)
def test_bad_request(mesh, tunnel, target, fields, want):
    fields = [(k, v.replace("10.77.2.12", mesh.pods["server"].ip)) for k, v in fields]
    got = tunnel.status(tunnel.request(fields))
    # what HTTP/2 itself forbids may be answered by a stream error
    assert got == want or got == f"reset {PROTOCOL_ERROR}", got
    assert tunnel.status(tunnel.connect(target)) == "200", "the tunnel is fine"


@pytest.mark.parametrize("name,value", [("baggage", "x" * 10000), ("baggage", "=,;=,"),
                                        ("forwarded", "for=\"[::"), ("traceparent", "zz"),
                                        ("x-unknown", "y")],
                         ids=lambda v: v[:12])
def test_odd_headers_are_no_harm(tunnel, target, name, value):
    assert tunnel.status(tunnel.connect(target, (name, value))) == "200"


@pytest.mark.parametrize("port", [15001, 15006, 15008, 15053, 15080])
def test_own_ports_as_target(mesh, tunnel, port):
    """No loop through the proxy itself."""
    got = tunnel.status(tunnel.connect(f"{mesh.pods['server'].ip}:{port}"))
    assert got in ("400", "503"), got


def test_closed_port_as_target(mesh, tunnel):
    assert tunnel.status(tunnel.connect(f"{mesh.pods['server'].ip}:9")) == "503"


def test_connect_with_a_body_at_once(tunnel, target):
    """DATA right behind the request, before any answer; END_STREAM at once."""
    stream = tunnel.connect(target)
    tunnel.send(stream, b"early bird", end=True)
    tunnel.until(lambda: stream in tunnel.ended)
    assert tunnel.data[stream] == b"early bird"
    stream = tunnel.connect(target, end=True)
    tunnel.until(lambda: stream in tunnel.ended or stream in tunnel.resets)


# HTTP/2


def connection_error(conn, *codes, timeout=8):
    """The peer ends the connection with GOAWAY of one of these codes."""
    conn.end(timeout)
    assert conn.goaway is not None, "no GOAWAY"
    assert conn.goaway[1] in codes, conn.goaway


@pytest.mark.parametrize("what,codes", [
    (frame(DATA, 0, 0, b"x"), (PROTOCOL_ERROR,)),
    (frame(DATA, 0, 1, b"x"), (PROTOCOL_ERROR, http2.STREAM_CLOSED)),
    (frame(HEADERS, END_HEADERS, 0, b""), (PROTOCOL_ERROR,)),
    (frame(HEADERS, END_HEADERS, 2, block([(":method", "CONNECT")])), (PROTOCOL_ERROR,)),
    (frame(HEADERS, END_HEADERS, 1, b"\x80"), (http2.COMPRESSION_ERROR,)),
    (frame(HEADERS, END_HEADERS | PADDED, 1, b"\xff"), (PROTOCOL_ERROR,)),
    (frame(CONTINUATION, END_HEADERS, 1, b""), (PROTOCOL_ERROR,)),
    (frame(HEADERS, 0, 1, b"") + frame(PING, 0, 0, b"8" * 8), (PROTOCOL_ERROR,)),
    (frame(SETTINGS, 0, 1), (PROTOCOL_ERROR,)),
    (frame(SETTINGS, 0, 0, b"12345"), (FRAME_SIZE_ERROR,)),
    (frame(SETTINGS, ACK, 0, b"123456"), (FRAME_SIZE_ERROR,)),
    (frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 31)), (http2.FLOW_CONTROL_ERROR,)),
    (frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 1)), (PROTOCOL_ERROR,)),
    (frame(PING, 0, 0, b"short"), (FRAME_SIZE_ERROR,)),
    (frame(PING, 0, 1, b"8" * 8), (PROTOCOL_ERROR,)),
    (frame(RST_STREAM, 0, 1, b"\0\0\0\x08"), (PROTOCOL_ERROR,)),
    (frame(RST_STREAM, 0, 0, b"\0\0\0\x08"), (PROTOCOL_ERROR,)),
    (frame(WINDOW_UPDATE, 0, 0, bytes(4)), (PROTOCOL_ERROR,)),
    (frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 2, (http2.FLOW_CONTROL_ERROR,)),
    (frame(http2.PUSH_PROMISE, END_HEADERS, 1, bytes(4)), (PROTOCOL_ERROR,)),
    (frame(GOAWAY, 0, 1, bytes(8)), (PROTOCOL_ERROR,)),
    (b"\xff\xff\xff\0\0\0\0\0\0", (FRAME_SIZE_ERROR, PROTOCOL_ERROR)),
], ids=lambda v: v[:14].hex() if isinstance(v, bytes) else None)
def test_frame_errors(tunnel, what, codes):
    tunnel.write(what)
    connection_error(tunnel, *codes)


def test_no_preface(mesh, peer):
    conn = H2(tls(mesh, "plain", ("server", 15008), peer), preface=False)
    conn.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 4)
    conn.end()
    conn.close()


def flood(conn, data, seconds=8):
    """Sends until the other side has had enough."""
    end = time.monotonic() + seconds * PATIENCE
    conn.sock.settimeout(2)
    try:
        while time.monotonic() < end:
            conn.write(data)
            conn.sock.settimeout(0.0005)
            try:
                while True:
                    conn.read()
            except (socket.timeout, ssl.SSLWantReadError):
                pass
            conn.sock.settimeout(2)
    except Ended:
        return
    except (OSError, ssl.SSLError):
        return
    pytest.fail("floods without end are taken")


@pytest.mark.main
def test_rapid_reset(tunnel, target):
    """CVE-2023-44487: requests that are taken back at once."""

    def requests(n):
        out = b""
        for _ in range(n):
            stream, tunnel.next_stream = tunnel.next_stream, tunnel.next_stream + 2
            head, tunnel.prefix = tunnel.prefix + block([(":method", "CONNECT"),
                                                         (":authority", target)]), b""
            out += frame(HEADERS, END_HEADERS, stream, head) \
                + frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))
        return out

    tunnel.until(lambda: tunnel.n_settings > 0)
    end = time.monotonic() + 10 * PATIENCE
    try:
        while time.monotonic() < end:
            tunnel.write(requests(100))
            tunnel.sock.settimeout(0.0005)
            try:
                while True:
                    tunnel.read()
            except (socket.timeout, ssl.SSLWantReadError):
                tunnel.sock.settimeout(2)
    except (Ended, OSError):
        pass
    else:
        pytest.fail("resets without end are taken")
    assert tunnel.goaway is None or tunnel.goaway[1] == ENHANCE_YOUR_CALM


def test_continuation_flood(tunnel):
    """CVE-2024-27316: a header block without end."""
    tunnel.write(frame(HEADERS, 0, 1, b""))
    flood(tunnel, frame(CONTINUATION, 0, 1, b"\0\x01a\x01b" * 200) * 20)


def test_empty_continuation_flood(tunnel):
    tunnel.write(frame(HEADERS, 0, 1, b""))
    flood(tunnel, frame(CONTINUATION, 0, 1, b"") * 500)


def test_settings_flood(tunnel):
    flood(tunnel, frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65535)) * 500)


def test_ping_flood(tunnel):
    flood(tunnel, frame(PING, 0, 0, b"12345678") * 500)


def test_empty_data_flood(tunnel, target):
    stream = tunnel.connect(target)
    assert tunnel.status(stream) == "200"
    flood(tunnel, frame(DATA, 0, stream, b"") * 500)


def test_window_update_flood(tunnel, target):
    stream = tunnel.connect(target)
    assert tunnel.status(stream) == "200"
    flood(tunnel, frame(WINDOW_UPDATE, 0, stream, b"\0\0\0\1") * 500)


def test_more_data_than_the_window(tunnel, target):
    """A peer that ignores flow control."""
    stream = tunnel.connect(target)
    assert tunnel.status(stream) == "200"
    tunnel.credit = False
    end = time.monotonic() + 10 * PATIENCE
    try:
        while time.monotonic() < end and stream not in tunnel.resets:
            tunnel.sock.settimeout(2)
            tunnel.write(frame(DATA, 0, stream, b"x" * 16384) * 64)
            tunnel.sock.settimeout(0.001)
            try:
                while True:
                    tunnel.read()
            except (socket.timeout, ssl.SSLWantReadError):
                pass
    except (Ended, OSError):
        pass
    assert tunnel.goaway is not None or stream in tunnel.resets


def test_tiny_windows(mesh, peer, target):
    """A peer that grants a byte at a time gets its bytes, one at a time, and does no harm."""
    conn = hbone(mesh, "plain", ("server", 15008), peer, settings=[(4, 1)])
    conn.credit = False
    stream = conn.connect(target)
    assert conn.status(stream) == "200"
    conn.send(stream, b"0123456789", end=True)
    for n in range(1, 11):
        conn.until(lambda: len(conn.data.get(stream, b"")) >= n)  # noqa: B023
        conn.write(frame(WINDOW_UPDATE, 0, stream, b"\0\0\0\1"))
    assert conn.data[stream] == b"0123456789"
    conn.close()


def test_more_streams_than_allowed(tunnel, target):
    """Beyond the limit: refused, a stream error; the others live."""
    streams = [tunnel.connect(target) for _ in range(250)]
    got = [tunnel.status(s) for s in streams]
    assert got.count("200") >= 100 and got[0] == "200"
    assert set(got[200:]) <= {f"reset {http2.REFUSED_STREAM}", "503"}, set(got)
    tunnel.send(streams[0], b"fine", end=True)
    tunnel.until(lambda: streams[0] in tunnel.ended)


def test_peer_that_reads_nothing(mesh, tunnel, target):
    """A client that asks for much and reads none of it: memory stays bounded."""
    two = mesh.nodes[2]
    before = two.memory()
    tunnel.credit = False
    streams = [tunnel.connect(target) for _ in range(50)]
    for stream in streams:
        assert tunnel.status(stream) == "200"
    tunnel.sock.settimeout(0.2)
    try:
        for _ in range(40):
            for stream in streams:
                tunnel.write(frame(DATA, 0, stream, b"x" * 1000))
    except (OSError, ssl.SSLError):
        pass
    time.sleep(0.3)
    assert two.memory() - before < 64 * MB or SANITIZED


def test_reset_after_half_of_a_request(mesh, peer, target):
    """Connections that break off at each point."""
    for n in range(5):
        for _ in range(20):
            raw = mesh.connect("plain", ("server", 15008))
            if n > 0:
                try:
                    conn = H2(peer.context().wrap_socket(raw))
                    raw = conn.sock
                    if n > 1:
                        stream = conn.connect(target)
                    if n > 2:
                        conn.status(stream)
                    if n > 3:
                        conn.send(stream, b"x" * 100_000)
                except (OSError, ssl.SSLError, Ended):
                    pass
            linger0(raw)
            raw.close()


def test_streams_that_are_cut(mesh, tunnel, target):
    """RST_STREAM of any code other than NO_ERROR is a reset to the application, never an end."""
    server = mesh.servers[-1]
    for code in (CANCEL, http2.INTERNAL_ERROR, http2.CONNECT_ERROR, PROTOCOL_ERROR):
        n = len(server.errors)
        stream = tunnel.connect(target)
        assert tunnel.status(stream) == "200"
        tunnel.send(stream, b"half of a mess")
        tunnel.until(lambda: tunnel.data.get(stream))  # noqa: B023
        tunnel.reset(stream, code)
        wait_until(lambda: len(server.errors) > n, 3, f"code {code} is a reset")  # noqa: B023
    stream = tunnel.connect(target)
    assert tunnel.status(stream) == "200", "the tunnel lives on"


def test_tunnel_without_close_notify(mesh, peer, target):
    """TCP FIN without an end of the TLS session: streams were cut."""
    server = mesh.servers[-1]
    conn = hbone(mesh, "plain", ("server", 15008), peer)
    stream = conn.connect(target)
    assert conn.status(stream) == "200"
    n = len(server.errors)
    raw = socket.socket(fileno=conn.sock.detach())
    raw.shutdown(socket.SHUT_WR)
    wait_until(lambda: len(server.errors) > n, 3, "the application sees a reset")
    raw.close()


def test_end_flag_on_headers_frames(tunnel, target):
    """Trailers, and a second HEADERS without END_STREAM, on a CONNECT stream: RFC 9113 8.5 allows
    only DATA; a stream error, or the end."""
    stream = tunnel.connect(target)
    assert tunnel.status(stream) == "200"
    tunnel.headers(stream, [("trailer", "x")], end=True)
    tunnel.until(lambda: stream in tunnel.ended or stream in tunnel.resets)
    assert tunnel.status(tunnel.connect(target)) == "200"
