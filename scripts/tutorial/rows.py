# SPDX-License-Identifier: Apache-2.0
"""The rows of istio-tutorial and bookinfo, in the order of the texts."""

import datetime
import re
import time

from row import later, row, version
from stats import Share, Times, Turns

C = "conf/tutorial/"
OK = r"^customer => preference => recommendation (v\d) from '[0-9a-z]+-[0-9a-z]{5}': \d+$"
RECOMMENDATION = "recommendation:8080"
# Right shares, and the nearest wrong ones beside them.
HALF = Share(0.5, 0.4, 0.6)
TENTH = Share(0.1, 0.05, 0.2)
QUARTER = Share(0.25, 0.2, 0.3)
FIFTIETH = Share(0.02, 0.01, 0.05, 0.25)  # 0.25: a weight for each pod of v2
ALL = Share(1.0, 0.9)
NONE = Share(0.0, 0.1)
REPEATED = Share(0.5, 0.0, 0.4, 0.6)  # the same version as the one before; strict turns: never
FAILING = Share(0.25, 0.15, 0.35)  # one of two pods of a half
TURNS = Turns(20)
SIEGE_OF_V1 = Times(1, 40, 0.5)
SIEGE_OF_V2 = Times(3, 40, 0.5)  # one runs, one waits, the third finds no room
SIEGE_OF_BAD = Times(1, 200, 0.25)


def weights(r, share):
    """Requests to recommendation itself: as many as tell the share from its neighbours."""
    r.requests(6)
    out = r.requests(share.n, RECOMMENDATION, "--parallel", "--parallel-max", 8)
    lines = [line for line in out if line.startswith("recommendation ")]
    r.check(f"{len(lines)} answers", len(lines) == share.n)
    r.share(lines, "recommendation v2", share)


@row("round-robin", "nothing; then round-robin.yaml",
     "both versions share the requests; then they take turns", quick=True)
def round_robin(r):
    lines = r.requests(20)
    r.check(f"{len(lines)} answers of the known form", len(lines) == 20 and
            all(re.match(OK, line) for line in lines))
    r.share(r.requests(HALF.n, RECOMMENDATION), "recommendation v2", HALF)
    r.apply(C + "round-robin.yaml")
    seen = "".join(version(line)[-1] for line in r.requests(TURNS.n))
    r.check(f"turns {seen}", TURNS.accepts(seen))


@row("v2-only", "destination-rule.yaml, v2-only.yaml", "all answers from v2")
def v2_only(r):
    r.apply(C + "destination-rule.yaml", C + "v2-only.yaml")
    r.share(r.requests(ALL.n), "recommendation v2", ALL)


@row("v1-only", "v2-only.yaml, then v1-only.yaml over it", "all answers from v1")
def v1_only(r):
    r.apply(C + "destination-rule.yaml", C + "v2-only.yaml", C + "v1-only.yaml")
    r.share(r.requests(ALL.n), "recommendation v1", ALL)


@row("canary-90-10", "canary-90-10.yaml", "a tenth from v2", quick=True)
def canary_90_10(r):
    r.apply(C + "destination-rule.yaml", C + "canary-90-10.yaml")
    weights(r, TENTH)


@row("canary-75-25", "canary-75-25.yaml", "a quarter from v2")
def canary_75_25(r):
    r.apply(C + "destination-rule.yaml", C + "canary-75-25.yaml")
    weights(r, QUARTER)


@row("pods-98-2", "98/2 with one pod of v1 and three of v2",
     "2 % from v2, whatever the number of its pods")
def pods_98_2(r):
    r.run("scale", "deployment/recommendation-v2", "-n", "tutorial", "--replicas", 3)
    r.run("rollout", "status", "deployment/recommendation-v2", "-n", "tutorial")
    r.apply(C + "destination-rule.yaml", C + "canary-90-10.yaml")
    r.run("patch", "virtualservice/recommendation", "-n", "tutorial", "--type", "json", "-p",
          '[{"op": "replace", "path": "/spec/http/0/route/0/weight", "value": 98},'
          ' {"op": "replace", "path": "/spec/http/0/route/1/weight", "value": 2}]')
    r.settle()
    weights(r, FIFTIETH)


