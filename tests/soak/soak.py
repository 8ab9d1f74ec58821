#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The long run: a mesh of two nodes under mixed load while everything changes. See scripts/soak.sh.

It goes through a warm-up, a quiet time in which memory and descriptors are noted, the long middle
part, a quiet time in which both must be back, and a last part in which each ztun is replaced by a
second process beside it. At the end all gauges must be at zero and no promise may be broken.
"""

import argparse
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

import load  # noqa: E402
from lablib import ZTUN, wait_until  # noqa: E402
from mesh import topology  # noqa: E402

# Gauges that say what the process is and what it holds on to, not what is going on.
STATIC = re.compile(r"^(process_|istio_build|io_backend|metrics_series|certificate_expiry|"
                    r"seconds_to_expiry|workload_manager_active|buffer_pool|memory_|jemalloc)")


def seconds(text):
    match = re.fullmatch(r"(\d+)(s|m|h|)", text)
    if not match:
        raise argparse.ArgumentTypeError("a time like 90s, 10m or 2h")
    return int(match.group(1)) * {"": 1, "s": 1, "m": 60, "h": 3600}[match.group(2)]


class Ztun(topology.Node):
    """A node's ztun, that a second one can replace."""

    base = 15000
    old = None

    def http(self, method, path, port=15000, timeout=10):
        return super().http(method, path, self.base + port - 15000, timeout)

    def start_beside(self):
        """Starts the successor on other admin ports; returns the process that was there."""
        old, self.base = self.process, 25000 if self.base == 15000 else 15000
        self.process = None
        self.start("--admin", f"127.0.0.1:{self.base}", "--metrics", f"127.0.0.1:{self.base + 20}",
                   "--readiness", f"127.0.0.1:{self.base + 21}")
        return old


