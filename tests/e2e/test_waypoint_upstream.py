# SPDX-License-Identifier: Apache-2.0
"""From a waypoint to servers: TLS origination, PROXY protocol, TCP routes and limits, ServiceEntries.

The servers are outside of the mesh: the test's own, in pods that are not enrolled.
"""

import base64
import functools
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from lablib import meta, namespace, pod, service, wait_until
from mesh.labnet import LabNet
from mesh.pki import Authority
from mesh.topology import echo, linger0, read_all, read_exactly, say
from test_ctl_l7 import ctl
from test_waypoint_http import curl, logs_of_waypoints, waypoints
from test_waypoint_tcp import access, gateway

HOST = "ext.example.com"
URL = f"http://{HOST}"
BOUND = {"istio.io/use-waypoint": "waypoint"}


def service_entry(endpoints, host=HOST, ports=None, resolution="STATIC", name="ext", **spec):
    ports = ports or [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8443}]
    if endpoints:
        spec["endpoints"] = [a if isinstance(a, dict) else {"address": a} for a in endpoints]
    return {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
            "metadata": meta(name, "m", BOUND),
            "spec": {"hosts": [host], "ports": ports, "location": "MESH_EXTERNAL",
                     "resolution": resolution, **spec}}


def rule(host=HOST, name="ext", subsets=None, **policy):
    spec = {"host": host}
    if policy:
        spec["trafficPolicy"] = policy
    if subsets:
        spec["subsets"] = subsets
    return {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": meta(name, "m"), "spec": spec}


def secret(name, ns="m", kind="kubernetes.io/tls", **files):
    data = {k.replace("_", "."): base64.b64encode(Path(v).read_bytes()).decode()
            for k, v in files.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta(name, ns), "type": kind,
            "data": data}


class TlsServer:
    """Answers each request over TLS with what it saw of the client; or (raw) echoes bytes."""

    def __init__(self, net, where, port, creds, ca=None, version=ssl.TLSVersion.TLSv1_3,
                 handler=None):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.maximum_version = version
        self.context.load_cert_chain(creds.cert, creds.key)
        self.context.set_alpn_protocols(["http/1.1"])
        self.context.sni_callback = self.on_sni
        if ca:
            self.context.load_verify_locations(ca)
            self.context.verify_mode = ssl.CERT_REQUIRED
        self.handler, self.seen, self.local = handler or self.http, {}, threading.local()
        self.n_conns, self.failures, self.heads, self.open = 0, [], [], []
        self.server = net.serve(where, port, self.run)

    def on_sni(self, sock, name, context):
        self.local.sni = name

    def run(self, conn):
        self.n_conns += 1
        self.local.sni = None
        conn.settimeout(30)
        try:
            if self.ahead:
                self.heads.append(self.ahead(conn))
            with self.context.wrap_socket(conn, server_side=True) as tls:
                self.open.append(tls)
                cert = tls.getpeercert() or {}
                names = [v for _, v in cert.get("subjectAltName", ())]
                self.handler(tls, f"sni={self.local.sni} alpn={tls.selected_alpn_protocol()} "
                                  f"client={','.join(names)} peer={conn.fileno()}")
        except ssl.SSLError as e:
            self.failures.append(e.reason)

    ahead = None

    def http(self, tls, text):
        data = b""
        while chunk := tls.recv(65536):
            data += chunk
            while b"\r\n\r\n" in data:
                head, _, data = data.partition(b"\r\n\r\n")
                path = head.split()[1].decode()
                body = (text + f" conn={self.n_conns}\n").encode()
                if path.startswith("/bytes/"):
                    body = b"x" * int(path[7:])
                tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.close()
        for tls in self.open:  # or it lives on in the waypoint's pool, and in the next test
            try:
                tls.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


@pytest.fixture(scope="module")
def pki():
    with tempfile.TemporaryDirectory(prefix="ztun-up-") as path:
        authority, stranger = Authority(), Authority()
        authority.path = Path(path)
        authority.server = authority.issue("", sans=f"DNS:{HOST},DNS:*.wild.example.com")
        authority.client = authority.issue("", sans="DNS:the-client")
        authority.stranger = stranger.issue("", sans=f"DNS:{HOST}")
        yield authority
        stranger.close()
        authority.close()


@pytest.fixture(scope="module")
def lab(make_module_lab):
    mesh_config = {"apiVersion": "v1", "kind": "ConfigMap",
                   "metadata": meta("istio", "istio-system"),
                   "data": {"mesh": "accessLogFile: /dev/stdout\n"}}
    return make_module_lab([namespace("istio-system"), mesh_config,
                            namespace("m", ambient=True), gateway(), namespace("out"),
                            pod("client", "m", node="node1", sa="client"),
                            pod("one", "out", node="node2"), pod("two", "out", node="node2")])


@pytest.fixture
def net(lab):
    return LabNet(lab, "out")


@pytest.fixture(autouse=True)
def sound(lab):
    yield
    text = logs_of_waypoints(lab)
    assert "Sanitizer" not in text and "runtime error" not in text, text[-3000:]
    assert "check failed" not in text.lower()
    assert all(p["restarts"] == 0 for p in waypoints(lab))


@pytest.fixture
def ext(lab):
    """The ServiceEntry, and a way to put a DestinationRule on it."""
    lab.apply(service_entry([lab.ip("one", "out")]))

    def put(ports=None, addresses=None, subsets=None, **policy):
        if ports or addresses:
            lab.apply(service_entry(addresses or [lab.ip("one", "out")], ports=ports))
        lab.apply(rule(subsets=subsets, **policy))

    yield put
    lab.delete("DestinationRule", "m/ext")


def reply(lab, check, path="/", url=URL, *args):
    """Asks until the answer is as it should be: the configuration may be on its way."""
    found = {}

    def ask():
        found["it"] = curl(lab, path, "-m", "3", *args, url=url)
        return check(found["it"])

    try:
        wait_until(ask)
    except AssertionError:
        raise AssertionError(f"the last answer was {found['it'].status} {found['it'].body!r}")
    return found["it"]


def is_ok(answer):
    return answer.status == 200


def ok(*texts):
    return says(*texts, status=200)


def says(*texts, status=503):
    return lambda answer: answer.status == status and all(t in answer.body for t in texts)


# TLS origination


@pytest.mark.main
def test_simple_with_a_file(lab, net, pki, ext):
    with TlsServer(net, "one", 8443, pki.server) as server:
        ext(tls={"mode": "SIMPLE", "caCertificates": str(pki.root)})
        answer = reply(lab, is_ok)
        server.failures.clear()  # of requests before the rule was in force
        # SNI and the name that is checked are the request's; ALPN is that of its version.
        assert f"sni={HOST} alpn=http/1.1 client= " in answer.body
        first = server.n_conns
        done = lab.exec("m/client", "curl", "-sS", "-m", "10", *[URL + "/"] * 20)
        assert done.out.count("alpn=http/1.1") == 20
        assert server.n_conns <= first + 2, "connections are not reused"
        size = len(curl(lab, "/bytes/3000000", url=URL).body)
        assert size == 3000000
        assert server.failures == []


def test_name_of_the_certificate_counts(lab, net, pki, ext):
    with TlsServer(net, "one", 8443, pki.server) as server:
        ca = str(pki.root)
        ext(tls={"mode": "SIMPLE", "caCertificates": ca, "sni": "other.example.com"})
        answer = reply(lab, says("TLS error", "expected other.example.com"))
        assert "remote connection failure, transport failure reason: TLS error" in answer.body
        assert f"its certificate is for {HOST}, *.wild.example.com" in answer.body
        ext(tls={"mode": "SIMPLE", "caCertificates": ca, "sni": "a.wild.example.com"})
        reply(lab, ok("sni=a.wild.example.com "))
        ext(tls={"mode": "SIMPLE", "caCertificates": ca, "sni": "other.example.com",
                 "subjectAltNames": ["no.example.com", HOST]})
        reply(lab, ok("sni=other.example.com "))
        # The request's own name, when it is another one.
        ext(tls={"mode": "SIMPLE", "caCertificates": ca})
        reply(lab, ok(f"sni={HOST} "))
        bad = curl(lab, "/", "-H", "Host: b.example.com", url=URL)
        assert bad.status == 503 and "expected b.example.com" in bad.body
        good = curl(lab, "/", "-H", "Host: b.wild.example.com", url=URL)
        assert good.status == 200 and "sni=b.wild.example.com " in good.body
        # The server heard of it.
        assert any("CERTIFICATE" in (f or "") for f in server.failures), server.failures


def test_untrusted_server_and_skip_verify(lab, net, pki, ext):
    with TlsServer(net, "one", 8443, pki.stranger):
        ext(tls={"mode": "SIMPLE", "caCertificates": str(pki.root)})
        reply(lab, says("TLS error: the peer's certificate does not chain to the trust bundle"))
        log = wait_until(lambda: [x for x in logs_of_waypoints(lab).splitlines()
                                  if " 503 UF" in x and "TLS error" in x])
        assert log
        ext(tls={"mode": "SIMPLE", "caCertificates": str(pki.root), "insecureSkipVerify": True})
        reply(lab, is_ok)
        # Without caCertificates: the roots of the system, of which this is none.
        ext(tls={"mode": "SIMPLE"})
        reply(lab, says("does not chain to the trust bundle"))


def test_mutual_with_files(lab, net, pki, ext):
    with TlsServer(net, "one", 8443, pki.server, ca=pki.root) as server:
        ext(tls={"mode": "SIMPLE", "caCertificates": str(pki.root)})
        # TLS 1.3: the server refuses after the handshake, the request is cut.
        reply(lab, lambda a: a.status == 503 and
              "PEER_DID_NOT_RETURN_A_CERTIFICATE" in server.failures)
        ext(tls={"mode": "MUTUAL", "caCertificates": str(pki.root),
                 "clientCertificate": str(pki.client.cert), "privateKey": str(pki.client.key)})
        reply(lab, ok("client=the-client "))


def test_files_are_looked_at_again(lab, net, pki, ext):
    ca = pki.path / "late-ca.pem"
    with TlsServer(net, "one", 8443, pki.server):
        ext(tls={"mode": "SIMPLE", "caCertificates": "/nowhere/ca.pem"})
        reply(lab, says("local connection failure", "TLS credentials: /nowhere/ca.pem: No such"))
        status = lab.exec(f"m/{waypoints(lab)[0]['name']}", "curl", "-sS", "-m", 5,
                          "http://127.0.0.1:15000/status").out
        assert json.loads(status)["tlsCredentials"] == [
            {"name": "/nowhere/ca.pem", "problem": "/nowhere/ca.pem: No such file or directory"}]
        ca.write_text("nothing")
        ext(tls={"mode": "SIMPLE", "caCertificates": str(ca)})
        reply(lab, says("TLS credentials: trust bundle: no certificate in it"))
        assert "credentials of a DestinationRule cannot be used" in logs_of_waypoints(lab)
        ca.write_bytes(Path(pki.root).read_bytes())
        reply(lab, is_ok)
        ca.write_text("broken")  # what was good stays
        wait_until(lambda: "the last good ones stay in force" in logs_of_waypoints(lab))
        assert curl(lab, "/", url=URL).status == 200


def test_credentials_of_a_secret(lab, net, pki, ext):
    name = f"creds-{os.urandom(3).hex()}"  # there is none yet
    with TlsServer(net, "one", 8443, pki.server, ca=pki.root):
        ext(tls={"mode": "MUTUAL", "credentialName": name})
        reply(lab, says(f'there is no Secret "{name}" in namespace "m"'))
        lab.apply(secret(name, ns="out", tls_crt=pki.client.cert, tls_key=pki.client.key,
                         ca_crt=pki.root))  # of another namespace: does not count
        lab.apply(secret(name, tls_crt=pki.client.cert, tls_key=pki.client.key))
        reply(lab, says(f'Secret "{name}" has no ca.crt'))
        lab.apply(secret(name, tls_crt=pki.client.cert, tls_key=pki.client.key,
                         ca_crt=pki.root))
        reply(lab, ok("client=the-client "))
        lab.apply(secret("generic", kind="Opaque", cert=pki.client.cert, key=pki.client.key))
        lab.apply(secret("generic-cacert", kind="Opaque", cacert=pki.root))
        ext(tls={"mode": "MUTUAL", "credentialName": "generic"})
        reply(lab, ok("client=the-client "))
    key = Path(pki.client.key).read_text().split("\n")[1]
    for page in ("config_dump", "status"):
        dump = lab.exec(f"m/{waypoints(lab)[0]['name']}", "curl", "-sS", "-m", 5,
                        f"http://127.0.0.1:15000/{page}")
        assert dump.ok and len(dump.out) > 100 and key not in dump.out
    assert key not in logs_of_waypoints(lab)


def test_revoked_server(lab, net, pki, ext):
    crl = pki.path / "crl.pem"
    gone = pki.issue("", sans=f"DNS:{HOST}")
    pki.revoke(gone.cert)
    pki.crl(crl)
    with TlsServer(net, "one", 8443, gone):
        ext(tls={"mode": "SIMPLE", "caCertificates": str(pki.root), "caCrl": str(crl)})
        reply(lab, says("the peer's certificate chain is revoked"))


def test_ports_and_subsets_have_their_own(lab, net, pki, ext):
    ports = [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8443},
             {"number": 81, "name": "http-b", "protocol": "HTTP", "targetPort": 8080}]

    def plain(conn):
        conn.recv(65536)
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nplain")

    with TlsServer(net, "one", 8443, pki.server), net.serve("one", 8080, plain):
        tls = {"mode": "SIMPLE", "caCertificates": str(pki.root)}
        ext(ports=ports, portLevelSettings=[{"port": {"number": 80}, "tls": tls}])
        reply(lab, ok("alpn=http/1.1"))
        reply(lab, ok("plain"), "/", f"http://{HOST}:81")
        ext(tls=tls, portLevelSettings=[{"port": {"number": 81}, "tls": {"mode": "DISABLE"}}])
        reply(lab, ok("plain"), "/", f"http://{HOST}:81")
        reply(lab, ok("alpn=http/1.1"))


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_http2_by_alpn(lab, net, pki, ext, version):
    """nginx tells what it saw."""
    conf = pki.path / "nginx.conf"
    conf.write_text(f"""
daemon off; pid {pki.path}/nginx.pid; error_log {pki.path}/nginx.log;
events {{}}
http {{ access_log off; client_body_temp_path {pki.path}/b; proxy_temp_path {pki.path}/p;
fastcgi_temp_path {pki.path}/f; uwsgi_temp_path {pki.path}/u; scgi_temp_path {pki.path}/s;
server {{ listen 8443 ssl http2; ssl_protocols TLSv{version};
ssl_certificate {pki.server.cert}; ssl_certificate_key {pki.server.key};
location / {{ return 200 "$ssl_protocol $server_protocol $ssl_alpn_protocol $ssl_server_name\\n"; }}
}} }}
""")
    with net.inside("one"):
        nginx = subprocess.Popen(["nginx", "-c", str(conf)], stderr=subprocess.DEVNULL)
    try:
        tls = {"mode": "SIMPLE", "caCertificates": str(pki.root)}
        ext(tls=tls)
        reply(lab, ok(f"TLSv{version} HTTP/1.1 http/1.1 {HOST}"))
        ext(tls=tls, connectionPool={"http": {"h2UpgradePolicy": "UPGRADE"}})
        reply(lab, ok(f"TLSv{version} HTTP/2.0 h2 {HOST}"))
    finally:
        nginx.send_signal(signal.SIGTERM)
        nginx.wait(10)