@row("user-agent", "user-agent.yaml", "Safari gets v2, all others v1", quick=True)
def user_agent(r):
    r.apply(C + "destination-rule.yaml", C + "user-agent.yaml")
    for agent, wanted in (("Mozilla/5.0 Version/12.0 Safari/605.1.15", "v2"),
                          ("Mozilla/5.0 Firefox/63.0", "v1"), ("curl/7.88.1", "v1")):
        lines = r.requests(10, "customer:8080", "-A", agent)
        r.check(f"{agent.split()[-1]}: {sorted(set(map(version, lines)))}",
                len(lines) == 10 and set(map(version, lines)) == {wanted})


@row("mirror", "mirror.yaml", "v1 answers all; v2 sees each with Host recommendation-shadow:8080",
     quick=True)
def mirror(r):
    r.apply(C + "destination-rule.yaml", C + "mirror.yaml")
    lines = r.requests(20)
    log = r.log("deployment/recommendation-v2", show=30)
    n = log.count("Host recommendation-shadow:8080")
    r.check(f"v1: {sum(version(x) == 'v1' for x in lines)} of {len(lines)}",
            len(lines) == 20 and all(version(x) == "v1" for x in lines))
    r.check(f"{n} copies at v2", n == 20)
    r.run("scale", "deployment/recommendation-v2", "-n", "tutorial", "--replicas", 0)
    lines = r.requests(20)
    r.check(f"v2 gone: {sum(version(x) == 'v1' for x in lines)} of {len(lines)} from v1",
            len(lines) == 20 and all(version(x) == "v1" for x in lines))


@row("timeout", "v2 with 3 s; timeout.yaml",
     "v1 at once; v2's turn ends after 1 s in 504, as text of customer", quick=True)
def timeout(r):
    r.image("recommendation-v2", "quay.io/rhdevelopers/istio-tutorial-recommendation:v2-timeout")
    r.apply(C + "round-robin.yaml", C + "timeout.yaml")
    out = r.requests(6, "customer:8080", "-w", "%{time_total}\\n")
    pairs = list(zip(out[::2], map(float, out[1::2])))
    wanted = "customer => Error: 503 - preference => Error: 504 - upstream request timeout"
    slow = [t for line, t in pairs if line == wanted]
    fast = [t for line, t in pairs if version(line) == "v1"]
    r.check(f"{len(fast)} of v1, {len(slow)} times 504 after {min(slow, default=0):.2f} to "
            f"{max(slow, default=0):.2f} s", len(fast) == len(slow) == 3)
    r.check("each 504 at about 1 s", all(0.99 <= t < 1.8 for t in slow))


@row("abort", "abort.yaml, first without its DestinationRule",
     "half 503 fault filter abort; without the rule the other half has no cluster (NC, empty)")
def abort(r):
    r.apply(C + "abort.yaml")
    codes = r.curl("-w", " %{http_code}\\n",
                   f"http://recommendation:8080/?n=[1-{HALF.n}]").splitlines()
    r.share(codes, "^fault filter abort 503$", HALF)
    others = [line for line in codes if line != "fault filter abort 503"]
    r.check(f"{len(others)} others, {sorted(set(others))}", set(others) == {" 503"})
    r.check("FI and NC in the waypoint's log", all(
        r.log("deployment/waypoint", show=1, grep=f" 503 {flag} ") for flag in ("FI", "NC")))
    r.apply(C + "destination-rule-app.yaml")
    lines = r.requests(HALF.n, RECOMMENDATION, "-w", " %{http_code}\\n")
    codes = [line for line in lines if line in (" 200", "fault filter abort 503")]
    r.share(codes, "^fault filter abort 503$", HALF)
    r.check(f"{codes.count(' 200')} others with 200", len(codes) == HALF.n)
    lines = r.requests(40)
    failed = "customer => Error: 503 - preference => Error: 503 - fault filter abort"
    r.check(f"in customer's words: {lines.count(failed)} of 40, others as usual",
            len(lines) == 40 and all(x == failed or re.match(OK, x) for x in lines))


@row("retry", "v2 misbehaves; retry-default.yaml, then retry-5xx.yaml",
     "503 passes as retryOn's default leaves it out; with 5xx none is seen", quick=True)
