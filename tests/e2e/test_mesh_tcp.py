# SPDX-License-Identifier: Apache-2.0
"""What a TCP connection keeps on its way through two proxies: its bytes, its endings, its
addresses."""

import random
import re
import socket
import threading
import time
import zlib

import pytest
from lablib import PATIENCE, wait_until
from mesh.fixtures import module_mesh, shown  # noqa: F401
from mesh.topology import echo, linger0, read_all, read_exactly, say, sink, who

MB = 1 << 20


def build(mesh):
    mesh.pod("client", 1, families=(4, 6))
    mesh.pod("near", 1, families=(4, 6), port=8080)
    mesh.pod("server", 2, families=(4, 6), port=8080)
    mesh.pod("plain", 1, captured=False, families=(4, 6))
    mesh.pod("six-client", 1, families=(6,))
    mesh.pod("six-server", 2, families=(6,), port=8080)
    mesh.pod("four-server", 2, families=(4,), port=8080)
    mesh.pod("host-server", 2, host_network=True, port=8090)
    for name in ("near", "server", "client", "four-server"):
        mesh.vips[name] = mesh.service(name)
    mesh.vips["six-server"] = mesh.service("six-server", families=(6,))
    mesh.vips["server6"] = mesh.service("server6", families=(6,), selector={"app": "server"})
    mesh.vips["self6"] = mesh.service("self6", families=(6,), selector={"app": "client"})
    mesh.vips["host-server"] = mesh.service("host-server", target=8090)


mesh = module_mesh(build)


def blob(n, seed=1):
    return random.Random(seed).randbytes(n)


# The ways to the server: through a tunnel across nodes and on one node, and without one.
WAYS = [("client", "server"), ("client", "near"), ("plain", "server")]
ways = pytest.mark.parametrize("way", WAYS, ids=["-".join(w) for w in WAYS])


@pytest.fixture
def pair(mesh, request):
    """(client's socket, server's socket) of one connection."""
    source, destination = request.param if hasattr(request, "param") else WAYS[0]
    server = mesh.serve(destination, 8080)
    conn = mesh.connect(source, (destination, 8080))
    conn.settimeout(10)
    yield conn, server.conn()
    conn.close()


on_all_ways = pytest.mark.parametrize("pair", WAYS, ids=["-".join(w) for w in WAYS],
                                      indirect=True)


@pytest.mark.main
@on_all_ways
def test_half_close_by_client(pair):
    client, server = pair
    client.sendall(b"question")
    client.shutdown(socket.SHUT_WR)
    assert read_all(server) == b"question", "the end of one direction is seen"
    time.sleep(0.1)
    data = blob(MB)
    server.sendall(data)
    server.close()
    assert read_all(client) == data, "and the other direction lives on"


@pytest.mark.main
@on_all_ways
def test_half_close_by_server(pair):
    client, server = pair
    server.sendall(b"banner")
    server.shutdown(socket.SHUT_WR)
    assert read_all(client) == b"banner"
    time.sleep(0.1)
    data = blob(MB)
    client.sendall(data)
    client.close()
    assert read_all(server) == data


@on_all_ways
def test_half_closed_stays(pair):
    """A half-closed connection has no idle limit of its own (a second stands for hours)."""
    client, server = pair
    client.shutdown(socket.SHUT_WR)
    assert server.recv(1) == b""
    for _ in range(4):
        time.sleep(0.25)
        server.sendall(b"x")
        assert client.recv(1) == b"x"


def raises_reset(conn):
    with pytest.raises(ConnectionResetError):
        while conn.recv(1 << 16):
            pass
        pytest.fail("a reset connection looks complete")


@pytest.mark.main
@on_all_ways
@pytest.mark.parametrize("sent", [0, 100, 200_000])
def test_reset_by_client(pair, sent):
    client, server = pair
    client.sendall(blob(sent))
    linger0(client)
    client.close()
    raises_reset(server)


@on_all_ways
@pytest.mark.parametrize("sent", [0, 100, 200_000])
def test_reset_by_server(pair, sent):
    client, server = pair
    server.sendall(blob(sent))
    linger0(server)
    server.close()
    raises_reset(client)


