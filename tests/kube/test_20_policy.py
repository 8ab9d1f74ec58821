# SPDX-License-Identifier: Apache-2.0
"""AuthorizationPolicy and PeerAuthentication, as istiod hands them on."""

import contextlib
import time

from kubelib import apply, get, kubectl, metadata, policy, wait_until

DELETED = ("--ignore-not-found", "--wait=false")


@contextlib.contextmanager
def applied(kind, made):
    apply(made)
    try:
        yield
    finally:
        kubectl("delete", kind, made["metadata"]["name"], "-n", made["metadata"]["namespace"],
                *DELETED)


def principal(world, name):
    return f"cluster.local/ns/{world.mesh.name}/sa/{name}"


def test_allow_one_principal(world):
    rule = {"from": [{"source": {"principals": [principal(world, "client")]}}]}
    spec = {"selector": {"matchLabels": {"app": "far"}}, "rules": [rule]}
    with applied("authorizationpolicy", policy("only-client", world.mesh.name, spec)):
        world.near.fails("http://far:8080/")
        world.outsider.fails(f"http://far.{world.mesh.name}:8080/")
        assert world.client.get("http://far:8080/")["pod"] == "far"
        assert world.client.get("http://near:8080/")["pod"] == "near", "of others, nothing"
    world.near.reaches("http://far:8080/")


def test_deny_a_port(world):
    rule = {"to": [{"operation": {"ports": ["9000"]}}]}
    spec = {"action": "DENY", "rules": [rule]}
    with applied("authorizationpolicy", policy("no-echo", world.mesh.name, spec)):
        world.client.fails("tcp://far:9000")
        assert world.client.get("http://far:8080/")["pod"] == "far"


def test_a_running_connection_is_judged_again(world):
    rule = {"from": [{"source": {"principals": [principal(world, "client")]}}]}
    spec = {"action": "DENY", "rules": [rule]}
    world.client.reaches("http://far:8080/")
    world.client.begin("judged", "tcp://far:9000", "echo", timeout=3)
    with applied("authorizationpolicy", policy("no-client", world.mesh.name, spec)):
        world.client.fails("http://far:8080/")
        wait_until(lambda: world.client.look("judged")["failed"] >= 1)
    world.client.reaches("http://far:8080/")
    world.client.end("judged")


def peer_authentication(world, spec):
    return {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
            "metadata": metadata("strict", world.mesh.name), "spec": spec}


def test_strict(world):
    url = f"http://far.{world.mesh.name}:8080/"
    with applied("peerauthentication", peer_authentication(world, {"mtls": {"mode": "STRICT"}})):
        world.outsider.fails(url)
        assert world.client.get("http://far:8080/")["pod"] == "far"
        time.sleep(5)  # longer than three of the kubelet's probes, which come in plain text
        assert all(c["status"] == "True" for p in get("pods", world.mesh.name)["items"]
                   for c in p["status"]["conditions"] if c["type"] == "Ready")
    world.outsider.reaches(url)


def test_strict_but_for_a_port(world):
    spec = {"selector": {"matchLabels": {"app": "far"}}, "mtls": {"mode": "STRICT"},
            "portLevelMtls": {"8080": {"mode": "PERMISSIVE"}}}
    with applied("peerauthentication", peer_authentication(world, spec)):
        world.outsider.fails(f"tcp://far.{world.mesh.name}:9000")
        assert world.outsider.get(f"http://far.{world.mesh.name}:8080/")["pod"] == "far"