@pytest.mark.main
@pytest.mark.parametrize("suite", ["ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256",
                                   "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"])
def test_server_of_tls_1_2(lab, net, pki, ext, suite):
    with TlsServer(net, "one", 8443, pki.server, version=ssl.TLSVersion.TLSv1_2) as server:
        server.context.set_ciphers(suite)
        ext(tls={"mode": "SIMPLE", "caCertificates": str(pki.root)})
        answer = reply(lab, is_ok)
        server.failures.clear()  # of requests before the rule was in force
        assert f"sni={HOST} alpn=http/1.1 " in answer.body
        assert len(curl(lab, "/bytes/3000000", url=URL).body) == 3000000
        sent = ["-X", "POST", "-H", "Expect:", "--data-binary", "@/usr/bin/python3"]
        assert curl(lab, "/", *sent, url=URL).status == 200
        assert server.failures == []


def test_server_whose_tls_is_too_old(lab, net, pki, ext):
    with TlsServer(net, "one", 8443, pki.server, version=ssl.TLSVersion.TLSv1_2) as server:
        server.context.set_ciphers("ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:AES128-SHA")
        ext(tls={"mode": "SIMPLE", "caCertificates": str(pki.root)})
        reply(lab, says("TLS error: the peer sent handshake_failure"))


def test_no_tls_at_all(lab, net, pki, ext):
    with net.serve("one", 8443, say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")):
        ext(tls={"mode": "SIMPLE", "caCertificates": str(pki.root)})
        reply(lab, says("TLS error"))


# PROXY protocol


def read_proxy(conn):
    """The header, decoded: (version, client, called)."""
    start = conn.recv(12, socket.MSG_WAITALL)
    if start.startswith(b"PROXY "):
        while not start.endswith(b"\r\n"):
            start += conn.recv(1)
        word, family, client, called, client_port, port = start.decode().split()
        assert (word, family) == ("PROXY", "TCP4")
        return 1, (client, int(client_port)), (called, int(port))
    if start != b"\r\n\r\n\0\r\nQUIT\n":
        raise OSError("no PROXY header")  # the policy is on its way
    command, family, n = struct.unpack("!BBH", conn.recv(4, socket.MSG_WAITALL))
    assert (command, family, n) == (0x21, 0x11, 12)
    a, b, x, y = struct.unpack("!4s4sHH", conn.recv(n, socket.MSG_WAITALL))
    return 2, (socket.inet_ntoa(a), x), (socket.inet_ntoa(b), y)


@pytest.mark.parametrize("version", [1, 2])
def test_proxy_protocol(lab, net, pki, ext, version):
    heads = []

    def plain(conn):
        heads.append(read_proxy(conn))
        while conn.recv(65536):
            conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    wanted = (lab.ip("client", "m"),)
    with net.serve("one", 8443, plain):
        ext(proxyProtocol={"version": f"V{version}"})
        reply(lab, lambda a: a.body == "ok" and heads)
        # One client's connection has its own upstream; its requests share that.
        done = lab.exec("m/client", "curl", "-sS", "-m", "5", *[URL + "/"] * 3)
        assert done.out == "ok" * 3
    last, before = heads[-1], heads[-2] if len(heads) > 1 else None
    assert last[0] == version and last[1][0] == wanted[0] and last[2][1] == 80
    assert last[2][0].startswith("240.240.")
    if before:
        assert before[1] != last[1]
    with TlsServer(net, "one", 8443, pki.server) as server:
        server.ahead = read_proxy
        ext(proxyProtocol={"version": f"V{version}"},
            tls={"mode": "SIMPLE", "caCertificates": str(pki.root)})
        reply(lab, ok("alpn=http/1.1"))
        assert server.heads[-1][0] == version  # ahead of TLS


# TCP


TCP_PORTS = [{"number": 90, "name": "tcp", "protocol": "TCP", "targetPort": 8090},
             {"number": 91, "name": "tls", "protocol": "TLS", "targetPort": 8091},
             {"number": 92, "name": "tcp-b", "protocol": "TCP", "targetPort": 8090}]
TCP_HOST = "tcp.example.com"


def tcp_entry(lab, *names, **spec):
    return service_entry([{"address": lab.ip(n, "out"), "labels": {"version": n}} for n in names],
                         host=TCP_HOST, name="tcp", ports=TCP_PORTS, **spec)


def tcp_rule(**policy):
    subsets = [{"name": n, "labels": {"version": n}} for n in ("one", "two")]
    return rule(host=TCP_HOST, name="tcp", subsets=subsets, **policy)


def tcp_service(*rules, kind="tcp", name="tcp"):
    return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": meta(name, "m"), "spec": {"hosts": [TCP_HOST], kind: list(rules)}}


def to(subset=None, weight=None, host=TCP_HOST, port=None):
    out = {"destination": {"host": host}}
    if subset:
        out["destination"]["subset"] = subset
    if port:
        out["destination"]["port"] = {"number": port}
    if weight is not None:
        out["weight"] = weight
    return out


@pytest.fixture
def tcp(lab):
    """Two servers behind one ServiceEntry; `vip` of it."""
    lab.apply(tcp_entry(lab, "one", "two"), tcp_rule())
    yield
    lab.delete("DestinationRule", "m/tcp")
    if lab.get("VirtualService", "tcp", "m"):
        lab.delete("VirtualService", "m/tcp")


@functools.lru_cache  # a hash of the name: always the same one
def vip(lab):
    return lab.exec("m/client", "getent", "ahostsv4", TCP_HOST).out.split()[0]


def ask(lab, port=90, data=b"x", timeout=5):
    """One connection of the client: what the server says, "" when it is refused."""
    try:
        return LabNet(lab, "m").ask("client", (vip(lab), port), data, timeout).decode()
    except OSError:
        return ""


def seen(lab, n, port=90):
    out = [ask(lab, port) for _ in range(n)]
    return {k: out.count(k) for k in set(out)}


@pytest.mark.main
def test_tcp_routes(lab, net, tcp):
    with net.serve("one", 8090, say("one")), net.serve("two", 8090, say("two")):
        wait_until(lambda: set(seen(lab, 12)) == {"one", "two"})
        lab.apply(tcp_service({"match": [{"port": 90}], "route": [to("two")]},
                              {"match": [{"port": 92, "sourceNamespace": "elsewhere"}],
                               "route": [to("two")]},
                              {"match": [{"port": 92, "sourceLabels": {"app": "client"},
                                          "destinationSubnets": ["240.240.0.0/16"]}],
                               "route": [to("one")]}))
        wait_until(lambda: seen(lab, 6) == {"two": 6})
        assert seen(lab, 6, 92) == {"one": 6}
        lab.apply(tcp_service({"match": [{"destinationSubnets": ["10.0.0.0/8"]}],
                               "route": [to("one")]}, {"route": [to("one", 80), to("two", 20)]}))
        wait_until(lambda: set(seen(lab, 12)) == {"one", "two"})
        got = seen(lab, 150)
        assert 8 <= got["two"] <= 62, got  # 20 % of 150 is 30, 6.5 standard deviations either way
        lab.apply(tcp_service({"route": [to("nine")]}))
        wait_until(lambda: seen(lab, 2) == {"": 2})
        log = wait_until(lambda: [x for x in logs_of_waypoints(lab).splitlines()
                                  if "the destination of the route does not exist" in x])
        assert log


def test_rules_by_name(lab, net, pki, tcp):
    """`tls` rules: the name in the client's hello decides; the hello reaches the server whole."""
    def tell(text):
        return lambda tls, what: tls.sendall(f"{text} {what}".encode())

    def hello(name):
        context = ssl.create_default_context(cafile=pki.root)
        context.check_hostname = False
        with LabNet(lab, "m").connect("client", (vip(lab), 91)) as conn, \
                context.wrap_socket(conn, server_hostname=name) as tls:
            return read_all(tls).decode()

    with TlsServer(net, "one", 8091, pki.server, handler=tell("one")), \
            TlsServer(net, "two", 8091, pki.server, handler=tell("two")):
        lab.apply(tcp_service({"match": [{"sniHosts": [TCP_HOST], "port": 91}],
                               "route": [to("two")]}, kind="tls"))
        wait_until(lambda: all(hello(TCP_HOST).startswith(f"two sni={TCP_HOST}")
                               for _ in range(6)))
        assert {hello(None)[:3] for _ in range(16)} == {"one", "two"}  # the default route


def test_max_connections_of_tcp(lab, net, tcp):
    lab.apply(tcp_rule(connectionPool={"tcp": {"maxConnections": 2}}))
    inside = LabNet(lab, "m")
    with net.serve("one", 8090, echo), net.serve("two", 8090, echo):
        def fill():
            """Opens 6 at a time, one after the other; how many work."""
            conns = [inside.connect("client", (vip(lab), 90)) for _ in range(6)]
            good = 0
            for conn in conns:
                try:
                    conn.sendall(b"hi")
                    good += conn.recv(2) == b"hi"
                except OSError:
                    pass
            for conn in conns:
                conn.close()
            return good

        wait_until(lambda: fill() == 2)
        wait_until(lambda: ask(lab, data=b"free") == "free")
        wait_until(lambda: [x for x in logs_of_waypoints(lab).splitlines()
                            if "maxConnections are in use" in x])


def test_idle_and_age_of_tcp(lab, net, tcp):
    inside = LabNet(lab, "m")

    def life(conn):
        """Echoes every 50 ms until the end; True: it was cut within 2 s."""
        conn.settimeout(2)
        try:
            for _ in range(40):
                conn.sendall(b"x")
                if not conn.recv(1):
                    return True
                threading.Event().wait(0.05)
        except socket.timeout:
            return False
        except OSError:
            return True
        return False

    with net.serve("one", 8090, echo), net.serve("two", 8090, echo):
        lab.apply(tcp_rule(connectionPool={"tcp": {"maxConnectionDuration": "0.5s"}}))
        wait_until(lambda: life(inside.connect("client", (vip(lab), 90))) and
                   "timed out: maxConnectionDuration" in logs_of_waypoints(lab))
        lab.apply(tcp_rule(connectionPool={"tcp": {"idleTimeout": "0.3s"}}))

        def is_idled():
            with inside.connect("client", (vip(lab), 90), timeout=1) as conn:
                conn.sendall(b"x")
                conn.recv(1)
                try:
                    return conn.recv(1) == b""
                except socket.timeout:
                    return False
                except OSError:
                    return True

        wait_until(lambda: is_idled() and
                   "timed out: idle timeout" in logs_of_waypoints(lab))


def test_outlier_detection_of_tcp(lab, net, tcp):
    """A host that refuses connections is left alone after its second failure."""
    lab.apply(tcp_rule(outlierDetection={"consecutive5xxErrors": 2, "interval": "30s",
                                         "baseEjectionTime": "60s", "maxEjectionPercent": 100}))
    waypoint, gone = f"m/{waypoints(lab)[0]['name']}", lab.ip("two", "out")

    def ejected():
        dump = lab.exec(waypoint, "curl", "-sS", "-m", 5, "http://127.0.0.1:15000/l7_dump").out
        return [e["address"] for s in json.loads(dump)["l7"]["clusters"]
                if s["host"] == TCP_HOST and s["port"] == 90 and s["subset"] == ""
                for e in s["endpoints"] if e["ejected"]]

    with net.serve("one", 8090, say("one")):
        # Others are tried at once: no client hears of it.
        wait_until(lambda: seen(lab, 8) == {"one": 8} and ejected())
        assert ejected() == [f"{gone}:8090"]


def test_tls_origination_of_tcp(lab, net, pki, tcp):
    def upper(tls, what):
        while data := tls.recv(65536):
            tls.sendall(data.upper())
        tls.unwrap()

    own = pki.issue("", sans=f"DNS:{TCP_HOST}")
    with TlsServer(net, "one", 8090, own, handler=upper) as a, \
            TlsServer(net, "two", 8090, own, handler=upper) as b:
        lab.apply(tcp_rule(tls={"mode": "SIMPLE", "caCertificates": str(pki.root)}))
        wait_until(lambda: ask(lab, data=b"hello") == "HELLO")  # both halves closed in order
        a.failures.clear()
        b.failures.clear()
        data = os.urandom(1 << 19).hex()
        assert ask(lab, data=data.encode(), timeout=20) == data.upper()
        assert a.failures + b.failures == []
        lab.apply(tcp_rule(tls={"mode": "SIMPLE", "caCertificates": str(pki.root),
                                "sni": "other.example.com"}))
        wait_until(lambda: ask(lab, data=b"hello") == "")
        wait_until(lambda: [x for x in logs_of_waypoints(lab).splitlines()
                            if "\taccess\t" in x and "expected other.example.com" in x])


# MeshConfig


def mesh_config(lab, **settings):
    text = json.dumps({"accessLogFile": "/dev/stdout", **settings})  # JSON is YAML
    lab.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("istio", "istio-system"),
               "data": {"mesh": text}})


