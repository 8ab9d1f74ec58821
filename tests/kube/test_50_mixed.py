# SPDX-License-Identifier: Apache-2.0
"""One node has the proxy under test, the other Istio's ztunnel (or the other way round)."""

import json

import pytest
from kubelib import SETTINGS, SYSTEM, istioctl, policy, proxy_pods, wait_until
from test_10_traffic import tunnelled
from test_20_policy import applied, peer_authentication, principal


@pytest.fixture(scope="module", params=["client", "server"])
def mixed(request, world, proxies):
    """The proxy under test is the client's, then the server's."""
    assert SETTINGS.peer_image, "ZTUN_KUBE_PEER_IMAGE is not set: see tests/kube/README.md"
    theirs = world.nodes[1 if request.param == "client" else 0]
    with proxies.with_peer(theirs, SETTINGS.peer_image):
        yield theirs


def test_the_images_are_two(world, mixed):
    images = {p["spec"]["nodeName"]: p["spec"]["containers"][0]["image"] for p in proxy_pods()}
    assert images[mixed] == SETTINGS.peer_image
    assert set(images.values()) == {SETTINGS.image, SETTINGS.peer_image}


def test_both_directions(world, mixed):
    assert tunnelled(world, world.client, world.far, "http://far:8080/")["pod"] == "far"
    answer = tunnelled(world, world.far, world.near, "http://near:8080/")
    assert answer["pod"] == "near" and answer["peer"] == world.far.ip
    answers = world.client.get("http://server:8080/", n=30)
    assert {answer.get("pod") for answer in answers} == {"near", "far"}


def known(node, what):
    """What istioctl reads out of a node's proxy, in a form that can be compared. Names that istiod
    leaves empty may be filled in, and an order may be any."""
    name = proxy_pods(node)[0]["metadata"]["name"]
    dump = json.loads(istioctl("ztunnel-config", what, f"{name}.{SYSTEM}", "-o", "json"))
    found = {}
    for item in dump:
        item = {key: sorted(value, key=json.dumps) if isinstance(value, list) else value
                for key, value in item.items() if key not in ("workloadName", "ipFamilies")}
        found[item.get("uid") or f"{item['namespace']}/{item.get('hostname', item['name'])}"] = item
    return found


@pytest.mark.parametrize("what", ["workload", "service", "policy"])
def test_they_know_the_same(world, mixed, what):
    rules = [{"from": [{"source": {"namespaces": [world.mesh.name], "notIpBlocks": ["10.0.0.7"]}}],
              "to": [{"operation": {"ports": ["9000"]}}]}]
    spec = {"selector": {"matchLabels": {"app": "far"}}, "action": "DENY", "rules": rules}
    with applied("authorizationpolicy", policy("seen-by-both", world.mesh.name, spec)):
        def look():
            near, far = (known(node, what) for node in world.nodes)
            return near == far and near
        found = wait_until(look)
        assert any(world.mesh.name in key for key in found)


def test_much_at_once(world, mixed):
    for source, target in ((world.client, "far"), (world.far, "near")):
        source.begin("echo", f"tcp://{target}:9000", "echo", interval=0)
        source.begin("new", f"http://{target}:8080/", timeout=10)
    for source in (world.client, world.far):
        wait_until(lambda s=source: s.look("echo")["done"] > 500 and s.look("new")["done"] > 50)
        assert source.end("echo")["failed"] == source.end("new")["failed"] == 0


def test_policies(world, mixed):
    rule = {"from": [{"source": {"principals": [principal(world, "client")]}}]}
    spec = {"selector": {"matchLabels": {"app": "far"}}, "rules": [rule]}
    with applied("authorizationpolicy", policy("only-client", world.mesh.name, spec)):
        world.near.fails("http://far:8080/")
        assert world.client.get("http://far:8080/")["pod"] == "far"
    with applied("peerauthentication", peer_authentication(world, {"mtls": {"mode": "STRICT"}})):
        world.outsider.fails(f"http://far.{world.mesh.name}:8080/")
        world.outsider.fails(f"http://near.{world.mesh.name}:8080/")
        assert world.far.get("http://near:8080/")["pod"] == "near"
    world.near.reaches("http://far:8080/")
