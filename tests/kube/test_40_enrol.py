# SPDX-License-Identifier: Apache-2.0
"""Namespaces join the mesh, and leave it, with pods that run."""

import time

import pytest
from conftest import World
from kubelib import connections, get, wait_until

MTLS = {"connection_security_policy": "mutual_tls"}


@pytest.fixture
def small(proxies, nodes):
    """Its own pods: what runs in them must not be another test's."""
    made = World(nodes, "-enrol")
    yield made
    made.delete()


def opened(world):
    return connections(world.client.node, reporter="source", **MTLS,
                       source_workload_namespace=world.mesh.name)


def settled(world):
    """Requests go through, one after the other, for a while."""
    def look():
        return all("status" in answer for answer in world.client.get("http://far:8080/", n=10))
    wait_until(look, 60)


def test_label_off_and_on_again(small):
    """With requests on new connections all the time. Once it has settled none is lost."""
    world = small
    settled(world)
    assert opened(world) > 0
    world.mesh.enrol(False)
    settled(world)
    before = opened(world)
    world.client.begin("off", "http://far:8080/", timeout=10)
    time.sleep(5)
    off = world.client.end("off")
    assert off["failed"] == 0 and off["done"] > 20, off
    assert opened(world) == before, "plain text"
    world.mesh.enrol(True)
    settled(world)
    before = opened(world)
    world.client.begin("on", "http://far:8080/", timeout=10)
    time.sleep(5)
    on = world.client.end("on")
    assert on["failed"] == 0 and on["done"] > 20, on
    wait_until(lambda: opened(world) > before, 10)


def test_a_pod_that_says_none(small):
    from kubelib import pod
    world = small
    pod_ = pod("apart", world.mesh.name, world.far.node,
               labels={"istio.io/dataplane-mode": "none"})
    app, = world.mesh.run(pod_)
    before = opened(world)
    assert world.client.reaches(f"http://{app.ip}:8080/")["pod"] == "apart"
    assert opened(world) == before
    annotations = get("pod/apart", world.mesh.name)["metadata"].get("annotations", {})
    assert "ambient.istio.io/redirection" not in annotations
