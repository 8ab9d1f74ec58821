# SPDX-License-Identifier: Apache-2.0
"""More rows of istio-tutorial: who gets which version, in which order, and the way out of the mesh."""

import re
import time

from row import row, version
from rows import C, RECOMMENDATION
from rows_security import RESET
from stats import Share, ShareAfter, Turns

E = C + "egress/"
V2_SLOW = "quay.io/rhdevelopers/istio-tutorial-recommendation:v2-timeout"
OVERFLOW = ("customer => Error: 503 - preference => Error: 503 - upstream connect error or "
            "disconnect/reset before headers. {} overflow")
FIRST, RETRIED = "reset reason:", "retried and the latest reset reason:"

HUNDREDTH = Share(0.01, 0.0, 0.02)
HALF = Share(0.5, 0.4, 0.6)
REPEATED = Share(0.5, 0.0, 0.4, 0.6)  # the same version as the one before; strict turns: never
BUSY = ShareAfter(100, 1000, 0.25, 0.5)
HALF_DELAYED = Share(0.5, 0.3, 0.7)
THREE_TENTHS_DELAYED = Share(0.3, 0.1, 0.5)
HALF_FAILING = Share(0.5, 0.3, 0.7)
TURNS = Turns(120)


def seen_by(r, what, wanted, *curl, n=10, host="customer:8080"):
    versions = sorted(set(map(version, r.requests(n, host, *curl))))
    r.check(f"{what}: {versions}", versions == [wanted])


def misbehave(r):
    """One pod of v2, none that is just replaced, answers 503 from now on."""
    out = r.run("get", "pods", "-n", r.ns, "-l", "app=recommendation,version=v2")
    pod = next(line.split()[0] for line in out.splitlines() if " Running " in line)
    r.run("exec", "-n", r.ns, pod, "-c", "recommendation", "--", "curl", "-s",
          "localhost:8080/misbehave")


def at_once(r, n, users):
    """Requests to recommendation from so many users: answers, and (seconds, code) each."""
    out = r.requests(n, RECOMMENDATION, "--parallel", "--parallel-immediate", "--parallel-max", users,
                     "-w", "%{time_total} %{http_code}\\n")
    times = [line.split() for line in out if re.fullmatch(r"[\d.]+ \d{3}", line)]
    return ([line for line in out if line.startswith("recommendation ")],
            [(float(seconds), int(code)) for seconds, code in times])


@row("canary-99-1", "canary-99-1.yaml", "a hundredth from v2")
def canary_99_1(r):
    r.apply(C + "destination-rule.yaml", C + "canary-99-1.yaml")
    r.requests(6)
    lines, _ = at_once(r, HUNDREDTH.n, 8)
    r.share(lines, "recommendation v2", HUNDREDTH)


@row("mobile", "mobile.yaml", "mobile browsers get v2, all others v1")
def mobile(r):
    r.apply(C + "destination-rule.yaml", C + "mobile.yaml")
    for agent, wanted in (("Mozilla/5.0 (iPhone) Version/12.0 Mobile/15E148 Safari/604.1", "v2"),
                          ("Mozilla/5.0 (Android 9; Mobile; rv:63.0) Firefox/63.0", "v2"),
                          ("Mozilla/5.0 (Macintosh) Version/12.0 Safari/605.1.15", "v1"),
                          ("curl/7.88.1", "v1")):
        seen_by(r, agent, wanted, "-A", agent)


@row("uri-prefix", "uri-prefix.yaml", "/v2/ is v2, all else v1")
def uri_prefix(r):
    r.apply(C + "destination-rule.yaml", C + "uri-prefix.yaml")
    for path, wanted in (("/v2/", "v2"), ("/", "v1")):
        seen_by(r, path, wanted, host=RECOMMENDATION + path)
    out = r.curl("-o", "/dev/null", "-w", "%{http_code}", "http://recommendation:8080/v2").strip()
    r.check(f"/v2: {out}, v1 does not know it", out == "404")


@row("other-service", "other-service.yaml", "staff is answered by another Service, with v2; others by v1")
def other_service(r):
    r.apply(C + "destination-rule.yaml", C + "other-service.yaml")
    seen_by(r, "x-staff: true", "v2", "-H", "x-staff: true", host=RECOMMENDATION)
    seen_by(r, "anybody", "v1", host=RECOMMENDATION)
    log = r.log("deployment/waypoint", show=2, grep="|http|recommendation-next.tutorial")
    n = len(log.splitlines())
    r.check(f"{n} requests at recommendation-next", n == 10)


