# SPDX-License-Identifier: Apache-2.0
"""What is measured of HTTP."""

import json
import os
import resource
import subprocess
import sys
import time

from . import l7, topo
from .checks import check_load
from .conn_parts import Idle, settle
from .parts import keep_histogram, rounds_of, say_requests
from .procs import BenchError, measure
from .stats import median
from .windows import Windows, long_turns, machines_part, span

N_ROUTES, N_REGEX, N_SERVICES = 10000, 1000, 1000


# ---- Requests ------------------------------------------------------------------------------------

def once(ctx, series, server, rate, conns, seconds, path=l7.PATH, more=()):
    series.trim_logs()
    result = measure([ctx.tools / "reqload", series.req, path, series.host, f"--rate={rate}",
                      f"--conns={conns}", f"--seconds={seconds}", *more],
                     series.client_ns, server, series.halves, ctx.log_dir)
    n = result["load"]["requests"]
    result["cpu_us"] = result["cpu_halves_s"][0] / n * 1e6
    result["others_us"] = result["cpu_halves_s"][1] / n * 1e6
    result["switches_per_request"] = result["switches"][0] / n
    return result


def requests(ctx, key, all_series, server, rate, conns):
    """Interleaved rounds of {name: series}; the figure is the CPU of halves[0]."""
    names, seconds = list(all_series), max(1, int(ctx.seconds if rate else ctx.seconds / 2))

    class Named:  # what rounds_of() asks for series
        series = staticmethod(all_series.get)

    def one(series):
        result = once(ctx, series, server, rate, conns, seconds, more=("--slots",))
        say_requests(ctx, key, series, result)
        check_load(ctx, key, series.name, result, rate)
        return result

    for name in names:  # warm-up
        l7.wait_for_answer(ctx, all_series[name])
        once(ctx, all_series[name], server, rate, conns, 1)
    ctx.results[key] = rounds_of(Named, names, ctx.rounds, one)
    keep_histogram(ctx, key, ctx.results[key])


def both_loads(ctx, prefix, all_series, server, which):
    if "1000" in which:
        requests(ctx, prefix + "-1000", all_series, server, 1000, 4)
    if "saturated" in which:
        requests(ctx, prefix + "-saturated", all_series, server, 0, 32)
        for name in all_series:
            if name != "direct":
                key = f"{prefix}-pss"
                ctx.results.setdefault(key, {})[name] = \
                    all_series[name].halves[0][0].memory_kb()["Pss"]


def start(ctx, made, name, maker):
    """A peer that cannot be had here is left out, and the report says so."""
    try:
        made[name] = maker()
    except BenchError as error:
        if name != "envoy":
            raise
        ctx.leave_out(name, str(error))


def plain(ctx, which, prefix="l7-plain"):
    """One reverse proxy between client and server, plain HTTP/1.1 on both sides."""
    makers = {"direct": lambda c: l7.direct(), "haproxy": l7.haproxy, "nginx": l7.nginx,
              "envoy": l7.envoy_plain, "waypoint": lambda c: l7.waypoint_plain(c)[0]}
    backend = l7.Backend(topo.SERVER, ctx.work_dir, ctx.log_dir)
    made = {}
    if ctx.quick:
        del makers["envoy"]  # no goal is about it here
    try:
        for name in ctx.names(makers):
            start(ctx, made, name, lambda n=name: makers[n](ctx))
        both_loads(ctx, prefix, made, backend.worker, which)
    finally:
        for series in made.values():
            series.stop()
        backend.stop()