@on_all_ways
def test_reset_after_half_close(pair):
    """The client has ended its side; the server then breaks off."""
    client, server = pair
    client.shutdown(socket.SHUT_WR)
    assert server.recv(1) == b""
    server.sendall(b"part")
    assert client.recv(4) == b"part"
    linger0(server)
    server.close()
    raises_reset(client)


def test_close_with_unread_data_resets(pair):
    """A server that closes without reading everything: the kernel resets, so do we."""
    client, server = pair
    client.sendall(blob(100_000))
    wait_until(lambda: len(server.recv(1 << 20, socket.MSG_PEEK)) > 1000, 5)
    server.close()
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        while True:
            client.sendall(b"x" * 1000)
            time.sleep(0.01)


SIZES = [1, 16374, 16375, 16376, 16385, 65536, 100_000, 1 << 18, 5 * MB]


@pytest.mark.main
@ways
def test_no_byte_lost_before_fin(mesh, way):
    """close() right behind the last write: every byte still arrives, in both directions."""
    source, destination = way
    got = []

    def serve(conn):
        got.append(read_all(conn))

    with mesh.serve(destination, 8080, serve):
        for size in SIZES:
            conn = mesh.connect(source, (destination, 8080))
            conn.sendall(blob(size, size))
            conn.close()
            wait_until(lambda: got, 10)
            assert got.pop() == blob(size, size), size

    def send(conn):
        size = int.from_bytes(read_exactly(conn, 4), "big")
        conn.sendall(blob(size, size))

    with mesh.serve(destination, 8080, send):
        for size in SIZES:
            with mesh.connect(source, (destination, 8080), timeout=10) as conn:
                conn.sendall(size.to_bytes(4, "big"))
                time.sleep(0.02)  # the reader is late
                assert read_all(conn) == blob(size, size), size


def pump(conn, size, seed, result):
    """Sends `size` bytes and receives as many, at once; the checksums go to `result`."""
    sent = [0]
    conn.settimeout(10 * PATIENCE)  # a slow machine may leave one of several flows waiting

    def send():
        block = blob(MB, seed)
        for at in range(0, size, MB):
            piece = block[:min(MB, size - at)]
            # each block is another one, so that none may be lost, doubled or moved
            piece = at.to_bytes(8, "big") + piece[8:]
            conn.sendall(piece)
            sent[0] = zlib.crc32(piece, sent[0])
        conn.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    total = crc = 0
    while data := conn.recv(1 << 18):
        crc = zlib.crc32(data, crc)
        total += len(data)
    thread.join(20 * PATIENCE)
    result.append((total, sent[0], crc))


@pytest.mark.main
@pytest.mark.parametrize("flows,size", [(1, 50 * MB), (8, 12 * MB)])
@ways
def test_integrity(mesh, way, flows, size):
    """Megabytes in both directions at once; checksums agree end to end."""
    source, destination = way
    outs, ins, threads = [], [], []

    def serve(conn):
        pump(conn, size, len(outs) + 77, ins)

    with mesh.serve(destination, 8080, serve):
        for i in range(flows):
            conn = mesh.connect(source, (destination, 8080), timeout=20)
            threads.append(threading.Thread(target=pump, args=(conn, size, i, outs), daemon=True))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(50)
        wait_until(lambda: len(outs) == len(ins) == flows, 5, "all flows done")
    assert all(total == size for total, _, _ in outs + ins)
    assert sorted(sent for _, sent, _ in outs) == sorted(crc for _, _, crc in ins)
    assert sorted(sent for _, sent, _ in ins) == sorted(crc for _, _, crc in outs)


