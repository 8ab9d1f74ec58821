# SPDX-License-Identifier: Apache-2.0
"""Processes of a run: started in a namespace, ended with the run, their CPU time and memory."""

import ctypes
import json
import os
import select
import signal
import subprocess
import time

LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


class BenchError(Exception):
    pass


def die_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Proc:
    """`name` is for messages and for the log file; `netns` None is the bench's own."""

    def __init__(self, name, argv, netns=None, log_dir=None, pipes=False):
        self.name = name
        self.log_path = os.path.join(log_dir, name + ".log") if log_dir else os.devnull
        prefix = ["ip", "netns", "exec", netns] if netns else []
        with open(self.log_path, "ab") as log:
            # `ip netns exec` execs: the pid is that of the program
            self.popen = subprocess.Popen(
                prefix + [str(arg) for arg in argv],
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else log, stderr=log,
                preexec_fn=die_with_parent, text=True if pipes else None)
        self.pid = self.popen.pid

    def check(self):
        if self.popen.poll() is not None:
            raise BenchError(f"{self.name} ended with {self.popen.returncode}: {self.log_tail()}")

    def log_tail(self, n_lines=5):
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as log:
                return "".join(log.readlines()[-n_lines:]).strip()
        except OSError:
            return ""

    def cpu_s(self):
        """CPU seconds of all threads, also of those that have ended (nanosecond resolution)."""
        self.check()
        return time.clock_gettime_ns((~self.pid << 3) | 2) / 1e9

    def schedstat_s(self):
        """The same from /proc, threads that live: the check of cpu_s()."""
        total = 0
        for task in os.listdir(f"/proc/{self.pid}/task"):
            with open(f"/proc/{self.pid}/task/{task}/schedstat", encoding="ascii") as f:
                total += int(f.read().split()[0])
        return total / 1e9

    def run_delay_s(self):
        """Time that the living threads were ready and had no core."""
        total = 0
        for task in os.listdir(f"/proc/{self.pid}/task"):
            with open(f"/proc/{self.pid}/task/{task}/schedstat", encoding="ascii") as f:
                total += int(f.read().split()[1])
        return total / 1e9

    def memory_kb(self):
        """{"Pss": kB, "Rss": kB, ...} of smaps_rollup."""
        self.check()
        values = {}
        with open(f"/proc/{self.pid}/smaps_rollup", encoding="ascii") as f:
            for line in f:
                word = line.split()
                if word[0].endswith(":") and word[-1] == "kB":
                    values[word[0][:-1]] = int(word[1])
        return values

    def switches(self):
        """Context switches of all living threads."""
        total = 0
        for task in os.listdir(f"/proc/{self.pid}/task"):
            try:
                with open(f"/proc/{self.pid}/task/{task}/status", encoding="ascii") as f:
                    total += sum(int(line.split()[1]) for line in f if "ctxt_switches" in line)
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just ended
        return total

    def read_line(self, timeout_s):
        """One line of a process with pipes."""
        ready, _, _ = select.select([self.popen.stdout], [], [], timeout_s)
        line = self.popen.stdout.readline() if ready else ""
        if not line:
            if not ready:
                raise BenchError(f"{self.name}: nothing within {timeout_s} s")
            self.popen.wait(10)
            raise BenchError(f"{self.name} ended with {self.popen.returncode}: {self.log_tail()}")
        return line.strip()

    def say(self, line):
        self.popen.stdin.write(line + "\n")
        self.popen.stdin.flush()

    def finish(self, timeout_s=30):
        """Closes stdin, waits for the end."""
        self.popen.stdin.close()
        try:
            code = self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.stop()
            raise BenchError(f"{self.name}: does not end") from None
        if code != 0:
            raise BenchError(f"{self.name} ended with {code}: {self.log_tail()}")

    def stop(self, grace_s=8):
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(grace_s)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe and not pipe.closed:
                pipe.close()


def wait_listening(netns, port, procs, timeout_s=20):
    """Until something listens on the port in that namespace."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        for proc in procs:
            proc.check()
        found = subprocess.run(["ip", "netns", "exec", netns, "ss", "-Hltn", "sport", "=",
                                f":{port}"], capture_output=True, text=True, check=True).stdout
        if found.strip():
            return
        time.sleep(0.05)
    raise BenchError(f"nothing listens on port {port} in {netns}")


def machine_busy_s():
    """CPU seconds of the whole machine that were not idle, and those in interrupts."""
    tick = os.sysconf("SC_CLK_TCK")
    with open("/proc/stat", encoding="ascii") as f:
        user, nice, system, _, _, irq, softirq, steal = map(int, f.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / tick, (irq + softirq) / tick


def machine_steal_s():
    """Seconds of all cores in which the host of a virtual machine gave them to others."""
    with open("/proc/stat", encoding="ascii") as f:
        return int(f.readline().split()[8]) / os.sysconf("SC_CLK_TCK")


def measure(load_argv, client_ns, server, halves, log_dir, timeout_s=60):
    """Runs a load tool between its "ready" and its line of JSON. `halves` is a list of lists of
    Proc: the proxies of the client's node, those of the server's. Returns a dict."""
    load = Proc(os.path.basename(str(load_argv[0])), [*load_argv, "--wait"], client_ns, log_dir,
                pipes=True)
    try:
        if load.read_line(timeout_s) != "ready":
            raise BenchError(f"{load.name}: not ready")
        before = [sum(p.cpu_s() for p in half) for half in halves]
        switches = [sum(p.switches() for p in half) for half in halves]
        server_before, load_before = server.cpu_s(), load.cpu_s()
        busy_before, irq_before = machine_busy_s()
        begin = time.monotonic()
        load.say("go")
        result = json.loads(load.read_line(timeout_s + 60))
        wall = time.monotonic() - begin
        cpu = [sum(p.cpu_s() for p in half) - b for half, b in zip(halves, before)]
        busy, irq = machine_busy_s()
        switches = [sum(p.switches() for p in half) - s for half, s in zip(halves, switches)]
        server_cpu = server.cpu_s() - server_before
        load.finish()
    finally:
        load.stop()
    # What neither the proxies nor the load used: other programs of the machine, kernel threads.
    busy -= busy_before
    foreign = max(0.0, busy - sum(cpu) - server_cpu - result["own_cpu_s"])
    return {"load": result, "cpu_halves_s": cpu, "cpu_s": sum(cpu), "wall_s": wall,
            "server_cpu_s": server_cpu, "busy_s": busy, "irq_s": irq - irq_before,
            "switches": switches, "foreign_share": foreign / (wall * os.cpu_count())}
