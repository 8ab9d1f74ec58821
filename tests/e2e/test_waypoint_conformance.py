# SPDX-License-Identifier: Apache-2.0
"""RFC 9113, RFC 7541 and RFC 9112 as tables: what a client may do to the waypoint's HTTP side, and
what it must hear. Frames are raw, each row has a connection of its own, the server is nginx.

The rows of HTTP/2 are in the order of the RFC; they cover what the test suite h2spec asks of a server
(its sections generic, http2 and hpack), with three answers of RFC 9113 in place of RFC 7540's:
priorities are ignored, a dependency on oneself too (5.3.2), and what is no preface may be HTTP/1.1
(3.3), which is answered and closed.
"""

import socket
import struct

import pytest

from lablib import namespace, pod, wait_until
from mesh.h2 import (ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, H2, PADDED,
                     PING, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, Ended, block,
                     frame)
from mesh.h2 import (COMPRESSION_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR,
                     REFUSED_STREAM, STREAM_CLOSED)
from mesh.labnet import LabNet
from test_waypoint_real import PEERS, bound, curl, peer
from test_waypoint_real import sound  # noqa: F401
from test_waypoint_tcp import gateway

HAS_PRIORITY = 0x20


@pytest.fixture(scope="module")
def lab(make_module_lab):
    files = "mkdir -p /tmp/real-files; head -c 100000 /dev/zero > /tmp/real-files/file; exec "
    made = make_module_lab([
        namespace("m", ambient=True), gateway(), pod("client", "m", node="node1", sa="client"),
        peer("nginx", "sh", "-c", f"{files} nginx -c {PEERS / 'nginx.conf'}"),
        bound("nginx", ("http", 80, 8080), ("http2", 81, 8081))])
    wait_until(lambda: curl(made, "http://nginx.m/").status == 200)
    return made


@pytest.fixture(scope="module")
def net(lab):
    return LabNet(lab, "m")


# HTTP/2

GET = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "nginx.m")]
POST = [(":method", "POST"), *GET[1:]]
FILE = [GET[0], GET[1], (":path", "/file"), GET[3]]


def u32(*values):
    return struct.pack(f">{len(values)}I", *values)


def setting(*pairs):
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", k, v) for k, v in pairs))


def head(stream, fields=GET, flags=END_HEADERS | END_STREAM, payload=None):
    return frame(HEADERS, flags, stream, block(fields) if payload is None else payload)


def opened(stream=1, fields=POST):
    return head(stream, fields, END_HEADERS)


def data(stream, payload=b"test", flags=END_STREAM):
    return frame(DATA, flags, stream, payload)


def more(stream, payload=b"", flags=END_HEADERS):
    return frame(CONTINUATION, flags, stream, payload)


def but(**changes):
    """GET with fields of these names replaced, or (None) left out."""
    named = {":" + k: v for k, v in changes.items()}
    return [(k, named.get(k, v)) for k, v in GET if named.get(k, v) is not None]


OK = ("answered", 200)
ALIVE = ("alive",)


def stream(code, number=1):
    return ("stream", code, number)


def conn(*codes):
    return ("connection", codes)


LONG = block([*GET, *((f"x-dummy-{i}", "x" * 400) for i in range(8))])
PLAIN = b"\x82\x86\x84\x41\x07nginx.m"  # GET, of the tables

