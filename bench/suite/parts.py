# SPDX-License-Identifier: Apache-2.0
"""What is measured. Each part runs all series in interleaved rounds and adds to the results."""

import json
import resource
import subprocess
import time

from . import series as series_mod
from . import topo
from .procs import BenchError, Proc, measure, wait_listening
from .stats import median

PROXIES = ("direct", "relay", "pair", "haproxy", "ztun")


def rounds_of(ctx, names, n_rounds, one):
    """A B C, C B A, ...: calls one(series) for each; returns {name: [result of each round]}."""
    results = {name: [] for name in names}
    for i in range(n_rounds):
        for name in names if i % 2 == 0 else reversed(names):
            result = one(ctx.series(name))
            results[name].append(result)
    return results


def log_round(ctx, what, name, text, result):
    busy = f"  (other programs: {result['foreign_share'] * 100:.0f} % of the machine)" \
        if result["foreign_share"] > 0.1 else ""
    ctx.say(f"  {what:<16} {name:<8} {text}{busy}")


# ---- Bulk ----------------------------------------------------------------------------------------

def bulk_once(ctx, series, streams, direction, ms):
    result = measure([ctx.tools / "bulk", series.bulk, f"--streams={streams}", f"--{direction}",
                      f"--ms={ms}"],
                     series.client_ns, ctx.bulk_server(series), series.procs("bulk"), ctx.log_dir)
    gb = result["load"]["bytes"] / 1e9
    result["cpu_s_per_gb"] = result["cpu_s"] / gb
    result["halves_s_per_gb"] = [s / gb for s in result["cpu_halves_s"]]
    return result


def bulk(ctx, streams):
    """Half of each round upwards, half downwards; the figure is the CPU of both over both."""
    def one(series):
        ms = int(ctx.seconds * 500)
        both = {d: bulk_once(ctx, series, streams, d, ms) for d in ("up", "down")}
        gb = sum(r["load"]["bytes"] for r in both.values()) / 1e9
        wall = sum(r["load"]["seconds"] for r in both.values())
        result = {"up": both["up"], "down": both["down"],
                  "cpu_s_per_gb": sum(r["cpu_s"] for r in both.values()) / gb,
                  "gbit_s": gb * 8 / wall,
                  "foreign_share": max(r["foreign_share"] for r in both.values())}
        log_round(ctx, f"bulk, {streams} streams", series.name,
                  f"{result['gbit_s']:6.2f} Gb/s  {result['cpu_s_per_gb']:6.3f} CPU s/GB", result)
        return result

    names = ctx.names(PROXIES)
    for name in names:  # warm-up
        bulk_once(ctx, ctx.series(name), streams, "down", 300)
    ctx.results[f"bulk-{streams}"] = rounds_of(ctx, names, ctx.rounds, one)


def bulk_1(ctx):
    bulk(ctx, 1)


def bulk_8(ctx):
    bulk(ctx, 8)


# ---- Requests ------------------------------------------------------------------------------------

def requests_once(ctx, series, rate, conns, seconds, sizes=(128, 1024)):
    result = measure([ctx.tools / "reqload", series.req, f"--rate={rate}", f"--conns={conns}",
                      f"--seconds={seconds}", f"--request={sizes[0]}", f"--answer={sizes[1]}"],
                     series.client_ns, ctx.req_server(series), series.procs("req"), ctx.log_dir)
    n = result["load"]["requests"]
    result["cpu_us"] = result["cpu_s"] / n * 1e6
    result["halves_us"] = [s / n * 1e6 for s in result["cpu_halves_s"]]
    result["switches_per_request"] = sum(result["switches"]) / n
    return result


def requests(ctx, key, rate, conns, names, n_rounds, seconds, sizes=(128, 1024)):
    def one(series):
        result = requests_once(ctx, series, rate, conns, seconds, sizes)
        load = result["load"]
        log_round(ctx, key, series.name,
                  f"{load['rate']:7.0f}/s  {result['cpu_us']:6.1f} CPU us  "
                  f"p50 {load['p50_us']:.0f}  p90 {load['p90_us']:.0f}  p99 {load['p99_us']:.0f} us",
                  result)
        if rate and load["rate"] < 0.97 * rate:
            ctx.warn(f"{key}: {series.name}: only {load['rate']:.0f} of {rate} requests/s")
        return result

    names = ctx.names(names)
    for name in names:  # warm-up
        requests_once(ctx, ctx.series(name), rate, conns, 1, sizes)
    ctx.results[key] = rounds_of(ctx, names, n_rounds, one)


def requests_1000(ctx):
    requests(ctx, "requests-1000", 1000, 4, PROXIES, ctx.latency_rounds, max(2, int(ctx.seconds)))


def requests_saturated(ctx):
    requests(ctx, "requests-saturated", 0, 32, PROXIES, ctx.rounds, max(2, int(ctx.seconds)))


