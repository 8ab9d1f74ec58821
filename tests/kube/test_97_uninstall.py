# SPDX-License-Identifier: Apache-2.0
"""The proxies go while pods run, as docs/INSTALL.md says it and in the wrong order."""

import pytest
from conftest import World
from kubelib import apply, get, kubectl, pod, proxy_pods, wait_until
from test_40_enrol import opened, settled
from test_60_restarts import record  # noqa: F401
from test_90_charts import install_waypoint, uninstall_waypoint, virtual_service


@pytest.fixture
def leaving(proxies, nodes):
    """Pods of its own; afterwards the proxies are there again."""
    made = World(nodes, "-leaving")
    yield made
    if not proxy_pods():
        proxies.install()
    made.delete()


def test_labels_first(leaving, proxies, record):  # noqa: F811
    """As documented: once a namespace has left the mesh, its pods miss nothing."""
    world = leaving
    settled(world)
    world.mesh.enrol(False)
    settled(world)
    loads = {"new-far": ("http://far:8080/", "new"), "new-near": ("http://near:8080/", "new"),
             "outside": (f"http://outside.{world.plain.name}:8080/", "new"),
             "keep": ("http://far:8080/", "keep"), "echo": ("tcp://far:9000", "echo")}
    for name, (url, mode) in loads.items():
        world.client.begin(name, url, mode, timeout=15)
    world.outsider.begin("in", f"http://far.{world.mesh.name}:8080/", timeout=15)
    proxies.uninstall()
    assert not proxy_pods()
    seen = {name: world.client.look(name)["done"] for name in loads}
    wait_until(lambda: all(world.client.look(name)["done"] > n + 20 for name, n in seen.items()))
    results = {name: world.client.end(name) for name in loads} | {"in": world.outsider.end("in")}
    for name, result in results.items():
        record(name, result)
    assert not [name for name, result in results.items() if result["failed"]]
    # a pod that comes now starts as everywhere
    late, = world.mesh.run(pod("late", world.mesh.name, world.far.node))
    assert world.client.reaches(f"http://{late.ip}:8080/")["pod"] == "late"


@pytest.mark.parametrize("cure", ["label", "install"])
def test_the_proxies_first(leaving, proxies, cure):
    """The labels are still there: enrolled pods are cut off, rather than carried without the mesh,
    and no new one starts, until their labels go, or the proxies are there again."""
    world = leaving
    settled(world)
    world.client.reaches(f"http://outside.{world.plain.name}:8080/")
    proxies.uninstall()
    world.client.fails("http://far:8080/")
    world.client.fails(f"http://outside.{world.plain.name}:8080/")
    world.outsider.fails(f"http://far.{world.mesh.name}:8080/")
    assert world.outsider.get(f"http://outside.{world.plain.name}:8080/")["pod"] == "outside"
    apply({"apiVersion": "v1", "kind": "ServiceAccount",
           "metadata": {"name": "late", "namespace": world.mesh.name}},
          pod("late", world.mesh.name, world.far.node))
    wait_until(lambda: [event for event in get("events", world.mesh.name)["items"]
                        if event["reason"] == "FailedCreatePodSandBox"
                        and event["involvedObject"]["name"] == "late"], 90)
    assert all(c["status"] == "True" for p in get("pods", world.mesh.name)["items"]
               for c in p["status"]["conditions"]
               if c["type"] == "Ready" and p["metadata"]["name"] != "late"), "probes still pass"
    if cure == "label":
        world.mesh.enrol(False)
    else:
        proxies.install()
    world.mesh.wait_ready("late")
    world.mesh.wait_redirected(cure == "install")
    settled(world)
    assert world.client.reaches(f"http://outside.{world.plain.name}:8080/")["pod"] == "outside"
    assert world.outsider.reaches(f"http://far.{world.mesh.name}:8080/")["pod"] == "far"
    if cure == "label":
        proxies.install()
        world.mesh.enrol(True)
        settled(world)
    before = opened(world)
    world.client.reaches("http://far:8080/")
    wait_until(lambda: opened(world) > before, 10)


def test_a_waypoint_whose_label_stays(leaving):
    """Its Gateway is gone with the release: services are reached without it, and without its
    rules."""
    ns = leaving.mesh.name
    settled(leaving)
    install_waypoint(ns)
    try:
        kubectl("apply", "-f", "-", input=virtual_service(
            ns, directResponse={"status": 418, "body": {"string": "{}"}}))
        kubectl("label", "namespace", ns, "istio.io/use-waypoint=waypoint", "--overwrite")
        leaving.client.wait_status("http://far:8080/", {418})
        uninstall_waypoint(ns, is_label_kept=True)
        leaving.client.wait_status("http://far:8080/", {200})
        settled(leaving)
    finally:
        uninstall_waypoint(ns)
