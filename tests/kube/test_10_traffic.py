# SPDX-License-Identifier: Apache-2.0
"""An enrolled namespace: what is carried in tunnels, what is not, and how names are found."""

import pytest
from kubelib import (SYSTEM, connections, get, metrics, proxy_pods, total, wait_until)

MTLS = {"connection_security_policy": "mutual_tls"}


def tunnelled(world, source, target, url):
    """Asks; both ends' proxies have to have counted it as mutual TLS between the two accounts."""
    ns = world.mesh.name
    labels = {**MTLS, "source_principal": f"spiffe://cluster.local/ns/{ns}/sa/{source.name}",
              "destination_principal": f"spiffe://cluster.local/ns/{ns}/sa/{target.name}"}
    sides = ((source.node, "source"), (target.node, "destination"))
    before = [connections(node, reporter=side, **labels) for node, side in sides]
    answer = source.reaches(url)
    for (node, side), count in zip(sides, before):
        wait_until(lambda n=node, s=side, c=count: connections(n, reporter=s, **labels) > c, 10)
    return answer


def test_istio_s_chart_runs_it(world):
    """As it is, but for the image: probes, capabilities, mounts, a read-only root."""
    pods = proxy_pods()
    assert {p["spec"]["nodeName"] for p in pods} >= set(world.nodes)
    for found in pods:
        container = found["spec"]["containers"][0]
        assert container["args"] == ["proxy", "ztunnel"]
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] and not security["privileged"]
        assert security["capabilities"]["drop"] == ["ALL"]
        assert all(c["type"] != "Ready" or c["status"] == "True"
                   for c in found["status"]["conditions"])


@pytest.mark.parametrize("target", ["near", "far"])
def test_mutual_tls(world, target):
    server = getattr(world, target)
    answer = tunnelled(world, world.client, server, f"http://{target}:8080/")
    assert answer["pod"] == target
    assert answer["peer"] == world.client.ip, "the client's address is kept"


def test_and_the_other_way(world):
    answer = tunnelled(world, world.far, world.near, f"http://near.{world.mesh.name}:8080/")
    assert answer["pod"] == "near" and answer["peer"] == world.far.ip


def test_by_address_of_a_pod(world):
    answer = tunnelled(world, world.client, world.far, f"http://{world.far.ip}:8080/")
    assert answer["pod"] == "far"


def test_a_service_with_two_pods(world):
    answers = world.client.get("http://server:8080/", n=30)
    assert {answer.get("pod") for answer in answers} == {"near", "far"}


def test_from_outside_of_the_mesh(world):
    url = f"http://far.{world.mesh.name}.svc.cluster.local:8080/"
    labels = {"reporter": "destination", "connection_security_policy": "unknown"}
    before = connections(world.far.node, **labels)
    answer = world.outsider.reaches(url)
    assert answer["pod"] == "far" and answer["peer"] == world.outsider.ip
    wait_until(lambda: connections(world.far.node, **labels) > before, 10)


def test_to_the_outside(world):
    url = f"http://outside.{world.plain.name}:8080/"
    labels = {"reporter": "source", "connection_security_policy": "unknown"}
    before = connections(world.client.node, **labels)
    assert world.client.reaches(url)["peer"] == world.client.ip
    wait_until(lambda: connections(world.client.node, **labels) > before, 10)


def test_names_are_answered_by_the_proxy(world):
    """Short ones and full ones, of a service with an address and of one without."""
    ns = world.mesh.name
    vip = get("service/server", ns)["spec"]["clusterIP"]

    def count():
        return total(metrics(world.client.node), "istio_dns_requests_total")

    before = count()
    for name in ("server", f"server.{ns}", f"server.{ns}.svc", f"server.{ns}.svc.cluster.local"):
        assert world.client.tell(do="resolve", name=name) == [vip]
    assert world.client.tell(do="resolve", name="bare") == sorted([world.near.ip, world.far.ip])
    assert world.client.tell(do="resolve", name=f"istiod.{SYSTEM}") == [
        get("service/istiod", SYSTEM)["spec"]["clusterIP"]]
    assert "error" in world.client.tell(do="resolve", name=f"nobody.{ns}.svc.cluster.local")
    wait_until(lambda: count() >= before + 6, 10)


def test_long_connections(world):
    """TCP that nobody understands stays open."""
    world.client.begin("echo", "tcp://far:9000", "echo")
    wait_until(lambda: world.client.look("echo")["done"] > 50, 30)
    assert world.client.end("echo")["failed"] == 0
