# SPDX-License-Identifier: Apache-2.0
"""Traffic of L4 in both topologies. Each part runs its series in interleaved rounds and adds to the
results; what it shares with the other parts is here too."""

import json
import subprocess

from .checks import check_load
from .procs import BenchError, measure
from .stats import median

PROXIES = ("direct", "relay", "pair", "haproxy", "envoy-pair", "ztun")
NODE_PROXIES = ("direct-node", "relay-node", "ztunnel", "ztun-node")
SHORT_CUT = ("direct-node", "relay-node", "bpf-node", "ztun-node")  # an experiment, of no goal
TOPOLOGIES = {"l4": PROXIES, "node": NODE_PROXIES}
SIZES = {"64": (64, 64), "1k": (128, 1024), "16k": (16384, 16384)}
CONNECTIONS = (1, 16, 256, 4000)
STREAMS = (1, 8, 64)
DIRECTIONS = {"up": ("up",), "down": ("down",), "both": ("up", "down")}


def rounds_of(ctx, names, n_rounds, one):
    """A B C, C B A is one round: calls one(series) twice for each; returns {name: [results]}."""
    results = {name: [] for name in names}
    for _ in range(n_rounds):
        for name in (*names, *reversed(names)):
            results[name].append(one(ctx.series(name)))
    return results


def log_round(ctx, what, name, text, result):
    busy = f"  (other programs: {result['foreign_share'] * 100:.0f} % of the machine)" \
        if result["foreign_share"] > 0.1 else ""
    ctx.say(f"  {what:<20} {name:<10} {text}{busy}")


# ---- Bulk ----------------------------------------------------------------------------------------

def bulk_once(ctx, series, streams, flags, ms):
    result = measure([ctx.tools / "bulk", series.bulk, f"--streams={streams}",
                      *[f"--{flag}" for flag in flags], f"--ms={ms}"],
                     series.client_ns, ctx.bulk_server(series), series.procs("bulk"), ctx.log_dir)
    gb = result["load"]["bytes"] / 1e9
    result["cpu_s_per_gb"] = result["cpu_s"] / gb
    result["halves_s_per_gb"] = [s / gb for s in result["cpu_halves_s"]]
    return result


def bulk(ctx, key, names, streams):
    """Half of each measurement upwards, half downwards; the figure is the CPU of both over both."""
    def one(series):
        ms = int(ctx.seconds * 250)
        both = {d: bulk_once(ctx, series, streams, (d,), ms) for d in ("up", "down")}
        gb = sum(r["load"]["bytes"] for r in both.values()) / 1e9
        wall = sum(r["load"]["seconds"] for r in both.values())
        result = {"up": both["up"], "down": both["down"],
                  "cpu_s_per_gb": sum(r["cpu_s"] for r in both.values()) / gb,
                  "gbit_s": gb * 8 / wall,
                  "foreign_share": max(r["foreign_share"] for r in both.values())}
        log_round(ctx, key, series.name,
                  f"{result['gbit_s']:6.2f} Gb/s  {result['cpu_s_per_gb']:6.3f} CPU s/GB", result)
        return result

    names = ctx.usable(names)
    for name in names:  # warm-up
        bulk_once(ctx, ctx.series(name), streams, ("down",), 200)
    ctx.results[key] = rounds_of(ctx, names, ctx.rounds, one)


def bulk_cell(ctx, key, names, streams, direction):
    """One direction, or both at once, of the matrix."""
    def one(series):
        result = bulk_once(ctx, series, streams, DIRECTIONS[direction], int(ctx.seconds * 500))
        result["gbit_s"] = result["load"]["bytes"] * 8 / 1e9 / result["load"]["seconds"]
        log_round(ctx, key, series.name, f"{result['gbit_s']:6.2f} Gb/s  "
                  f"{result['cpu_s_per_gb']:6.3f} CPU s/GB", result)
        return result

    names = ctx.usable(names)
    for name in names:
        bulk_once(ctx, ctx.series(name), streams, ("down",), 200)
    ctx.results[key] = rounds_of(ctx, names, ctx.rounds, one)


# ---- Requests ------------------------------------------------------------------------------------

def requests_once(ctx, series, rate, conns, seconds, sizes=SIZES["1k"]):
    result = measure([ctx.tools / "reqload", series.req, f"--rate={rate}", f"--conns={conns}",
                      f"--seconds={seconds}", f"--request={sizes[0]}", f"--answer={sizes[1]}",
                      "--slots"],
                     series.client_ns, ctx.req_server(series), series.procs("req"), ctx.log_dir)
    n = result["load"]["requests"]
    result["cpu_us"] = result["cpu_s"] / n * 1e6
    result["halves_us"] = [s / n * 1e6 for s in result["cpu_halves_s"]]
    result["switches_per_request"] = sum(result["switches"]) / n
    return result


