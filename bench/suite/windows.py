# SPDX-License-Identifier: Apache-2.0
"""Windows of running traffic, half of them with something going on beside it: what happens to the
99th percentile, and how long the turns of a worker get."""

import json
import random
import subprocess
import time

from .procs import BenchError, Proc, machine_steal_s


def turns(netns, metric):
    """{upper bound in seconds: turns up to it} of a histogram of the process in that namespace; {}
    while there was none."""
    text = subprocess.run(["ip", "netns", "exec", netns, "curl", "-s", "--max-time", "5",
                           "http://127.0.0.1:15020/metrics"], capture_output=True, text=True,
                          check=True).stdout
    found = {}
    for line in text.splitlines():
        if line.startswith(metric + "_bucket{"):
            bound = line.split('le="')[1].split('"')[0]
            found[float(bound)] = int(float(line.rsplit(None, 1)[1]))
    if not found and "loop_turn_seconds" not in text:
        raise BenchError("no loop_turn_seconds in the metrics")
    return found


def long_turns(netns, metric, above_s=0.001):
    """Turns above a bound of the histogram."""
    buckets = turns(netns, metric)
    return buckets[float("inf")] - buckets[above_s] if buckets else 0


def add_up(windows):
    """One histogram of several, as {upper end in us: count}."""
    total = {}
    for window in windows:
        for end, n in window["load"]["slots"]:
            total[end] = total.get(end, 0) + n
    return total


def percentile(slots, share):
    want, seen = sum(slots.values()) * share, 0
    for end in sorted(slots):
        seen += slots[end]
        if seen > want:
            return end
    return None


def bootstrap(pairs, share, n_samples=1000, seed=1):
    """Ratio of the percentile of all windows with the event to that of all quiet ones, with its
    95 % interval: pairs of neighbouring windows are drawn again and again."""
    def one(chosen):
        return percentile(add_up(p[1] for p in chosen), share) / \
            percentile(add_up(p[0] for p in chosen), share)
    rand = random.Random(seed)
    drawn = sorted(one([rand.choice(pairs) for _ in pairs]) for _ in range(n_samples))
    return one(pairs), drawn[int(n_samples * 0.025)], drawn[int(n_samples * 0.975) - 1]


def span(p99):
    """What Windows.p99() gives, in words."""
    return (f"{p99['p99_ratio']:.2f} ({p99['p99_low']:.2f}-{p99['p99_high']:.2f}; "
            f"{p99['quiet_p99_us']:.0f} to {p99['event_p99_us']:.0f} us)")


class Computing:
    """Programs that compute for as long as a change takes, and do nothing else: prepared before a
    window, let go in it."""

    def __init__(self, ctx, cpu_s, count):
        self.ctx, self.cpu_s, self.count, self.procs = ctx, cpu_s, count, []

    def prepare(self, kind, _number=0):
        self.collect()
        argv = [self.ctx.tools / "stall_probe", "--rate=1", "--seconds=1",
                f"--work-us={max(1, round(self.cpu_s * 1e6))}", "--wait"]
        for _ in range(self.count if kind == "event" else 0):
            self.procs.append(Proc("stall_probe", argv, None, self.ctx.log_dir, pipes=True))
            self.procs[-1].read_line(10)

    def event(self):
        for proc in self.procs:
            proc.say("go")

    def collect(self):
        for proc in self.procs:
            proc.read_line(20)
            proc.finish()
        self.procs.clear()

    def stop(self):
        for proc in self.procs:
            proc.stop()


def machines_part(ctx, load_argv, client_ns, netns, cpu_s, count=1):
    """p99() of the same traffic beside `count` programs that only compute, for `cpu_s` each, where
    the change would be: what anybody's work on these cores does to it."""
    computing = Computing(ctx, cpu_s, count)
    windows = Windows(ctx, load_argv, client_ns, netns)
    try:
        windows.run(3 if ctx.quick else 10, 2, computing.event, None, computing.prepare)
        computing.collect()
    finally:
        computing.stop()
    return windows.p99()


class Windows:
    """1000/s, open loop, in windows of `seconds`; `event()` is called in each second one, at
    `event_at` of its time. `netns`: of the process whose turns are looked at."""

    def __init__(self, ctx, load_argv, client_ns, netns, above_s=0.001):
        self.ctx, self.client_ns, self.netns, self.above_s = ctx, client_ns, netns, above_s
        self.argv = [*load_argv, "--rate=1000", "--conns=4", "--warm-ms=0", "--slots", "--wait"]
        self.long = {"quiet": 0, "event": 0}
        self.long_cpu = {"quiet": 0, "event": 0}  # of them, those that computed for so long
        self.pairs = []

    def window(self, kind, seconds, event, event_at, proc, begin):
        before, before_cpu = self.turns_so_far()
        steal_s = machine_steal_s()
        load = Proc("window-load", [*self.argv, f"--seconds={seconds}"], self.client_ns,
                    self.ctx.log_dir, pipes=True)
        try:
            load.read_line(10)
            used = proc.cpu_s() if proc else 0
            waited = proc.run_delay_s() if proc else 0
            load.say("go")
            if begin:
                begin()
            if kind == "event":
                time.sleep(seconds * event_at)
                event()
            result = {"load": json.loads(load.read_line(seconds + 30))}
            result["cpu_s"] = proc.cpu_s() - used if proc else None
            result["run_delay_s"] = proc.run_delay_s() - waited if proc else None
            result["steal_s"] = machine_steal_s() - steal_s
            load.finish()
        finally:
            load.stop()
        after, after_cpu = self.turns_so_far()
        self.long[kind] += after - before
        self.long_cpu[kind] += after_cpu - before_cpu
        return result

    def turns_so_far(self):
        return [long_turns(self.netns, metric, self.above_s)
                for metric in ("loop_turn_seconds", "loop_long_turn_cpu_seconds")]

    def pair(self, number, seconds, event, proc=None, prepare=None, event_at=0.25, begin=None):
        """A quiet window and one with the event, in turns which comes first. prepare(kind, number)
        comes before each, begin() with its first request."""
        made = {}
        for kind in ("quiet", "event") if number % 2 == 0 else ("event", "quiet"):
            if prepare:
                prepare(kind, number + 1)
            made[kind] = self.window(kind, seconds, event, event_at, proc, begin)
        self.pairs.append((made["quiet"], made["event"]))

    def run(self, n_pairs, *args, **kwargs):
        """Pairs, as pair() makes them. Returns them: (quiet, event)."""
        for i in range(n_pairs):
            self.pair(i, *args, **kwargs)
        return self.pairs

    def p99(self):
        """Ratio with its interval, and the percentiles themselves."""
        ratio, low, high = bootstrap(self.pairs, 0.99)
        return {"pairs": len(self.pairs), "p99_ratio": ratio, "p99_low": low, "p99_high": high,
                "quiet_p99_us": percentile(add_up(p[0] for p in self.pairs), 0.99),
                "event_p99_us": percentile(add_up(p[1] for p in self.pairs), 0.99)}