def test_defaults_of_the_mesh(lab, net, ext):
    """Retries and HTTP/2 by MeshConfig, without a VirtualService or DestinationRule."""
    tries = []

    def fails(conn):
        while data := conn.recv(65536):
            tries.append(data)
            if data.startswith(b"PRI * HTTP/2.0"):
                return
            conn.sendall(b"HTTP/1.1 503 no\r\nContent-Length: 0\r\n\r\n")

    try:
        with net.serve("one", 8443, fails):
            mesh_config(lab, defaultHttpRetryPolicy={"attempts": 4, "retryOn": "503"})

            def count():
                tries.clear()
                assert curl(lab, "/", url=URL).status == 503
                return len(tries)

            wait_until(lambda: count() == 5)
            mesh_config(lab, defaultHttpRetryPolicy={"attempts": 0}, h2UpgradePolicy="UPGRADE")
            wait_until(lambda: count() == 1 and tries[0].startswith(b"PRI * HTTP/2.0"))
            ext(connectionPool={"http": {"h2UpgradePolicy": "DO_NOT_UPGRADE"}})
            wait_until(lambda: count() == 1 and tries[0].startswith(b"GET"))
    finally:
        mesh_config(lab)
        lab.apply(rule())  # for the fixture


def test_connect_timeout_of_the_mesh(lab, ext):
    """Nobody answers at this address; the lab's nodes drop what is for it."""
    try:
        lab.apply(service_entry(["203.0.113.9"]))
        lab.exec("node1", "ip", "route", "replace", "blackhole", "203.0.113.9/32")
        mesh_config(lab, connectTimeout="0.3s", defaultHttpRetryPolicy={"attempts": 0})
        reply(lab, says("reset reason: connection timeout"))
    finally:
        lab.exec("node1", "ip", "route", "del", "203.0.113.9/32")
        mesh_config(lab)
        lab.apply(rule())


