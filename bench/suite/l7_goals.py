# SPDX-License-Identifier: Apache-2.0
"""The goal rows of HTTP; goals.py says when one is met."""

from .goals import column, latency_row, low_floor, noise, p99_beside_change, row
from .stats import median, number, ranged, ratio
from .windows import percentile

PLAIN_PEERS = ("haproxy", "nginx")
LOADS = ("1000", "saturated")


def against_envoy(results):
    r = ratio(column(results, "waypoint", "cpu_us"), column(results, "envoy", "cpu_us"))
    return "" if r[0] is None else f"{ranged(r)} of Envoy"


def over_all_rounds(ctx, key, names, share):
    """The percentile of all requests of a series together. That of a round of 2000 requests is in
    its twentieth slowest: a round in which the machine held everything up four times has another."""
    slots = {name: {float(end): n for end, n in ctx.results["histograms"][key][name].items()}
             for name in names if name in ctx.results.get("histograms", {}).get(key, {})}
    return "of all rounds together, us: " + ", ".join(
        f"{name} {number(percentile(ends, share))}" for name, ends in slots.items())


def on_one_core(made):
    """What the same figure is where the scheduler has no choice, as words."""
    if made is None or made["ratio"] is None:
        return ""
    return f"on one core {ranged((made['ratio'], *made['ratio_spread']))}"


def cheaper_of(results):
    """Whichever of the two is cheaper, round by round."""
    return low_floor(*(column(results, name, "cpu_us") for name in PLAIN_PEERS))


def plain_rows(ctx):
    core = ctx.results.get("l7-plain-core-1000", {})
    for load in LOADS:
        key = f"l7-plain-{load}"
        results = ctx.results.get(key, {})
        if "waypoint" in results:
            made = row(key, ours=column(results, "waypoint", "cpu_us"), peer=cheaper_of(results),
                       note=against_envoy(results), noise=noise(results))
            if load == "1000" and "waypoint" in core:
                same = row(key, ours=column(core, "waypoint", "cpu_us"), peer=cheaper_of(core))
                made["note"] = "; ".join(filter(None, (made["note"], on_one_core(same))))
            yield made
    results = ctx.results.get("l7-plain-1000", {})
    if "waypoint" in results and "direct" in results:
        for point in ("p50", "p99"):
            made = latency_row(results, f"l7-latency-{point}", point, ("waypoint", "direct"),
                               PLAIN_PEERS, ())
            more = over_all_rounds(ctx, "l7-plain-1000", ("direct", *PLAIN_PEERS, "waypoint"),
                                   int(point[1:]) / 100)
            same = latency_row(core, made["id"], point, ("waypoint", "direct"), PLAIN_PEERS, ()) \
                if "waypoint" in core and "direct" in core else None
            made["note"] = "; ".join(filter(None, (made["note"], more, on_one_core(same))))
            yield made


def waypoint_rows(ctx):
    for load in LOADS:
        key = f"l7-waypoint-{load}"
        results = ctx.results.get(key, {})
        if "waypoint" in results:
            yield row(key, ours=column(results, "waypoint", "cpu_us"),
                      peer=column(results, "envoy", "cpu_us"), noise=noise(results))


def route_rows(ctx):
    probe, results = ctx.results.get("l7-routes-probe"), ctx.results.get("l7-routes")
    if not probe or not results:
        return
    request_us, share = median(column(results, "one", "cpu_us")), noise(results)

    def over_all(name):
        return ranged(ratio(column(results, name, "cpu_us"), column(results, "one", "cpu_us")))

    for name in ("exact", "prefix"):
        more_us = (probe[name]["ns"] - probe["one"]["ns"]) / 1e3
        yield row(f"l7-routes-{name}", ours=1 + more_us / request_us, noise=share,
                  note=f"{number(more_us)} us of look-up (probe) on {number(request_us)} us a "
                       f"request; over all, with the noise of two runs: {over_all(name)}")
    yield row("l7-routes-regex", ours=(probe["regex"]["ns"] - probe["one"]["ns"]) / 1e3,
              noise=share, note=f"probe; over all {over_all('regex')} of a request with one rule")
    yield row("l7-services", ours=column(results, "services", "cpu_us"),
              peer=column(results, "one", "cpu_us"), noise=share)


def memory_rows(ctx):
    memory = ctx.results.get("l7-memory")
    if not memory:
        return
    yield row("l7-memory-idle", ours=memory["idle_kb"]["Pss"] / 1024,
              note=f"Rss {memory['idle_kb']['Rss'] / 1024:.1f} MB")
    for version in ("h1", "h2"):
        yield row(f"l7-memory-{version}", ours=memory[version]["kb"],
                  note=f"{memory[version]['count']} connections, after a request on each")


def reload_rows(ctx):
    r = ctx.results.get("l7-reload")
    if not r:
        return
    interval = ranged((r["p99_ratio"], r["p99_low"], r["p99_high"]))
    yield p99_beside_change(
        "l7-reload-p99", r,
        f"{interval}, bootstrap over {r['pairs']} pairs of windows of {r['seconds']} s, one change in "
        f"each second window; p99 {number(r['quiet_p99_us'])} us quiet, {number(r['reload_p99_us'])} us "
        "with the change, on the control thread")
    yield row("l7-reload-turns", ours=r["long_config_turns"],
              note="config_turn_seconds; all turns above 1 ms, also those that the machine held up "
                   f"(loop_turn_seconds): {r['long_turns']['reload']} in windows with a change, "
                   f"{r['long_turns']['quiet']} in as many quiet ones")


MAKERS = (plain_rows, waypoint_rows, route_rows, memory_rows, reload_rows)
