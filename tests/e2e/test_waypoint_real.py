# SPDX-License-Identifier: Apache-2.0
"""HTTP through ztun, waypoint and ztun between programs that others wrote: curl, h2load, grpcio,
websockets and hyper-h2 on one side; nginx, aiohttp, grpcio, websockets, hypercorn and nghttpd on
the other (tests/e2e/peers)."""

import json
import re
import socket
import threading
import time
from pathlib import Path

import pytest

from lablib import SANITIZED, meta, namespace, pod, service, wait_until
from mesh.labnet import LabNet
from mesh.topology import read_all
from test_waypoint_http import Reply
from test_waypoint_tcp import ID, gateway, logs_of_waypoints, waypoints
from test_waypoint_telemetry import samples

PEERS = Path(__file__).parent / "peers"
PYTHON = "/usr/bin/python3"  # the distribution's, which has debian-packages.txt
MB = 1 << 20


def peer(name, *command, **more):
    env = {"PYTHONPATH": str(PEERS), "PYTHONDONTWRITEBYTECODE": "1"}
    return pod(name, "m", node="node2", sa=name, command=list(map(str, command)), env=env, **more)


def bound(name, *ports):
    """`ports`: (name, port, target)."""
    made = service(name, "m", {"app": name}, ports=[
        {"name": n, "port": port, "targetPort": target} for n, port, target in ports])
    made["metadata"]["labels"] = {"istio.io/use-waypoint": "waypoint"}
    return made


def objects():
    files = "mkdir -p /tmp/real-files; cd /tmp/real-files; head -c 100000 /dev/zero > file; " \
        "head -c 12000000 /dev/zero > big; exec "
    return [
        namespace("m", ambient=True), gateway(),
        pod("client", "m", node="node1", sa="client", env={"PYTHONPATH": str(PEERS)}),
        peer("web", PYTHON, PEERS / "web_peer.py", 8080),
        peer("grpc", PYTHON, PEERS / "grpc_peer.py", "serve", 8080),
        peer("ws", PYTHON, PEERS / "ws_peer.py", 8080),
        peer("asgi", PYTHON, "-m", "hypercorn", "-b", "0.0.0.0:8080", "asgi_peer:app"),
        peer("nginx", "sh", "-c", f"{files} nginx -c {PEERS / 'nginx.conf'}"),
        peer("nghttpd", "sh", "-c",
             f"{files} nghttpd --no-tls -d /tmp/real-files '--trailer=x-sum: done' 8080"),
        peer("raw", "sleep", "infinity"),  # servers of the tests themselves
        bound("web", ("http", 80, 8080)), bound("grpc", ("grpc", 80, 8080)),
        bound("ws", ("http", 80, 8080)), bound("raw", ("http", 80, 8080)),
        bound("asgi", ("http2", 80, 8080)), bound("nghttpd", ("http2", 80, 8080)),
        bound("nginx", ("http", 80, 8080), ("http2", 81, 8081), ("http-again", 82, 8082)),
    ]


@pytest.fixture(scope="module")
def lab(make_module_lab):
    made = make_module_lab(objects())
    for url in ("web.m/headers", "ws.m/", "nginx.m/", "asgi.m/", "nghttpd.m/file"):
        wait_until(lambda url=url: curl(made, f"http://{url}").status not in (0, 503, 502), 20)
    wait_until(lambda: run(made, "grpc", "print(client.unary(b'up', timeout=5))") == "b'up'", 20)
    return made


@pytest.fixture
def net(lab):
    return LabNet(lab, "m")


@pytest.fixture(autouse=True)
def sound(lab):
    """No waypoint ended, and none had a finding of a sanitizer."""
    yield
    text = logs_of_waypoints(lab)
    assert "Sanitizer" not in text and "runtime error" not in text, text[-3000:]
    assert "check failed" not in text.lower()
    assert all(p["restarts"] == 0 for p in waypoints(lab))


def curl(lab, url, *args, where="m/client"):
    done = lab.exec(where, "curl", "-sS", "-i", "-m", "20", *args, url, timeout=30)
    return Reply(done.out, done.code)


PRELUDES = {
    "grpc": "from grpc_peer import *\nclient = Client('grpc.m:80')\n",
    # hypercorn keeps the stream open behind the closing handshake
    "ws": "import asyncio, functools, os, websockets\n"
          "connect = functools.partial(websockets.connect, close_timeout=0.3)\n",
    "ws_h2": "import os\nfrom ws_h2 import WebSocket\n",
}


def run(lab, kind, code, where="m/client"):
    """Python in a pod of the client's; what it prints."""
    if kind == "ws":
        lines = "".join(f"    {line}\n" for line in code.strip().splitlines())
        code = f"async def main():\n{lines}asyncio.run(asyncio.wait_for(main(), 20))\n"
    done = lab.exec(where, PYTHON, "-B", "-c", PRELUDES[kind] + code, timeout=40)
    assert done.ok, done
    return done.out.strip()


