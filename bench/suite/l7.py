# SPDX-License-Identifier: Apache-2.0
"""The paths of HTTP: reverse proxies with a plain way in (HAProxy, nginx, Envoy, the waypoint's HTTP
side), and waypoints between two ztuns (ours, Envoy)."""

import json
import os
import subprocess
import time

from . import envoy, topo
from . import series as series_mod
from .procs import BenchError, Proc, wait_listening
from .series import HERE, Series, Ztun, mesh_objects, wait_ready

PORT, PATH = 8082, "/1k"
PEER_PORT = 7000
TRUST_DOMAIN = "cluster.local"
# Services of the mesh: address, and the waypoint in front.
MESH_WEB, ENVOY_WEB = ("web", "10.96.0.20"), ("web-envoy", "10.96.0.21")
PLAIN_WEB = ("web-plain", "10.96.0.22")
WAYPOINT, ENVOY = ("waypoint", "10.96.0.30"), ("envoy", "10.96.0.31")
NO_MESH = {"istio.io/dataplane-mode": "none"}


# ---- objects -------------------------------------------------------------------------------------

def service(name, ip, port_name, port, target, selector, labels=None):
    return {"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "bench", "labels": labels or {}},
            "spec": {"clusterIP": ip, "clusterIPs": [ip], "selector": selector,
                     "ports": [{"name": port_name, "port": port, "targetPort": target}]}}


def web_service(name, ip, waypoint, app):
    return service(name, ip, "http", 80, PORT, {"app": app},
                   {"istio.io/use-waypoint": waypoint})


def gateway(name, ip):
    return {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": name, "namespace": "bench",
                         "labels": {"istio.io/waypoint-for": "service"}},
            "spec": {"gatewayClassName": "istio-waypoint",
                     "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]},
            "status": {"addresses": [{"type": "IPAddress", "value": ip}]}}


def pod(name, netns, node, account, labels):
    address = topo.POD_IP[netns]
    return {"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "bench", "uid": f"zb-{name}", "labels": labels},
            "spec": {"nodeName": node, "serviceAccountName": account,
                     "containers": [{"name": "main", "image": "bench"}]},
            "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
                       "conditions": [{"type": "Ready", "status": "True"}]}}


def objects():
    """The two nodes, the mesh's client and server, a server outside the mesh, two waypoints."""
    made = mesh_objects()
    for (name, ip), netns in ((WAYPOINT, topo.PROXY), (ENVOY, topo.PEER)):
        label = {"gateway.networking.k8s.io/gateway-name": name}
        made += [gateway(name, ip), service(name, ip, "hbone", 15008, 15008, label),
                 pod(name, netns, "node1", name, {**label, **NO_MESH})]
    made += [pod("outside", topo.SERVER, "node2", "outside", {"app": "outside", **NO_MESH}),
             pod("caller", topo.CLIENT, "node1", "caller", {"app": "caller", **NO_MESH}),
             web_service(*MESH_WEB, "waypoint", "server"),
             web_service(*ENVOY_WEB, "envoy", "server"),
             web_service(*PLAIN_WEB, "waypoint", "outside")]
    return made


def virtual_service(name, rules, host=None):
    return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": name, "namespace": "bench"},
            "spec": {"hosts": [host or name], "http": rules}}


def rule(host, uri=None):
    made = {"route": [{"destination": {"host": host}}]}
    return dict(made, match=[{"uri": uri}]) if uri else made


def write_config(directory, name, items):
    os.makedirs(directory, exist_ok=True)
    with open(f"{directory}/.new", "w", encoding="utf-8") as out:
        json.dump({"apiVersion": "v1", "kind": "List", "items": items}, out)
    os.rename(f"{directory}/.new", f"{directory}/{name}.json")


# ---- processes -----------------------------------------------------------------------------------

class Backend:
    """nginx with answers of 1 KB."""

    def __init__(self, netns, work_dir, log_dir):
        self.directory = f"{work_dir}/nginx"
        os.makedirs(self.directory, exist_ok=True)
        path = f"{self.directory}/backend-{netns}.conf"
        fill_template("nginx-backend.conf", path, directory=self.directory, ip=topo.POD_IP[netns],
                      port=PORT, body="0123456789abcdef" * 64)
        self.master = Proc(f"nginx-backend-{netns}", ["nginx", "-c", path], netns, log_dir)
        wait_listening(netns, PORT, [self.master])
        self.worker = Worker(self.master)

    def stop(self):
        self.master.stop()


