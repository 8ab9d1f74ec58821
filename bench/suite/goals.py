# SPDX-License-Identifier: Apache-2.0
"""The goal rows of L4, and how a row is made: the figure reached, its ratio R to the peer and F to
the floor.

A row with a peer is met when R <= goal or F <= 1.15, one with a floor alone when F <= goal; the
others when the figure is on the right side of the goal.
"""

import os

from . import catalogue
from .parts import aead
from .stats import median, number, ratio, rounds, spread
from .windows import span

F_GOAL = 1.15
POINTS = ("p50", "p90", "p99")


def column(results, name, *keys):
    values = []
    for round_ in results.get(name, ()):
        for key in keys:
            round_ = round_[key]
        values.append(round_)
    return values


def as_list(values):
    return values if isinstance(values, list) else [] if values is None else [values]


def verdict(goal, value, r, f):
    if goal.by == "R":
        if r is None:
            return None
        return r <= goal.goal or (f is not None and f <= F_GOAL)
    if goal.by == "F":
        return None if f is None else f <= goal.goal
    if value is None:
        return None
    return value >= goal.goal if goal.by == "share" else value <= goal.goal


def wanted(goal):
    return {"R": f"R <= {goal.goal}", "F": f"F <= {goal.goal}", "value": f"<= {goal.goal}",
            "share": f">= {goal.goal}"}[goal.by]


def command(goal):
    binary = "ZTUNNEL_BIN=... " if goal.peer == catalogue.ZTUNNEL else ""
    return f"{binary}make bench BENCH={goal.part}"


def row(goal_id, *, ours, peer=None, floor=None, note="", noise=None):
    """`ours`, `peer`, `floor` are lists of measurements or single numbers."""
    goal = catalogue.BY_ID[goal_id]
    ours, peer, floor = as_list(ours), as_list(peer), as_list(floor)
    if floor and len(floor) != len(ours):
        floor = [median(floor)] * len(ours)
    r, r_low, r_high = ratio(ours, peer) if peer else (None, None, None)
    f, f_low, f_high = ratio(ours, floor) if floor else (None, None, None)
    value = median(ours)
    return {"id": goal_id, "line": goal.line, "figure": goal.figure, "unit": goal.unit,
            "ours": value, "ours_spread": spread(rounds(ours))[1:], "peer": median(peer),
            "peer_is": goal.peer, "floor": median(floor), "floor_is": goal.floor, "ratio": r,
            "ratio_spread": (r_low, r_high), "f": f, "f_spread": (f_low, f_high),
            "rounds": len(rounds(ours)), "goal": goal.goal, "by": goal.by, "wanted": wanted(goal),
            "met": verdict(goal, value, r, f), "note": note, "noise": noise,
            "command": command(goal)}


def not_measured(goal, reason):
    return dict(row(goal.id, ours=None), note=f"not measured: {reason}")


def low_floor(with_aead, bare_pair):
    """Whichever floor is lower, round by round, is the one that counts."""
    if not bare_pair:
        return with_aead
    if not with_aead:
        return bare_pair
    return [min(a, b) for a, b in zip(with_aead, bare_pair)]


def noise(results):
    """Median share of the machine that other programs used while a part ran."""
    return median([r["foreign_share"] for rounds_ in results.values() if isinstance(rounds_, list)
                   for r in rounds_ if isinstance(r, dict) and "foreign_share" in r])


# ---- Traffic -------------------------------------------------------------------------------------

# topology: (peer, AEAD of the probe, names of our series and of the relays)
TOPOLOGIES = {"l4": ("haproxy", "aes_128_gcm", "ztun", "relay"),
              "node": ("ztunnel", "aes_256_gcm", "ztun-node", "relay-node")}


def floor_of(results, relay_name, key, crypto):
    relay = [v + crypto for v in column(results, relay_name, key)]
    return low_floor(relay, column(results, "pair", key))


def bulk_rows(ctx):
    for topology, (peer, suite, ours, relay) in TOPOLOGIES.items():
        for streams in (1, 8):
            part = f"{topology}-bulk-{streams}"
            results = ctx.results.get(part, {})
            if ours not in results:
                continue
            record = aead(ctx, suite)[16384]
            crypto = (record["seal_ns"] + record["open_ns"]) / 16384  # s/GB
            yield row(part, ours=column(results, ours, "cpu_s_per_gb"),
                      peer=column(results, peer, "cpu_s_per_gb"),
                      floor=floor_of(results, relay, "cpu_s_per_gb", crypto),
                      noise=noise(results))
            if topology == "l4" and relay in results:
                share = ratio(column(results, ours, "gbit_s"), column(results, relay, "gbit_s"))
                yield row(f"{part}-share", ours=share[0], noise=noise(results),
                          note=f"{number(share[1])}-{number(share[2])}")


