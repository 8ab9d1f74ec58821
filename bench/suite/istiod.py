# SPDX-License-Identifier: Apache-2.0
"""A stand-in for istiod's discovery that is never the bottleneck (tools/xds_server.c), and a ztun
that has its mesh from it, beside the pods of the bench, which come from files."""

import json
import subprocess

from . import topo
from .procs import Proc

PORT = 15910  # none that ztun uses
ACK_TIMEOUT_S = 150


def certificate(directory):
    """Of the server, which is its own root."""
    base = f"{directory}/istiod"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-keyout", base + ".key", "-out",
                    base + ".pem", "-days", "2", "-subj", "/O=bench", "-addext",
                    f"subjectAltName=IP:{topo.NODE_IP[topo.NODE1]}"], check=True,
                   capture_output=True)
    return base + ".pem", base + ".key"


class Istiod:
    """On node 1. What it sends is decided by load() and change()."""

    def __init__(self, ctx, services, endpoints):
        cert, key = certificate(ctx.work_dir)
        address = f"{topo.NODE_IP[topo.NODE1]}:{PORT}"
        token = f"{ctx.work_dir}/istiod.token"
        with open(token, "w", encoding="ascii") as out:
            out.write("anybody")
        self.options = [f"--xds-address=https://{address}", f"--xds-roots={cert}",
                        f"--token={token}"]
        self.proc = Proc("xds_server", [ctx.tools / "xds_server", address, cert, key,
                                        f"--services={services}", f"--endpoints={endpoints}"],
                         topo.NODE1, ctx.log_dir, pipes=True)
        self.proc.read_line(10)

    def tell(self, line):
        """What the server says when all clients have acknowledged."""
        self.proc.say(line)
        return json.loads(self.proc.read_line(ACK_TIMEOUT_S))

    def load(self):
        return self.tell("load")

    def change(self):
        return self.tell("change")

    def stop(self):
        self.proc.stop(1)
