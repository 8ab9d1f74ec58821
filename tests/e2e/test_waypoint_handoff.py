# SPDX-License-Identifier: Apache-2.0
"""Between two ways: services get a waypoint and lose it, waypoints come and go, while clients that
keep their connections go on asking. Requests that fail are counted."""

import os
import re
import signal
import socket
import threading
import time

import pytest

from lablib import config_map, meta, namespace, pod, service, wait_until
from mesh.labnet import LabNet
from mesh.pooled import Http1, Http2, http1_server, http_server, response
from mesh.topology import echo, read_exactly
from test_waypoint_tcp import Tolerant, access, gateway, logs_of_waypoints, waypoints

DEADLINE = 2  # --rebind-deadline of the lab, seconds
ARGS = [a for who in ("--ztun-arg", "--waypoint-arg")
        for a in (who, f"--rebind-deadline={DEADLINE}s")]


def web(waypoint=None, name="web", port_name="http", **labels):
    doc = service(name, "m", {"app": "server"},
                  ports=[{"name": port_name, "port": 80, "targetPort": 8080}])
    if waypoint:
        labels["istio.io/use-waypoint"] = waypoint
    doc["metadata"]["labels"] = labels
    return doc


def spread(replicas, distribution=None):
    """The Gateway; its Service gets the annotation."""
    out = gateway(replicas=replicas)
    if distribution:
        out["spec"]["infrastructure"] = {
            "annotations": {"networking.istio.io/traffic-distribution": distribution}}
    return out


def mesh(*more, replicas=1, distribution=None):
    return [namespace("m", ambient=True), spread(replicas, distribution),
            pod("client", "m", node="node1", sa="client"),
            pod("server", "m", node="node2", sa="server"), web(), *more]


@pytest.fixture(scope="module")
def lab(make_module_lab):
    return make_module_lab(mesh(), *ARGS)


def bind(lab, waypoint=None, name="web"):
    """And both proxies of the way know it."""
    lab.apply(web(waypoint, name))
    for node in ("node1", "node2"):
        wait_until(lambda: [("waypoint" in s) == bool(waypoint)
                            for s in lab.config_dump(node)["services"]
                            if s["name"] == name] == [True])


@pytest.fixture
def net(lab):
    bind(lab)
    return LabNet(lab, "m")


@pytest.fixture(autouse=True)
def sound(request):
    yield
    if "lab" in request.fixturenames:
        one = request.getfixturevalue("lab")
        text = logs_of_waypoints(one) + one.logs("node1") + one.logs("node2")
        assert "Sanitizer" not in text and "check failed" not in text.lower()


def vip(lab, name="web"):
    return (lab.vip(name, "m"), 80)


def rebound(lab, reason):
    return lab.metrics("node1").value("flows_rebound_total", reason=reason) or 0


# What the lab says of a Gateway


def test_conditions_of_a_gateway(lab):
    def conditions(of):
        return {c["type"]: (c["status"], c["reason"]) for c in of["conditions"]}

    def times():
        return [c["lastTransitionTime"] for c in lab.get("Gateway", "waypoint", "m")["status"]
                ["conditions"]]

    before = times()
    front = gateway()
    front["spec"]["listeners"].append({"name": "web", "port": 80, "protocol": "HTTP"})
    lab.apply(front)
    try:
        status = wait_until(lambda: (lambda s: len(s["listeners"]) == 2 and s)(
            lab.get("Gateway", "waypoint", "m")["status"]))
        assert conditions(status) == {"Accepted": ("True", "Accepted"),
                                      "Programmed": ("True", "Programmed")}
        mesh_listener, other = status["listeners"]
        fine = {"ResolvedRefs": ("True", "ResolvedRefs"), "Conflicted": ("False", "NoConflicts")}
        assert conditions(mesh_listener) == {"Accepted": ("True", "Accepted"),
                                             "Programmed": ("True", "Programmed"), **fine}
        assert conditions(other) == {"Accepted": ("False", "UnsupportedProtocol"),
                                     "Programmed": ("False", "Invalid"), **fine}
        assert times() == before  # nothing of it has changed
    finally:
        lab.apply(gateway())


