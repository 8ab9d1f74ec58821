# SPDX-License-Identifier: Apache-2.0
"""SOCKS5 at 127.0.0.1:15080 of the pods (UNSTABLE_ENABLE_SOCKS5)."""

import contextlib
import ipaddress
import select
import socket
import struct
import time

import pytest
from lablib import wait_until
from mesh.dns import AAAA, NOERROR, A, Upstream
from mesh.fixtures import module_mesh, shown  # noqa: F401
from mesh.topology import echo, say, who

UPSTREAM = "10.77.0.2"
PROXY = ("127.0.0.1", 15080)
HELLO = b"\5\1\0"
OK, GENERAL, NOT_ALLOWED, NET_UNREACHABLE, HOST_UNREACHABLE, REFUSED, _, COMMAND, TYPE = range(9)


def build(mesh):
    servers = {"annotations": {"ztun.io/nameservers": UPSTREAM}}
    mesh.pod("client", 1, families=(4, 6), **servers)
    mesh.pod("near", 1, port=8080)
    mesh.pod("server", 2, port=8080, families=(4, 6))
    mesh.pod("plain-server", 2, captured=False)
    mesh.pod("plain-client", 1, captured=False)
    mesh.vips["server"] = mesh.service("server")
    mesh.vips["dual"] = mesh.service("dual", families=(6,), selector={"app": "server"})
    mesh.vips["nobody"] = mesh.service("nobody")
    mesh.policy("closed", "DENY", [{"to": [{"operation": {"ports": ["8081"]}}]}],
                {"app": "server"})
    mesh.apply({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
                "metadata": {"name": "external", "namespace": "demo"},
                "spec": {"hosts": ["api.example.com"], "addresses": ["240.0.0.1"],
                         "ports": [{"number": 80, "name": "tcp", "protocol": "TCP",
                                    "targetPort": 9000}],
                         "resolution": "STATIC", "endpoints": [{"address": "10.77.0.2"}]}})
    for node in mesh.nodes.values():
        node.env = {"UNSTABLE_ENABLE_SOCKS5": "true"}


mesh = module_mesh(build)


@pytest.fixture(scope="module", autouse=True)
def upstream(mesh):
    made = Upstream(mesh, "node2", UPSTREAM, {
        ("www.outside.example", A): (NOERROR, [socket.inet_aton("10.77.0.2")]),
        ("six.outside.example", A): (NOERROR, []),
        ("six.outside.example", AAAA):
            (NOERROR, [socket.inet_pton(socket.AF_INET6, mesh.pods["server"].v6)]),
        ("none.outside.example", A): (NOERROR, []),
        ("none.outside.example", AAAA): (NOERROR, []),
        ("zero.outside.example", A): (NOERROR, [b"\0\0\0\0"]),
    })
    yield made
    made.close()


def request(host, port, command=1):
    try:
        ip = ipaddress.ip_address(host)
        address = bytes([1 if ip.version == 4 else 4]) + ip.packed
    except ValueError:
        address = bytes([3, len(host)]) + host.encode()
    return bytes([5, command, 0]) + address + struct.pack(">H", port)


def read(conn, n):
    got = b""
    while len(got) < n and (data := conn.recv(n - len(got))):
        got += data
    return got


def socks(mesh, host, port, where="client", early=b""):
    """(connection, code of the reply). "pod:NAME" is a pod's address, and not its service's name.
    `early` is sent with the request."""
    if host.startswith("pod:"):
        host = mesh.pods[host[4:]].ip
    conn = mesh.connect(where, PROXY)
    conn.sendall(HELLO)
    assert read(conn, 2) == b"\5\0"
    conn.sendall(request(host, port) + early)
    got = read(conn, 10)
    assert len(got) == 10 and got[0] == 5 and got[2:] == b"\0\1" + bytes(6), got
    return conn, got[1]


def ask(mesh, host, port, data=b"hello"):
    conn, code = socks(mesh, host, port)
    with conn:
        assert code == OK
        conn.sendall(data)
        conn.shutdown(socket.SHUT_WR)
        return read(conn, 1 << 20)


def fails(mesh, host, port):
    """The code of the reply; the connection ends in order behind it."""
    conn, code = socks(mesh, host, port)
    with conn:
        assert code != OK
        assert conn.recv(1) == b""
    return code


# ---- where it leads ----------------------------------------------------------------------------


