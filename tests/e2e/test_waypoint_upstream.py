# SPDX-License-Identifier: Apache-2.0
"""From a waypoint to servers: TLS origination, PROXY protocol, TCP routes and limits, ServiceEntries.

The servers are outside of the mesh: the test's own, in pods that are not enrolled.
"""

import base64
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
from mesh.topology import echo, linger0, read_all, say
from test_waypoint_http import curl, logs_of_waypoints, waypoints
from test_waypoint_tcp import access, gateway

HOST = "ext.example.com"
URL = f"http://{HOST}"
BOUND = {"istio.io/use-waypoint": "waypoint"}


def service_entry(addresses, host=HOST, ports=None, resolution="STATIC", name="ext", **spec):
    ports = ports or [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8443}]
    if addresses:
        spec["endpoints"] = [a if isinstance(a, dict) else {"address": a} for a in addresses]
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
        self.n_conns, self.failures, self.heads = 0, [], []
        self.server = net.serve(where, port, self.run)

    def on_sni(self, sock, name, context):
        self.local.sni = name

    def run(self, conn):
        self.n_conns += 1
        self.local.sni = None
        conn.settimeout(30)
        if self.ahead:
            self.heads.append(self.ahead(conn))
        try:
            with self.context.wrap_socket(conn, server_side=True) as tls:
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
        found["it"] = curl(lab, path, *args, url=url)
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
    with TlsServer(net, "one", 8443, pki.server, ca=pki.root):
        ext(tls={"mode": "MUTUAL", "credentialName": "creds"})
        reply(lab, says('there is no Secret "creds" in namespace "m"'))
        lab.apply(secret("creds", ns="out", tls_crt=pki.client.cert, tls_key=pki.client.key,
                         ca_crt=pki.root))  # of another namespace: does not count
        lab.apply(secret("creds", tls_crt=pki.client.cert, tls_key=pki.client.key))
        reply(lab, says('Secret "creds" has no ca.crt'))
        lab.apply(secret("creds", tls_crt=pki.client.cert, tls_key=pki.client.key,
                         ca_crt=pki.root))
        reply(lab, ok("client=the-client "))
        lab.apply(secret("generic", kind="Opaque", cert=pki.client.cert, key=pki.client.key))
        lab.apply(secret("generic-cacert", kind="Opaque", cacert=pki.root))
        ext(tls={"mode": "MUTUAL", "credentialName": "generic"})
        reply(lab, ok("client=the-client "))
    key = Path(pki.client.key).read_text().split("\n")[1]
    ip = lab.ip(waypoints(lab)[0]["name"], "m")
    for page in ("config_dump", "status"):
        dump = lab.exec(f"m/{waypoints(lab)[0]['name']}", "curl", "-sS", "-m", 5,
                        f"http://127.0.0.1:15000/{page}")
        assert dump.ok and len(dump.out) > 100 and key not in dump.out
    assert key not in logs_of_waypoints(lab) and ip


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


def test_http2_by_alpn(lab, net, pki, ext):
    """nginx tells what it saw."""
    conf = pki.path / "nginx.conf"
    conf.write_text(f"""
daemon off; pid {pki.path}/nginx.pid; error_log {pki.path}/nginx.log;
events {{}}
http {{ access_log off; client_body_temp_path {pki.path}/b; proxy_temp_path {pki.path}/p;
fastcgi_temp_path {pki.path}/f; uwsgi_temp_path {pki.path}/u; scgi_temp_path {pki.path}/s;
server {{ listen 8443 ssl http2; ssl_protocols TLSv1.3;
ssl_certificate {pki.server.cert}; ssl_certificate_key {pki.server.key};
location / {{ return 200 "$server_protocol $ssl_alpn_protocol $ssl_server_name\\n"; }} }} }}
""")
    with net.inside("one"):
        nginx = subprocess.Popen(["nginx", "-c", str(conf)], stderr=subprocess.DEVNULL)
    try:
        tls = {"mode": "SIMPLE", "caCertificates": str(pki.root)}
        ext(tls=tls)
        reply(lab, ok(f"HTTP/1.1 http/1.1 {HOST}"))
        ext(tls=tls, connectionPool={"http": {"h2UpgradePolicy": "UPGRADE"}})
        reply(lab, ok(f"HTTP/2.0 h2 {HOST}"))
    finally:
        nginx.send_signal(signal.SIGTERM)
        nginx.wait(10)


def test_old_tls_is_told_apart(lab, net, pki, ext):
    with TlsServer(net, "one", 8443, pki.server, version=ssl.TLSVersion.TLSv1_2):
        ext(tls={"mode": "SIMPLE", "caCertificates": str(pki.root)})
        reply(lab, says("TLS error", "TLS 1.3"))


def test_no_tls_at_all(lab, net, pki, ext):
    with net.serve("one", 8443, say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")):
        ext(tls={"mode": "SIMPLE", "caCertificates": str(pki.root)})
        reply(lab, says("TLS error"))