HTTP2 = [
    # 3.4 preface
    ("preface", b"", ALIVE),
    # 4.1 frames
    ("unknown type", frame(0x16, 0, 0, bytes(8)), ALIVE),
    ("undefined flag", frame(PING, 0x16, 0, bytes(8)), ALIVE),
    ("reserved bit", b"\0\0\x08\x06\0\x80\0\0\0" + bytes(8), ALIVE),
    # 4.2 frame size
    ("16 KiB of DATA", opened() + data(1, bytes(16384)), OK),
    ("DATA above the limit", opened() + data(1, bytes(16385)),
     ("any", FRAME_SIZE_ERROR)),
    ("HEADERS above the limit", opened() + frame(HEADERS, 5, 3, bytes(16385)),
     conn(FRAME_SIZE_ERROR)),
    # 4.3 field sections
    ("broken field section", head(1, payload=b"\x40"), conn(COMPRESSION_ERROR)),
    ("PRIORITY in a field section", head(1, POST, 0) + frame(PRIORITY, 0, 1, bytes(5)),
     conn(PROTOCOL_ERROR)),
    ("other stream's in a field section", head(1, POST, 0) + head(3), conn(PROTOCOL_ERROR)),
    # 5.1 stream states
    ("idle: DATA", data(1), conn(PROTOCOL_ERROR, STREAM_CLOSED)),
    ("idle: RST_STREAM", frame(RST_STREAM, 0, 1, u32(8)), conn(PROTOCOL_ERROR)),
    ("idle: WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 1, u32(100)), conn(PROTOCOL_ERROR)),
    ("idle: CONTINUATION", more(1, block(GET)), conn(PROTOCOL_ERROR)),
    ("idle: PRIORITY", frame(PRIORITY, 0, 5, u32(0) + b"\0") + head(1), OK),
    ("half-closed: DATA", head(1) + data(1), ("any", STREAM_CLOSED)),
    ("half-closed: HEADERS", head(1) + head(1), ("any", STREAM_CLOSED)),
    ("half-closed: CONTINUATION", head(1) + more(1, block(GET)), conn(PROTOCOL_ERROR)),
    ("half-closed: WINDOW_UPDATE", head(1) + frame(WINDOW_UPDATE, 0, 1, u32(1)), OK),
    ("half-closed: PRIORITY", head(1) + frame(PRIORITY, 0, 1, u32(0) + b"\x10"), OK),
    ("half-closed: RST_STREAM", head(1) + frame(RST_STREAM, 0, 1, u32(8)), ALIVE),
    ("reset: DATA", opened() + frame(RST_STREAM, 0, 1, u32(8)) + data(1), ("any", STREAM_CLOSED)),
    ("reset: HEADERS", opened() + frame(RST_STREAM, 0, 1, u32(8)) + head(1), ("any", STREAM_CLOSED)),
    ("reset: CONTINUATION", opened() + frame(RST_STREAM, 0, 1, u32(8)) + more(1),
     conn(PROTOCOL_ERROR)),
    ("closed: DATA", [head(1), data(1)], ("any", STREAM_CLOSED)),
    ("closed: HEADERS", [head(1), head(1)], ("any", STREAM_CLOSED)),
    ("closed: CONTINUATION", [head(1), more(1)], conn(PROTOCOL_ERROR)),
    ("closed: PRIORITY", [head(1), frame(PRIORITY, 0, 1, bytes(5)) + head(3)], ("answered", 200, 3)),
    # 5.1.1 identifiers
    ("even identifier", head(2), conn(PROTOCOL_ERROR)),
    ("lower identifier", head(5) + head(3), conn(PROTOCOL_ERROR, STREAM_CLOSED)),
    # 5.1.2 concurrency
    ("201 streams", b"".join(opened(i) for i in range(1, 403, 2)), stream(REFUSED_STREAM, 401)),
    # 5.3.2 priorities
    ("priority 1", head(1, flags=0x25, payload=u32(0) + b"\0" + block(GET)), OK),
    ("priority 256", head(1, flags=0x25, payload=u32(0) + b"\xff" + block(GET)), OK),
    ("exclusive", head(1, flags=0x25, payload=u32(1 << 31) + b"\0" + block(GET)), OK),
    ("dependency on oneself", head(1, flags=0x25, payload=u32(1) + b"\0" + block(GET)), OK),
    ("PRIORITY on oneself", frame(PRIORITY, 0, 1, u32(1) + b"\0") + head(1), OK),
    ("PRIORITY of a higher stream", frame(PRIORITY, 0, 9, u32(7) + b"\x03") + head(1), OK),
    # 5.4, 5.5 errors, extensions
    ("unknown frame in a field section", head(1, POST, 0) + frame(0x16, 0, 0, bytes(8)),
     conn(PROTOCOL_ERROR)),
    # 6.1 DATA
    ("DATA on 0", opened() + data(0), conn(PROTOCOL_ERROR)),
    ("padded DATA", opened() + data(1, b"\6test" + bytes(6), END_STREAM | PADDED), OK),
    ("pad length of all", opened() + data(1, b"\5test", END_STREAM | PADDED), conn(PROTOCOL_ERROR)),
    ("two DATA", opened() + data(1, flags=0) + data(1), OK),
    ("empty DATA", opened() + data(1, b""), OK),
    # 6.2 HEADERS
    ("HEADERS on 0", head(0), conn(PROTOCOL_ERROR)),
    ("padded HEADERS",
     head(1, flags=0x0d, payload=b"\6" + block(GET) + bytes(6)), OK),
    ("pad length above the frame", head(1, flags=0x0d, payload=b"\xff" + block(GET)),
     conn(PROTOCOL_ERROR)),
    ("padding and priority", head(1, flags=0x2d, payload=b"\2" + bytes(5) + block(GET) + bytes(2)), OK),
    # 6.3 PRIORITY
    ("PRIORITY on 0", frame(PRIORITY, 0, 0, bytes(5)), conn(PROTOCOL_ERROR)),
    ("PRIORITY of 4", frame(PRIORITY, 0, 1, bytes(4)), ("any", FRAME_SIZE_ERROR)),
    # 6.4 RST_STREAM
    ("RST_STREAM on 0", frame(RST_STREAM, 0, 0, u32(8)), conn(PROTOCOL_ERROR)),
    ("RST_STREAM of 3", opened() + frame(RST_STREAM, 0, 1, bytes(3)), conn(FRAME_SIZE_ERROR)),
    ("RST_STREAM", opened() + frame(RST_STREAM, 0, 1, u32(8)) + head(3), ("answered", 200, 3)),
    # 6.5 SETTINGS
    ("SETTINGS ack with payload", frame(SETTINGS, ACK, 0, b"\0"), conn(FRAME_SIZE_ERROR)),
    ("SETTINGS on 1", frame(SETTINGS, 0, 1, bytes(6)), conn(PROTOCOL_ERROR)),
    ("SETTINGS of 3", frame(SETTINGS, 0, 0, bytes(3)), conn(FRAME_SIZE_ERROR)),
    ("ENABLE_PUSH 2", setting((2, 2)), conn(PROTOCOL_ERROR)),
    ("INITIAL_WINDOW_SIZE 2^31", setting((4, 1 << 31)), conn(FLOW_CONTROL_ERROR)),
    ("MAX_FRAME_SIZE 16383", setting((5, 16383)), conn(PROTOCOL_ERROR)),
    ("MAX_FRAME_SIZE 2^24", setting((5, 1 << 24)), conn(PROTOCOL_ERROR)),
    ("unknown setting", setting((0xff, 1)) + head(1), OK),
    ("ENABLE_CONNECT_PROTOCOL of a client", setting((8, 1)) + head(1), OK),
    # 6.7 PING
    ("PING ack", frame(PING, ACK, 0, b"unasked!"), ALIVE),
    ("PING on 1", frame(PING, 0, 1, bytes(8)), conn(PROTOCOL_ERROR)),
    ("PING of 6", frame(PING, 0, 0, bytes(6)), conn(FRAME_SIZE_ERROR)),
    # 6.8 GOAWAY
    ("GOAWAY on 1", frame(GOAWAY, 0, 1, u32(0, 0)), conn(PROTOCOL_ERROR)),
    ("GOAWAY, streams go on", head(1) + frame(GOAWAY, 0, 0, u32(0, 0)), ("answers", 200)),
    ("GOAWAY with an unknown code", head(1) + frame(GOAWAY, 0, 0, u32(0, 0xff)), ("answers", 200)),
    # 6.9 WINDOW_UPDATE
    ("increment 0", frame(WINDOW_UPDATE, 0, 0, u32(0)), conn(PROTOCOL_ERROR)),
    ("increment 0 of a stream", opened() + frame(WINDOW_UPDATE, 0, 1, u32(0)),
     ("any", PROTOCOL_ERROR)),
    ("WINDOW_UPDATE of 3", frame(WINDOW_UPDATE, 0, 0, bytes(3)), conn(FRAME_SIZE_ERROR)),
    ("window above 2^31-1", frame(WINDOW_UPDATE, 0, 0, u32((1 << 31) - 1)) * 2,
     conn(FLOW_CONTROL_ERROR)),
    ("window of a stream above 2^31-1",
     opened() + frame(WINDOW_UPDATE, 0, 1, u32((1 << 31) - 1)) * 2, ("any", FLOW_CONTROL_ERROR)),
    ("window above 2^31-1 by SETTINGS", opened() + frame(WINDOW_UPDATE, 0, 1, u32((1 << 31) - 65536))
     + setting((4, 65537)), conn(FLOW_CONTROL_ERROR)),
    # 6.10 CONTINUATION
    ("CONTINUATIONs", head(1, flags=END_STREAM, payload=LONG[:100]) + more(1, LONG[100:900], 0)
     + more(1, LONG[900:]), OK),
    ("empty CONTINUATIONs", head(1, flags=END_STREAM, payload=b"") + more(1, b"", 0) * 3
     + more(1, block(GET)), OK),
    ("DATA for a CONTINUATION", head(1, POST, 0) + data(1), conn(PROTOCOL_ERROR)),
    ("CONTINUATION on 0", head(1, POST, 0) + more(0), conn(PROTOCOL_ERROR)),
    ("CONTINUATION behind the end", opened() + more(1, block([("a", "b")])), conn(PROTOCOL_ERROR)),
    ("CONTINUATION behind a CONTINUATION's end", head(1, POST, 0) + more(1) + more(1),
     conn(PROTOCOL_ERROR)),
    ("CONTINUATION behind DATA", opened() + data(1, flags=0) + more(1), conn(PROTOCOL_ERROR)),
    # 7 error codes
    ("RST_STREAM with an unknown code", opened() + frame(RST_STREAM, 0, 1, u32(0xff)), ALIVE),
    # 8.1 messages
    ("HEAD", head(1, but(method="HEAD")), OK),
    ("POST", opened() + data(1), OK),
    ("POST with trailers", opened() + data(1, flags=0) + head(1, [("x-test", "ok")]), OK),
    ("trailers without END_STREAM", opened() + data(1, flags=0)
     + head(1, [("x-test", "ok")], END_HEADERS), stream(PROTOCOL_ERROR)),
    ("DATA behind trailers", opened() + head(1, [("x-test", "ok")]) + data(1),
     ("any", STREAM_CLOSED)),
    # 8.1.1 malformed messages
    ("Content-Length too large", opened(1, [*POST, ("content-length", "5")]) + data(1),
     stream(PROTOCOL_ERROR)),
    ("Content-Length too small", opened(1, [*POST, ("content-length", "3")]) + data(1),
     stream(PROTOCOL_ERROR)),
    ("Content-Length of two DATA", opened(1, [*POST, ("content-length", "1")])
     + data(1, flags=0) + data(1), stream(PROTOCOL_ERROR)),
    ("Content-Length and no body", head(1, [*POST, ("content-length", "1")]),
     stream(PROTOCOL_ERROR)),
    ("Content-Length and trailers", opened(1, [*POST, ("content-length", "1")])
     + head(1, [("a", "b")]), stream(PROTOCOL_ERROR)),
    ("Content-Length of letters", opened(1, [*POST, ("content-length", "4x")]) + data(1),
     stream(PROTOCOL_ERROR)),
    ("Content-Lengths that differ",
     opened(1, [*POST, ("content-length", "4"), ("content-length", "5")]) + data(1),
     stream(PROTOCOL_ERROR)),
    ("Content-Length", opened(1, [*POST, ("content-length", "4")]) + data(1), OK),
    # 8.2 fields
    ("upper case", head(1, [*GET, ("X-Test", "ok")]), stream(PROTOCOL_ERROR)),
    ("name with a space", head(1, [*GET, ("x test", "ok")]), stream(PROTOCOL_ERROR)),
    ("empty name", head(1, [*GET, ("", "ok")]), stream(PROTOCOL_ERROR)),
    ("NUL in a value", head(1, [*GET, ("x", "a\0b")]), stream(PROTOCOL_ERROR)),
    ("CR LF in a value", head(1, [*GET, ("x", "a\r\nb: c")]), stream(PROTOCOL_ERROR)),
    ("LF in a value", head(1, [*GET, ("x", "a\nb")]), stream(PROTOCOL_ERROR)),
    ("space in front of a value", head(1, [*GET, ("x", " a")]), stream(PROTOCOL_ERROR)),
    *((f"{name} of one connection", head(1, [*GET, (name, value)]), stream(PROTOCOL_ERROR))
      for name, value in (("connection", "keep-alive"), ("keep-alive", "1"), ("upgrade", "foo"),
                          ("proxy-connection", "close"), ("transfer-encoding", "chunked"))),
    ("te other than trailers", head(1, [*GET, ("te", "trailers, deflate")]), stream(PROTOCOL_ERROR)),
    ("te: trailers", head(1, [*GET, ("te", "trailers")]), OK),
    # 8.3 control data
    ("unknown pseudo field", head(1, [*GET, (":test", "ok")]), stream(PROTOCOL_ERROR)),
    ("pseudo field of responses", head(1, [*GET, (":status", "200")]), stream(PROTOCOL_ERROR)),
    ("pseudo field in trailers", opened() + data(1, flags=0) + head(1, [(":method", "GET")]),
     stream(PROTOCOL_ERROR)),
    ("pseudo field behind others", head(1, [GET[0], ("x-test", "ok"), *GET[1:]]),
     stream(PROTOCOL_ERROR)),
    ("empty :path", head(1, but(path="")), stream(PROTOCOL_ERROR)),
    ("relative :path", head(1, but(path="a")), stream(PROTOCOL_ERROR)),
    *((f"no :{name}", head(1, but(**{name: None})), stream(PROTOCOL_ERROR))
      for name in ("method", "scheme", "path")),
    *((f"two of {name}", head(1, [*GET, (name, value)]), stream(PROTOCOL_ERROR))
      for name, value in GET),
    ("no :authority and no Host", head(1, but(authority=None)), stream(PROTOCOL_ERROR)),
    ("Host alone", head(1, [*but(authority=None), ("host", "nginx.m")]), OK),
    ("broken :authority", head(1, but(authority="a b")), stream(PROTOCOL_ERROR)),
    ("userinfo in :authority", head(1, but(authority="u@nginx.m")), stream(PROTOCOL_ERROR)),
    ("CONNECT", head(1, [(":method", "CONNECT"), (":authority", "nginx.m:80")], END_HEADERS),
     ("answered", 403)),
    ("CONNECT with a path", head(1, but(method="CONNECT")), stream(PROTOCOL_ERROR)),
    ("other :protocol", head(1, [*but(method="CONNECT"), (":protocol", "foo")], END_HEADERS),
     ("answered", 403)),
    # 8.4 push
    ("PUSH_PROMISE", frame(PUSH_PROMISE, END_HEADERS, 1, u32(2) + block(GET)), conn(PROTOCOL_ERROR)),
    # limits of ours
    ("101 fields", head(1, [*GET, *((f"a{i}", "b") for i in range(101))]), stream(PROTOCOL_ERROR)),
    # RFC 7541 2.3.3, 6.1 indexes
    ("index 70", head(1, payload=PLAIN + b"\xc6"), conn(COMPRESSION_ERROR)),
    ("index 0", head(1, payload=PLAIN + b"\x80"), conn(COMPRESSION_ERROR)),
    # 4.2, 6.3 table size
    ("table size at the end", head(1, payload=PLAIN + b"\x21"), conn(COMPRESSION_ERROR)),
    ("table size above the limit", head(1, payload=b"\x3f\xe2\x1f" + PLAIN),
     conn(COMPRESSION_ERROR)),
    ("table size 0", head(1, payload=b"\x20" + PLAIN), OK),
    ("two table sizes", head(1, payload=b"\x20\x3f\xe1\x1f" + PLAIN), OK),
    # 5.2 strings
    ("Huffman padding of 8 bits", head(1, payload=PLAIN + b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff"),
     conn(COMPRESSION_ERROR)),
    ("Huffman padding of 0", head(1, payload=PLAIN + b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90"),
     conn(COMPRESSION_ERROR)),
    ("Huffman EOS", head(1, payload=PLAIN + b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\x49\x51\xff\xff\xff\xfa\x7f"),
     conn(COMPRESSION_ERROR)),
    ("string longer than the section", head(1, payload=PLAIN + b"\x00\x7f\x00a"),
     conn(COMPRESSION_ERROR)),
    ("integer without an end", head(1, payload=PLAIN + b"\x00\x7f" + b"\xff" * 12),
     conn(COMPRESSION_ERROR)),
    # 6.1, 6.2 representations
    ("indexed", head(1, payload=PLAIN), OK),
    ("incremental, indexed name", head(1, payload=PLAIN + b"\x7a\x04ABCD"), OK),
    ("incremental, indexed name, Huffman", head(1, payload=PLAIN + b"\x7a\x83\x94\xe7\x1f"), OK),
    ("incremental, new name", head(1, payload=PLAIN + b"\x40\x06x-test\x02ok"), OK),
    ("incremental, then indexed", [head(1, payload=PLAIN + b"\x40\x06x-test\x02ok"),
                                   head(3, payload=PLAIN + b"\xbf")], ("answered", 200, 3)),
    ("without indexing, indexed name", head(1, payload=PLAIN + b"\x0f\x2b\x02ok"), OK),
    ("without indexing, new name", head(1, payload=PLAIN + b"\x00\x06x-test\x02ok"), OK),
    ("never indexed, indexed name", head(1, payload=PLAIN + b"\x1f\x2b\x02ok"), OK),
    ("never indexed, new name", head(1, payload=PLAIN + b"\x10\x06x-test\x02ok"), OK),
]


def settle(h2, of):
    """Reads until the stream has been answered or reset, the connection has failed, or (of None) a
    PING has come back."""
    ping = b"conform!"
    if of is None:
        h2.write(frame(PING, 0, 0, ping))

    def is_settled():
        failed = h2.goaway is not None and h2.goaway[1] != 0
        if of is None:
            return failed or ping in h2.pongs
        return failed or of in h2.ended or of in h2.resets

    try:
        h2.until(is_settled)
    except (Ended, ConnectionError):
        pass


def check_http2(h2, steps, expected):
    kind = expected[0]
    number = expected[2] if len(expected) > 2 else 1
    for i, step in enumerate(steps if isinstance(steps, list) else [steps]):
        h2.write(step)
        if isinstance(steps, list) and i == 0:
            settle(h2, 1)
            assert h2.heads[1][":status"] == "200"
    goaway = h2.goaway[1] if h2.goaway else None
    if kind == "connection":
        assert h2.end() in ("eof", "reset")
        goaway = h2.goaway[1] if h2.goaway else None
        assert goaway in expected[1], goaway
        return
    settle(h2, None if kind == "alive" else number)
    goaway = h2.goaway[1] if h2.goaway else None
    if kind == "any":  # of the stream or of the connection
        settle(h2, None)
        goaway = h2.goaway[1] if h2.goaway else None
        assert expected[1] in (goaway, h2.resets.get(1)), (goaway, h2.resets)
        return
    if kind == "stream":
        assert h2.resets.get(number) == expected[1], (h2.resets, goaway, h2.heads)
    elif kind in ("answered", "answers"):
        assert h2.heads[number][":status"] == str(expected[1]), h2.resets
    if kind == "answers":  # and the connection ends then
        return
    settle(h2, None)
    assert b"conform!" in h2.pongs and (h2.goaway is None or h2.goaway[1] == 0)


@pytest.mark.parametrize("part", range(3))
def test_http2(lab, net, part):
    failed = []
    to = (lab.vip("nginx", "m"), 80)
    for name, steps, expected in HTTP2[part::3]:
        with net.connect("client", to) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            h2 = H2(sock)
            h2.until(lambda: h2.n_settings > 0)
            try:
                check_http2(h2, steps, expected)
            except (AssertionError, Ended, OSError, KeyError) as error:
                failed.append(f"{name}: wanted {expected}: {error!r}")
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("port", [80, 81], ids=["to h1", "to h2"])
def test_http2_windows(lab, net, port):
    """RFC 9113 6.9.1, 6.9.2: a window of 1, one that grows, one that became negative."""
    to = (lab.vip("nginx", "m"), port)
    with net.connect("client", to) as sock:
        h2 = H2(sock, settings=[(4, 1)])
        h2.credit = False
        h2.write(head(1, FILE))
        h2.until(lambda: len(h2.data.get(1, b"")) == 1)
        settle(h2, None)
        assert len(h2.data[1]) == 1  # and no more
        h2.write(setting((4, 3)))
        h2.until(lambda: len(h2.data[1]) == 3)
        h2.write(setting((4, 0)) + frame(WINDOW_UPDATE, 0, 1, u32(2)))  # -3 + 2
        settle(h2, None)
        assert len(h2.data[1]) == 3
        h2.write(frame(WINDOW_UPDATE, 0, 1, u32(2)))
        h2.until(lambda: len(h2.data[1]) == 4)
        h2.write(frame(WINDOW_UPDATE, 0, 1, u32(200000)) + frame(WINDOW_UPDATE, 0, 0, u32(200000)))
        h2.until(lambda: 1 in h2.ended)
        assert len(h2.data[1]) == 100000


def test_http2_settings_are_announced(lab, net):
    """200 streams, 16 KiB frames, extended CONNECT, 60 KiB of head."""
    with net.connect("client", (lab.vip("nginx", "m"), 80)) as sock:
        h2 = H2(sock)
        h2.until(lambda: h2.n_settings > 0)
        assert h2.peer_settings[3] == 200 and h2.peer_settings[8] == 1
        assert h2.peer_settings.get(5, 16384) == 16384
        assert h2.peer_settings[6] == 60 * 1024


@pytest.mark.parametrize("preface", [
    b"INVALID CONNECTION PREFACE\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX",
    b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"])
def test_http2_preface_that_is_none(lab, net, preface):
    with net.connect("client", (lab.vip("nginx", "m"), 80)) as sock:
        sock.sendall(preface)
        got = b""
        while more_of := sock.recv(65536):
            got += more_of
        assert got.startswith(b"HTTP/1.1 400 ")


# HTTP/1.1

H = b"Host: nginx.m\r\n"


def get(fields=H, line=b"GET / HTTP/1.1"):
    return line + b"\r\n" + fields + b"\r\n"


def post(fields, body=b""):
    return get(H + fields, b"POST / HTTP/1.1") + body


CHUNKED = b"Transfer-Encoding: chunked\r\n"

# (name, bytes, statuses that are right, whether the connection goes on)
HTTP1 = [
    ("plain", get(), (200,), True),
    # RFC 9112 2.2 parsing
    ("empty lines in front", b"\r\n\r\n" + get(), (200,), True),
    ("LF alone", get().replace(b"\r\n", b"\n"), (400,), False),
    ("CR alone in a value", get(H + b"X: a\rb\r\n"), (400,), False),
    ("space in front of the first field", get(b" X: a\r\n" + H), (400,), False),
    # 2.3 version
    ("HTTP/1.0", get(line=b"GET / HTTP/1.0"), (426,), False),
    ("HTTP/2.0", get(line=b"GET / HTTP/2.0"), (400, 505), False),
    ("HTTP/1.1x", get(line=b"GET / HTTP/1.1x"), (400,), False),
    ("http/1.1", get(line=b"GET / http/1.1"), (400,), False),
    ("no version", get(line=b"GET /"), (400,), False),
    # 3 request line
    ("two spaces", get(line=b"GET  / HTTP/1.1"), (400,), False),
    ("space at the end", get(line=b"GET / HTTP/1.1 "), (400,), False),
    ("method that is no token", get(line=b"GE(T / HTTP/1.1"), (400,), False),
    ("line too long", get(line=b"GET /" + b"a" * 70000 + b" HTTP/1.1"), (414, 431), False),
    # 3.2 target
    ("absolute-form", get(line=b"GET http://nginx.m/ HTTP/1.1"), (200,), True),
    ("absolute-form decides, not Host", get(b"Host: other\r\n", b"GET http://nginx.m/ HTTP/1.1"),
     (200,), True),
    ("no slash", get(line=b"GET a HTTP/1.1"), (400,), False),
    ("authority-form", get(line=b"CONNECT nginx.m:80 HTTP/1.1"), (403,), False),
    ("%00", get(line=b"GET /%00 HTTP/1.1"), (400,), True),
    ("space in the target", get(line=b"GET /a b HTTP/1.1"), (400,), False),
    ("DEL in the target", get(line=b"GET /a\x7f HTTP/1.1"), (400,), False),
    # 3.2 Host
    ("no Host", get(b""), (400,), False),
    ("empty Host", get(b"Host:\r\n"), (400,), False),
    ("two Hosts", get(H + b"Host: other\r\n"), (400,), False),
    ("two equal Hosts", get(H + H), (400,), False),
    ("Host with userinfo", get(b"Host: a@b\r\n"), (400,), False),
    ("Host with a path", get(b"Host: a/b\r\n"), (400,), False),
    ("Host with a port of letters", get(b"Host: a:b\r\n"), (400,), False),
    ("IPv6 Host", get(b"Host: [::1]:80\r\n"), (200,), True),
    # 5 fields
    ("space in front of the colon", get(H + b"X : a\r\n"), (400,), False),
    ("line folding", get(H + b"X: a\r\n b\r\n"), (400,), False),
    ("no colon", get(H + b"X\r\n"), (400,), False),
    ("empty name", get(H + b": a\r\n"), (400,), False),
    ("name that is no token", get(H + b"X[]: a\r\n"), (400,), False),
    ("NUL in a value", get(H + b"X: a\0b\r\n"), (400,), False),
    ("control character", get(H + b"X: a\x01b\r\n"), (400,), False),
    ("obs-text", get(H + b"X: \xe9\r\n"), (200,), True),
    ("no value", get(H + b"X:\r\n"), (200,), True),
    ("white space around the value", get(H + b"X: \t a \t\r\n"), (200,), True),
    ("100 fields", get(H + b"".join(b"A%d: b\r\n" % i for i in range(99))), (200,), True),
    ("101 fields", get(H + b"".join(b"A%d: b\r\n" % i for i in range(100))), (431,), False),
    ("61 KiB", get(H + b"X: " + b"a" * 61 * 1024 + b"\r\n"), (431,), False),
    # 6.1 Transfer-Encoding
    ("with Content-Length", post(CHUNKED + b"Content-Length: 3\r\n", b"0\r\n\r\n"), (400,), False),
    ("identity", post(b"Transfer-Encoding: identity\r\n"), (400, 501), False),
    ("gzip alone", post(b"Transfer-Encoding: gzip\r\n"), (400, 501), False),
    ("gzip, chunked", post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), (501,), False),
    ("chunked twice", post(b"Transfer-Encoding: chunked, chunked\r\n", b"0\r\n\r\n"), (400,), False),
    ("chunked not last", post(b"Transfer-Encoding: chunked, gzip\r\n", b"0\r\n\r\n"), (400, 501), False),
    ("two lines", post(CHUNKED + CHUNKED, b"0\r\n\r\n"), (400,), False),
    ("xchunked", post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"), (400, 501), False),
    ("vertical tab", post(b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n"), (400,), False),
    ("Chunked", post(b"Transfer-Encoding: Chunked\r\n", b"0\r\n\r\n"), (200,), True),
    ("in HTTP/1.0", get(H + CHUNKED, b"POST / HTTP/1.0") + b"0\r\n\r\n", (400, 426), False),
    # 6.2 Content-Length
    *((f"Content-Length: {text.decode()}", post(b"Content-Length: " + text + b"\r\n", b"abc"), (400,),
       False) for text in (b"-1", b"+3", b"0x3", b"3 3", b"3,4", b"3;", b"", b"18446744073709551616",
                           b"99999999999999999999999", b"3.0")),
    ("equal Content-Lengths", post(b"Content-Length: 3, 3\r\n", b"abc"), (200,), True),
    ("two equal lines", post(b"Content-Length: 3\r\n" * 2, b"abc"), (200, 400), None),
    ("two that differ", post(b"Content-Length: 3\r\nContent-Length: 4\r\n", b"abc"), (400,), False),
    ("leading zeros", post(b"Content-Length: 003\r\n", b"abc"), (200, 400), None),
    # 7.1 chunks
    ("chunks", post(CHUNKED, b"3\r\nabc\r\n0\r\n\r\n"), (200,), True),
    ("chunk extension", post(CHUNKED, b"3;a=b\r\nabc\r\n0\r\n\r\n"), (200,), True),
    ("trailers", post(CHUNKED, b"3\r\nabc\r\n0\r\nX: y\r\n\r\n"), (200,), True),
    ("A and a", post(CHUNKED, b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"), (200,), True),
    *((f"chunk size {text!r}", post(CHUNKED, text + b"\r\nabc\r\n0\r\n\r\n"), (400,), False)
      for text in (b"g", b"-3", b"0x3", b"", b" 3", b"3 ", b"ffffffffffffffff1", b"3\n")),
    ("chunk longer than said", post(CHUNKED, b"3\r\nabcd\r\n0\r\n\r\n"), (400,), False),
    ("chunk that ends in LF", post(CHUNKED, b"3\r\nabc\n0\r\n\r\n"), (400,), False),
    ("broken trailer", post(CHUNKED, b"3\r\nabc\r\n0\r\nX : y\r\n\r\n"), (400,), False),
    # 9.3, 9.6 persistence
    ("close", get(H + b"Connection: close\r\n"), (200,), False),
    ("Close among others", get(H + b"Connection: x, Close\r\n"), (200,), False),
    ("Connection that hides Host", get(H + b"Connection: host\r\n"), (400,), False),
    # RFC 9110 9.3
    ("HEAD", get(line=b"HEAD / HTTP/1.1"), (200,), True),
    ("unknown method", get(line=b"FOO / HTTP/1.1"), (200, 405), True),
    ("OPTIONS *", get(line=b"OPTIONS * HTTP/1.1"), (200, 400, 405), True),
]


def read_answer(sock, is_head):
    """Status and fields of a response, its body read."""
    got = b""
    while b"\r\n\r\n" not in got:
        part = sock.recv(65536)
        if not part:
            raise EOFError(got)
        got += part
    start, _, rest = got.partition(b"\r\n\r\n")
    lines = start.decode("latin-1").split("\r\n")
    fields = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
    left = 0 if is_head else int(fields.get("content-length", 0)) - len(rest)
    while left > 0:
        part = sock.recv(65536)
        if not part:
            raise EOFError(got)
        left -= len(part)
    return int(lines[0].split()[1]), fields


def is_open(sock):
    """Another request is answered."""
    try:
        sock.sendall(get())
        return read_answer(sock, False)[0] == 200
    except (OSError, EOFError):
        return False


@pytest.mark.parametrize("part", range(2))
def test_http1(lab, net, part):
    failed = []
    to = (lab.vip("nginx", "m"), 80)
    for name, request, statuses, goes_on in HTTP1[part::2]:
        with net.connect("client", to) as sock:
            try:
                sock.sendall(request)
                status, fields = read_answer(sock, request.startswith(b"HEAD"))
                if status not in statuses:
                    failed.append(f"{name}: {status}, wanted {statuses}")
                elif goes_on is not None and is_open(sock) != goes_on:
                    failed.append(f"{name}: {'closed' if goes_on else 'goes on'}")
                elif goes_on is False and fields.get("connection") != "close":
                    failed.append(f"{name}: does not say that it closes")
            except (OSError, EOFError) as error:
                failed.append(f"{name}: {error!r}")
    assert not failed, "\n".join(failed)


def test_http1_request_that_never_ends(lab, net):
    """A client that goes away in the middle of a request gets nothing; behind a head that was whole
    it may get the answer of a server that did not wait for the body."""
    right = (b"HTTP/1.1 400 ",)
    for cut, answers in ((b"GET / HT", right), (get()[:-2], right),
                         (post(b"Content-Length: 9\r\n", b"abc"), (*right, b"HTTP/1.1 200 ")),
                         (post(CHUNKED, b"5\r\nab"), (*right, b"HTTP/1.1 200 "))):
        with net.connect("client", (lab.vip("nginx", "m"), 80)) as sock:
            sock.sendall(cut)
            sock.shutdown(socket.SHUT_WR)
            try:
                got = sock.recv(65536)
                assert got == b"" or got.startswith(answers), got
            except ConnectionResetError:
                pass
