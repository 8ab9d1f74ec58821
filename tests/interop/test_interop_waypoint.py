# SPDX-License-Identifier: Apache-2.0
"""Envoy and the waypoint: as the one who calls it over HBONE (a gateway of Istio's), and as the
server behind it, with its own HTTP/2 and its own WebSockets between versions."""

import json
import os
import re

import envoy
import pytest
from lablib import (Lab, authorization_policy, leftovers, namespace, pod, service,
                    wait_until)
from mesh.labnet import LabNet
from mesh.pki import Authority
from test_waypoint_real import MB, PEERS, PYTHON, bound, curl, peer, run, seen_by_server
from test_waypoint_real import sound  # noqa: F401
from test_waypoint_tcp import ID, access, gateway, logs_of_waypoints, waypoints

ROUTER = {"name": "envoy.filters.http.router", "typed_config": {
    "@type": f"{envoy.TYPE}filters.http.router.v3.Router"}}
H2_UPSTREAM = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
    "@type": f"{envoy.TYPE}upstreams.http.v3.HttpProtocolOptions",
    "explicit_http_config": {"http2_protocol_options": {"allow_connect": True}}}}


def http_listener(name, port, routes, ip="0.0.0.0"):
    """HTTP of both versions, with WebSockets."""
    return envoy.listener(name, ip, port, "envoy.filters.network.http_connection_manager", {
        "@type": f"{envoy.TYPE}filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name, "codec_type": "AUTO", "stream_idle_timeout": "0s",
        "http2_protocol_options": {"allow_connect": True}, "http_filters": [ROUTER],
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]}})


def route(prefix, to):
    return {"match": {"prefix": prefix}, "route": {"cluster": to, "timeout": "0s"}}


class Pods:
    """What envoy.Envoy needs of a mesh, from a lab."""

    def __init__(self, lab, net):
        self.lab, self.net, self.dir = lab, net, lab.dir

    def popen(self, where, *cmd, **kw):
        return self.lab.popen(f"m/{where}", *cmd, **kw)

    def connect(self, where, to, timeout=5):
        return self.net.connect(where, to, timeout)


def objects():
    outside = {"istio.io/dataplane-mode": "none"}
    return [
        namespace("m", ambient=True), gateway(),
        pod("client", "m", labels=outside, node="node1", env={"PYTHONPATH": str(PEERS)}),
        pod("inside", "m", node="node1", sa="client", env={"PYTHONPATH": str(PEERS)}),
        pod("gateway", "m", labels=outside, node="node1"),
        peer("web", PYTHON, PEERS / "web_peer.py", 8080),
        pod("envoy", "m", node="node2", sa="envoy"),
        bound("web", ("http", 80, 8080)),
        bound("envoy", ("http", 80, 8080), ("http2", 81, 8080)),
        service("app", "m", {"app": "web"})]


@pytest.fixture(scope="module")
def lab():
    made = Lab(f"t{os.getpid()}-envoy")
    try:
        made.up(objects())
        wait_until(lambda: curl(made, "http://web.m/headers", where="m/inside").status == 200)
        yield made
    finally:
        made.local("down", check=False)
    assert not leftovers(made.name + ".")


@pytest.fixture(scope="module")
def net(lab):
    return LabNet(lab, "m")


@pytest.fixture(scope="module")
def envoy_client(lab, net, envoy_program):
    """Port 9000: bytes, each connection a CONNECT to web's address by the waypoint. Port 9001: HTTP,
    brought there over HTTP/2."""
    authority = Authority(lab.dir / "ca")
    own = authority.issue(ID + "gateway")
    waypoint = lab.ip(waypoints(lab)[0]["name"], "m")
    listeners, clusters = envoy.client(9000, waypoint, f"{lab.vip('web', 'm')}:80", own,
                                       [ID + "waypoint"])
    listeners.append(http_listener("front", 9001, [route("/", "inner")]))
    clusters.append(envoy.cluster("inner", "127.0.0.1", 9000,
                                  typed_extension_protocol_options=H2_UPSTREAM))
    listeners += envoy.client(9002, waypoint, "10.96.250.250:80", own, [ID + "waypoint"])[0]
    listeners[-1]["name"] = "nowhere"
    made = envoy.Envoy(envoy_program, Pods(lab, net), "gateway", listeners, clusters)
    yield lab.ip("gateway", "m")
    made.stop()
    authority.close()


