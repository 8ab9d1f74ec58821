# SPDX-License-Identifier: Apache-2.0
"""Texts whose YAML has a mistake, or means something else today. Each row has three parts: the
original form and what `ztunctl validate` says of it; what a cluster with today's Istio does with
it, which `apply` and `apply --validate=false` play; the corrected form and the promised outcome."""

import re
import time

from row import row, version
from rows import ALL, C, HALF, NONE, OK, RECOMMENDATION, TENTH
from rows_apps import B, K, REVIEWS
from rows_traffic import delays
from stats import Share

OLD = C + "original/"
UNKNOWN = 'strict decoding error: unknown field "spec.http[0].'
DENIED = 'admission webhook "validation.istio.io" denied the request'
WEIGHT = "`weight` stands beside `destination`; indent it less"
PERCENT = "was removed, and without it nothing is aborted: write `percentage: {value: ...}`"
FAILED = "customer => Error: 503 - preference => Error: 503 - "
TIMEOUT = "customer => Error: 503 - preference => Error: 504 - upstream request timeout"

HALF_DELAYED = Share(0.5, 0.3, 0.7)


@row("weight-original", "original/weight.yaml, original/weight-single.yaml, canary-90-10.yaml",
     "weight in destination: refused, and nothing without it (sum 0); harmless with one "
     "destination; right: a tenth from v2")
def weight(r):
    r.apply(C + "destination-rule.yaml")
    r.validate(OLD + "weight.yaml", WEIGHT, "weights add up to 0")
    r.refused(OLD + "weight.yaml", UNKNOWN + 'route[0].destination.weight"')
    r.refused(OLD + "weight.yaml", DENIED, "--validate=false")
    r.validate(OLD + "weight-single.yaml", WEIGHT)
    r.refused(OLD + "weight-single.yaml", UNKNOWN + 'route[0].destination.weight"')
    r.forced(OLD + "weight-single.yaml")
    r.share(r.requests(ALL.n), "recommendation v2", ALL)
    r.apply(C + "v2-only.yaml")
    r.share(r.requests(ALL.n), "recommendation v2", ALL)
    r.apply(C + "canary-90-10.yaml")
    r.share(r.requests(TENTH.n, RECOMMENDATION), "recommendation v2", TENTH)


@row("subsets-original", "original/subsets.yaml, v2-only.yaml, destination-rule.yaml",
     "names among the labels: refused; without its subset v2-only is 503; right: all from v2")
def subsets(r):
    r.validate(OLD + "subsets.yaml", "spec.subsets[0].name: is required: `name` is inside of `labels`")
    for options in ((), ("--validate=false",)):
        r.refused(OLD + "subsets.yaml", "spec.subsets[0].name: Required value", *options)
    r.apply(C + "v2-only.yaml")
    lines = r.requests(10)
    r.check(f"no subset: {sorted(set(lines))}", len(lines) == 10 and set(lines) == {FAILED.strip()})
    r.check("NC in the waypoint's log", " 503 NC " in r.log("deployment/waypoint", show=2, grep=" 503 NC "))
    r.apply(C + "destination-rule.yaml")
    r.share(r.requests(ALL.n), "recommendation v2", ALL)


@row("user-agent-original", "original/user-agent.yaml, user-agent.yaml",
     "header beside headers: refused; dropped: an empty match takes all to v2; right: Safari v2, "
     "others v1")
def user_agent(r):
    def ask(agent, wanted):
        lines = r.requests(10, "customer:8080", "-A", agent)
        seen = sorted(set(map(version, lines)))
        r.check(f"{agent.split()[-1]}: {seen}", len(lines) == 10 and seen == [wanted])
    r.apply(C + "destination-rule.yaml")
    r.validate(OLD + "user-agent.yaml", "match[0].baggage-user-agent: unknown field here: it stands "
               "beside `headers`, which is empty; indent it more")
    r.refused(OLD + "user-agent.yaml", UNKNOWN + 'match[0].baggage-user-agent"')
    r.forced(OLD + "user-agent.yaml")
    ask("Mozilla/5.0 Firefox/63.0", "v2")
    r.apply(C + "user-agent.yaml")
    ask("Mozilla/5.0 Firefox/63.0", "v1")
    ask("Mozilla/5.0 Version/12.0 Safari/605.1.15", "v2")


@row("timeout-original", "v2 with 3 s; original/timeout.yaml, timeout.yaml",
     "timeout in a destination's entry: refused; dropped: v2 answers after 3 s; right: 504 at 1 s")