# Through a proxy (tunnel of a DestinationRule)


class HttpProxy:
    """Serves CONNECT and POST: takes the way to `to`, or refuses. `heads` are the requests'."""

    def __init__(self, net, to, status=b"200 OK"):
        self.net, self.to, self.status, self.heads = net, to, status, []

    def __call__(self, conn, text=""):
        data = b""
        while b"\r\n\r\n" not in data:
            data += conn.recv(65536)
        head, _, data = data.partition(b"\r\n\r\n")
        self.heads.append(head.decode())
        if not self.status.startswith(b"2"):
            conn.sendall(b"HTTP/1.1 " + self.status + b"\r\nContent-Length: 0\r\n\r\n")
            return
        if head.startswith(b"POST"):
            conn.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while not data.endswith(b"0\r\n\r\n"):
                data += conn.recv(65536)
            body = data.split(b"\r\n")[1][::-1]  # one chunk
            conn.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
            return
        with self.net.connect("one", self.to) as up:
            # What the server says first comes in one piece with the answer.
            conn.sendall(b"HTTP/1.1 " + self.status + b"\r\nVia: proxy\r\n\r\n" + up.recv(64))
            back = threading.Thread(target=self.back, args=(up, conn), daemon=True)
            back.start()
            while data or (data := conn.recv(65536)):
                up.sendall(data)
                data = b""
            up.shutdown(socket.SHUT_WR)
            back.join(10)

    @staticmethod
    def back(up, conn):
        while data := up.recv(65536):
            conn.sendall(data)
        try:
            conn.shutdown(socket.SHUT_WR)
        except OSError:  # TLS
            pass