@pytest.fixture(scope="module")
def envoy_server(lab, net, envoy_program):
    """Behind ztun, as the application of a pod; what is not its own goes to web, over HTTP/1.1."""
    routes = [{"match": {"path": "/own"},
               "direct_response": {"status": 200, "body": {"inline_string": "of envoy"}}},
              {"match": {"path": "/status/418"}, "direct_response": {"status": 418}},
              route("/", "app")]
    made = envoy.Envoy(envoy_program, Pods(lab, net), "envoy",
                       [http_listener("app", 8080, routes)],
                       [envoy.cluster("app", lab.vip("app", "m"), 80)])
    yield made
    made.stop()


# Envoy, HBONE, the waypoint


@pytest.mark.main
@pytest.mark.parametrize("port", [9000, 9001], ids=["bytes", "http"])
@pytest.mark.parametrize("flags", [[], ["--http2-prior-knowledge"]], ids=["h1", "h2"])
def test_envoy_calls_the_waypoint(lab, envoy_client, port, flags):
    reply = curl(lab, f"http://{envoy_client}:{port}/headers", *flags)
    assert reply.status == 200
    _, _, fields = seen_by_server(reply)
    assert fields["x-envoy-attempt-count"] == "1" and "x-request-id" in fields
    assert "x-forwarded-client-cert" not in fields


def test_waypoint_knows_the_gateway(lab, envoy_client):
    """By its certificate; its own header says nothing."""
    told = gateway()
    told["metadata"]["annotations"]["ambient.istio.io/xfcc-include-client-identity"] = "true"
    lab.apply(told)
    try:
        wait_until(lambda: seen_by_server(curl(
            lab, f"http://{envoy_client}:9001/headers", "-H", "x-forwarded-client-cert: URI=forged"
        ))[2].get("x-forwarded-client-cert") == f"By={ID}waypoint;URI={ID}gateway")
    finally:
        lab.apply(gateway())


def test_bodies_through_envoy(lab, envoy_client):
    for flags in ("", "--http2-prior-knowledge"):
        done = lab.exec("m/client", "sh", "-c", f"head -c {20 * MB} /dev/zero | curl -sS -m 30 {flags} "
                        f"-T - http://{envoy_client}:9001/echo | wc -c", timeout=40)
        assert int(done.out) == 20 * MB, done


def test_many_streams_through_envoy(lab, envoy_client):
    for flags in (["-c", "8", "-m", "16"], ["--h1", "-c", "8"]):
        done = lab.exec("m/client", "h2load", *flags, "-n", "800",
                        f"http://{envoy_client}:9001/bytes/1000", timeout=60)
        assert "800 succeeded, 0 failed, 0 errored" in done.out, done


def test_websocket_through_envoy(lab, envoy_client):
    """HTTP/1.1, Envoy, HTTP/2, the waypoint, HTTP/1.1; and with HTTP/2 all the way to the waypoint."""
    assert run(lab, "ws", f"""
async with connect("ws://{envoy_client}:9001/ws", subprotocols=["chat"], max_size=64 << 20) as ws:
    big = os.urandom(2 << 20)
    await ws.send(big)
    print(ws.subprotocol, await ws.recv() == big)
""") == "chat True"
    assert run(lab, "ws_h2", f"""
ws = WebSocket("{envoy_client}", "/ws", port=9001)
print(ws.head()[":status"], ws.ask("hello"), ws.ask("close 4001"))
""") == "200 hello ('closed', 4001)"