def plain_on_one_core(ctx):
    """The same with load generator, proxies and server on one core, so that the scheduler has no
    other to put one of them on."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})  # what is started has it too
    try:
        plain(ctx, ("1000",), "l7-plain-core")
    finally:
        os.sched_setaffinity(0, cores)


def waypoint(ctx, which):
    """HBONE in, HTTP, HBONE out, between two ztuns; of the waypoint alone the CPU counts."""
    backend = l7.Backend(topo.MESH_SERVER, ctx.work_dir, ctx.log_dir)
    mesh = l7.Mesh(ctx)
    try:
        made = {}
        for name in ctx.names(("envoy", "waypoint")):
            start(ctx, made, name, getattr(mesh, name))
        both_loads(ctx, "l7-waypoint", made, backend.worker, which)
    finally:
        mesh.stop()
        backend.stop()


# ---- Routes --------------------------------------------------------------------------------------

def many_routes():
    """Services, each with its VirtualService: {name: (objects, path of the last rule)}."""
    def uri_rules(host, kind, n, text):
        return [l7.rule(host, {kind: text(i)}) for i in range(n)]
    made = {}
    for i, (name, rules, path) in enumerate((
            ("one", lambda h: [l7.rule(h, {"prefix": "/"})], "/1k"),
            ("exact", lambda h: uri_rules(h, "exact", N_ROUTES, lambda n: f"/api/v1/item{n}/view"),
             f"/api/v1/item{N_ROUTES - 1}/view"),
            ("prefix", lambda h: uri_rules(h, "prefix", N_ROUTES, lambda n: f"/api/v1/dir{n}/"),
             f"/api/v1/dir{N_ROUTES - 1}/view"),
            ("regex", lambda h: uri_rules(h, "regex", N_REGEX, lambda n: f"/api/v[0-9]+/re{n}/.*"),
             f"/api/v12/re{N_REGEX - 1}/view"))):
        made[name] = ([l7.web_service(name, f"10.96.1.{i + 1}", "waypoint", "outside"),
                       l7.virtual_service(name, rules(name))], path)
    return made


def other_services(generation=0):
    """Services with a VirtualService of two rules; each generation changes every one of both."""
    made = []
    for i in range(N_SERVICES):
        name = f"other{i}"
        rules = [dict(l7.rule(name, {"prefix": "/v2/"}), timeout=f"{10 + generation}s"),
                 l7.rule(name)]
        service = l7.web_service(name, f"10.97.{i // 250}.{i % 250 + 1}", "waypoint", "outside")
        service["spec"]["ports"].append({"name": "http-more", "port": 9000 + generation})
        made += [service, l7.virtual_service(name, rules)]
    return made


def routes(ctx):
    """What many rules cost a request: the look-up alone (l7_routes_probe), and over all."""
    probe = json.loads(subprocess.run(
        [ctx.tools / "l7_routes_probe", "--ms=" + ("50" if ctx.quick else "300")],
        capture_output=True, text=True, check=True).stdout)
    ctx.results["l7-routes-probe"] = probe
    for name, p in probe.items():
        ctx.say(f"  routes           {name:<8} {p['rules']} rules: {p['ns']:.0f} ns a look-up")
    tables = many_routes()
    backend = l7.Backend(topo.SERVER, ctx.work_dir, ctx.log_dir)
    objects = [o for made, _ in tables.values() for o in made]
    near, crowd = [], []
    try:
        near = l7.waypoint_plain(ctx, ways=[(7010 + i, name) for i, name in enumerate(tables)],
                                 more_objects=objects)
        # The same rule of "one" in a configuration that has a thousand others.
        crowd = l7.waypoint_plain(ctx, "crowd", topo.PEER, [(7010, "one")],
                                  objects + other_services())
        all_series = {series.host: series for series in near}
        all_series["services"] = crowd[0]
        paths = {**{name: path for name, (_, path) in tables.items()}, "services": l7.PATH}
        for name, series in all_series.items():
            series.name = name

        class Named:
            series = staticmethod(all_series.get)

        def one(series, seconds=max(1, int(ctx.seconds / 2))):
            result = once(ctx, series, backend.worker, 0, 32, seconds, paths[series.name])
            say_requests(ctx, "l7-routes", series, result)
            return result

        for series in all_series.values():
            l7.wait_for_answer(ctx, series, paths[series.name])
            once(ctx, series, backend.worker, 0, 32, 1, paths[series.name])
        ctx.results["l7-routes"] = rounds_of(Named, list(all_series), ctx.rounds, one)
    finally:
        for series in near[:1] + crowd:
            series.stop()
        backend.stop()


# ---- Memory --------------------------------------------------------------------------------------

def connections(ctx, proc, req, count, flags):
    idle = Idle(ctx, [req], topo.MESH_CLIENT, count, threads=4, flags=flags)
    try:
        before = settle(proc)["Pss"]
        idle.proc.say("go")
        idle.proc.read_line(300)
        during = settle(proc)["Pss"]
    finally:
        idle.close()
    return {"count": count, "before_kb": before, "during_kb": during,
            "kb": (during - before) / count}


def memory(ctx):
    """A fresh waypoint alone, then idle connections of clients, each after one request."""
    backend = l7.Backend(topo.MESH_SERVER, ctx.work_dir, ctx.log_dir)
    mesh = l7.Mesh(ctx)
    result = {}

    def alone(proc):
        time.sleep(2)
        result["idle_kb"] = settle(proc)

    try:
        series = mesh.waypoint(on_idle=alone)
        ctx.say(f"  l7-memory        waypoint idle: Pss {result['idle_kb']['Pss']} kB")
        l7.wait_for_answer(ctx, series)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        count = min(1000 if ctx.quick else 5000, int(limit * 0.4))
        for version, flags in (("h1", ["--http"]), ("h2", ["--h2"])):
            connections(ctx, series.halves[0][0], series.req, 200, flags)  # warm-up
            result[version] = r = connections(ctx, series.halves[0][0], series.req, count, flags)
            ctx.say(f"  l7-memory        waypoint {count} idle {version} connections: "
                    f"{r['kb']:.2f} KB each")
        ctx.results["l7-memory"] = result
    finally:
        mesh.stop()
        backend.stop()


# ---- Reload --------------------------------------------------------------------------------------

# One request to each of the services, so that the worker has a view of every one.
TOUCH = """
import http.client, sys
conn = http.client.HTTPConnection(sys.argv[1])
for i in range(int(sys.argv[2])):
    conn.request("GET", f"/other{i}/", headers={"Host": "web"})
    answer = conn.getresponse()
    assert answer.status == 200 and len(answer.read()) == 1024, (i, answer.status)
