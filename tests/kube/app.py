# SPDX-License-Identifier: Apache-2.0
"""What runs in the pods of the tests: a server, and a client that is told what to do.

app.py serve             HTTP on 8080, a TCP echo on 9000, and the client's commands on a local socket
app.py ctl               hands commands, a JSON object a line, to the latter; an answer a line
"""

import http.client
import json
import os
import socket
import socketserver
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

CONTROL = "\0ztun-kube-app"
WHO = {"pod": os.environ.get("POD_NAME", ""), "node": os.environ.get("NODE_NAME", "")}


# ---- server ------------------------------------------------------------------------------------


class Web(BaseHTTPRequestHandler):
    """Answers who it is, and who asks; counts what it was asked."""

    protocol_version = "HTTP/1.1"
    seen = Counter()
    lock = threading.Lock()

    def do_GET(self):
        with self.lock:
            self.seen[self.path] += 1
        body = json.dumps({**WHO, "peer": self.client_address[0].removeprefix("::ffff:")}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    request_queue_size = 128


class EchoServer(socketserver.ThreadingTCPServer):
    address_family = Server.address_family
    allow_reuse_address = True
    daemon_threads = True


# ---- client ------------------------------------------------------------------------------------


def ping(connection):
    """There and back again."""
    connection.sendall(b"ping")
    have = b""
    while len(have) < 4:
        part = connection.recv(4 - len(have))
        if not part:
            raise OSError("closed")
        have += part
    return have


def get(url, timeout=5):
    """One request on a connection of its own: HTTP, or, of tcp://, an echo."""
    place = urlsplit(url)
    if place.scheme == "tcp":
        try:
            with socket.create_connection((place.hostname, place.port), timeout) as connection:
                return {"status": ping(connection).decode()}
        except OSError as error:
            return {"error": f"{type(error).__name__}: {error}"}
    connection = http.client.HTTPConnection(place.hostname, place.port or 80, timeout=timeout)
    try:
        connection.request("GET", place.path or "/")
        answer = connection.getresponse()
        return {"status": answer.status, **json.loads(answer.read() or b"{}")}
    except (OSError, http.client.HTTPException, ValueError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    finally:
        connection.close()


def ask(url, n, headers, timeout):
    """Requests one after the other on one connection: statuses, values of the header x-rules, pods
    that answered, errors, and the quickest answer in seconds."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname, place.port or 80, timeout=timeout)
    statuses, marks, pods, errors, times = Counter(), Counter(), Counter(), Counter(), []
    for _ in range(n):
        begin = time.monotonic()
        try:
            connection.request("GET", place.path or "/", headers=headers)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            errors[f"{type(error).__name__}: {error}"] += 1
            connection.close()
            continue
        times.append(time.monotonic() - begin)
        statuses[answer.status] += 1
        marks[answer.headers.get("x-rules", "")] += 1
        if answer.status == 200:
            pods[json.loads(body)["pod"]] += 1
    connection.close()
    return {"statuses": statuses, "marks": marks, "pods": pods, "errors": errors,
            "quickest": min(times, default=0)}


class Load(threading.Thread):
    """Requests without a pause between them but `interval`, until it is told to end.

    new: a connection for each. keep: one for all, another after it is lost. echo: as keep, of
    tcp://.
    """

    def __init__(self, url, mode, interval, timeout):
        super().__init__(daemon=True)
        self.url, self.mode, self.interval, self.timeout = url, mode, interval, timeout
        self.is_over = threading.Event()
        self.done = self.failed = 0
        self.errors, self.pods, self.slowest = {}, {}, 0.0
        self.connection = None

    def ask_new(self):
        answer = get(self.url, self.timeout)
        if "error" in answer:
            raise OSError(answer["error"])
        self.pods[answer["pod"]] = self.pods.get(answer["pod"], 0) + 1

    def ask_keep(self):
        place = urlsplit(self.url)
        if self.connection is None:
            self.connection = http.client.HTTPConnection(place.hostname, place.port or 80,
                                                         timeout=self.timeout)
        self.connection.request("GET", "/")
        pod = json.loads(self.connection.getresponse().read())["pod"]
        self.pods[pod] = self.pods.get(pod, 0) + 1

    def ask_echo(self):
        place = urlsplit(self.url)
        if self.connection is None:
            self.connection = socket.create_connection((place.hostname, place.port), self.timeout)
        ping(self.connection)

    def run(self):
        ask = getattr(self, "ask_" + self.mode)
        while not self.is_over.is_set():
            begin = time.monotonic()
            try:
                ask()
                self.done += 1
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.failed += 1
                text = f"{type(error).__name__}: {error}"
                self.errors[text] = self.errors.get(text, 0) + 1
                if self.connection is not None:
                    self.connection.close()
                    self.connection = None
            self.slowest = max(self.slowest, time.monotonic() - begin)
            self.is_over.wait(self.interval)

    def summary(self):
        return {"done": self.done, "failed": self.failed, "errors": self.errors,
                "pods": self.pods, "slowest": round(self.slowest, 3)}


class Control(socketserver.StreamRequestHandler):
    loads = {}

    def handle(self):
        for line in self.rfile:
            command = json.loads(line)
            try:
                answer = getattr(self, "do_" + command.pop("do"))(**command)
            except OSError as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            self.wfile.write(json.dumps(answer).encode() + b"\n")

    def do_get(self, url, timeout=5, n=1):
        return [get(url, timeout) for _ in range(n)]

    def do_ask(self, url, n, headers={}, timeout=10):
        return ask(url, n, headers, timeout)

    def do_until(self, url, field, value, timeout=60, interval=0.01):
        """Asks until the answer's field says so (None: until there is no such field, as in errors)."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if (answer := get(url)).get(field) == value:
                return answer
            time.sleep(interval)
        return {"timeout": answer}

    def do_count(self, path):
        return {"requests": Web.seen[path]}

    def do_resolve(self, name):
        return sorted({info[4][0] for info in socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)})

    def do_begin(self, name, url, mode="new", interval=0.02, timeout=5):
        load = self.loads[name] = Load(url, mode, interval, timeout)
        load.start()
        return {}

    def do_look(self, name):
        return self.loads[name].summary()

    def do_end(self, name):
        load = self.loads.pop(name)
        load.is_over.set()
        load.join()
        return load.summary()


class ControlServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


def serve():
    for server in (ControlServer(CONTROL, Control), EchoServer(("", 9000), Echo)):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    Server(("", 8080), Web).serve_forever()


def ctl():
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(CONTROL)
        answers = control.makefile("r")
        for line in sys.stdin:
            control.sendall(line.encode())
            print(answers.readline(), end="", flush=True)


if __name__ == "__main__":
    {"serve": serve, "ctl": ctl}[sys.argv[1]]()