class Worker(Proc):
    """The only child of nginx's master process: it does the work."""

    def __init__(self, master, timeout_s=5):  # pylint: disable=super-init-not-called
        self.name, self.log_path, self.popen = master.name, master.log_path, master.popen
        path = f"/proc/{master.pid}/task/{master.pid}/children"
        end = time.monotonic() + timeout_s
        while True:
            with open(path, encoding="ascii") as f:
                children = f.read().split()
            if len(children) == 1:
                break
            if time.monotonic() > end:
                raise BenchError(f"{master.name}: {len(children)} worker processes")
            time.sleep(0.05)
        self.pid = int(children[0])


def fill_template(template, path, **values):
    with open(f"{HERE}/../peers/{template}", encoding="utf-8") as f:
        text = f.read()
    # The comment in front has braces of its own.
    begin = text.index("\nglobal\n" if template.startswith("haproxy") else "\ndaemon off;\n") + 1
    with open(path, "w", encoding="utf-8") as out:
        out.write(text[begin:].format(**values))


class HttpSeries(Series):
    """`halves[0]` is what is compared; `logs` are emptied between rounds."""

    def __init__(self, name, client_ns, req, procs, others=(), logs=(), host="web"):
        super().__init__(name, client_ns, req, req, [list(procs), list(others)])
        self.logs = list(logs)
        self.host = host

    def trim_logs(self):
        for path in self.logs:
            if os.path.exists(path):
                os.truncate(path, 0)

def backend_address():
    return f"{topo.POD_IP[topo.SERVER]}:{PORT}"


def direct():
    return HttpSeries("direct", topo.CLIENT, backend_address(), [])


def haproxy(ctx):
    path, ip = f"{ctx.work_dir}/haproxy-l7.cfg", topo.POD_IP[topo.PEER]
    fill_template("haproxy-l7.cfg", path, ip=ip, port=PEER_PORT, backend=backend_address(),
                  log="log global\n    option httplog" if ctx.access_log else "no log")
    proc = Proc("haproxy-l7", ["haproxy", "-db", "-f", path], topo.PEER, ctx.log_dir)
    wait_listening(topo.PEER, PEER_PORT, [proc])
    return HttpSeries("haproxy", topo.CLIENT, f"{ip}:{PEER_PORT}", [proc], logs=[proc.log_path])


def nginx(ctx):
    directory, ip, port = f"{ctx.work_dir}/nginx", topo.POD_IP[topo.PEER], PEER_PORT + 1
    path, log = f"{directory}/proxy.conf", f"{ctx.log_dir}/nginx-access.log"
    fill_template("nginx-l7.conf", path, directory=directory, ip=ip, port=port,
                  backend=backend_address(),
                  log=f"access_log {log} line buffer=64k flush=1s;" if ctx.access_log
                  else "access_log off;")
    master = Proc("nginx-l7", ["nginx", "-c", path], topo.PEER, ctx.log_dir)
    wait_listening(topo.PEER, port, [master])
    return HttpSeries("nginx", topo.CLIENT, f"{ip}:{port}", [Worker(master)], logs=[log])


def start_envoy(ctx, name, config):
    return series_mod.start_envoy(series_mod.envoy_program(), name, topo.PEER, config, ctx.work_dir,
                              ctx.log_dir)


def envoy_plain(ctx):
    ip, port = topo.POD_IP[topo.PEER], PEER_PORT + 2
    log = f"{ctx.log_dir}/envoy-access.log"
    proc = start_envoy(ctx, "envoy-plain", envoy.plain(
        ip, port, (topo.POD_IP[topo.SERVER], PORT), log if ctx.access_log else None))
    wait_listening(topo.PEER, port, [proc], 30)
    return HttpSeries("envoy", topo.CLIENT, f"{ip}:{port}", [proc], logs=[log])


def start_waypoint(ctx, name, netns, config_dir, ca_dir, ways=(), options=()):
    """`ways`: [(port, service)] of plain ways in; without any it is the product's own program."""
    program = ctx.tools / "waypoint_plain" if ways else ctx.bin_dir / "waypoint"
    plain = [f"{topo.POD_IP[netns]}:{port}=bench/{svc}.bench.svc.{TRUST_DOMAIN}"
             for port, svc in ways]
    proc = Proc(name, [program, *plain, "--config", config_dir, "--ca-dir", ca_dir, "--gateway",
                       "bench/waypoint", "--node", "node1", "--pod", "waypoint", "--workers=1",
                       f"--access-log={'true' if ctx.access_log else 'false'}", *options],
                netns, ctx.log_dir)
    wait_ready(proc, netns)
    return proc