@pytest.mark.main
@pytest.mark.parametrize("host", ["10.77.2.12", "server.demo.svc.cluster.local", "server.demo",
                                  "server", "SERVER.demo.svc.cluster.local.", "vip", "dual", "v6"])
def test_mesh(mesh, host):
    """By address of the pod, VIP and host name: the tunnel that a captured connection takes."""
    node, pod = mesh.nodes[1], mesh.pods["server"]
    assert pod.v4 == "10.77.2.12"
    to = {"vip": mesh.vips["server"], "dual": mesh.vips["dual"], "v6": pod.v6}.get(host, host)
    is_pod = to in pod.ips
    is_v6 = host in ("dual", "v6")
    mark, since = node.mark(), node.since()
    with mesh.serve("server", 8080, echo):
        assert ask(mesh, to, 8080 if is_pod else 80) == b"hello"
    line = node.access(mark, direction="outbound")[0]
    assert "error" not in line and line["message"] == "connection complete"
    assert (line["src.workload"], line["dst.workload"]) == ("client", "server")
    own = mesh.pods["client"].ips[is_v6]
    assert line["src.addr"].startswith(f"[{own}]:" if is_v6 else f"{own}:"), line
    assert line["src.identity"] == mesh.pods["client"].identity
    assert line["dst.identity"] == pod.identity
    assert line.get("dst.service", "") == ("" if is_pod else
                                           "dual.demo.svc.cluster.local" if host == "dual" else
                                           "server.demo.svc.cluster.local")
    assert (line["bytes_sent"], line["bytes_recv"]) == (5, 5)
    wait_until(lambda: since("istio_tcp_connections_closed_total", reporter="source",
                             connection_security_policy="mutual_tls") == 1, 3)


@pytest.mark.main
def test_plain_tcp(mesh, upstream):
    """To what has no tunnel: a pod out of the mesh, an address and a host name outside of it, a
    ServiceEntry by host name."""
    with mesh.serve("plain-server", 8080, who), mesh.serve("node2", 9000, who):
        for to in (("pod:plain-server", 8080), (mesh.nodes[2].ip, 9000),
                   ("www.outside.example", 9000), ("api.example.com", 80)):
            assert ask(mesh, *to) == mesh.pods["client"].ip.encode(), to
    with mesh.serve("server", 8080, echo):
        assert ask(mesh, "six.outside.example", 8080) == b"hello", "IPv6 where there is no IPv4"


def test_shares_tunnels(mesh):
    """Captured connections and those of SOCKS5 are streams of the same tunnels, on all workers."""
    node = mesh.nodes[1]
    with mesh.serve("near", 8080, echo), contextlib.ExitStack() as stack:
        to = (mesh.pods["near"].ip, 8080)
        time.sleep(1.2)  # the counters of the pool are up to a second old: nothing of before
        since = node.since()
        for _ in range(8):
            conn = stack.enter_context(mesh.connect("client", to))
            conn.sendall(b"x")
            assert read(conn, 1) == b"x"
        wait_until(lambda: since("hbone_pool_streams_total") == 8, 3)
        since = node.since()
        for _ in range(16):
            conn, code = socks(mesh, *to)
            stack.enter_context(conn)
            assert code == OK
        wait_until(lambda: since("hbone_pool_streams_total") == 16, 3)
        assert since("hbone_pool_tunnels_opened_total") == 0


def test_curl(mesh):
    def http(conn):
        conn.recv(1 << 16)
        conn.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi")

    with mesh.serve("server", 8080, http):
        for scheme in ("socks5h", "socks5"):
            host = "server" if scheme == "socks5h" else mesh.vips["server"]
            done = mesh.run("client", "curl", "-s", "-m", "5", "-x",
                            f"{scheme}://127.0.0.1:15080", f"http://{host}/")
            assert done.stdout == b"hi", done


# ---- the handshake -----------------------------------------------------------------------------


@pytest.mark.main
def test_cut_into_bytes_and_sent_at_once(mesh):
    with mesh.serve("server", 8080, echo):
        whole = HELLO + request("server", 80) + b"early data"
        for pieces in ([whole], [bytes([b]) for b in whole],
                       [b"\5\2\7", b"\0" + request("server", 80)[:5], request("server", 80)[5:]
                        + b"early", b" data"]):
            with mesh.connect("client", PROXY) as conn:
                conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for piece in pieces:
                    conn.sendall(piece)
                conn.shutdown(socket.SHUT_WR)
                got = read(conn, 1 << 20)
                assert got == b"\5\0\5\0\0\1" + bytes(6) + b"early data", got


