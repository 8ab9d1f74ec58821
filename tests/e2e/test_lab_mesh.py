# SPDX-License-Identifier: Apache-2.0
"""The lab with the mesh: a ztun per node, pods that start only when they are in it."""

import os
import signal

from lablib import ROOT, namespace, pod, server, service, wait_until


def test_demo_objects(make_lab):
    lab = make_lab([ROOT / "conf" / "demo"])
    assert all(n["mesh"] == "Ready" for n in lab.status()["nodes"])
    assert lab.curl("demo/client", "http://server/").out.startswith("server v")
    assert not lab.curl("demo/denied", "http://server/").out
    assert not lab.curl("outside/plain", "http://server.demo/").out
    wait_until(lambda: 'src.identity="spiffe://cluster.local/ns/demo/sa/client"'
               in lab.logs("node2"))
    assert lab.metrics("node2").value("istio_tcp_connections_opened_total",
                                      source_workload="client") > 0


def test_a_ready_pod_is_in_the_mesh(make_lab):
    """No wait between `ready` and the first request: it is a tunnel, never plain text."""
    lab = make_lab([namespace("m", ambient=True), server("s", ns="m", node="node2"),
                    service("s", ns="m")])
    for i in range(5):
        lab.apply(pod(f"c{i}", ns="m", node="node1"))
        assert lab.curl(f"m/c{i}", "http://s/").ok
        opened = lab.metrics("node1").find("istio_tcp_connections_opened_total",
                                           source_workload=f"c{i}")
        assert [labels["connection_security_policy"] for labels, _ in opened] == ["mutual_tls"]
        lab.delete("pod", f"m/c{i}", grace=0)


def test_a_killed_ztun_comes_back(make_lab):
    lab = make_lab([namespace("m", ambient=True), server("s", ns="m", node="node2"),
                    service("s", ns="m"), pod("c", ns="m", node="node1")])
    os.kill(lab.ztun_pid("node1"), signal.SIGKILL)
    wait_until(lambda: lab.curl("m/c", "http://s/").ok)
    assert lab.status()["nodes"][0]["ztunRestarts"] == 1