class Soak:
    def __init__(self, options):
        self.options = options
        self.begin = time.monotonic()
        self.shared = load.Shared()
        self.faults = []
        self.actions = dict.fromkeys(("reload", "broken", "policy", "churn", "kill", "restart"), 0)
        self.children, self.servers, self.leaving = [], {}, set()
        self.numbers = itertools.count(1)
        topology.Node = Ztun
        self.mesh = topology.Mesh()
        self.is_sanitized = b"libasan" in subprocess.run(
            ["ldd", ZTUN], capture_output=True, check=True).stdout \
            or b"libtsan" in subprocess.run(["ldd", ZTUN], capture_output=True, check=True).stdout

    # Scene

    def build(self):
        mesh, both = self.mesh, (4, 6)
        for name, node in (("client", 1), ("near", 1), ("denied", 1), ("server", 2), ("guard", 2)):
            mesh.pod(name, node, families=both, port=8080)
        mesh.pod("plain", 1, families=both, captured=False)
        for name in ("server", "near", "guard"):
            mesh.vips[name] = mesh.service(name)
        mesh.vips["server6"] = mesh.service("server6", families=(6,), selector={"app": "server"})
        mesh.vips["churn"] = mesh.service("churn", selector={"app": "churn"})
        mesh.vips["victim"] = mesh.service("victim", selector={"app": "victim"})
        for _ in range(2):
            self.add_server("churn")
        self.add_server("victim", rate=2 << 20)
        sa = "cluster.local/ns/demo/sa/"
        mesh.policy("guard", "DENY", [{"from": [{"source": {"principals": [sa + "denied"]}}]}],
                    {"app": "guard"})

    def add_server(self, app, rate=0):
        """A pod behind the service `app`, on the second node, with a server in it."""
        name = f"{app}{next(self.numbers)}"
        pod = self.mesh.pod(name, 2, sa=app, labels={"app": app}, port=8080, wire=True,
                            ready=False)
        self.servers[name] = load.child(load.serve, self.mesh.path(pod.netns), name, self.shared,
                                        8080, rate)
        self.mesh.set_ready(name, True)
        return name

    def start_load(self):
        mesh, spawn = self.mesh, load.child
        for name in ("server", "near", "guard"):
            self.children.append(spawn(load.serve, mesh.path(mesh.pods[name].netns), name,
                                       self.shared, 8080))
        time.sleep(0.5)
        scale = self.options.scale
        vip, server = mesh.vips, mesh.pods["server"]
        all_ways = [(vip["server"], 80), (vip["server6"], 80), (vip["near"], 80),
                    (server.v4, 8080), (server.v6, 8080), (vip["guard"], 80)]

        def n(count):
            return max(1, round(count * scale))

        short = [("short", n(6), all_ways, False), ("churn", n(4), [(vip["churn"], 80)], False),
                 ("dns", 1, [("10.96.0.200", 53)], False)]
        large = [("bulk", n(2), all_ways[:5], False), ("slow", n(10), all_ways[:5], False),
                 ("reset", n(2), all_ways[:5], False),
                 ("victim", n(4), [(vip["victim"], 80)], True),
                 ("refused", 1, [(server.v4, 9), (server.v6, 9)], False)]
        quiet = [("idle", n(150), all_ways, False)]
        plain = [("plain", n(2), [(server.v4, 8080), (server.v6, 8080)], False),
                 ("idle", n(10), [(server.v4, 8080)], False)]
        denied = [("denied", 1, [(vip["guard"], 80), (mesh.pods["guard"].v4, 8080)], False)]
        for where, plan in (("client", short), ("client", large), ("client", quiet),
                            ("plain", plain), ("denied", denied)):
            self.children.append(spawn(load.clients, mesh.path(mesh.pods[where].netns),
                                       f"load {where}", self.shared, plan))

    # Events

    def reload(self):
        number = self.actions["reload"]
        if number % 3 == 0:
            self.mesh.service(f"extra{number % 20}", selector={"app": "server"})
        elif number % 3 == 1:
            self.mesh.pods["near"].doc["metadata"]["annotations"]["soak"] = str(number)
            self.mesh.apply(self.mesh.pods["near"].doc)
        else:
            self.mesh.policy(f"unused{number % 10}", "DENY", [{"to": [{"operation": {
                "ports": [str(10000 + number)]}}]}])

    def broken(self):
        path = self.mesh.config / "broken.yaml"
        if path.exists():
            path.unlink()
        else:
            path.write_text("kind: Service\nmetadata: {name: [\n")

    def policy(self):
        """A policy for everyone comes and goes that allows what is in use."""
        path = self.mesh.config / "AuthorizationPolicy-demo-all.json"
        if path.exists():
            path.unlink()
        else:
            self.mesh.policy("all", "ALLOW", [{"to": [{"operation": {"ports": ["8080"]}}]}])

    def churn(self):
        """Replaces a pod of `churn` as Kubernetes does: nobody must notice."""
        name = self.leave("churn")
        if name is None:
            return
        self.add_server("churn")
        doc = self.mesh.pods[name].doc
        doc["metadata"]["deletionTimestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.mesh.set_ready(name, False)
        self.later(2, lambda: os.kill(self.servers[name].pid, signal.SIGTERM))
        self.later(5, lambda: self.remove(name))

    def kill(self):
        """Deletes the pod of `victim` under its flows, in one of several orders."""
        name = self.leave("victim")
        if name is None:
            return
        if self.actions["kill"] % 2:
            self.servers[name].kill()
        self.remove(name)
        self.later(1.5, lambda: self.add_server("victim", rate=2 << 20))

    def leave(self, app):
        """The oldest pod of a service, to be deleted now; None while its successor starts."""
        name = next((n for n in self.servers if n.startswith(app) and n not in self.leaving), None)
        if name is not None:
            self.leaving.add(name)
        return name

    def remove(self, name):
        """Pod object, then namespace. Nothing may hold on to the namespace."""
        pod = self.mesh.pods.pop(name)
        self.mesh.delete("Pod", name)
        netns, device = pod.netns, f"v{name}"[:15]
        path = self.mesh.path(netns)
        inode = os.stat(path).st_ino

        def finish():
            process = self.servers.pop(name)
            process.kill()
            process.join(5)
            self.leaving.discard(name)
            subprocess.run(["ip", "netns", "del", netns], check=False)
            self.mesh.namespaces.remove(netns)
            self.later(3, lambda: self.check_gone(device, inode))

        self.later(0.5, finish)

    def check_gone(self, device, inode):
        # The veth pair goes with the namespace, when nothing refers to that any more.
        links = subprocess.run(["ip", "-n", self.mesh.nodes[2].netns, "-br", "link"],
                               capture_output=True, text=True, check=True).stdout
        if re.search(rf"^{device}@", links, re.M):
            self.fault(f"the namespace {inode} of {device[1:]} lives 3 s after the pod")
            subprocess.run(["ip", "-n", self.mesh.nodes[2].netns, "link", "del", device],
                           check=False)

    def restart(self):
        node = self.mesh.nodes[1 + self.actions["restart"] % 2]
        old = node.start_beside()
        time.sleep(1)
        old.send_signal(signal.SIGTERM)
        sent = time.monotonic()
        # Long flows end at the deadline, or the last two seconds before it.
        self.later(self.options.drain - 3, self.next_epoch)

        def ended():
            code = old.poll()
            took = time.monotonic() - sent
            if code is None and took < self.options.drain + 10 * topology_patience():
                self.later(0.5, ended)
            elif code is None:
                old.kill()
                self.fault(f"{node.name}: the old process is still there after {took:.0f} s")
            elif code != 0:
                self.fault(f"{node.name}: the old process ended with {code}\n{node.log_tail(15)}")

        self.later(1, ended)

    def next_epoch(self):
        self.shared.epoch.value += 1

    # Time

    def later(self, seconds, action):
        self.queue.append((time.monotonic() + seconds, action))

    def spend(self, duration, events):
        """Lets the load run; `events`: {name: seconds between two}."""
        now = time.monotonic()
        end = now + duration
        due = {name: now + every * 0.7 for name, every in events.items()}
        while now < end:
            time.sleep(0.05)
            now = time.monotonic()
            self.run_queue(now)
            for name, when in due.items():
                if now >= when and now < end - 1:
                    getattr(self, name)()
                    self.actions[name] += 1
                    due[name] = now + events[name]
            if now >= self.next_row:
                self.row()
                self.next_row = now + max(5, self.options.time / 12)

    def run_queue(self, now):
        ready = [item for item in self.queue if item[0] <= now]
        self.queue = [item for item in self.queue if item[0] > now]
        for _, action in ready:
            action()
        for node in self.mesh.nodes.values():
            if node.process.poll() is not None:
                raise RuntimeError(f"{node.name}: exit {node.process.returncode}\n"
                                   + node.log_tail())
        for process in self.children:
            if not process.is_alive():
                raise RuntimeError(f"the load process {process.name} ended with "
                                   f"{process.exitcode}")
        while not self.shared.errors.empty():
            self.fault(self.shared.errors.get(), 40)

    def fault(self, text, limit=100):
        self.faults.append(text)
        if len(self.faults) <= limit:
            print(f"FAULT {time.monotonic() - self.begin:6.1f} s  {text}", flush=True)

    HEAD = "   time     done   cut broken   open     MB   node1 RSS  fds flows   node2 RSS  fds flows"

    def row(self):
        shared = self.shared
        broken = sum(shared.total(r) for r in ("failed", "short", "corrupt"))
        text = f"{time.monotonic() - self.begin:5.0f} s {shared.total('done'):8d} " \
               f"{shared.total('cut'):5d} {broken:6d} {shared.open.value:6d} " \
               f"{shared.total('bytes') / 1e6:6.0f}"
        for node in self.mesh.nodes.values():
            text += f"  {node.memory() / 1e6:7.1f} MB {node.fds():4d} {self.flows(node):5.0f}"
        print(text, flush=True)

    @staticmethod
    def flows(node):
        metrics = node.metrics()
        return metrics.value("istio_tcp_connections_opened_total") \
            - metrics.value("istio_tcp_connections_closed_total")

    def quiet(self):
        """Stops the load and waits until nothing is left of it."""
        self.shared.phase.value = load.PAUSE
        end = time.monotonic() + 60 * topology_patience()
        while self.shared.open.value > 0 or self.queue:
            time.sleep(0.1)
            self.run_queue(time.monotonic())
            if time.monotonic() > end:
                self.fault(f"{self.shared.open.value} flows of the load do not end")
                break
        for node in self.mesh.nodes.values():
            try:
                wait_until(lambda: self.flows(node) == 0, 10)  # noqa: B023
            except AssertionError:
                self.fault(f"{node.name}: {self.flows(node):.0f} flows are left without a client")

    def go_on(self):
        self.shared.phase.value = load.RUN

    def sizes(self):
        """Memory and descriptors of both, once idle tunnels are closed and the allocator is done."""
        time.sleep(self.options.settle)
        return {n.name: (n.process.pid, n.memory(), n.fds()) for n in self.mesh.nodes.values()}

    def compare(self, before, after):
        for name, (pid, memory, fds) in after.items():
            was_pid, was_memory, was_fds = before[name]
            if pid != was_pid:
                continue
            print(f"{name}: {was_memory / 1e6:.1f} MB and {was_fds} descriptors after the warm-up, "
                  f"{memory / 1e6:.1f} MB and {fds} after the load")
            if memory > was_memory * 1.1 and not self.is_sanitized:
                self.fault(f"{name}: memory went from {was_memory / 1e6:.1f} MB to "
                           f"{memory / 1e6:.1f} MB")
            if fds > was_fds + 2:
                self.fault(f"{name}: descriptors went from {was_fds} to {fds}")

    def check_end(self):
        for node in self.mesh.nodes.values():
            metrics = node.metrics()
            if self.options.logs:
                Path(self.options.logs).mkdir(parents=True, exist_ok=True)
                (Path(self.options.logs) / f"{node.name}.metrics").write_text(metrics.text)
            gauges = set(re.findall(r"^# TYPE (\S+) gauge", metrics.text, re.M))
            for name, labels, value in metrics.series:
                if name in gauges and value != 0 and not STATIC.search(name):
                    self.fault(f"{node.name}: gauge {name}{labels} is {value:g} at the end")
            log = node.log_path.read_text(errors="replace")
            errors = [line for line in log.splitlines()
                      if re.search(r'"level":"error"|Sanitizer|runtime error|CHECK', line)
                      and '"scope":"access"' not in line and "broken.yaml" not in line]
            if errors:
                self.fault(f"{node.name}: {len(errors)} errors in the log, as {errors[0][:400]}")
            certs = len(re.findall('"message":"certificate issued"', log))
            if certs == 0 and self.options.time > self.options.secret_ttl:
                self.fault(f"{node.name}: no certificate was renewed")
            print(f"{node.name}: {metrics.value('istio_tcp_connections_opened_total'):.0f} flows of "
                  f"the last process, {metrics.value('config_reload_total'):.0f} reloads, "
                  f"{certs} certificates, "
                  f"{metrics.value('log_dropped_total'):.0f} log lines dropped")

    # The run

    def run(self):
        options, mesh = self.options, self.mesh
        self.queue, self.next_row = [], 0
        self.build()
        mesh.start("--secret-ttl", f"{options.secret_ttl}s", "--pool-idle", "3s",
                   "--workers", str(options.workers), "--log", "info,access=info",
                   "--drain", f"{options.drain}s")
        for node in mesh.nodes.values():  # the later ones too
            node.args = ["--secret-ttl", f"{options.secret_ttl}s", "--pool-idle", "3s", "--workers",
                         str(options.workers), "--drain", f"{options.drain}s"]
        self.start_load()
        print(self.HEAD)
        events = {"reload": 1.5, "broken": 9, "policy": 5, "churn": 7, "kill": 11}
        total = options.time
        self.spend(total * 0.25, events)
        self.quiet()
        before = self.sizes()
        self.go_on()
        self.spend(total * 0.40, events)
        self.quiet()
        self.compare(before, self.sizes())
        self.go_on()
        last = total * 0.35
        self.spend(last, {**events, "restart": max(last / 4, options.drain + 4)})
        self.quiet()
        # A drain may still be running.
        end = time.monotonic() + options.drain + 15
        while self.queue and time.monotonic() < end:
            time.sleep(0.1)
            self.run_queue(time.monotonic())
        self.sizes()
        self.row()
        self.check_end()

    def table(self):
        print("\n" + "kind".ljust(10) + "".join(r.rjust(10) for r in load.RESULTS[:-1])
              + "MB".rjust(10))
        for kind in load.KINDS:
            print(kind.ljust(10)
                  + "".join(f"{self.shared.get(kind, r):10d}" for r in load.RESULTS[:-1])
                  + f"{self.shared.get(kind, 'bytes') / 1e6:10.0f}")
        print("\n" + ", ".join(f"{count} {name}" for name, count in self.actions.items()))

    def stop(self):
        self.shared.phase.value = load.STOP
        for process in [*self.children, *self.servers.values()]:
            process.kill()
            process.join(5)
        logs = self.options.logs
        if logs:
            Path(logs).mkdir(parents=True, exist_ok=True)
            for node in self.mesh.nodes.values():
                if node.log_path.exists():
                    (Path(logs) / node.log_path.name).write_bytes(node.log_path.read_bytes())
        for text in self.mesh.stop():
            self.fault(text)


def topology_patience():
    return float(os.environ.get("ZTUN_TEST_PATIENCE", "1"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--time", type=seconds, default=600, help="of load; default 10m")
    parser.add_argument("--secret-ttl", type=int, default=60, help="seconds a certificate lives")
    parser.add_argument("--drain", type=int, default=20, help="seconds")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1, help="of the number of clients")
    parser.add_argument("--settle", type=float, default=15, help="seconds before memory is read")
    parser.add_argument("--logs", help="directory that gets the logs of both nodes")
    soak = Soak(parser.parse_args())
    try:
        soak.run()
    except (RuntimeError, AssertionError, OSError) as e:
        soak.fault(f"{type(e).__name__}: {e}")
    finally:
        soak.stop()
    soak.table()
    print(f"soak: {len(soak.faults)} faults in {time.monotonic() - soak.begin:.0f} s")
    return 1 if soak.faults else 0


if __name__ == "__main__":
    sys.exit(main())
