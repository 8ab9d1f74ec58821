# SPDX-License-Identifier: Apache-2.0
"""A small HTTP/2 endpoint, frame by frame, that can also do what it must not. RFC 9113, RFC 7541.

Header blocks are literals without indexing; of received ones only the fields with plain or digit
values are read, which is all that answers to CONNECT need.
"""

import socket
import ssl
import struct
import time
from collections import namedtuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, \
    CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, \
    FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, \
    ENHANCE_YOUR_CALM = range(12)

Frame = namedtuple("Frame", "type flags stream payload")

STATIC_STATUS = {8: "200", 9: "204", 10: "206", 11: "304", 12: "400", 13: "404", 14: "500"}
# Huffman codes of the digits: '0' to '2' have 5 bits, '3' to '9' have 6.
DIGITS = {**{(5, i): str(i) for i in range(3)}, **{(6, 0b011001 + i): str(i + 3)
                                                   for i in range(7)}}


def frame(type, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", type, flags, stream) + payload


def integer(value, bits, first=0):
    limit = (1 << bits) - 1
    if value < limit:
        return bytes([first | value])
    out, value = [first | limit], value - limit
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + [value])


def block(fields):
    out = b""
    for name, value in fields:
        name, value = name.encode(), value.encode() if isinstance(value, str) else value
        out += b"\0" + integer(len(name), 7) + name + integer(len(value), 7) + value
    return out


def digits(data):
    out, bits, n = "", 0, 0
    for byte in data:
        for i in range(7, -1, -1):
            bits, n = bits << 1 | byte >> i & 1, n + 1
            if (n, bits) in DIGITS:
                out += DIGITS[n, bits]
                bits = n = 0
    return out


def read_block(data):
    """Fields as far as they can be read without tables of our own."""
    out, at = [], 0

    def number(bits):
        nonlocal at
        value, at = data[at] & (1 << bits) - 1, at + 1
        shift = 0
        if value == (1 << bits) - 1:
            while True:
                byte, at = data[at], at + 1
                value += (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
        return value

    def text():
        nonlocal at
        is_huffman = data[at] & 128
        n = number(7)
        raw, at = data[at:at + n], at + n
        return digits(raw) if is_huffman else raw.decode("latin-1")

    while at < len(data):
        first = data[at]
        if first & 128:
            index = number(7)
            if index in STATIC_STATUS:
                out.append((":status", STATIC_STATUS[index]))
        elif first & 0xe0 == 0x20:
            number(5)
        else:
            index = number(6 if first & 64 else 4)
            name = text() if index == 0 else {8: ":status"}.get(index, f"#{index}")
            out.append((name, text()))
    return out


class Ended(Exception):
    """The connection is over. `error` is how."""


class H2:
    """A connection. Answers SETTINGS and PING by itself, and gives credit for what it reads
    unless `credit` is off."""

    def __init__(self, sock, server=False, settings=(), preface=True):
        self.sock, self.server = sock, server
        self.buffer = bytearray()
        self.next_stream = 2 if server else 1
        self.heads, self.data, self.ended, self.resets = {}, {}, set(), {}
        self.goaway, self.peer_settings, self.pongs, self.credit = None, {}, [], True
        self.n_settings, self.prefix = 0, b""
        if preface:
            payload = b"".join(struct.pack(">HI", k, v) for k, v in settings)
            self.write((b"" if server else PREFACE) + frame(SETTINGS, 0, 0, payload))
        if server:
            got = self.read_raw(len(PREFACE))
            assert got == PREFACE, got

    def write(self, data):
        self.sock.sendall(data)

    def read_raw(self, n):
        while len(self.buffer) < n:
            data = self.sock.recv(1 << 16)
            if not data:
                raise Ended("eof")
            self.buffer += data
        out = bytes(self.buffer[:n])
        del self.buffer[:n]
        return out

    def read(self):
        """The next frame, after its effect on this object."""
        head = self.read_raw(9)
        size = int.from_bytes(head[:3], "big")
        got = Frame(head[3], head[4], int.from_bytes(head[5:9], "big") & 0x7fffffff,
                    self.read_raw(size))
        if got.type == SETTINGS and not got.flags & ACK:
            for at in range(0, size, 6):
                key, value = struct.unpack_from(">HI", got.payload, at)
                self.peer_settings[key] = value
                if key == 1 and value < 4096:
                    self.prefix = b"\x20"  # RFC 7541 4.2: say that the table is smaller now
            self.n_settings += 1
            self.write(frame(SETTINGS, ACK))
        elif got.type == PING:
            if got.flags & ACK:
                self.pongs.append(got.payload)
            else:
                self.write(frame(PING, ACK, 0, got.payload))
        elif got.type == HEADERS:
            self.heads[got.stream] = dict(read_block(got.payload))
        elif got.type == DATA:
            self.data.setdefault(got.stream, bytearray()).extend(got.payload)
            if self.credit and size:
                self.write(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", size))
                           + frame(WINDOW_UPDATE, 0, got.stream, struct.pack(">I", size)))
        elif got.type == RST_STREAM:
            self.resets[got.stream] = struct.unpack(">I", got.payload)[0]
        elif got.type == GOAWAY:
            last, code = struct.unpack_from(">II", got.payload)
            self.goaway = (last, code)
        if got.type in (DATA, HEADERS) and got.flags & END_STREAM:
            self.ended.add(got.stream)
        return got

    def until(self, condition, timeout=5):
        end = time.monotonic() + timeout
        while not condition():
            left = end - time.monotonic()
            assert left > 0, "not in time"
            self.sock.settimeout(left)
            try:
                self.read()
            except socket.timeout:
                raise AssertionError("not in time") from None
        self.sock.settimeout(10)

    def end(self, timeout=5):
        """Reads until the connection is over: "eof" or "reset"."""
        self.sock.settimeout(timeout)
        try:
            while True:
                self.read()
        except Ended:
            return "eof"
        except socket.timeout:
            raise AssertionError("the connection stays open") from None
        except OSError:
            return "reset"

    def headers(self, stream, fields, end=False):
        payload, self.prefix = self.prefix + block(fields), b""
        self.write(frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, payload))

    def request(self, fields, end=False):
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        self.headers(stream, fields, end)
        return stream

    def connect(self, authority, *more, end=False):
        return self.request([(":method", "CONNECT"), (":authority", authority), *more], end)

    def status(self, stream, timeout=5):
        self.until(lambda: stream in self.heads or stream in self.resets, timeout)
        return self.heads[stream][":status"] if stream in self.heads \
            else f"reset {self.resets[stream]}"

    def send(self, stream, data, end=False):
        for at in range(0, max(len(data), 1), 16384):
            piece = data[at:at + 16384]
            is_last = at + 16384 >= len(data)
            self.write(frame(DATA, END_STREAM if end and is_last else 0, stream, piece))

    def reset(self, stream, code=CANCEL):
        self.write(frame(RST_STREAM, 0, stream, struct.pack(">I", code)))

    def close(self):
        try:
            self.sock.close()
        except OSError:
            pass


def tls(mesh, where, to, credentials, timeout=5, **context):
    """A TLS connection from a pod's namespace that no ztun captures."""
    raw = mesh.connect(where, to, timeout)
    try:
        return credentials.context(**context).wrap_socket(raw)
    except (OSError, ssl.SSLError):
        raw.close()
        raise


def hbone(mesh, where, to, credentials, timeout=5, settings=(), **context):
    return H2(tls(mesh, where, to, credentials, timeout, **context), settings=settings)