"""


def touch(series):
    subprocess.run(["ip", "netns", "exec", series.client_ns, sys.executable, "-c", TOUCH,
                    series.req, str(N_SERVICES)], check=True)


def reload_objects(generation):
    """The thousand, and a way to each of them through the service that is measured."""
    name = l7.PLAIN_WEB[0]
    rules = [l7.rule(f"other{i}", {"prefix": f"/other{i}/"}) for i in range(N_SERVICES)]
    return other_services(generation) + [l7.virtual_service(name, rules + [l7.rule(name)])]


def reload(ctx):
    """1000/s through one service, while every one of a thousand other VirtualServices changes; the
    worker has sent requests to each of them."""
    backend = l7.Backend(topo.SERVER, ctx.work_dir, ctx.log_dir)
    series = l7.waypoint_plain(ctx, more_objects=reload_objects(0))[0]
    directory = f"{ctx.work_dir}/plain-waypoint"
    argv = [ctx.tools / "reqload", series.req, l7.PATH, series.host]
    windows = Windows(ctx, argv, series.client_ns, topo.PROXY)
    try:
        l7.wait_for_answer(ctx, series)
        once(ctx, series, backend.worker, 1000, 4, 1)
        proc = series.halves[0][0]

        def prepare(kind, generation):
            touch(series)
            series.trim_logs()
            if kind == "event":
                with open(f"{directory}/.next", "w", encoding="utf-8") as out:
                    json.dump({"apiVersion": "v1", "kind": "List",
                               "items": l7.objects() + reload_objects(generation)}, out)

        before = long_turns(topo.PROXY, "config_turn_seconds")
        pairs = windows.run(6 if ctx.quick else 20, 2,
                            lambda: os.rename(f"{directory}/.next", f"{directory}/mesh.json"),
                            proc, prepare)
        config_turns = long_turns(topo.PROXY, "config_turn_seconds") - before
        cpu = [changed["cpu_s"] - quiet["cpu_s"] for quiet, changed in pairs]
        p99 = windows.p99()
        series.trim_logs()
        machine = machines_part(ctx, argv, series.client_ns, topo.PROXY, median(cpu))
        ctx.results["l7-reload"] = dict(
            p99, machine=machine, seconds=2, services=N_SERVICES, reload_p99_us=p99["event_p99_us"],
            long_turns={"quiet": windows.long["quiet"], "reload": windows.long["event"]},
            long_config_turns=config_turns, change_cpu_s=median(cpu))
        ctx.say(f"  l7-reload            waypoint p99 {span(p99)} of quiet, a program that computes "
                f"{span(machine)}, {median(cpu) * 1e3:.0f} ms of CPU a reload, "
                f"turns above 1 ms: {windows.long}, of them for configuration: {config_turns}")
    finally:
        series.stop()
        backend.stop()


def add(parts):
    parts.add("l7-memory", memory)
    parts.add("l7-plain-1000", lambda ctx: plain(ctx, ("1000",)))
    parts.add("l7-plain-core", plain_on_one_core)
    parts.add("l7-plain-saturated", lambda ctx: plain(ctx, ("saturated",)), quick=True)
    parts.add("l7-waypoint-1000", lambda ctx: waypoint(ctx, ("1000",)))
    parts.add("l7-waypoint-saturated", lambda ctx: waypoint(ctx, ("saturated",)), quick=True)
    parts.add("l7-routes", routes)
    parts.add("l7-reload", reload)