# Open connections follow their service


def there_and_back(lab, load):
    assert load.ways() == {b"direct"}
    lab.apply(web("waypoint"))
    load.all_go(b"waypoint", DEADLINE + 2)
    lab.apply(web())
    load.all_go(b"direct", DEADLINE + 2)


@pytest.mark.parametrize("server,interval", [
    (http1_server(), 0), (http1_server(chunked=True), 0.02), (http1_server(after=0.02), 0)],
    ids=["busy", "pauses", "slow"])
def test_http1_connections_follow(lab, net, server, interval):
    with net.serve("server", 8080, server), \
            Http1(net, "client", vip(lab), interval=interval) as load:
        there_and_back(lab, load)
    # No request failed (see Requests), and connections are not opened anew for nothing: each goes
    # there and back, and once more when its proxy heard of it later than the waypoint.
    assert load.n_opened <= 4 * 4 + load.n_again


@pytest.mark.parametrize("interval,after", [(0, 0), (0.02, 0.02)], ids=["busy", "pauses"])
def test_http2_connections_follow(lab, net, interval, after):
    told = rebound(lab, "goaway")
    with net.serve("server", 8080, http_server(after)), \
            Http2(net, "client", vip(lab), interval=interval) as load:
        there_and_back(lab, load)
    assert 4 * 3 <= load.n_opened <= 4 * 4  # there and back, see above
    assert wait_until(lambda: rebound(lab, "goaway") >= told + 4)


def test_h2load_and_curl(lab, net):
    """Clients of other people, with many streams and connections at a time."""
    url = "http://web.m/"
    with net.serve("server", 8080, http_server()):
        loads = [lab.popen("m/client", "h2load", "-c2", "-m4", "-D4", "--warm-up-time=0", url),
                 lab.popen("m/client", "curl", "-sS", "--rate", "100/s", "-o", "/dev/null", "-w",
                           "%{http_code}\\n", url + "?[1-300]")]
        time.sleep(1)
        lab.apply(web("waypoint"))
        time.sleep(1.5)
        lab.apply(web())
        h2load, curl = (load.communicate(timeout=30)[0] for load in loads)
    done = re.search(r"(\d+) total, .* (\d+) succeeded, (\d+) failed, (\d+) errored", h2load)
    assert done and done[3] == done[4] == "0", h2load
    assert curl.split() == ["200"] * 300


def test_bytes_that_are_no_http(lab, net):
    """Quiet connections are ended in order, busy ones cut at the deadline, and both say why."""
    with net.serve("server", 8080, echo), net.connect("client", vip(lab)) as quiet, \
            net.connect("client", vip(lab)) as busy:
        ports = [c.getsockname()[1] for c in (quiet, busy)]
        for conn in (quiet, busy):
            conn.sendall(b"hello")
            assert read_exactly(conn, 5) == b"hello"
        start = time.monotonic()
        lab.apply(web("waypoint"))
        ended = threading.Thread(target=lambda: ends.append((quiet.recv(1), time.monotonic())))
        ends = []
        ended.start()
        with pytest.raises(ConnectionResetError):
            while time.monotonic() < start + DEADLINE + 5:
                busy.sendall(b"x")
                assert read_exactly(busy, 1) == b"x"
                time.sleep(0.01)
        cut_at = time.monotonic()
        ended.join(5)
    assert ends[0][0] == b"" and ends[0][1] < start + DEADLINE  # in order, and before the cut
    assert DEADLINE - 0.1 <= cut_at - start < DEADLINE + 2
    client = lab.ip("client", "m")
    for port, text in zip(ports, ("ended in order", "cut at the rebind deadline")):
        line = wait_until(lambda: [x for x in lab.logs("node1").splitlines()
                                   if f"src.addr={client}:{port} " in x and text in x])[0]
        assert "now through waypoint m/waypoint.m.svc.cluster.local" in line
    assert wait_until(lambda: rebound(lab, "quiet") >= 1 and rebound(lab, "cut") >= 1)


