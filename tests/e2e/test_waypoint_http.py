# SPDX-License-Identifier: Apache-2.0
"""HTTP through a waypoint: VirtualService and DestinationRule, from unchanged YAML."""

import json
import re
import threading
import time

import pytest

from lablib import meta, namespace, pod, server, service, stays, wait_until
from test_waypoint_tcp import gateway, logs_of_waypoints, waypoints

GATEWAY_API = "gateway.networking.k8s.io/v1"
URL = "http://web.m"


def virtual_service(*http, name="web", host="web"):
    return {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": meta(name, "m"), "spec": {"hosts": [host], "http": list(http)}}


def destination_rule(policy=None, name="web", host="web"):
    spec = {"host": host, "subsets": [{"name": v, "labels": {"version": v}} for v in ("v1", "v2")]}
    if policy:
        spec["trafficPolicy"] = policy
    return {"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": meta(name, "m"), "spec": spec}


def to(subset=None, weight=None, host="web"):
    out = {"destination": {"host": host}}
    if subset:
        out["destination"]["subset"] = subset
    if weight is not None:
        out["weight"] = weight
    return out


def web(name, version, **more):
    return server(name, "m", version, labels={"app": "web", "version": version}, node="node2",
                  sa="web", **more)


def mesh():
    bound = service("web", "m", {"app": "web"})
    bound["metadata"]["labels"] = {"istio.io/use-waypoint": "waypoint"}
    return [namespace("m", ambient=True), gateway(), bound, service("direct", "m", {"app": "web"}),
            pod("client", "m", node="node1", sa="client"),
            web("web-1", "v1", env={"LOG_REQUESTS": "/"}),
            web("web-2", "v2", env={"LOG_REQUESTS": "/"})]


@pytest.fixture(scope="module")
def lab(make_module_lab):
    return make_module_lab(mesh())


@pytest.fixture(autouse=True)
def sound(lab):
    """No waypoint ended, and none had a finding of a sanitizer."""
    yield
    text = logs_of_waypoints(lab)
    assert "Sanitizer" not in text and "runtime error" not in text, text[-3000:]
    assert "check failed" not in text.lower()
    assert all(p["restarts"] == 0 for p in waypoints(lab))


class Reply:
    def __init__(self, text, code):
        head, _, self.body = text.replace("\r\n", "\n").partition("\n\n")
        lines = head.split("\n")
        self.status = int(lines[0].split()[1]) if len(lines[0].split()) > 1 else 0
        self.headers = {k.strip().lower(): v.strip()
                        for k, _, v in (line.partition(":") for line in lines[1:])}
        self.exit = code

    @property
    def version(self):
        found = re.match(r"server (v\d)", self.body)
        return found[1] if found else None


def curl(lab, path="/", *args, url=URL):
    done = lab.exec("m/client", "curl", "-sS", "-i", "-m", "10", *args, url + path)
    return Reply(done.out, done.code)


def versions(lab, n, path="/", *args):
    """How often each version answered n requests of one connection."""
    done = lab.exec("m/client", "curl", "-sS", "-m", "60", *args, *[URL + path] * n, timeout=90)
    found = re.findall(r"^server (v\d)", done.out, re.M)
    assert len(found) == n, done
    return {v: found.count(v) for v in ("v1", "v2")}


def apply(lab, *objects):
    """Applies, and waits until a waypoint has it: by an answer that only this one gives."""
    mark = f"m{time.monotonic_ns()}"
    for one in objects:
        if one["kind"] == "VirtualService":
            one["spec"]["http"].insert(0, {
                "match": [{"uri": {"exact": "/mark"}}],
                "directResponse": {"status": 200, "body": {"string": mark}}})
    lab.apply(*objects)
    wait_until(lambda: curl(lab, "/mark").body == mark)


# Without rules


@pytest.mark.main
def test_plain_request(lab):
    apply(lab, destination_rule(), virtual_service({"route": [to()]}))
    reply = curl(lab, "/headers")
    assert reply.status == 200
    assert reply.headers["server"] == "istio-envoy"
    assert "x-envoy-upstream-service-time" in reply.headers
    assert re.search(r"^x-request-id: [0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab]", reply.body,
                     re.M)
    assert "x-forwarded-proto: http" in reply.body.lower()
    assert "x-envoy-attempt-count: 1" in reply.body.lower()
    assert "x-forwarded-for" not in reply.body.lower()


def test_service_without_rules_stays_direct(lab):
    reply = curl(lab, "/headers", url="http://direct.m")
    assert reply.status == 200 and "x-request-id" not in reply.body.lower()


@pytest.mark.parametrize("flags", [[], ["--http2-prior-knowledge"]], ids=["h1", "h2"])
def test_bodies_both_ways(lab, flags):
    body = "0123456789abcdef" * 65536  # 1 MiB
    done = lab.exec("m/client", "curl", "-sS", "-m", "30", *flags, "--data-binary", "@-",
                    f"{URL}/echo", input=body)
    assert done.out == body
    done = lab.exec("m/client", "sh", "-c",
                    f"curl -sS -m 30 {' '.join(flags)} {URL}/bytes/5000000 | wc -c")
    assert int(done.out) == 5000000


def test_head_and_old_http(lab):
    reply = curl(lab, "/bytes/100", "-I")
    assert reply.status == 200 and reply.body == "" and reply.headers["content-length"] == "100"
    assert curl(lab, "/", "--http1.0").status == 426


# VirtualService


@pytest.mark.main
def test_weights(lab):
    apply(lab, destination_rule(), virtual_service({"route": [to("v1", 90), to("v2", 10)]}))
    got = versions(lab, 1000)
    # 6 standard deviations around 10 %: 20 % would be 8 away
    assert 43 <= got["v2"] <= 157, got
    apply(lab, virtual_service({"route": [to("v1", 0), to("v2", 100)]}))
    assert versions(lab, 50) == {"v1": 0, "v2": 50}


def test_matches_in_order(lab):
    apply(lab, destination_rule(), virtual_service(
        {"match": [{"headers": {"end-user": {"exact": "jason"}}}], "route": [to("v2")]},
        {"match": [{"uri": {"prefix": "/two"}}, {"queryParams": {"two": {"exact": "yes"}}}],
         "route": [to("v2")]},
        {"match": [{"method": {"exact": "POST"}}], "directResponse": {"status": 405}},
        {"route": [to("v1")]}))
    assert curl(lab).version == "v1"
    assert curl(lab, "/", "-H", "End-User: jason").version == "v2"
    assert curl(lab, "/two").version == "v2"
    assert curl(lab, "/?two=yes").version == "v2"
    assert curl(lab, "/", "-d", "x").status == 405


def test_nothing_matches_is_404(lab):
    apply(lab, virtual_service({"match": [{"uri": {"prefix": "/only"}}], "route": [to()]}))
    reply = curl(lab, "/other")
    assert (reply.status, reply.body) == (404, "")


def test_missing_subset_is_503(lab):
    apply(lab, destination_rule(), virtual_service({"route": [to("v9")]}))
    reply = curl(lab)
    assert (reply.status, reply.body) == (503, "")


def test_rewrite_headers_redirect(lab):
    apply(lab, virtual_service(
        {"match": [{"uri": {"prefix": "/old/"}}], "rewrite": {"uri": "/"},
         "headers": {"request": {"set": {"x-set": "a"}, "remove": ["x-gone"]},
                     "response": {"add": {"x-added": "b"}}}, "route": [to()]},
        {"match": [{"uri": {"exact": "/moved"}}], "redirect": {"uri": "/new", "redirectCode": 302}},
        {"route": [to()]}))
    reply = curl(lab, "/old/headers", "-H", "x-gone: 1")
    assert reply.headers["x-added"] == "b"
    assert "x-set: a" in reply.body and "x-gone" not in reply.body
    assert "x-envoy-original-path: /old/headers" in reply.body
    moved = curl(lab, "/moved")
    assert (moved.status, moved.headers["location"]) == (302, "http://web.m/new")


def test_fault_abort_and_delay(lab):
    apply(lab, virtual_service(
        {"match": [{"uri": {"prefix": "/abort"}}],
         "fault": {"abort": {"httpStatus": 500, "percentage": {"value": 100}}}, "route": [to()]},
        {"match": [{"uri": {"prefix": "/late"}}],
         "fault": {"delay": {"fixedDelay": "1s", "percentage": {"value": 100}}}, "route": [to()]},
        {"route": [to()]}))
    reply = curl(lab, "/abort")
    assert (reply.status, reply.body) == (500, "fault filter abort")
    start = time.monotonic()
    assert curl(lab, "/late").status == 200
    assert time.monotonic() - start >= 1


@pytest.mark.main
def test_timeout(lab):
    apply(lab, virtual_service({"timeout": "0.5s", "route": [to()]}))
    start = time.monotonic()
    reply = curl(lab, "/slow/5")
    assert (reply.status, reply.body) == (504, "upstream request timeout")
    assert 0.5 <= time.monotonic() - start < 4


@pytest.mark.main
def test_retry_hides_a_failing_version(lab):
    apply(lab, destination_rule(),
          virtual_service({"retries": {"attempts": 3, "retryOn": "5xx"}, "route": [to()]}))
    assert versions(lab, 40, "/unless/v2") == {"v1": 40, "v2": 0}
    # without it they are seen
    apply(lab, virtual_service({"retries": {"attempts": 0}, "route": [to()]}))
    found = {curl(lab, "/unless/v2").status for _ in range(20)}
    assert found == {200, 503}


def test_retry_sends_the_body_again(lab):
    apply(lab, virtual_service({"retries": {"attempts": 3, "retryOn": "reset,connect-failure"},
                                "route": [to()]}))
    body = "x" * 100000
    for _ in range(5):
        done = lab.exec("m/client", "curl", "-sS", "-m", "30", "--data-binary", "@-",
                        f"{URL}/echo", input=body)
        assert done.out == body


@pytest.mark.main
def test_mirror(lab):
    apply(lab, destination_rule(),
          virtual_service({"route": [to("v1")], "mirror": to("v2")["destination"]}))
    path = f"/mirrored-{time.monotonic_ns()}"
    assert versions(lab, 20, path) == {"v1": 20, "v2": 0}
    wait_until(lambda: lab.logs("m/web-2").count(path) >= 20)
    stays(lambda: lab.logs("m/web-2").count(path) == 20, 0.5)
    # an answer that never comes holds up nobody
    start = time.monotonic()
    assert versions(lab, 3, "/unless/v2") == {"v1": 3, "v2": 0}
    assert time.monotonic() - start < 5


def test_mirror_has_the_body_that_came_during_a_delay(lab):
    apply(lab, destination_rule(), virtual_service(
        {"fault": {"delay": {"fixedDelay": "0.3s", "percentage": {"value": 100}}},
         "route": [to("v1")], "mirror": to("v2")["destination"]}))
    path = f"/echo/{time.monotonic_ns()}"
    done = lab.exec("m/client", "curl", "-sS", "-m", "20", "-d", "hello", URL + path)
    assert done.out == "hello"
    wait_until(lambda: f"{path} echoed 5 of 5 bytes" in lab.logs("m/web-2"))


def test_reference_grant(lab):
    """A backend of another namespace has its share answered with 500 until that permits it."""
    bound = service("granted", "m", {"app": "web"})
    bound["metadata"]["labels"] = {"istio.io/use-waypoint": "waypoint"}
    backends = [{"name": "far", "namespace": "far", "port": 80, "weight": 1}]
    route = {"apiVersion": GATEWAY_API, "kind": "HTTPRoute", "metadata": meta("granted", "m"),
             "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "granted"}],
                      "rules": [{"matches": [{"path": {"value": "/far"}}], "backendRefs": backends},
                                {"backendRefs": [{"name": "web", "port": 80}]}]}}
    grant = {"apiVersion": GATEWAY_API, "kind": "ReferenceGrant", "metadata": meta("grant", "far"),
             "spec": {"from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute",
                                "namespace": "m"}],
                      "to": [{"group": "", "kind": "Service", "name": "far"}]}}
    lab.apply(namespace("far"), service("far", "far", {"app": "none"}), bound, route)
    url = "http://granted.m"
    assert curl(lab, "/far", url=url).status == 500
    assert curl(lab, "/else", url=url).status == 200
    lab.apply(grant)
    assert curl(lab, "/far", url=url).status == 503  # it is asked, and has no endpoint
    lab.delete("ReferenceGrant", "far/grant")
    lab.wait_ready()
    assert curl(lab, "/far", url=url).status == 500


