# SPDX-License-Identifier: Apache-2.0
"""ztun that ends, dies, comes back, gets a successor, or runs short of something."""

import contextlib
import os
import random
import re
import select
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from lablib import PATIENCE, SANITIZED, wait_until
from mesh.fixtures import make_mesh, shown  # noqa: F401
from mesh.h2 import REFUSED_STREAM, hbone, tls
from mesh.netns import ip_batch
from mesh.pki import Authority
from mesh.topology import Load, echo, linger0, read_all, read_exactly, sink

MB = 1 << 20


def build(mesh):
    mesh.pod("client", 1, families=(4, 6))
    mesh.pod("server", 2, port=8080, families=(4, 6))
    mesh.vips["server"] = mesh.service("server")


def flow(mesh, source="client", to=("server", 8080)):
    conn = mesh.connect(source, to)
    assert lives(conn)
    return conn


def lives(conn):
    conn.sendall(b"ping")
    return read_exactly(conn, 4) == b"ping"


def kill(node):
    node.process.kill()
    node.process.wait()


# Death and return


@pytest.mark.main
def test_kill_fails_closed_and_restart_is_quick(make_mesh):
    """kill -9 of either side: refused meanwhile and never passed by; served again within half a
    second of the start (or, on a machine that is busy with other things, of one of the starts)."""
    mesh, took = make_mesh(build), {}
    with mesh.serve("server", 8080, echo) as server:
        for node in [*mesh.nodes.values()] * 4:
            if took.get(node, 1) < 0.5:
                continue
            assert mesh.ask("client", ("server", 8080)) == b"hello world"
            n = len(server.conns)
            kill(node)
            for _ in range(2):
                mesh.fails("client", ("server", 8080), timeout=2)
            assert len(server.conns) == n, "nothing passes ztun by"
            start = time.monotonic()
            node.start(wait=False)

            def answers():
                return mesh.ask("client", ("server", 8080), timeout=1) == b"hello world"

            wait_until(answers, 5, interval=0.01)
            took[node] = time.monotonic() - start
            node.wait_ready()
    assert SANITIZED or max(took.values()) < 0.5 * PATIENCE, took


def test_flows_wait_for_a_ztun_that_starts(make_mesh):
    """Nobody listens at the server's port 15008 yet: a connection waits up to a second for it."""
    mesh = make_mesh(build)
    two = mesh.nodes[2]
    with mesh.serve("server", 8080, echo):
        kill(two)
        conn = mesh.connect("client", ("server", 8080))
        two.start(wait=False)
        try:
            assert lives(conn)
        except (OSError, AssertionError):
            assert SANITIZED, "it starts in less than a second"
        conn.close()
        two.wait_ready()


def test_kill_is_seen_as_reset(make_mesh):
    """Flows of a ztun that died do not look complete at the other one."""
    mesh = make_mesh(build)
    with mesh.serve("server", 8080, echo) as server:
        conn = flow(mesh)
        kill(mesh.nodes[1])
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            conn.settimeout(2)
            if conn.recv(1) == b"":
                pytest.fail("looks complete to the client")
        wait_until(lambda: server.errors, 3, "and to the server")
        conn.close()


def test_restart_repairs_the_rules(make_mesh):
    """Rules that somebody tore, and routes that are gone, are whole again after a restart."""
    mesh = make_mesh(build)
    one = mesh.nodes[1]

    def state():
        rules = mesh.run("client", "nft", "list", "ruleset").stdout.decode()
        rules = re.sub(r"counter packets \d+ bytes \d+|owner gen=[^\"]*", "", rules)
        return rules + mesh.run("client", "ip", "rule").stdout.decode() \
            + mesh.run("client", "ip", "route", "show", "table", "100").stdout.decode()

    before = state()
    with mesh.serve("server", 8080, echo):
        for damage in (["nft", "flush", "ruleset"],
                       ["ip", "route", "flush", "table", "100"],
                       ["nft", "flush", "table", "inet", "ztun"]):
            kill(one)
            assert mesh.run("client", *damage).returncode == 0
            one.start()
            assert state() == before, damage
            mark = one.mark()
            assert mesh.ask("client", ("server", 8080)) == b"hello world"
            assert one.access(mark, direction="outbound")


