#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A small HTTP/1.1 server for the lab: one thread per connection, keep-alive, IPv4 and IPv6.

    GET /            "server v1 server-v1-x7k from 10.244.1.3"
    GET /bytes/N     N bytes
    GET /slow[/S]    the answer of / after S seconds (2)
    GET /stream[/S]  a line every 100 ms for S seconds (60), chunked
    GET /status/N    an answer with that status
    GET /unless/V    503 if this is version V, else the answer of /
    GET /headers     the request's headers
    POST /echo       the body, back
    GET /ready       200, or 503 while the file $READY_FILE (/tmp/not-ready) exists

Environment: PORT (8080; several with commas), VERSION (v1), NAME ("server"), READY_FILE;
LOG_REQUESTS: a prefix of the paths of requests that are logged ("/" = all; none without it).
SIGTERM: stops accepting, finishes the requests that run, exits 0.
"""

import http.server
import os
import signal
import socket
import socketserver
import sys
import threading
import time

NAME = os.environ.get("NAME", "server")
VERSION = os.environ.get("VERSION", "v1")
NOT_READY = os.environ.get("READY_FILE", "/tmp/not-ready")
LOGGED = os.environ.get("LOG_REQUESTS")
CHUNK = bytes(range(256)) * 256
BYTES_MAX = 16 << 30

active = 0
idle = threading.Condition()
is_stopping = False


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    disable_nagle_algorithm = True

    def answer(self, status, body, kind="text/plain"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if is_stopping:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)

    def hello(self):
        peer = self.client_address[0].removeprefix("::ffff:")
        self.answer(200, f"{NAME} {VERSION} {socket.gethostname()} from {peer}\n".encode())

    def number(self, default):
        parts = self.path.split("?")[0].split("/")
        try:
            return max(0, min(float(parts[2]), BYTES_MAX))
        except (IndexError, ValueError):
            return default

    def send_bytes(self, n):
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(n))
        self.end_headers()
        while n > 0:
            n -= self.wfile.write(CHUNK[:n])

    def stream(self, seconds):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        end = time.monotonic() + seconds
        n = 0
        while time.monotonic() < end and not is_stopping:
            line = f"tick {n}\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.flush()
            n += 1
            time.sleep(0.1)
        self.wfile.write(b"0\r\n\r\n")

    def route(self):
        path = self.path.split("?")[0]
        if path == "/ready":
            is_ready = not os.path.exists(NOT_READY) and not is_stopping
            self.answer(200 if is_ready else 503, b"ready\n" if is_ready else b"not ready\n")
        elif path.startswith("/bytes/"):
            self.send_bytes(int(self.number(0)))
        elif path.startswith("/slow"):
            time.sleep(self.number(2))
            self.hello()
        elif path.startswith("/stream"):
            self.stream(self.number(60))
        elif path.startswith("/status/"):
            status = int(self.number(200))
            self.answer(status if 200 <= status <= 599 else 400, b"")
        elif path == f"/unless/{VERSION}":
            self.answer(503, f"{NAME} {VERSION} fails\n".encode())
        elif path == "/headers":
            self.answer(200, str(self.headers).encode())
        else:
            self.hello()

    def do_GET(self):
        global active
        with idle:
            active += 1
        try:
            self.route()
            self.wfile.flush()
        finally:
            with idle:
                active -= 1
                idle.notify_all()

    do_HEAD = do_GET

    def do_POST(self):
        length = total = int(self.headers.get("Content-Length", 0))
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        while length > 0:
            data = self.rfile.read(min(length, 65536))
            if not data:
                break
            self.wfile.write(data)
            length -= len(data)
        self.log_message("%s echoed %d of %d bytes", self.path, total - length, total)

    def log_message(self, format, *args):
        if LOGGED and getattr(self, "path", "").startswith(LOGGED):
            sys.stderr.write("%s %s\n" % (self.client_address[0], format % args))


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, port):
        # A pod may have no IPv6 at all.
        try:
            self.address_family = socket.AF_INET6
            super().__init__(("::", port), Handler)
        except OSError:
            self.address_family = socket.AF_INET
            super().__init__(("0.0.0.0", port), Handler)

    def server_bind(self):
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", self.server_address[1]

    def handle_error(self, request, client_address):
        pass  # a client that went away


def main():
    servers = [Server(int(port)) for port in os.environ.get("PORT", "8080").split(",")]
    stop = threading.Event()

    def on_term(*_):
        global is_stopping
        is_stopping = True
        stop.set()

    signal.signal(signal.SIGTERM, on_term)
    signal.signal(signal.SIGINT, on_term)
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    print(f"{NAME} {VERSION} listens on {os.environ.get('PORT', '8080')}", flush=True)
    stop.wait()
    for server in servers:
        server.shutdown()
        server.server_close()
    deadline = time.monotonic() + 20
    with idle:
        while active > 0 and time.monotonic() < deadline:
            idle.wait(0.5)


if __name__ == "__main__":
    main()