def gives(ask, wanted):
    """False while it fails: the configuration may be on its way."""
    try:
        return ask() == wanted
    except (OSError, EOFError):
        return False


def greet_and_echo(conn):
    conn.sendall(b"welcome ")
    echo(conn)


@pytest.mark.main
@pytest.mark.parametrize("host", ["two.example.com", "fd00::7"])
def test_tunnel_through_a_proxy(lab, net, pki, host):
    client, target = LabNet(lab, "m"), (lab.ip("two", "out"), 8095)
    authority = f"[{host}]:8095" if ":" in host else f"{host}:8095"
    tunnel = {"protocol": "CONNECT", "targetHost": host, "targetPort": 8095}
    lab.apply(tcp_entry(lab, "one"))
    lab.apply(rule(host=TCP_HOST, name="tcp", tunnel=tunnel))
    to = (wait_until(lambda: lab.exec("m/client", "getent", "ahostsv4",
                                      TCP_HOST).out.split())[0], 90)
    proxy = HttpProxy(net, target)
    try:
        with net.serve("two", 8095, greet_and_echo):
            with net.serve("one", 8090, proxy):
                wait_until(lambda: client.ask("client", to) == b"welcome hello world")
                assert proxy.heads[-1] == f"CONNECT {authority} HTTP/1.1\r\nhost: {authority}"
                big = b"0123456789" * 100000
                assert client.ask("client", to, big) == b"welcome " + big
                proxy.status = b"403 Forbidden"
                client.fails("client", to)
                lines = wait_until(lambda: [x for x in logs_of_waypoints(lab).splitlines()
                                            if "the proxy answered CONNECT with 403" in x])
                assert 'direction="waypoint"' in lines[0]
            # TLS is with the proxy.
            lab.apply(rule(host=TCP_HOST, name="tcp", tunnel=tunnel,
                           tls={"mode": "SIMPLE", "caCertificates": str(pki.root), "sni": HOST}))
            proxy.status = b"200 Connection established"
            with TlsServer(net, "one", 8090, pki.server, handler=proxy):
                def ask():
                    with client.connect("client", to) as conn:
                        conn.sendall(b"hello")
                        return read_exactly(conn, 13)

                wait_until(lambda: gives(ask, b"welcome hello"))
    finally:
        lab.delete("DestinationRule", "m/tcp")