def latency_row(results, goal_id, point, names, peers, floors):
    """Added latency is a difference: of the medians over the rounds, and so is its ratio. Rounds
    show the spread only. Where noise swallows a difference there is no verdict."""
    key = point + "_us"

    def added(name):
        values = column(results, name, "load", key)
        return median(values) - median(column(results, names[1], "load", key)) if values else None

    lows = [v for v in map(added, floors) if v is not None and v > 0]
    tops = [v for v in map(added, peers) if v is not None]
    ours, peer = added(names[0]), min(tops) if tops else None
    made = row(goal_id, ours=ours, peer=peer, floor=min(lows) if lows else None,
               noise=noise(results))
    if ours is None or ours <= 0 or (peer is not None and peer <= 0):
        made.update(met=None, note="the direct path moved more than the difference")
    return made


def request_rows(ctx):
    for topology, (peer, suite, ours, relay) in TOPOLOGIES.items():
        for load in ("1000", "saturated"):
            part = f"{topology}-requests-{load}"
            results = ctx.results.get(part, {})
            if ours not in results:
                continue
            records = aead(ctx, suite)  # the request of 128 bytes and the answer of 1024
            crypto = sum(records[size][k] for size in (256, 1024)
                         for k in ("seal_ns", "open_ns")) / 1e3
            yield row(part, ours=column(results, ours, "cpu_us"),
                      peer=column(results, peer, "cpu_us"),
                      floor=floor_of(results, relay, "cpu_us", crypto), noise=noise(results))
        results = ctx.results.get(f"{topology}-requests-1000", {})
        direct = "direct" if topology == "l4" else "direct-node"
        if ours in results and direct in results:
            for point in POINTS:
                yield latency_row(results, f"{topology}-latency-{point}", point, (ours, direct),
                                  [peer], [relay, "pair"])


# ---- Connections ---------------------------------------------------------------------------------

def flow_rows(ctx):
    for part, goal_id, ours in (("l4-flows", "l4-flow-pooled", "ztun"),
                                ("node-flows", "node-flow-pooled", "ztun-node")):
        results = ctx.results.get(part, {})
        if ours in results:
            yield row(goal_id, ours=column(results, ours, "cpu_us"),
                      peer=column(results, "ztunnel", "cpu_us"), noise=noise(results),
                      note="stretch 120; relays and HAProxy with its full handshakes are in the "
                           "table of the part" if part == "l4-flows" else "")


def tunnel_rows(ctx):
    tunnels = ctx.results.get("l4-tunnels")
    if not tunnels:
        return
    group = (tunnels["tls"] or {}).get("group")
    suffix = {"X25519MLKEM768": "", "X25519": "-x25519"}.get(group)
    for i, side in enumerate(("client", "server")):
        if suffix is None:
            break
        yield row(f"l4-tunnel-{side}{suffix}", ours=[r["cpu_us"][i] for r in tunnels["rounds"]],
                  floor=[r["handshake"][side + "_us"] + r["bare_us"][i]
                         for r in tunnels["rounds"]],
                  note=f"{tunnels['tunnels']} tunnels a round; a flow on a pooled tunnel is "
                       "taken off")
    yield row("l4-tunnel-client-x25519", ours=[r["x25519_client_us"] for r in tunnels["rounds"]],
              floor=[r["x25519_handshake"]["client_us"] + r["bare_us"][0]
                     for r in tunnels["rounds"]],
              note="to a server that has no other group, which a tunnel before has shown: one key "
                   "share; a flow on a pooled tunnel is taken off")
    yield row("l4-tunnel-server-x25519", ours=[r["x25519_server_us"] for r in tunnels["rounds"]],
              floor=[r["x25519_handshake"]["server_us"] + r["bare_us"][1]
                     for r in tunnels["rounds"]],
              note="from a client that has no other group, up to SETTINGS; its end is in it")
    kb = [median([r["kb"][i] for r in tunnels["rounds"]]) for i in range(2)]
    yield row("l4-memory-tunnel", ours=max(kb),
              note=f"{tunnels['tunnels']} tunnels; client half {number(kb[0])}, server half "
                   f"{number(kb[1])}")


