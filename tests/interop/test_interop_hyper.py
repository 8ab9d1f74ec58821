# SPDX-License-Identifier: Apache-2.0
"""hyper-h2, which has a strict state machine of its own, as HBONE client and as HBONE server; and
OpenSSL's program in front of ztun's TLS."""

import random
import re
import socket
import threading

import pytest
from lablib import wait_until
from mesh.fixtures import shown  # noqa: F401
from mesh.h2 import tls
from mesh.pki import Authority
from mesh.topology import Mesh, Server, echo, linger0, read_all, read_exactly

MB = 1 << 20
CONNECT_ERROR, CANCEL, NO_ERROR, REFUSED_STREAM = 10, 8, 0, 7


@pytest.fixture(scope="module")
def mesh():
    made = Mesh()
    try:
        made.pod("client", 1)
        made.pod("server", 1, port=8080)
        made.pod("plain", 2, captured=False)
        made.pod("hyper", 2, port=8080)  # a member of the mesh whose HBONE server is a test's
        made.nodes[1].start()
        yield made
        made.gauges_are_zero()
    finally:
        bad = made.stop()
    assert not bad, "\n".join(bad)


@pytest.fixture(scope="module")
def authority(mesh):
    made = Authority(mesh.ca)
    yield made
    made.close()


class Peer:
    """A hyper-h2 connection on a TLS socket. What it does not allow raises."""

    def __init__(self, hyper, sock, client):
        self.events_of, self.sock = hyper.events, sock
        self.h2 = hyper.connection.H2Connection(hyper.config.H2Configuration(
            client_side=client, header_encoding="utf-8", validate_inbound_headers=False,
            validate_outbound_headers=False))
        self.data, self.heads, self.ended, self.resets = {}, {}, set(), {}
        self.goaway, self.lock = None, threading.RLock()
        self.h2.initiate_connection()
        self.flush()

    def flush(self):
        with self.lock:
            out = self.h2.data_to_send()
            if out:
                self.sock.sendall(out)

    def read(self):
        """False at the end of the connection."""
        got = self.sock.recv(1 << 16)
        if not got:
            return False
        with self.lock:
            for event in self.h2.receive_data(got):
                self.on_event(event)
            self.flush()
        return True

    def on_event(self, event):
        e, stream = self.events_of, getattr(event, "stream_id", None)
        if isinstance(event, (e.RequestReceived, e.ResponseReceived)):
            self.heads[stream] = dict(event.headers)
            self.on_head(stream)
        elif isinstance(event, e.DataReceived) and event.flow_controlled_length > 0:
            self.data.setdefault(stream, bytearray()).extend(event.data)
            self.h2.acknowledge_received_data(event.flow_controlled_length, stream)
            self.on_data(stream, event.data)
        elif isinstance(event, e.StreamEnded):
            self.ended.add(stream)
            self.on_end(stream)
        elif isinstance(event, e.StreamReset):
            self.resets[stream] = event.error_code
        elif isinstance(event, e.ConnectionTerminated):
            self.goaway = event.error_code

    def on_head(self, stream):
        pass

    def on_data(self, stream, data):
        pass

    def on_end(self, stream):
        pass

    def until(self, condition, timeout=10):
        self.sock.settimeout(timeout)
        while not condition():
            if not self.read():
                raise EOFError

    def send(self, stream, data, end=False):
        at = 0
        while at < len(data):
            n = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size,
                    len(data) - at)
            if n == 0:
                self.until(lambda: self.h2.local_flow_control_window(stream) > 0)
                continue
            self.h2.send_data(stream, data[at:at + n])
            self.flush()
            at += n
        if end:
            self.h2.end_stream(stream)
            self.flush()

    def connect(self, authority):
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, [(":method", "CONNECT"), (":authority", authority)])
        self.flush()
        return stream


# hyper as client


@pytest.fixture
def client(mesh, authority, hyper):
    peer = authority.issue("spiffe://cluster.local/ns/demo/sa/client")
    made = Peer(hyper, tls(mesh, "plain", ("server", 15008), peer), True)
    made.target = f"{mesh.pods['server'].ip}:8080"
    yield made
    made.sock.close()