def say_requests(ctx, key, series, result):
    load = result["load"]
    log_round(ctx, key, series.name,
              f"{load['rate']:7.0f}/s  {result['cpu_us']:6.1f} CPU us  "
              f"p50 {load['p50_us']:.0f}  p90 {load['p90_us']:.0f}  p99 {load['p99_us']:.0f} us",
              result)


def keep_histogram(ctx, key, results):
    """The histograms of all rounds become one a series, in a place of its own."""
    for name, measured in results.items():
        total = ctx.results.setdefault("histograms", {}).setdefault(key, {}).setdefault(name, {})
        for result in measured:
            for end, n in result["load"].pop("slots"):
                total[str(end)] = total.get(str(end), 0) + n


def requests(ctx, key, names, rate, conns, seconds=None, sizes=SIZES["1k"]):
    # What is saturated has so many requests that half of the time is enough.
    seconds = seconds or max(1, int(ctx.seconds if rate else ctx.seconds / 2))

    def one(series):
        result = requests_once(ctx, series, rate, conns, seconds, sizes)
        say_requests(ctx, key, series, result)
        check_load(ctx, key, series.name, result, rate)
        return result

    names = ctx.usable(names)
    for name in names:  # warm-up
        requests_once(ctx, ctx.series(name), rate, conns, 1, sizes)
    ctx.results[key] = rounds_of(ctx, names, ctx.rounds, one)
    keep_histogram(ctx, key, ctx.results[key])