@row("round-robin-fresh", "round-robin.yaml; a connection for each request, from two nodes",
     "strict turns, whoever of the waypoint's two workers has the connection",
     waypoint=["--workers=2"])
def round_robin_fresh(r):
    r.apply(C + "round-robin.yaml")
    turns = ""
    for pod in ("client", "deployment/customer", "client"):
        lines = r.run("exec", "-n", r.ns, pod, "--", "curl", "-s", "-H", "Connection: close",
                      f"http://{RECOMMENDATION}/?n=[1-{TURNS.n // 3}]").splitlines()
        turns += "".join(version(line)[-1] for line in lines)
    r.check(f"turns {turns[:12]}..., {len(turns)} requests", TURNS.accepts(turns))
    log = r.log("deployment/waypoint", show=2, grep='"GET /?n=1 ')
    where = r.run("get", "pods", "-n", r.ns, "-o", "wide")
    nodes = {re.search(rf" {re.escape(address)} +(\S+)", where).group(1)
             for address in re.findall(r" (\d+\.\d+\.\d+\.\d+):\d+ - default", log)}
    r.check(f"from {sorted(nodes)}", len(nodes) == 2)


@row("least-request", "least-request.yaml; then v2 with 3 s, under load",
     "idle: by chance; busy: the slow pod gets the quarter of draws that name it twice")
def least_request(r):
    r.apply(C + "least-request.yaml")
    lines = r.requests(HALF.n + 1, RECOMMENDATION)
    r.share(lines[1:], "recommendation v2", HALF)
    r.share(["same" if version(a) == version(b) else "other" for a, b in zip(lines, lines[1:])],
            "same", REPEATED)
    r.image("recommendation-v2", V2_SLOW)
    # The first hundred come at once and may go anywhere; from then on v2 has more to do.
    lines, _ = at_once(r, BUSY.n, BUSY.first)
    hits = sum(version(line) == "v2" for line in lines)
    low, high = BUSY.bounds()
    r.check(f"busy: v2 {hits} of {len(lines)}, {low} to {high} allowed",
            len(lines) == BUSY.n and BUSY.accepts(hits))


@row("mirror-trouble", "mirror.yaml with v2 slow, failing, gone",
     "20 of 20 from v1 at once, whatever becomes of the 20 copies")
def mirror_trouble(r):
    r.apply(C + "destination-rule.yaml", C + "mirror.yaml")

    def ask(what, copies):
        r.settle()
        begin = time.monotonic()
        lines = r.requests(20)
        n = sum(version(x) == "v1" for x in lines)
        seconds = time.monotonic() - begin
        r.check(f"v2 {what}: {n} of {len(lines)} from v1 in {seconds:.1f} s",
                n == len(lines) == 20 and seconds < 3)
        n, deadline = 0, time.monotonic() + 10
        while copies and n < copies and time.monotonic() < deadline:
            log = r.log("deployment/recommendation-v2", show=4)
            n = len(re.findall(r"recommendation request .* Host recommendation-shadow:8080", log))
        if copies:
            r.check(f"{n} copies at v2 so far", n == copies)
    r.image("recommendation-v2", V2_SLOW)
    ask("slow", 20)
    misbehave(r)
    ask("failing", 40)
    r.run("scale", "deployment/recommendation-v2", "-n", r.ns, "--replicas", 0)
    ask("gone", 0)


def delays(r, share):
    answers, timed = at_once(r, share.n, 200)
    times = [seconds for seconds, code in timed if code == 200]
    r.check(f"{len(times)} of {share.n} with 200", len(answers) == len(times) == share.n)
    kinds = [next((s for s in (0, 3, 7, 10) if s <= t < s + 2.5), None) for t in times]
    counts = {s: kinds.count(s) for s in (0, 3, 7, 10)}
    r.check("; ".join(f"{n} after {s} s" for s, n in counts.items()) +
            f"; the slowest {max(times):.1f} s", None not in kinds)
    n_v2 = sum(version(line) == "v2" for line in answers)
    r.check(f"v2: {n_v2}, the ones after 3 and 10 s", counts[3] + counts[10] == n_v2)
    r.share(["delayed" if kind in (7, 10) else "not" for kind in kinds], "delayed", share)


