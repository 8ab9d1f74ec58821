# SPDX-License-Identifier: Apache-2.0
"""Our own charts: the API server takes what they make; ztun in the place of Istio's release and back
under load; a waypoint that reads the API, under an istiod that knows its Gateway."""

import json
from pathlib import Path

import pytest
from kubelib import SETTINGS, SYSTEM, get, helm, kubectl, proxy_pods, run, wait_until
from test_60_restarts import load, none_lost, record  # noqa: F401

CHARTS = Path(__file__).resolve().parent.parent.parent / "charts"
SMALL = "resources.requests.cpu=20m,resources.requests.memory=64Mi"
OPTIONS = {
    "ztun": ["", "seccompInstall.enabled=true,global.networkPolicy.enabled=true",
             "dashboard.enabled=true,resourceQuotas.enabled=true,peerCaCrl.enabled=true"],
    "waypoint": ["", "gateway.className=ztun-waypoint,gatewayClass.create=true,namespaces={*}",
                 "autoscaling.enabled=true,priorityClass.create=true,rbac.secretNames={credential}",
                 "global.networkPolicy.enabled=true,dashboard.enabled=true"],
}


@pytest.mark.parametrize("chart, options", [(chart, options) for chart, rows in OPTIONS.items()
                                            for options in rows])
def test_the_api_server_takes_them(proxies, chart, options):
    """All of it but the PodMonitor, whose CRD is another's; nothing is made."""
    args = ["--set", options] if options else []
    text = helm("template", "dry-run", CHARTS / chart, "-n", SYSTEM, *args)
    told = kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server",
                   "--validate=strict", "-f", "-", input=text)
    kinds = {"ztun": "daemonset.apps/ztunnel", "waypoint": "deployment.apps/dry-run"}
    assert kinds[chart] in told
    assert all("(server dry run)" in line for line in told.splitlines())


def chart_of(proxies):
    return get(f"daemonset/{proxies.name}", SYSTEM)["metadata"]["labels"]["helm.sh/chart"]


def test_an_upgrade_to_our_chart_and_back(world, proxies, record):  # noqa: F811
    """docs/INSTALL.md: with the values that Istio's chart had."""
    before = chart_of(proxies)
    given = helm("get", "values", proxies.name, "-n", SYSTEM, "-o", "json")
    account = get(f"daemonset/{proxies.name}", SYSTEM)["spec"]["template"]["spec"]["serviceAccountName"]
    with load(world, record) as results:
        helm("upgrade", proxies.name, CHARTS / "ztun", "-n", SYSTEM, "-f", "-", input=given)
        proxies.wait_ready()
        made = get(f"daemonset/{proxies.name}", SYSTEM)
        assert chart_of(proxies).startswith("ztun-")
        assert made["spec"]["template"]["spec"]["serviceAccountName"] == account
        container, = made["spec"]["template"]["spec"]["containers"]
        assert container["image"] == proxies.image
        assert container["resources"]["requests"]["cpu"] == "20m"
        helm("rollback", proxies.name, "-n", SYSTEM)
        proxies.wait_ready()
    none_lost(results, "new-far", "new-near")
    assert chart_of(proxies) == before


def test_the_seccomp_profile_admits_io_uring(world, proxies):
    """Under containerd's and the kubelet's eyes."""
    if not SETTINGS.is_ours:
        return  # ztunnel has no io_uring
    given = helm("get", "values", proxies.name, "-n", SYSTEM, "-o", "json")
    try:
        helm("upgrade", proxies.name, CHARTS / "ztun", "-n", SYSTEM, "-f", "-", "--set",
             f"seccompInstall.enabled=true,seccompInstall.kubeletDir={SETTINGS.kubelet_dir}", input=given)
        proxies.wait_ready()
        for pod in proxy_pods():
            name = pod["metadata"]["name"]
            text = kubectl("get", "--raw",
                           f"/api/v1/namespaces/{SYSTEM}/pods/{name}:15020/proxy/metrics")
            assert 'io_backend{type="io_uring"} 1' in text
        assert world.client.reaches("http://far:8080/")["status"] == 200
    finally:
        helm("rollback", proxies.name, "-n", SYSTEM)
        proxies.wait_ready()


def install_waypoint(ns):
    """The release `waypoint` in a namespace."""
    assert SETTINGS.waypoint_image, "ZTUN_KUBE_WAYPOINT_IMAGE is not set: see tests/kube/README.md"
    if SETTINGS.load_image:
        run(SETTINGS.load_image, SETTINGS.waypoint_image, timeout=600)
    helm("upgrade", "--install", "waypoint", CHARTS / "waypoint", "-n", ns, "--set",
         f"image={SETTINGS.waypoint_image},imagePullPolicy={SETTINGS.pull_policy},{SMALL}",
         "--set", f"istioNamespace={SYSTEM}")
    kubectl("rollout", "status", "-n", ns, "deployment/waypoint", "--timeout=170s", timeout=180)


def uninstall_waypoint(ns, is_label_kept=False):
    if not is_label_kept:
        kubectl("label", "namespace", ns, "istio.io/use-waypoint-")
    helm("uninstall", "waypoint", "-n", ns, "--ignore-not-found", "--wait")


@pytest.fixture
def waypoint(world):
    """Beside the servers; its namespace's services go through it."""
    try:
        install_waypoint(world.mesh.name)
        yield world.mesh.name
    finally:
        uninstall_waypoint(world.mesh.name)


def virtual_service(ns, **rule):
    return json.dumps({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
                       "metadata": {"name": "far", "namespace": ns},
                       "spec": {"hosts": ["far"], "http": [rule]}})


def test_a_waypoint(world, waypoint):
    """istiod programs its Gateway; a VirtualService of the API decides, and its change counts."""
    def is_programmed():
        status = get("gateway/waypoint", waypoint).get("status", {})
        return [c for c in status.get("conditions", []) if c["type"] == "Programmed"
                and c["status"] == "True"] and status.get("addresses")
    wait_until(is_programmed, 60)
    try:
        kubectl("apply", "-f", "-", input=virtual_service(
            waypoint, directResponse={"status": 418, "body": {"string": "{}"}}))
        kubectl("label", "namespace", waypoint, "istio.io/use-waypoint=waypoint", "--overwrite")
        wait_until(lambda: world.client.get("http://far:8080/").get("status") == 418, 60)
        kubectl("apply", "-f", "-", input=virtual_service(
            waypoint, route=[{"destination": {"host": "far"}}]))
        wait_until(lambda: world.client.get("http://far:8080/").get("status") == 200, 60)
        # Two processes: one after the other is replaced, and nobody notices.
        world.client.begin("replaced", "http://far:8080/", "new", timeout=15)
        kubectl("rollout", "restart", "-n", waypoint, "deployment/waypoint")
        kubectl("rollout", "status", "-n", waypoint, "deployment/waypoint", "--timeout=170s", timeout=180)
        result = world.client.end("replaced")
        assert result["done"] > 20 and result["failed"] == 0, result
    finally:
        kubectl("delete", "virtualservice", "far", "-n", waypoint, "--ignore-not-found")