def half_rate(ctx, names, conns, sizes):
    """Half of what the slowest path can do, for all of them."""
    rates = [requests_once(ctx, ctx.series(name), 0, conns, 1, sizes)["load"]["rate"]
             for name in ctx.usable(names)]
    return max(100, int(min(rates) / 2 // 100 * 100))


def connections_cell(ctx, key, names, conns):
    """Saturated by that many connections."""
    if conns > 256 and "ztun" in names:
        # What one pod may have to one address is bounded by the streams of a tunnel.
        ctx.ztun_options = [f"--pool-streams={conns}"]
        names = [n for n in names if n != "pair"]  # two threads a connection
    try:
        requests(ctx, key, names, 0, conns)
    finally:
        ctx.ztun_options = []


# ---- Flows ---------------------------------------------------------------------------------------

def flows(ctx, key, names):
    """One TCP connection a request, on a pooled tunnel where there is one."""
    count = 2000 if ctx.quick else 4000

    def one(series, n=count):
        result = measure([ctx.tools / "connload", series.req, f"--count={n}", "--threads=8"],
                         series.client_ns, ctx.req_server(series), series.procs("req"),
                         ctx.log_dir, timeout_s=120)
        result["cpu_us"] = result["cpu_s"] / n * 1e6
        result["halves_us"] = [s / n * 1e6 for s in result["cpu_halves_s"]]
        log_round(ctx, key, series.name,
                  f"{result['load']['rate']:7.0f}/s  {result['cpu_us']:6.1f} CPU us", result)
        return result

    # The bare pair starts two threads a flow: no floor for this.
    names = ctx.usable(n for n in names if n != "pair")
    for name in names:
        one(ctx.series(name), 300)
    ctx.results[key] = rounds_of(ctx, names, ctx.rounds, one)


# ---- The short cut ----------------------------------------------------------------------------------

def machine_us(results):
    """CPU us a request that neither generator nor server used: proxies, and the kernel's threads and
    interrupts, which do the work of the short cut. {series: median}"""
    return {name: median([(r["busy_s"] - r["load"]["own_cpu_s"] - r["server_cpu_s"]) * 1e6 /
                          r["load"]["requests"] for r in rounds])
            for name, rounds in results.items()}


def short_cut_requests(ctx):
    """A short cut between two pods of a node by a BPF program, beside the direct path and ztun. Its
    work is in no process, so the machine's CPU is what counts, and other programs disturb it."""
    key = "shortcut-requests-1000"
    requests(ctx, key, SHORT_CUT, 1000, 4)
    ctx.results["shortcut"] = machine_us(ctx.results[key])
    ctx.say(f"  {key} machine's CPU us a request: " + ", ".join(
        f"{name} {us:.0f}" for name, us in ctx.results["shortcut"].items()))


# ---- Probes --------------------------------------------------------------------------------------

def tls_probe(ctx, group):
    key = f"tls-probe-{group}"
    if key not in ctx.results:
        out = subprocess.run([ctx.tools / "tls_probe", "--group", group, "--handshakes", "200",
                              "--aead-ms", "60" if ctx.quick else "200"],
                             capture_output=True, text=True, check=True).stdout
        ctx.results[key] = json.loads(out)
    return ctx.results[key]


def aead(ctx, suite):
    """The AEAD figures of the probe; of the group nothing depends."""
    return {a["size"]: a for a in tls_probe(ctx, "x25519mlkem768")["aead"] if a["suite"] == suite}


# ---- Self-check ----------------------------------------------------------------------------------

def self_check(ctx):
    """The same proxy under two names: the ratio has to be 1 within the printed error."""
    name = "ztun" if ctx.has("ztun") else "haproxy"
    for what, one in (
            ("l4-bulk-1", lambda s: bulk_once(ctx, s, 1, ("down",), int(ctx.seconds * 250))),
            ("l4-requests-1000",
             lambda s: requests_once(ctx, s, 1000, 4, max(1, int(ctx.seconds / 2)))),
            ("l4-requests-saturated",
             lambda s: requests_once(ctx, s, 0, 32, max(1, int(ctx.seconds / 2))))):
        figure = "cpu_s_per_gb" if what == "l4-bulk-1" else "cpu_us"
        results = {"a": [], "b": []}
        one(ctx.series(name))
        for i in range(max(6, ctx.rounds)):
            for label in ("abba", "baab")[i % 2]:
                results[label].append(one(ctx.series(name))[figure])
        ctx.results.setdefault("self", {})[what] = dict(results, series=name)
        ctx.say(f"  self                 {name:<10} {what}: "
                f"{median([a / b for a, b in zip(results['a'], results['b'])]):.3f}")


# ---- Table ---------------------------------------------------------------------------------------

def add_traffic(parts, topology, names, wants, is_default=True):
    """The goal rows of one topology."""
    is_l4 = topology == "l4"

    def add(name, run, quick=False):
        parts.add(f"{topology}-{name}", lambda ctx: run(ctx, f"{topology}-{name}"), quick=quick,
                  default=is_default, wants=wants)

    for streams in (1, 8):
        add(f"bulk-{streams}", lambda ctx, key, s=streams: bulk(ctx, key, names, s),
            quick=is_l4 and streams == 1)
    add("requests-1000", lambda ctx, key: requests(ctx, key, names, 1000, 4), quick=is_l4)
    add("requests-saturated", lambda ctx, key: requests(ctx, key, names, 0, 32), quick=is_l4)
    add("flows", lambda ctx, key: flows(ctx, key, names), quick=is_l4)


def add_short_cut(parts):
    parts.add("shortcut-requests-1000", short_cut_requests, default=False)
    parts.add("shortcut-bulk-1", lambda ctx: bulk(ctx, "shortcut-bulk-1", SHORT_CUT, 1),
              default=False)


def add_matrix(parts, topology, names, wants):
    def add(name, run):
        parts.add(f"cell-{topology}-{name}", lambda ctx: run(ctx, f"cell-{topology}-{name}"),
                  default=False, wants=wants)

    for streams in STREAMS:
        for direction in DIRECTIONS:
            add(f"bulk-{direction}-{streams}", lambda ctx, key, s=streams, d=direction:
                bulk_cell(ctx, key, names, s, d))
    for label, sizes in SIZES.items():
        add(f"requests-{label}-1000", lambda ctx, key, s=sizes:
            requests(ctx, key, names, 1000, 4, sizes=s))
        add(f"requests-{label}-half", lambda ctx, key, s=sizes:
            requests(ctx, key, names, half_rate(ctx, names, 32, s), 32, sizes=s))
        add(f"requests-{label}-saturated", lambda ctx, key, s=sizes:
            requests(ctx, key, names, 0, 32, sizes=s))
    for conns in CONNECTIONS:
        add(f"connections-{conns}", lambda ctx, key, c=conns:
            connections_cell(ctx, key, names, c))


def check_names(ctx):
    unknown = ctx.skipped - set(PROXIES) - set(NODE_PROXIES) - set(SHORT_CUT) - {"nginx", "envoy", "waypoint"}
    if unknown:
        raise BenchError(f"--skip={','.join(sorted(unknown))}: no such series")