def virtual_service(host, *http):
    return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": meta(host, "m"), "spec": {"hosts": [host], "http": list(http)}}


def to(host, port=80):
    return [{"destination": {"host": host, "port": {"number": port}}}]


class Rules:
    """A VirtualService for the time of a test, once the waypoint has it, until it has it no more."""

    def __init__(self, lab, host, *http):
        self.lab, self.host, self.http = lab, host, http

    def __enter__(self):
        mark = f"m{time.monotonic_ns()}"
        direct = {"match": [{"uri": {"exact": "/mark"}}],
                  "directResponse": {"status": 200, "body": {"string": mark}}}
        self.lab.apply(virtual_service(self.host, direct, *self.http))
        url = f"http://{self.host}.m/mark"
        wait_until(lambda: curl(self.lab, url).body == mark)

    def __exit__(self, *_):
        self.lab.delete("VirtualService", f"m/{self.host}")
        self.lab.wait_ready()  # the next request does not go by it any more


def exchange(conn, data, until):
    """Sends, reads until `until` has come."""
    conn.sendall(data)
    got = b""
    while until not in got:
        more = conn.recv(65536)
        if not more:
            raise ConnectionError(f"ended after {got!r}")
        got += more
    return got


# gRPC


@pytest.mark.main
def test_grpc_of_all_kinds(lab):
    assert run(lab, "grpc", """
print(client.unary(b"hi", timeout=5))
print(len(list(client.down(b"200 1000", timeout=5))))
print(client.up(iter([b"x" * 100] * 200), timeout=5))
print(list(client.both(iter([b"%d" % i for i in range(5)]), timeout=5)))
""").splitlines() == ["b'hi'", "200", "b'200 20000'", "[b'0', b'1', b'2', b'3', b'4']"]


def test_grpc_both_at_a_time(lab):
    """A message is answered before the next one is sent."""
    assert run(lab, "grpc", """
import queue
sent = queue.Queue()
sent.put(b"0")
got = []
for message in client.both(iter(sent.get, None), timeout=10):
    got.append(int(message))
    sent.put(b"%d" % (got[-1] + 1) if got[-1] < 50 else None)
print(got == list(range(51)))
""") == "True"


def test_grpc_big_messages(lab):
    assert run(lab, "grpc", """
import os
data = os.urandom(24 << 20)
print(client.unary(data, timeout=20) == data)
print([len(x) for x in client.down(b"3 %d" % (8 << 20), timeout=20)])
""").splitlines() == ["True", str([8 << 20] * 3)]


def test_grpc_errors_pass(lab):
    """Trailers only, and trailers behind messages; the text as it was."""
    assert run(lab, "grpc", """
print(error_of(lambda: client.unary(b"", metadata=[("fail", "5 not % there")], timeout=5)))
print(error_of(lambda: client.down(b"3 10", metadata=[("fail", "16 who")], timeout=5)))
print(error_of(lambda: client.down(b"3 10", metadata=[("fail-late", "9")], timeout=5)))
print(error_of(lambda: client.up(iter([b"x"]), metadata=[("fail-late", "10")], timeout=5)))
""").splitlines() == ["(5, 'not % there')", "(16, 'who')", "(9, 'late')", "(10, 'late')"]


def test_grpc_deadline(lab):
    """The server knows it; whoever is late, the client hears of it in time."""
    out = run(lab, "grpc", """
start = time.monotonic()
print(error_of(lambda: client.unary(b"", metadata=[("delay", "5")], timeout=0.5))[0])
print(time.monotonic() - start < 3)
_, call = client.unary.with_call(b"", timeout=5)
print(dict(call.trailing_metadata())["left"])
""").splitlines()
    assert out[:2] == ["4", "True"] and 1 < float(out[2]) < 5.1


def test_grpc_cancel_reaches_the_server(lab):
    assert run(lab, "grpc", """
call = client.down(b"0 100", timeout=30)
print(next(call)[:8])
print(client.unary(b"active", timeout=5))
call.cancel()
end = time.monotonic() + 10
while client.unary(b"active", timeout=5) != b"0" and time.monotonic() < end:
    time.sleep(0.02)
print(client.unary(b"active", timeout=5))
""").splitlines() == ["b'00000000'", "b'1'", "b'0'"]


def grpc_case(name, **rule):
    return {"match": [{"headers": {"case": {"exact": name}}}], **rule}


def abort(**what):
    return {"fault": {"abort": {**what, "percentage": {"value": 100}}}, "route": to("grpc")}