def requests_sizes(ctx):
    """For orientation: small and large messages, saturated."""
    for label, sizes in (("64", (64, 64)), ("16k", (16384, 16384))):
        requests(ctx, f"requests-{label}", 0, 32, PROXIES, 2 if ctx.quick else 3,
                 max(2, int(ctx.seconds / 2)), sizes)


# ---- Connections ---------------------------------------------------------------------------------

def flows(ctx):
    """One TCP connection a request, on a pooled tunnel where there is one."""
    count = 2000 if ctx.quick else 6000

    def one(series, n=count):
        result = measure([ctx.tools / "connload", series.req, f"--count={n}", "--threads=8"],
                         series.client_ns, ctx.req_server(series), series.procs("req"),
                         ctx.log_dir, timeout_s=120)
        result["cpu_us"] = result["cpu_s"] / n * 1e6
        result["halves_us"] = [s / n * 1e6 for s in result["cpu_halves_s"]]
        log_round(ctx, "flows", series.name,
                  f"{result['load']['rate']:7.0f}/s  {result['cpu_us']:6.1f} CPU us", result)
        return result

    # The bare pair starts two threads a flow: no floor for this.
    names = ctx.names(n for n in PROXIES if n != "pair")
    for name in names:
        one(ctx.series(name), 300)
    ctx.results["flows"] = rounds_of(ctx, names, ctx.rounds, one)


class Idle:
    """Connections that are opened, held and closed. `targets`: one address or several in turn."""

    def __init__(self, ctx, targets, client_ns, count, threads=8, flags=()):
        self.count = count
        self.proc = Proc("idleconns", [ctx.tools / "idleconns", *targets, f"--count={count}",
                                       f"--threads={threads}", "--wait", *flags], client_ns, ctx.log_dir,
                         pipes=True)
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


def tls_probe(ctx, group):
    key = f"tls-probe-{group}"
    if key not in ctx.results:
        out = subprocess.run([ctx.tools / "tls_probe", "--group", group, "--handshakes", "200",
                              "--aead-ms", "60" if ctx.quick else "200"],
                             capture_output=True, text=True, check=True).stdout
        ctx.results[key] = json.loads(out)
    return ctx.results[key]


GROUP_OPTION = {"X25519MLKEM768": "x25519mlkem768", "X25519": "x25519", "P-256": "p256"}


def handshake_probe(ctx, tls):
    """CPU us of {client_us, server_us} of BoringSSL alone, now, with the group of `tls`."""
    group = GROUP_OPTION.get((tls or {}).get("group"), "x25519")
    out = subprocess.run([ctx.tools / "tls_probe", "--group", group, "--handshakes", "100",
                          "--aead-ms", "1"], capture_output=True, text=True, check=True).stdout
    return json.loads(out)["handshake"]["boringssl_no_chain_check"]


def aead(ctx):
    """The AEAD figures of the probe; of the group nothing depends."""
    return {a["size"]: a for a in tls_probe(ctx, "x25519mlkem768")["aead"]
            if a["suite"] == "aes_128_gcm"}


def settle(proc, timeout_s=12):
    """Memory when it has stopped falling: given-back buffers need a moment."""
    last = proc.memory_kb()
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        time.sleep(1.5)
        now = proc.memory_kb()
        if abs(now["Pss"] - last["Pss"]) <= max(8, last["Pss"] * 0.002):
            return now
        last = now
    return last


def halves_cpu(series):
    return [sum(p.cpu_s() for p in half) for half in series.halves]


def halves_memory(series):
    return [settle(half[0])["Pss"] for half in series.halves]


def wave(series, idles):
    """Opens the connections of all `idles` at once. Returns CPU us and Pss kB per connection, by half."""
    count = sum(idle.count for idle in idles)
    memory, cpu = halves_memory(series), halves_cpu(series)
    for idle in idles:
        idle.proc.say("go")
    for idle in idles:
        idle.proc.read_line(300)
    cpu = [(b - a) / count * 1e6 for a, b in zip(cpu, halves_cpu(series))]
    now = halves_memory(series)
    return {"count": count, "cpu_us": cpu, "before_kb": memory, "during_kb": now,
            "kb": [(n - m) / count for n, m in zip(now, memory)]}


def hold_open(ctx, series, count):
    """Opens `count` idle flows and closes them."""
    idle = Idle(ctx, [series.req], series.client_ns, count)
    try:
        result = wave(series, [idle])
    finally:
        idle.close()
    deadline = time.monotonic() + 20
    after = halves_memory(series)
    while time.monotonic() < deadline and \
            any(a > b * 1.1 for a, b in zip(after, result["before_kb"])):
        time.sleep(2)
        after = halves_memory(series)
    return dict(result, after_kb=after)