def test_tunnel_by_post(lab, net, ext):
    client = LabNet(lab, "m")
    lab.apply(tcp_entry(lab, "one"))
    tunnel = {"protocol": "POST", "targetHost": "two.example.com", "targetPort": 8095}
    lab.apply(rule(host=TCP_HOST, name="tcp", tunnel=tunnel))
    to = (wait_until(lambda: lab.exec("m/client", "getent", "ahostsv4",
                                      TCP_HOST).out.split())[0], 90)
    proxy = HttpProxy(net, None)
    with net.serve("one", 8090, proxy):
        wait_until(lambda: client.ask("client", to) == b"dlrow olleh")
        assert proxy.heads[-1].startswith("POST / HTTP/1.1\r\nhost: two.example.com:8095\r\n")
    lab.delete("DestinationRule", "m/tcp")
    # Requests of HTTP have no such way, and none of their own instead.
    ext(tunnel=tunnel)
    reply(lab, says("tunnel (DestinationRule) is for TCP and TLS, not for HTTP"))


# ServiceEntries


def http_ok(conn):
    while conn.recv(65536):
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none")


BOTH_PORTS = [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8443},
              {"number": 90, "name": "tcp", "protocol": "TCP", "targetPort": 8090}]


@pytest.mark.parametrize("resolution", ["DNS", "DNS_ROUND_ROBIN"])
def test_endpoints_by_name(lab, net, resolution):
    """The name is a headless Service's, which the lab's DNS resolves to the pod."""
    lab.apply(service("names", "out", {"app": "one"}, port=8443, target=8443, clusterIP="None"))
    lab.apply(service_entry(["names.out.svc.cluster.local"], resolution=resolution,
                            ports=BOTH_PORTS))
    with net.serve("one", 8443, http_ok), net.serve("one", 8090, say("tcp")):
        reply(lab, ok("one"))
        to = lab.exec("m/client", "getent", "ahostsv4", HOST).out.split()[0]
        assert LabNet(lab, "m").ask("client", (to, 90)) == b"tcp"