def test_server_speaks_first(mesh):
    def greet(conn):
        conn.sendall(b"220 hello")
        conn.recv(1)

    with mesh.serve("server", 8080, greet), mesh.serve("plain-server", 8080, greet):
        for host in ("server", "plain-server"):
            conn, code = socks(mesh, mesh.pods[host].ip, 8080)
            with conn:
                assert code == OK and read(conn, 9) == b"220 hello"


def test_large(mesh):
    """Early data beyond what the sockets take, and back."""
    data = bytes(range(256)) * 16384

    def size(conn):
        n = 0
        while got := conn.recv(1 << 20):
            n += len(got)
        conn.sendall(b"%d" % n)

    with mesh.serve("server", 8080, size):
        conn = mesh.connect("client", PROXY)
        conn.sendall(HELLO + request("server", 80) + data)
        conn.shutdown(socket.SHUT_WR)
        assert read(conn, 1 << 20) == b"\5\0\5\0\0\1" + bytes(6) + b"%d" % len(data)
        conn.close()


GARBAGE = {
    "socks4": (b"\4\1\0\x50\x0a\1\2\3user\0", b""),
    "http": (b"GET / HTTP/1.1\r\n\r\n", b""),
    "tls": (b"\x16\3\1\2\0\1\0", b""),
    "zeros": (bytes(64), b""),
    "no method": (b"\5\0", b"\5\xff"),
    "password": (b"\5\2\1\2", b"\5\xff"),
    "version of the request": (HELLO + b"\4\1\0\1", b"\5\0\5\1"),
    "reserved byte": (HELLO + b"\5\1\1\1", b"\5\0\5\1"),
    "bind": (HELLO + request("10.0.0.1", 80, 2), b"\5\0\5\7"),
    "udp": (HELLO + request("10.0.0.1", 80, 3), b"\5\0\5\7"),
    "type of address": (HELLO + b"\5\1\0\2", b"\5\0\5\x08"),
    "no name": (HELLO + b"\5\1\0\3\0", b"\5\0\5\1"),
    "bad name": (HELLO + b"\5\1\0\3\4a..b\0\x50", b"\5\0\5\1"),
    "binary name": (HELLO + b"\5\1\0\3\3a\0b\0\x50", b"\5\0\5\1"),
    "no port": (HELLO + request("server", 0), b"\5\0\5\1"),
}


@pytest.mark.main
@pytest.mark.parametrize("name", GARBAGE)
def test_garbage(mesh, name):
    sent, want = GARBAGE[name]
    node = mesh.nodes[1]
    mark = node.mark()
    with mesh.connect("client", PROXY) as conn:
        conn.sendall(sent)
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while data := conn.recv(100):
                got += data
    assert got[:4] == want and len(got) == (12 if len(want) == 4 else len(want)), got
    line = node.access(mark, message="connection failed")[0]
    assert line["direction"] == "outbound" and line["dst.addr"] == "127.0.0.1:15080"
    assert line["src.addr"].startswith(mesh.pods["client"].ip + ":"), "which pod it was"
    assert line["error"].startswith("SOCKS5 handshake failed: "), line


@pytest.mark.main
def test_it_ends_in_the_middle(mesh):
    """A client that goes away leaves nothing behind, wherever it is."""
    whole = HELLO + request("server.demo.svc.cluster.local", 80)
    node = mesh.nodes[1]
    mark = node.mark()
    for n in range(len(whole)):
        mesh.connect("client", PROXY).close() if n == 0 else None
        with mesh.connect("client", PROXY) as conn:
            conn.sendall(whole[:n])
    lines = node.access(mark, len(whole) + 1, message="connection failed")
    assert {line["error"] for line in lines} == {"SOCKS5 handshake failed: the client ended it"}


# ---- replies -----------------------------------------------------------------------------------


