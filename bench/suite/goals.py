# SPDX-License-Identifier: Apache-2.0
"""The goal rows: each with the figure reached, its ratio R to the peer and F to the floor.

A row with a peer is met when R <= goal or F <= 1.15; the others when the figure <= goal.
"""

from .parts import aead
from .stats import median, ratio, spread

F_GOAL = 1.15


def column(results, name, *keys):
    values = []
    for round_ in results.get(name, ()):
        for key in keys:
            round_ = round_[key]
        values.append(round_)
    return values


def row(goal_id, figure, unit, part, *, goal, ours, peer=None, floor=None, floor_text="",
        note=""):
    """`ours`, `peer`, `floor` are lists of rounds or single numbers."""
    def as_list(values):
        return values if isinstance(values, list) else [] if values is None else [values]
    ours, peer, floor = as_list(ours), as_list(peer), as_list(floor)
    if floor and len(floor) != len(ours):
        floor = [median(floor)] * len(ours)
    r, r_low, r_high = ratio(ours, peer) if peer else (None, None, None)
    f, f_low, f_high = ratio(ours, floor) if floor else (None, None, None)
    value = median(ours)
    if value is None:
        met = None
    elif peer:
        met = r is not None and (r <= goal or (f is not None and f <= F_GOAL))
    elif floor:
        met = f <= goal
    else:
        met = value <= goal
    return {"id": goal_id, "figure": figure, "unit": unit, "ours": value,
            "ours_spread": spread(ours)[1:], "peer": median(peer), "floor": median(floor),
            "ratio": r, "ratio_spread": (r_low, r_high), "f": f, "f_spread": (f_low, f_high),
            "goal": goal, "met": met, "floor_is": floor_text, "note": note,
            "command": f"make bench BENCH={part}"}


def low_floor(with_aead, bare_pair):
    """Whichever floor is lower, round by round, is the one that counts."""
    if not bare_pair:
        return with_aead
    if not with_aead:
        return bare_pair
    return [min(a, b) for a, b in zip(with_aead, bare_pair)]


def bulk_rows(ctx):
    rows = []
    for streams in (1, 8):
        results = ctx.results.get(f"bulk-{streams}")
        if not results or "ztun" not in results:
            continue
        record = aead(ctx)[16384]
        crypto = (record["seal_ns"] + record["open_ns"]) / 16384  # s/GB
        relay = [v + crypto for v in column(results, "relay", "cpu_s_per_gb")]
        pair = column(results, "pair", "cpu_s_per_gb")
        rows.append(row(
            f"l4-bulk-{streams}", f"bulk, {streams} stream{'s' if streams > 1 else ''}, pair",
            "CPU s/GB", f"l4-bulk-{streams}", goal=0.55, ours=column(results, "ztun", "cpu_s_per_gb"),
            peer=column(results, "haproxy", "cpu_s_per_gb"), floor=low_floor(relay, pair),
            floor_text="lower of two relay hops + AEAD probe, bare pair"))
    return rows


def latency_row(results, point, goal):
    """Added latency is a difference: of the medians over the rounds, and so is its ratio. Rounds
    show the spread only. Where noise swallows a difference there is no verdict."""
    key = point + "_us"
    direct = column(results, "direct", "load", key)

    def added(name):
        values = column(results, name, "load", key)
        return median(values) - median(direct) if values and direct else None

    floors = [v for v in (added("relay"), added("pair")) if v is not None and v > 0]
    peer, ours = added("haproxy"), added("ztun")
    result = row(f"l4-latency-{point}", f"added latency at 1000/s, {point}", "us",
                 "l4-requests-1000", goal=goal, ours=ours, peer=peer,
                 floor=min(floors) if floors else None,
                 floor_text="lower of two relay hops, bare pair")
    if ours is None or ours <= 0 or peer is None or peer <= 0:
        result.update(met=None, note="the direct path moved more than the difference")
    return result


