# SPDX-License-Identifier: Apache-2.0
"""TCP through a waypoint: client's ztun, waypoint, server's ztun, each with its own identity."""

import hashlib
import os
import re
import signal
import socket
import threading
import time

import pytest

from lablib import (authorization_policy, meta, namespace, peer_authentication, pod, service,
                    stays, wait_until)
from mesh.labnet import LabNet
from mesh.topology import Load, echo, linger0, read_all, read_exactly

MB = 1 << 20
ID = "spiffe://cluster.local/ns/m/sa/"


def gateway(name="waypoint", ns="m", replicas=1, kind="istio-waypoint", labels=None):
    return {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": meta(name, ns, labels, {"ztun.io/replicas": str(replicas)}),
            "spec": {"gatewayClassName": kind,
                     "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]}}


def tcp_service(name, app="server", waypoint=None):
    doc = service(name, "m", {"app": app},
                  ports=[{"name": "tcp", "port": 80, "targetPort": 8080}])
    if waypoint:
        doc["metadata"]["labels"] = {"istio.io/use-waypoint": waypoint}
    return doc


def mesh(replicas, *more, **gateway_labels):
    return [namespace("m", ambient=True), gateway(replicas=replicas, labels=gateway_labels or None),
            pod("client", "m", node="node1", sa="client"),
            pod("server", "m", node="node2", sa="server"),
            tcp_service("server", waypoint="waypoint"), tcp_service("direct"), *more]


def waypoints(lab):
    """Pods of the waypoint, that of node1 first."""
    return sorted(lab.pods("waypoint", "m"), key=lambda p: p["node"])


def logs_of_waypoints(lab):
    return "".join(p.read_text() for p in sorted((lab.dir / "logs").glob("m_waypoint-*.log")))


def access(text, **fields):
    """The access log's lines that have these fields (dots as __)."""
    out = []
    for line in text.splitlines():
        if "\taccess\t" in line:
            have = dict(re.findall(r'([\w.]+)="?([^"\s]*)"?', line))
            if all(have.get(k.replace("__", ".")) == v for k, v in fields.items()):
                out.append(have)
    return out


class Tolerant:
    """The load, without its own verdict on failures."""

    def __init__(self, load):
        self.load = load

    def __enter__(self):
        return self.load.__enter__()

    def __exit__(self, *_):
        self.load.__exit__(Exception)


@pytest.fixture(scope="module")
def lab(make_module_lab):
    return make_module_lab(mesh(1))


@pytest.fixture(autouse=True)
def sound(request, make_lab):
    """No waypoint ended but by an order, and none had a finding of a sanitizer."""
    yield
    labs = list(request.node.labs)
    if "lab" in request.fixturenames:
        labs.append(request.getfixturevalue("lab"))
    for one in labs:
        text = logs_of_waypoints(one)
        assert "Sanitizer" not in text and "check failed" not in text.lower()
        died = [p for p in waypoints(one) if p["restarts"] != 0]
        assert len(died) == getattr(one, "n_killed", 0), died


@pytest.fixture
def net(lab):
    return LabNet(lab, "m")


def vip(lab, name="server"):
    return (lab.vip(name, "m"), 80)


# The way


def test_three_proxies_see_the_flow(lab, net):
    with net.serve("server", 8080, echo), net.connect("client", vip(lab)) as conn:
        port = conn.getsockname()[1]
        conn.sendall(b"x" * 1000)
        assert len(read_exactly(conn, 1000)) == 1000
    client, server, waypoint = (lab.ip(n, "m") for n in
                                ("client", "server", waypoints(lab)[0]["name"]))
    first = {"src__addr": f"{client}:{port}", "src__identity": ID + "client"}
    out = wait_until(lambda: access(lab.logs("node1"), direction="outbound", **first))[0]
    assert out["dst.addr"] == f"{waypoint}:15008"
    assert out["dst.hbone_addr"] == f"{lab.vip('server', 'm')}:80"
    assert out["dst.identity"] == ID + "waypoint"
    # The waypoint knows the client, and its application's own port.
    way = wait_until(lambda: access(logs_of_waypoints(lab), direction="waypoint", **first))[0]
    assert way["src.workload"] == "client" and way["dst.workload"] == "server"
    assert way["dst.service"] == "server.m.svc.cluster.local"
    assert way["dst.addr"] == f"{server}:15008" and way["dst.hbone_addr"] == f"{server}:8080"
    assert way["dst.identity"] == ID + "server"
    assert (way["bytes_sent"], way["bytes_recv"]) == ("1000", "1000")
    # The server's side sees the waypoint.
    into = wait_until(lambda: access(lab.logs("node2"), direction="inbound",
                                     src__identity=ID + "waypoint"))[-1]
    assert into["src.addr"].split(":")[0] == waypoint and into["dst.workload"] == "server"


def test_metrics_of_the_waypoint(lab, net):
    with net.serve("server", 8080, echo):
        assert net.ask("client", vip(lab)) == b"hello world"
    ip = lab.ip(waypoints(lab)[0]["name"], "m")

    def scrape():
        done = lab.exec("node1", "curl", "-sS", "--max-time", 5, f"http://{ip}:15020/stats/prometheus")
        text = [line for line in done.out.splitlines()
                if line.startswith("istio_tcp_connections_closed_total{")]
        return [line for line in text if all(f'{k}="{v}"' in line for k, v in {
            "reporter": "waypoint", "source_workload": "client",
            "source_principal": ID + "client", "destination_workload": "server",
            "destination_principal": ID + "server", "request_protocol": "tcp",
            "destination_service": "server.m.svc.cluster.local",
            "connection_security_policy": "mutual_tls"}.items())]

    assert wait_until(scrape)


def test_unbound_service_is_direct(lab, net):
    def flow(name):
        with net.connect("client", vip(lab, name)) as conn:
            conn.sendall(b"x")
            assert read_exactly(conn, 1) == b"x"
            return f"{lab.ip('client', 'm')}:{conn.getsockname()[1]}"

    with net.serve("server", 8080, echo):
        direct, bound = flow("direct"), flow("server")
    assert wait_until(lambda: access(lab.logs("node2"), direction="inbound",
                                     src__identity=ID + "client"))
    # Lines come in order: behind that of the second flow the first one's would be there.
    assert wait_until(lambda: access(logs_of_waypoints(lab), src__addr=bound))
    assert not access(logs_of_waypoints(lab), src__addr=direct)


def test_readiness_and_status(lab):
    name = waypoints(lab)[0]["name"]
    ip = lab.ip(name, "m")
    assert lab.curl("node1", f"http://{ip}:15021/healthz/ready").out == "ready\n"
    status = lab.exec(f"m/{name}", "curl", "-sS", "http://127.0.0.1:15000/status").out
    assert '"boundServices":["m/server.m.svc.cluster.local"]' in status
    dump = lab.exec(f"m/{name}", "curl", "-sS", "http://127.0.0.1:15000/config_dump").out
    assert ID + "waypoint" in dump and '"certChain"' in dump
    shown = lab.get("Gateway", "waypoint", "m")["status"]
    assert shown["addresses"] == [{"type": "Hostname", "value": "waypoint.m.svc.cluster.local"}]
    assert {c["type"]: c["status"] for c in shown["conditions"]} == {"Accepted": "True",
                                                                     "Programmed": "True"}
    assert "istio-waypoint" in lab.local("status").stdout


# Bytes


def test_half_close_and_megabytes_both_ways(lab, net):
    data = os.urandom(8 * MB)
    seen = {}

    def server(conn):
        # All that came in, and as much again, out at the same time.
        sender = threading.Thread(target=lambda: conn.sendall(data))
        sender.start()
        seen["hash"] = hashlib.sha256(read_all(conn)).digest()
        sender.join()
        conn.sendall(b"end")
        conn.shutdown(socket.SHUT_WR)

    with net.serve("server", 8080, server), net.connect("client", vip(lab), 20) as conn:
        sender = threading.Thread(
            target=lambda: (conn.sendall(data), conn.shutdown(socket.SHUT_WR)))
        sender.start()
        got = read_all(conn)
        sender.join()
    assert seen["hash"] == hashlib.sha256(data).digest()
    assert got == data + b"end"


def test_the_server_speaks_first_and_ends_first(lab, net):
    rest = []

    def server(conn):
        conn.sendall(b"220 hello\r\n")
        conn.shutdown(socket.SHUT_WR)
        rest.append(read_all(conn))

    with net.serve("server", 8080, server), net.connect("client", vip(lab)) as conn:
        assert read_all(conn) == b"220 hello\r\n"
        conn.sendall(b"late")
        conn.shutdown(socket.SHUT_WR)
        wait_until(lambda: rest == [b"late"])


def test_reader_that_stalls_stops_the_writer(lab, net):
    """Backpressure goes through both tunnels; nothing is lost when reading goes on."""
    with net.serve("server", 8080) as server, net.connect("client", vip(lab)) as conn:
        conn.sendall(b"x")
        far = server.conn()
        conn.setblocking(False)
        sent, last, block = 1, time.monotonic(), b"x" * 65536
        while time.monotonic() - last < 1.5:
            try:
                sent += conn.send(block)
                last = time.monotonic()
            except BlockingIOError:
                time.sleep(0.01)
            assert sent < 200 * MB
        # Windows of two tunnels, three proxies' queues, two kernels.
        assert sent < 48 * MB
        conn.setblocking(True)
        conn.shutdown(socket.SHUT_WR)
        assert len(read_all(far)) == sent


@pytest.mark.parametrize("side", ["client", "server"])
def test_reset_goes_through(lab, net, side):
    with net.serve("server", 8080) as server, net.connect("client", vip(lab)) as conn:
        conn.sendall(b"x")
        far = server.conn()
        assert read_exactly(far, 1) == b"x"
        first, other = (conn, far) if side == "client" else (far, conn)
        linger0(first)
        first.close()
        with pytest.raises(ConnectionResetError):
            other.recv(1)


def test_many_at_a_time(lab, net):
    with net.serve("server", 8080, echo):
        conns = [net.connect("client", vip(lab)) for _ in range(300)]
        for i, conn in enumerate(conns):
            conn.sendall(b"%d" % i)
        for i, conn in enumerate(conns):
            assert read_exactly(conn, len(b"%d" % i)) == b"%d" % i
            conn.close()


# Refusals


def test_undeclared_port(lab, net):
    with net.serve("server", 81, echo):
        net.fails("client", (lab.vip("server", "m"), 81))
    line = wait_until(lambda: [x for x in logs_of_waypoints(lab).splitlines()
                               if "has no port 81" in x])[0]
    assert "the service has no such port" in line and ID + "client" in line


def test_nothing_listens(lab, net):
    net.fails("client", vip(lab))
    wait_until(lambda: "connection to the application failed" in logs_of_waypoints(lab)
               or "status 503" in logs_of_waypoints(lab))


@pytest.mark.parametrize("target", ["Service", "Gateway", "GatewayClass"])
def test_l4_policy_of_the_waypoint(lab, net, target):
    """It names the client, whom the server's side no longer sees."""
    group, name, ns = {"Service": ("", "server", "m"),
                       "Gateway": ("gateway.networking.k8s.io", "waypoint", "m"),
                       "GatewayClass": ("gateway.networking.k8s.io", "istio-waypoint",
                                        "istio-system")}[target]
    ref = {"group": group, "kind": target, "name": name}
    deny = authorization_policy("deny", ns, "DENY", targetRefs=[ref], rules=[
        {"from": [{"source": {"principals": ["cluster.local/ns/m/sa/client"]}}]}])
    with net.serve("server", 8080, echo), net.connect("client", vip(lab)) as running:
        running.sendall(b"x")
        assert read_exactly(running, 1) == b"x"
        lab.apply(deny)
        try:
            running.settimeout(5)
            with pytest.raises(ConnectionResetError):
                running.recv(1)
            net.fails("client", vip(lab))
            # The direct way is not the waypoint's.
            assert net.ask("client", vip(lab, "direct")) == b"hello world"
        finally:
            lab.delete("AuthorizationPolicy", f"{ns}/deny")
        wait_until(lambda: net.ask("client", vip(lab)) == b"hello world")
    assert access(logs_of_waypoints(lab), src__identity=ID + "client",
                  error="denied") or "denied by policy" in logs_of_waypoints(lab)


def test_policy_of_the_server_sees_the_waypoint(lab, net):
    """L4 policy at the destination is about who connects there: the waypoint, not the client."""
    def allow(name):
        return authorization_policy("only", "m", "ALLOW", selector={"app": "server"}, rules=[
            {"from": [{"source": {"principals": [f"cluster.local/ns/m/sa/{name}"]}}]}])

    with net.serve("server", 8080, echo):
        lab.apply(peer_authentication("strict", "m"), allow("waypoint"))
        try:
            wait_until(lambda: net.fails("client", vip(lab, "direct")) or True)
            assert net.ask("client", vip(lab)) == b"hello world"
            lab.apply(allow("client"))
            wait_until(lambda: net.ask("client", vip(lab, "direct")) == b"hello world")
            net.fails("client", vip(lab))
            wait_until(lambda: "denied by authorization policy" in logs_of_waypoints(lab)
                       or "401" in logs_of_waypoints(lab))
        finally:
            lab.delete("AuthorizationPolicy", "m/only")
            lab.delete("PeerAuthentication", "m/strict")
        wait_until(lambda: net.ask("client", vip(lab)) == b"hello world")


@pytest.mark.parametrize("action,rule", [
    ("DENY", {"to": [{"operation": {"methods": ["DELETE"]}}]}),
    ("ALLOW", {"to": [{"operation": {"paths": ["/ok"]}}]}),
])
def test_policy_with_http_attributes_fails_closed(lab, net, action, rule):
    policy = authorization_policy("l7", "m", action, rules=[rule], targetRefs=[
        {"group": "", "kind": "Service", "name": "server"}])
    with net.serve("server", 8080, echo):
        lab.apply(policy)
        try:
            wait_until(lambda: net.fails("client", vip(lab)) or True)
        finally:
            lab.delete("AuthorizationPolicy", "m/l7")
        wait_until(lambda: net.ask("client", vip(lab)) == b"hello world")


# Endpoints


def test_next_endpoint_when_one_does_not_answer(make_lab):
    lab = make_lab(mesh(1, pod("dead", "m", node="node2", labels={"app": "server"})))
    net = LabNet(lab, "m")
    with net.serve("server", 8080, echo):
        for _ in range(20):
            assert net.ask("client", vip(lab)) == b"hello world"


def test_endpoint_outside_of_the_mesh_is_plain(make_lab):
    lab = make_lab(mesh(1, pod("plain", "m", node="node2",
                               labels={"app": "plain", "istio.io/dataplane-mode": "none"}),
                        tcp_service("plain", "plain", "waypoint")))
    net = LabNet(lab, "m")
    with net.serve("plain", 8080, echo):
        assert net.ask("client", vip(lab, "plain")) == b"hello world"
    line = wait_until(lambda: access(logs_of_waypoints(lab), dst__workload="plain"))[0]
    assert line["dst.addr"].endswith(":8080") and "dst.identity" not in line


def test_workload_addressed(make_lab):
    lab = make_lab(mesh(1, **{"istio.io/waypoint-for": "all"}) + [
        pod("bound", "m", node="node2", sa="bound",
            labels={"app": "bound", "istio.io/use-waypoint": "waypoint"})])
    net = LabNet(lab, "m")
    with net.serve("bound", 5432, lambda conn: conn.sendall(read_all(conn))):
        assert net.ask("client", (lab.ip("bound", "m"), 5432)) == b"hello world"
    wait_until(lambda: access(logs_of_waypoints(lab), dst__workload="bound",
                              src__identity=ID + "client"))


# Change and failure


def test_binding_comes_and_goes_under_load(make_lab):
    """Proxies hear of it at their own pace; no connection may notice."""
    lab = make_lab(mesh(2))
    net = LabNet(lab, "m")
    with net.serve("server", 8080, echo), Load(net, "client", vip(lab), threads=2):
        for _ in range(4):
            lab.apply(tcp_service("server"))
            time.sleep(0.4)
            lab.apply(tcp_service("server", waypoint="waypoint"))
            time.sleep(0.4)


def test_a_killed_waypoint(make_lab):
    lab = make_lab(mesh(2))
    net = LabNet(lab, "m")
    with net.serve("server", 8080, echo):
        victim = waypoints(lab)[0] # near to the client: preferred
        running = net.connect("client", vip(lab))
        running.sendall(b"x")
        assert read_exactly(running, 1) == b"x"
        load = Load(net, "client", vip(lab), threads=2)
        with Tolerant(load) as load:
            time.sleep(0.3)
            killed_at = time.monotonic()
            lab.n_killed = 1
            os.kill(victim["containers"][0]["pid"], signal.SIGKILL)
            with pytest.raises(ConnectionResetError):
                running.recv(1)
            seen_at = time.monotonic()
            time.sleep(2.5)
        # What was in it is lost; who comes after the failure was seen finds the other one.
        assert seen_at - killed_at < 1
        assert [f for f in load.failures if f[0] > seen_at + 0.3] == []
        assert len(load.failures) <= 4


def test_no_waypoint_refuses(make_lab):
    """Policy must not fail open."""
    lab = make_lab(mesh(1))
    net = LabNet(lab, "m")
    with net.serve("server", 8080, echo):
        assert net.ask("client", vip(lab)) == b"hello world"
        lab.scale("m/waypoint", 0)
        wait_until(lambda: not lab.ready_endpoints("waypoint", "m"))
        wait_until(lambda: net.fails("client", vip(lab)) or True)
        stays(lambda: net.fails("client", vip(lab)) or True, 0.5)
        wait_until(lambda: "no healthy endpoint of the bound waypoint" in lab.logs("node1"))
        lab.scale("m/waypoint", 1)
        lab.wait_ready()
        wait_until(lambda: net.ask("client", vip(lab)) == b"hello world")


def test_restart_under_load(make_lab):
    """Old and new pods one after the other: GOAWAY, drain, readiness; no connection fails."""
    lab = make_lab(mesh(2))
    net = LabNet(lab, "m")
    old = {p["name"] for p in waypoints(lab)}
    with net.serve("server", 8080, echo), Load(net, "client", vip(lab), threads=2):
        lab.local("restart", "m/waypoint")
        wait_until(lambda: {p["name"] for p in waypoints(lab)}.isdisjoint(old) and
                   len(waypoints(lab)) == 2, 30)
        lab.wait_ready()
        time.sleep(1)
    assert "draining" in logs_of_waypoints(lab)


def test_replicas_follow_the_annotation_and_delete_takes_all(make_lab):
    lab = make_lab(mesh(1))
    lab.apply(gateway(replicas=3))
    assert len(waypoints(lab)) == 3
    lab.delete("Gateway", "m/waypoint")
    wait_until(lambda: not lab.pods("waypoint", "m") and lab.get("Service", "waypoint", "m") is None,
               20)
    assert lab.get("Deployment", "waypoint", "m") is None
