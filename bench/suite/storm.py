# SPDX-License-Identifier: Apache-2.0
"""A storm of handshakes, and what tells the machine's part in what it does from ours."""

import json
import os

from . import topo
from .l7 import issue
from .procs import Proc
from .stats import median

STALL_RATE, STALL_WORK_US = 1000, 250  # as much of a core as the storm takes


class Storm:
    """New tunnels towards the server's pod from another pod, without flows in them."""

    def __init__(self, ctx):
        self.ctx = ctx
        self.certs = issue(f"{ctx.work_dir}/ca", ctx.work_dir, "client")
        self.target = f"{topo.POD_IP[topo.MESH_SERVER]}:15008"

    def start(self, rate, seconds, *flags):
        """From a pod outside the mesh, so that nothing captures it. Begun with say("go")."""
        storm = Proc("tls_storm", [self.ctx.tools / "tls_storm", self.target, self.certs["cert"],
                                   self.certs["key"], f"--rate={rate}", f"--seconds={seconds}",
                                   "--wait", *flags], topo.CLIENT, self.ctx.log_dir, pipes=True)
        storm.read_line(10)
        return storm

    def cost_s(self, proc, rate, *flags):
        """CPU seconds of `proc` for a handshake; measured, with nothing else on it."""
        storm = self.start(rate, 1, *flags)
        before = proc.cpu_s()
        storm.say("go")
        done = json.loads(storm.read_line(20))
        storm.finish()
        return (proc.cpu_s() - before) / done["handshakes"]


class StallProbe:
    """A program that computes as much as the storm makes a worker compute, and waits for nothing:
    its long bursts are the machine's. Runs beside a window of either kind."""

    def __init__(self, ctx, seconds):
        self.ctx, self.seconds = ctx, seconds
        self.proc, self.found = None, {"quiet": [], "event": []}

    def prepare(self, kind):
        self.collect()
        argv = [self.ctx.tools / "stall_probe", f"--rate={STALL_RATE}",
                f"--seconds={self.seconds}", f"--work-us={STALL_WORK_US}", "--wait"]
        self.proc = kind, Proc("stall_probe", argv, None, self.ctx.log_dir, pipes=True)
        self.proc[1].read_line(10)

    def begin(self):
        self.proc[1].say("go")

    def collect(self):
        if self.proc:
            kind, proc = self.proc
            self.found[kind].append(json.loads(proc.read_line(self.seconds + 20)))
            proc.finish()
            self.proc = None

    def stop(self):
        if self.proc:
            self.proc[1].stop()

    def total(self, key):
        return {kind: sum(one[key] for one in all_) for kind, all_ in self.found.items()}

    def late_p99_us(self):
        return {kind: median([one["late_p99_us"] for one in all_])
                for kind, all_ in self.found.items()}


class RealTime:
    """What is started inside, and the processes in `procs`, have precedence over the other programs
    of the machine. Among each other they take turns as they come."""

    def __init__(self, procs):
        self.procs = procs

    def set(self, policy, priority):
        tids = [int(tid) for proc in self.procs for tid in os.listdir(f"/proc/{proc.pid}/task")]
        for tid in [0, *tids]:
            os.sched_setscheduler(tid, policy, os.sched_param(priority))

    def __enter__(self):
        self.set(os.SCHED_RR, 1)

    def __exit__(self, *_):
        self.set(os.SCHED_OTHER, 0)
