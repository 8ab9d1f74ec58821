# SPDX-License-Identifier: Apache-2.0
"""Connections, tunnels, handshakes and memory of L4."""

import json
import resource
import subprocess
import time

from . import series as series_mod
from . import topo
from .istiod import Istiod
from .l7 import issue
from .procs import BenchError, Proc, wait_listening
from .storm import RealTime, StallProbe, Storm
from .windows import Windows, span

N_WORKLOADS, WORKLOADS_A_SERVICE = 10000, 10
STORM_SHARE = 0.25  # of a core of the side that is dialled
STORM_WINDOW_S = 2
MAX_RATE = 100000  # more than there can be
STORM_TURN_S = 0.0015  # 1 ms and a step of a handshake: a bound of loop_turn_seconds


class Idle:
    """Connections that are opened, held and closed. `targets`: one address or several in turn."""

    def __init__(self, ctx, targets, client_ns, count, threads=8, flags=()):
        self.count = count
        self.proc = Proc("idleconns", [ctx.tools / "idleconns", *targets, f"--count={count}",
                                       f"--threads={threads}", "--wait", *flags], client_ns,
                         ctx.log_dir, pipes=True)
        self.proc.read_line(10)

    def close(self):
        self.proc.popen.stdin.close()
        self.proc.popen.wait(60)
        self.proc.stop()


def conn_probe(ctx, count, with_flights):
    """CPU us a connection of (client, server) of bare TCP between the two pods."""
    flag = ["--flights"] if with_flights else []
    address = f"{topo.POD_IP[topo.SERVER]}:{series_mod.PROBE_PORT}"
    server = Proc("conn_probe-server", [ctx.tools / "conn_probe", "--serve", address, *flag],
                  topo.SERVER, ctx.log_dir)
    wait_listening(topo.SERVER, series_mod.PROBE_PORT, [server])
    client = Proc("conn_probe", [ctx.tools / "conn_probe", address, f"--count={count}", "--wait",
                                 *flag], topo.CLIENT, ctx.log_dir, pipes=True)
    try:
        client.read_line(10)
        before = client.cpu_s(), server.cpu_s()
        client.say("go")
        client.read_line(60)
        return [(after - b) / count * 1e6
                for after, b in zip((client.cpu_s(), server.cpu_s()), before)]
    finally:
        client.stop(0.1)
        server.stop(0.1)


GROUP_OPTION = {"X25519MLKEM768": "x25519mlkem768", "X25519": "x25519", "P-256": "p256"}


def handshake_probe(ctx, tls):
    """CPU us of {client_us, server_us} of BoringSSL alone, now, with the group of `tls`."""
    group = GROUP_OPTION.get((tls or {}).get("group"), "x25519")
    out = subprocess.run([ctx.tools / "tls_probe", "--group", group, "--handshakes", "100",
                          "--aead-ms", "1"], capture_output=True, text=True, check=True).stdout
    return json.loads(out)["handshake"]["boringssl_no_chain_check"]


def settle_all(procs, timeout_s=12):
    """Memory of each when it has stopped falling: given-back buffers need a moment."""
    last = [proc.memory_kb() for proc in procs]
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        time.sleep(1.5)
        now = [proc.memory_kb() for proc in procs]
        if all(abs(n["Pss"] - p["Pss"]) <= max(8, p["Pss"] * 0.002) for n, p in zip(now, last)):
            return now
        last = now
    return last


def settle(proc):
    return settle_all([proc])[0]


def halves_cpu(series):
    return [sum(p.cpu_s() for p in half) for half in series.halves]


def halves_memory(series):
    return [m["Pss"] for m in settle_all([half[0] for half in series.halves])]


def wave(series, idles, memory=None):
    """Opens the connections of all `idles` at once. Returns CPU us and Pss kB a connection, by
    half."""
    count = sum(idle.count for idle in idles)
    memory, cpu = memory or halves_memory(series), halves_cpu(series)
    for idle in idles:
        idle.proc.say("go")
    for idle in idles:
        idle.proc.read_line(300)
    cpu = [(b - a) / count * 1e6 for a, b in zip(cpu, halves_cpu(series))]
    now = halves_memory(series)
    return {"count": count, "cpu_us": cpu, "before_kb": memory, "during_kb": now,
            "kb": [(n - m) / count for n, m in zip(now, memory)]}


