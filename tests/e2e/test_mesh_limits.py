# SPDX-License-Identifier: Apache-2.0
"""Limits, and what is met beyond them; destinations that no other module asks for; ztunctl beside a
ztun that runs."""

import json
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest
from lablib import PATIENCE, SANITIZED, ZTUNCTL, wait_until
from mesh import dns
from mesh.fixtures import make_mesh, module_mesh, shown  # noqa: F401
from mesh.netns import sysctl
from mesh.topology import echo, linger0, read_exactly, say

MB = 1 << 20


def build(mesh):
    mesh.pod("client", 1, families=(4, 6))
    mesh.pod("plain", 1, captured=False)
    mesh.pod("near", 1, labels={"app": "web"}, port=8080)
    mesh.pod("server", 2, labels={"app": "web"}, port=8080)


mesh = module_mesh(build)


def lives(conn, data=b"ping"):
    conn.sendall(data)
    return read_exactly(conn, len(data)) == data


# Limits


def test_no_source_port_is_left(mesh):
    """The leg to the application has the client's address: when that has no port left for it, the
    flow fails at once, for a reason of its own, and the next one works when there is one."""
    with mesh.inside("server"):
        before = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
        sysctl("net/ipv4/ip_local_port_range", "40000 40003")
    try:
        with mesh.serve("server", 8080, echo):
            mark, conns = mesh.nodes[2].mark(), []
            for _ in range(4):
                conns.append(mesh.connect("client", ("server", 8080)))
                assert lives(conns[-1])
            mesh.fails("client", ("server", 8080), timeout=3)
            line = mesh.nodes[2].access(mark, direction="inbound", level="error")[0]
            assert "no local port left" in line["error"], line
            assert all(lives(conn) for conn in conns)
            for conn in conns:
                linger0(conn)
                conn.close()
            wait_until(lambda: mesh.ask("client", ("server", 8080)) == b"hello world", 5)
    finally:
        with mesh.inside("server"):
            sysctl("net/ipv4/ip_local_port_range", before)


def test_a_thousand_stalled_flows(make_mesh):
    """On one worker, all of one pod: the requests of another pod do not feel them."""
    def objects(m):
        m.pod("client", 1)
        m.pod("friend", 1)
        m.pod("server", 2, port=8080)
        m.pod("quiet", 2, port=8080)
        for name in ("client", "server"):
            with m.inside(name):  # what the kernel holds for them is not the point
                sysctl("net/ipv4/tcp_wmem", "4096 16384 32768")
                sysctl("net/ipv4/tcp_rmem", "4096 16384 32768")

    mesh = make_mesh(objects, "--workers=1")
    n = 200 if SANITIZED else 1000
    release = threading.Event()

    def round_trips():
        with mesh.connect("friend", ("quiet", 8080)) as conn:
            times = []
            for _ in range(300):
                start = time.monotonic()
                assert lives(conn)
                times.append(time.monotonic() - start)
                time.sleep(0.001)
        return sorted(times)[-4]

    with mesh.serve("server", 8080, lambda conn: release.wait(60)), \
            mesh.serve("quiet", 8080, echo):
        before = round_trips()
        conns = [mesh.connect("client", ("server", 8080), timeout=10) for _ in range(n)]
        block, sent = b"x" * (256 << 10), [0] * n
        for conn in conns:
            conn.setblocking(False)
        for _ in range(6):
            for i, conn in enumerate(conns):
                try:
                    sent[i] += conn.send(block)
                except OSError:
                    pass  # full
            time.sleep(0.05)
        # 4 tunnels of 100 streams; the other flows wait for a place.
        assert sum(sent) > min(n, 400) * 96 << 10, "they are full"
        after = min(round_trips() for _ in range(2))  # the first may meet what is still under way
        assert after < max(5 * before, 0.1 * PATIENCE), f"p99 {before:.4f} s, then {after:.4f}"
        for node in mesh.nodes.values():
            node.alive()
        release.set()
        for conn in conns:
            linger0(conn)
            conn.close()
    mesh.gauges_are_zero(10)