def test_envoy_is_denied(lab, envoy_client):
    deny = authorization_policy("no", "m", "DENY", rules=[{"from": [{"source": {
        "principals": ["cluster.local/ns/m/sa/gateway"]}}]}],
        targetRefs=[{"group": "", "kind": "Service", "name": "web"}])
    lab.apply(deny)
    try:
        wait_until(lambda: curl(lab, f"http://{envoy_client}:9001/headers").status in (0, 403, 503))
        assert curl(lab, "http://web.m/headers", where="m/inside").status == 200
    finally:
        lab.delete("AuthorizationPolicy", "m/no")
    wait_until(lambda: curl(lab, f"http://{envoy_client}:9001/headers").status == 200)


def test_envoy_calls_what_is_not_there(lab, envoy_client):
    """404 to its CONNECT: the connection ends, and no other is harmed."""
    assert curl(lab, f"http://{envoy_client}:9002/").status == 0
    wait_until(lambda: access(logs_of_waypoints(lab), dst__hbone_addr="10.96.250.250:80")
               or "10.96.250.250:80" in logs_of_waypoints(lab))
    assert curl(lab, f"http://{envoy_client}:9000/headers").status == 200


# The waypoint, HBONE, ztun, Envoy


@pytest.mark.main
@pytest.mark.parametrize("port", [80, 81], ids=["h1", "h2"])
@pytest.mark.parametrize("flags", [[], ["--http2-prior-knowledge"]], ids=["h1", "h2"])
def test_envoy_is_the_server(lab, envoy_server, port, flags):
    url = f"http://envoy.m:{port}"
    reply = curl(lab, f"{url}/own", *flags, where="m/inside")
    assert (reply.status, reply.body) == (200, "of envoy")
    assert reply.headers["server"] == "istio-envoy"
    assert curl(lab, f"{url}/status/418", *flags, where="m/inside").status == 418
    # through it, to the web server: what the waypoint says arrives
    reply = curl(lab, f"{url}/headers", *flags, where="m/inside")
    fields = dict(json.loads(reply.body)["fields"])
    assert re.fullmatch(r"[0-9a-f-]{36}", fields["x-request-id"])
    for path, answer in (("/count", str(5 * MB)),):
        done = lab.exec("m/inside", "sh", "-c", f"head -c {5 * MB} /dev/zero | curl -sS -m 30 "
                        f"{' '.join(flags)} --data-binary @- {url}{path}")
        assert done.out == answer, done


def test_websocket_to_envoy(lab, envoy_server):
    """It has to translate HTTP/2 for its own server: the client's key is there for that."""
    for port in (80, 81):
        assert run(lab, "ws", f"""
async with connect("ws://envoy.m:{port}/ws", max_size=64 << 20) as ws:
    big = os.urandom(2 << 20)
    await ws.send(big)
    print(await ws.recv() == big)
""", where="m/inside") == "True"
    assert run(lab, "ws_h2", """
ws = WebSocket("envoy.m", "/ws")
print(ws.head()[":status"], ws.ask("hello"))
""", where="m/inside") == "200 hello"


def test_many_streams_to_envoy(lab, envoy_server):
    for port in (80, 81):
        done = lab.exec("m/inside", "h2load", "-c", "8", "-m", "32", "-n", "4000",
                        f"http://envoy.m:{port}/own", timeout=60)
        assert "4000 succeeded, 0 failed, 0 errored" in done.out, done


def test_envoy_goes_away(lab, net, envoy_program, envoy_server):
    """A GOAWAY under load: its drain loses no request."""
    load = lab.popen("m/inside", "h2load", "-c", "4", "-m", "8", "-D", "2", "http://envoy.m:81/own")
    with net.connect("envoy", ("127.0.0.1", 19000)) as conn:
        conn.sendall(b"POST /drain_listeners?graceful HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        conn.recv(1000)
    out = load.communicate(timeout=30)[0]
    found = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", out)
    assert found and int(found[1]) > 100 and found[2] == found[3] == "0", out
