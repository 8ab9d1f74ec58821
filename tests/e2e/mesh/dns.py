# SPDX-License-Identifier: Apache-2.0
"""DNS messages, a client in a pod, and a server for the names that the mesh does not know."""

import os
import socket
import struct
import threading
from collections import namedtuple

A, CNAME, MX, TXT, AAAA, SRV, HTTPS = 1, 5, 15, 16, 28, 33, 65
NOERROR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 2, 3, 4, 5

Answer = namedtuple("Answer", "rcode flags records raw")


def encode(name):
    return b"".join(bytes([len(p)]) + p.encode() for p in name.rstrip(".").split(".") if p) + b"\0"


def query(name, kind=A, ident=None, extra=b""):
    """`extra`: an additional record, as bytes."""
    ident = int.from_bytes(os.urandom(2), "big") if ident is None else ident
    return struct.pack(">6H", ident, 0x0100, 1, 0, 0, 1 if extra else 0) + encode(name) \
        + struct.pack(">HH", kind, 1) + extra


def read_name(data, at):
    parts, after = [], None
    while True:
        n = data[at]
        if n & 0xc0:
            after = after or at + 2
            at = (n & 0x3f) << 8 | data[at + 1]
        elif n == 0:
            return ".".join(parts), after or at + 1
        else:
            parts.append(data[at + 1:at + 1 + n].decode())
            at += n + 1


def parse(data):
    _, flags, n_questions, n_answers, _, _ = struct.unpack_from(">6H", data)
    at = 12
    for _ in range(n_questions):
        _, at = read_name(data, at)
        at += 4
    records = []
    for _ in range(n_answers):
        name, at = read_name(data, at)
        kind, _, ttl, size = struct.unpack_from(">HHIH", data, at)
        at += 10
        raw = data[at:at + size]
        if kind == A:
            value = socket.inet_ntop(socket.AF_INET, raw)
        elif kind == AAAA:
            value = socket.inet_ntop(socket.AF_INET6, raw)
        elif kind == CNAME:
            value = read_name(data, at)[0]
        else:
            value = raw
        records.append((name, kind, ttl, value))
        at += size
    return Answer(flags & 15, flags, records, data)


def read_tcp(conn):
    def exactly(n):
        out = b""
        while len(out) < n:
            data = conn.recv(n - len(out))
            if not data:
                raise EOFError
            out += data
        return out

    return exactly(int.from_bytes(exactly(2), "big"))


def resolve(mesh, where, name, kind=A, tcp=False, server="10.96.0.10", timeout=3, raw=None):
    packet = raw or query(name, kind)
    if tcp:
        with mesh.connect(where, (server, 53), timeout) as conn:
            conn.sendall(struct.pack(">H", len(packet)) + packet)
            data = read_tcp(conn)
    else:
        with mesh.socket(where, socket.AF_INET6 if ":" in server else socket.AF_INET,
                         socket.SOCK_DGRAM) as sock:
            sock.settimeout(timeout)
            sock.sendto(packet, (server, 53))
            data, address = sock.recvfrom(65535)
            assert address[0] == server, "the answer comes from the server that was asked"
    assert data[:2] == packet[:2]
    return parse(data)


class Upstream:
    """Answers in a thread: `answers` maps (name, type) to (rcode, rdata of answers); all else is
    NXDOMAIN. `seen` are the questions, with the transport and the client's address."""

    def __init__(self, mesh, where, address, answers):
        self.answers, self.seen, self.is_on = answers, [], True
        self.udp = mesh.socket(where, kind=socket.SOCK_DGRAM)
        self.udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.udp.bind((address, 53))
        self.udp.settimeout(0.1)
        self.tcp = mesh.listen(where, 53, address)
        self.tcp.settimeout(0.1)
        self.threads = [threading.Thread(target=t, daemon=True)
                        for t in (self.run_udp, self.run_tcp)]
        for thread in self.threads:
            thread.start()

    def answer(self, packet, transport, address):
        name, at = read_name(packet, 12)
        kind = struct.unpack_from(">H", packet, at)[0]
        self.seen.append((name, kind, transport, address[0], packet))
        rcode, records = self.answers.get((name.lower(), kind), (NXDOMAIN, []))
        flags = 0x8180 | rcode
        if transport == "udp" and sum(len(r) for r in records) > 400:
            flags, records = flags | 0x0200, []
        body = packet[12:at + 4] + b"".join(
            b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 77, len(r)) + r for r in records)
        return packet[:2] + struct.pack(">5H", flags, 1, len(records), 0, 0) + body

    def run_udp(self):
        while self.is_on:
            try:
                packet, address = self.udp.recvfrom(65535)
                self.udp.sendto(self.answer(packet, "udp", address), address)
            except (OSError, IndexError, ValueError, struct.error):
                continue  # garbage is one of the tests

    def run_tcp(self):
        while self.is_on:
            try:
                conn, address = self.tcp.accept()
                with conn:
                    conn.settimeout(3)
                    while True:
                        data = self.answer(read_tcp(conn), "tcp", address)
                        conn.sendall(struct.pack(">H", len(data)) + data)
            except (OSError, EOFError, IndexError, ValueError, struct.error):
                continue

    def close(self):
        self.is_on = False
        for thread in self.threads:
            thread.join(3)
        self.udp.close()
        self.tcp.close()