def test_a_response_that_runs_is_not_ended(lab, net):
    """It is slow, with pauses in which nobody speaks, and goes on to its end before the deadline."""
    def handle(conn):
        conn.recv(65536)
        time.sleep(DEADLINE / 4)
        conn.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n")
        for _ in range(4):
            time.sleep(DEADLINE / 7)
            conn.sendall(b"xy")
        conn.recv(1)  # the end

    with net.serve("server", 8080, handle), net.connect("client", vip(lab)) as conn:
        conn.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        lab.apply(web("waypoint"))
        assert response(conn) == (b"xyxyxyxy", False)
        assert conn.recv(1) == b""


def test_a_binding_that_returns_leaves_connections(lab, net):
    with net.serve("server", 8080, echo), net.connect("client", vip(lab)) as conn:
        lab.apply(web("waypoint"))
        lab.apply(web())
        for _ in range(10):
            conn.sendall(b"x")
            assert read_exactly(conn, 1) == b"x"
            time.sleep(DEADLINE / 8)


def test_auto_binds_when_a_rule_appears(lab, net):
    rule = {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": meta("web", "m"), "spec": {"hosts": ["web"], "http": [
                {"route": [{"destination": {"host": "web"}}]}]}}
    lab.apply({**namespace("m", ambient=True), "metadata": {
        "name": "m", "labels": {"istio.io/dataplane-mode": "ambient",
                                "ztun.io/use-waypoint": "auto"}}})
    try:
        with net.serve("server", 8080, http1_server()), Http1(net, "client", vip(lab)) as load:
            assert load.ways() == {b"direct"}
            lab.apply(rule)
            load.all_go(b"waypoint", DEADLINE + 2)
            lab.delete("VirtualService", "m/web")
            load.all_go(b"direct", DEADLINE + 2)
    finally:
        lab.apply(namespace("m", ambient=True))


def test_a_canary_takes_its_share(lab, net):
    """Of new connections; the open ones stay where they are, until their waypoint is neither."""
    lab.apply(gateway(name="next"))
    wait_until(lambda: lab.ready_endpoints("next", "m"), 20)
    count = 0

    def shift(primary, canary=None, weight=0):
        doc = web(primary, "shifted", "tcp")
        if canary:
            doc["metadata"]["labels"]["istio.io/use-waypoint-canary"] = canary
            doc["metadata"]["annotations"] = {"istio.io/use-waypoint-canary-weight": str(weight)}
        lab.apply(doc)
        expected = [100 - weight, weight] if canary else []
        wait_until(lambda: [[w["weight"] for w in s.get("weightedWaypoints", [])]
                            for s in lab.config_dump("node1")["services"]
                            if s["name"] == "shifted"] == [expected])

    def through():
        """Connections so far: through the first waypoint, through the other one."""
        logs = lab.dir / "logs"
        return [sum(len(access(p.read_text(), direction="waypoint",
                               dst__service="shifted.m.svc.cluster.local"))
                    for p in logs.glob(f"m_{name}-*.log")) for name in ("waypoint", "next")]

    def ask(n):
        nonlocal count
        before = through()
        for _ in range(n):
            assert net.ask("client", vip(lab, "shifted")) == b"hello world"
        count += n
        wait_until(lambda: sum(through()) == count)
        return [b - a for a, b in zip(before, through())]

    try:
        with net.serve("server", 8080, echo):
            shift("waypoint", "next", 0)
            assert ask(5) == [5, 0]
            old = net.connect("client", vip(lab, "shifted"))
            shift("waypoint", "next", 100)
            assert ask(5) == [0, 5]
            shift("waypoint", "next", 40)
            assert min(ask(40)) >= 2 # more than 4 standard deviations
            moved = rebound(lab, "told") + rebound(lab, "quiet")
            shift("next") # promoted: the old connection's waypoint is out
            assert rebound(lab, "told") + rebound(lab, "quiet") == moved
            wait_until(lambda: not old.recv(1), 3 * DEADLINE)
            count += 1
            assert ask(5) == [0, 5]
            old.close()
    finally:
        lab.delete("Service", "m/shifted")
        lab.delete("Gateway", "m/next")


