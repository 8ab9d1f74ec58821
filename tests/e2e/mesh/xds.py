# SPDX-License-Identifier: Apache-2.0
"""A stand-in for istiod's discovery: delta streams of workloads, services and policies on grpcio's
server, and what goes wrong with them. Messages are put together by hand.
"""

import itertools
import queue
import socket
import threading

import grpc
from lablib import wait_until
from mesh.istiod import NAME, Istiod, fields, varint
from mesh.topology import Node

DELTA = ("/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources")
ADDRESS = "type.googleapis.com/istio.workload.Address"
POLICY = "type.googleapis.com/istio.security.Authorization"


def item(number, value):
    """A field: an int, or anything that has a length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def workload(pod, services=(), **more):
    """(name, Address) of a pod in the mesh; services: {"ns/host": {port: target}}."""
    uid = f"Kubernetes//Pod/{pod.ns}/{pod.name}"
    body = (item(1, pod.name) + item(2, pod.ns) + item(5, more.get("tunnel", 1)) + item(7, pod.sa)
            + item(9, f"node{pod.node}") + item(10, pod.name) + item(11, "v1") + item(12, 2) + item(13, pod.name)
            + item(17, more.get("status", 0)) + item(18, "Kubernetes") + item(20, uid))
    for ip in pod.ips:
        body += item(3, packed(ip))
    if gateway := more.get("gateway"):  # (network, address, port)
        body += item(19, item(2, item(1, gateway[0]) + item(2, packed(gateway[1]))) + item(3, gateway[2]))
    for policy in more.get("policies", ()):
        body += item(16, policy)
    for key, ports in dict(services).items():
        entries = b"".join(item(1, item(1, a) + item(2, b)) for a, b in ports.items())
        body += item(22, item(1, key) + item(2, entries))
    return uid, item(1, body)


def packed(ip):
    return socket.inet_pton(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip)


def service(name, vips, ports, ns="demo", waypoint=None, protocol=0, ranges=()):
    """(name, Address); vips: one or several; ports: {port: target}; waypoint: a service's name;
    protocol: AppProtocol; ranges: addresses with a length."""
    host = f"{name}.{ns}.svc.cluster.local"
    body = item(1, name) + item(2, ns) + item(3, host)
    for vip in [vips] if isinstance(vips, str) else vips:
        body += item(4, item(2, packed(vip)))
    for text in ranges:
        ip, _, bits = text.partition("/")
        body += item(4, item(2, packed(ip)) + item(3, int(bits)))
    for port, target in ports.items():
        body += item(5, item(1, port) + item(2, target) + (item(3, protocol) if protocol else b""))
    if waypoint:
        where = item(1, ns) + item(2, f"{waypoint}.{ns}.svc.cluster.local")
        body += item(7, item(1, where) + item(3, 15008))
    return f"{ns}/{host}", item(2, body + item(11, 1))


def deny_port(name, port, ns="demo"):
    """(name, Authorization) of the namespace."""
    match = item(9, varint(port))
    return f"{ns}/{name}", (item(1, name) + item(2, ns) + item(3, 1) + item(4, 1)
                            + item(5, item(1, item(2, match))))


def addresses(body):
    """Of an Address."""
    number, parsed = fields(body)[0]
    raw = [v for at, v in fields(parsed) if at == (3 if number == 1 else 4)]
    if number == 2:
        raw = [dict(fields(v))[2] for v in raw]
    return [socket.inet_ntop(socket.AF_INET6 if len(r) == 16 else socket.AF_INET, r) for r in raw]


def members_of(body):
    """The services of a workload."""
    number, parsed = fields(body)[0]
    return [dict(fields(v))[1].decode() for at, v in fields(parsed) if number == 1 and at == 22]


class Ask:
    """A request."""

    def __init__(self, data):
        parsed = fields(data)

        def texts(number):
            return [value.decode() for at, value in parsed if at == number]

        one = dict(parsed)
        self.node = dict(fields(one[1])) if 1 in one else None
        self.type = one[2].decode()
        self.subscribe, self.unsubscribe = texts(3), texts(4)
        pairs = [dict(fields(value)) for at, value in parsed if at == 5]
        self.known = {pair[1].decode(): pair.get(2, b"").decode() for pair in pairs}
        self.nonce = one.get(6, b"").decode()
        self.error = dict(fields(one[7]))[2].decode() if 7 in one else None

    @property
    def metadata(self):
        entries = [dict(fields(value)) for _, value in fields(self.node[3])]
        return {e[1].decode(): dict(fields(e[2])).get(3, b"").decode() for e in entries}


class Stream:
    """One of a client. `asks` are its requests, `answers` what is to be sent."""

    def __init__(self, metadata):
        self.metadata = dict(metadata)
        self.asks, self.answers = [], queue.Queue()
        self.subscribed = set()  # on demand

    def is_on_demand(self, ask):
        """Nothing is wanted but what is named."""
        first = next(a for a in self.asks if a.type == ask.type)
        return "*" in first.unsubscribe

    @property
    def wanted(self):
        """Names that were asked for, in order."""
        return [n for a in list(self.asks) for n in a.subscribe if n != "*"]

    @property
    def pod(self):
        first = next((a for a in self.asks if a.node is not None), None)
        return first and first.metadata["NAME"]

    def answered(self, nonce):
        return next((a for a in list(self.asks) if a.nonce == nonce), None)


class Discovery(Istiod):
    """`resources`: {type: {name: (version, body)}}. A change goes to all streams and waits until
    each has answered; the answers are returned."""

    def __init__(self, mesh, **where):
        super().__init__(mesh, **where)
        self.resources = {ADDRESS: {}, POLICY: {}}
        self.streams, self.nonces, self.versions = [], itertools.count(1), itertools.count(1)
        self.is_silent = False  # on demand nothing is answered
        self.on_nack = None  # (stream, ask)

    @property
    def xds_args(self):
        return ["--xds-address", f"https://{self.address}:{self.port}", "--xds-hostname", NAME,
                "--xds-roots", self.roots_file, "--token", self.token_file]

    def other(self, details):
        assert details.method == DELTA, details.method
        return grpc.stream_stream_rpc_method_handler(self.serve)

    def serve(self, requests, context):
        stream = Stream(context.invocation_metadata())

        def read():
            try:
                for data in requests:
                    ask = Ask(data)
                    stream.asks.append(ask)
                    if not ask.nonce:
                        self.first(stream, ask)
                    elif ask.error and self.on_nack is not None:
                        self.on_nack(stream, ask)
            except grpc.RpcError:
                pass
            stream.answers.put(None)

        with self.lock:
            self.streams.append(stream)
        threading.Thread(target=read, daemon=True).start()
        try:
            while (answer := stream.answers.get()) is not None:
                if isinstance(answer, tuple):
                    context.abort(*answer)
                yield answer
        finally:
            with self.lock:
                self.streams.remove(stream)

    def first(self, stream, ask):
        if stream.is_on_demand(ask):
            self.answer_demand(stream, ask)
            return
        with self.lock:
            have = self.resources[ask.type]
            fresh = {n: r for n, r in have.items() if ask.known.get(n) != r[0]}
            gone = [name for name in ask.known if name not in have]
        stream.answers.put(self.response(ask.type, fresh, gone)[1])

    def answer_demand(self, stream, ask):
        """As istiod: what has the name, and all endpoints of a service; or that nothing has it. What
        changes no subscription is not answered; what subscribes to nothing, by the end of all."""
        if "*" in ask.subscribe or self.is_silent:
            return
        before = set(stream.subscribed)
        stream.subscribed |= set(ask.subscribe)
        stream.subscribed -= set(ask.unsubscribe)
        if stream.subscribed == before:
            return
        if not set(ask.subscribe) - set(ask.unsubscribe):
            stream.answers.put(self.response(ask.type, {}, sorted(before))[1])
            return
        with self.lock:
            have = self.resources[ask.type]
            names = {key: self.found(key) for key in ask.subscribe}
            fresh = {n: have[n] for found in names.values() for n in found}
        aliases = {n: [k for k, found in names.items() if found[:1] == [n] and k != n] for n in fresh}
        gone = [k for k, found in names.items() if not found]
        stream.answers.put(self.response(ask.type, fresh, gone, aliases=aliases)[1])

    def found(self, key):
        have = self.resources[ADDRESS]
        if key not in have:
            ip = key.partition("/")[2]
            key = next((n for n, (_, body) in have.items() if ip in addresses(body)), None)
        members = [n for n, (_, body) in have.items() if key in members_of(body)]
        return [key, *members] if key is not None else []

    def response(self, kind, resources, gone=(), nonce=None, aliases=None):
        nonce = nonce or f"nonce-{next(self.nonces)}"
        body = b"".join(item(2, item(1, version) + item(2, item(1, kind) + item(2, data))
                             + item(3, name)
                             + b"".join(item(4, a) for a in (aliases or {}).get(name, ())))
                     for name, (version, data) in resources.items())
        return nonce, body + item(4, kind) + item(5, nonce) + b"".join(item(6, n) for n in gone)

    def push(self, kind, resources, gone=()):
        with self.lock:
            streams = list(self.streams)
        nonce, data = self.response(kind, resources, gone)
        for stream in streams:
            stream.answers.put(data)
        return [wait_until(lambda: s.answered(nonce), 10, f"an answer to {nonce}")  # noqa: B023
                for s in streams]

    def set(self, kind, *items):
        fresh = {name: (f"v{next(self.versions)}", data) for name, data in items}
        with self.lock:
            self.resources[kind].update(fresh)
        return self.push(kind, fresh)

    def remove(self, kind, *names):
        with self.lock:
            for name in names:
                del self.resources[kind][name]
        return self.push(kind, {}, names)

    def send(self, data):
        """Bytes to all, or (status, text): their end."""
        with self.lock:
            for stream in self.streams:
                stream.answers.put(data)

    def connected(self, n, timeout=10):
        """The `n` streams that there are to be, each with its first requests answered."""
        def found():
            with self.lock:
                streams = list(self.streams)
            is_good = len(streams) == n and all(
                sum(bool(a.nonce) for a in s.asks) >= 2 for s in streams)
            return streams if is_good else None

        return wait_until(found, timeout, f"{n} streams")


class Own(Node):
    """The dedicated ztun of a pod, which knows what istiod sends."""

    def __init__(self, mesh, pod):
        super().__init__(mesh, pod.node)
        self.name, self.netns = pod.name, pod.netns
        self.log_path = mesh.dir / f"ztun-{pod.name}.log"
        self.source_args = mesh.istiod.xds_args
        self.args = ["--proxy-mode", "dedicated", "--workload", f"{pod.ns}/{pod.name}/{pod.sa}",
                     "--dns-capture=false"]
        self.env = {"INSTANCE_IP": pod.ip, "ISTIO_META_FLAVOUR": "plain",
                    "XDS_HEADER_X_TEST": "yes"}
