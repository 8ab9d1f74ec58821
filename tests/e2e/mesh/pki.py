# SPDX-License-Identifier: Apache-2.0
"""Certificates for peers that are not ztun, from the mesh's CA or from a strange one; and CRLs.

Made with the openssl program: a test must not judge our TLS by our own TLS.
"""

import ssl
import subprocess
import tempfile
import time
from pathlib import Path

CONFIG = """
[ca]
default_ca = this
[this]
database = {dir}/index.txt
new_certs_dir = {dir}
certificate = {ca_cert}
private_key = {ca_key}
serial = {dir}/serial
crlnumber = {dir}/crlnumber
default_md = sha256
default_days = 1
default_crl_days = 30
policy = any
unique_subject = no
rand_serial = yes
copy_extensions = none
[any]
organizationName = optional
commonName = optional
[req]
distinguished_name = dn
[dn]
"""


def openssl(*args, **kw):
    done = subprocess.run(["openssl", *map(str, args)], capture_output=True, timeout=20, **kw)
    assert done.returncode == 0, f"openssl {args}: {done.stderr.decode()}"
    return done.stdout


def utc(seconds_from_now):
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + seconds_from_now))


class Credentials:
    def __init__(self, cert, key, root):
        self.cert, self.key, self.root = cert, key, root

    def context(self, server=False, alpn=("h2",), version=ssl.TLSVersion.TLSv1_3, with_cert=True):
        """Verifies the chain, not the name: SPIFFE ids are the mesh's business."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.minimum_version = context.maximum_version = version
        context.load_verify_locations(self.root)
        context.verify_mode = ssl.CERT_REQUIRED
        if with_cert:
            context.load_cert_chain(self.cert, self.key)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context


class Authority:
    """Signs with the CA of a --ca-dir, or, without one, with a root of its own."""

    def __init__(self, ca_dir=None):
        self.temporary = tempfile.TemporaryDirectory(prefix="ztun-pki-")
        self.dir = Path(self.temporary.name)
        self.n = 0
        if ca_dir is None:
            key, cert = self.dir / "ca-key.pem", self.dir / "ca-cert.pem"
            openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                    "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj",
                    "/O=strangers", "-addext", "basicConstraints=critical,CA:TRUE",
                    "-addext", "keyUsage=critical,keyCertSign,cRLSign")
            self.root = cert
        else:
            key, cert = Path(ca_dir) / "ca-key.pem", Path(ca_dir) / "ca-cert.pem"
            self.root = Path(ca_dir) / "root-cert.pem"
        (self.dir / "index.txt").touch()
        (self.dir / "crlnumber").write_text("01\n")
        self.config = self.dir / "openssl.cnf"
        self.config.write_text(CONFIG.format(dir=self.dir, ca_cert=cert, ca_key=key))

    def issue(self, spiffe, start=-60, end=3600, usage="serverAuth,clientAuth", sans=None):
        """A leaf with this URI; valid from `start` to `end` seconds from now."""
        self.n += 1
        base = self.dir / f"leaf{self.n}"
        key, csr, cert, ext = (base.with_suffix(s) for s in (".key", ".csr", ".pem", ".ext"))
        names = sans if sans is not None else f"URI:{spiffe}"
        ext.write_text("basicConstraints=critical,CA:FALSE\n"
                       "keyUsage=critical,digitalSignature\n"
                       f"extendedKeyUsage={usage}\n"
                       + (f"subjectAltName=critical,{names}\n" if names else ""))
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", key, "-out", csr, "-subj", "/O=test", "-config", self.config)
        openssl("ca", "-batch", "-notext", "-config", self.config, "-in", csr, "-out", cert,
                "-extfile", ext, "-startdate", utc(start), "-enddate", utc(end))
        return Credentials(cert, key, self.root)

    def revoke(self, cert):
        """Adds to the next crl(). `cert`: a file, or DER bytes."""
        if isinstance(cert, bytes):
            self.n += 1
            path = self.dir / f"revoked{self.n}.pem"
            path.write_text(ssl.DER_cert_to_PEM_cert(cert))
            cert = path
        openssl("ca", "-config", self.config, "-revoke", cert)

    def crl(self, path):
        temporary = self.dir / "crl.pem"
        openssl("ca", "-config", self.config, "-gencrl", "-out", temporary)
        out = Path(path)
        next_to = out.with_name("." + out.name + ".tmp")
        next_to.write_bytes(temporary.read_bytes())
        next_to.rename(out)

    def close(self):
        self.temporary.cleanup()