@row("delay", "v2 with 3 s; delay.yaml, then delay-30.yaml",
     "half, then three tenths wait for 7 s: v1 0 or 7 s, v2 3 or 10 s")
def delay(r):
    r.image("recommendation-v2", V2_SLOW)
    r.apply(C + "delay.yaml")
    delays(r, HALF_DELAYED)
    r.apply(C + "delay-30.yaml")
    delays(r, THREE_TENTHS_DELAYED)


@row("combined-1-1", "v2 with 3 s, one of two pods misbehaves; combined-1-1.yaml; siege",
     "v1 never fails; v2's half fails at once with overflow, but for the few that find room")
def combined_1_1(r):
    r.image("recommendation-v2", V2_SLOW)
    r.run("scale", "deployment/recommendation-v2", "-n", r.ns, "--replicas", 2)
    r.run("rollout", "status", "deployment/recommendation-v2", "-n", r.ns)
    r.apply(C + "combined-1-1.yaml")
    misbehave(r)
    answers, times = r.siege(20, -(-HALF_FAILING.n // 20))
    kinds = {OVERFLOW.format(FIRST): "overflow", OVERFLOW.format(RETRIED): "retried"}
    kinds = [kinds.get(x, version(x)) for x in answers]
    r.share(["v1" if kind == "v1" else "other" for kind in kinds], "v1", HALF_FAILING)
    span = max(t for t, _ in times)
    n_v2, n_retried = kinds.count("v2"), kinds.count("retried")
    # Room is for one at a time, 3 s each, and for one that waits. Who met the pod that misbehaves
    # had room, too, and comes again.
    r.check(f"{kinds.count('overflow')} of {len(kinds)} failed with overflow, {n_v2} of v2, "
            f"{n_retried} failed later, in {span:.1f} s", len(kinds) == len(times) and
            "error" not in kinds and 1 <= n_v2 + n_retried <= span / 3 + 2)
    n_slow = sum(t > 2 for t, _ in times)
    r.check(f"{n_slow} took longer than 2 s", n_slow <= n_v2 + n_retried)


@row("egress", "egress: an outside server, v3; ALLOW_ANY; registry-only.yaml; "
     "original/service-entry.yaml; service-entry.yaml",
     "v3 has the time; then it is blocked, also with an entry that has no address; then it has the "
     "time again",
     dns=["worldclockapi.com=172.28.0.12"],
     lab_only="outboundTrafficPolicy is of the mesh's own files: istiod does not tell nodes of it")
def egress(r):
    r.apply(E + "outside.yaml", E + "recommendation-v3.yaml")
    r.run("rollout", "status", "deployment/recommendation-v3", "-n", r.ns)
    r.wait_ready()

    def ask(what, wanted):
        lines = r.requests(6)
        r.check(f"{what}: {lines[-1] if lines else 'nothing'}",
                len(lines) == 6 and all(re.fullmatch(wanted, x) for x in lines))
    time_told = (r"customer => preference => recommendation v3 \d{4}-\d\d-\d\dT\d\d:\d\d\+01:00 "
                 r"from '\w+-\w{5}': \d+")
    refused = ("customer => Error: 503 - preference => Error: 503 - recommendation v3 without the "
               "time: Connection reset by peer")
    clock = "http://worldclockapi.com/api/json/cet/now"
    ask("ALLOW_ANY", time_told)
    r.apply(E + "registry-only.yaml")
    ask("REGISTRY_ONLY", refused)
    out = r.curl("-S", clock).strip()
    r.check(out, re.fullmatch(RESET, out))
    log = r.node_log("node1", show=2, grep='Cluster" direction="outbound"')
    r.check("PassthroughCluster, then BlackHoleCluster in ztun's log",
            0 < log.find('"PassthroughCluster"') < log.find('"BlackHoleCluster"'))
    original = C + "original/service-entry.yaml"
    r.validate(original, "spec.hosts: connections go by address", "write `resolution: DNS`")
    r.apply(original)
    ask("with the text's ServiceEntry", refused)
    r.apply(E + "service-entry.yaml")
    ask("with the ServiceEntry", time_told)
    out = r.curl(clock).strip()
    r.check(out, '"currentDateTime": "' in out)
    r.check("through the waypoint, as worldclockapi.com",
            r.log("deployment/waypoint", show=2, grep="|http|worldclockapi.com "))