STALL_MAX_US = 1000  # a program alone on a core of two wakes in a tenth of it


def is_disturbed(machine):
    """The stall probe, in windows in which one core is enough for all of the suite: others had the
    cores for a millisecond and more."""
    return machine["probe_long"]["quiet"] > 0 or \
        machine["probe_late_p99_us"]["quiet"] > STALL_MAX_US


def quiet_and_storm(values, unit=""):
    return f"{number(values['quiet'])} and {number(values['event'])}{unit}"


def storm_words(name, one):
    machine = one["machine"]
    return (f"{name}: p99 {span(one)}, bare relays beside the same storm {span(one['relay'])}; "
            f"handshakes took {number(one['core_share'] * 100)} % of a core of the side that is "
            f"dialled; the worker was ready without a core for "
            f"{quiet_and_storm(machine['run_delay_s'], ' s')} (quiet, storm), the host took "
            f"{quiet_and_storm(machine['steal_s'], ' s')}, a program that only computes woke late "
            f"by {quiet_and_storm(machine['probe_late_p99_us'], ' us')} (p99)")


def turn_words(name, one):
    return (f"{name}: by CPU time {quiet_and_storm(one['turns_cpu'])} (quiet, storm), by the clock "
            f"{quiet_and_storm(one['turns'])}; a program that only computes had "
            f"{quiet_and_storm(one['machine']['probe_long'])} bursts of more than 1 ms above their "
            f"work, by CPU time {quiet_and_storm(one['machine']['probe_long_cpu'])}")


def storm_rows(ctx):
    storm = ctx.results.get("l4-storm")
    if not storm:
        return
    normal, real_time = storm["normal"], storm.get("real_time")
    runs = [("among other programs", normal)] + \
        ([("with precedence", real_time)] if real_time else [])
    alone = real_time is not None and is_disturbed(normal["machine"])
    counts = real_time if alone else normal
    which = "the second counts: others had the cores" if alone else "the first counts"
    p99 = row("l4-storm-p99", ours=counts["p99_ratio"],
              note="; ".join([*(storm_words(*run) for run in runs), which]))
    if not p99["met"] and counts["relay"]["p99_ratio"] > p99["goal"]:
        p99.update(met=None, note=p99["note"] + "; no verdict: the storm does as much to flows that "
                                                "no proxy carries")
    yield p99
    yield row("l4-storm-turns",
              ours=sum(one["turns_cpu"]["event"] - one["turns_cpu"]["quiet"] for _, one in runs),
              note="; ".join(turn_words(*run) for run in runs))
    yield row("l4-memory-storm",
              ours=max(a / b for _, one in runs for a, b in zip(one["after_kb"], one["before_kb"])),
              note="; ".join(f"Pss {one['before_kb']} kB before, {one['after_kb']} kB after"
                             for _, one in runs))


def memory_rows(ctx):
    memory = ctx.results.get("l4-memory")
    if memory:
        top = memory["waves"][-1]
        back = max(a / b for a, b in zip(memory["after_kb"], memory["before_kb"]))
        yield row("l4-memory-idle", ours=memory["idle_kb"]["Pss"] / 1024,
                  note=f"Pss; Rss {memory['idle_kb']['Rss'] / 1024:.1f} MB")
        yield row("l4-memory-flow", ours=max(top["kb"]),
                  note=f"{top['count']} flows; client half {number(top['kb'][0])}, server half "
                       f"{number(top['kb'][1])}")
        yield row("l4-memory-back", ours=back,
                  note=f"{top['count']} flows, scaled to the descriptor limit of "
                       f"{memory['fd_limit']}")
    workloads = ctx.results.get("l4-workloads")
    if workloads:
        yield row("l4-memory-workloads",
                  ours=(workloads["with_kb"] - workloads["without_kb"]) / 1024,
                  note=f"Pss {workloads['without_kb']} kB without, {workloads['with_kb']} kB with; "
                       "objects, snapshot and what the loading left behind")
        yield row("l4-memory-workloads-xds",
                  ours=(workloads["xds_with_kb"] - workloads["xds_without_kb"]) / 1024,
                  note=f"Pss {workloads['xds_without_kb']} kB before, {workloads['xds_with_kb']} kB "
                       "after, in one process")


def drain_rows(ctx):
    drain = ctx.results.get("l4-drain")
    if drain:
        yield row("l4-drain-failed", ours=sum(drain["failed"].values()),
                  note=f"of {drain['requests']}: {drain['failed']}")