def test_rules_stay_after_the_end(make_mesh):
    """After SIGTERM, too, nothing passes by."""
    mesh = make_mesh(build, "--drain=500ms")
    with mesh.serve("server", 8080, echo) as server:
        assert mesh.nodes[1].end() == 0
        mesh.fails("client", ("server", 8080), timeout=2)
        assert not server.conns


class Successor:
    """A second ztun beside the first one of a node."""

    def __init__(self, node, *args):
        self.node, self.old = node, node.process
        self.old_log = node.log_path
        node.log_path = node.log_path.with_suffix(".second.log")
        node.start(*args, wait=False)
        wait_until(lambda: node.log(message="pod is served") and node.log(message="ready to serve"),
                   10, "the second one serves")


@pytest.mark.main
@pytest.mark.parametrize("number", [1, 2], ids=["client side", "server side"])
def test_second_ztun_beside_the_first(make_mesh, number):
    """A rolling update: both run, the old one ends. No connection fails; a running flow of the
    old one goes on until its deadline."""
    mesh = make_mesh(build, "--drain=5s")
    node = mesh.nodes[number]
    with mesh.serve("server", 8080, echo):
        conn = flow(mesh)
        with Load(mesh, "client", (mesh.vips["server"], 80), threads=3, interval=0):
            second = Successor(node)
            mesh.extra.append(second.old)
            time.sleep(0.3)
            second.old.send_signal(signal.SIGTERM)
            end = time.monotonic() + 2.6
            while time.monotonic() < end:
                assert lives(conn), "the old flow lives while the old one drains"
                time.sleep(0.05)
        conn.close()
        assert second.old.wait(8) == 0
        mark = node.mark()
        assert mesh.ask("client", ("server", 8080)) == b"hello world"
        assert node.access(mark)
        node.wait_ready()  # readiness and admin ports have moved to the new one


@pytest.mark.main
def test_operators_ports_move_once(make_mesh):
    """The old process answers on all three ports until it is told to end, then the new one, and
    never one and the other by turns. Readiness of the new one is seen when it is it who answers."""
    mesh = make_mesh(build, "--drain=4s")
    node = mesh.nodes[1]

    def who():  # tenths of a second: it is computed from two clocks
        return round(node.metric("process_start_time_seconds") - start, 1)

    def pid_of(port):
        done = mesh.run("node1", "ss", "-Hltnp", f"sport = :{port}")
        return set(map(int, re.findall(r"pid=(\d+)", done.stdout.decode())))

    start = node.metric("process_start_time_seconds")
    assert who() == 0
    time.sleep(0.5)
    second = Successor(node)
    mesh.extra.append(second.old)
    assert {who() for _ in range(20)} == {0}
    assert all(pid_of(port) == {second.old.pid} for port in (15000, 15020, 15021))
    assert node.get("/healthz/ready", 15021)[0] == 200
    second.old.send_signal(signal.SIGTERM)
    told = time.monotonic()
    node.wait_ready(2)
    assert second.old.poll() is None, "the old one still drains"
    assert time.monotonic() - told < 3 * PATIENCE  # it drains for longer
    assert all(who() > 0.3 for _ in range(20))
    assert all(pid_of(port) == {node.process.pid} for port in (15000, 15020, 15021))
    assert second.old.wait(8) == 0
    wait_until(lambda: node.log(message="the operator's ports are ours now"), 2)


@pytest.mark.main
def test_operators_ports_answer_through_a_drain(make_mesh):
    """Nobody waits for them: they answer to the end, and readiness says that it is not. A successor
    that comes in the middle of it gets them at once."""
    mesh = make_mesh(build, f"--drain={8 * PATIENCE:.0f}s")
    node = mesh.nodes[1]
    with mesh.serve("server", 8080, echo):
        conn = flow(mesh)
        old = node.process
        old.send_signal(signal.SIGTERM)
        wait_until(lambda: node.get("/healthz/ready", 15021) == (500, "draining\n"), 2)
        for _ in range(10):
            assert node.metric("istio_tcp_connections_opened_total") == 1
            assert node.get("/status")[0] == 200
            assert node.get("/healthz/ready", 15021)[0] == 500
            time.sleep(0.05)
        second = Successor(node)
        mesh.extra.append(second.old)
        node.wait_ready(2)
        assert old.poll() is None and lives(conn), "the old one still drains"
        wait_until(lambda: node.log(message="the operator's ports are ours now"), 2)
        conn.close()
        assert old.wait(8 * PATIENCE) == 0