@ways
def test_slow_reader_stalls_nobody(mesh, way):
    """Flows whose server does not read are full; another flow to the same pod goes on, fast."""
    source, destination = way
    stalled = []

    def serve(conn):
        if read_exactly(conn, 1) == b"s":
            time.sleep(30)  # until the test closes the connection
        else:
            echo(conn)

    with mesh.serve(destination, 8080, serve):
        try:
            for _ in range(20):
                conn = mesh.connect(source, (destination, 8080))
                stalled.append(conn)
                conn.sendall(b"s")
                conn.setblocking(False)
            full_since = time.monotonic()
            end = full_since + 10
            block = b"x" * 65536
            while time.monotonic() - full_since < 0.5 and time.monotonic() < end:
                for conn in stalled:
                    try:
                        conn.send(block)
                        full_since = time.monotonic()
                    except BlockingIOError:
                        pass
                time.sleep(0.02)
            with mesh.connect(source, (destination, 8080)) as conn:
                conn.sendall(b"e")
                worst, data = 0.0, blob(MB)
                for _ in range(200):
                    start = time.monotonic()
                    conn.sendall(b"ping")
                    assert read_exactly(conn, 4) == b"ping"
                    worst = max(worst, time.monotonic() - start)
                assert worst < 0.5, f"a round trip took {worst:.3f} s"
                thread = threading.Thread(target=conn.sendall, args=(data,), daemon=True)
                thread.start()
                assert read_exactly(conn, MB) == data
                thread.join(5)
        finally:
            for conn in stalled:
                linger0(conn)
                conn.close()


def test_slow_reader_gets_everything(mesh):
    """The bytes of a stalled flow wait; when the server reads at last, all of them are there."""
    go = threading.Event()
    got = []

    def serve(conn):
        go.wait(10)
        got.append(zlib.crc32(read_all(conn)))

    data = blob(48 * MB)  # more than all sockets on the way take
    with mesh.serve("server", 8080, serve):
        conn = mesh.connect("client", ("server", 8080), timeout=20)
        thread = threading.Thread(target=lambda: (conn.sendall(data), conn.close()), daemon=True)
        thread.start()
        time.sleep(0.7)
        assert thread.is_alive(), "back pressure reaches the client"
        go.set()
        wait_until(lambda: got, 10)
        thread.join(5)
    assert got == [zlib.crc32(data)]


@ways
def test_no_delay(mesh, way):
    """Small messages to and fro, no timer between them."""
    source, destination = way
    with mesh.serve(destination, 8080, echo), mesh.connect(source, (destination, 8080)) as conn:
        start = time.monotonic()
        for _ in range(300):
            conn.sendall(b"a")
            conn.sendall(b"b")
            assert read_exactly(conn, 2) == b"ab"
        assert time.monotonic() - start < 3


def test_server_speaks_first(mesh):
    def serve(conn):
        conn.sendall(b"220 ready\r\n")
        echo(conn)

    with mesh.serve("server", 8080, serve), mesh.connect("client", ("server", 8080)) as conn:
        assert read_exactly(conn, 11) == b"220 ready\r\n"


def test_client_sends_before_the_tunnel_is_up(mesh):
    """Bytes that arrive before the decision wait for it."""
    with mesh.serve("server", 8080, echo):
        conns = [mesh.connect("client", (mesh.vips["server"], 80)) for _ in range(50)]
        for i, conn in enumerate(conns):
            conn.sendall(b"%03d" % i * 1000)
        for i, conn in enumerate(conns):
            assert read_exactly(conn, 3000) == b"%03d" % i * 1000
            conn.close()


# Addresses


@pytest.mark.main
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("to", ["server", "near"])
@pytest.mark.parametrize("source", ["client", "plain"])
def test_original_source(mesh, source, to, family):
    """The application sees the client's address, in the mesh and without it."""
    address = {4: "v4", 6: "v6"}[family]
    with mesh.serve(to, 8080, who):
        got = mesh.ask(source, (getattr(mesh.pods[to], address), 8080))
    assert got.decode() == getattr(mesh.pods[source], address)


def test_original_source_through_service(mesh):
    with mesh.serve("server", 8080, who):
        assert mesh.ask("client", (mesh.vips["server"], 80)).decode() == mesh.pods["client"].v4
        assert mesh.ask("client", (mesh.vips["server6"], 80)).decode() == mesh.pods["client"].v6