def waypoint_plain(ctx, name="waypoint", netns=topo.PROXY, ways=((7010, PLAIN_WEB[0]),),
                   more_objects=()):
    """Returns one series for each of the `ways`, all of them of one process."""
    config_dir = f"{ctx.work_dir}/plain-{name}"
    write_config(config_dir, "mesh", objects() + list(more_objects))
    proc = start_waypoint(ctx, f"waypoint_plain-{name}", netns, config_dir,
                          f"{ctx.work_dir}/plain-ca", ways)
    return [HttpSeries(name if i == 0 else svc, topo.CLIENT, f"{topo.POD_IP[netns]}:{port}", [proc],
                       logs=[proc.log_path], host=svc)
            for i, (port, svc) in enumerate(ways)]


# ---- between two ztuns ---------------------------------------------------------------------------

def issue(ca_dir, directory, account):
    """A certificate of the mesh's CA, for a peer that is no ztun: {cert, key, root}."""
    base = f"{directory}/{account}"
    with open(base + ".ext", "w", encoding="ascii") as out:
        out.write("basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
                  "extendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=critical,"
                  f"URI:spiffe://{TRUST_DOMAIN}/ns/bench/sa/{account}\n")
    for argv in (("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                  "-keyout", base + ".key", "-out", base + ".csr", "-subj", "/O=bench"),
                 ("x509", "-req", "-in", base + ".csr", "-CA", f"{ca_dir}/ca-cert.pem", "-CAkey",
                  f"{ca_dir}/ca-key.pem", "-set_serial", "4711", "-days", "2", "-extfile",
                  base + ".ext", "-out", base + ".pem")):
        subprocess.run(["openssl", *argv], check=True, capture_output=True)
    return {"cert": base + ".pem", "key": base + ".key", "root": f"{ca_dir}/root-cert.pem"}


class Mesh:
    """Two ztuns, and both waypoints between them. One client pod, one server pod: the address that
    the client calls decides which waypoint carries the request."""

    def __init__(self, ctx):
        ctx.ztun.stop()  # it serves the same pods
        work_dir = f"{ctx.work_dir}/l7-mesh"
        os.makedirs(work_dir, exist_ok=True)
        self.ztun = Ztun(ctx.bin_dir / "ztun", work_dir, ctx.log_dir, ctx.args.ztun_option)
        self.procs, self.ctx = [], ctx
        self.config_dir, self.ca_dir = f"{work_dir}/mesh", f"{work_dir}/ca"
        write_config(self.config_dir, "mesh", objects())
        self.ztuns = [half[0] for half in self.ztun.start().halves]

    def waypoint(self, on_idle=None):
        proc = start_waypoint(self.ctx, "waypoint", topo.PROXY, self.config_dir, self.ca_dir)
        self.procs.append(proc)
        if on_idle:
            on_idle(proc)
        return HttpSeries("waypoint", topo.MESH_CLIENT, f"{MESH_WEB[1]}:80", [proc], self.ztuns,
                          [proc.log_path])

    def envoy(self):
        ctx, certs = self.ctx, issue(self.ca_dir, self.ctx.work_dir, "envoy")
        log = f"{ctx.log_dir}/envoy-waypoint-access.log"
        config = envoy.waypoint((topo.POD_IP[topo.MESH_SERVER], PORT),
                                f"spiffe://{TRUST_DOMAIN}/ns/bench/sa/server", certs,
                                log if ctx.access_log else None)
        proc = start_envoy(ctx, "envoy-waypoint", config)
        self.procs.append(proc)
        wait_listening(topo.PEER, 15008, [proc], 30)
        return HttpSeries("envoy", topo.MESH_CLIENT, f"{ENVOY_WEB[1]}:80", [proc], self.ztuns,
                          [log])

    def stop(self):
        for proc in self.procs:
            proc.stop()
        self.procs.clear()
        self.ztun.stop()


def wait_for_answer(ctx, series, path=PATH, timeout_s=20):
    """Until one request goes through."""
    end = time.monotonic() + timeout_s
    while True:
        load = Proc("first-http", [ctx.tools / "reqload", series.req, path, series.host,
                                   "--conns=1", "--rate=20", "--seconds=1", "--warm-ms=0"],
                    series.client_ns, ctx.log_dir)
        if load.popen.wait() == 0:
            return
        if time.monotonic() > end:
            raise BenchError(f"{series.name}: no request goes through: {load.log_tail()}")
        time.sleep(0.3)
