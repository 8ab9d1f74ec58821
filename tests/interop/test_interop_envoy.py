# SPDX-License-Identifier: Apache-2.0
"""Envoy on the other end of the tunnel, in both roles: megabytes both ways, endings, refusals."""

import random
import socket
import threading
import time
import zlib

import envoy
import pytest
from lablib import wait_until
from mesh.fixtures import shown  # noqa: F401
from mesh.pki import Authority
from mesh.topology import echo, linger0, read_all, read_exactly

MB = 1 << 20


def build(mesh):
    mesh.pod("client", 1)
    mesh.pod("server", 1, port=8080)
    # These two are Envoys: one outside the mesh that speaks HBONE, one that ztun takes for a member
    # of the mesh on a node without ztun.
    mesh.pod("gateway", 2, captured=False)
    mesh.pod("sandwich", 2, port=8080)


@pytest.fixture(scope="module")
def mesh():
    from mesh.topology import Mesh
    made = Mesh()
    try:
        build(made)
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


@pytest.fixture(scope="module")
def envoy_client(mesh, authority, envoy_program):
    """Envoy → ztun. Connect to the gateway's port 9000."""
    peer = authority.issue("spiffe://cluster.local/ns/demo/sa/gateway")
    ip = mesh.pods["server"].ip
    made = envoy.Envoy(envoy_program, mesh, "gateway", *envoy.client(
        9000, ip, f"{ip}:8080", peer, [mesh.pods["server"].identity]))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def envoy_server(mesh, authority, envoy_program):
    """ztun → Envoy → 127.0.0.1:8080 in the pod."""
    own = authority.issue(mesh.pods["sandwich"].identity)
    made = envoy.Envoy(envoy_program, mesh, "sandwich", *envoy.server("0.0.0.0", own, 8080))
    yield made
    made.stop()


class Way:
    """How a test's client reaches a test's server through Envoy."""

    def __init__(self, mesh, source, to, server):
        self.mesh, self.source, self.to, self.server = mesh, source, to, server

    def connect(self):
        conn = self.mesh.connect(self.source, self.to)
        conn.settimeout(20)
        return conn

    def serve(self, handler=None):
        return self.mesh.serve(self.server, 8080, handler)


@pytest.fixture(params=["envoy to ztun", "ztun to envoy"])
def way(request, mesh):
    if request.param == "envoy to ztun":
        request.getfixturevalue("envoy_client")
        return Way(mesh, "node1", (mesh.pods["gateway"].ip, 9000), "server")
    request.getfixturevalue("envoy_server")
    return Way(mesh, "client", (mesh.pods["sandwich"].ip, 8080), "sandwich")


@pytest.mark.main
def test_echo(way):
    with way.serve(echo):
        for _ in range(20):
            with way.connect() as conn:
                conn.sendall(b"hello")
                conn.shutdown(socket.SHUT_WR)
                assert read_all(conn) == b"hello"


@pytest.mark.main
@pytest.mark.parametrize("flows", [1, 8])
def test_megabytes_both_ways(way, flows):
    size = 10 * MB
    with way.serve(echo):
        results = []

        def run(seed):
            data = random.Random(seed).randbytes(size)
            with way.connect() as conn:
                thread = threading.Thread(target=lambda: (conn.sendall(data),
                                                          conn.shutdown(socket.SHUT_WR)),
                                          daemon=True)
                thread.start()
                results.append(zlib.crc32(read_all(conn)) == zlib.crc32(data))
                thread.join(10)

        threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(flows)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert results == [True] * flows


@pytest.mark.main
def test_half_close_by_client(way):
    with way.serve() as server, way.connect() as client:
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        conn = server.conn()
        assert read_all(conn) == b"question"
        time.sleep(0.2)
        data = random.Random(3).randbytes(3 * MB)
        threading.Thread(target=lambda: (conn.sendall(data), conn.close()), daemon=True).start()
        assert read_all(client) == data