def request_rows(ctx):
    rows = []
    for key, goal, text in (("requests-1000", 0.65, "1 KB request, 1000/s open loop, pair"),
                            ("requests-saturated", 0.70, "1 KB request, saturated, pair")):
        results = ctx.results.get(key)
        if not results or "ztun" not in results:
            continue
        records = aead(ctx)  # the request of 128 bytes and the answer of 1024
        crypto = sum(records[size][k] for size in (256, 1024)
                     for k in ("seal_ns", "open_ns")) / 1e3
        relay = [v + crypto for v in column(results, "relay", "cpu_us")]
        pair = column(results, "pair", "cpu_us")
        rows.append(row(f"l4-{key}", text, "CPU us", f"l4-{key}", goal=goal,
                        ours=column(results, "ztun", "cpu_us"),
                        peer=column(results, "haproxy", "cpu_us"), floor=low_floor(relay, pair),
                        floor_text="lower of two relay hops + AEAD probe, bare pair"))
    results = ctx.results.get("requests-1000", {})
    for point, goal in (("p50", 0.80), ("p90", 0.75), ("p99", 0.75)):
        if "ztun" not in results:
            break
        rows.append(latency_row(results, point, goal))
    return rows


def connection_rows(ctx):
    rows = []
    results = ctx.results.get("flows")
    if results and "ztun" in results:
        flow = row("l4-flow-pooled", "new flow on a pooled tunnel, pair", "CPU us", "l4-flows",
                   goal=140, ours=column(results, "ztun", "cpu_us"),
                   note="stretch 120; two relay hops and HAProxy with its full handshakes are in "
                        "the table of the part")
        rows.append(flow)
    tunnels = ctx.results.get("tunnels")
    if not tunnels:
        return rows
    group = (tunnels["tls"] or {}).get("group")
    for i, side in enumerate(("client", "server")):
        rows.append(row(f"l4-tunnel-{side}", f"new tunnel, {side} side ({group})", "CPU us",
                        "l4-tunnels", goal=1.25, ours=[r["cpu_us"][i] for r in tunnels["rounds"]],
                        floor=[r["handshake"][side + "_us"] + r["bare_us"][i]
                               for r in tunnels["rounds"]],
                        floor_text="BoringSSL handshake of that group without chain check + bare "
                                   "accept/connect",
                        note=f"{tunnels['tunnels']} tunnels a round; a flow on a pooled tunnel "
                             "is taken off"))
    kb = [median([r["kb"][i] for r in tunnels["rounds"]]) for i in range(2)]
    rows.append(row("l4-memory-tunnel", "TLS tunnel, the larger half", "KB", "l4-tunnels",
                    goal=14, ours=max(kb),
                    note=f"{tunnels['tunnels']} tunnels; client half {kb[0]:.2f}, server half "
                         f"{kb[1]:.2f}"))
    return rows


def memory_rows(ctx):
    memory = ctx.results.get("memory")
    if not memory:
        return []
    pooled = memory["pooled"]
    back = max(a / b for a, b in zip(pooled["after_kb"], pooled["before_kb"]))
    return [
        row("l4-memory-idle", "memory of an idle ztun (Pss, alone on the machine)", "MB",
            "l4-memory", goal=6, ours=memory["idle_kb"]["Pss"] / 1024,
            note=f"Rss {memory['idle_kb']['Rss'] / 1024:.1f} MB"),
        row("l4-memory-flow", "idle tunnelled flow, the larger half", "KB", "l4-memory", goal=1.2,
            ours=max(pooled["kb"]), note=f"{pooled['count']} flows; client half "
                                         f"{pooled['kb'][0]:.2f}, server half "
                                         f"{pooled['kb'][1]:.2f}"),
        row("l4-memory-back", f"memory after {pooled['count']} flows closed, against before",
            "ratio", "l4-memory", goal=1.10, ours=back,
            note=f"scaled to the descriptor limit of {memory['fd_limit']}"),
    ]


def noise(results):
    """Median share of the machine that other programs used while a part ran."""
    return median([r["foreign_share"] for rounds in results.values() if isinstance(rounds, list)
                   for r in rounds if isinstance(r, dict) and "foreign_share" in r])


def goal_rows(ctx):
    rows = bulk_rows(ctx) + request_rows(ctx) + connection_rows(ctx) + memory_rows(ctx)
    for goal in rows:
        part = "requests-1000" if "latency" in goal["id"] else goal["id"][len("l4-"):]
        part = {"flow-pooled": "flows"}.get(part, part)
        goal["noise"] = noise(ctx.results.get(part, {}))
    return rows
