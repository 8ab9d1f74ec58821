# SPDX-License-Identifier: Apache-2.0
"""The goal rows of HTTP; goals.py says when one is met."""

from .goals import column, low_floor, noise, row
from .stats import median, number, ratio

PLAIN_PEERS = ("haproxy", "nginx")


def against_envoy(results, *keys):
    r = ratio(column(results, "waypoint", *keys), column(results, "envoy", *keys))
    return "" if r[0] is None else f"{number(r[0])} ({number(r[1])}-{number(r[2])}) of Envoy"


def plain_rows(ctx):
    rows = []
    for load, text in (("1000", "1000/s open loop"), ("saturated", "saturated")):
        key = f"l7-plain-{load}"
        results = ctx.results.get(key)
        if not results or "waypoint" not in results:
            continue
        # Whichever of the two is cheaper, round by round.
        peer = low_floor(*(column(results, name, "cpu_us") for name in PLAIN_PEERS))
        rows.append(row(key, f"HTTP/1.1 request, plain reverse proxy, {text}", "CPU us", key,
                        goal=0.85, ours=column(results, "waypoint", "cpu_us"), peer=peer,
                        note="peer: the better of HAProxy and nginx in each round; "
                             + against_envoy(results, "cpu_us")))
    results = ctx.results.get("l7-plain-1000", {})
    for point in ("p50", "p99"):
        if "waypoint" in results and "direct" in results:
            rows.append(latency_row(results, point))
    return rows


def latency_row(results, point):
    """A difference of the medians over the rounds, as in L4: without spread, and without a verdict
    where noise swallows it."""
    def added(name):
        values = column(results, name, "load", point + "_us")
        return median(values) - median(column(results, "direct", "load", point + "_us")) \
            if values else None
    peers = [v for v in map(added, PLAIN_PEERS) if v is not None]
    ours, peer = added("waypoint"), min(peers) if peers else None
    made = row(f"l7-latency-{point}", f"added latency of a plain reverse proxy at 1000/s, {point}",
               "us", "l7-plain-1000", goal=0.9, ours=ours, peer=peer,
               note="peer: the better of HAProxy and nginx")
    if ours <= 0 or peer is None or peer <= 0:
        made.update(met=None, note="the direct path moved more than the difference")
    return made


def waypoint_rows(ctx):
    rows = []
    for load, text in (("1000", "1000/s open loop"), ("saturated", "saturated")):
        key = f"l7-waypoint-{load}"
        results = ctx.results.get(key)
        if not results or "waypoint" not in results or "envoy" not in results:
            continue
        rows.append(row(key, f"HTTP/1.1 request, waypoint alone, HBONE on both sides, {text}",
                        "CPU us", key, goal=0.35, ours=column(results, "waypoint", "cpu_us"),
                        peer=column(results, "envoy", "cpu_us"), note="peer: Envoy as a waypoint"))
    return rows


def route_rows(ctx):
    probe, results = ctx.results.get("l7-routes-probe"), ctx.results.get("l7-routes")
    if not probe or not results:
        return []
    rows, request_us = [], median(column(results, "one", "cpu_us"))

    def over_all(name):
        r = ratio(column(results, name, "cpu_us"), column(results, "one", "cpu_us"))
        return f"{number(r[0])} ({number(r[1])}-{number(r[2])})"

    for name, text in (("exact", "exact"), ("prefix", "prefix")):
        more_us = (probe[name]["ns"] - probe["one"]["ns"]) / 1e3
        rows.append(row(f"l7-routes-{name}", f"request with {probe[name]['rules']} {text} rules, "
                        "against one rule", "ratio", "l7-routes", goal=1.05,
                        ours=1 + more_us / request_us,
                        note=f"{number(more_us)} us of look-up (probe) on {number(request_us)} us a "
                             f"request; over all, with the noise of two runs: {over_all(name)}"))
    rows.append(row("l7-routes-regex", f"{probe['regex']['rules']} regular expressions, more than "
                    "one prefix rule", "CPU us", "l7-routes", goal=5,
                    ours=(probe["regex"]["ns"] - probe["one"]["ns"]) / 1e3,
                    note=f"probe; over all {over_all('regex')} of a request with one rule"))
    rows.append(row("l7-services", "request beside 1000 other VirtualServices, against none",
                    "CPU us", "l7-routes", goal=1.05, ours=column(results, "services", "cpu_us"),
                    peer=column(results, "one", "cpu_us"),
                    note="peer: another waypoint process, which has none of them"))
    return rows


def memory_rows(ctx):
    memory = ctx.results.get("l7-memory")
    if not memory:
        return []
    rows = [row("l7-memory-idle", "memory of an idle waypoint (Pss, one worker)", "MB", "l7-memory",
                goal=8, ours=memory["idle_kb"]["Pss"] / 1024,
                note=f"Rss {memory['idle_kb']['Rss'] / 1024:.1f} MB")]
    for version, text in (("h1", "HTTP/1.1"), ("h2", "HTTP/2")):
        rows.append(row(f"l7-memory-{version}", f"idle {text} connection of a client, in a tunnel",
                        "KB", "l7-memory", goal=4, ours=memory[version]["kb"],
                        note=f"{memory[version]['count']} connections, after a request on each"))
    return rows


def reload_rows(ctx):
    r = ctx.results.get("l7-reload")
    if not r:
        return []
    return [
        row("l7-reload-p99", f"p99 at 1000/s while {r['services']} services and VirtualServices change, against "
            "quiet: upper end of the 95 % interval", "ratio", "l7-reload", goal=1.25,
            ours=r["p99_high"],
            note=f"{number(r['p99_ratio'])} ({number(r['p99_low'])}-{number(r['p99_high'])}), "
                 f"bootstrap over {r['pairs']} pairs of windows of {r['seconds']} s, one change in "
                 f"each second window; p99 {number(r['quiet_p99_us'])} us quiet, "
                 f"{number(r['reload_p99_us'])} us with the change, which takes "
                 f"{number(r['reload_cpu_s'] * 1e3)} ms of CPU, on the control thread"),
        row("l7-reload-turns", "worker's turns above 1 ms because of that change", "turns",
            "l7-reload", goal=0, ours=r["long_config_turns"],
            note="config_turn_seconds; all turns above 1 ms, also those that the machine held up "
                 f"(loop_turn_seconds): {r['long_turns']['reload']} in windows with a change, "
                 f"{r['long_turns']['quiet']} in as many quiet ones")]


def goal_rows(ctx):
    rows = plain_rows(ctx) + waypoint_rows(ctx) + route_rows(ctx) + memory_rows(ctx) + \
        reload_rows(ctx)
    for goal in rows:
        part = "l7-plain-1000" if "latency" in goal["id"] else goal["id"]
        part = "l7-routes" if part.startswith(("l7-routes", "l7-services")) else part
        results = ctx.results.get(part, {})
        goal["noise"] = noise(results) if isinstance(results, dict) else None
    return rows