# Destinations that are nobody's


def test_unknown_destinations(lab, net):
    """They have no waypoint: they are passed on, or reset, and either has its name in log and metrics.
    Those that are open when REGISTRY_ONLY comes are reset, too; those to services go on. (The
    destination here is ztun's own readiness port on the other node.)"""
    ip = next(a["address"] for a in lab.get("Node", "node2", None)["status"]["addresses"]
              if a["type"] == "InternalIP")
    client = lab.ip("client", "m")

    def logged(name):
        return [x for x in access(lab.logs("node1"), dst__service=name)
                if x["src.addr"].startswith(client)]

    def counted(what, name):
        return lab.metrics("node1").value(f"istio_tcp_connections_{what}_total",
                                          destination_service_name=name) or 0

    def ask():
        return lab.curl("m/client", f"http://{ip}:15021/healthz/ready")

    assert ask().out == "ready\n"
    assert wait_until(lambda: logged("PassthroughCluster"))[0]["dst.addr"] == f"{ip}:15021"
    assert wait_until(lambda: counted("opened", "PassthroughCluster") == 1)
    with net.serve("server", 8080, echo), net.connect("client", (ip, 15021)) as unknown, \
            net.connect("client", (lab.ip("server", "m"), 8080)) as known:
        unknown.sendall(b"GET /")
        lab.apply(config_map("istio", "istio-system",
                             mesh="outboundTrafficPolicy: {mode: REGISTRY_ONLY}"))
        with pytest.raises(ConnectionResetError):
            unknown.recv(1)
        known.sendall(b"still here")
        assert read_exactly(known, 10) == b"still here"
    try:
        wait_until(lambda: not ask().ok)
        done = lab.curl("m/client", f"http://{ip}:15021/", "-v")
        assert "reset" in done.err.lower() or "Recv failure" in done.err, done
        assert "REGISTRY_ONLY" in wait_until(
            lambda: [x for x in lab.logs("node1").splitlines() if "BlackHoleCluster" in x])[0]
        assert wait_until(lambda: counted("failed", "BlackHoleCluster") >= 1)
        with net.serve("server", 8080, http1_server()): # what is known is reached
            assert lab.curl("m/client", "http://web.m/").out == "direct"
    finally:
        lab.delete("ConfigMap", "istio-system/istio")
    wait_until(lambda: ask().ok)


# Several processes behind one Gateway


@pytest.fixture(scope="module")
def pair(make_module_lab):
    lab = make_module_lab(mesh(web("waypoint", "shared"), replicas=2, distribution="Any"))
    lab.n_killed = 0
    return lab


def shares(lab, pods):
    """Connections that each waypoint has carried."""
    return {p["name"]: len(access((lab.dir / "logs").joinpath(
        f"m_{p['name']}_waypoint.log").read_text(), direction="waypoint")) for p in pods}


def all_ready(lab, n=2):
    wait_until(lambda: len(lab.ready_endpoints("waypoint", "m")) == n, 20)


def n_requests(lab, pod):
    text = lab.curl("node1", f"http://{lab.ip(pod['name'], 'm')}:15020/metrics").out
    return sum(float(x.split()[-1]) for x in text.splitlines()
               if x.startswith("istio_requests_total{"))


