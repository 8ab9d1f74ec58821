# SPDX-License-Identifier: Apache-2.0
"""Every goal of the data plane, whether a run measures it or not, so that a report cannot leave out
the ones that it misses."""

from collections import namedtuple

# `by`: what is compared with `goal`: R ours / peer (or F, see goals.py), F ours / floor, `value` the
# figure itself, `share` the figure, of which more is better.
Goal = namedtuple("Goal", "id line figure unit by goal part peer floor",
                  defaults=("", ""))

# The lines of the table of goals.
LINES = {
    1: "mTLS tunnel, bulk",
    2: "1 KB requests through the tunnel",
    3: "added latency at 1000/s",
    4: "new tunnels and new flows",
    5: "handshake storm that takes 25 % of one core",
    6: "memory",
    7: "waypoint, CPU per request",
    8: "10 000 services, 100 000 endpoints",
    9: "further",
}

HAPROXY, ZTUNNEL, ENVOY = "HAProxy pair", "ztunnel", "Envoy as a waypoint"
LOW_FLOOR = "lower of two relay hops + AEAD probe, bare pair"
NODE_FLOOR = "two relay hops in the pods + AEAD probe"
HANDSHAKE_FLOOR = "BoringSSL handshake of that group without chain check + bare accept/connect"


def bulk_goals():
    for streams in (1, 8):
        text = f"bulk, {streams} stream{'s' if streams > 1 else ''}"
        part = f"l4-bulk-{streams}"
        yield Goal(part, 1, f"{text}, pair", "CPU s/GB", "R", 0.55, part, HAPROXY, LOW_FLOOR)
        yield Goal(f"{part}-share", 1, f"{text}, throughput in the tunnel over that of two bare "
                   "relays on our runtime", "ratio", "share", 0.85, part)
        part = f"node-bulk-{streams}"
        yield Goal(part, 1, f"{text}, one node", "CPU s/GB", "R", 0.45, part, ZTUNNEL, NODE_FLOOR)


def request_goals():
    for load, text, wanted in (("1000", "1000/s open loop", (0.65, 0.70)),
                               ("saturated", "saturated", (0.70, 0.52))):
        part = f"l4-requests-{load}"
        yield Goal(part, 2, f"1 KB request, {text}, pair", "CPU us", "R", wanted[0], part, HAPROXY,
                   LOW_FLOOR)
        part = f"node-requests-{load}"
        yield Goal(part, 2, f"1 KB request, {text}, one node", "CPU us", "R", wanted[1], part,
                   ZTUNNEL, NODE_FLOOR)
    for topology, peer, wanted in (("l4", HAPROXY, (0.80, 0.75, 0.75)),
                                   ("node", ZTUNNEL, (0.75, 0.65, 0.65))):
        where = "pair" if topology == "l4" else "one node"
        for point, goal in zip(("p50", "p90", "p99"), wanted):
            yield Goal(f"{topology}-latency-{point}", 3, f"added latency, {point}, {where}", "us",
                       "R", goal, f"{topology}-requests-1000", peer,
                       "lower of two relay hops, bare pair" if topology == "l4"
                       else "two relay hops in the pods")


def connection_goals():
    for group in ("X25519MLKEM768", "X25519"):
        for side in ("client", "server"):
            yield Goal(f"l4-tunnel-{side}" + ("-x25519" if group == "X25519" else ""), 4,
                       f"new tunnel, {side} side, {group}", "CPU us", "F", 1.25, "l4-tunnels", "",
                       HANDSHAKE_FLOOR)
    yield Goal("l4-flow-pooled", 4, "new flow on a pooled tunnel, pair", "CPU us", "value", 140,
               "l4-flows")
    yield Goal("node-flow-pooled", 4, "new flow on a pooled tunnel, one node", "CPU us", "R", 0.65,
               "node-flows", ZTUNNEL)
    yield Goal("l4-storm-turns", 5, "loop turns that compute for more than 1.5 ms (1 ms and a handshake "
               "step), more than in as many quiet seconds", "turns", "value", 0, "l4-storm")
    yield Goal("l4-storm-p99", 5, "p99 of running flows over that of quiet", "ratio", "value", 1.3,
               "l4-storm")