def test_grpc_local_replies(lab, net):
    """Our own answers have a status of gRPC, and HTTP's 200."""
    cases = {str(code): status for code, status in {
        400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 500: 2, 502: 14, 503: 14, 504: 14}.items()}
    rules = [grpc_case(code, **abort(httpStatus=int(code))) for code in cases]
    rules += [grpc_case("named", **abort(grpcStatus="RESOURCE_EXHAUSTED")),
              grpc_case("slow", timeout="0.2s", route=to("raw")),
              grpc_case("nowhere", route=to("nobody")),
              {"match": [{"headers": {"case": {"exact": "ok"}}}], "route": to("grpc")}]
    with Rules(lab, "grpc", *rules), net.serve("raw", 8080, read_all):
        out = json.loads(run(lab, "grpc", f"""
import json
out = {{}}
for case in {[*cases, "named", "slow", "nowhere", "none", "ok"]}:
    out[case] = error_of(lambda: client.unary(b"", metadata=[("case", case)], timeout=10))
print(json.dumps(out))
"""))
    assert {case: out[case][0] for case in cases} == cases
    assert all(out[case][1] == "fault filter abort" for case in cases)
    assert out["named"] == [8, "fault filter abort"]
    assert out["slow"] == [14, "upstream request timeout"]
    assert out["nowhere"][0] == 14 and out["none"][0] == 12 and out["ok"] == [0, ""]


def test_grpc_retries_on_status(lab):
    rules = [grpc_case("busy", retries={"attempts": 3, "retryOn": "resource-exhausted,internal"},
                       route=to("grpc")),
             grpc_case("never", retries={"attempts": 0}, route=to("grpc")), {"route": to("grpc")}]
    with Rules(lab, "grpc", *rules):
        key = time.monotonic_ns()
        assert run(lab, "grpc", f"""
def tell(case, fail, call=client.unary):
    metadata = [("case", case), ("fail-first", f"{key}-{{case}}-" + fail)]
    try:
        _, done = call.with_call(b"", metadata=metadata, timeout=10)
        print(case, "attempt", dict(done.trailing_metadata())["attempt"])
    except grpc.RpcError as error:
        print(case, "failed", error.code().value[0], error.details())
tell("default", "a 2 14")
tell("default", "b 3 14")
tell("default", "c 1 8")
tell("busy", "d 3 8")
tell("busy", "e 1 13")
tell("busy", "f 1 14")
tell("never", "g 1 14")
""").splitlines() == [
            "default attempt 3", "default failed 14 try 3", "default failed 8 try 1",
            "busy attempt 4", "busy attempt 2", "busy failed 14 try 1", "never failed 14 try 1"]


def test_grpc_messages_are_counted(lab):
    def counts():
        labels = {"destination_service": "grpc.m.svc.cluster.local", "reporter": "waypoint"}
        return [sum(value for _, value in samples(lab, name, **labels)) for name in (
            "istio_request_messages_total", "istio_response_messages_total")]

    before = counts()
    run(lab, "grpc", """
client.unary(b"x", timeout=5)
list(client.down(b"100 3000", timeout=5))
client.up(iter([b"y" * 20000] * 30), timeout=5)
""")
    wait_until(lambda: [b - a for a, b in zip(before, counts())] == [32, 102])
    ok = samples(lab, "istio_requests_total", grpc_response_status="0", request_protocol="grpc",
                 destination_workload="grpc", response_code="200")
    assert ok


# WebSocket


@pytest.mark.main
@pytest.mark.parametrize("url", ["web.m/ws", "ws.m/", "asgi.m/"])
def test_websocket_from_http1(lab, url):
    """To aiohttp and websockets over HTTP/1.1, to hypercorn over HTTP/2."""
    assert run(lab, "ws", f"""
async with connect("ws://{url}", subprotocols=["chat"], max_size=64 << 20) as ws:
    print(ws.subprotocol)
    await ws.send("hello")
    print(await ws.recv())
    big = os.urandom(5 << 20)
    await ws.send(big)
    print(await ws.recv() == big)
    await asyncio.wait_for(await ws.ping(), 5)
print(ws.close_code)
""").splitlines() == ["chat", "hello", "True", "1000"]


def test_websocket_from_http1_to_http2(lab):
    scope = json.loads(run(lab, "ws", """
async with connect("ws://asgi.m/", extra_headers={"origin": "http://o"}) as ws:
    await ws.send("scope")
    print(await ws.recv())
"""))
    fields = dict(scope["fields"])
    assert scope["version"] == "2" and fields["origin"] == "http://o"
    assert fields["sec-websocket-version"] == "13" and "upgrade" not in fields


@pytest.mark.main
@pytest.mark.parametrize("host,path", [("web.m", "/ws"), ("ws.m", "/"), ("asgi.m", "/")])
def test_websocket_from_http2(lab, host, path):
    """RFC 8441, to servers of both versions."""
    assert run(lab, "ws_h2", f"""
ws = WebSocket("{host}", "{path}", fields=[("sec-websocket-protocol", "chat")])
print(ws.is_announced, ws.head()[":status"], ws.head()["sec-websocket-protocol"])
print("sec-websocket-accept" in ws.head(), "connection" in ws.head())
print(ws.ask("hello"))
big = os.urandom(3 << 20)
print(ws.ask(big) == big)
""").splitlines() == ["True 200 chat", "False False", "hello", "True"]


