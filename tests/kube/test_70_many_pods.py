# SPDX-License-Identifier: Apache-2.0
"""Many pods come and go while others speak."""

from kubelib import (AMBIENT, SETTINGS, Namespace, apply, get, istioctl, kubectl, metadata,
                     metrics, proxy_pods, wait_until, SYSTEM)


def test_pods_come_and_go(world, nodes, record_property):
    """Each is enrolled, or its creation would not end; afterwards the proxies have none of them."""
    def active():
        return sum(metrics(node)["workload_manager_active_proxy_count", ()] for node in nodes)

    crowd = Namespace(f"{SETTINGS.prefix}-crowd", True)
    before = active()
    world.client.begin("beside", "http://far:8080/", timeout=30)
    try:
        n = SETTINGS.n_pods
        apply({"apiVersion": "apps/v1", "kind": "Deployment",
               "metadata": metadata("crowd", crowd.name),
               "spec": {"replicas": n, "selector": {"matchLabels": {"app": "crowd"}},
                        "template": {"metadata": {"labels": {"app": "crowd"}},
                                     "spec": {"terminationGracePeriodSeconds": 0, "containers": [
                                         {"name": "pause", "image": SETTINGS.pause_image,
                                          "imagePullPolicy": SETTINGS.pull_policy}]}}}})
        wait_until(lambda: get("deployment/crowd", crowd.name)["status"].get("readyReplicas") == n,
                   300)
        assert active() == before + n
        kubectl("delete", "deployment", "crowd", "-n", crowd.name)
        wait_until(lambda: active() == before, 300)
    finally:
        beside = world.client.end("beside")
        record_property("beside", str(beside))
        print(beside)
        crowd.delete()
    assert beside["failed"] == 0, beside