@pytest.mark.main
def test_replies(mesh):
    """What the reply says of how the connection went."""
    own = mesh.pods["client"]
    with mesh.serve("server", 8081, echo) as denied:
        for to, want in {
            ("pod:server", 8081): NOT_ALLOWED,  # policy of the other side: 401
            ("pod:server", 8079): REFUSED,  # nobody listens: 503
            ("pod:plain-server", 8079): REFUSED,
            (mesh.vips["nobody"], 80): HOST_UNREACHABLE,  # no endpoint
            (mesh.vips["server"], 81): HOST_UNREACHABLE,  # no such port
            ("nobody.demo", 80): HOST_UNREACHABLE,
            ("no.such.example", 80): HOST_UNREACHABLE,
            ("none.outside.example", 80): HOST_UNREACHABLE,
            ("zero.outside.example", 80): HOST_UNREACHABLE,
            ("0.0.0.0", 8080): HOST_UNREACHABLE,
            ("::", 8080): HOST_UNREACHABLE,
            ("224.0.0.1", 80): HOST_UNREACHABLE,
            ("127.0.0.1", 15080): NOT_ALLOWED,  # ourselves, in each way
            ("127.0.0.1", 15001): NOT_ALLOWED,
            ("::ffff:127.0.0.1", 15080): NOT_ALLOWED,
            (own.v4, 15008): NOT_ALLOWED,
            (own.v6, 15006): NOT_ALLOWED,
        }.items():
            assert fails(mesh, *to) == want, to
        assert not denied.conns


def test_registry_only(mesh):
    doc = {"apiVersion": "v1", "kind": "ConfigMap",
           "metadata": {"name": "istio", "namespace": "istio-system"},
           "data": {"mesh": "outboundTrafficPolicy: {mode: REGISTRY_ONLY}"}}
    with mesh.serve("node2", 9000, echo), mesh.serve("server", 8080, echo):
        mesh.settle(lambda: mesh.apply(doc))
        try:
            assert fails(mesh, mesh.nodes[2].ip, 9000) == NOT_ALLOWED
            assert ask(mesh, "server", 80) == b"hello"
        finally:
            mesh.settle(lambda: mesh.delete("ConfigMap", "istio", "istio-system"))
        assert ask(mesh, mesh.nodes[2].ip, 9000) == b"hello"


# ---- limits and life ---------------------------------------------------------------------------


def test_only_from_within(mesh):
    """Nobody else reaches it: not by the pod's addresses, and not with route_localnet."""
    client = mesh.pods["client"]
    for where in ("plain-client", "node1"):
        for ip in client.ips:
            mesh.fails(where, (ip, 15080), HELLO)
    mesh.fails("client", (client.ip, 15080), HELLO)
    ports = mesh.run("client", "ss", "-Hltn").stdout.decode().split()
    assert "127.0.0.1%lo:15080" in ports, ports


def is_cut(conn):
    if not select.select([conn], [], [], 0)[0]:
        return False
    try:
        return conn.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.main
def test_silent_clients(mesh):
    """Of clients that owe bytes the oldest ones make room, per worker; others are not concerned."""
    node = mesh.nodes[1]
    mark = node.mark()
    with contextlib.ExitStack() as stack, mesh.serve("server", 8080, echo):
        conns = [stack.enter_context(mesh.connect("client", PROXY)) for _ in range(200)]
        wait_until(lambda: sum(map(is_cut, conns)) >= 200 - 2 * 64, 5)
        assert not is_cut(conns[-1])
        assert ask(mesh, "server", 80) == b"hello"
        conns[-1].sendall(HELLO)
        assert read(conns[-1], 2) == b"\5\0"
    lines = node.access(mark, 72, message="connection failed")
    assert any("too many SOCKS5 handshakes" in line["error"] for line in lines)


@pytest.mark.main
def test_pod_goes_in_the_middle(mesh):
    """Removal cuts handshakes at once; a pod that only leaves the mesh finishes them."""
    name = f"short{int(time.monotonic() * 1000) % 100000}"
    mesh.settle(lambda: mesh.pod(name, 1))
    wait_until(lambda: mesh.nodes[1].log(message="pod is served", pod=name), 5)
    with mesh.connect(name, PROXY) as idle, mesh.connect(name, PROXY) as conn, \
            mesh.serve("server", 8080, say("x")):
        conn.sendall(HELLO)
        assert read(conn, 2) == b"\5\0"
        mesh.settle(lambda: mesh.set_label(name, "istio.io/dataplane-mode", "none"))
        with pytest.raises(ConnectionRefusedError):
            for _ in range(100):
                mesh.connect(name, PROXY).close()
                time.sleep(0.01)
        conn.sendall(request(mesh.pods["server"].ip, 8080))
        assert read(conn, 10)[:2] == b"\5\0"
        conn.sendall(b"?")
        assert read(conn, 1) == b"x"
        assert not is_cut(idle)
        mesh.settle(lambda: mesh.delete("Pod", name))
        wait_until(lambda: is_cut(idle) and is_cut(conn), 3)