def hold_open(ctx, series, counts):
    """Opens idle flows, more and more of them, and closes all. Returns the waves, with memory over
    all that are open."""
    idles, waves, before = [], [], halves_memory(series)
    try:
        for count in counts:
            more = Idle(ctx, [series.req], series.client_ns, count - sum(i.count for i in idles))
            idles.append(more)
            made = wave(series, [more], waves[-1]["during_kb"] if waves else before)
            made["count"] = count
            made["kb"] = [(n - m) / count for n, m in zip(made["during_kb"], before)]
            waves.append(made)
    finally:
        for idle in idles:
            idle.close()
    deadline = time.monotonic() + 20
    after = halves_memory(series)
    while time.monotonic() < deadline and any(a > b * 1.1 for a, b in zip(after, before)):
        time.sleep(2)
        after = halves_memory(series)
    return {"waves": waves, "before_kb": before, "after_kb": after}


def memory(ctx):
    """Idle memory of a fresh ztun, idle flows, and what is left when they are closed."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    top = min(1000 if ctx.quick else 8000, int(limit * 0.4))
    counts = [top] if ctx.quick else [top // 8, top // 4, top // 2, top]
    result = {"fd_limit": limit}

    def alone(proc):
        time.sleep(2)
        result["idle_kb"] = settle(proc)

    # All flows on one tunnel: the memory of tunnels is measured by itself.
    series = ctx.ztun.start(f"--pool-streams={2 * top + 1000}", on_first=alone)
    ctx.say(f"  l4-memory            ztun       idle: Pss {result['idle_kb']['Pss']} kB, "
            f"Rss {result['idle_kb']['Rss']} kB")
    series_mod.first_exchange(ctx.tools, series, ctx.log_dir)
    hold_open(ctx, series, [100])  # warm-up
    result.update(hold_open(ctx, series, counts))
    for made in result["waves"]:
        ctx.say(f"  l4-memory            ztun       {made['count']} flows: {made['kb'][0]:.2f} + "
                f"{made['kb'][1]:.2f} KB each; Pss {made['during_kb']} kB")
    ctx.say(f"  l4-memory            ztun       Pss before {result['before_kb']}, after "
            f"{result['after_kb']} kB")
    ctx.ztun.stop()
    ctx.results["l4-memory"] = result


def many_workloads():
    """10 000 pods of 1000 services, on other nodes."""
    made = []
    for i in range(N_WORKLOADS):
        app = f"app{i // WORKLOADS_A_SERVICE}"
        if i % WORKLOADS_A_SERVICE == 0:
            n = i // WORKLOADS_A_SERVICE
            ip = f"10.97.{n // 250}.{n % 250 + 1}"
            made.append({"apiVersion": "v1", "kind": "Service",
                         "metadata": {"name": app, "namespace": "bench"},
                         "spec": {"clusterIP": ip, "selector": {"app": app},
                                  "ports": [{"port": 80, "targetPort": 8080}]}})
        address = f"10.{100 + i // 62500}.{i // 250 % 250}.{i % 250 + 1}"
        made.append({"apiVersion": "v1", "kind": "Pod",
                     "metadata": {"name": f"{app}-5d4f8c7b9f-{i:05d}", "namespace": "bench",
                                  "labels": {"app": app}},
                     "spec": {"nodeName": f"far{i % 100}", "serviceAccountName": app,
                              "containers": [{"name": "main", "image": "bench"}]},
                     "status": {"phase": "Running", "podIP": address,
                                "conditions": [{"type": "Ready", "status": "True"}]}})
    return made


def weigh_workloads(ctx, result):
    """From files: a process with them, and one without."""
    try:
        for key, objects in (("without_kb", ()), ("with_kb", many_workloads())):
            ctx.ztun.configure(more=objects)

            def alone(proc, key=key):
                time.sleep(2)
                result[key] = settle(proc)["Pss"]

            ctx.ztun.start_alone(then=alone)
    finally:
        ctx.ztun.configure()


def weigh_workloads_by_xds(ctx, result):
    """From a stand-in for istiod: one process before it has them, and after."""
    istiod = Istiod(ctx, N_WORKLOADS // WORKLOADS_A_SERVICE, N_WORKLOADS)

    def alone(proc):
        time.sleep(2)
        result["xds_without_kb"] = settle(proc)["Pss"]
        istiod.load()
        time.sleep(2)
        result["xds_with_kb"] = settle(proc)["Pss"]

    try:
        ctx.ztun.start_alone(*istiod.options, then=alone)
    finally:
        istiod.stop()


def workloads(ctx):
    """What 10 000 workloads weigh in a ztun that has a node of two pods besides."""
    result = {"workloads": N_WORKLOADS}
    weigh_workloads(ctx, result)
    weigh_workloads_by_xds(ctx, result)
    ctx.say(f"  l4-workloads         ztun       {result['with_kb'] - result['without_kb']} kB more "
            f"with {N_WORKLOADS} workloads, by xDS "
            f"{result['xds_with_kb'] - result['xds_without_kb']} kB")
    ctx.results["l4-workloads"] = result


def count_tunnels(pods):
    return sum(len(subprocess.run(["ip", "netns", "exec", pod, "ss", "-Htn", "state",
                                   "established", "sport", "=", ":15008"], capture_output=True,
                                  text=True, check=True).stdout.splitlines()) for pod in pods)


def opening_us(proc, idles):
    """CPU us of `proc` for each connection of `idles`, opened at once."""
    before = proc.cpu_s()
    for idle in idles:
        idle.proc.say("go")
    for idle in idles:
        idle.proc.read_line(300)
    return (proc.cpu_s() - before) / sum(idle.count for idle in idles) * 1e6


def x25519_client(ctx, clients, servers, targets):
    """CPU us of the client side of a new tunnel to a server that has X25519 alone: hbone_sink in the
    place of the far ztun. As above, a flow on a pooled tunnel is taken off. Every server has had one
    tunnel before: its key share is known."""
    certs = issue(f"{ctx.work_dir}/ca", ctx.work_dir, "server")
    sinks, idles = [], []
    near = ctx.ztun.start_near()
    try:
        for pod in servers:
            sinks.append(Proc("hbone_sink", [ctx.tools / "hbone_sink",
                                             f"{topo.POD_IP[pod]}:15008", certs["cert"],
                                             certs["key"]], pod, ctx.log_dir))
        for pod in servers:
            wait_listening(pod, 15008, sinks)
        warm = Idle(ctx, targets, topo.MESH_CLIENT, len(servers), threads=1)
        idles.append(warm)
        opening_us(near, [warm])
        waves = [[Idle(ctx, targets, pod, len(servers), threads=1) for pod in clients]
                 for _ in range(2)]
        idles += waves[0] + waves[1]
        first, second = [opening_us(near, made) for made in waves]
        return first - second
    finally:
        for idle in idles:
            idle.close()
        near.stop()
        for sink in sinks:
            sink.stop()


def tunnels(ctx):
    """New tunnels: every client pod to every server pod. A second flow between the same pods then
    finds a tunnel; what it costs is taken off what the first one did."""
    n = 8 if ctx.quick else 16
    ctx.ztun.stop()
    if not ctx.tunnel_pods:
        ctx.tunnel_pods = topo.add_tunnel_pods(n)
        for pod in ctx.tunnel_pods[1]:
            ctx.servers[pod] = (Proc("reqserver", [ctx.tools / "reqserver",
                                                   f"0.0.0.0:{series_mod.REQ_PORT}"], pod,
                                     ctx.log_dir),)
    clients, servers = ctx.tunnel_pods
    targets = [f"{topo.POD_IP[pod]}:{series_mod.REQ_PORT}" for pod in servers]
    ctx.ztun.configure(ctx.tunnel_pods)
    result = {"n_clients": n, "n_servers": n, "tunnels": n * n, "rounds": []}
    try:
        for _ in range(1 if ctx.quick else 4):
            series = ctx.ztun.start()
            result["tls"] = series_mod.first_exchange(ctx.tools, series, ctx.log_dir)
            idles = [[Idle(ctx, targets, pod, n, threads=1) for pod in clients] for _ in range(2)]
            first = wave(series, idles[0])
            second = wave(series, idles[1], first["during_kb"])
            found = count_tunnels(servers)
            if found != n * n:
                ctx.warn(f"l4-tunnels: {found} tunnels, expected {n * n}")
            for idle in idles[0] + idles[1]:
                idle.close()
            # As many at a time as there are, as the tunnels above: each by itself also wakes up.
            x25519_us = Storm(ctx).cost_s(series.halves[1][0], MAX_RATE, "--x25519",
                                          "--threads=16") * 1e6
            ctx.ztun.stop()
            x25519_client_us = x25519_client(ctx, clients, servers, targets)
            result["rounds"].append({
                "first": first, "second": second,
                "cpu_us": [a - b for a, b in zip(first["cpu_us"], second["cpu_us"])],
                "kb": [a - b for a, b in zip(first["kb"], second["kb"])],
                "handshake": handshake_probe(ctx, result["tls"]),
                "x25519_server_us": x25519_us, "x25519_client_us": x25519_client_us,
                "x25519_handshake": handshake_probe(ctx, {"group": "X25519"}),
                "bare_us": conn_probe(ctx, 1000, False),
                "bare_flights_us": conn_probe(ctx, 1000, True)})
            last = result["rounds"][-1]
            ctx.say(f"  l4-tunnels           ztun       {last['cpu_us'][0]:6.1f} + "
                    f"{last['cpu_us'][1]:6.1f} CPU us, {last['kb'][0]:.1f} + {last['kb'][1]:.1f} KB "
                    f"(bare TCP {last['bare_us'][0]:.1f} + {last['bare_us'][1]:.1f}, "
                    f"handshake {last['handshake']['client_us']:.1f} + "
                    f"{last['handshake']['server_us']:.1f} us); with X25519 "
                    f"{x25519_client_us:.1f} + {x25519_us:.1f} us")
    finally:
        if result["rounds"]:
            ctx.results["l4-tunnels"] = result
        ctx.ztun.stop()
        ctx.ztun.configure()


# ---- Handshake storm -----------------------------------------------------------------------------

def storm_windows(ctx, maker, paths, far, rate):
    """Pairs of windows on each of the two paths in turns, with the same storm at `far`; the stall
    probe runs beside those of the second. Returns the Windows, the probe, and the number of
    handshakes."""
    ready, n_done, probe = [], 0, StallProbe(ctx, STORM_WINDOW_S)

    def prepare(kind, _):
        if kind == "event":
            ready.append(maker.start(rate, STORM_WINDOW_S))

    def prepare_both(kind, number):
        prepare(kind, number)
        probe.prepare(kind)

    def event():
        ready[-1].say("go")

    every = [Windows(ctx, [ctx.tools / "reqload", path.req], path.client_ns, topo.NODE2,
                     above_s=STORM_TURN_S) for path in paths]
    try:
        for i in range(3 if ctx.quick else 9):
            every[0].pair(i, STORM_WINDOW_S, event, far, prepare, event_at=0)
            every[1].pair(i, STORM_WINDOW_S, event, far, prepare_both, event_at=0,
                          begin=probe.begin)
        probe.collect()
    finally:
        probe.stop()
        for proc in ready:
            n_done += json.loads(proc.read_line(20))["handshakes"]
            proc.stop()
    return every, probe, n_done


def storm_machine(windows, probe):
    """What the machine did to the worker and to the probe, each over all windows of a kind."""
    def total(key):
        return {kind: sum(pair[i][key] for pair in windows.pairs)
                for i, kind in enumerate(("quiet", "event"))}
    return {"steal_s": total("steal_s"), "run_delay_s": total("run_delay_s"),
            "probe_long": probe.total("long"), "probe_long_cpu": probe.total("long_cpu"),
            "probe_late_p99_us": probe.late_p99_us()}


def storm_of_class(ctx, name):
    """1000/s over kept flows; beside half of the windows new tunnels arrive at the same ztun. Then
    the same, with the same storm at the same ztun, over bare relays: what the machine's scheduler
    makes of it when no proxy is in the flows' way."""
    series = ctx.ztun.start()
    series_mod.first_exchange(ctx.tools, series, ctx.log_dir)
    far, maker = series.halves[1][0], Storm(ctx)
    rate = 200  # handshakes a second
    for _ in range(3):  # the more, the cheaper is each
        cost_s = maker.cost_s(far, rate)
        rate = max(50, int(STORM_SHARE / cost_s))
    before = halves_memory(series)
    (windows, relays), probe, n_done = storm_windows(ctx, maker, (series, ctx.series("relay")),
                                                     far, rate)
    deadline, after = time.monotonic() + 20, halves_memory(series)
    while time.monotonic() < deadline and any(a > b * 1.1 for a, b in zip(after, before)):
        time.sleep(2)
        after = halves_memory(series)
    ctx.ztun.stop()
    more_s = [busy["cpu_s"] - quiet["cpu_s"] for quiet, busy in windows.pairs]
    result = dict(windows.p99(), relay=relays.p99(), rate=rate, handshakes=n_done,
                  cost_us=cost_s * 1e6, core_share=sum(more_s) / len(more_s) / STORM_WINDOW_S,
                  before_kb=before, after_kb=after, machine=storm_machine(windows, probe),
                  turns=windows.long, turns_cpu=windows.long_cpu)
    ctx.say(f"  l4-storm             ztun       {name}: {rate}/s "
            f"({result['core_share'] * 100:.0f} % of a core, {cost_s * 1e6:.0f} us each): p99 "
            f"{span(result)} of quiet, of bare relays {span(result['relay'])}; turns above "
            f"{STORM_TURN_S * 1e3} ms by the clock {result['turns']}, of CPU time "
            f"{result['turns_cpu']}; machine {result['machine']}")
    return result


