# SPDX-License-Identifier: Apache-2.0
"""Whether a run may be believed: the load generator and the server behind the proxies must not be
what limits, the machine has to be quiet, and a proxy against itself has to be even."""

from .stats import confidence, median, ranged, ratio, ratios

# A load generator or a server of one thread that is busy for longer than that is what limits.
BUSY_MAX = 0.95
RATE_MIN = 0.97
LATE_MAX = 0.25
CONTROL_MOVE_MAX = 0.15
FOREIGN_MAX = 0.10


def check_load(ctx, key, name, result, rate):
    """Keeps the worst of a series: shares of a core of the generator and of the server, both of
    which have one thread; of an open loop the rate reached and how late requests were sent."""
    load, wall = result["load"], result["wall_s"]
    seen = ctx.results.setdefault("load-checks", {}).setdefault(key, {}).setdefault(name, {
        "generator": 0.0, "server": 0.0, "proxy": 0.0, "rate": 1.0, "late": 0.0})
    seen["generator"] = max(seen["generator"], load["own_cpu_s"] / wall)
    seen["server"] = max(seen["server"], result["server_cpu_s"] / wall)
    seen["proxy"] = max([seen["proxy"], *[s / wall for s in result["cpu_halves_s"]]])
    if rate:
        seen["rate"] = min(seen["rate"], load["rate"] / rate)
        seen["late"] = max(seen["late"], load["send_late_p50_us"] / load["p50_us"])


def load_verdicts(results):
    """[{part, series, what, value, limit, ok}] of all parts with requests."""
    verdicts = []
    for key, by_name in results.get("load-checks", {}).items():
        for name, seen in by_name.items():
            if name.startswith("direct"):
                continue
            for what, value, limit, is_ok in (
                    ("load generator, share of a core", seen["generator"], BUSY_MAX,
                     seen["generator"] <= BUSY_MAX),
                    ("server, share of a core", seen["server"], BUSY_MAX,
                     seen["server"] <= BUSY_MAX),
                    ("rate reached over wanted", seen["rate"], RATE_MIN,
                     seen["rate"] >= RATE_MIN),
                    ("median lateness of sending over median latency", seen["late"], LATE_MAX,
                     seen["late"] <= LATE_MAX)):
                verdicts.append({"part": key, "series": name, "what": what, "value": value,
                                 "limit": limit, "ok": is_ok})
    return verdicts


def self_verdicts(results):
    verdicts = []
    for what, part in results.get("self", {}).items():
        r = ratio(part["a"], part["b"])
        n = len(ratios(part["a"], part["b"]))
        verdicts.append({"part": "self", "series": part["series"], "what": what, "value": r[0],
                         "range": r[1:], "rounds": n, "confidence": confidence(n),
                         "ok": r[1] <= 1 <= r[2]})
    return verdicts


def control_verdicts(results):
    """The direct path is the control: it says how quiet the machine was."""
    verdicts = []
    for key, part in results.items():
        if not isinstance(part, dict) or "-bulk-" not in key and "-requests-" not in key:
            continue
        for name in ("direct", "direct-node"):
            rounds = part.get(name)
            if not isinstance(rounds, list) or len(rounds) < 2:
                continue
            values = [r["gbit_s"] if "gbit_s" in r else r["load"]["rate"] for r in rounds]
            move = (max(values) - min(values)) / median(values)
            verdicts.append({"part": key, "series": name, "what": "movement of the direct path",
                             "value": move, "limit": CONTROL_MOVE_MAX,
                             "ok": move <= CONTROL_MOVE_MAX})
    return verdicts


def noise_verdicts(results):
    shares = [r["foreign_share"] for part in results.values() if isinstance(part, dict)
              for rounds in part.values() if isinstance(rounds, list)
              for r in rounds if isinstance(r, dict) and "foreign_share" in r]
    if not shares:
        return []
    return [{"part": "all", "series": "-", "what": "share of the machine that other programs used",
             "value": median(shares), "limit": FOREIGN_MAX, "ok": median(shares) <= FOREIGN_MAX}]


def xds_verdicts(results):
    """The stand-in for istiod has one thread for a client."""
    loads = results.get("scale-xds", {}).get("loads", [])
    if not loads:
        return []
    share = max(load["server_cpu_s"] / load["seconds"] for load in loads)
    return [{"part": "scale-xds", "series": "ztun", "what": "xDS server, share of a core",
             "value": share, "limit": BUSY_MAX, "ok": share <= BUSY_MAX}]


def verdicts(results):
    return self_verdicts(results) + noise_verdicts(results) + control_verdicts(results) + \
        load_verdicts(results) + xds_verdicts(results)


def self_line(verdict):
    low, high = verdict["range"]
    is_even = "even" if verdict["ok"] else "**not even**"
    return (f"- Self-check, {verdict['series']} against itself, {verdict['what']}: "
            f"{ranged((verdict['value'], low, high))}, {verdict['rounds']} rounds: {is_even}; 1 has "
            f"to be in that range, which holds the true ratio with {verdict['confidence'] * 100:.0f} "
            "%.")
