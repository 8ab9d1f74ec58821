# SPDX-License-Identifier: Apache-2.0
"""A mesh for tests: nodes and pods as network namespaces, one ztun per node, and no lab around it.

    mesh = Mesh()
    mesh.pod("client", node=1)
    mesh.pod("server", node=2, port=8080)
    mesh.service("server", port=80, target=8080)
    mesh.start()                               # until both nodes are ready
    with mesh.serve("server", 8080, echo), mesh.connect("client", ("10.96.0.1", 80)) as conn:
        ...
    mesh.stop()                                # nothing is left

Node N has 10.77.0.N and fd77::N, its pods 10.77.N.x and fd77:N::x. Objects are one JSON file each in
`mesh.config`, written by rename; apply() and delete() change them at run time.
"""

import contextlib
import errno
import http.client
import itertools
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from datetime import datetime, timezone
from pathlib import Path

from lablib import ZTUN, Metrics, wait_until

from mesh.netns import entered, ip_batch, sysctl

names = itertools.count(1)
AMBIENT = {"istio.io/dataplane-mode": "ambient"}


def linger0(conn):
    """close() sends RST."""
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


# Servers: functions of a connection, each run in a thread of its own.


def echo(conn):
    while data := conn.recv(1 << 16):
        conn.sendall(data)


def echo_twice(conn):
    while data := conn.recv(1 << 16):
        conn.sendall(data + data)


def sink(conn):
    while conn.recv(1 << 20):
        pass


def who(conn):
    """Tells the client which address it comes from."""
    conn.recv(1 << 16)
    conn.sendall(conn.getpeername()[0].removeprefix("::ffff:").encode())


def say(text):
    """Answers each line with `text`."""

    def serve(conn):
        while conn.recv(1 << 16):
            conn.sendall(text.encode())

    return serve


class Server:
    """Accepts on a listening socket until closed. `conns` are its connections, oldest first."""

    def __init__(self, listener, handler):
        self.listener, self.handler = listener, handler
        self.conns, self.errors, self.lock = [], [], threading.Lock()
        self.is_closed = False
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                if self.is_closed:
                    conn.close()
                    return
                self.conns.append(conn)
            threading.Thread(target=self.run, args=(conn,), daemon=True).start()

    def run(self, conn):
        try:
            if self.handler is not None:
                self.handler(conn)
                conn.close()
        except OSError as e:
            self.errors.append(e)
            conn.close()

    def conn(self, index=0, timeout=5):
        """A connection that was accepted; for servers without a handler."""
        wait_until(lambda: len(self.conns) > index, timeout, "a connection is accepted")
        self.conns[index].settimeout(10)
        return self.conns[index]

    def close(self):
        with self.lock:
            if self.is_closed:
                return
            self.is_closed = True
        # Only shutdown wakes the thread that accepts.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join(5)
        self.listener.close()
        for conn in self.conns:
            with contextlib.suppress(OSError):
                conn.shutdown(socket.SHUT_RDWR)
            conn.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Pod:
    def __init__(self, mesh, name, node, index, families, sa, ns):
        self.mesh, self.name, self.node, self.sa, self.ns = mesh, name, node, sa, ns
        self.netns = f"{mesh.prefix}{name}" if node is not None else None
        self.v4 = f"10.77.{node}.{index}" if 4 in families else None
        self.v6 = f"fd77:{node}::{index}" if 6 in families else None
        self.ips = [ip for ip in (self.v4, self.v6) if ip]
        self.doc = None

    @property
    def ip(self):
        return self.ips[0]

    @property
    def identity(self):
        return f"spiffe://cluster.local/ns/{self.ns}/sa/{self.sa}"


class Mark(int):
    """A position in a log, and the time: lines are written a little later than they are made."""

    def __new__(cls, position):
        self = super().__new__(cls, position)
        self.time = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return self