def retry(r):
    pod = r.pods("app=recommendation,version=v2")[0]
    r.run("exec", "-n", "tutorial", pod, "-c", "recommendation", "--", "curl", "-s",
          "localhost:8080/misbehave")
    r.apply(C + "round-robin.yaml", C + "retry-default.yaml")
    lines = r.requests(20)
    wanted = "customer => Error: 503 - preference => Error: 503 - recommendation misbehavior from '"
    failed = [x for x in lines if x.startswith(wanted)]
    r.check(f"default: {len(failed)} of {len(lines)} failed", len(failed) == 10)
    r.apply(C + "retry-5xx.yaml")
    r.share(r.requests(ALL.n), OK, ALL)


@row("breaker", "v2 with 3 s; siege without and with breaker.yaml",
     "40 of 40; then v1 never fails, v2 fails fast with overflow (UO) or succeeds after 3 s")
def breaker(r):
    r.image("recommendation-v2", "quay.io/rhdevelopers/istio-tutorial-recommendation:v2-timeout")
    r.apply(C + "split-50-50.yaml")
    answers, times = r.siege(20, 2)
    good = sum(bool(re.match(OK, x)) for x in answers)
    r.check(f"without: {good} of 40, the slowest {max(t for t, _ in times):.1f} s",
            good == 40 and 2.9 < max(t for t, _ in times) < 4.5)
    r.apply(C + "breaker.yaml")
    answers, times = r.siege(20, 2)
    overflow = "upstream connect error or disconnect/reset before headers. reset reason: overflow"
    failed = [x for x in answers if not re.match(OK, x)]
    words = "customer => Error: 503 - preference => Error: 503 - " + overflow
    slow = [t for t, code in times if code == 200 and t > 2.9]
    n_v1 = sum(version(x) == "v1" for x in answers)
    r.check(f"with: {n_v1} of v1, {len(failed)} failed with overflow, {len(slow)} slow ones",
            len(answers) == 40 and SIEGE_OF_V1.accepts(n_v1) and
            SIEGE_OF_V2.accepts(len(answers) - n_v1) and failed and slow and
            all(x == words for x in failed))
    r.check(f"failures after {max((t for t, c in times if c == 503), default=0):.2f} s at most",
            all(t < 2 for t, code in times if code == 503))
    n = len(r.log("deployment/waypoint", show=2, grep=" 503 UO ").splitlines())
    r.check(f"{n} times UO in the waypoint's log", n == len(failed))
    head = r.curl("--parallel", "--parallel-immediate", "-o", "/dev/null", "-D", "-",
                  "http://recommendation:8080/?n=[1-12]", show=6).lower()
    r.check("x-envoy-overloaded: true", "x-envoy-overloaded: true" in head)


@row("ejection", "two pods of v2, one misbehaves; split-50-50.yaml, then ejection.yaml",
     "0 %, 25 %, then one error each time it is back, the times in between grow; back after recovery")
def ejection(r):
    r.run("scale", "deployment/recommendation-v2", "-n", "tutorial", "--replicas", 2)
    r.run("rollout", "status", "deployment/recommendation-v2", "-n", "tutorial")
    r.apply(C + "split-50-50.yaml")
    lines = r.requests(60)
    r.check(f"before: {sum(not re.match(OK, x) for x in lines)} of {len(lines)} failed",
            len(lines) == 60 and all(re.match(OK, x) for x in lines))
    bad = r.pods("app=recommendation,version=v2")[0]

    def tell(word):
        r.run("exec", "-n", "tutorial", bad, "-c", "recommendation", "--", "curl", "-s",
              f"localhost:8080/{word}")
    tell("misbehave")
    r.share(r.requests(FAILING.n, RECOMMENDATION), "misbehavior", FAILING)
    r.apply(C + "ejection.yaml")
    # 25 s: out at once for 5 s, and for 10 s when it is back; then for 15 s.
    lines = r.requests(2500, RECOMMENDATION, "--rate", "100/s", show=4)
    n = sum("misbehavior" in x for x in lines)
    r.check(f"with ejection: {n} of {len(lines)} failed", n >= 3 and len(lines) == 2500)
    log = r.log("deployment/waypoint", show=n, grep=" 503 - via_upstream ", tail=n).splitlines()
    times = [datetime.datetime.strptime(x[1:24], "%Y-%m-%dT%H:%M:%S.%f") for x in log]
    out = [(b - a).total_seconds() for a, b in zip(times, times[1:])]
    r.check("out for " + ", ".join(f"{seconds:.1f}" for seconds in out) + " s",
            len(out) == n - 1 and
            all(5 * k <= seconds < 5 * k + 4 for k, seconds in enumerate(out, 1)))
    tell("behave")
    deadline = time.monotonic() + 20
    name = bad.removeprefix("recommendation-v2-")
    back = []
    while not back and time.monotonic() < deadline:
        back = [x for x in r.requests(50, show=2) if name in x]
        time.sleep(2)
    r.check(f"{bad} is back after recovery", bool(back))


