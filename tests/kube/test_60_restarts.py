# SPDX-License-Identifier: Apache-2.0
"""Updates and restarts, with requests all the time: which are lost is counted.

Running connections end with the proxy that has them, after its grace period: those are counted
apart (`keep`). New ones must not fail.
"""

import contextlib

import pytest
from kubelib import (SETTINGS, SYSTEM, apply, connections, get, kubectl, pod, proxy_pods, run,
                     wait_until)


@contextlib.contextmanager
def load(world, record):
    """New connections to both nodes, and two that stay."""
    loads = {"new-far": ("http://far:8080/", "new"), "new-near": ("http://near:8080/", "new"),
             "keep": ("http://far:8080/", "keep"), "echo": ("tcp://far:9000", "echo")}
    for name, (url, mode) in loads.items():
        world.client.begin(name, url, mode, timeout=15)
    results = {}
    try:
        wait_until(lambda: all(world.client.look(name)["done"] > 5 for name in loads))
        yield results
        seen = {name: world.client.look(name)["done"] for name in loads}
        wait_until(lambda: all(world.client.look(name)["done"] > n + 20
                               for name, n in seen.items()))
    finally:
        results |= {name: world.client.end(name) for name in loads}
        for name, result in results.items():
            record(name, result)


@pytest.fixture
def record(record_property):
    """Counts go to the report (--junitxml), and to the output with -s."""
    def note(name, result):
        record_property(name, str(result))
        print(name, result)
    return note


def none_lost(results, *names):
    for name in names or results:
        assert results[name]["failed"] == 0, (name, results[name])


def test_rolling_update(world, proxies, record):
    """maxSurge 1: the new one beside the old one, on each node in turn."""
    before = {p["metadata"]["uid"] for p in proxy_pods()}
    with load(world, record) as results:
        proxies.restart()
        proxies.wait_ready()
        wait_until(lambda: not before & {p["metadata"]["uid"] for p in
                                         get("pods", SYSTEM, "-l", "app=ztunnel")["items"]}, 90)
    none_lost(results, "new-far", "new-near")
    # each end's proxy went once
    assert results["keep"]["failed"] <= 2 and results["echo"]["failed"] <= 2


def test_a_proxy_s_pod_is_deleted_at_once(world, proxies, record):
    """What it carries is lost, and perhaps new connections until the next one serves; then all is
    well."""
    name = proxy_pods(world.far.node)[0]["metadata"]["name"]
    with load(world, record):
        kubectl("delete", "pod", "-n", SYSTEM, name, "--grace-period=0", "--force")
        wait_until(lambda: any(p["metadata"]["name"] != name for p in proxy_pods(world.far.node)))
        proxies.wait_ready()
        world.client.reaches("http://far:8080/", 60)
    world.client.begin("after", "http://far:8080/")
    wait_until(lambda: world.client.look("after")["done"] > 50)
    assert world.client.end("after")["failed"] == 0


KILL = """
import os, signal
mine = os.getpid()
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        words = open(f"/proc/{pid}/cmdline").read().split(chr(0))
    except OSError:
        continue
    if int(pid) != mine and words[1:3] == ["proxy", "ztunnel"]:
        os.kill(int(pid), signal.SIGKILL)
"""


def kill_proxy(world, node):
    """SIGKILL, by a pod that sees the processes of its node."""
    killer = pod("killer", world.plain.name, node, account="default")
    killer["spec"] |= {"hostPID": True, "restartPolicy": "Never", "volumes": [], "containers": [
        {"name": "kill", "image": SETTINGS.app_image, "imagePullPolicy": SETTINGS.pull_policy,
         "command": ["python3", "-c", KILL], "securityContext": {"privileged": True}}]}
    apply(killer)
    wait_until(lambda: get("pod/killer", world.plain.name)["status"]["phase"] == "Succeeded", 60)
    kubectl("delete", "pod", "killer", "-n", world.plain.name)


@pytest.mark.crash
def test_a_proxy_crashes(world, proxies, record):
    """Its container starts again, is handed the same pods, and all is as it was. In between the
    node's pods are cut off: what is enrolled is never carried without the mesh."""
    def restarts():
        return sum(p["status"]["containerStatuses"][0]["restartCount"]
                   for p in proxy_pods(world.far.node))
    before = restarts()
    plain = {"reporter": "source", "connection_security_policy": "unknown"}
    unsafe = connections(world.client.node, **plain)
    with load(world, record):
        kill_proxy(world, world.far.node)
        wait_until(lambda: restarts() > before, 60)
        world.client.reaches("http://far:8080/", 60)
    world.client.begin("after", "http://far:8080/")
    wait_until(lambda: world.client.look("after")["done"] > 50)
    assert world.client.end("after")["failed"] == 0
    assert connections(world.client.node, **plain) == unsafe


def rollout(kind):
    kubectl("rollout", "restart", "-n", SYSTEM, kind)
    kubectl("rollout", "status", "-n", SYSTEM, kind, "--timeout=170s", timeout=180)


def test_istiod_restarts(world, record):
    with load(world, record) as results:
        rollout("deployment/istiod")
    none_lost(results)


def test_istio_cni_restarts(world, record):
    """The node agent hands over the same pods again."""
    with load(world, record) as results:
        rollout("daemonset/istio-cni-node")
    none_lost(results)


def test_api_server_restarts(world, record):
    if SETTINGS.restart_api is None:
        pytest.fail("ZTUN_KUBE_RESTART_API is not set: see tests/kube/README.md")
    with load(world, record) as results:
        run(SETTINGS.restart_api)
        wait_until(lambda: kubectl("get", "--raw", "/readyz"), 60)
        wait_until(lambda: kubectl("get", "--raw", "/openapi/v2"), 120)  # made anew: it takes CPU
    none_lost(results)