class Node:
    """A node and its ztun."""

    def __init__(self, mesh, number):
        self.mesh, self.number = mesh, number
        self.name = f"node{number}"
        self.netns = f"{mesh.prefix}n{number}"
        self.ip, self.v6 = f"10.77.0.{number}", f"fd77::{number}"
        self.process, self.program = None, ZTUN
        self.args, self.env = [], {}
        self.source_args = ["--config", mesh.config]
        self.ca_args = ["--ca-dir", mesh.ca]
        self.log_path = mesh.dir / f"{self.name}.log"

    def start(self, *args, wait=True, wrap=(), stdout=None):
        command = [*wrap, self.program, *self.source_args, *self.ca_args, "--node", self.name,
                   "--log", "info,access=debug", "--log-format", "json",
                   "--drain", "2s", *self.args, *args]
        env = {**os.environ, **self.env}
        log = stdout
        if log is None:
            log = open(self.log_path, "ab")
        path = self.mesh.path(self.netns)
        try:
            self.process = subprocess.Popen(
                ["nsenter", f"--net={path}", "--", *map(str, command)], stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, env=env)
        finally:
            if stdout is None:
                log.close()
        if wait:
            self.wait_ready()
        return self.process

    def wait_ready(self, timeout=15):
        def is_ready():
            if self.process.poll() is not None:
                raise RuntimeError(f"ztun of {self.name} ended with {self.process.returncode}:\n"
                                   + self.log_tail())
            return self.get("/healthz/ready", 15021)[0] == 200

        wait_until(is_ready, timeout, f"{self.name} ready", interval=0.02)

    def http(self, method, path, port=15000, timeout=10):
        """(status, body) of one of ztun's own HTTP ports."""
        conn = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        conn.sock = self.mesh.connect(self.netns, ("127.0.0.1", port), timeout)
        try:
            conn.request(method, path)
            response = conn.getresponse()
            return response.status, response.read().decode()
        finally:
            conn.close()

    def get(self, path, port=15000):
        return self.http("GET", path, port)

    def metrics(self):
        status, text = self.get("/metrics", 15020)
        assert status == 200
        return Metrics(text)

    def metric(self, name, **labels):
        return self.metrics().value(name, **labels)

    def since(self):
        """A function like metric(), of what changed since this call."""
        before = self.metrics()

        def value(name, **labels):
            return self.metric(name, **labels) - before.value(name, **labels)

        return value

    def config_dump(self):
        status, text = self.get("/config_dump")
        assert status == 200, text
        return json.loads(text)

    def log_tail(self, n=40):
        if not self.log_path.exists():
            return ""
        lines = self.log_path.read_text(errors="replace").splitlines()[-n:]
        return "\n".join(line[:600] for line in lines)

    def mark(self):
        """Now, as a position in the log, for log(since=)."""
        return Mark(self.log_path.stat().st_size if self.log_path.exists() else 0)

    def log(self, since=0, **fields):
        """Log lines as dicts; `fields` (dots written as __) must be equal, or match a pattern."""
        out = []
        with open(self.log_path, "rb") as file:
            file.seek(since)
            text = file.read()
        for line in text.splitlines():
            try:
                item = json.loads(line)
            except ValueError:
                continue
            if item.get("time", "") < getattr(since, "time", ""):
                continue
            for key, want in fields.items():
                have = item.get(key.replace("__", "."))
                if isinstance(want, re.Pattern):
                    if have is None or not want.search(str(have)):
                        break
                elif have != want:
                    break
            else:
                out.append(item)
        return out

    def access(self, since=0, n=1, timeout=5, **fields):
        """The access log lines that end flows, at least `n` of them."""
        fields.setdefault("message", re.compile("connection (complete|failed)"))
        return wait_until(lambda: (found := self.log(since, **fields))[n - 1] and found, timeout,
                          f"{n} access log lines with {fields}")

    def memory(self):
        """Resident bytes."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", text).group(1)) * 1024

    def fds(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def end(self, sig=signal.SIGTERM, timeout=10):
        """Ends ztun; returns its exit code. A second signal ends a drain at once."""
        if self.process is None or self.process.poll() is not None:
            return self.process.returncode if self.process else None
        self.process.send_signal(sig)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            raise

    def alive(self):
        if self.process.poll() is not None:
            code, tail = self.process.returncode, self.log_tail()
            self.start(wait=False)  # the next test gets a fair chance
            raise AssertionError(f"{self.name}: exit {code}\n{tail}")
        return True


class Mesh:
    def __init__(self, nodes=2):
        self.prefix = self.name = f"ze{os.getpid()}-{next(names)}-"
        self.dir = Path(tempfile.mkdtemp(prefix="ztun-mesh-"))
        self.config, self.ca = self.dir / "config", self.dir / "ca"
        self.config.mkdir()
        self.pods, self.namespaces, self.servers, self.extra = {}, [], [], []
        self.n_services, self.vips = 0, {}
        self.indexes = itertools.count(10)
        self.nodes = {n: Node(self, n) for n in range(1, nodes + 1)}
        self.add_namespace(self.prefix + "br")
        ip_batch(["link add br0 type bridge mcast_snooping 0", "link set br0 up"], self.prefix + "br")
        for node in self.nodes.values():
            self.add_node(node)
        self.write_namespace("demo")

    # Network

    def path(self, netns):
        return f"/run/netns/{netns}"

    def add_namespace(self, name):
        subprocess.run(["ip", "netns", "add", name], check=True)
        self.namespaces.append(name)
        with entered(self.path(name)):
            sysctl("net/ipv6/conf/all/forwarding", 1)
            sysctl("net/ipv4/ip_forward", 1)
        ip_batch(["link set lo up"], name)

    def add_node(self, node):
        n, br = node.number, self.prefix + "br"
        self.add_namespace(node.netns)
        ip_batch([f"link add v{n} type veth peer name eth0 netns {node.netns}",
                  f"link set v{n} master br0 up"], br)
        lines = ["link set eth0 addrgenmode none", f"addr add {node.ip}/24 dev eth0",
                 "link set eth0 up", f"addr add {node.v6}/64 dev eth0 nodad",
                 f"addr add fe80::{n}/64 dev eth0 nodad"]
        for other in self.nodes.values():
            if other is not node:
                lines += [f"route add 10.77.{other.number}.0/24 via {other.ip}",
                          f"route add fd77:{other.number}::/64 via {other.v6}"]
        ip_batch(lines, node.netns)
        self.write("Node", node.name, {
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": node.name},
            "spec": {"podCIDR": f"10.77.{n}.0/24"},
            "status": {"addresses": [{"type": "InternalIP", "address": node.ip}]}})

    def wire_pod(self, pod):
        """A namespace with eth0, a point-to-point route to its node."""
        node = self.nodes[pod.node]
        dev = f"v{pod.name}"[:15]
        if pod.netns in self.namespaces:  # of a try of the same test that failed
            ip_batch([f"link del {dev}"], node.netns)
            subprocess.run(["ip", "netns", "del", pod.netns], check=True)
            self.namespaces.remove(pod.netns)
        self.add_namespace(pod.netns)
        host = [f"link add {dev} type veth peer name eth0 netns {pod.netns}",
                f"link set {dev} addrgenmode none", f"link set {dev} up"]
        inner = ["link set eth0 addrgenmode none", "link set eth0 up"]
        if pod.v4:
            host += [f"addr add 169.254.1.1/32 dev {dev}", f"route add {pod.v4} dev {dev}"]
            inner += [f"addr add {pod.v4}/32 dev eth0", "route add 169.254.1.1 dev eth0",
                      f"route add default via 169.254.1.1 dev eth0 src {pod.v4}"]
        if pod.v6:
            host += [f"addr add fe80::1/64 dev {dev} nodad", f"route add {pod.v6} dev {dev}"]
            inner += [f"addr add {pod.v6}/128 dev eth0 nodad",
                      "addr add fe80::2/64 dev eth0 nodad",
                      f"route add default via fe80::1 dev eth0 src {pod.v6}"]
        ip_batch(host, node.netns)
        ip_batch(inner, pod.netns)

    # Objects

    def write(self, kind, name, doc, ns=""):
        path = self.config / f"{kind}-{ns}-{name}.json"
        temporary = self.config / f".{path.name}.tmp"
        temporary.write_text(json.dumps(doc, indent=1))
        temporary.rename(path)
        return doc

    def apply(self, doc):
        meta = doc["metadata"]
        return self.write(doc["kind"], meta["name"], doc, meta.get("namespace", ""))

    def delete(self, kind, name, ns="demo"):
        (self.config / f"{kind}-{ns}-{name}.json").unlink()

    def write_namespace(self, name, ambient=True):
        self.apply({"apiVersion": "v1", "kind": "Namespace",
                    "metadata": {"name": name, "labels": AMBIENT if ambient else {}}})

    def pod(self, name, node=1, sa=None, ns="demo", labels=None, annotations=None, port=None,
            families=(4,), captured=None, ready=True, wire=True, host_network=False, **spec):
        """A pod with a namespace of its own. `captured`: the pod's own label, else its
        namespace's decides. `wire=False`: only the object."""
        pod = Pod(self, name, node, next(self.indexes), families, sa or name, ns)
        self.pods[name] = pod
        labels = {"app": name, **(labels or {})}
        if captured is not None:
            labels["istio.io/dataplane-mode"] = "ambient" if captured else "none"
        if host_network:
            pod.netns = self.nodes[node].netns
            pod.v4, pod.v6 = self.nodes[node].ip, self.nodes[node].v6
            pod.ips = [pod.v4]
            spec["hostNetwork"] = True
        elif wire:
            self.wire_pod(pod)
        ports = []
        for item in ([port] if isinstance(port, (int, dict)) else port or []):
            ports.append(item if isinstance(item, dict) else {"containerPort": item})
        self.service_account(pod.sa, ns)
        pod.doc = {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": ns, "labels": labels, "uid": f"uid-{name}",
                         "annotations": {"ztun.io/netns": pod.netns, **(annotations or {})}},
            "spec": {"nodeName": self.nodes[node].name, "serviceAccountName": pod.sa,
                     "containers": [{"name": "main", "image": "main", "ports": ports}], **spec},
            "status": {"phase": "Running", "podIP": pod.ip, "podIPs": [{"ip": i} for i in pod.ips],
                       "hostIP": self.nodes[node].ip,
                       "conditions": [{"type": "Ready", "status": str(ready)}]}}
        self.apply(pod.doc)
        return pod

    def service_account(self, name, ns="demo"):
        self.apply({"apiVersion": "v1", "kind": "ServiceAccount",
                    "metadata": {"name": name, "namespace": ns}})

    def set_label(self, name, key, value):
        """Changes a pod's label at run time; None removes it."""
        labels = self.pods[name].doc["metadata"]["labels"]
        labels.pop(key, None)
        if value is not None:
            labels[key] = value
        self.apply(self.pods[name].doc)

    def set_ready(self, name, ready):
        self.pods[name].doc["status"]["conditions"][0]["status"] = str(ready)
        self.apply(self.pods[name].doc)

    def service(self, name, port=80, target=8080, ns="demo", selector=None, headless=False,
                families=(4,), ports=None, **spec):
        """Returns its address (of the first family)."""
        self.n_services += 1
        ips = ["None"] if headless else [
            f"10.96.0.{self.n_services}" if f == 4 else f"fd96::{self.n_services:x}"
            for f in families]
        self.apply({"apiVersion": "v1", "kind": "Service",
                    "metadata": {"name": name, "namespace": ns},
                    "spec": {"clusterIP": ips[0], "clusterIPs": ips,
                             "ipFamilies": [f"IPv{f}" for f in families],
                             "selector": selector or {"app": name},
                             "ports": ports or [{"port": port, "targetPort": target,
                                                 "protocol": "TCP"}], **spec}})
        return ips[0]

    def policy(self, name, action="ALLOW", rules=None, selector=None, ns="demo"):
        spec = {"action": action}
        if rules is not None:
            spec["rules"] = rules
        if selector:
            spec["selector"] = {"matchLabels": selector}
        self.apply({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
                    "metadata": {"name": name, "namespace": ns}, "spec": spec})

    def peer_authentication(self, name, mode, selector=None, ports=None, ns="demo"):
        spec = {"mtls": {"mode": mode}}
        if selector:
            spec["selector"] = {"matchLabels": selector}
        if ports:
            spec["portLevelMtls"] = {str(p): {"mode": m} for p, m in ports.items()}
        self.apply({"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
                    "metadata": {"name": name, "namespace": ns}, "spec": spec})

    # Life

    def start(self, *args):
        for node in self.nodes.values():
            node.start(*args, wait=False)
        for node in self.nodes.values():
            node.wait_ready()
        return self

    def settle(self, change, nodes=None, timeout=5):
        """Runs `change` and waits until every node has put it into force."""
        nodes = nodes or [n for n in self.nodes.values() if n.process is not None]
        marks = [(n, n.mark()) for n in nodes]
        change()
        for node, mark in marks:
            wait_until(lambda: node.log(mark, message="configuration applied"), timeout,  # noqa: B023
                       f"{node.name} applies the change")

    def stop(self):
        """Ends all; returns the exit codes of processes that did not end well."""
        bad = []
        for server in self.servers:
            server.close()
        running = [n for n in self.nodes.values() if n.process and n.process.poll() is None]
        for _ in range(2):  # the second signal ends the drain
            for node in running:
                node.process.send_signal(signal.SIGTERM)
            time.sleep(0.02)
        for node in running:
            try:
                code = node.process.wait(10)
            except subprocess.TimeoutExpired:
                node.process.kill()
                node.process.wait()
                code = "did not end"
            if code != 0:
                bad.append(f"{node.name}: {code}\n{node.log_tail()}")
        for process in self.extra:
            if process.poll() is None:
                process.kill()
                process.wait()
        for name in self.namespaces:
            subprocess.run(["ip", "netns", "del", name], check=False)
        shutil.rmtree(self.dir, ignore_errors=True)
        return bad

    # Sockets and processes

    def netns(self, where):
        """Of a pod's or a node's name, or a namespace's."""
        if where in self.pods:
            return self.pods[where].netns
        for node in self.nodes.values():
            if where == node.name:
                return node.netns
        return where

    def inside(self, where):
        return entered(self.path(self.netns(where)))

    def socket(self, where, family=socket.AF_INET, kind=socket.SOCK_STREAM):
        with self.inside(where):
            return socket.socket(family, kind)

    def connect(self, where, to, timeout=5, source=None):
        """A TCP connection from a pod to (address, port). A pod's name stands for its address."""
        host, port = to
        if host in self.pods:
            host = self.pods[host].ip
        conn = self.socket(where, socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            conn.settimeout(timeout)
            if source:
                conn.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                conn.bind(source if isinstance(source, tuple) else (source, 0))
            conn.connect((host, port))
        except OSError:
            conn.close()
            raise
        return conn

    def listen(self, where, port, address=None, backlog=1024):
        family = socket.AF_INET if address and ":" not in address else socket.AF_INET6
        listener = self.socket(where, family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((address or "::", port))
        listener.listen(backlog)
        return listener

    def serve(self, where, port, handler=None, address=None):
        server = Server(self.listen(where, port, address), handler)
        self.servers.append(server)
        return server

    def ask(self, where, to, data=b"hello world", timeout=5, source=None):
        """Connects, sends, ends its side, reads until the end of the other."""
        with self.connect(where, to, timeout, source) as conn:
            conn.sendall(data)
            conn.shutdown(socket.SHUT_WR)
            return read_all(conn)

    def fails(self, where, to, data=b"hello world", timeout=5, source=None):
        """Asserts that a connection is refused, or ended without an answer but a TLS alert (of port
        15008, to who does not speak TLS); gives the error."""
        try:
            got = self.ask(where, to, data, timeout, source)
        except socket.timeout:
            raise AssertionError(f"{where} to {to}: hangs") from None
        except OSError as e:
            assert e.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL), "it was not tried"
            return e
        assert got == b"" or (to[1] == 15008 and len(got) == 7 and got[:3] == b"\x15\x03\x01"), \
            f"{where} to {to}: answered {got[:100]!r}"
        return None

    def command(self, where, *command, **kw):
        return ["nsenter", f"--net={self.path(self.netns(where))}", "--", *map(str, command)]

    def run(self, where, *command, timeout=20, **kw):
        return subprocess.run(self.command(where, *command), capture_output=True, timeout=timeout,
                              **kw)

    def popen(self, where, *command, **kw):
        process = subprocess.Popen(self.command(where, *command), **kw)
        self.extra.append(process)
        return process

    def dump(self):
        """For the report of a failed test."""
        return "\n".join(f"--- {n.name}\n{n.log_tail(12)}" for n in self.nodes.values())

    def gauges_are_zero(self, timeout=5):
        """No flow and no socket of one is left on any node."""
        for node in self.nodes.values():
            if node.process is None or node.process.poll() is not None:
                continue

            def is_quiet():
                metrics = node.metrics()  # noqa: B023
                left = [(labels, value) for labels, value
                        in metrics.find("istio_tcp_sockets_open") if value != 0]
                assert not left, left
                opened = metrics.value("istio_tcp_connections_opened_total")
                closed = metrics.value("istio_tcp_connections_closed_total")
                assert opened == closed, f"opened {opened}, closed {closed}"
                return True

            wait_until(is_quiet, timeout, f"{node.name} has no flows left")


def read_all(conn):
    out = bytearray()
    while data := conn.recv(1 << 18):
        out += data
    return bytes(out)


def read_exactly(conn, n):
    out = bytearray()
    while len(out) < n:
        data = conn.recv(min(n - len(out), 1 << 18))
        if not data:
            raise EOFError(f"{len(out)} of {n} bytes")
        out += data
    return bytes(out)


class Load:
    """Short requests, one after the other, from a thread of its own, while the block runs."""

    def __init__(self, mesh, source, to, threads=1, interval=0.002, check=None, data=b"hello world"):
        self.mesh, self.source, self.to, self.data = mesh, source, to, data
        self.interval, self.check = interval, check
        self.answers, self.failures, self.is_on = [], [], True
        self.slowest = (0.0, 0.0)  # how long, when it began
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(threads)]

    def run(self):
        while self.is_on:
            start = time.monotonic()
            try:
                got = self.mesh.ask(self.source, self.to, self.data, timeout=5)
                if not got or (self.check and not self.check(got)):
                    self.failures.append((time.monotonic(), f"answer {got[:100]!r}"))
                else:
                    self.answers.append(got)
            except OSError as e:
                self.failures.append((time.monotonic(), repr(e)))
            self.slowest = max(self.slowest, (time.monotonic() - start, start))
            time.sleep(self.interval)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        wait_until(lambda: len(self.answers) + len(self.failures) > 3, 5, "the load runs")
        return self

    def __exit__(self, kind, *_):
        self.is_on = False
        for thread in self.threads:
            thread.join(10)
        if kind is None:
            assert not self.failures, \
                f"{len(self.failures)} of {len(self.answers) + len(self.failures)} requests " \
                f"failed: {[text for _, text in self.failures[:5]]}"