def test_operators_port_of_somebody_else(make_mesh):
    """The port is taken: said in the log, and taken over when it is free. Pods are served all the
    same."""
    mesh = make_mesh(build, start=False)
    other = mesh.listen("node1", 15020, "0.0.0.0")
    for node in mesh.nodes.values():
        node.start(wait=False)
    one = mesh.nodes[1]
    wait_until(lambda: one.log(level="warn", server="metrics"), 5)
    wait_until(lambda: all(n.log(message="pod is served") for n in mesh.nodes.values()), 5)
    with mesh.serve("server", 8080, echo):
        wait_until(lambda: mesh.ask("client", ("server", 8080)) == b"hello world", 5)
        other.close()
        one.wait_ready(3)
        # "served" comes before the rules: the first one may have been too early for them
        assert mesh.ask("client", ("server", 8080)) == b"hello world"
        assert one.metric("istio_tcp_connections_opened_total") >= 1


def test_successor_that_dies_leaves_the_first(make_mesh):
    """The second one is killed again: the first goes on. What the second had taken may fail."""
    mesh = make_mesh(build)
    node = mesh.nodes[1]
    with mesh.serve("server", 8080, echo):
        second = Successor(node)
        kill(node)
        node.process, node.log_path = second.old, second.old_log
        wait_until(lambda: all(mesh.ask("client", ("server", 8080)) for _ in range(10)), 5)