def memory(ctx):
    """Idle memory of a fresh ztun, idle flows, and what is left when they are closed."""
    if not ctx.has("ztun"):
        return
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    n_flows = min(1000 if ctx.quick else 8000, int(limit * 0.4))
    result = {"fd_limit": limit, "flows": n_flows}

    def alone(proc):
        time.sleep(2)
        result["idle_kb"] = settle(proc)

    # All flows on one tunnel: the memory of tunnels is measured by itself.
    series = ctx.ztun.start(f"--pool-streams={2 * n_flows + 1000}", on_first=alone)
    ctx.say(f"  memory           ztun     idle: Pss {result['idle_kb']['Pss']} kB, "
            f"Rss {result['idle_kb']['Rss']} kB")
    series_mod.first_exchange(ctx.tools, series, ctx.log_dir)
    hold_open(ctx, series, 100)  # warm-up
    result["pooled"] = pooled = hold_open(ctx, series, n_flows)
    ctx.say(f"  memory           ztun     {n_flows} flows: {pooled['kb'][0]:.2f} + "
            f"{pooled['kb'][1]:.2f} KB each; Pss before {pooled['before_kb']}, with them "
            f"{pooled['during_kb']}, after {pooled['after_kb']} kB")
    ctx.ztun.stop()
    ctx.results["memory"] = result


def count_tunnels(pods):
    return sum(len(subprocess.run(["ip", "netns", "exec", pod, "ss", "-Htn", "state",
                                   "established", "sport", "=", ":15008"], capture_output=True,
                                  text=True, check=True).stdout.splitlines()) for pod in pods)


def tunnels(ctx):
    """New tunnels: every client pod to every server pod. A second flow between the same pods then
    finds a tunnel; what it costs is taken off what the first one did."""
    if not ctx.has("ztun"):
        return
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
        for _ in range(2 if ctx.quick else 4):
            series = ctx.ztun.start()
            result["tls"] = series_mod.first_exchange(ctx.tools, series, ctx.log_dir)
            idles = [[Idle(ctx, targets, pod, n, threads=1) for pod in clients] for _ in range(2)]
            first, second = wave(series, idles[0]), wave(series, idles[1])
            found = count_tunnels(servers)
            if found != n * n:
                ctx.warn(f"l4-tunnels: {found} tunnels, expected {n * n}")
            for idle in idles[0] + idles[1]:
                idle.close()
            ctx.ztun.stop()
            result["rounds"].append({
                "first": first, "second": second,
                "cpu_us": [a - b for a, b in zip(first["cpu_us"], second["cpu_us"])],
                "kb": [a - b for a, b in zip(first["kb"], second["kb"])],
                "handshake": handshake_probe(ctx, result["tls"]),
                "bare_us": conn_probe(ctx, 1000, False),
                "bare_flights_us": conn_probe(ctx, 1000, True)})
            last = result["rounds"][-1]
            ctx.say(f"  new tunnels      ztun     {last['cpu_us'][0]:6.1f} + "
                    f"{last['cpu_us'][1]:6.1f} CPU us, {last['kb'][0]:.1f} + {last['kb'][1]:.1f} KB "
                    f"(bare TCP {last['bare_us'][0]:.1f} + {last['bare_us'][1]:.1f}, "
                    f"handshake {last['handshake']['client_us']:.1f} + "
                    f"{last['handshake']['server_us']:.1f} us)")
    finally:
        if result["rounds"]:
            ctx.results["tunnels"] = result
        ctx.ztun.stop()
        ctx.ztun.configure()


# ---- Self-check ----------------------------------------------------------------------------------

def self_check(ctx):
    """The same proxy under two names: the ratio has to be 1 within the printed error."""
    name = "ztun" if ctx.has("ztun") else "haproxy"
    for what, one in (
            ("bulk-1", lambda s: bulk_once(ctx, s, 1, "down", int(ctx.seconds * 500))),
            ("requests-saturated",
             lambda s: requests_once(ctx, s, 0, 32, max(1, int(ctx.seconds / 2))))):
        figure = "cpu_s_per_gb" if what == "bulk-1" else "cpu_us"
        results = {"a": [], "b": []}
        one(ctx.series(name))
        for i in range(max(3, ctx.rounds)):
            for label in ("ab", "ba")[i % 2]:
                results[label].append(one(ctx.series(name))[figure])
        ctx.results.setdefault("self", {})[what] = dict(results, series=name)
        ctx.say(f"  self             {name:<8} {what}: "
                f"{median([a / b for a, b in zip(results['a'], results['b'])]):.3f}")


PARTS = {
    "l4-memory": memory,
    "l4-tunnels": tunnels,
    "l4-bulk-1": bulk_1,
    "l4-bulk-8": bulk_8,
    "l4-requests-1000": requests_1000,
    "l4-requests-saturated": requests_saturated,
    "l4-flows": flows,
    "self": self_check,
    "l4-sizes": requests_sizes,
}
NOT_QUICK = ("l4-sizes",)


def select(all_parts, names, quick):
    """Parts by name or beginning of a name ("l4-bulk"); all that fit when none is named."""
    if not names:
        return [name for name in all_parts if not (quick and name in NOT_QUICK)]
    chosen = [p for p in all_parts if any(p == n or p.startswith(n + "-") for n in names)]
    if not chosen:
        raise BenchError(f"BENCH={','.join(names)}: there is {', '.join(all_parts)}")
    return chosen
