# SPDX-License-Identifier: Apache-2.0
"""Pods that have a sidecar, injected by istiod, beside enrolled ones."""

import pytest
from kubelib import (SETTINGS, Namespace, apply, connections, get, kubectl, metadata, pod, policy,
                     run, service, wait_until)
from test_20_policy import applied
from test_30_istioctl import ask_json

MTLS = {"connection_security_policy": "mutual_tls"}


@pytest.fixture(scope="module")
def sidecars(world):
    """`side` on the far node, `beside` on the client's."""
    assert SETTINGS.sidecar_image, "ZTUN_KUBE_SIDECAR_IMAGE is not set: see tests/kube/README.md"
    if SETTINGS.load_image:
        run(SETTINGS.load_image, SETTINGS.sidecar_image, timeout=600)
    ns = Namespace(f"{SETTINGS.prefix}-sidecar", False, {"istio-injection": "enabled"})
    pods = []
    for name, node in (("side", world.far.node), ("beside", world.client.node)):
        made = pod(name, ns.name, node)
        made["metadata"]["annotations"] |= {"sidecar.istio.io/proxyImage": SETTINGS.sidecar_image,
                                            "sidecar.istio.io/proxyCPU": "20m",
                                            "sidecar.istio.io/proxyMemory": "64Mi"}
        pods.append(made)
    ns.side, ns.beside = ns.run(*pods, services=[service("side", ns.name),
                                                 service("beside", ns.name)])
    yield ns
    ns.delete()


@pytest.fixture(params=["unset", "PERMISSIVE", "STRICT"])
def mode(request, world, sidecars):
    """One PeerAuthentication in both namespaces, or none."""
    namespaces = [world.mesh.name, sidecars.name]
    if request.param != "unset":
        apply(*[{"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
                 "metadata": metadata("default", ns),
                 "spec": {"mtls": {"mode": request.param}}} for ns in namespaces])
    yield request.param
    for ns in namespaces:
        kubectl("delete", "peerauthentication", "default", "-n", ns, "--ignore-not-found")


def identity(app):
    return f"spiffe://cluster.local/ns/{app.ns}/sa/{app.name}"


def host(app):
    return f"{app.name}.{app.ns}"


def test_they_have_one(world, sidecars):
    """Injected by istiod, and left alone by istio-cni; istiod says that they take HBONE."""
    for app in (sidecars.side, sidecars.beside):
        made = get(f"pod/{app.name}", app.ns)
        assert "istio-proxy" in {c["name"] for part in ("initContainers", "containers")
                                 for c in made["spec"].get(part, [])}
        assert "ambient.istio.io/redirection" not in made["metadata"]["annotations"]
    found = {w["name"]: w for w in ask_json(world.client.node, "workload")
             if w["namespace"] == sidecars.name}
    assert {w["protocol"] for w in found.values()} == {"HBONE"}


@pytest.mark.parametrize("target", ["side", "beside"])
def test_to_a_sidecar(world, sidecars, mode, target):
    """In a tunnel whose other end is the sidecar: only its own certificate will do."""
    server = sidecars.apps[target]
    labels = {**MTLS, "reporter": "source", "source_principal": identity(world.client),
              "destination_principal": identity(server)}
    before = connections(world.client.node, **labels)
    assert world.client.reaches(f"http://{host(server)}:8080/", 60)["pod"] == target
    assert world.client.reaches(f"tcp://{host(server)}:9000", 60)["status"] == "ping"
    wait_until(lambda: connections(world.client.node, **labels) >= before + 2, 10)
    if mode == "STRICT":
        world.outsider.fails(f"http://{host(server)}:8080/", 60)
    else:
        assert world.outsider.reaches(f"http://{host(server)}:8080/", 60)["pod"] == target


@pytest.mark.parametrize("source", ["side", "beside"])
@pytest.mark.parametrize("target", ["near", "far"])
def test_from_a_sidecar(world, sidecars, mode, source, target):
    """In a tunnel that the sidecar opens: the server's proxy knows whose it is."""
    client, server = sidecars.apps[source], world.mesh.apps[target]
    labels = {**MTLS, "reporter": "destination", "source_principal": identity(client),
              "destination_principal": identity(server)}
    before = connections(server.node, **labels)
    assert client.reaches(f"http://{host(server)}:8080/", 60)["pod"] == target
    assert client.reaches(f"tcp://{host(server)}:9000", 60)["status"] == "ping"
    # Envoy may use a connection again for HTTP, but not for TCP.
    wait_until(lambda: connections(server.node, **labels) > before, 10)
    if mode == "STRICT":
        world.outsider.fails(f"http://{host(server)}:8080/", 60)


def test_policies_know_the_others_identity(world, sidecars):
    """Both ways: a sidecar's at an enrolled server, an enrolled client's at a sidecar."""
    def only(name, target, source):
        rule = {"from": [{"source": {"principals": [identity(source).removeprefix("spiffe://")]}}]}
        return policy(name, target.ns, {"selector": {"matchLabels": {"app": target.name}},
                                        "rules": [rule]})
    with applied("authorizationpolicy", only("only-side", world.far, sidecars.side)):
        world.client.fails("http://far:8080/", 60)
        sidecars.beside.wait_status(f"http://{host(world.far)}:8080/", {None, 503})
        assert sidecars.side.reaches(f"http://{host(world.far)}:8080/")["pod"] == "far"
    with applied("authorizationpolicy", only("only-client", sidecars.side, world.client)):
        url = f"http://{host(sidecars.side)}:8080/"
        world.near.wait_status(url, {None, 403})
        sidecars.beside.wait_status(url, {None, 403, 503})
        assert world.client.reaches(url)["pod"] == "side"
    world.near.reaches(f"http://{host(sidecars.side)}:8080/", 60)


def test_much_at_once(world, sidecars):
    """Streams stay open, and no new connection fails, both ways."""
    loads = [(world.client, host(sidecars.side)), (sidecars.side, host(world.near)),
             (sidecars.beside, host(world.far))]
    for source, target in loads:
        source.reaches(f"http://{target}:8080/", 60)
        source.begin("echo", f"tcp://{target}:9000", "echo", timeout=15)
        source.begin("new", f"http://{target}:8080/", timeout=15)
    for source, _ in loads:
        wait_until(lambda s=source: s.look("echo")["done"] > 200 and s.look("new")["done"] > 50, 60)
    for source, target in loads:
        echo, new = source.end("echo"), source.end("new")
        assert echo["failed"] == new["failed"] == 0, (source.name, target, echo, new)