def test_client_megabytes(mesh, client):
    data = random.Random(1).randbytes(4 * MB)
    with mesh.serve("server", 8080, echo):
        stream = client.connect(client.target)
        client.until(lambda: stream in client.heads)
        assert client.heads[stream][":status"] == "200"
        for at in range(0, len(data), 65536):
            client.send(stream, data[at:at + 65536])
        client.send(stream, b"", end=True)
        client.until(lambda: stream in client.ended)
        assert client.data[stream] == data


def test_client_streams_side_by_side(mesh, client):
    with mesh.serve("server", 8080, echo):
        streams = [client.connect(client.target) for _ in range(50)]
        for stream in streams:
            client.send(stream, b"%d" % stream * 1000, end=True)
        client.until(lambda: set(streams) <= client.ended)
        for stream in streams:
            assert client.data[stream] == b"%d" % stream * 1000


def test_client_half_close_by_server(mesh, client):
    with mesh.serve("server", 8080) as server:
        stream = client.connect(client.target)
        conn = server.conn()
        conn.sendall(b"answer")
        conn.shutdown(socket.SHUT_WR)
        client.until(lambda: stream in client.ended)
        client.send(stream, b"still here", end=True)
        assert read_all(conn) == b"still here"


def test_reset_by_the_application_is_connect_error(mesh, client):
    """RFC 9113 8.5: a TCP reset is RST_STREAM(CONNECT_ERROR), which no peer takes for an end."""
    with mesh.serve("server", 8080) as server:
        stream = client.connect(client.target)
        conn = server.conn()
        conn.sendall(b"x")
        client.until(lambda: client.data.get(stream) == b"x")
        linger0(conn)
        conn.close()
        client.until(lambda: stream in client.resets)
        assert client.resets[stream] == CONNECT_ERROR


@pytest.mark.parametrize("status,target", [("400", "10.1.1.1:80"), ("503", ":9")])
def test_client_refusals(mesh, client, status, target):
    if target.startswith(":"):
        target = mesh.pods["server"].ip + target
    stream = client.connect(target)
    client.until(lambda: stream in client.heads)
    assert client.heads[stream][":status"] == status
    client.until(lambda: stream in client.ended or stream in client.resets)


# hyper as server


class Terminator(Peer):
    """Answers CONNECT. `how` decides what a stream does then."""

    how = "echo"

    def on_head(self, stream):
        if self.how == "refuse":
            self.h2.reset_stream(stream, REFUSED_STREAM)
            return
        status = self.how if self.how.isdigit() else "200"
        self.h2.send_headers(stream, [(":status", status)], end_stream=status != "200")

    def on_data(self, stream, data):
        if self.how == "echo":
            at = 0
            while at < len(data):
                n = min(self.h2.local_flow_control_window(stream), 16384, len(data) - at)
                if n == 0:
                    # answers wait for credit: read on for it
                    self.flush()
                    self.read()
                    continue
                self.h2.send_data(stream, data[at:at + n])
                at += n
        elif self.how.startswith("answer"):
            self.h2.send_data(stream, b"answer" * 10000, end_stream=True)
            if self.how == "answer, then no more":
                self.h2.reset_stream(stream, NO_ERROR)
        elif self.how.startswith("reset"):
            self.h2.send_data(stream, b"part")
            self.h2.reset_stream(stream, int(self.how.split()[1]))
        elif self.how == "vanish":
            self.flush()
            linger0(self.sock)
            raise EOFError
        elif self.how == "close":
            self.h2.send_data(stream, b"part")
            self.flush()
            raise EOFError

    def on_end(self, stream):
        if self.how == "echo":
            self.h2.end_stream(stream)


