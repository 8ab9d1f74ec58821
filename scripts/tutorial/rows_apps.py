# SPDX-License-Identifier: Apache-2.0
"""The rows of bookinfo, hello-server, and bff with recommendation-service."""

import re

from row import row
from stats import Share, Times

B, H, K = "conf/bookinfo/", "conf/hello-server/", "conf/canary/"
PAGE = "http://productpage:9080/productpage"
REVIEWS = "reviews:9080/reviews/0"
HALF = Share(0.5, 0.4, 0.6)
TENTH = Share(0.1, 0.05, 0.2)
FIFTH = Share(0.2, 0.1, 0.3)
ALL = Share(1.0, 0.9)
NONE = Share(0.0, 0.1)
BOTH = Times(1, 60, 0.5)  # each of two is seen at least once
UNAVAILABLE = "Sorry, product reviews are currently unavailable for this book."


def bookinfo(name, applied, expected, quick=False):
    return row(name, applied, expected, base="conf/bookinfo/base", quick=quick)


def stars(text):
    """What the page shows: the colour of the stars, none, or why there are none."""
    if UNAVAILABLE in text:
        return "no reviews"
    if "Ratings service is currently unavailable" in text:
        return "no ratings"
    found = re.search(r'color="?:?\s*"?(black|red)', text)
    return found.group(1) if found else "none"


def page(r, user=None):
    """The page as a user sees it, after a login: (stars, seconds)."""
    cookie = []
    if user:
        head = r.curl("-D", "-", "-d", f"username={user}", "http://productpage:9080/login")
        cookie = ["-b", re.search(r"set-cookie: ([^;\s]+)", head, re.I).group(1)]
    out = r.curl(*cookie, "-w", "%{time_total}\\n", PAGE, show=24)
    return stars(out), float(out.splitlines()[-1])


def sees(r, user, wanted, low=0.0, high=2.5):
    what, seconds = page(r, user)
    r.check(f"{user or 'anybody'}: {what} after {seconds:.2f} s",
            what == wanted and low <= seconds <= high)


@bookinfo("reviews-v1", "reviews-v1.yaml", "no stars, for everybody", quick=True)
def reviews_v1(r):
    r.apply(B + "destination-rule-all.yaml", B + "reviews-v1.yaml")
    for user in (None, None, "jason"):
        sees(r, user, "none")


@bookinfo("reviews-jason", "reviews-jason-v2.yaml; then delay and abort of ratings for jason",
          "jason black stars, others none; delay: jason waits 6 s and sees no reviews; abort: no "
          "ratings, at once")
def reviews_jason(r):
    r.apply(B + "destination-rule-all.yaml", B + "reviews-jason-v2.yaml")
    sees(r, "jason", "black")
    sees(r, None, "none")
    r.apply(B + "ratings-delay.yaml")
    sees(r, "jason", "no reviews", 5.9, 8)
    sees(r, None, "none")
    r.apply(B + "ratings-abort.yaml")
    sees(r, "jason", "no ratings")
    sees(r, None, "none")


@bookinfo("ratings-faults", "reviews-v2.yaml for all; ratings-delay.yaml, then ratings-abort.yaml",
          "jason's page takes 6 s and has no reviews, then no ratings at once; others have stars, fast")
def ratings_faults(r):
    r.apply(B + "destination-rule-all.yaml", B + "reviews-v2.yaml", B + "ratings-delay.yaml")
    sees(r, "jason", "no reviews", 5.9, 8)
    for user in (None, "maria"):
        sees(r, user, "black")
    r.apply(B + "ratings-abort.yaml")
    sees(r, "jason", "no ratings")
    for user in (None, "maria"):
        sees(r, user, "black")


@bookinfo("ratings-tcp", "ratings-v2.yaml with its database, ratings-db.yaml; other stars; no database",
          "the database's stars, red; its new stars; no ratings without it; TCP in the metrics")