def busiest(lab):
    """The waypoint that carries most of what runs now. (Clients' proxies shun one that they could
    not reach for some seconds: it has ended before, in another test.)"""
    pods = waypoints(lab)
    before = [n_requests(lab, p) for p in pods]

    def more():
        return [n_requests(lab, p) - n for p, n in zip(pods, before)]

    counts = wait_until(lambda: (got := more()) and sum(got) > 50 and got)
    return pods[counts.index(max(counts))]


def end(lab, pod, how):
    """Ends the process. Returns what waits until the lab has started another one."""
    def restarts():
        return next(p["restarts"] for p in waypoints(lab) if p["name"] == pod["name"])

    lab.n_killed += 1
    os.kill(pod["containers"][0]["pid"], how)
    return lambda: wait_until(lambda: restarts() > pod["restarts"], 15)


def test_load_is_shared(pair):
    net, lab = LabNet(pair, "m"), pair
    lab.apply(web("waypoint", "tcp", port_name="tcp"))
    near, far = waypoints(lab)
    assert (near["node"], far["node"]) == ("node1", "node2")

    def ask(n):
        """How many of n connections went through each one."""
        before = shares(lab, (near, far))
        for _ in range(n):
            assert net.ask("client", vip(lab, "tcp")) == b"hello world"
        wait_until(lambda: sum(shares(lab, (near, far)).values()) == sum(before.values()) + n)
        return [shares(lab, (near, far))[p["name"]] - before[p["name"]] for p in (near, far)]

    with net.serve("server", 8080, echo):
        got = ask(60)
        assert min(got) >= 11, got  # 5 standard deviations
        lab.apply(spread(2, "PreferSameNode"))
        wait_until(lambda: ask(5) == [5, 0])
        assert ask(20) == [20, 0]
        lab.apply(spread(2, "Any"))
        wait_until(lambda: ask(5)[1] > 0)


@pytest.mark.parametrize("kind", [Http1, Http2])
def test_a_waypoint_that_drains_is_left_by_all(pair, kind):
    """SIGTERM with no successor: no request fails, and it answers its operator to the end."""
    net, lab = LabNet(pair, "m"), pair
    all_ready(lab)
    with net.serve("server", 8080, http_server()), \
            kind(net, "client", vip(lab, "shared"), threads=8) as load:
        victim = busiest(lab)
        restarted = end(lab, victim, signal.SIGTERM)
        ip = lab.ip(victim["name"], "m")
        wait_until(lambda: lab.curl("node1", f"http://{ip}:15021/healthz/ready").out ==
                   "draining\n", 3)
        assert "istio_build" in lab.curl("node1", f"http://{ip}:15020/metrics").out
        restarted()
        all_ready(lab)
    if kind is Http1:
        assert load.n_again == 0 # no connection ended under a request


def test_a_waypoint_that_is_killed_takes_what_is_in_it(pair):
    net, lab = LabNet(pair, "m"), pair
    all_ready(lab)
    threads = 8
    with net.serve("server", 8080, http_server(after=0.05)), \
            Tolerant(Http2(net, "client", vip(lab, "shared"), threads=threads)) as load:
        victim = busiest(lab)
        killed_at = time.monotonic()
        end(lab, victim, signal.SIGKILL)()
        all_ready(lab)
    assert load.failures # some were in it
    # No client repeats a request: each had one under way at most.
    assert len(load.failures) <= threads
    assert [f for f in load.failures if f[0] > killed_at + 1] == []


def test_a_waypoint_that_is_killed_fails_no_request_that_is_repeated(pair):
    """Clients that do what RFC 9110 (9.2.2) lets them do: a GET whose connection ended without an
    answer is sent again, on a new one. That goes through the other waypoint."""
    net, lab = LabNet(pair, "m"), pair
    all_ready(lab)
    with net.serve("server", 8080, http_server(after=0.05)), \
            Http1(net, "client", vip(lab, "shared"), threads=16) as load: # fails with any failure
        victim = busiest(lab)
        before = load.n_again
        end(lab, victim, signal.SIGKILL)()
        all_ready(lab)
    assert load.n_again > before # some were in it