def test_no_resolution(lab, net):
    """NONE: to where the client wanted, over the waypoint."""
    host, to, pod_ip = "none.example.com", "198.51.100.7", lab.ip("one", "out")
    lab.exec("out/one", "ip", "addr", "add", f"{to}/32", "dev", "lo")  # no workload's
    for node in ("node1", "node2"):
        way = lab.exec(node, "ip", "-o", "route", "get", pod_ip).out.split()
        via = way[way.index("via"):][:2] if "via" in way else []
        lab.exec(node, "ip", "route", "replace", f"{to}/32", *via, "dev",
                 way[way.index("dev") + 1])
    ports = [{"number": 8443, "name": "http", "protocol": "HTTP"},
             {"number": 8090, "name": "tcp", "protocol": "TCP"}]
    lab.apply(service_entry([], host=host, name="none", resolution="NONE", ports=ports,
                            addresses=[to]))
    with net.serve("one", 8443, http_ok), net.serve("one", 8090, say("tcp")):
        answer = reply(lab, lambda a: a.body == "one" and "x-envoy-upstream-service-time" in
                       a.headers, "/", f"http://{to}:8443")
        assert answer.status == 200
        assert LabNet(lab, "m").ask("client", (to, 8090)) == b"tcp"
        wait_until(lambda: [x for x in logs_of_waypoints(lab).splitlines()
                            if 'direction="waypoint"' in x and f"{to}:8090" in x])
    lab.delete("ServiceEntry", "m/none")


