# SPDX-License-Identifier: Apache-2.0
"""Between two ways: services get a waypoint and lose it, waypoints come and go, while clients that
keep their connections go on asking. Requests that fail are counted."""

import re
import time

import pytest

from lablib import meta, namespace, pod, service, wait_until
from mesh.labnet import LabNet
from mesh.pooled import Http1, Http2, http1_server, http_server, response
from mesh.topology import echo, read_exactly
from test_waypoint_tcp import access, gateway, logs_of_waypoints, waypoints

DEADLINE = 3  # --rebind-deadline of the lab, seconds
ARGS = [a for who in ("--ztun-arg", "--waypoint-arg")
        for a in (who, f"--rebind-deadline={DEADLINE}s")]


def web(waypoint=None, name="web", port_name="http", **labels):
    doc = service(name, "m", {"app": "server"},
                  ports=[{"name": port_name, "port": 80, "targetPort": 8080}])
    if waypoint:
        labels["istio.io/use-waypoint"] = waypoint
    doc["metadata"]["labels"] = labels
    return doc


def mesh(*more, replicas=1):
    return [namespace("m", ambient=True), gateway(replicas=replicas),
            pod("client", "m", node="node1", sa="client"),
            pod("server", "m", node="node2", sa="server"), web(), *more]


@pytest.fixture(scope="module")
def lab(make_module_lab):
    return make_module_lab(mesh(), *ARGS)


@pytest.fixture
def net(lab):
    lab.apply(web())
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
    # No request failed (see Requests), and connections are not opened anew for nothing.
    assert load.n_opened <= 4 * 3 + load.n_again


@pytest.mark.parametrize("interval,after", [(0, 0), (0.02, 0.02)], ids=["busy", "pauses"])
def test_http2_connections_follow(lab, net, interval, after):
    told = rebound(lab, "goaway")
    with net.serve("server", 8080, http_server(after)), \
            Http2(net, "client", vip(lab), interval=interval) as load:
        there_and_back(lab, load)
    assert load.n_opened == 4 * 3  # each connection went once there and once back
    assert wait_until(lambda: rebound(lab, "goaway") >= told + 4)