def first_record(conn):
    """The first TLS record of a connection, which stays to be read."""
    seen = b""

    def is_whole():
        nonlocal seen
        seen = conn.recv(65536, socket.MSG_PEEK)
        return not seen or len(seen) >= 5 and len(seen) >= 5 + int.from_bytes(seen[3:5], "big")

    wait_until(is_whole, 10, "a hello")
    return seen


def key_shares(hello):
    """The groups of the shares in a ClientHello (RFC 8446 4.1.2, 4.2.8)."""
    at = 5 + 4 + 2 + 32
    at += 1 + hello[at]  # session id
    at += 2 + int.from_bytes(hello[at:at + 2], "big")  # suites
    at += 1 + hello[at] + 2  # compression; length of the extensions
    while int.from_bytes(hello[at:at + 2], "big") != 51:
        at += 4 + int.from_bytes(hello[at + 2:at + 4], "big")
    shares, groups = hello[at + 6:at + 4 + int.from_bytes(hello[at + 2:at + 4], "big")], []
    while shares:
        groups.append(int.from_bytes(shares[:2], "big"))
        shares = shares[4 + int.from_bytes(shares[2:4], "big"):]
    return groups


@pytest.fixture
def serve_hyper(mesh, authority, hyper):
    """serve_hyper(how): HBONE on the port 15008 of the pod `hyper`."""
    own = authority.issue(mesh.pods["hyper"].identity)
    servers, peers = [], []

    def serve(how):
        context = own.context(server=True)

        def handle(conn):
            peer = Terminator.__new__(Terminator)
            peer.how, peer.hello = how, first_record(conn)
            peer.__init__(hyper, context.wrap_socket(conn, server_side=True), False)
            peers.append(peer)
            try:
                while peer.read():
                    pass
            except EOFError:
                pass
            finally:
                peer.sock.close()

        servers.append(Server(mesh.listen("hyper", 15008), handle))
        return peers

    yield serve
    for peer in peers:
        try:
            peer.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
    for server in servers:
        server.close()


def test_server_megabytes(mesh, serve_hyper):
    peers = serve_hyper("echo")
    data = random.Random(2).randbytes(2 * MB)
    with mesh.connect("client", ("hyper", 8080), timeout=30) as conn:
        thread = threading.Thread(target=lambda: (conn.sendall(data),
                                                  conn.shutdown(socket.SHUT_WR)), daemon=True)
        thread.start()
        assert read_all(conn) == data
        thread.join(5)
    head = peers[0].heads[1]
    ip = mesh.pods["hyper"].ip
    assert head[":method"] == "CONNECT" and head[":authority"] == f"{ip}:8080"
    assert ":scheme" not in head and ":path" not in head
    assert re.fullmatch(r'for="?10\.77\.1\.\d+:\d+"?', head["forwarded"]), head
    assert "k8s.namespace.name=demo" in head["baggage"]
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", head["traceparent"])
    assert set(head) == {":method", ":authority", "forwarded", "baggage", "traceparent"}


def test_server_without_the_hybrid_group(mesh, serve_hyper):
    """This server has X25519, and not X25519MLKEM768. After the first tunnel a hello brings the share
    for X25519 alone, so that the server has nothing to ask for."""
    peers = serve_hyper("echo")
    for _ in range(3):
        with mesh.connect("client", ("hyper", 8080)) as conn:
            conn.sendall(b"ping")
            assert read_exactly(conn, 4) == b"ping"
        peers[-1].sock.shutdown(socket.SHUT_RDWR)  # the next connection needs another tunnel
        wait_until(lambda: mesh.nodes[1].metric("hbone_pool_tunnels") == 0, 10,
                   "no tunnel")
    assert len(peers) == 3
    assert [key_shares(peer.hello) for peer in peers[1:]] == [[0x1d], [0x1d]]


def test_server_ends_first(mesh, serve_hyper):
    serve_hyper("answer")
    for _ in range(5):
        with mesh.connect("client", ("hyper", 8080)) as conn:
            conn.sendall(b"x")
            assert read_all(conn) == b"answer" * 10000


