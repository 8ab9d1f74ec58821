# SPDX-License-Identifier: Apache-2.0
"""Servers that tell which way a request came, and clients that keep their connections.

A waypoint adds x-request-id, so that a server answers "waypoint" to a request that has one and
"direct" to all others.
"""

import contextlib
import select
import socket
import threading
import time

from lablib import wait_until
from mesh import h2
from mesh.web import read_until

WAYS = (b"direct", b"waypoint")


def http1_server(chunked=False, after=0.0):
    """A handler for LabNet.serve: HTTP/1.1, connections are kept."""
    def handle(conn):
        data = b""
        while True:
            data = read_until(conn, b"\r\n\r\n", data)
            if b"\r\n\r\n" not in data:
                return
            head, _, data = data.partition(b"\r\n\r\n")
            time.sleep(after)
            body = WAYS[b"x-request-id" in head.lower()]
            if chunked:
                conn.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                conn.sendall(b"%x\r\n%s\r\n" % (len(body), body))
                conn.sendall(b"0\r\n\r\n")
            else:
                conn.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
    return handle


def http_server(after=0.0):
    """The same, and HTTP/2 without TLS, whose streams are answered one after the other."""
    http1 = http1_server(after=after)

    def handle(conn):
        if conn.recv(3, socket.MSG_PEEK) != b"PRI":
            http1(conn)
            return
        peer = h2.H2(conn, server=True)
        with contextlib.suppress(h2.Ended):
            while True:
                got = peer.read()
                if got.type not in (h2.DATA, h2.HEADERS) or not got.flags & h2.END_STREAM:
                    continue
                time.sleep(after)
                body = WAYS[b"x-request-id" in got.payload]
                peer.headers(got.stream, [(":status", "200"), ("content-length", str(len(body)))])
                peer.send(got.stream, body, end=True)
    return handle


def response(conn):
    """(body, is it the last one of the connection). EOFError: it ended before its end."""
    data = read_until(conn, b"\r\n\r\n")
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        raise EOFError(data)
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    is_last = fields.get(b"connection") == b"close"
    assert head.startswith(b"HTTP/1.1 200"), head
    if b"content-length" in fields:
        while len(body) < int(fields[b"content-length"]):
            more = conn.recv(65536)
            if not more:
                raise EOFError(body)
            body += more
        return body, is_last
    body = read_until(conn, b"0\r\n\r\n", body)
    if not body.endswith(b"0\r\n\r\n"):
        raise EOFError(body)
    return body.split(b"\r\n")[1], is_last


class Requests:
    """Requests from a thread each, on connections that are kept, while the block runs.

    answers: (when, body); failures: (when, text); n_again: requests that were sent once more, on a
    new connection, since the kept one turned out to be closed before any byte of the answer.
    """

    def __init__(self, net, source, to, threads=4, interval=0.005):
        self.net, self.source, self.to, self.interval = net, source, to, interval
        self.answers, self.failures, self.n_again, self.n_opened = [], [], 0, 0
        self.is_on, self.running = True, []
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(threads)]

    def run(self):
        client = self.client()
        self.request(client)
        self.running.append(threading.get_ident())
        while self.is_on:
            if self.interval:
                time.sleep(self.interval)
            self.request(client)

    def request(self, client):
        try:
            self.answers.append((time.monotonic(), client()))
        except (OSError, EOFError, AssertionError, h2.Ended) as e:
            self.failures.append((time.monotonic(), repr(e)))

    def open(self):
        self.n_opened += 1
        return self.net.connect(self.source, self.to)

    def ways(self, since=0.0):
        return {body for at, body in self.answers if at >= since}

    def all_go(self, way, timeout=15.0):
        """Waits until every request of the last half second went this way."""
        wait_until(lambda: self.ways(time.monotonic() - 0.5) == {way}, timeout)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        wait_until(lambda: len(self.running) == len(self.threads), 10, "each had an answer")
        return self

    def __exit__(self, kind, *_):
        self.is_on = False
        for thread in self.threads:
            thread.join(10)
        if kind is None:
            assert not self.failures, \
                f"{len(self.failures)} of {len(self.answers) + len(self.failures)} requests " \
                f"failed: {[text for _, text in self.failures[:5]]}"


class Http1(Requests):
    """As pools of HTTP/1.1 clients do: a connection that has become readable is thrown away, and an
    idempotent request that met a closed one is sent again."""

    def client(self):
        conn = None

        def ask():
            nonlocal conn
            if conn is not None and select.select([conn], [], [], 0)[0]:
                conn.close()
                conn = None
            is_kept = conn is not None
            conn = conn or self.open()
            try:
                conn.sendall(b"GET / HTTP/1.1\r\nhost: server\r\n\r\n")
                body, is_last = response(conn)
            except (OSError, EOFError) as e:
                conn.close()
                conn = None
                if not is_kept or (isinstance(e, EOFError) and e.args[0]):
                    raise
                self.n_again += 1
                return ask()
            if is_last:
                conn.close()
                conn = None
            return body
        return ask


class Http2(Requests):
    """One request at a time; after GOAWAY the next one opens a connection. Nothing is sent again."""

    def client(self):
        peer = None

        def ask():
            nonlocal peer
            while peer is not None and select.select([peer.sock], [], [], 0)[0]:
                try:
                    peer.read()
                except (h2.Ended, OSError):
                    peer.close()
                    peer = None
            if peer is not None and peer.goaway is not None:
                peer.close()
                peer = None
            peer = peer or h2.H2(self.open())
            try:
                stream = peer.request([(":method", "GET"), (":scheme", "http"), (":path", "/"),
                                       (":authority", "server")], end=True)
                peer.until(lambda: stream in peer.ended or stream in peer.resets)
                assert stream in peer.ended, f"reset {peer.resets[stream]}"
                return bytes(peer.data.pop(stream))
            except (OSError, h2.Ended, AssertionError):
                peer.close()
                peer = None
                raise
        return ask


__all__ = ["Http1", "Http2", "http1_server", "http_server", "response"]