def test_server_ends_first(way):
    """Envoy takes the server's end for that of the whole exchange, and cuts the other direction
    without an error: the client still gets everything that was sent, and a clean end."""
    data = random.Random(4).randbytes(1_000_000)  # what exceeds our first window Envoy drops
    for _ in range(10):
        with way.serve() as server, way.connect() as client:
            client.sendall(b"x")
            conn = server.conn()
            assert conn.recv(1) == b"x"
            conn.sendall(data)
            conn.shutdown(socket.SHUT_WR)
            time.sleep(0.05)
            assert read_all(client) == data


def test_reset_by_client(way):
    """The other end is told at once. (Envoy knows only one way to end a connection: a FIN.)"""
    with way.serve() as server:
        client = way.connect()
        client.sendall(b"x")
        conn = server.conn()
        assert conn.recv(1) == b"x"
        linger0(client)
        client.close()
        conn.settimeout(3)
        try:
            assert conn.recv(1) == b""
        except ConnectionResetError:
            pass


def test_reset_by_server(way):
    with way.serve() as server:
        client = way.connect()
        client.sendall(b"x")
        conn = server.conn()
        assert conn.recv(1) == b"x"
        linger0(conn)
        conn.close()
        client.settimeout(3)
        try:
            assert client.recv(1) == b""
        except ConnectionResetError:
            pass
        client.close()


def test_slow_reader(way):
    """Flow control across two implementations: nothing is lost, another flow is not held up."""
    go = threading.Event()
    got = []

    def serve(conn):
        if read_exactly(conn, 1) == b"e":
            echo(conn)
            return
        go.wait(20)
        got.append(zlib.crc32(read_all(conn)))

    data = random.Random(9).randbytes(20 * MB)
    with way.serve(serve):
        slow = way.connect()
        slow.sendall(b"s")
        thread = threading.Thread(target=lambda: (slow.sendall(data), slow.close()), daemon=True)
        thread.start()
        time.sleep(0.5)
        with way.connect() as conn:
            conn.sendall(b"e")
            for _ in range(50):
                conn.sendall(b"ping")
                assert read_exactly(conn, 4) == b"ping"
        go.set()
        wait_until(lambda: got == [zlib.crc32(data)], 20)


def test_server_is_down(way):
    """Nothing listens at the end: the client sees a failure, quickly."""
    with pytest.raises(OSError):
        with way.connect() as conn:
            conn.sendall(b"x")
            if conn.recv(1) == b"":
                raise ConnectionError("ended")


def test_denied_by_policy(mesh, envoy_client):
    """ztun answers Envoy's CONNECT with 401."""
    mesh.settle(lambda: mesh.policy("no", "DENY", [{"from": [{"source": {
        "principals": ["cluster.local/ns/demo/sa/gateway"]}}]}]))
    mark = mesh.nodes[1].mark()
    try:
        with mesh.serve("server", 8080, echo):
            mesh.fails("node1", (mesh.pods["gateway"].ip, 9000))
        line = mesh.nodes[1].access(mark, direction="inbound")[0]
        assert "demo/no" in line["error"], line
    finally:
        mesh.settle(lambda: mesh.delete("AuthorizationPolicy", "no"))


def test_source_as_envoy_says_it(mesh, envoy_client):
    """The identity in the log is that of Envoy's certificate; the address is Envoy's."""
    mark = mesh.nodes[1].mark()
    with mesh.serve("server", 8080, echo):
        assert mesh.ask("node1", (mesh.pods["gateway"].ip, 9000)) == b"hello world"
    line = mesh.nodes[1].access(mark, direction="inbound")[0]
    assert line["src.identity"] == "spiffe://cluster.local/ns/demo/sa/gateway"
    assert line["src.addr"].startswith(mesh.pods["gateway"].ip)


def test_envoy_restarts(mesh, authority, envoy_program):
    """The pooled tunnel to an Envoy that was replaced is stale: no request notices."""
    own = authority.issue(mesh.pods["sandwich"].identity)
    with mesh.serve("sandwich", 8080, echo):
        for _ in range(2):
            made = envoy.Envoy(envoy_program, mesh, "sandwich",
                               *envoy.server("0.0.0.0", own, 8080))
            try:
                for _ in range(5):
                    assert mesh.ask("client", ("sandwich", 8080)) == b"hello world"
            finally:
                made.process.kill()
                made.process.wait(10)