def p99_beside_change(goal_id, seen, note):
    """No verdict where programs that only compute for as long do as much to the flows."""
    made = row(goal_id, ours=seen["p99_high"], note=note)
    machine = seen.get("machine")
    if machine:
        made["note"] += (f"; {span(machine)} where programs that only compute take the place of the "
                         f"change, for as long ({number(seen['change_cpu_s'] * 1e3)} ms)")
        at_most = F_GOAL * machine["p99_high"]
        if not made["met"] and made["ours"] <= at_most and machine["p99_high"] > made["goal"]:
            made.update(met=None, note=made["note"] + "; no verdict: they do as much")
    return made


def changing_rows(seen, prefix):
    """Traffic beside changes."""
    yield p99_beside_change(f"{prefix}-p99", seen,
                            f"{number(seen['p99_ratio'])} ({number(seen['p99_low'])}-"
                            f"{number(seen['p99_high'])}) over {seen['pairs']} pairs of windows")
    yield row(f"{prefix}-turns", ours=seen["long_config_turns"],
              note=f"config_turn_seconds; all turns: {seen['long_turns']}")


def xds_rows(ctx):
    seen = ctx.results.get("scale-xds")
    if not seen:
        return
    loads, probe = seen["loads"], seen["probe"]
    yield row("scale-xds", ours=seen["cpu_s"],
              note=f"median of {len(loads)} processes, HTTP/2 and TLS included; from bytes to root "
                   f"alone {number(probe['load_cpu_s'])} s; {number(seen['pss_kb'] / 1024)} MB; of "
                   f"{number(loads[-1]['seconds'])} s the server worked "
                   f"{number(loads[-1]['server_cpu_s'])}")
    yield row("scale-xds-change", ours=probe["change_us"] / 1e3,
              note=f"CPU; worst of {probe['changes']}: {number(probe['change_max_us'] / 1e3)} ms; "
                   f"acknowledged {number(seen['change_us'] / 1e3)} ms after it was sent (median)")
    yield from changing_rows(seen, "scale-xds")


def scale_rows(ctx):
    build, traffic = ctx.results.get("scale-build"), ctx.results.get("scale-traffic")
    if build:
        yield row("scale-publish", ours=build["publish_cpu_s"],
                  note=f"{build['services']} services, {build['endpoints']} endpoints, "
                       f"{number(build['bytes_kb'] / 1024)} MB with the objects")
        yield row("scale-yaml", ours=build["load_cpu_s"] / build["libyaml_cpu_s"],
                  note=f"{number(build['load_cpu_s'])} s over {number(build['libyaml_cpu_s'])} s")
        yield row("scale-change", ours=build["change_us"] / 1e3,
                  note=f"worst of {build['changes']}: {number(build['change_max_us'] / 1e3)} ms")
    if traffic:
        yield from changing_rows(traffic, "scale")


MAKERS = (bulk_rows, request_rows, flow_rows, tunnel_rows, storm_rows, memory_rows, drain_rows,
          scale_rows, xds_rows)


def reason(ctx, goal, parts_run):
    """Why there is no figure."""
    if goal.id in ctx.reasons or goal.part in ctx.reasons:
        return ctx.reasons.get(goal.id) or ctx.reasons[goal.part]
    if goal.peer == catalogue.ZTUNNEL and not os.environ.get("ZTUNNEL_BIN"):
        return "ZTUNNEL_BIN names no binary"
    if goal.part not in parts_run:
        return "not a part of this run"
    return "the part failed"


def peer_goals(name):
    """Goals that have no ratio without that series."""
    peers = {"haproxy": catalogue.HAPROXY, "ztunnel": catalogue.ZTUNNEL,
             "envoy": catalogue.ENVOY}
    return [goal.id for goal in catalogue.GOALS if goal.peer and goal.peer == peers.get(name)]


def goal_rows(ctx, more_makers, parts_run):
    """A row for every goal, in the order of the catalogue."""
    made = {r["id"]: r for maker in (*MAKERS, *more_makers) for r in maker(ctx)}
    rows = []
    for goal in catalogue.GOALS:
        has = made.get(goal.id)
        if has is None:
            has = not_measured(goal, reason(ctx, goal, parts_run))
        elif goal.by == "R" and has["peer"] is None:
            has["note"] = "; ".join(t for t in (
                f"no ratio: {ctx.reasons.get(goal.id) or ctx.reasons.get(goal.part) or 'the peer was left out'}",
                has["note"]) if t)
        rows.append(has)
    return rows