def test_client_sees_the_destination(mesh):
    """getpeername of the client is what it asked for."""
    with mesh.serve("server", 8080, echo):
        with mesh.connect("client", (mesh.vips["server"], 80)) as conn:
            assert conn.getpeername() == (mesh.vips["server"], 80)


@pytest.mark.main
def test_pod_to_itself(mesh):
    """By its own address, by loopback, through its service: reaches itself."""
    client = mesh.pods["client"]
    with mesh.serve("client", 8080, echo):
        for to in [(client.v4, 8080), (client.v6, 8080), ("127.0.0.1", 8080), ("::1", 8080),
                   (mesh.vips["client"], 80), (mesh.vips["self6"], 80)]:
            assert mesh.ask("client", to) == b"hello world", to


@pytest.mark.parametrize("port", [15020, 15021])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_probes_come_over_both_families(mesh, address, port):
    mesh.connect(mesh.nodes[1].netns, (address, port)).close()


@pytest.mark.main
@pytest.mark.parametrize("source,to", [
    ("six-client", "six-server"), ("six-client", "server"), ("client", "six-server"),
    ("client", "server")])
def test_ipv6(mesh, source, to):
    """IPv6-only and dual stack pods, in every combination, encrypted."""
    mark = mesh.nodes[1].mark()
    with mesh.serve(to, 8080, echo):
        assert mesh.ask(source, (mesh.pods[to].v6, 8080)) == b"hello world"
    line = mesh.nodes[1].access(mark, direction="outbound",
                                dst__hbone_addr=f"[{mesh.pods[to].v6}]:8080")[0]
    assert line["dst.addr"] == f"[{mesh.pods[to].v6}]:15008"
    assert line["src.identity"] == mesh.pods[source].identity


def test_service_of_one_family(mesh):
    """A client takes an endpoint's address of the family that it called."""
    with mesh.serve("six-server", 8080, echo), mesh.serve("four-server", 8080, echo):
        assert mesh.ask("client", (mesh.vips["six-server"], 80)) == b"hello world"
        assert mesh.ask("client", (mesh.vips["four-server"], 80)) == b"hello world"
        assert mesh.ask("six-client", (mesh.vips["six-server"], 80)) == b"hello world"


def test_host_network_client(mesh):
    """From a node itself, its own and the other one: plain text, with the node's address."""
    with mesh.serve("server", 8080, who):
        for number, node in mesh.nodes.items():
            got = mesh.ask(node.name, ("server", 8080)).decode()
            # towards a pod of its own the node's side of the link may be the source
            assert number == 2 or got == node.ip


def test_host_network_server(mesh):
    """A pod on its node's network is no member: reached plainly, by its node's address."""
    mark = mesh.nodes[1].mark()
    with mesh.serve("host-server", 8090, echo):
        assert mesh.ask("client", (mesh.nodes[2].ip, 8090)) == b"hello world"
        assert mesh.ask("client", (mesh.vips["host-server"], 80)) == b"hello world"
    for line in mesh.nodes[1].access(mark, n=2, direction="outbound",
                                     dst__addr=f"{mesh.nodes[2].ip}:8090"):
        assert "dst.hbone_addr" not in line, line


PROBE, PROBE6 = "169.254.7.127", "fd16:9254:7127:1337:ffff:ffff:ffff:ffff"


@pytest.mark.parametrize("probe,to", [(PROBE, "v4"), (PROBE6, "v6")])
def test_kubelet_probe_is_exempt(mesh, probe, to):
    """Probes come from one address; they pass ztun by, also where only mutual TLS is allowed."""
    from mesh.netns import ip_batch
    ip_batch([f"addr add {probe}/{32 if to == 'v4' else 128} dev lo"
              + ("" if to == "v4" else " nodad")], mesh.nodes[2].netns)
    address = getattr(mesh.pods["server"], to)
    mesh.settle(lambda: mesh.peer_authentication("strict", "STRICT"))
    try:
        mark = mesh.nodes[2].mark()
        with mesh.serve("server", 8080, who):
            assert mesh.ask("node2", (address, 8080), source=probe).decode() == probe
            assert not mesh.nodes[2].log(mark, scope="access")
            mesh.fails("node2", (address, 8080))
    finally:
        mesh.settle(lambda: mesh.delete("PeerAuthentication", "strict"))