@pytest.mark.main
@pytest.mark.parametrize("pod", ["client", "server"])
def test_drain_is_spread(make_mesh, pod):
    """At the deadline flows do not end in one moment, with all their clients coming back at once:
    they are reset over the last two seconds, each with a line that tells age and bytes."""
    n = 40
    mesh = make_mesh(build, "--drain=4s")
    node = mesh.nodes[mesh.pods[pod].node]
    with mesh.serve("server", 8080, echo):
        conns = [flow(mesh) for _ in range(n)]
        mark, start = node.mark(), time.monotonic()
        node.process.send_signal(signal.SIGTERM)
        ends = []
        for conn in conns:
            conn.setblocking(False)
        while len(ends) < n and time.monotonic() < start + 6:
            for conn in select.select(conns, [], [], 0.2)[0]:
                with pytest.raises(ConnectionResetError):
                    conn.recv(1)
                    pytest.fail("looks complete")
                ends.append(time.monotonic() - start)
                conns.remove(conn)
                conn.close()
        assert len(ends) == n
        assert 1.9 < ends[0] and ends[-1] < 4.5, ends
        for part in range(1, 8):  # evenly over three quarters of it, which leaves time to end
            assert abs(ends[part * n // 8] - 2.05 - 1.5 * part / 8) < 0.5 * PATIENCE, ends
        assert node.process.wait(5) == 0
    lines = node.access(mark, n, error="cut at the drain deadline")
    assert len(lines) == n
    for line in lines:
        assert (line["bytes_sent"], line["bytes_recv"]) == (4, 4), line
        assert int(line["duration"].removesuffix("ms")) >= 1900, line


@pytest.mark.main
@pytest.mark.parametrize("delay", [0, 0.05, 0.3, 1.2])
def test_end_while_pods_leave(make_mesh, delay):
    """Pods leave the mesh with flows and tunnels in them, and ztun is told to end meanwhile; a
    second signal comes when much is half closed. No sanitizer finds anything, nothing hangs."""
    mesh = make_mesh(build, "--drain=1500ms")
    with mesh.serve("server", 8080, echo):
        conns = [flow(mesh) for _ in range(10)]
        with contextlib.suppress(AssertionError), \
                Load(mesh, "client", (mesh.vips["server"], 80), threads=3):
            for name in ("client", "server"):
                doc = mesh.pods[name].doc
                doc["metadata"]["labels"]["istio.io/dataplane-mode"] = "none"
                mesh.apply(doc)
            time.sleep(delay)
            for node in mesh.nodes.values():
                node.process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
        mesh.delete("Pod", "server")
        time.sleep(0.1)
        for node in mesh.nodes.values():
            assert node.end() == 0, node.log_tail()
        for conn in conns:
            conn.close()


# Certificates


def test_expired_tunnel(make_mesh):
    """The client's certificate expires: its running streams live, new ones are refused in a way
    that lets it come again by another tunnel."""
    mesh = make_mesh(lambda m: (m.pod("plain", 1, captured=False), build(m)))
    authority = Authority(mesh.ca)
    two, target = mesh.nodes[2], f"{mesh.pods['server'].ip}:8080"
    try:
        with mesh.serve("server", 8080, echo):
            h2 = hbone(mesh, "plain", ("server", 15008),
                       authority.issue(mesh.pods["client"].identity, end=4))
            old = h2.connect(target)
            assert h2.status(old) == "200"
            time.sleep(5.5)
            mark = two.mark()
            new = h2.connect(target)
            h2.until(lambda: new in h2.resets)
            assert h2.resets[new] == REFUSED_STREAM
            h2.until(lambda: h2.goaway is not None)
            line = two.access(mark)[0]
            assert "expired" in line["error"], line
            assert two.metric("istio_tcp_connections_failed_total",
                              response_flags="IDENTITY_ERROR") == 1
            h2.send(old, b"still here", end=True)
            h2.until(lambda: old in h2.ended)
            assert h2.data[old] == b"still here"
            h2.end()
    finally:
        authority.close()


def test_renewal_touches_no_flow(make_mesh):
    """Certificates of 4 seconds: renewed at half their life; old flows live, new ones work."""
    mesh = make_mesh(build, "--secret-ttl=4s")
    one = mesh.nodes[1]
    with mesh.serve("server", 8080, echo):
        conn = flow(mesh)
        end = time.monotonic() + 6
        while time.monotonic() < end:
            assert lives(conn)
            assert mesh.ask("client", ("server", 8080)) == b"hello world"
            time.sleep(0.1)
        conn.close()
    issued = one.log(message="certificate issued")
    assert 3 <= len(issued) <= 8, issued
    assert not one.log(level="error") and not mesh.nodes[2].log(level="error")


def test_many_processes_make_one_ca(make_mesh):
    mesh = make_mesh(build, start=False)
    one = mesh.nodes[1]
    processes = []
    for i in range(8):
        one.start("--admin", f"127.0.0.1:{16000 + i}", "--metrics", f"127.0.0.1:{16100 + i}",
                  "--readiness", f"127.0.0.1:{16200 + i}", "--node", "none", wait=False)
        processes.append(one.process)
    mesh.extra += processes
    wait_until(lambda: len(one.log(message="ready to serve")) == 8, 10)
    files = {p.name: p.stat().st_mode & 0o777 for p in mesh.ca.iterdir()}
    assert {"ca-cert.pem", "ca-key.pem", "root-cert.pem"} <= set(files)
    assert files["ca-key.pem"] == 0o600, oct(files["ca-key.pem"])
    assert not [name for name in files if "tmp" in name]
    for process in processes:
        process.terminate()
    assert [p.wait(10) for p in processes] == [0] * 8
    mesh.start()
    with mesh.serve("server", 8080, echo):
        assert mesh.ask("client", ("server", 8080)) == b"hello world"


# Shortage


def test_few_descriptors(make_mesh):
    """RLIMIT_NOFILE 256: what does not fit is refused and counted, ztun lives, and all is well
    when the crowd is gone."""
    mesh = make_mesh(build, start=False)
    for node in mesh.nodes.values():
        node.start(wrap=["prlimit", "--nofile=256:256"])
    with mesh.serve("server", 8080, echo):
        start = mesh.nodes[1].fds()
        conns, served = [], 0
        for _ in range(500):
            try:
                conn = mesh.connect("client", ("server", 8080), timeout=1)
            except OSError:
                continue
            conns.append(conn)
            try:
                served += lives(conn)
            except (OSError, EOFError):
                pass
        assert served > 30, "those that fit are served"
        assert served < 500
        for node in mesh.nodes.values():
            node.alive()
        for conn in conns:
            linger0(conn)
            conn.close()
        wait_until(lambda: mesh.ask("client", ("server", 8080)) == b"hello world", 10)
        wait_until(lambda: mesh.nodes[1].fds() <= start + 8, 10)
        refused = sum(n.metric("flows_refused_total") for n in mesh.nodes.values())
        assert refused > 0
    mesh.gauges_are_zero()


@pytest.mark.main
def test_memory_comes_back(make_mesh):
    """2 000 connections at once, each with data under way; afterwards memory and descriptors are
    what they were."""
    mesh = make_mesh(build)
    with mesh.serve("server", 8080, echo) as server:
        def crowd(n):
            conns = []
            for _ in range(n):
                conn = mesh.connect("client", ("server", 8080), timeout=10)
                conn.sendall(b"x" * 3000)
                conns.append(conn)
            for conn in conns:
                assert read_exactly(conn, 3000) == b"x" * 3000
            for conn in conns:
                conn.close()
            wait_until(lambda: not [c for c in server.conns if c.fileno() >= 0], 10)
            server.conns.clear()

        crowd(50)
        mesh.gauges_are_zero()
        before = [(n.memory(), n.fds()) for n in mesh.nodes.values()]
        crowd(300 if SANITIZED else 2000)
        mesh.gauges_are_zero()

        def is_back():
            for node, (memory, fds) in zip(mesh.nodes.values(), before):
                assert node.fds() <= fds + 4, f"{node.name}: {fds} fds, now {node.fds()}"
                assert SANITIZED or node.memory() <= memory * 1.1 + 2 * MB, \
                    f"{node.name}: {memory >> 10} KiB, now {node.memory() >> 10}"
            return True

        wait_until(is_back, 20, interval=0.5)


def test_unread_log_stalls_nobody(make_mesh):
    """Nobody reads ztun's output: lines are dropped and counted, requests are not held up."""
    mesh = make_mesh(build, start=False)
    mesh.nodes[2].start()
    reader, writer = os.pipe()
    try:
        one = mesh.nodes[1]
        one.start("--log", "debug", wait=False, stdout=writer)
        one.wait_ready()
        with mesh.serve("server", 8080, echo):
            times = []
            for _ in range(1500):
                start = time.monotonic()
                assert mesh.ask("client", ("server", 8080)) == b"hello world"
                times.append(time.monotonic() - start)
            times.sort()
            assert times[len(times) // 2] < 0.1 * PATIENCE, f"p50 {times[len(times) // 2]:.3f} s"
            wait_until(lambda: one.metric("log_dropped_total") > 0, 5, "lines were dropped")
        assert one.end() == 0, "and ztun still ends"
    finally:
        os.close(reader)
        os.close(writer)


class Cgroup:
    """A memory cgroup of 64 MiB, version 1 or 2. `ok` is False where none can be made."""

    def __init__(self, name, limit):
        self.ok = False
        for base, file, swap in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes", None),
                                 ("/sys/fs/cgroup", "memory.max", "memory.swap.max")):
            self.path = Path(base) / name
            try:
                self.path.mkdir()
                (self.path / file).write_text(str(limit))
                if swap and (self.path / swap).exists():
                    (self.path / swap).write_text("0")
                self.ok = True
                return
            except OSError:
                try:
                    self.path.rmdir()
                except OSError:
                    pass

    def remove(self):
        if self.ok:
            wait_until(lambda: self.path.rmdir() is None, 5)


def test_parked_bytes_are_capped(make_mesh):
    """Half of the memory limit is for bytes that nobody reads. What is more costs the flows that
    have most of them, says so, and leaves the others alone."""
    mesh = make_mesh(lambda m: (build(m), m.pod("friend", 1), m.pod("quiet", 2, port=8080)),
                     start=False)
    mesh.nodes[1].start()
    two = mesh.nodes[2]
    two.start("--memory-limit=24Mi", "--workers=1", "--stream-window=1Mi")
    full = threading.Event()
    with mesh.serve("server", 8080, lambda _: full.wait(60)), mesh.serve("quiet", 8080, echo):
        other = flow(mesh, "friend", ("quiet", 8080))
        conns = [mesh.connect("client", ("server", 8080), timeout=3) for _ in range(30)]
        for conn in conns:
            conn.setblocking(False)
        start, block = time.monotonic(), b"x" * MB

        def is_capped():
            for conn in conns:
                try:
                    conn.send(block)
                except OSError:
                    pass
            assert lives(other), "another pod's flow goes on"
            return two.log(error=re.compile("memory for unread bytes"))
        wait_until(is_capped, 20)
        full.set()
        for conn in conns:
            linger0(conn)
            conn.close()
        other.close()
    with mesh.serve("server", 8080, echo):
        wait_until(lambda: mesh.ask("client", ("server", 8080)) == b"hello world", 10)
    mesh.gauges_are_zero(10)


def test_small_memory(make_mesh):
    """64 MiB: hundreds of flows that nobody reads fill their windows. ztun keeps below the limit,
    other pods' flows go on, and afterwards all is well."""
    mesh = make_mesh(lambda m: (build(m), m.pod("friend", 1), m.pod("quiet", 2, port=8080)),
                     start=False)
    group = Cgroup(mesh.dir.name, 64 * MB)
    try:
        mesh.nodes[1].start()
        if group.ok:
            mesh.nodes[2].start(wrap=["sh", "-c",
                                      f'echo $$ > {group.path}/cgroup.procs; exec "$@"', "sh"])
        else:
            mesh.nodes[2].start("--memory-limit=45Mi")
        two = mesh.nodes[2]
        full = threading.Event()

        def serve(conn):
            full.wait(60)

        with mesh.serve("server", 8080, serve), mesh.serve("quiet", 8080, echo):
            other = flow(mesh, "friend", ("quiet", 8080))
            conns, worst, block = [], 0, b"x" * MB
            for _ in range(150):
                try:
                    conn = mesh.connect("client", ("server", 8080), timeout=3)
                except OSError:
                    continue
                conn.setblocking(False)
                conns.append(conn)
            end = time.monotonic() + 4
            while time.monotonic() < end:
                for conn in conns:
                    try:
                        conn.send(block)
                    except OSError:
                        pass
                worst = max(worst, two.memory())
                assert lives(other), "another pod's flow goes on"
                time.sleep(0.02)
            two.alive()
            assert worst < 64 * MB or SANITIZED, worst
            full.set()
            for conn in conns:
                linger0(conn)
                conn.close()
            other.close()
        with mesh.serve("server", 8080, echo):
            wait_until(lambda: mesh.ask("client", ("server", 8080)) == b"hello world", 10)
        mesh.gauges_are_zero(10)
    finally:
        mesh.stop()
        group.remove()


# Bad neighbours, bad links


@pytest.mark.main
def test_handshake_storm(make_mesh):
    """Hundreds of handshakes, finished and unfinished, while a flow runs: it loses no byte and
    waits for none of them."""
    mesh = make_mesh(lambda m: (build(m), m.pod("plain", 1, captured=False)))
    authority = Authority(mesh.ca)
    try:
        peer = authority.issue(mesh.pods["client"].identity)
        stop, counts = threading.Event(), [0, 0]

        def storm():
            while not stop.is_set():
                try:
                    tls(mesh, "plain", ("server", 15008), peer).close()
                    counts[0] += 1
                except OSError:
                    pass

        def silent():
            conns = []
            while not stop.is_set() and len(conns) < 60:  # fewer than a pod's limit
                try:
                    conns.append(mesh.connect("plain", ("server", 15008), timeout=1))
                    counts[1] += 1
                except OSError:
                    pass
            stop.wait(10)
            for conn in conns:
                conn.close()

        with mesh.serve("server", 8080, echo):
            conn = flow(mesh)
            threads = [threading.Thread(target=t, daemon=True) for t in (storm, storm, silent)]
            for thread in threads:
                thread.start()
            data, worst, end = random.Random(5).randbytes(200_000), 0.0, time.monotonic() + 3
            while time.monotonic() < end:
                start = time.monotonic()
                conn.sendall(data)
                assert read_exactly(conn, len(data)) == data
                worst = max(worst, time.monotonic() - start)
            stop.set()
            for thread in threads:
                thread.join(10)
            assert worst < 5.0 * PATIENCE, f"a round trip took {worst:.3f} s"  # not held up
            assert counts[0] > 50 and counts[1] == 60, counts
            assert lives(conn)
            conn.close()
            assert mesh.ask("client", ("server", 8080)) == b"hello world"
        wait_until(lambda: mesh.nodes[2].fds() < 120, 15, "unfinished handshakes are gone")
    finally:
        authority.close()


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_small_mtu(make_mesh, family):
    """1 280 bytes between the nodes, 1 500 in the pods: also the large first flight passes."""
    mesh = make_mesh(build)
    for node in mesh.nodes.values():
        ip_batch(["link set eth0 mtu 1280"], node.netns)
    data = random.Random(6).randbytes(3 * MB)
    with mesh.serve("server", 8080, echo):
        with mesh.connect("client", (getattr(mesh.pods["server"], family), 8080),
                          timeout=20) as conn:
            thread = threading.Thread(target=conn.sendall, args=(data,), daemon=True)
            thread.start()
            assert read_exactly(conn, len(data)) == data
            thread.join(5)


def segment_size(mesh, pod, side):
    """Of a pod's tunnel, as its TCP takes the path to be."""
    return int(re.search(rb" mss:(\d+)", mesh.run(pod, "ss", "-tinH", side, ":15008").stdout)[1])


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_black_hole(make_mesh, family):
    """As above, and nobody tells the senders: packets that are too large vanish. The handshake gets
    through without a loss, for its flights leave in small segments; with the bytes of flows the
    kernel finds out, after some seconds."""
    mesh = make_mesh(build)
    for node in mesh.nodes.values():
        ip_batch(["link set eth0 mtu 1280"], node.netns)
        for line in ("add table inet hole", "add chain inet hole out "
                     "{ type filter hook output priority 0; }",
                     "add rule inet hole out icmp type destination-unreachable drop",
                     "add rule inet hole out icmpv6 type packet-too-big drop"):
            assert mesh.run(node.name, "nft", line).returncode == 0
    data = random.Random(6).randbytes(1 * MB)
    mark = mesh.nodes[1].mark()
    with mesh.serve("server", 8080, echo):
        with mesh.connect("client", (getattr(mesh.pods["server"], family), 8080),
                          timeout=60) as conn:
            conn.sendall(b"hello")
            assert read_exactly(conn, 5) == b"hello"
            full = 1448 if family == "v4" else 1428
            for pod, side in (("client", "dst"), ("server", "src")):
                assert segment_size(mesh, pod, side) == full  # no one has found out
            thread = threading.Thread(target=conn.sendall, args=(data,), daemon=True)
            thread.start()
            assert read_exactly(conn, len(data)) == data
            thread.join(5)
            assert segment_size(mesh, "client", "dst") < full  # it was a black hole
    assert "error" not in mesh.nodes[1].access(mark, direction="outbound")[0]


@pytest.mark.main
@pytest.mark.own_kernel  # the table is the whole machine's
def test_conntrack_full(make_mesh):
    """No room in the kernel's table: new connections wait or fail, but pass nothing by; running
    flows live, and all is well when there is room again."""
    limit = Path("/proc/sys/net/netfilter/nf_conntrack_max")
    mesh = make_mesh(build)
    before = limit.read_text()
    with mesh.serve("server", 8080, echo) as server:
        conn = flow(mesh)
        n = len(server.conns)
        try:
            limit.write_text("1")
            with pytest.raises(OSError):
                mesh.connect("client", ("server", 8080), timeout=2.5).close()
            assert lives(conn)
            assert len(server.conns) == n
        finally:
            limit.write_text(before)
        assert mesh.ask("client", ("server", 8080), timeout=5) == b"hello world"
        assert lives(conn)
        conn.close()
    mesh.gauges_are_zero()


def test_link_down(make_mesh):
    """A node vanishes in the middle of flows: after 30 s (TCP_USER_TIMEOUT for what is under way,
    PING for what is idle) both sides end them, as resets."""
    mesh = make_mesh(build)
    with mesh.serve("server", 8080, echo) as server:
        busy, idle = flow(mesh), flow(mesh)
        ip_batch(["link set v2 down"], mesh.prefix + "br")
        start = time.monotonic()
        busy.sendall(b"into the void")
        for conn in (busy, idle):
            conn.settimeout(45)
            with pytest.raises((ConnectionResetError, TimeoutError)):
                if conn.recv(1) == b"":
                    pytest.fail("looks complete")
            took = time.monotonic() - start
            assert took < 40, took
            conn.close()
        wait_until(lambda: len(server.errors) == 2, 15, "the server's side ends, too")
        ip_batch(["link set v2 up"], mesh.prefix + "br")
        wait_until(lambda: mesh.ask("client", ("server", 8080), timeout=2) == b"hello world", 10,
                   "all is well when the link is back")
    mesh.gauges_are_zero()


def test_no_route_to_the_node(make_mesh):
    """Packets to 15008 are dropped, as by a NetworkPolicy that forgot it: the connect fails after
    10 s, and the log names the likely cause."""
    mesh = make_mesh(build)
    for line in ("add table inet filter", "add chain inet filter forward "
                 "{ type filter hook forward priority 0; }",
                 "add rule inet filter forward tcp dport 15008 drop"):
        assert mesh.run("node2", "nft", line).returncode == 0
    with mesh.serve("server", 8080, echo):
        mark, start = mesh.nodes[1].mark(), time.monotonic()
        mesh.fails("client", ("server", 8080), timeout=20)
        assert 8 < time.monotonic() - start < 16
        line = mesh.nodes[1].access(mark, direction="outbound")[0]
        assert "15008" in line["error"] and "NetworkPolicy" in line["error"], line
        assert mesh.nodes[1].metric("istio_tcp_connections_failed_total",
                                    response_flags="NETWORK_POLICY") == 1


def test_long_stalled_flow_is_not_cut(make_mesh):
    """A reader that pauses for seconds is no reason to end its flow."""
    mesh = make_mesh(build)
    got = []

    def late(conn):
        time.sleep(3)
        got.append(len(read_all(conn)))

    with mesh.serve("server", 8080, late):
        conn = mesh.connect("client", ("server", 8080), timeout=20)
        conn.sendall(b"x" * (4 * MB))
        conn.close()
        wait_until(lambda: got == [4 * MB], 15)


def test_ipv6_disabled(make_mesh):
    """Pods without IPv6 (disabled by sysctl) are served."""
    def objects(mesh):
        mesh.pod("client", 1)
        mesh.pod("server", 2, port=8080)
        from mesh.netns import sysctl
        for name in ("client", "server"):
            with mesh.inside(name):
                sysctl("net/ipv6/conf/all/disable_ipv6", 1)

    mesh = make_mesh(objects)
    with mesh.serve("server", 8080, echo, address="0.0.0.0"):
        assert mesh.ask("client", ("server", 8080)) == b"hello world"


def test_ipv6_off_by_flag(make_mesh):
    mesh = make_mesh(build, "--ipv6=false")
    with mesh.serve("server", 8080, echo):
        assert mesh.ask("client", (mesh.pods["server"].v4, 8080)) == b"hello world"
    with pytest.raises(ConnectionRefusedError):
        mesh.connect(mesh.nodes[1].netns, ("::1", 15021))


def test_sigint_and_double_start(make_mesh):
    """SIGINT is like SIGTERM; an unusable setting ends with code 2 or 1 and a message."""
    mesh = make_mesh(build, "--drain=300ms")
    mesh.nodes[1].process.send_signal(signal.SIGINT)
    assert mesh.nodes[1].process.wait(5) == 0
    done = subprocess.run([mesh.nodes[1].process.args[3], "--no-such-flag"], capture_output=True,
                          timeout=5)
    assert done.returncode not in (0, 99) and b"no-such-flag" in done.stdout + done.stderr


def test_sink_after_peer_reset_is_quiet(make_mesh):
    """Many flows are reset at once by the client; ztun ends all of them and stays small."""
    mesh = make_mesh(build)
    with mesh.serve("server", 8080, sink):
        conns = [mesh.connect("client", ("server", 8080)) for _ in range(300)]
        for conn in conns:
            conn.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            conn.sendall(b"x" * 20000)
        for conn in conns:
            linger0(conn)
            conn.close()
        mesh.gauges_are_zero(10)
