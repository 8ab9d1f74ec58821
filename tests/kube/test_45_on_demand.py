# SPDX-License-Identifier: Apache-2.0
"""Discovery on demand: proxies that ask istiod for what connections go to, and for no more."""

import pytest
from kubelib import (SETTINGS, SYSTEM, Proxies, connections, get, kubectl, metadata, pod, policy, proxy_pods,
                     service, wait_until)
from test_10_traffic import MTLS, tunnelled
from test_20_policy import applied
from test_30_istioctl import ask_json
from test_60_restarts import load, none_lost, record  # noqa: F401
from test_90_charts import virtual_service, waypoint  # noqa: F401

pytestmark = pytest.mark.usefixtures("on_demand")


@pytest.fixture(scope="module")
def on_demand(world, proxies):
    """The same release with another setting, for the tests of this file."""
    release = Proxies(SETTINGS.image, XDS_ON_DEMAND="true")
    release.install()
    wait_until(lambda: len(get("pods", SYSTEM, "-l", "app=ztunnel")["items"]) == len(proxy_pods()), 90)
    yield release
    proxies.install()


def known(node):
    return {(w["namespace"], w["name"]) for w in ask_json(node, "workload")}


def test_no_more_than_was_asked_for(world):
    node, outside = world.client.node, (world.plain.name, "outside")
    have = known(node)
    assert (world.mesh.name, "client") in have, "its own pods are known"
    assert outside not in have
    assert world.client.reaches(f"http://outside.{outside[0]}:8080/")["peer"] == world.client.ip
    assert outside in known(node)


def test_a_service_by_its_name(world):
    answer = tunnelled(world, world.client, world.far, "http://far:8080/")
    assert answer["pod"] == "far" and answer["peer"] == world.client.ip
    answers = world.client.get("http://server:8080/", n=30)
    assert {answer.get("pod") for answer in answers} == {"near", "far"}


def test_a_pod_by_its_address(world):
    answer = tunnelled(world, world.far, world.near, f"http://{world.near.ip}:8080/")
    assert answer["pod"] == "near"


def test_a_pod_that_comes_later(world):
    """At its first connections neither side knew of it."""
    app, = world.mesh.run(pod("late", world.mesh.name, world.far.node), services=[service("late", world.mesh.name)])
    world.mesh.wait_redirected()
    try:
        assert tunnelled(world, world.client, app, "http://late:8080/")["pod"] == "late"
        assert tunnelled(world, app, world.near, "http://near:8080/")["pod"] == "near"
    finally:
        world.mesh.apps.pop("late").close()
        kubectl("delete", "-n", world.mesh.name, "pod/late", "service/late", "serviceaccount/late")


def test_a_service_whose_pod_is_replaced(world):
    """By one of another name, as Deployments do it: the service had no endpoint for a while."""
    names = ("first", "second")
    made = [pod(name, world.mesh.name, world.far.node, account="far", labels={"which": "replaced"}) for name in names]
    app, = world.mesh.run(made[0], services=[service("replaced", world.mesh.name, {"which": "replaced"})])
    world.mesh.wait_redirected()
    try:
        assert tunnelled(world, world.client, world.far, "http://replaced:8080/")["pod"] == names[0]
        app.close()
        kubectl("delete", "pod", names[0], "-n", world.mesh.name)
        world.client.fails("http://replaced:8080/")
        world.mesh.run(made[1])
        assert world.client.reaches("http://replaced:8080/", 30)["pod"] == names[1]
    finally:
        for name in names:
            world.mesh.apps.pop(name, app).close()
        kubectl("delete", "-n", world.mesh.name, "service/replaced", *[f"pod/{name}" for name in names],
                "--ignore-not-found")


def test_a_service_entry(world):
    """By its address, which no Service has; it comes after a connection asked for it in vain."""
    address, ns = "10.111.111.111", world.mesh.name
    assert "error" in world.client.get(f"http://{address}:8080/", timeout=2)
    entry = {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": metadata("shop", ns),
             "spec": {"hosts": ["shop.example"], "addresses": [address], "resolution": "STATIC",
                      "location": "MESH_INTERNAL", "ports": [{"name": "http", "number": 8080, "protocol": "HTTP"}],
                      "workloadSelector": {"labels": {"app": "far"}}}}
    with applied("serviceentry", entry):
        assert world.client.reaches(f"http://{address}:8080/", 30)["pod"] == "far"
        assert tunnelled(world, world.client, world.far, f"http://{address}:8080/")["pod"] == "far"


def test_policies(world):
    """They come all, and know clients whose workload was not asked for."""
    made = policy("far", world.mesh.name, {
        "selector": {"matchLabels": {"app": "far"}}, "action": "DENY", "rules": [{"from": [
            {"source": {"principals": [f"cluster.local/ns/{world.mesh.name}/sa/near"]}}]}]})
    with applied("authorizationpolicy", made):
        world.near.fails("http://far:8080/")
        assert world.client.reaches("http://far:8080/")["pod"] == "far"
    world.near.reaches("http://far:8080/")


def test_a_waypoint(world, waypoint):  # noqa: F811
    """Of a service: nobody connects to it by its own name."""
    try:
        kubectl("apply", "-f", "-", input=virtual_service(
            waypoint, directResponse={"status": 418, "body": {"string": "{}"}}))
        kubectl("label", "service", "far", "-n", waypoint, "istio.io/use-waypoint=waypoint")
        world.client.wait_status("http://far:8080/", {418})
        before = connections(world.far.node, reporter="destination", **MTLS)
        kubectl("delete", "virtualservice", "far", "-n", waypoint)
        world.client.wait_status("http://far:8080/", {200})
        wait_until(lambda: connections(world.far.node, reporter="destination", **MTLS) > before, 10)
    finally:
        kubectl("delete", "virtualservice", "far", "-n", waypoint, "--ignore-not-found")
        kubectl("label", "service", "far", "-n", waypoint, "istio.io/use-waypoint-")


def test_a_rolling_update(world, proxies, record):  # noqa: F811
    """New proxies take over pods whose workloads they have to ask for first."""
    with load(world, record) as results:
        proxies.restart()
        proxies.wait_ready()
    none_lost(results, "new-far", "new-near")