def test_unfinished_handshakes_have_a_limit(make_mesh):
    """Of connections that say nothing, 64 a pod and worker are kept; other pods are served."""
    mesh = make_mesh(lambda m: (m.pod("client", 1), m.pod("plain", 1, captured=False),
                                m.pod("server", 2, port=8080), m.pod("other", 2, port=8080)),
                     "--workers=1")
    with mesh.serve("other", 8080, echo):
        conns = [mesh.connect("plain", ("server", 15008)) for _ in range(100)]

        def n_open():
            n = 0
            for conn in conns:
                conn.settimeout(0)
                try:
                    n += conn.recv(1) != b""
                except BlockingIOError:
                    n += 1
                except OSError:
                    pass
            return n

        wait_until(lambda: n_open() == 64, 3)
        assert mesh.ask("client", ("other", 8080)) == b"hello world"
        for conn in conns:
            conn.close()


def test_memory_pressure_refuses_new_flows(make_mesh):
    """New flows are reset, counted and told while ztun has more than nine tenths of its limit."""
    mesh = make_mesh(build, start=False)
    one = mesh.nodes[1]
    mesh.nodes[2].start()
    one.start()
    resident = one.memory()
    assert one.end() == 0
    one.start(f"--memory-limit={int(resident * 0.8)}", wait=False)
    with mesh.serve("server", 8080, echo):
        wait_until(lambda: json.loads(one.get("/status")[1])["refusesNewFlows"], 5)
        mesh.fails("client", ("server", 8080), timeout=2)
        assert one.metric("flows_refused_total", reason="memory") >= 1
        assert one.log(level="warn", message=re.compile("memory is short"))


def test_nothing_is_dumped(mesh):
    """No core files, and not readable by others of the same user: keys are in the memory."""
    for node in mesh.nodes.values():
        proc = Path(f"/proc/{node.process.pid}")
        line = next(x for x in (proc / "limits").read_text().splitlines() if "core file" in x)
        assert line.split()[-3:-1] == ["0", "0"], line
        assert (proc / "environ").stat().st_uid == 0


def test_read_only_sysctls(make_mesh):
    """/proc/sys cannot be written, as in most containers: pods are served all the same."""
    mesh = make_mesh(build, start=False)
    for node in mesh.nodes.values():
        node.start(wrap=["unshare", "--mount", "sh", "-ec",
                         "mount -o bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys;"
                         " ! (echo 1 >/proc/sys/net/ipv4/ip_forward) 2>/dev/null; exec \"$@\"",
                         "sh"])
    with mesh.serve("server", 8080, echo):
        assert mesh.ask("client", ("server", 8080)) == b"hello world"
        assert mesh.ask("plain", ("server", 8080)) == b"hello world"


def test_flows_older_than_enrolment_are_told(make_mesh):
    """They go on outside of the mesh, and the log says how many, and that STRICT is not for them."""
    mesh = make_mesh(lambda m: (m.pod("client", 1), m.pod("server", 2, port=8080,
                                                          captured=False)))
    mesh.settle(lambda: mesh.peer_authentication("default", "STRICT"))
    with mesh.serve("server", 8080, echo):
        conns = [mesh.connect("client", ("server", 8080)) for _ in range(3)]
        assert all(lives(conn) for conn in conns)
        two = mesh.nodes[2]
        mark = two.mark()
        mesh.set_label("server", "istio.io/dataplane-mode", "ambient")
        told = wait_until(lambda: two.log(mark, level="warn", scope="inpod"), 5)
        assert told[0]["connections"] == 3 and "STRICT" in told[0]["message"], told
        assert all(lives(conn) for conn in conns)
        for conn in conns:
            conn.close()


# Replacement