def test_rolling_update(pair):
    net, lab = LabNet(pair, "m"), pair
    all_ready(lab)
    old = {p["name"] for p in waypoints(lab)}
    with net.serve("server", 8080, http_server()), \
            Http1(net, "client", vip(lab, "shared")), Http2(net, "client", vip(lab, "shared")):
        lab.local("restart", "m/waypoint")
        wait_until(lambda: old.isdisjoint(p["name"] for p in lab.status()["pods"]), 30)
        all_ready(lab)


# Called by the address of a pod


@pytest.fixture(scope="module")
def pods(make_module_lab):
    front = gateway(labels={"istio.io/waypoint-for": "all"})
    answer = {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
              "metadata": meta("web", "m"), "spec": {"hosts": ["web"], "http": [
                  {"directResponse": {"status": 418}}]}}
    return make_module_lab([
        namespace("m", ambient=True), front, web("waypoint"), answer,
        pod("client", "m", node="node1", sa="client"),
        pod("server", "m", node="node2", sa="server",
            labels={"app": "server", "istio.io/use-waypoint": "waypoint"})],
        "--waypoint-arg", "--access-log=true", *ARGS)


def only_http2(conn):
    assert conn.recv(3, socket.MSG_PEEK) == b"PRI"
    http_server()(conn)


def test_http_to_the_address_of_a_pod(pods):
    """HTTP is HTTP, but what is said about services does not hold."""
    net, lab = LabNet(pods, "m"), pods
    ip = lab.ip("server", "m")
    with net.serve("server", 8080, http_server()):
        url = "http://web.m/"
        wait_until(lambda: lab.exec("m/client", "curl", "-sS", "-o", "/dev/null", "-w",
                                    "%{http_code}", url).out == "418")
        with Http1(net, "client", (ip, 8080), threads=2) as load:
            time.sleep(0.2)
        assert load.ways() == {b"waypoint"} and load.n_opened == 2
    # Towards the pod it is the client's version: who calls a pod of a headless service for gRPC
    # wants HTTP/2.
    with net.serve("server", 8081, only_http2), \
            Http2(net, "client", (ip, 8081), threads=2) as load:
        time.sleep(0.2)
    assert load.ways() == {b"waypoint"}
    with net.serve("server", 5432, echo):
        assert net.ask("client", (ip, 5432)) == b"hello world"
    name = waypoints(lab)[0]["name"]
    logged = wait_until(lambda: re.findall(r"inbound-\S+", logs_of_waypoints(lab)))
    assert {f"inbound-pod|{port}|http|{ip}" for port in (8080, 8081)} <= set(logged)
    scraped = lab.curl("node1", f"http://{lab.ip(name, 'm')}:15020/stats/prometheus").out
    lines = [x for x in scraped.splitlines() if x.startswith("istio_requests_total{")]
    assert [x for x in lines if 'destination_workload="server"' in x
            and 'destination_service="unknown"' in x and 'response_code="200"' in x
            and 'destination_principal="spiffe://cluster.local/ns/m/sa/server"' in x], lines


def test_a_pod_that_gets_a_waypoint(pods):
    """Its open connections follow, as those of a service do."""
    net, lab = LabNet(pods, "m"), pods
    lab.apply(pod("late", "m", node="node2", sa="server"))
    to = (lab.ip("late", "m"), 8080)
    with net.serve("late", 8080, http_server()), Http1(net, "client", to, threads=2) as load:
        assert load.ways() == {b"direct"}
        lab.apply(pod("late", "m", node="node2", sa="server",
                      labels={"app": "late", "istio.io/use-waypoint": "waypoint"}))
        load.all_go(b"waypoint")