def test_websocket_closes_pass(lab):
    assert run(lab, "ws_h2", """
ws = WebSocket("web.m", "/ws")
print(ws.ask("close 4001"))
ws.until(lambda: ws.is_ended)
""") == "('closed', 4001)"
    assert run(lab, "ws", """
async with connect("ws://web.m/ws") as ws:
    await ws.send("close 4002")
    await ws.wait_closed()
    print(ws.close_code, ws.close_reason)
""") == "4002 as asked"


def test_websocket_outlives_the_timeout(lab):
    with Rules(lab, "web", {"timeout": "0.2s", "route": to("web")}):
        assert run(lab, "ws", """
async with connect("ws://web.m/ws") as ws:
    await asyncio.sleep(0.6)
    await ws.send("still")
    print(await ws.recv())
""") == "still"


HANDSHAKE = ["-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H",
             "Sec-WebSocket-Version: 13", "-H"]
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="


def test_websocket_refusals_pass(lab):
    assert curl(lab, "http://asgi.m/refuse", *HANDSHAKE, KEY).status == 403
    reply = curl(lab, "http://web.m/headers", *HANDSHAKE, KEY)  # a server that ignores Upgrade
    assert reply.status == 200 and '"upgrade", "websocket"' in reply.body.lower()
    # What HTTP/2 has no way to say is no acceptance there.
    assert run(lab, "ws_h2", """
for path in ("/headers", "/status/404"):
    print(WebSocket("web.m", path).head()[":status"])
""").splitlines() == ["502", "404"]


def test_websocket_that_cannot_be(lab):
    # to a server of HTTP/2 that has not announced it (RFC 8441 3)
    reply = curl(lab, "http://nginx.m:81/", *HANDSHAKE, KEY)
    assert reply.status == 502 and "no WebSockets over HTTP/2" in reply.body
    # a handshake without a key could not be answered
    assert curl(lab, "http://asgi.m/", *HANDSHAKE, "Sec-WebSocket-Key: short").status == 400


