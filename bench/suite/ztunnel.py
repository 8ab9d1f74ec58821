# SPDX-License-Identifier: Apache-2.0
"""Istio's ztunnel in shared mode, as the binary that ZTUNNEL_BIN names: one process for both pods of
a node, configured by a file (LOCAL_XDS_PATH), with a node agent and a CA of our own
(peers/ztunnel_host.py), one worker thread, access log on, the client's address kept."""

import json
import os
import re
import subprocess

from . import topo
from .node_series import NodeSeries
from .procs import BenchError, Proc
from .series import BULK_PORT, HERE, REQ_PORT, wait_ready

CA_PORT = 15112
SERVICE_IP = "10.96.0.12"
HOST = "server.bench.svc.cluster.local"


def binary():
    """The program, or None."""
    return os.environ.get("ZTUNNEL_BIN") or None


def missing():
    """Why there is no ztunnel here."""
    if not binary():
        return "ztunnel skipped: ZTUNNEL_BIN names no binary"
    if not os.access(binary(), os.X_OK):
        return f"ztunnel skipped: ZTUNNEL_BIN={binary()} is not a program"
    return None


def config():
    client, server = topo.NODE_PODS["ztunnel"]

    def workload(netns, name, services):
        return {"uid": f"Kubernetes//Pod/bench/{name}", "name": name, "namespace": "bench",
                "serviceAccount": name, "workloadIps": [topo.POD_IP[netns]], "protocol": "HBONE",
                "node": "node1", "network": "", "services": services}
    ports = {80: REQ_PORT, 81: BULK_PORT}
    return {"workloads": [workload(client, "client", {}),
                          workload(server, "server", {f"bench/{HOST}": ports})],
            "policies": [],
            "services": [{"name": "server", "namespace": "bench", "hostname": HOST,
                          "vips": ["/" + SERVICE_IP], "ports": ports, "canonical": True}]}


def redirect(netns):
    subprocess.run(["ip", "netns", "exec", netns, "nft", "-f", f"{HERE}/../peers/ztunnel-pod.nft"],
                   check=True)
    topo.ip("-n", netns, "rule", "add", "fwmark", "0x111/0xfff", "pref", "32764", "lookup", "100")
    topo.ip("-n", netns, "route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", "100")


class Ztunnel(NodeSeries):
    def __init__(self, work_dir, log_dir):
        pods = topo.NODE_PODS["ztunnel"]
        super().__init__("ztunnel", pods, f"{SERVICE_IP}:80", f"{SERVICE_IP}:81")
        directory = f"{work_dir}/ztunnel"
        os.makedirs(directory)
        with open(f"{directory}/config.yaml", "w", encoding="utf-8") as out:
            # YAML, whose numbers may be keys.
            out.write(re.sub(r'"(\d+)": ', r"\1: ", json.dumps(config())))
        self.host = Proc("ztunnel-host", [f"{HERE}/../peers/ztunnel_host.py", "--dir", directory,
                                          "--port", CA_PORT, *[
                                              f"{netns}=bench/{name}/{name}"
                                              for netns, name in zip(pods, ("client", "server"))]],
                         topo.ZTUNNEL_NS, log_dir, pipes=True)
        self.host.read_line(20)
        for netns in pods:
            redirect(netns)
        settings = {"LOCAL_XDS_PATH": f"{directory}/config.yaml", "XDS_ADDRESS": "",
                    "CA_ADDRESS": f"https://localhost:{CA_PORT}",
                    "CA_ROOT_CA": f"{directory}/root-cert.pem", "NODE_NAME": "node1",
                    "INPOD_UDS": f"{directory}/zds.sock", "ZTUNNEL_WORKER_THREADS": "1",
                    "IPV6_ENABLED": "false", "CLUSTER_ID": "Kubernetes", "RUST_LOG": "info"}
        proc = Proc("ztunnel", ["env", "-C", directory, *[f"{k}={v}" for k, v in settings.items()],
                                binary()], topo.ZTUNNEL_NS, log_dir)
        self.halves = [[proc], []]
        wait_ready(proc, topo.ZTUNNEL_NS)
        version = subprocess.run([binary(), "version"], capture_output=True, text=True, check=False)
        found = re.findall(r'(?:Version|CryptoProvider):"([^"]+)"', version.stdout)
        self.note = " ".join(["ztunnel", *found])

    def stop(self):
        super().stop()
        self.host.stop(0.1)


def start(ctx):
    reason = missing()
    if reason:
        raise BenchError(reason)
    return Ztunnel(ctx.work_dir, ctx.log_dir)