def storm(ctx):
    """Among the other programs of the machine, and with precedence over them."""
    result = {"normal": storm_of_class(ctx, "normal")}
    ctx.series("relay")  # it and the servers stay, and change their class
    kept = [proc for half in ctx.series("relay").halves for proc in half]
    try:
        with RealTime(kept + [p for procs in ctx.servers.values() for p in procs]):
            result["real_time"] = storm_of_class(ctx, "real-time class")
    except PermissionError:
        ctx.warn("l4-storm: the machine allows no real-time class: only among other programs")
    ctx.results["l4-storm"] = result


# ---- Reload and drain ----------------------------------------------------------------------------

def run_beside(ctx, series, argv, event, timeout_s=60):
    """Runs a load tool with event() in the middle of it. Returns its JSON, or None when the tool
    ended with an error."""
    load = Proc("drain-load", [*argv, "--wait"], series.client_ns, ctx.log_dir, pipes=True)
    try:
        load.read_line(10)
        load.say("go")
        time.sleep(0.5)
        event()
        return json.loads(load.read_line(timeout_s))
    except BenchError as error:
        ctx.warn(f"l4-drain: {error}")
        return None
    finally:
        load.stop()


def drain(ctx):
    """Kept connections while the configuration changes; new connections all the time while a
    successor starts beside the old process, which then drains."""
    series = ctx.ztun.start("--drain=3")
    series_mod.first_exchange(ctx.tools, series, ctx.log_dir)
    failed, n_requests, procs = {}, {}, []

    def reload():
        for i in range(5):
            ctx.ztun.configure(more=many_workloads()[:200 * (i + 1)])
            time.sleep(0.3)

    def replace():
        old = series.halves[1][0]
        new = ctx.ztun.start_half("node2", topo.NODE2, is_beside=True)
        procs.append(new)
        old.popen.terminate()
        old.popen.wait(20)

    try:
        kept = run_beside(ctx, series, [ctx.tools / "reqload", series.req, "--rate=1000",
                                        "--conns=16", "--seconds=4"], reload)
        failed["kept connections, reload"] = 0 if kept else 1
        n_requests["reload"] = kept["requests"] if kept else 0
        count = 3000 if ctx.quick else 10000
        fresh = run_beside(ctx, series, [ctx.tools / "connload", series.req, f"--count={count}",
                                         "--threads=4"], replace, 120)
        failed["new connections, successor"] = fresh["failed"] if fresh else 1
        n_requests["successor"] = count
    finally:
        for proc in procs:
            proc.stop()
        ctx.ztun.stop()
        ctx.ztun.configure()
    ctx.results["l4-drain"] = {"failed": failed, "requests": n_requests}
    ctx.say(f"  l4-drain             ztun       failed: {failed} of {n_requests}")


def add(parts):
    def needs_ztun(ctx):
        return None if ctx.has("ztun") else "ztun was left out"

    parts.add("l4-memory", memory, quick=True, wants=needs_ztun)
    parts.add("l4-workloads", workloads, wants=needs_ztun)
    parts.add("l4-tunnels", tunnels, quick=True, wants=needs_ztun)
    parts.add("l4-storm", storm, quick=True, wants=needs_ztun)
    parts.add("l4-drain", drain, wants=needs_ztun)