def timeout(r):
    def ask():
        out = r.requests(6, "customer:8080", "-w", "%{time_total}\\n")
        return list(zip(out[::2], map(float, out[1::2])))
    r.image("recommendation-v2", "quay.io/rhdevelopers/istio-tutorial-recommendation:v2-timeout")
    r.validate(OLD + "timeout.yaml", "route[0].timeout: unknown field here: it belongs to "
               "`spec.http[0]`; indent it less")
    r.refused(OLD + "timeout.yaml", UNKNOWN + 'route[0].timeout"')
    r.apply(C + "round-robin.yaml")
    r.forced(OLD + "timeout.yaml")
    slow = [t for line, t in ask() if version(line) == "v2"]
    r.check(f"dropped: {len(slow)} of v2 after {min(slow, default=0):.2f} s",
            len(slow) == 3 and all(2.9 < t < 4 for t in slow))
    r.apply(C + "timeout.yaml")
    ended = [t for line, t in ask() if line == TIMEOUT]
    r.check(f"right: {len(ended)} times 504 after {min(ended, default=0):.2f} s",
            len(ended) == 3 and all(0.99 <= t < 1.8 for t in ended))


@row("abort-original", "original/abort.yaml, its apiVersion added, abort.yaml",
     "no apiVersion: no object; percent: refused; dropped: nothing is aborted, and without the "
     "DestinationRule all is NC; right: half aborted", quick=True)
def abort(r):
    r.validate(OLD + "abort.yaml", "apiVersion: is required: networking.istio.io/v1", PERCENT)
    r.refused(OLD + "abort.yaml", "apiVersion not set")
    r.refused(OLD + "abort.yaml", 'no matches for kind "VirtualService"', "--validate=false")
    r.validate(OLD + "abort-versioned.yaml", PERCENT)
    r.refused(OLD + "abort-versioned.yaml", UNKNOWN + 'fault.abort.percent"')
    r.forced(OLD + "abort-versioned.yaml")
    seen = r.curl("-w", " %{http_code}\\n", "http://recommendation:8080/?n=[1-20]").splitlines()
    r.check(f"no DestinationRule: {sorted(set(seen))}", len(seen) == 20 and set(seen) == {" 503"})
    r.apply(C + "destination-rule-app.yaml")
    r.share(r.requests(NONE.n, RECOMMENDATION), "fault filter abort", NONE)
    r.apply(C + "abort.yaml")
    lines = r.curl("-w", "\\n", f"http://recommendation:8080/?n=[1-{HALF.n}]").split("\n")
    lines = [line for line in lines if line]
    r.share(lines, "^fault filter abort$", HALF)
    r.check("others as usual", all(line == "fault filter abort" or version(line) != "error"
                                   for line in lines))


@row("delay-original", "v2 with 3 s; original/delay.yaml",
     "percent counts still, deprecated: half wait for 7 s more; v1 0 or 7 s, v2 3 or 10 s")
def delay(r):
    r.image("recommendation-v2", "quay.io/rhdevelopers/istio-tutorial-recommendation:v2-timeout")
    r.validate(OLD + "delay.yaml", "warning: ", "fault.delay.percent: is deprecated: write "
               "`percentage: {value: ...}`")
    r.apply(OLD + "delay.yaml")
    delays(r, HALF_DELAYED)


@row("retry-original", "v2 misbehaves; original/retry.yaml, retry-5xx.yaml",
     "retryOn's default: 503 passes; right: none is seen")
def retry(r):
    pod = r.pods("app=recommendation,version=v2")[0]
    r.run("exec", "-n", "tutorial", pod, "-c", "recommendation", "--", "curl", "-s",
          "localhost:8080/misbehave")
    r.validate(OLD + "retry.yaml", "note: ", "spec.http[0].retries: has no `retryOn`",
               "answers with 503 and the like are not; for these, too, write `retryOn: 5xx`")
    r.apply(C + "round-robin.yaml", OLD + "retry.yaml")
    lines = r.requests(20)
    failed = [x for x in lines if x.startswith(FAILED + "recommendation misbehavior from '")]
    r.check(f"default: {len(failed)} of {len(lines)} failed", len(lines) == 20 and len(failed) == 10)
    r.apply(C + "retry-5xx.yaml")
    r.share(r.requests(ALL.n), OK, ALL)


@row("ejection-original", "two pods of v2, one misbehaves; original/ejection.yaml, ejection.yaml",
     "consecutiveErrors is ignored: five errors put the pod out; right: one does")
