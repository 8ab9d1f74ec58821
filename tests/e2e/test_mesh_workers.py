# SPDX-License-Identifier: Apache-2.0
"""Connections move between workers: a pod uses all of them, and nothing is lost on the way."""

import json
import random
import socket
import threading

import pytest
from lablib import wait_until
from mesh.fixtures import module_mesh, shown  # noqa: F401
from mesh.topology import Load, echo, linger0, read_exactly

WORKERS = 8


def build(mesh):
    mesh.pod("client", 1)
    mesh.pod("rare", 1)
    mesh.pod("server", 2, port=8080)
    mesh.vips["server"] = mesh.service("server")
    mesh.pod("plain", 1, captured=False)


mesh = module_mesh(build, "--workers", WORKERS)


def workers_of(node):
    """How many flows each worker has: its number is in the upper bits of a flow's."""
    status, text = node.get("/connections")
    assert status == 200
    count = {}
    for flow in json.loads(text)["connections"]:
        worker = int(flow["id"]) >> 48
        count[worker] = count.get(worker, 0) + 1
    return count


def open_flows(mesh, n, source="client", to=None):
    conns = []
    for i in range(n):
        conn = mesh.connect(source, to or (mesh.vips["server"], 80))
        conn.sendall(b"%08d" % i)
        conns.append(conn)
    for i, conn in enumerate(conns):
        assert read_exactly(conn, 8) == b"%08d" % i
    return conns


@pytest.mark.main
def test_a_pod_uses_all_workers(mesh):
    """Up to four of them have its listeners; 64 flows are spread over all eight, on both nodes."""
    since = [n.since() for n in mesh.nodes.values()]
    with mesh.serve("server", 8080, echo):
        conns = open_flows(mesh, 64)
        for number, node in mesh.nodes.items():
            count = workers_of(node)
            assert sum(count.values()) == 64
            assert len(count) >= (WORKERS if number == 1 else 6), (number, count)
            assert max(count.values()) <= (16 if number == 1 else 32), (number, count)
        assert since[0]("flows_moved_total", reason="load") > 0
        data = random.Random(1).randbytes(1 << 18)
        for conn in conns:  # they work where they are now
            threading.Thread(target=conn.sendall, args=(data,), daemon=True).start()
        for conn in conns:
            assert read_exactly(conn, len(data)) == data
            conn.close()
    mesh.gauges_are_zero()


@pytest.mark.main
def test_rare_flows_share_a_tunnel(mesh):
    """One after the other: whatever listener they come in at, the one tunnel serves them."""
    one = mesh.nodes[1]
    with mesh.serve("server", 8080, echo):
        open_flows(mesh, 1, "rare")[0].close()
        since, opened = one.since(), mesh.nodes[2].since()
        for _ in range(12):
            open_flows(mesh, 1, "rare")[0].close()
        assert since("flows_moved_total", reason="tunnel") > 0
        assert opened("istio_tcp_connections_opened_total") == 12
    mesh.gauges_are_zero()


def test_plain_inbound_moves(mesh):
    with mesh.serve("server", 8080, echo):
        conns = open_flows(mesh, 40, "plain", ("server", 8080))
        count = workers_of(mesh.nodes[2])
        assert len(count) == WORKERS, count
        for conn in conns:
            conn.close()
    mesh.gauges_are_zero()


@pytest.mark.main
@pytest.mark.parametrize("how", ["unenrol", "remove"])
def test_pods_come_and_go_under_load(mesh, how):
    """Connections in flight between workers while the pod joins and leaves: each is served or
    ends, and no descriptor stays."""
    name = f"guest-{how}"
    mesh.settle(lambda: mesh.pod(name, 1))
    one, stop, n = mesh.nodes[1], threading.Event(), {"served": 0, "ended": 0, "hung": 0}

    def knock():
        while not stop.is_set():
            try:
                with mesh.connect(name, ("server", 8080), timeout=5) as conn:
                    conn.sendall(b"12345678")
                    read_exactly(conn, 8)
                    n["served"] += 1
                    linger0(conn)
            except socket.timeout:
                n["hung"] += 1
            except (OSError, EOFError):
                n["ended"] += 1

    with mesh.serve("server", 8080, echo) as server:
        wait_until(lambda: mesh.ask(name, ("server", 8080)), 5)
        wait_until(lambda: not workers_of(one), 5)
        fds = one.fds()
        threads = [threading.Thread(target=knock, daemon=True) for _ in range(6)]
        for thread in threads:
            thread.start()
        for _ in range(4):
            before = n["served"]
            wait_until(lambda: n["served"] > before + 20, 10)  # noqa: B023
            if how == "unenrol":
                mesh.settle(lambda: mesh.set_label(name, "istio.io/dataplane-mode", "none"))
                mesh.settle(lambda: mesh.set_label(name, "istio.io/dataplane-mode", "ambient"))
            else:
                doc = mesh.pods[name].doc
                mesh.settle(lambda: mesh.delete("Pod", name))
                mesh.settle(lambda: mesh.apply(doc))  # noqa: B023
            wait_until(lambda: one.get("/healthz/ready", 15021)[0] == 200, 10)
        stop.set()
        for thread in threads:
            thread.join(10)
        assert n["hung"] == 0 and n["served"] > 80, n
        server.conns.clear()
    mesh.gauges_are_zero()
    # Idle tunnels may stay: they are the pod's, and go with it.
    mesh.settle(lambda: mesh.delete("Pod", name))
    wait_until(lambda: one.fds() < fds, 10)


@pytest.mark.main
def test_drain_under_load(mesh):
    """A successor beside the first, eight workers each: no request is lost, the first one ends."""
    one = mesh.nodes[1]
    with mesh.serve("server", 8080, echo), Load(mesh, "client", ("server", 8080), threads=4):
        first = one.process
        one.start(wait=False, *["--workers", WORKERS])
        wait_until(lambda: one.log(message="ready to serve")[-1:] and
                   len(one.log(message="ready to serve")) >= 2, 10)
        wait_until(lambda: len(one.log(message="pod is served")) >= 4, 10)
        first.terminate()
        assert first.wait(15) == 0
    mesh.gauges_are_zero()