def ratings_tcp(r):
    def shows(wanted, n_stars):
        out = r.curl(PAGE, show=24)
        n = len(re.findall('glyphicon-star"', out))
        r.check(f"{stars(out)}, {n} stars", (stars(out), n) == (wanted, n_stars))
    r.apply(B + "destination-rule-all.yaml", B + "ratings-v2.yaml")
    for name in ("ratings-v2", "mongodb-v1"):
        r.run("rollout", "status", f"deployment/{name}", "-n", r.ns)
    r.apply(B + "ratings-db.yaml")
    shows("red", 5 + 4)
    r.run("patch", "deployment/mongodb-v1", "-n", r.ns, "-p",
          '{"spec": {"template": {"spec": {"containers": [{"name": "mongodb", "env": '
          '[{"name": "STARS_1", "value": "1"}]}]}}}}')
    r.run("rollout", "status", "deployment/mongodb-v1", "-n", r.ns)
    r.settle()
    shows("red", 1 + 4)
    out = r.waypoint_metrics("mongodb", show=4)
    found = re.findall(r'(?m)^istio_tcp_connections_opened_total\{.*'
                       r'destination_service_name="mongodb".* (\d+)$', out)
    r.check(f"TCP connections to mongodb in the waypoint's metrics: {found}",
            sum(map(int, found)) == 2)
    r.run("scale", "deployment/mongodb-v1", "-n", r.ns, "--replicas", 0)
    r.settle()
    shows("no ratings", 0)


def of_version(r, n):
    """One line for each answer of reviews."""
    return r.requests(n, REVIEWS, "-w", "\\n")


@bookinfo("reviews-shift", "reviews-50-v3.yaml, reviews-v3.yaml, reviews-80-20.yaml",
          "half red stars; all red; a fifth black")
def reviews_shift(r):
    r.apply(B + "destination-rule-all.yaml", B + "reviews-50-v3.yaml")
    r.share(of_version(r, HALF.n), '"color": "red"', HALF)
    r.apply(B + "reviews-v3.yaml")
    r.share(of_version(r, ALL.n), '"color": "red"', ALL)
    r.apply(B + "reviews-80-20.yaml")
    r.share(of_version(r, FIFTH.n), '"color": "black"', FIFTH)


@bookinfo("request-timeout", "request-timeout.yaml",
          "no reviews after two tries of half a second; reviews itself: 504 upstream request timeout")
def request_timeout(r):
    r.apply(B + "destination-rule-all.yaml", B + "request-timeout.yaml")
    sees(r, None, "no reviews", 0.95, 2)
    out = r.curl("-w", " %{http_code}", "http://" + REVIEWS).strip()
    r.check(out, out == "upstream request timeout 504")


@row("hello-server", "selector edit; weight.yaml; match.yaml",
     "both versions; all v2 by selector; a tenth of v2; by header", base="conf/hello-server/base")
def hello_server(r):
    r.ns, r.client = "hello", "httpbin"
    lines = r.requests(BOTH.n, "svc-hello:8080", "-H", "Connection: close")
    for version in ("v1", "v2"):
        hits = lines.count(f"Hello server - {version}")
        r.check(f"{version}: {hits} of {len(lines)}", BOTH.accepts(hits) and len(lines) == BOTH.n)
    r.run("patch", "service/svc-hello", "-n", "hello", "-p",
          '{"spec": {"selector": {"version": "v2"}}}')
    r.settle()
    seen = set(r.requests(30, "svc-hello:8080"))
    r.check(f"version in the selector: {sorted(seen)}", seen == {"Hello server - v2"})
    r.run("patch", "service/svc-hello", "-n", "hello", "-p",
          '{"spec": {"selector": {"version": null}}}')
    r.apply(H + "weight.yaml")
    r.share(r.requests(TENTH.n, "svc-hello:8080"), "v2", TENTH)
    r.apply(H + "match.yaml")
    for header, wanted in (("v2", "v2"), ("v1", "v1")):
        seen = set(r.requests(20, "svc-hello:8080", "-H", f"x-version: {header}"))
        r.check(f"x-version {header}: {sorted(seen)}", seen == {f"Hello server - {wanted}"})


@row("bff-weight", "weight-10-90.yaml, abort.yaml",
     "a tenth of v1's pages; then 500 fault filter abort", base="conf/canary/base")