def test_source_port_of_the_spoofed_leg(mesh):
    """The leg to the application borrows the client's address. When the client takes that leg's port
    for a connection of its own, it is refused at once: it neither hangs nor passes ztun by."""
    with mesh.serve("server", 8080) as server:
        with mesh.connect("plain", ("server", 8080)) as first:
            first.sendall(b"x")
            address, port = server.conn().getpeername()[:2]
            assert address.removeprefix("::ffff:") == mesh.pods["plain"].v4
            assert port < 32768, "not one that a client's kernel would choose"
            with pytest.raises(ConnectionRefusedError):
                mesh.connect("plain", ("server", 8080), timeout=3,
                             source=(mesh.pods["plain"].v4, port))
            assert len(server.conns) == 1
            first.sendall(b"y")
            assert read_exactly(server.conn(), 2) == b"xy"


OWN_PORTS = (15001, 15006, 15008, 15053)


@pytest.mark.main
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("port", OWN_PORTS)
def test_our_ports_as_source_ports(mesh, port, family):
    """A client of the network that sends from one of ztun's ports is captured like any other, and
    gets its answers."""
    to = getattr(mesh.pods["server"], f"v{family}")
    mark = mesh.nodes[2].mark()
    with mesh.serve("server", 8080, echo):
        source = (getattr(mesh.pods["plain"], f"v{family}"), port)
        assert mesh.ask("plain", (to, 8080), source=source) == b"hello world"
    assert mesh.nodes[2].access(mark, direction="inbound", src__addr=re.compile(f":{port}$"))


@pytest.mark.main
@pytest.mark.parametrize("port", OWN_PORTS)
def test_our_ports_as_translated_ports(mesh, port):
    """Two captured connections of one source port meet at 15001, where the kernel gives the second
    another port, any of them: also one of ztun's."""
    client = mesh.pods["client"].v4
    for line in ("add table ip twist",
                 "add chain ip twist post { type nat hook postrouting priority 100; }",
                 f"add rule ip twist post tcp dport 15001 snat to {client}:{port}"):
        assert mesh.run("client", "nft", line).returncode == 0
    try:
        mark = mesh.nodes[1].mark()
        with mesh.serve("server", 8080, echo):
            assert mesh.ask("client", (mesh.vips["server"], 80)) == b"hello world"
        assert mesh.nodes[1].access(mark, src__addr=f"{client}:{port}", direction="outbound")
    finally:
        assert mesh.run("client", "nft", "delete table ip twist").returncode == 0


def test_udp_is_left_alone(mesh):
    """Only TCP is captured (and DNS)."""
    with mesh.socket("server", kind=socket.SOCK_DGRAM) as server, \
            mesh.socket("client", kind=socket.SOCK_DGRAM) as client:
        server.bind(("0.0.0.0", 9999))
        server.settimeout(3)
        client.sendto(b"datagram", (mesh.pods["server"].v4, 9999))
        data, address = server.recvfrom(100)
        assert data == b"datagram" and address[0] == mesh.pods["client"].v4


def test_many_short_connections(mesh):
    """500 in a row, each its own answer; none is left behind."""
    with mesh.serve("server", 8080, say("x")):
        for _ in range(500):
            assert mesh.ask("client", (mesh.vips["server"], 80)) == b"x"
    mesh.gauges_are_zero()


def test_no_flow_is_left(mesh):
    with mesh.serve("server", 8080, sink):
        conns = [mesh.connect("client", ("server", 8080)) for _ in range(100)]
        for i, conn in enumerate(conns):
            if i % 3 == 0:
                linger0(conn)
            elif i % 3 == 1:
                conn.shutdown(socket.SHUT_RDWR)
            conn.close()
    mesh.gauges_are_zero()