def test_no_name_is_lost_while_ztun_is_replaced(make_mesh):
    """Queries go on while a second ztun starts beside the first one, and that ends."""
    mesh = make_mesh(lambda m: (build(m), m.service("web")), "--drain=3s")
    one = mesh.nodes[1]
    failures, n, is_on = [], [0], threading.Event()

    def ask(tcp):
        while not is_on.is_set():
            try:
                got = dns.resolve(mesh, "client", "web.demo.svc.cluster.local", tcp=tcp, timeout=2)
                assert got.rcode == 0 and len(got.records) == 1
                n[0] += 1
            except (OSError, EOFError, AssertionError) as e:
                failures.append(repr(e))
            time.sleep(0.002)

    threads = [threading.Thread(target=ask, args=(tcp,), daemon=True)
               for tcp in (False, False, True)]
    for thread in threads:
        thread.start()
    old = one.process
    mesh.extra.append(old)
    one.log_path = one.log_path.with_suffix(".second.log")
    one.start(wait=False)
    wait_until(lambda: one.log(message="ready to serve"), 10)
    time.sleep(0.3)
    assert one.process.poll() is None
    old.terminate()
    assert old.wait(10) == 0
    time.sleep(0.3)
    is_on.set()
    for thread in threads:
        thread.join(5)
    assert n[0] > 100 and not failures, (n, failures[:5])


def test_tunnels_to_a_pod_that_left_close(make_mesh):
    """Its workload is gone from the configuration: the peers' pooled tunnels end, too, though the
    pod itself, of a node that knows nothing of it yet, still answers."""
    mesh = make_mesh(build)
    one, two = mesh.nodes[1], mesh.nodes[2]
    with mesh.serve("server", 8080, echo):
        assert mesh.ask("client", ("server", 8080)) == b"hello world"
        wait_until(lambda: one.metric("hbone_pool_tunnels") == 1, 3)
        two.process.send_signal(19)  # SIGSTOP: its own goodbye does not come
        try:
            mesh.delete("Pod", "server")
            wait_until(lambda: one.metric("hbone_pool_tunnels") == 0, 3)
        finally:
            two.process.send_signal(18)


# Destinations


def test_node_port(make_mesh):
    """A node's address and a service's nodePort: one of the endpoints, in a tunnel; with
    externalTrafficPolicy Local one of that node."""
    mesh = make_mesh(build)
    ports = [{"port": 80, "targetPort": 8080, "nodePort": 30080, "protocol": "TCP"}]
    local = [{"port": 80, "targetPort": 8080, "nodePort": 30081, "protocol": "TCP"}]
    mesh.settle(lambda: (
        mesh.service("web", ports=ports, type="NodePort"),
        mesh.service("local", ports=local, type="NodePort", selector={"app": "web"},
                     externalTrafficPolicy="Local")))
    one, two = mesh.nodes[1], mesh.nodes[2]
    with mesh.serve("near", 8080, say("near")), mesh.serve("server", 8080, say("server")):
        mark = one.mark()
        assert {mesh.ask("client", (two.ip, 30080)) for _ in range(30)} == {b"near", b"server"}
        assert one.access(mark, direction="outbound")[0]["dst.service"] == \
            "web.demo.svc.cluster.local"
        assert {mesh.ask("client", (two.ip, 30081)) for _ in range(10)} == {b"server"}
        assert {mesh.ask("client", (one.ip, 30081)) for _ in range(10)} == {b"near"}


def test_traffic_distribution(make_mesh):
    """internalTrafficPolicy Local needs an endpoint of the own node; PreferSameNode prefers it, and
    takes another one when it is gone."""
    mesh = make_mesh(build)
    vips = {}
    mesh.settle(lambda: vips.update(
        local=mesh.service("local", selector={"app": "web"}, internalTrafficPolicy="Local"),
        prefer=mesh.service("prefer", selector={"app": "web"},
                            trafficDistribution="PreferSameNode")))
    with mesh.serve("near", 8080, say("near")), mesh.serve("server", 8080, say("server")):
        for vip in vips.values():
            assert {mesh.ask("client", (vip, 80)) for _ in range(10)} == {b"near"}
        mesh.settle(lambda: mesh.set_ready("near", False))
        assert mesh.ask("client", (vips["prefer"], 80)) == b"server"
        mark = mesh.nodes[1].mark()
        mesh.fails("client", (vips["local"], 80))
        mesh.nodes[1].access(mark, direction="outbound", error=re.compile("no healthy"))