def bff_weight(r):
    r.ns = "shop"
    r.apply(K + "weight-10-90.yaml")
    out = r.requests(TENTH.n, "bff:8080")
    pages = [line for line in out if line.startswith("<h1>")]
    r.share(pages, "Recommendations v1", TENTH)
    r.apply(K + "abort.yaml")
    out = r.curl("-w", " %{http_code}", "http://bff:8080/").strip()
    r.check(out, out == "fault filter abort 500")


@row("canary-rollout", "weights 100/0 to 90/10 to 0/100 by patches, the image changes, under load",
     "no request fails; all of v1, then a tenth of v2, then all", base="conf/canary/base")
def canary_rollout(r):
    r.ns = "shop"
    r.apply(K + "weight-10-90.yaml")

    def weigh(v1, v2):
        r.run("patch", "virtualservice/recommendation-service", "-n", "shop", "--type", "json", "-p",
              f'[{{"op": "replace", "path": "/spec/http/0/route/0/weight", "value": {v1}}},'
              f' {{"op": "replace", "path": "/spec/http/0/route/1/weight", "value": {v2}}}]')
        r.settle()

    def share(which, wanted):
        lines = r.requests(wanted.n, "recommendation-service:8080")
        r.share([x for x in lines if "<h1>" in x], f"Recommendations {which}", wanted)
    with r.load("http://recommendation-service:8080/") as load:
        weigh(100, 0)
        share("v1", ALL)
        weigh(90, 10)
        share("v2", TENTH)
        r.image("recommendation-service-v2", "docker.io/example/recommendation-service:v2.1",
                "recommendation-service")
        weigh(0, 100)
        r.image("recommendation-service-v1", "docker.io/example/recommendation-service:v1.1",
                "recommendation-service")
    r.check(f"{load.failed} of {load.requests} failed", load.requests > 100 and load.failed == 0)
    share("v2", ALL)


@row("locality", "locality.yaml", "each product only asks its own zone; the other one when that is "
     "empty; its own again after it came back", base="conf/locality/base")
def locality(r):
    def ask(zone, wanted):
        lines = r.run("exec", "-n", "shop", f"deployment/product-{zone}", "--", "curl", "-s",
                      "http://localhost:8080/?n=[1-30]", show=3).splitlines()
        seen = sorted(set(re.findall(r"=> order-history v1 in (\S+)", "\n".join(lines))))
        r.check(f"product in zone-{zone}: {seen}", len(lines) == 30 and seen == [wanted])
    r.apply("conf/locality/locality.yaml")
    ask("a", "zone-a")
    ask("b", "zone-b")
    r.run("scale", "deployment/order-history-a", "-n", "shop", "--replicas", 0)
    r.settle()
    ask("a", "zone-b")
    r.run("scale", "deployment/order-history-a", "-n", "shop", "--replicas", 1)
    r.run("rollout", "status", "deployment/order-history-a", "-n", "shop")
    r.settle()
    ask("a", "zone-a")
    ask("b", "zone-b")


@row("locality-weights", "distribute.yaml", "zone a: a fifth to the other zone; zone b: all to zone a",
     base="conf/locality/base")
def locality_weights(r):
    r.apply("conf/locality/distribute.yaml")
    for zone, share in (("a", FIFTH), ("b", NONE)):
        lines = r.run("exec", "-n", "shop", f"deployment/product-{zone}", "--", "curl", "-s",
                      f"http://localhost:8080/?n=[1-{share.n}]", show=3).splitlines()
        r.share(lines, "=> order-history v1 in zone-b", share)


@row("tcp-shift", "canary/tcp/weight-80-20.yaml", "a fifth of the connections at v2",
     base="conf/canary/tcp/base")
def tcp_shift(r):
    r.ns = "echo"
    r.apply("conf/canary/tcp/weight-80-20.yaml")
    program = (f"for i in $(seq {FIFTH.n}); do exec 3<>/dev/tcp/tcp-echo/9000; echo hello >&3; "
               "head -1 <&3; exec 3<&-; done")
    lines = r.run("exec", "-n", "echo", "client", "--", "bash", "-c", program,
                  timeout=150).splitlines()
    r.check(f"{len(lines)} answers", set(lines) == {"one hello", "two hello"})
    r.share(lines, "two hello", FIFTH)