def memory_goals():
    for goal_id, text, unit, goal, part in (
            ("l4-memory-idle", "an idle ztun, alone on the machine", "MB", 6, "l4-memory"),
            ("l4-memory-flow", "idle tunnelled flow, the larger half", "KB", 1.2, "l4-memory"),
            ("l4-memory-tunnel", "TLS tunnel, the larger half", "KB", 14, "l4-tunnels"),
            ("l4-memory-workloads", "10 000 workloads, more than without", "MB", 6,
             "l4-workloads"),
            ("l4-memory-workloads-xds", "the same from istiod", "MB", 6, "l4-workloads"),
            ("l4-memory-back", "after the idle flows closed, over before", "ratio", 1.10,
             "l4-memory"),
            ("l4-memory-storm", "after the handshake storm, over before", "ratio", 1.10,
             "l4-storm")):
        yield Goal(goal_id, 6, text, unit, "value", goal, part)


def waypoint_goals():
    for load, text in (("1000", "1000/s open loop"), ("saturated", "saturated")):
        part = f"l7-plain-{load}"
        yield Goal(part, 7, f"HTTP/1.1 request, plain reverse proxy, {text}", "CPU us", "R", 0.85,
                   part, "the better of HAProxy and nginx in each round")
        part = f"l7-waypoint-{load}"
        yield Goal(part, 7, f"HTTP/1.1 request, waypoint alone, HBONE on both sides, {text}",
                   "CPU us", "R", 0.35, part, ENVOY)


def scale_goals():
    for goal_id, text, unit, goal, part in (
            ("scale-publish", "decoded objects to published root", "CPU s", 0.4, "scale-build"),
            ("scale-xds", "the same objects by xDS", "CPU s", 0.6, "scale-xds"),
            ("scale-yaml", "from YAML, over libyaml's own event parse of the text", "ratio", 1.2,
             "scale-build"),
            ("scale-change", "one change to its effect, after its batch", "ms", 1, "scale-build"),
            ("scale-turns", "worker's turns above 1 ms because of changes", "turns", 0,
             "scale-traffic"),
            ("scale-p99", "p99 while changing over quiet, upper end of the 95 % interval", "ratio",
             1.25, "scale-traffic"),
            ("scale-xds-change", "one change by xDS, from its bytes to its effect", "ms", 1,
             "scale-xds"),
            ("scale-xds-turns", "worker's turns above 1 ms because of changes by xDS", "turns", 0,
             "scale-xds"),
            ("scale-xds-p99", "p99 while changing by xDS over quiet, upper end of the 95 % "
             "interval", "ratio", 1.25, "scale-xds")):
        yield Goal(goal_id, 8, text, unit, "value", goal, part)


def further_goals():
    for point in ("p50", "p99"):
        yield Goal(f"l7-latency-{point}", 9, "added latency of a plain reverse proxy at 1000/s, "
                   + point, "us", "R", 0.9, "l7-plain-1000", "the better of HAProxy and nginx")
    for goal_id, text, unit, goal, part in (
            ("l7-routes-exact", "request with 10 000 exact rules, over one rule", "ratio", 1.05,
             "l7-routes"),
            ("l7-routes-prefix", "request with 10 000 prefix rules, over one rule", "ratio", 1.05,
             "l7-routes"),
            ("l7-routes-regex", "1000 regular expressions, more than one prefix rule", "CPU us", 5,
             "l7-routes"),
            ("l7-memory-idle", "an idle waypoint (Pss, one worker)", "MB", 8, "l7-memory"),
            ("l7-memory-h1", "idle HTTP/1.1 connection of a client, in a tunnel", "KB", 4,
             "l7-memory"),
            ("l7-memory-h2", "idle HTTP/2 connection of a client, in a tunnel", "KB", 4,
             "l7-memory"),
            ("l7-reload-p99", "p99 at 1000/s while 1000 services and VirtualServices change, over "
             "quiet, upper end of the 95 % interval", "ratio", 1.25, "l7-reload"),
            ("l7-reload-turns", "worker's turns above 1 ms because of that change", "turns", 0,
             "l7-reload"),
            ("l4-drain-failed", "failed requests while ztun reloads, and while a successor takes "
             "over", "requests", 0, "l4-drain")):
        yield Goal(goal_id, 9, text, unit, "value", goal, part)
    yield Goal("l7-services", 9, "request beside 1000 other VirtualServices, over none", "CPU us",
               "R", 1.05, "l7-routes", "another waypoint process, which has none of them")


GOALS = [*bulk_goals(), *request_goals(), *connection_goals(), *memory_goals(), *waypoint_goals(),
         *scale_goals(), *further_goals()]
BY_ID = {goal.id: goal for goal in GOALS}
