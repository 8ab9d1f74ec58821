# SPDX-License-Identifier: Apache-2.0
"""More of HTTP through the waypoint's plain way in: mirroring, retries of a server that fails now and
then, WebSockets, gRPC calls and streams; and the waypoint and ztun with one and with two workers."""

import os
import re
import resource
import subprocess
import time

from . import l7, topo
from .l7_parts import once
from .parts import bulk_once, log_round, requests_once, rounds_of, say_requests
from .procs import BenchError, Proc, machine_busy_s, measure, wait_listening

WEBSOCKET_PORT, GRPC_PORT = 8084, 8085
GRPC_PATH, GRPC_BYTES = "/bench.Echo/Get", 1024
CONNS, STREAMS = 4, 8


class Named:
    """What rounds_of() asks for series."""

    def __init__(self, all_series):
        self.all_series = all_series

    def series(self, name):
        return self.all_series[name]


# ---- Mirroring, retries --------------------------------------------------------------------------

def variants():
    """Services of the same server, each with a VirtualService of its own."""
    def route(name, **more):
        return l7.virtual_service(name, [dict(l7.rule(name), **more)])
    names = ("bare", "mirrored", "retried")
    made = [l7.web_service(name, f"10.96.2.{i + 1}", "waypoint", "outside")
            for i, name in enumerate(names)]
    return made + [
        route("bare"),
        route("mirrored", mirror={"host": "bare"}, mirrorPercentage={"value": 100.0}),
        route("retried", retries={"attempts": 5, "retryOn": "5xx"})]


def variants_part(ctx):
    """A request without anything, with a copy of each to another service, and to a path of which
    one request of a hundred fails and is sent again. No client may see a failure."""
    backend = l7.Backend(topo.SERVER, ctx.work_dir, ctx.log_dir)
    made = []
    paths = {"bare": l7.PATH, "mirrored": l7.PATH, "retried": "/flaky"}
    try:
        made = l7.waypoint_plain(ctx, ways=[(7010 + i, name) for i, name in enumerate(paths)],
                                 more_objects=variants())
        all_series = {series.host: series for series in made}
        for name, series in all_series.items():
            series.name = name
            l7.wait_for_answer(ctx, series, paths[name])

        def one(series):
            result = once(ctx, series, backend.worker, 0, 32, max(1, int(ctx.seconds)),
                          paths[series.name])
            say_requests(ctx, "l7-variants", series, result)
            return result

        ctx.results["l7-variants"] = rounds_of(Named(all_series), list(all_series), ctx.rounds, one)
    finally:
        for series in made[:1]:
            series.stop()
        backend.stop()


# ---- WebSocket -----------------------------------------------------------------------------------

def upgraded_service():
    return [l7.service("sockets", "10.96.2.10", "http", 80, WEBSOCKET_PORT, {"app": "outside"},
                       {"istio.io/use-waypoint": "waypoint"})]


def websocket(ctx):
    """Messages of 128 bytes and their answers of 1 KB in WebSockets, as the requests of L4."""
    server = Proc("reqserver-upgrade", [ctx.tools / "reqserver", f"0.0.0.0:{WEBSOCKET_PORT}",
                                        "--upgrade"], topo.SERVER, ctx.log_dir)
    made = []
    try:
        wait_listening(topo.SERVER, WEBSOCKET_PORT, [server])
        made = l7.waypoint_plain(ctx, ways=[(7010, "sockets")], more_objects=upgraded_service())
        direct = l7.HttpSeries("direct", topo.CLIENT, f"{topo.POD_IP[topo.SERVER]}:{WEBSOCKET_PORT}",
                               [], host="sockets")
        all_series = {"direct": direct, "waypoint": made[0]}

        def one(series):
            result = once(ctx, series, server, 0, 32, max(1, int(ctx.seconds)), "/chat",
                          ("--upgrade",))
            say_requests(ctx, "l7-websocket", series, result)
            return result

        for series in all_series.values():
            once(ctx, series, server, 0, 4, 1, "/chat", ("--upgrade",))
        ctx.results["l7-websocket"] = rounds_of(Named(all_series), list(all_series), ctx.rounds, one)
    finally:
        for series in made:
            series.stop()
        server.stop()