def ejection(r):
    def requests_of(pod):
        """Until 40 answers of the other pods' came after the last error."""
        n_errors, n_good, deadline = 0, 0, time.monotonic() + 10
        while n_good < 40 and time.monotonic() < deadline:
            for line in r.requests(20, RECOMMENDATION, show=6):
                n_errors += "misbehavior" in line
                n_good = 0 if "misbehavior" in line else n_good + 1
        return n_errors

    def tell(word):
        r.run("exec", "-n", "tutorial", bad, "-c", "recommendation", "--", "curl", "-s",
              f"localhost:8080/{word}")
    r.run("scale", "deployment/recommendation-v2", "-n", "tutorial", "--replicas", 2)
    r.run("rollout", "status", "deployment/recommendation-v2", "-n", "tutorial")
    r.validate(OLD + "ejection.yaml", "warning: ", "consecutiveErrors: is ignored, by Istio too",
               "write `consecutive5xxErrors`")
    r.apply(C + "split-50-50.yaml", OLD + "ejection.yaml")
    bad = r.pods("app=recommendation,version=v2")[0]
    tell("misbehave")
    n = requests_of(bad)
    r.check(f"original: {n} errors before it is out", n == 5)
    tell("behave")
    deadline, back = time.monotonic() + 30, False
    while not back and time.monotonic() < deadline:
        time.sleep(3)
        name = bad.removeprefix("recommendation-v2-")
        back = any(name in line for line in r.requests(40, RECOMMENDATION, show=2))
    r.check("back after its 15 s", back)
    r.apply(C + "ejection.yaml")
    tell("misbehave")
    n = requests_of(bad)
    r.check(f"right: {n} error before it is out", n == 1)


@row("reviews-original", "original/reviews-layout, -percent, -two-rules.yaml; reviews-10-90.yaml",
     "no YAML; 10% is no number; the second rule gets nothing; right: a tenth from v1",
     base="conf/bookinfo/base")
def reviews(r):
    r.ns = "bookinfo"
    r.apply(B + "destination-rule-all.yaml")
    r.validate(OLD + "reviews-layout.yaml", "reviews-layout.yaml:17:3: an item of a list among the keys "
               "of the map that starts at line 9")
    r.refused(OLD + "reviews-layout.yaml", "reviews-layout.yaml: error converting YAML to JSON:")
    r.validate(OLD + "reviews-percent.yaml", ":16:15: ", "write it without `%`", "is never reached")
    for options in ((), ("--validate=false",)):
        r.refused(OLD + "reviews-percent.yaml", "spec.http[0].route[0].weight in body must be of type "
                  'integer: "string"', *options)
    r.validate(OLD + "reviews-two-rules.yaml", "spec.http[1]: is never reached: http[0] (line 12) "
               "before it takes every request, as it has no `match`")
    r.apply(OLD + "reviews-two-rules.yaml")
    r.share(r.requests(NONE.n, REVIEWS, "-w", "\\n"), '"color"', NONE)
    r.apply(B + "reviews-10-90.yaml")
    lines = r.requests(TENTH.n, REVIEWS, "-w", "\\n")
    r.share(["v2" if '"color": "black"' in line else "v1" for line in lines], "v1", TENTH)


@row("bff-original", "original/bff-weight.yaml, weight-10-90.yaml; original/bff-abort.yaml, abort.yaml",
     "weight: refused, sum 0; percent: refused; dropped: nothing is aborted; right: a tenth from "
     "v1, then 500 fault filter abort", base="conf/canary/base")
def bff(r):
    r.ns = "shop"
    r.validate(OLD + "bff-weight.yaml", WEIGHT, "weights add up to 0")
    r.refused(OLD + "bff-weight.yaml", UNKNOWN + 'route[0].destination.weight"')
    r.refused(OLD + "bff-weight.yaml", DENIED, "--validate=false")
    r.apply(K + "weight-10-90.yaml")
    pages = [x for x in r.requests(TENTH.n, "recommendation-service:8080") if x.startswith("<h1>")]
    r.share(pages, "Recommendations v1", TENTH)
    r.validate(OLD + "bff-abort.yaml", PERCENT, WEIGHT)
    r.refused(OLD + "bff-abort.yaml", UNKNOWN + 'fault.abort.percent"')
    r.forced(OLD + "bff-abort.yaml")
    out = r.curl("-o", "/dev/null", "-w", "%{http_code}\\n", f"http://bff:8080/?n=[1-{ALL.n}]")
    r.share(out.splitlines(), "^200$", ALL)
    r.apply(K + "abort.yaml")
    out = r.curl("-w", " %{http_code}", "http://bff:8080/").strip()
    r.check(out, out == "fault filter abort 500")


@row("mesh-mode-original", "original/mesh-allow-all.yaml",
     "ALLOW_ALL is no mode: the mesh goes on with what it had",
     lab_only="the object takes the place of the ConfigMap istio, which is istiod's own and all namespaces'")
def mesh_mode(r):
    r.validate(OLD + "mesh-allow-all.yaml", "`ALLOW_ALL` is none of ALLOW_ANY, REGISTRY_ONLY",
               "did you mean `ALLOW_ANY`?")
    r.apply(OLD + "mesh-allow-all.yaml")
    status = r.run("exec", "node1", "--", "curl", "-s", "localhost:15000/status", show=4)
    r.check("rejected by the proxies", "ALLOW_ALL" in status)
    lines = r.requests(10)
    r.check("and all goes on", len(lines) == 10 and all(re.match(OK, x) for x in lines))