# Hosts that requests name (DYNAMIC_DNS)


WILD = "*.out.svc.cluster.local"
WILD_PORTS = [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8443},
              {"number": 443, "name": "tls", "protocol": "TLS", "targetPort": 8444}]


@pytest.fixture
def wild(lab):
    """A wildcard's ServiceEntry; gives the address under which its names are called."""
    lab.apply(service("named", "out", {"app": "one"}, port=8443, target=8443, clusterIP="None"))
    lab.apply(service_entry([], host=WILD, name="wild", resolution="DYNAMIC_DNS",
                            ports=WILD_PORTS))
    # What the mesh has no Service for is a name under the wildcard.
    found = wait_until(lambda: lab.exec("m/client", "getent", "ahostsv4",
                                        "anything.at.all.out.svc.cluster.local").out.split())
    assert found[0].startswith("240.240.")
    yield found[0]
    lab.delete("ServiceEntry", "m/wild")
    lab.delete("Service", "out/named")


def named(lab, host, vip, check, *args):
    """A request to a name under the wildcard."""
    return reply(lab, check, "/", f"http://{host}", "--connect-to", f"::{vip}:80", *args)


@pytest.mark.main
def test_host_of_the_request_decides(lab, net, wild):
    host = "named.out.svc.cluster.local"
    with net.serve("one", 8443, http_ok):
        named(lab, host, wild, ok("one"))
        # Whatever was called: it is Host that counts, without its port.
        named(lab, "none.out.svc.cluster.local", wild, ok("one"), "-H", f"Host: {host}:8443")
        # Not every name: those under the wildcard.
        for other in ("named.m.svc.cluster.local", "out.svc.cluster.local", lab.ip("one", "out")):
            answer = named(lab, host, wild, says(status=404), "-H", f"Host: {other}")
            assert answer.body == ""
        answer = named(lab, "none.out.svc.cluster.local", wild, says("DNS resolution failure"))
        assert answer.body == "DNS resolution failure"
        log = wait_until(lambda: [x for x in logs_of_waypoints(lab).splitlines()
                                  if " 503 DF dns_resolution_failure{" in x])
        assert "inbound-vip|80|http|*.out.svc.cluster.local" in log[0]
        assert wait_until(lambda: " 404 NR route_not_found" in logs_of_waypoints(lab))
        explain = ["explain", "--from", "m/client", "--to", f"{wild}:80", "--request", "/",
                   "-H"]
        assert "looked up then" in ctl(lab, *explain, f"host: {host}")
        assert f"no name under {WILD}" in ctl(lab, *explain, "host: out.svc.cluster.local")
        rows = ctl(lab, "config", "endpoint")
        assert any(lab.ip("one", "out") + ":8443" in x and WILD in x for x in rows.splitlines())


def test_registry_only_ends_before_the_waypoint(lab, net, wild):
    """What is not known is refused by the client's proxy; at a waypoint the mode changes nothing."""
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("istio", "istio-system"),
              "data": {"mesh": "accessLogFile: /dev/stdout\n"}}
    only = {**config, "data": {"mesh": config["data"]["mesh"] +
                               "outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n"}}
    host = "named.out.svc.cluster.local"
    # What nobody knows: ztun's own port, on a node.
    unknown = next(a["address"] for a in lab.get("Node", "node2", None)["status"]["addresses"]
                   if a["type"] == "InternalIP") + ":15021"
    assert lab.curl("m/client", f"http://{unknown}/healthz/ready").out == "ready\n"
    lab.apply(only)
    try:
        with net.serve("one", 8443, http_ok):
            wait_until(lambda: not lab.curl("m/client", f"http://{unknown}/healthz/ready").ok)
            named(lab, host, wild, ok("one"))
            named(lab, host, wild, says(status=404), "-H", "Host: www.example.com")
            assert unknown not in logs_of_waypoints(lab)
    finally:
        lab.apply(config)


def test_server_name_of_tls_decides(lab, net, pki, wild):
    with TlsServer(net, "one", 8444, pki.server) as server:
        def get(name):
            return lab.exec("m/client", "curl", "-sSk", "-m", "5", "--connect-to", f"::{wild}:443",
                            f"https://{name}/", check=False)

        done = wait_until(lambda: (r := get("named.out.svc.cluster.local")).code == 0 and r)
        assert "sni=named.out.svc.cluster.local" in done.out
        n = server.n_conns
        for other in ("named.m.svc.cluster.local", "none.out.svc.cluster.local"):
            assert get(other).code != 0
        assert server.n_conns == n
        for text in ("names no server of the service", "name resolution failed"):
            wait_until(lambda t=text: [x for x in logs_of_waypoints(lab).splitlines()
                                       if 'direction="waypoint"' in x and t in x])


def test_tls_origination_to_a_name(lab, net, pki, wild):
    lab.apply(rule(host=WILD, name="wild", tls={"mode": "SIMPLE", "insecureSkipVerify": True}))
    with TlsServer(net, "one", 8443, pki.server) as server:
        answer = named(lab, "named.out.svc.cluster.local", wild, ok("sni="))
        server.failures.clear()  # of requests before the rule was in force
        assert "sni=named.out.svc.cluster.local alpn=http/1.1" in answer.body
        assert server.failures == []
    lab.delete("DestinationRule", "m/wild")