# Settings


def test_settings_of_the_environment(make_mesh):
    """ztunnel's names work; a flag comes before them; nonsense is refused with the name in it."""
    mesh = make_mesh(build, start=False)
    one = mesh.nodes[1]
    one.env = {"ZTUNNEL_WORKER_THREADS": "3", "POOL_UNUSED_RELEASE_TIMEOUT": "7s",
               "SECRET_TTL": "2h", "IPV6_ENABLED": "false", "CLUSTER_ID": "elsewhere"}
    one.start("--pool-idle=9s")
    config = json.dumps(one.config_dump()["config"])
    assert "elsewhere" in config, config
    names = mesh.run("node1", "sh", "-c", f"cat /proc/{one.process.pid}/task/*/comm").stdout.decode()
    assert sum(name.startswith("ztun-w") for name in names.split()) == 3, names
    done = subprocess.run([*one.process.args[:3], one.process.args[3], "--config", mesh.config],
                          env={"PATH": "/usr/bin:/bin", "SECRET_TTL": "soon"},
                          capture_output=True, timeout=10)
    assert done.returncode == 2 and b"SECRET_TTL" in done.stdout + done.stderr, done


# ztunctl


def ctl(mesh, *args, where="node1"):
    done = subprocess.run([ZTUNCTL, *args, "--netns", mesh.netns(where)], capture_output=True,
                          text=True, timeout=20)
    assert done.returncode == 0, done
    return done.stdout


def test_ztunctl_shows_what_runs(mesh):
    one = mesh.nodes[1]
    with mesh.serve("server", 8080, echo), mesh.connect("client", ("server", 8080)) as conn:
        assert lives(conn)
        flow = f"{mesh.pods['client'].ip}:{conn.getsockname()[1]}"
        assert {p["name"] for p in json.loads(ctl(mesh, "config", "workload", "-o", "json"))} >= \
            {"client", "server"}
        table = ctl(mesh, "config", "workload")
        assert "server" in table and "HBONE" in table
        assert mesh.pods["client"].identity in ctl(mesh, "config", "certificate", "-o", "json")
        assert flow in ctl(mesh, "config", "connection", "--raw")
        wait_until(lambda: "server" in ctl(mesh, "top", "--once"), 3)
        assert "istio_tcp_connections_opened_total" in ctl(mesh, "metrics", "connections_opened")
    before = ctl(mesh, "log-level")
    ctl(mesh, "log-level", "debug")
    assert "debug" in ctl(mesh, "log-level")
    ctl(mesh, "log-level", "--reset")
    assert ctl(mesh, "log-level") == before
    assert one.process.poll() is None


def test_explain_says_what_happens(mesh):
    """The tool's words about the way of a connection, and then a connection."""
    def explain(source, *more):
        done = subprocess.run([ZTUNCTL, "explain", "--from", f"demo/{source}", "--to",
                               f"{mesh.pods['server'].ip}:8080", "--config", mesh.config, *more],
                              capture_output=True, text=True, timeout=20)
        return done.stdout

    text = explain("client", "--hops")
    assert f"{mesh.pods['server'].ip}:15008" in text and mesh.pods["server"].identity in text, text
    assert "15001" in text and "outbound v4" in text, text
    with mesh.serve("server", 8080, echo):
        assert mesh.ask("client", ("server", 8080)) == b"hello world"
        mesh.settle(lambda: mesh.policy("no", "DENY", [{"from": [{"source": {
            "namespaces": ["demo"]}}]}], {"app": "web"}))
        try:
            assert "demo/no" in explain("client")
            mesh.fails("client", ("server", 8080))
        finally:
            mesh.settle(lambda: mesh.delete("AuthorizationPolicy", "no"))
