# SPDX-License-Identifier: Apache-2.0
"""A stand-in for istiod's CA: grpcio's server with IstioCertificateService, and what goes wrong with
one. Certificates are made by the cryptography package; messages are taken apart by hand.
"""

import contextlib
import datetime
import ipaddress
import threading
from concurrent import futures

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from cryptography.x509.oid import NameOID

NAME = "istiod.istio-system.svc"
METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"


def utc(seconds):
    return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)


def pem(item):
    return item.public_bytes(Encoding.PEM).decode()


# Protocol Buffers


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def fields(data):
    """[(number, value)]: an int or bytes."""
    at, out = 0, []

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        tag = number()
        if tag & 7 == 0:
            out.append((tag >> 3, number()))
        else:
            assert tag & 7 == 2, f"wire type {tag & 7}"
            size = number()
            assert at + size <= len(data)
            out.append((tag >> 3, data[at:at + size]))
            at += size
    return out


def strings(*texts):
    return b"".join(b"\x0a" + varint(len(t.encode())) + t.encode() for t in texts)


class Request:
    """What a proxy asked for, and how."""

    def __init__(self, data, metadata):
        parsed = dict(fields(data))
        self.csr = x509.load_pem_x509_csr(parsed[1])
        assert self.csr.is_signature_valid
        sans = self.csr.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        assert sans.critical and len(self.csr.subject) == 0
        assert isinstance(self.csr.public_key().curve, ec.SECP256R1)
        self.uris = sans.value.get_values_for_type(x509.UniformResourceIdentifier)
        self.seconds = parsed.get(3)
        entries = {}
        for _, entry in fields(parsed.get(4, b"")):
            pair = dict(fields(entry))
            entries[pair[1].decode()] = dict(fields(pair[2]))[3].decode()
        self.impersonated = entries.get("ImpersonatedIdentity")
        self.metadata = dict(metadata)

    @property
    def account(self):
        return self.uris[0].rsplit("/", 1)[1]


class Root:
    def __init__(self, name="root"):
        self.key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)])
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        self.cert = (x509.CertificateBuilder().subject_name(subject).issuer_name(subject)
                     .public_key(self.key.public_key()).serial_number(x509.random_serial_number())
                     .not_valid_before(utc(-3600)).not_valid_after(utc(36000))
                     .add_extension(x509.BasicConstraints(True, None), critical=True)
                     .add_extension(usage, critical=True)
                     .sign(self.key, hashes.SHA256()))

    @property
    def pem(self):
        return pem(self.cert)

    def sign(self, public_key, sans, seconds=3600, start=-60):
        usage = x509.KeyUsage(True, False, True, False, False, False, False, False, False)
        return pem(x509.CertificateBuilder().subject_name(x509.Name([]))
                   .issuer_name(self.cert.subject).public_key(public_key)
                   .serial_number(x509.random_serial_number())
                   .not_valid_before(utc(start)).not_valid_after(utc(seconds))
                   .add_extension(x509.BasicConstraints(False, None), critical=True)
                   .add_extension(usage, critical=True)
                   .add_extension(x509.ExtendedKeyUsage([Usage.SERVER_AUTH, Usage.CLIENT_AUTH]),
                                  critical=False)
                   .add_extension(x509.SubjectAlternativeName(sans), critical=True)
                   .sign(self.key, hashes.SHA256()))

    def server(self, name=NAME):
        """(key, chain) in PEM of a server's own certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            san = x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            san = x509.DNSName(name)
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return text, self.sign(key.public_key(), [san]).encode()


class Istiod:
    """`rule(request, context)` is asked first: bytes are the answer, None is the usual one."""

    def __init__(self, mesh, where="node2", address="10.77.0.2", port=15012, host=None):
        self.mesh, self.where, self.address, self.port = mesh, where, address, port
        self.host = host or address  # as proxies are told
        self.root = Root()
        self.roots = self.root.pem  # what proxies are told
        self.seconds = None  # life of certificates; None: as asked for
        self.requests, self.lock = [], threading.Lock()
        self.rule = self.server = None
        self.tls_root, self.tls_name = self.root, NAME
        self.dir = mesh.dir / "istiod"
        self.dir.mkdir()
        self.roots_file, self.token_file = self.dir / "root-cert.pem", self.dir / "istio-token"
        self.put(self.roots_file, self.root.pem)
        self.put(self.token_file, "token-1\n")

    def put(self, path, text):
        temporary = path.with_name(".new")
        temporary.write_text(text)
        temporary.rename(path)

    @property
    def args(self):
        return ["--ca-address", f"https://{self.host}:{self.port}", "--ca-hostname", NAME,
                "--ca-roots", self.roots_file, "--token", self.token_file]

    def start(self):
        handler = grpc.unary_unary_rpc_method_handler(self.create)
        istiod = self

        class Handlers(grpc.GenericRpcHandler):
            def service(self, details):
                return handler if details.method == METHOD else istiod.other(details)

        self.server = grpc.server(futures.ThreadPoolExecutor(32), handlers=[Handlers()],
                                  options=[("grpc.so_reuseport", 0)])
        creds = grpc.ssl_server_credentials([self.tls_root.server(self.tls_name)])
        with self.mesh.inside(self.where):
            port = self.server.add_secure_port(f"{self.address}:{self.port}", creds)
        assert port == self.port
        self.server.start()
        return self

    def other(self, details):
        raise AssertionError(f"asked for {details.method}")

    def stop(self):
        if self.server is not None:
            self.server.stop(0).wait(5)
            self.server = None

    def restart(self):
        self.stop()
        self.start()

    def create(self, data, context):
        request = Request(data, context.invocation_metadata())
        with self.lock:
            self.requests.append(request)
        answer = self.rule(request, context) if self.rule is not None else None
        return answer if answer is not None else self.answer(request)

    def answer(self, request, uri=None, **kw):
        kw.setdefault("seconds", self.seconds or request.seconds)
        san = x509.UniformResourceIdentifier(uri or request.uris[0])
        return strings(self.root.sign(request.csr.public_key(), [san], **kw), self.roots)

    def asked(self, account):
        with self.lock:
            return [r for r in self.requests if r.account == account]

    @contextlib.contextmanager
    def ruled(self, rule):
        self.rule = rule
        try:
            yield
        finally:
            self.rule = None
