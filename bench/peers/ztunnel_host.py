#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What ztunnel needs around it in shared mode, for two pods and nothing more: a node agent that hands
out the pods (ZDS, istio.workload.zds: seqpacket, a message a packet, the namespace as a descriptor
beside it) and a certificate authority (istio.v1.auth.IstioCertificateService over TLS).

    ztunnel_host.py --dir DIR --port PORT NETNS=NAMESPACE/POD/ACCOUNT ...

DIR gets root-cert.pem (for CA_ROOT_CA) and the socket zds.sock (for INPOD_UDS). "ready" on stdout.
Run by the distribution's Python, which has grpcio.
"""

import argparse
import os
import re
import socket
import subprocess
import tempfile
import threading
from concurrent import futures

import grpc

METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
SPIFFE = re.compile(rb"spiffe://[A-Za-z0-9._/-]+")
CSR = re.compile(rb"-----BEGIN CERTIFICATE REQUEST-----.*?-----END CERTIFICATE REQUEST-----\s*",
                 re.DOTALL)


# ---- Protocol buffers, as far as it goes ---------------------------------------------------------

def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number, data):
    """A length-delimited field."""
    data = data.encode() if isinstance(data, str) else data
    return varint(number << 3 | 2) + varint(len(data)) + data


def add_workload(uid, namespace, name, account):
    """WorkloadRequest{add: AddWorkload{uid, workload_info}}"""
    info = field(1, name) + field(2, namespace) + field(3, account)
    return field(1, field(1, uid) + field(2, info))


SNAPSHOT_SENT = field(3, b"")  # WorkloadRequest{snapshot_sent}


def check_ack(packet):
    """WorkloadResponse{ack: Ack{error}}; an empty Ack is a yes."""
    if packet[:1] != b"\x0a" or packet[1:2] != b"\x00":
        raise RuntimeError(f"the proxy refuses: {packet!r}")


# ---- Certificates --------------------------------------------------------------------------------

class Authority:
    def __init__(self, directory):
        self.directory = directory
        self.lock = threading.Lock()
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                     "-nodes", "-keyout", "ca.key", "-out", "root-cert.pem", "-days", "2", "-subj",
                     "/O=bench")
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                     "-keyout", "server.key", "-out", "server.csr", "-subj", "/O=bench")
        self.sign("server.csr", "server.pem", "DNS:localhost")

    def openssl(self, *args):
        subprocess.run(["openssl", *args], cwd=self.directory, check=True, capture_output=True)

    def read(self, name):
        with open(os.path.join(self.directory, name), "rb") as f:
            return f.read()

    def sign(self, csr, out, name):
        with tempfile.NamedTemporaryFile("w", dir=self.directory, suffix=".ext") as ext:
            ext.write("basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
                      f"extendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=critical,{name}\n")
            ext.flush()
            self.openssl("x509", "-req", "-in", csr, "-CA", "root-cert.pem", "-CAkey", "ca.key",
                         "-CAcreateserial", "-days", "2", "-extfile", ext.name, "-out", out)

    def create(self, request, context):
        """IstioCertificateRequest{csr, metadata{ImpersonatedIdentity}} to
        IstioCertificateResponse{cert_chain}, leaf first."""
        csr, identity = CSR.search(request), SPIFFE.search(CSR.sub(b"", request))
        if not csr or not identity:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no request, or no identity")
        with self.lock:
            with open(os.path.join(self.directory, "leaf.csr"), "wb") as out:
                out.write(csr.group())
            self.sign("leaf.csr", "leaf.pem", "URI:" + identity.group().decode())
            return field(1, self.read("leaf.pem")) + field(1, self.read("root-cert.pem"))

    def serve(self, port):
        server = grpc.server(futures.ThreadPoolExecutor(2))
        service, method = METHOD[1:].split("/")
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {
            method: grpc.unary_unary_rpc_method_handler(self.create)})])
        server.add_secure_port(f"localhost:{port}", grpc.ssl_server_credentials(
            [(self.read("server.key"), self.read("server.pem"))]))
        server.start()
        return server


# ---- Node agent ----------------------------------------------------------------------------------

def hand_out(conn, pods):
    """All pods, each acknowledged, then the end of the snapshot; then until the proxy goes away."""
    hello = conn.recv(1024)
    if hello != b"\x08\x01":
        raise RuntimeError(f"not the ZDS that is spoken here: {hello!r}")
    for netns, (namespace, name, account) in pods.items():
        fd = os.open(f"/run/netns/{netns}", os.O_RDONLY)
        try:
            socket.send_fds(conn, [add_workload(f"zb-{netns}", namespace, name, account)], [fd])
        finally:
            os.close(fd)
        check_ack(conn.recv(1024))
    conn.send(SNAPSHOT_SENT)
    check_ack(conn.recv(1024))
    conn.recv(1024)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pod", nargs="+")
    parser.add_argument("--dir", required=True)
    parser.add_argument("--port", type=int, required=True)
    args = parser.parse_args()
    pods = {netns: who.split("/") for netns, who in (p.split("=") for p in args.pod)}
    _server = Authority(args.dir).serve(args.port)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(os.path.join(args.dir, "zds.sock"))
        listener.listen(4)
        print("ready", flush=True)
        while True:
            conn, _ = listener.accept()
            with conn:
                hand_out(conn, pods)


if __name__ == "__main__":
    main()