def test_server_wants_no_more(mesh, serve_hyper):
    """A whole answer and then RST_STREAM(NO_ERROR), as RFC 9113 8.1 allows and Envoy does: the
    client gets the whole answer and a clean end, however late it reads."""
    import time
    serve_hyper("answer, then no more")
    for _ in range(5):
        with mesh.connect("client", ("hyper", 8080)) as conn:
            conn.sendall(b"x")
            time.sleep(0.1)
            assert read_all(conn) == b"answer" * 10000


@pytest.mark.parametrize("how", [f"reset {CONNECT_ERROR}", f"reset {CANCEL}",
                                 f"reset {NO_ERROR}", "reset 2", "vanish", "close"])
def test_cut_by_the_server_is_a_reset(mesh, serve_hyper, how):
    """Whatever cuts a stream before its END_STREAM: never a FIN."""
    serve_hyper(how)
    with mesh.connect("client", ("hyper", 8080)) as conn:
        conn.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            while conn.recv(4096):
                pass
            # ztunnel, too, takes RST_STREAM(NO_ERROR) for an end (hard-cases names the exception)
            if how == f"reset {NO_ERROR}":
                raise ConnectionResetError
            pytest.fail("looks complete")


@pytest.mark.parametrize("how,text", [("401", "401"), ("400", "400"), ("503", "503"),
                                      ("404", "404"), ("refuse", "")])
def test_refused_by_the_server(mesh, serve_hyper, how, text):
    serve_hyper(how)
    mark = mesh.nodes[1].mark()
    mesh.fails("client", ("hyper", 8080))
    line = mesh.nodes[1].access(mark, direction="outbound")[0]
    assert text in line["error"], line


def test_reset_by_the_client_is_connect_error(mesh, serve_hyper):
    peers = serve_hyper("echo")
    conn = mesh.connect("client", ("hyper", 8080))
    conn.sendall(b"x")
    assert read_exactly(conn, 1) == b"x"
    linger0(conn)
    conn.close()
    wait_until(lambda: peers[0].resets == {1: CONNECT_ERROR}, 3)


# OpenSSL


def test_openssl_client(mesh, authority):
    """TLS as another implementation sees it: version, suite, ALPN, no session tickets, the chain."""
    peer = authority.issue("spiffe://cluster.local/ns/demo/sa/client")
    done = mesh.run("plain", "openssl", "s_client", "-connect",
                    f"{mesh.pods['server'].ip}:15008", "-alpn", "h2", "-cert", peer.cert, "-key",
                    peer.key, "-CAfile", peer.root, "-tls1_3", "-showcerts", input=b"")
    out = done.stdout.decode(errors="replace")
    assert "Verify return code: 0 (ok)" in out, out
    assert "ALPN protocol: h2" in out and "TLSv1.3" in out
    assert "TLS_AES_" in out
    assert "New Session Ticket arrived" not in out


@pytest.mark.parametrize("suite", ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"])
@pytest.mark.parametrize("group", ["X25519", "P-256"])
def test_openssl_suites_and_groups(mesh, authority, suite, group):
    peer = authority.issue("spiffe://cluster.local/ns/demo/sa/client")
    done = mesh.run("plain", "openssl", "s_client", "-connect",
                    f"{mesh.pods['server'].ip}:15008", "-alpn", "h2", "-cert", peer.cert, "-key",
                    peer.key, "-CAfile", peer.root, "-ciphersuites", suite, "-groups", group,
                    input=b"")
    assert suite in done.stdout.decode(errors="replace"), done.stdout.decode(errors="replace")


def test_openssl_chacha_is_refused(mesh, authority):
    peer = authority.issue("spiffe://cluster.local/ns/demo/sa/client")
    done = mesh.run("plain", "openssl", "s_client", "-connect",
                    f"{mesh.pods['server'].ip}:15008", "-alpn", "h2", "-cert", peer.cert, "-key",
                    peer.key, "-CAfile", peer.root, "-ciphersuites",
                    "TLS_CHACHA20_POLY1305_SHA256", input=b"")
    assert done.returncode != 0
