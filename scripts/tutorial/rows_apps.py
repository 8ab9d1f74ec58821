# SPDX-License-Identifier: Apache-2.0
"""The rows of bookinfo, hello-server, and bff with recommendation-service."""

import re

from row import row
from stats import draws

B, H, K = "conf/bookinfo/", "conf/hello-server/", "conf/canary/"
PAGE = "http://productpage:9080/productpage"
REVIEWS = "reviews:9080/reviews/0"
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
    out = r.curl(*cookie, "-w", "%{time_total}\\n", PAGE, show=4)
    return stars(out), float(out.splitlines()[-1])


def sees(r, user, wanted, low=0.0, high=2.5):
    what, seconds = page(r, user)
    r.check(f"{user or 'anybody'}: {what} after {seconds:.2f} s",
            what == wanted and low <= seconds <= high)


@bookinfo("reviews-v1", "reviews-v1.yaml", "no stars, for everybody")
def reviews_v1(r):
    r.apply(B + "destination-rule-all.yaml", B + "reviews-v1.yaml")
    for user in (None, None, "jason"):
        sees(r, user, "none")


@bookinfo("reviews-jason", "reviews-jason-v2.yaml; then delay and abort of ratings for jason",
          "jason black stars, others none; delay: jason waits 6 s and sees no reviews; abort: no "
          "ratings, at once", quick=True)
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


def of_version(r, n):
    """One line for each answer of reviews."""
    return r.requests(n, REVIEWS, "-w", "\\n")


@bookinfo("reviews-shift", "reviews-50-v3.yaml, reviews-v3.yaml, reviews-80-20.yaml",
          "half red stars; all red; a fifth black")
def reviews_shift(r):
    r.apply(B + "destination-rule-all.yaml", B + "reviews-50-v3.yaml")
    n = draws(0.5, 0.4, 0.6)
    r.share(of_version(r, n), '"color": "red"', 0.5, 0.4, 0.6)
    r.apply(B + "reviews-v3.yaml")
    r.share(of_version(r, 50), '"color": "red"', 1.0, 0.5)
    r.apply(B + "reviews-80-20.yaml")
    r.share(of_version(r, draws(0.2, 0.1, 0.3)), '"color": "black"', 0.2, 0.1, 0.3)


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
    r.ns = "hello"
    seen = set(r.requests(60, "svc-hello:8080", "-H", "Connection: close"))
    r.check(f"{sorted(seen)}", seen == {"Hello server - v1", "Hello server - v2"})
    r.run("patch", "service/svc-hello", "-n", "hello", "-p",
          '{"spec": {"selector": {"version": "v2"}}}')
    r.settle()
    seen = set(r.requests(30, "svc-hello:8080"))
    r.check(f"version in the selector: {sorted(seen)}", seen == {"Hello server - v2"})
    r.run("patch", "service/svc-hello", "-n", "hello", "-p",
          '{"spec": {"selector": {"version": null}}}')
    r.apply(H + "weight.yaml")
    n = draws(0.1, 0.05, 0.2)
    r.share(r.requests(n, "svc-hello:8080"), "v2", 0.1, 0.05, 0.2)
    r.apply(H + "match.yaml")
    for header, wanted in (("v2", "v2"), ("v1", "v1")):
        seen = set(r.requests(20, "svc-hello:8080", "-H", f"x-version: {header}"))
        r.check(f"x-version {header}: {sorted(seen)}", seen == {f"Hello server - {wanted}"})


@row("bff-weight", "weight-10-90.yaml, abort.yaml",
     "a tenth of v1's pages; then 500 fault filter abort", base="conf/canary/base")
def bff_weight(r):
    r.ns = "shop"
    r.apply(K + "weight-10-90.yaml")
    n = draws(0.1, 0.05, 0.2)
    out = r.requests(n, "bff:8080")
    pages = [line for line in out if line.startswith("<h1>")]
    r.share(pages, "Recommendations v1", 0.1, 0.05, 0.2)
    r.apply(K + "abort.yaml")
    out = r.curl("-w", " %{http_code}", "http://bff:8080/").strip()
    r.check(out, out == "fault filter abort 500")


@row("canary-rollout", "weights 100/0 to 90/10 to 0/100 by patches, the image changes, under load",
     "no request fails; all of v2 in the end", base="conf/canary/base")
def canary_rollout(r):
    r.ns = "shop"
    r.apply(K + "weight-10-90.yaml")

    def weigh(v1, v2):
        r.run("patch", "virtualservice/recommendation-service", "-n", "shop", "--type", "json", "-p",
              f'[{{"op": "replace", "path": "/spec/http/0/route/0/weight", "value": {v1}}},'
              f' {{"op": "replace", "path": "/spec/http/0/route/1/weight", "value": {v2}}}]')
        r.settle()
    with r.load("http://recommendation-service:8080/") as load:
        weigh(100, 0)
        weigh(90, 10)
        r.image("recommendation-service-v2", "docker.io/example/recommendation-service:v2.1",
                "recommendation-service")
        weigh(0, 100)
        r.image("recommendation-service-v1", "docker.io/example/recommendation-service:v1.1",
                "recommendation-service")
    r.check(f"{load.failed} of {load.requests} failed", load.requests > 100 and load.failed == 0)
    r.share([x for x in r.requests(30, "recommendation-service:8080") if "<h1>" in x],
            "Recommendations v2", 1.0, 0.5)


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


@row("tcp-shift", "canary/tcp/weight-80-20.yaml", "a fifth of the connections at v2",
     base="conf/canary/tcp/base")
def tcp_shift(r):
    r.ns = "echo"
    r.apply("conf/canary/tcp/weight-80-20.yaml")
    n = draws(0.2, 0.1, 0.3)
    program = (f"for i in $(seq {n}); do exec 3<>/dev/tcp/tcp-echo/9000; echo hello >&3; "
               "head -1 <&3; exec 3<&-; done")
    lines = r.run("exec", "-n", "echo", "client", "--", "bash", "-c", program,
                  timeout=150).splitlines()
    r.check(f"{len(lines)} answers", set(lines) == {"one hello", "two hello"})
    r.share(lines, "two hello", 0.2, 0.1, 0.3)