# ---- gRPC ----------------------------------------------------------------------------------------

def grpc_objects():
    return [l7.service("grpc", "10.96.2.11", "grpc", 80, GRPC_PORT, {"app": "outside"},
                       {"istio.io/use-waypoint": "waypoint"})]


class GrpcServer:
    """nghttpd with a gRPC message as its file, and grpc-status behind it."""

    def __init__(self, ctx):
        self.root = f"{ctx.work_dir}/grpc"
        os.makedirs(os.path.dirname(self.root + GRPC_PATH), exist_ok=True)
        with open(self.root + GRPC_PATH, "wb") as out:
            out.write(bytes(1) + GRPC_BYTES.to_bytes(4, "big") + bytes(GRPC_BYTES))
        self.request = f"{self.root}/request"
        with open(self.request, "wb") as out:
            out.write(bytes(1) + (128).to_bytes(4, "big") + bytes(128))
        self.proc = Proc("nghttpd", ["nghttpd", "--no-tls", "-d", self.root, "--trailer",
                                     "grpc-status: 0", str(GRPC_PORT)], topo.SERVER, ctx.log_dir)
        wait_listening(topo.SERVER, GRPC_PORT, [self.proc])


def children_s():
    """CPU seconds of child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def h2load(ctx, series, server):
    """Closed loop over CONNS connections with STREAMS calls at a time on each."""
    seconds = max(1, int(ctx.seconds))
    address, port = series.req.split(":")
    argv = ["h2load", f"-c{CONNS}", f"-m{STREAMS}", f"--duration={seconds}", "-d", server.request,
            "-H", "content-type: application/grpc", "-H", "te: trailers", "-H",
            f":authority: {series.host}", f"http://{address}:{port}{GRPC_PATH}"]
    series.trim_logs()
    halves = [sum(p.cpu_s() for p in half) for half in series.halves]
    server_before, (busy_before, _) = server.proc.cpu_s(), machine_busy_s()
    own_before = children_s()
    begin = time.monotonic()
    done = subprocess.run(["ip", "netns", "exec", series.client_ns, *argv], capture_output=True,
                          text=True, check=False, timeout=seconds + 30)
    wall, own = time.monotonic() - begin, children_s() - own_before
    found = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", done.stdout)
    status = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", done.stdout)
    mean = re.search(r"time for request:\s+\S+\s+\S+\s+([\d.]+)(us|ms|s)", done.stdout)
    if not found or not status or not mean or int(found.group(1)) == 0 or \
            any(int(n) for n in (*found.groups()[1:], *status.groups()[1:])):
        raise BenchError(f"h2load: {series.name}: {done.stdout[-600:]}{done.stderr[-300:]}")
    n = int(found.group(1))
    cpu = [sum(p.cpu_s() for p in half) - b for half, b in zip(series.halves, halves)]
    server_cpu = server.proc.cpu_s() - server_before
    foreign = max(0.0, machine_busy_s()[0] - busy_before - sum(cpu) - server_cpu - own)
    load = {"requests": n, "rate": n / seconds, "mean_us":
            float(mean.group(1)) * {"us": 1, "ms": 1e3, "s": 1e6}[mean.group(2)]}
    result = {"load": load, "cpu_halves_s": cpu, "cpu_s": sum(cpu), "wall_s": wall,
              "server_cpu_s": server_cpu, "cpu_us": cpu[0] / n * 1e6,
              "foreign_share": foreign / (wall * os.cpu_count())}
    log_round(ctx, "l7-grpc", series.name, f"{load['rate']:7.0f}/s  {result['cpu_us']:6.1f} CPU us  "
              f"mean {load['mean_us']:.0f} us", result)
    return result


def grpc(ctx):
    """Unary calls: a message of 128 bytes, an answer of 1 KB, trailers."""
    server, made = GrpcServer(ctx), []
    try:
        made = l7.waypoint_plain(ctx, ways=[(7010, "grpc")], more_objects=grpc_objects())
        direct = l7.HttpSeries("direct", topo.CLIENT, f"{topo.POD_IP[topo.SERVER]}:{GRPC_PORT}", [],
                               host="grpc")
        all_series = {"direct": direct, "waypoint": made[0]}
        for series in all_series.values():
            h2load(ctx, series, server)
        ctx.results["l7-grpc"] = rounds_of(Named(all_series), list(all_series), ctx.rounds,
                                           lambda series: h2load(ctx, series, server))
    finally:
        for series in made:
            series.stop()
        server.proc.stop()


def grpc_stream(ctx):
    """Calls that are streams both ways: a message of 128 bytes, its answer of 1 KB, and so on."""
    server = Proc("grpc-stream-server", [ctx.tools / "grpc_stream", "--serve",
                                         f"0.0.0.0:{GRPC_PORT}"], topo.SERVER, ctx.log_dir)
    made = []
    try:
        wait_listening(topo.SERVER, GRPC_PORT, [server])
        made = l7.waypoint_plain(ctx, ways=[(7010, "grpc")], more_objects=grpc_objects())
        direct = l7.HttpSeries("direct", topo.CLIENT, f"{topo.POD_IP[topo.SERVER]}:{GRPC_PORT}", [],
                               host="grpc")
        all_series = {"direct": direct, "waypoint": made[0]}

        def one(series):
            result = measure([ctx.tools / "grpc_stream", series.req, GRPC_PATH, series.host,
                              "--conns=32", f"--seconds={max(1, int(ctx.seconds))}"],
                             series.client_ns, server, series.halves, ctx.log_dir)
            n = result["load"]["requests"]
            result["cpu_us"] = result["cpu_halves_s"][0] / n * 1e6
            result["switches_per_request"] = result["switches"][0] / n
            say_requests(ctx, "l7-grpc-stream", series, result)
            return result

        for series in all_series.values():
            one(series)
        ctx.results["l7-grpc-stream"] = rounds_of(Named(all_series), list(all_series), ctx.rounds,
                                                  one)
    finally:
        for series in made:
            series.stop()
        server.stop()


# ---- Workers -------------------------------------------------------------------------------------

def workers(ctx):
    """ztun with one worker and with two: saturated requests and bulk of 8 streams."""
    results = {"requests": {}, "bulk": {}}
    try:
        for _ in range(ctx.rounds):
            for n in (1, 2, 2, 1):
                ctx.ztun_options = [f"--workers={n}"]
                series, name = ctx.series("ztun"), f"ztun, {n} worker{'s' if n > 1 else ''}"
                requests_once(ctx, series, 0, 32, 1)
                made = requests_once(ctx, series, 0, 32, max(1, int(ctx.seconds)))
                made["load"].pop("slots")
                results["requests"].setdefault(name, []).append(made)
                log_round(ctx, "l4-workers", name, f"{made['load']['rate']:7.0f}/s  "
                          f"{made['cpu_us']:6.1f} CPU us", made)
                made = bulk_once(ctx, series, 8, ("down",), int(ctx.seconds * 500))
                made["gbit_s"] = made["load"]["bytes"] * 8 / 1e9 / made["load"]["seconds"]
                results["bulk"].setdefault(name, []).append(made)
                log_round(ctx, "l4-workers", name, f"{made['gbit_s']:6.2f} Gb/s  "
                          f"{made['cpu_s_per_gb']:6.3f} CPU s/GB", made)
    finally:
        ctx.ztun_options = []
    ctx.results["l4-workers-requests-saturated"] = results["requests"]
    ctx.results["l4-workers-bulk-8"] = results["bulk"]


def add(parts):
    def needs_ztun(ctx):
        return None if ctx.has("ztun") else "ztun was left out"

    parts.add("l7-variants", variants_part, default=False)
    parts.add("l7-websocket", websocket, default=False)
    parts.add("l7-grpc", grpc, default=False)
    parts.add("l7-grpc-stream", grpc_stream, default=False)
    parts.add("l4-workers", workers, default=False, wants=needs_ztun)