def test_cors(lab):
    apply(lab, virtual_service({"corsPolicy": {"allowOrigins": [{"exact": "http://a.test"}],
                                               "allowMethods": ["GET"]}, "route": [to()]}))
    reply = curl(lab, "/", "-X", "OPTIONS", "-H", "Origin: http://a.test", "-H",
                 "Access-Control-Request-Method: GET")
    assert reply.status == 200
    assert reply.headers["access-control-allow-origin"] == "http://a.test"
    assert curl(lab, "/", "-H", "Origin: http://a.test").headers[
        "access-control-allow-origin"] == "http://a.test"
    assert "access-control-allow-origin" not in curl(lab, "/", "-H", "Origin: http://b.test").headers


# DestinationRule


def test_round_robin_alternates(lab):
    apply(lab, destination_rule({"loadBalancer": {"simple": "ROUND_ROBIN"}}),
          virtual_service({"route": [to()]}))
    got = [curl(lab).version for _ in range(10)]  # each on a connection of its own
    assert all(a != b for a, b in zip(got, got[1:])), got


def test_circuit_breaker(lab):
    apply(lab, destination_rule({"connectionPool": {
        "tcp": {"maxConnections": 1},
        "http": {"http1MaxPendingRequests": 1, "maxRequestsPerConnection": 1}}}),
        virtual_service({"route": [to("v1")], "retries": {"attempts": 0}}))
    replies = []
    threads = [threading.Thread(target=lambda: replies.append(curl(lab, "/slow/1")))
               for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failed = [r for r in replies if r.status != 200]
    assert 1 <= len(failed) <= 5, [r.status for r in replies]
    for reply in failed:
        assert reply.status == 503 and reply.headers["x-envoy-overloaded"] == "true"
        assert reply.body.endswith("reset reason: overflow")


@pytest.mark.main
def test_outlier_ejection_and_return(lab):
    apply(lab, destination_rule({"outlierDetection": {
        "consecutive5xxErrors": 1, "interval": "1s", "baseEjectionTime": "3s",
        "maxEjectionPercent": 100}}),
        virtual_service({"route": [to()], "retries": {"attempts": 0}}))
    wait_until(lambda: curl(lab, "/unless/v2").status == 503)
    assert versions(lab, 20) == {"v1": 20, "v2": 0}  # out
    wait_until(lambda: curl(lab).version == "v2", 15)  # and back


def test_tls_is_never_left_out(lab):
    """The pods speak no TLS of their own: nothing goes to them in clear text instead."""
    apply(lab, destination_rule({"tls": {"mode": "SIMPLE"}}), virtual_service({"route": [to()]}))
    reply = curl(lab)
    assert reply.status == 503 and "TLS error: the peer does not speak TLS" in reply.body
    apply(lab, destination_rule({"tunnel": {"targetHost": "x", "targetPort": 1}}),
          virtual_service({"route": [to()]}))
    reply = curl(lab)
    assert reply.status == 503 and "tunnel (DestinationRule) is for TCP and TLS" in reply.body
    apply(lab, destination_rule(), virtual_service({"route": [to()]}))


# At run time


@pytest.mark.main
def test_weight_changes_lose_nothing(lab):
    apply(lab, destination_rule(), virtual_service({"route": [to("v1", 50), to("v2", 50)]}))
    load = lab.popen("m/client", "h2load", "--h1", "-c", "4", "-D", "6", f"{URL}/")
    for weight in (90, 10, 0, 100, 50):
        time.sleep(0.8)
        lab.apply(virtual_service({"route": [to("v1", weight), to("v2", 100 - weight)]}))
    out = load.communicate(timeout=60)[0]
    found = re.search(r"requests: (\d+) total.* (\d+) succeeded, (\d+) failed, (\d+) errored", out)
    assert found and int(found[2]) > 100 and found[3] == "0" and found[4] == "0", out


def connections(lab):
    """Connections of servers, as their kernels count them: client's ports."""
    out = ""
    for name in ("web-1", "web-2"):
        out += lab.exec(f"m/{name}", "ss", "-Htn", "state", "established",
                        "( sport = :8080 )").out
    return sorted(line.split()[3] for line in out.splitlines())


def test_idle_connections_follow_their_rule(lab):
    """No request comes, but the DestinationRule changes."""
    balanced = {"loadBalancer": {"simple": "ROUND_ROBIN"}}
    apply(lab, destination_rule(balanced), virtual_service({"route": [to()]}))
    curl(lab, "/", URL, URL)
    # Those of the rule before end by themselves.
    before = wait_until(lambda: (got := connections(lab)) and time.sleep(0.2) is None and
                        got == connections(lab) and got)
    # What does not concern connections; the mark takes none.
    apply(lab, destination_rule({"loadBalancer": {"simple": "RANDOM"},
                                 "outlierDetection": {"consecutive5xxErrors": 9}}),
          virtual_service({"route": [to()]}))
    assert connections(lab) == before
    lab.apply(destination_rule({**balanced, "connectionPool": {"http": {"idleTimeout": "99s"}}}))
    wait_until(lambda: not connections(lab))


@pytest.mark.main
def test_connections_end_with_a_pod(lab):
    """A pod that is deleted while requests run loses none of them."""
    # It goes on for a second, as pods should: whoever balances learns of the end later than it does.
    lab.apply(web("web-3", "v1", lifecycle={"preStop": {"sleep": {"seconds": 1}}}))
    apply(lab, destination_rule(), virtual_service({"route": [to()]}))
    load = lab.popen("m/client", "h2load", "--h1", "-c", "4", "-D", "4", f"{URL}/")
    time.sleep(1)
    lab.delete("pod", "m/web-3", grace=5)
    out = load.communicate(timeout=60)[0]
    found = re.search(r"requests: (\d+) total.* (\d+) succeeded, (\d+) failed, (\d+) errored", out)
    assert found and int(found[2]) > 100 and found[3] == "0" and found[4] == "0", out


def test_smuggling_is_refused(lab):
    raw = ("POST / HTTP/1.1\r\nHost: web.m\r\nContent-Length: 4\r\n"
           "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
    done = lab.exec("m/client", "python3", "-c",
                    "import socket,sys; s=socket.create_connection(('web.m',80),5);"
                    f"s.sendall({raw!r}.encode()); s.settimeout(5);"
                    "print(s.recv(65536).decode())")
    assert done.out.startswith("HTTP/1.1 400 Bad Request"), done
    assert "/smuggled" not in lab.logs("m/web-1") + lab.logs("m/web-2")


def test_config_dump_is_json(lab):
    where = f"m/{waypoints(lab)[0]['name']}"
    dump = json.loads(lab.exec(where, "curl", "-sS", "-m", "5",
                               "http://127.0.0.1:15000/config_dump").out)
    assert dump


@pytest.mark.parametrize("flags", [[], ["--http2-prior-knowledge"]], ids=["h1", "h2"])
def test_slow_readers_are_not_hurried(lab, flags):
    """Both directions wait for a client that reads slowly, and nothing is lost."""
    done = lab.exec("m/client", "sh", "-c", f"curl -sS -m 60 --limit-rate 8M {' '.join(flags)} "
                    f"{URL}/bytes/16000000 | wc -c", timeout=90)
    assert int(done.out) == 16000000
    done = lab.exec("m/client", "sh", "-c", "head -c 8000000 /dev/zero | curl -sS -m 60 "
                    f"--limit-rate 4M {' '.join(flags)} --data-binary @- {URL}/echo | wc -c",
                    timeout=90)
    assert int(done.out) == 8000000