@row("random", "random.yaml", "both versions by chance, no turns")
def random(r):
    r.apply(C + "random.yaml")
    lines = r.requests(REPEATED.n + 1, RECOMMENDATION)
    r.share(lines[1:], "recommendation v2", HALF)
    same = ["same" if version(a) == version(b) else "other" for a, b in zip(lines, lines[1:])]
    r.share(same, "same", REPEATED)


@row("combined", "one of two pods of v2 misbehaves; combined.yaml; siege",
     "no request fails")
def combined(r):
    r.run("scale", "deployment/recommendation-v2", "-n", "tutorial", "--replicas", 2)
    r.run("rollout", "status", "deployment/recommendation-v2", "-n", "tutorial")
    r.apply(C + "combined.yaml")
    bad = r.pods("app=recommendation,version=v2")[0]
    r.run("exec", "-n", "tutorial", bad, "-c", "recommendation", "--", "curl", "-s",
          "localhost:8080/misbehave")
    answers, times = r.siege(20, 10)
    good = sum(bool(re.match(OK, x)) for x in answers)
    log = r.log(bad, show=3)
    r.check(f"{good} of {len(times)} without an error", good == len(times) == 200)
    n = log.count("recommendation request")
    r.check(f"the pod that misbehaves was asked {n} times", SIEGE_OF_BAD.accepts(n))


@row("source-labels", "source-labels.yaml", "preference gets v2, others v1")
def source_labels(r):
    r.apply(C + "destination-rule.yaml", C + "source-labels.yaml")
    seen = set(map(version, r.requests(30)))
    r.check(f"by way of preference: {sorted(seen)}", seen == {"v2"})
    seen = set(map(version, r.requests(30, RECOMMENDATION)))
    r.check(f"from the client: {sorted(seen)}", seen == {"v1"})


@row("internal-staff", "internal-staff.yaml", "v2 by header, cookie and URI prefix; others v1")
def internal_staff(r):
    r.apply(C + "destination-rule.yaml", C + "internal-staff.yaml")
    for what, wanted in ((["-H", "x-staff: true"], "v2"), (["-b", "a=b; user=staff"], "v2"),
                         (["-H", "x-staff: no"], "v1"), (["-b", "user=staffer"], "v1")):
        seen = set(map(version, r.requests(10, RECOMMENDATION, *what)))
        r.check(f"{what[1]}: {sorted(seen)}", seen == {wanted})
    out = r.curl("-o", "/dev/null", "-w", "%{http_code}", "http://recommendation:8080/v2/x")
    line = r.log("deployment/waypoint", show=2, grep='"GET /v2/x ').splitlines()
    r.check(f"/v2/x: {out.strip()} of v2's subset", len(line) == 1 and "version-v2" in line[0])


later("jwt", "RequestAuthentication, and JWTs in requests", "needs JWT in the waypoint")
later("ingress-http", "Gateway, plain HTTP", "needs an ingress gateway")
later("ingress-https", "Gateway, HTTPS", "needs an ingress gateway")
later("jaeger", "traces in Jaeger", "needs spans from the waypoint")
later("l7-access", "AuthorizationPolicy with paths and methods: 403 RBAC: access denied",
      "needs L7 policy in the waypoint")