@pytest.mark.parametrize("proof,status", [("none", "502"), ("wrong", "502"), ("right", "200")])
@pytest.mark.parametrize("has_key", [False, True])
def test_websocket_proof_is_checked(lab, net, proof, status, has_key):
    """From HTTP/2 to HTTP/1.1: with the key of the client, if it has one, else ours."""
    sent = "bWluZSBpcyBoYW5kbWFkZQ=="
    import base64
    import hashlib

    def serve(conn):
        head = exchange(conn, b"", b"\r\n\r\n").decode()
        key = re.search(r"sec-websocket-key: (\S+)", head, re.I)[1]
        assert len(base64.b64decode(key)) == 16 and (key == sent) == has_key
        good = base64.b64encode(hashlib.sha1(
            f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()
        line = {"none": "", "wrong": "Sec-WebSocket-Accept: " + good[::-1] + "\r\n",
                "right": f"Sec-WebSocket-Accept: {good}\r\n"}[proof]
        conn.sendall(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                     f"Connection: Upgrade\r\n{line}\r\n".encode())
        read_all(conn)

    with net.serve("raw", 8080, serve):
        fields = [("sec-websocket-key", sent)] if has_key else []
        status_got, has_proof = run(lab, "ws_h2", f"""
head = WebSocket("raw.m", "/", fields={fields}).head()
print(head[":status"], "sec-websocket-accept" in head)
""").split()
    assert status_got == status
    assert has_proof == str(has_key and status == "200")


def test_other_upgrades(lab):
    reply = curl(lab, "http://web.m/headers", "-H", "Connection: Upgrade", "-H", "Upgrade: foo")
    assert reply.status == 403
    # h2c is not an upgrade that anyone must take (RFC 9113 3.1): the request is served as it is
    reply = curl(lab, "http://web.m/headers", "--http2")
    assert reply.status == 200 and "http2-settings" not in reply.body.lower()
    assert "upgrade" not in dict(json.loads(reply.body)["fields"])


# Messages of HTTP


def vip(lab, name, port=80):
    return lab.vip(name, "m"), port


def seen_by_server(reply):
    """What /headers of web_peer.py tells: method, path and fields of the request."""
    got = json.loads(reply.body)
    return got["method"], got["path"], dict(got["fields"])


def test_expect_continue_is_the_servers(lab, net):
    """The body is asked for by the server, or refused without having been sent."""
    with net.connect("client", vip(lab, "web")) as conn:
        head = b"POST /%s HTTP/1.1\r\nHost: web.m\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        assert exchange(conn, head % b"count", b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        got = exchange(conn, b"hello", b"\r\n\r\n5")
        assert got.startswith(b"HTTP/1.1 200 OK\r\n")
        got = exchange(conn, head % b"refuse", b"\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 417 ")
    done = lab.exec("m/client", "curl", "-sS", "-m", "10", "--http2-prior-knowledge", "-H",
                    "Expect: 100-continue", "-d", "hello", "-w", " %{http_code}", "http://web.m/count")
    assert done.out == "5 200"


@pytest.mark.parametrize("flags", [[], ["--http2-prior-knowledge"]], ids=["h1", "h2"])
def test_answers_without_a_body(lab, flags):
    for url, status in (("web.m/status/204", 204), ("web.m/status/304", 304),
                        ("nginx.m/nothing", 204), ("nginx.m:81/nothing", 204)):
        reply = curl(lab, f"http://{url}", *flags)
        assert (reply.status, reply.body) == (status, ""), url
        assert "transfer-encoding" not in reply.headers
    for url in ("web.m/bytes/1000", "nginx.m/file", "nginx.m:81/file", "nghttpd.m/file"):
        reply = curl(lab, f"http://{url}", "-I", *flags)
        assert reply.status == 200 and reply.body == "", url
        assert reply.headers["content-length"] in ("1000", "100000"), url


@pytest.mark.parametrize("url", ["nginx.m/trailers", "nginx.m:81/trailers", "nghttpd.m/file"])
def test_trailers(lab, url):
    """Of nginx over both versions, and nghttpd."""
    done = lab.exec("m/client", "nghttp", "-nv", f"http://{url}")
    assert ":status: 200" in done.out
    assert re.search(r"recv \(stream_id=\d+\) x-sum: done", done.out), done


def test_trailers_to_http1(lab):
    done = lab.exec("m/client", "curl", "-sS", "-m", "10", "-D", "-", "-o", "/dev/null", "-H",
                    "TE: trailers", "http://nginx.m/trailers")
    head, _, trailers = done.out.replace("\r\n", "\n").partition("\n\n")
    assert "chunked" in head and "x-sum: done" in trailers.splitlines(), done


def test_trailers_of_a_request(lab, net):
    with net.serve("raw", 8080) as server, net.connect("client", vip(lab, "raw")) as conn:
        conn.sendall(b"POST / HTTP/1.1\r\nHost: raw.m\r\nTrailer: x-sum\r\n"
                     b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\nHost: evil\r\n\r\n")
        far = server.conn()
        got = exchange(far, b"", b"\r\n\r\n")
        while not got.endswith(b"\r\n\r\n") or b"\r\n0\r\n" not in got:
            got += far.recv(65536)
        body = got.partition(b"\r\n\r\n")[2]
        assert body == b"3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n"  # and nothing that decides afterwards
        far.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        assert exchange(conn, b"", b"ok")


def test_early_hints(lab):
    done = lab.exec("m/client", "curl", "-sS", "-i", "-m", "10", "http://web.m/hints")
    first, second, body = done.out.replace("\r\n", "\n").split("\n\n")
    assert first.splitlines() == ["HTTP/1.1 103 Early Hints", "link: </a.css>; rel=preload"]
    assert second.startswith("HTTP/1.1 200 ") and body == "hinted"


def test_both_directions_at_once_http1(lab, net):
    """Each piece comes back before the next one is sent."""
    with net.connect("client", vip(lab, "web")) as conn:
        exchange(conn, b"POST /echo HTTP/1.1\r\nHost: web.m\r\nTransfer-Encoding: chunked\r\n\r\n"
                 b"5\r\nfirst\r\n", b"5\r\nfirst\r\n")
        assert exchange(conn, b"6\r\nsecond\r\n", b"\r\n") == b"6\r\nsecond\r\n"
        assert exchange(conn, b"0\r\n\r\n", b"0\r\n\r\n") == b"0\r\n\r\n"
        # and the connection goes on
        assert exchange(conn, b"GET /bytes/0 HTTP/1.1\r\nHost: web.m\r\n\r\n", b"\r\n\r\n")


def test_server_sent_events(lab, net):
    """They come as they happen, and the server hears when the client has gone."""
    def publish(text):
        return lab.exec("m/client", "curl", "-sS", "-m", "10", "-d", text, "http://web.m/events").out

    with net.connect("client", vip(lab, "web")) as conn:
        exchange(conn, b"GET /events HTTP/1.1\r\nHost: web.m\r\n\r\n", b"event: ready\ndata:\n\n")
        for text in ("one", "two"):
            assert publish(text) == "1"
            assert exchange(conn, b"", b"\n\n").count(f"data: {text}\n\n".encode()) == 1
    wait_until(lambda: publish("nobody") == "0")


def test_answers_that_break_off_look_so(lab):
    for flags, code in (([], (18, 56)), (["--http2-prior-knowledge"], (92,))):
        done = lab.exec("m/client", "curl", "-sS", "-m", "10", *flags, "http://web.m/cut")
        assert done.out == "the beginning" and done.code in code, done


def test_answer_before_the_request_has_ended(lab):
    done = lab.exec("m/client", "sh", "-c", "head -c 30000000 /dev/zero | curl -sS -m 20 -T - "
                    "-w ' %{http_code}' http://web.m/early", timeout=30)
    assert done.out == "too much 413", done


def test_slow_client(lab, net):
    """A byte at a time, head and body."""
    with net.connect("client", vip(lab, "web")) as conn:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"POST /count HTTP/1.1\r\nHost: web.m\r\nContent-Length: 40\r\n\r\n" + b"x" * 40:
            conn.sendall(bytes([byte]))
            time.sleep(0.003)
        assert exchange(conn, b"", b"\r\n\r\n40").startswith(b"HTTP/1.1 200 OK\r\n")


def test_pipelined_requests(lab, net):
    with net.connect("client", vip(lab, "web")) as conn:
        conn.sendall(b"".join(b"GET /bytes/%d HTTP/1.1\r\nHost: web.m\r\n\r\n" % n
                              for n in (10, 20, 30)))
        got = b""
        while got.count(b"HTTP/1.1 200 OK") < 3 or not got.endswith(bytes(range(30))):
            got += conn.recv(65536)
        assert [int(n) for n in re.findall(rb"content-length: (\d+)", got)] == [10, 20, 30]


def pss(lab):
    """KiB of the waypoint's process."""
    where = f"m/{waypoints(lab)[0]['name']}"
    done = lab.exec(where, "sh", "-c", "for p in /proc/[0-9]*; do read -r name < $p/comm; "
                    "[ $name != waypoint ] || cat $p/smaps_rollup; done")
    return int(re.search(r"^Pss:\s+(\d+) kB", done.out, re.M)[1])


@pytest.mark.parametrize("url", ["web", "nghttpd"])
def test_stalled_readers_bound_the_memory(lab, net, url):
    """12 clients that do not read: what waits for them in the waypoint is windows, not bodies."""
    path = b"/bytes/64000000" if url == "web" else b"/file"
    before = pss(lab)
    conns = [net.connect("client", vip(lab, url), 30) for _ in range(12)]
    for conn in conns:
        n = 1 if url == "web" else 640
        conn.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path * n)
    time.sleep(1.5)
    # a window of 256 KiB each, growth of 16 MiB in the tunnel of each of 2 workers, queues
    assert pss(lab) - before < 2 * 16 * 1024 + 12 * 1024 or SANITIZED
    total = 0
    while total < 50 * MB:
        total += len(conns[0].recv(1 << 20))
    for conn in conns:
        conn.close()


@pytest.mark.parametrize("port", [80, 81], ids=["h1", "h2"])
def test_slow_readers_are_not_cut(lab, net, port):
    """24 clients that were fast pause at the same time, and go on."""
    conns = [net.connect("client", vip(lab, "nginx", port), 30) for _ in range(24)]
    got = [0] * len(conns)

    def read(i, up_to):
        while got[i] < up_to:
            part = conns[i].recv(1 << 18)
            assert part, f"{i} ended after {got[i]} bytes"
            got[i] += len(part)

    def all_read(up_to):
        threads = [threading.Thread(target=read, args=(i, up_to)) for i in range(len(conns))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

    for conn in conns:
        conn.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    all_read(4_000_000)
    time.sleep(0.7)  # what is under way arrives, and waits
    all_read(12_000_000)
    assert min(got) >= 12_000_000, got
    for conn in conns:
        conn.close()


@pytest.mark.main
def test_the_end_waits_for_a_slow_reader(lab, net):
    """An answer behind which the connection ends is not lost on a client that reads it later, and
    does not close its own side."""
    for url in ("web", "nginx"):
        with net.connect("client", vip(lab, url)) as conn:
            path = b"/bytes/3000000" if url == "web" else b"/big"
            conn.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path)
            time.sleep(1.6)
            got = len(read_all(conn))
            assert got > (3_000_000 if url == "web" else 12_000_000)
            time.sleep(1.2)
            assert conn.recv(1) == b""  # a clean end, that stays one


def test_stalled_server_bounds_the_memory(lab, net):
    """Uploads to a server that does not read stop the clients; later all of it arrives."""
    go = threading.Event()
    sums = []

    def serve(conn):
        head = exchange(conn, b"", b"\r\n\r\n")
        go.wait(20)
        n = len(head.partition(b"\r\n\r\n")[2])
        while n < 64 * MB:
            n += len(conn.recv(1 << 20))
        sums.append(n)
        conn.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    before = pss(lab)
    with net.serve("raw", 8080, serve):
        load = [lab.popen("m/client", "sh", "-c", f"head -c {64 * MB} /dev/zero | curl -sS -m 60 "
                          "--data-binary @- -w '%{http_code}' http://raw.m/") for _ in range(3)]
        time.sleep(1.5)
        assert pss(lab) - before < 12 * 1024 or SANITIZED
        go.set()
        assert [p.communicate(timeout=60)[0] for p in load] == ["200"] * 3
    assert sums == [64 * MB] * 3


# Connections to servers


def test_nginx_closes_idle_connections(lab):
    """The race of its keepalive_timeout against the next request: nobody sees it."""
    out = lab.exec("m/client", PYTHON, "-c", """
import collections, http.client, random, threading, time
out = collections.Counter()
def run(seed):
    pause = random.Random(seed)
    conn = http.client.HTTPConnection("nginx.m", 82, timeout=10)
    for _ in range(40):
        conn.request("GET", "/")
        answer = conn.getresponse()
        answer.read()
        out[answer.status] += 1
        time.sleep(pause.uniform(0.0195, 0.0225))
threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(dict(out))
""")
    assert out.out.strip() == "{200: 320}", out


class ClosesUnderRequests:
    """A server that answers the first request of a connection, and closes at the second."""

    def __init__(self):
        self.seen = []

    def __call__(self, conn):
        for answer in (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1", b""):
            head = exchange(conn, b"", b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            while length and len(head.partition(b"\r\n\r\n")[2]) < int(length[1]):
                head += conn.recv(65536)
            self.seen.append(head)
            conn.sendall(answer)


@pytest.mark.parametrize("method,attempts,status", [
    (b"GET", 2, b"200"), (b"PUT", 2, b"200"), (b"POST", 2, b"503"), (b"GET", 0, b"503")])
def test_repeatable_requests_are_sent_again(lab, net, method, attempts, status):
    server = ClosesUnderRequests()
    rule = {"route": to("raw"), "retries": {"attempts": attempts} if attempts == 0 else {
        "attempts": attempts, "retryOn": "connect-failure"}}
    with Rules(lab, "raw", rule), net.serve("raw", 8080, server), \
            net.connect("client", vip(lab, "raw")) as conn:
        request = b"%s /%%d HTTP/1.1\r\nHost: raw.m\r\nContent-Length: 3\r\n\r\nabc" % method
        assert exchange(conn, request % 1, b"\r\n\r\n1").startswith(b"HTTP/1.1 200")
        assert exchange(conn, request % 2, b"\r\n\r\n").startswith(b"HTTP/1.1 " + status)
        again = [head for head in server.seen if b"/2 HTTP/1.1" in head]
        assert len(again) == (2 if status == b"200" else 1)
        assert all(head.endswith(b"\r\n\r\nabc") for head in again)


@pytest.mark.main
@pytest.mark.parametrize("url", ["nginx.m/", "nginx.m:81/", "nghttpd.m/file"])
def test_many_streams(lab, url):
    """h2load over HTTP/2 and 1.1, to servers of HTTP/1.1 and 2."""
    for flags in (["-c", "10", "-m", "32", "-n", "4000"], ["--h1", "-c", "16", "-n", "1000"]):
        done = lab.exec("m/client", "h2load", *flags, f"http://{url}", timeout=60)
        n = int(flags[-1])
        assert f"{n} succeeded, 0 failed, 0 errored, 0 timeout" in done.out, done
        assert f"status codes: {n} 2xx" in done.out, done


# Headers (docs/WAYPOINT.md)

TRACE = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "baggage": "user=jason,x=%20y",
    "b3": "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1",
    "x-b3-traceid": "80f198ee56343ba864fe8b2a57d3eff7", "x-b3-spanid": "e457b5a2e4d86bd1",
    "x-b3-parentspanid": "05e3ac9a4f6e3b90", "x-b3-sampled": "0", "x-b3-flags": "1",
    "x-cloud-trace-context": "105445aa7843bc8bf206b120001000/1;o=1",
    "x-ot-span-context": "1;2;3;4", "x-client-trace-id": "abc",
}
KEPT = {**TRACE, "x-forwarded-for": "192.0.2.1, 10.0.0.7", "x-forwarded-proto": "https",
        "x-forwarded-host": "outside.test", "x-request-id": "mine-17", "x-envoy-external-address":
        "192.0.2.1", "forwarded": "for=192.0.2.1", "via": "1.1 other", "te": "trailers",
        "accept-encoding": "gzip, br", "x-obs": "caf\u00e9"}
NOT_THE_CLIENTS = {
    "x-envoy-attempt-count": "9", "x-envoy-original-path": "/forged",
    "x-envoy-expected-rq-timeout-ms": "1", "x-envoy-is-timeout-retry": "1",
    "x-envoy-decorator-operation": "forged", "x-forwarded-client-cert": "By=forged;URI=forged",
    "x-envoy-max-retries": "1", "x-envoy-retry-on": "5xx", "x-envoy-retry-grpc-on": "internal",
    "x-envoy-retriable-status-codes": "500", "x-envoy-retriable-header-names": "x-a",
    "x-envoy-upstream-rq-timeout-ms": "9000", "x-envoy-upstream-rq-per-try-timeout-ms": "8000",
    "x-envoy-upstream-rq-timeout-alt-response": "1"}


def flags_of(fields):
    return [x for name, value in fields.items() for x in ("-H", f"{name}: {value}")]


@pytest.mark.parametrize("flags", [[], ["--http2-prior-knowledge"]], ids=["h1", "h2"])
def test_headers_that_pass(lab, flags):
    _, _, fields = seen_by_server(curl(lab, "http://web.m/headers", *flags, *flags_of(KEPT)))
    have = {k: fields.get(k) for k in KEPT}
    have["x-obs"] = have["x-obs"].encode("latin-1").decode()
    assert have == KEPT


def test_headers_that_are_made(lab):
    reply = curl(lab, "http://web.m/headers?a=b#fragment")
    method, path, fields = seen_by_server(reply)
    assert (method, path) == ("GET", "/headers?a=b")
    assert fields["x-forwarded-proto"] == "http" and fields["x-envoy-attempt-count"] == "1"
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
                        fields["x-request-id"])
    other = seen_by_server(curl(lab, "http://web.m/headers"))[2]["x-request-id"]
    assert other != fields["x-request-id"]
    for name in (*TRACE, "x-forwarded-for", "x-forwarded-client-cert", "via", "forwarded"):
        assert name not in fields, name
    assert reply.headers["server"] == "istio-envoy"
    assert re.fullmatch(r"\d+", reply.headers["x-envoy-upstream-service-time"])


@pytest.mark.parametrize("flags", [[], ["--http2-prior-knowledge"]], ids=["h1", "h2"])
def test_headers_that_are_not_the_clients_to_send(lab, flags):
    reply = curl(lab, "http://web.m/headers", *flags, *flags_of(NOT_THE_CLIENTS))
    _, _, fields = seen_by_server(reply)
    made = {"x-envoy-attempt-count": "1", "x-envoy-expected-rq-timeout-ms": "8000"}
    assert {k: fields.get(k) for k in NOT_THE_CLIENTS if k in fields} == made


def test_headers_of_one_connection(lab):
    reply = curl(lab, "http://web.m/headers", "-H", "Connection: x-mine, keep-alive", "-H",
                 "X-Mine: 1", "-H", "Keep-Alive: timeout=5", "-H", "Proxy-Connection: keep-alive",
                 "-H", "TE: gzip;q=0.5, trailers", "-H", "X-Other: 2")
    _, _, fields = seen_by_server(reply)
    assert fields["x-other"] == "2" and fields["te"] == "trailers"
    assert fields["connection"] == "te"  # our own (RFC 9110 10.1.4)
    for name in ("x-mine", "keep-alive", "proxy-connection", "upgrade"):
        assert name not in fields, name


def test_timeouts_that_the_client_asks_for(lab):
    def ask(**fields):
        names = {f"x-envoy-upstream-rq-{k.replace('_', '-')}": v for k, v in fields.items()}
        return curl(lab, "http://web.m/hold", *flags_of(names))

    late = ask(timeout_ms="200")
    assert (late.status, late.body) == (504, "upstream request timeout")
    other = ask(timeout_ms="200", timeout_alt_response="1")
    assert (other.status, other.body) == (204, "")
    assert ask(per_try_timeout_ms="200").status == 504


def test_original_path_of_a_rewrite(lab):
    with Rules(lab, "web", {"match": [{"uri": {"prefix": "/old"}}], "rewrite": {"uri": "/headers"},
                            "route": to("web"), "timeout": "7s"}):
        _, path, fields = seen_by_server(curl(lab, "http://web.m/old?x"))
        assert path == "/headers?x" and fields["x-envoy-original-path"] == "/old?x"
        assert fields["x-envoy-expected-rq-timeout-ms"] == "7000"


def test_client_certificate_by_annotation(lab):
    """x-forwarded-client-cert tells the verified client, where the Gateway asks for it."""
    name, forged = "x-forwarded-client-cert", ["-H", "x-forwarded-client-cert: By=a;URI=b"]
    key = "ambient.istio.io/xfcc-include-client-identity"

    def tell(*flags):
        return seen_by_server(curl(lab, "http://web.m/headers", *flags))[2].get(name)

    assert tell(*forged) is None
    told = gateway()
    told["metadata"]["annotations"][key] = "true"
    lab.apply(told)
    expected = f"By={ID}waypoint;URI={ID}client"
    wait_until(lambda: tell() == expected)
    assert tell(*forged) == expected and tell("--http2-prior-knowledge") == expected
    lab.apply(gateway())
    wait_until(lambda: tell() is None)
