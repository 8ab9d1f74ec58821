# SPDX-License-Identifier: Apache-2.0
"""A row of the table: a lab of its own, commands and their output, and what is expected of it."""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import time
import types
from pathlib import Path

import stats

ROOT = Path(__file__).resolve().parents[2]
SHOWN_LINES = 12
ROWS = {}


def row(name, applied, expected, base="conf/tutorial/base", quick=False, waypoint=(), dns=(),
        lab_only=None):
    """Declares a row; the function gets a Row, runs commands with it and calls its checks.

    waypoint: flags of its processes. dns: NAME=ADDRESS that the lab's pods resolve. lab_only: why it
    cannot be in a cluster (MODE=kube)."""
    def declare(function):
        ROWS[name] = {"name": name, "applied": applied, "expected": expected, "base": base,
                      "quick": quick, "waypoint": ["--access-log=true", *waypoint],
                      "dns": list(dns), "lab_only": lab_only, "function": function}
        return function
    return declare


def later(name, applied, why):
    ROWS[name] = {"name": name, "applied": applied, "expected": why, "base": None, "quick": False,
                  "lab_only": None, "function": None}


def up_flags(entry):
    """Of `ztunctl local up`, for the row."""
    return [*[f"--waypoint-arg={flag}" for flag in entry["waypoint"]],
            *[word for name in entry["dns"] for word in ("--dns", name)]]


class Failed(Exception):
    """A command that the row needs did not work."""


class Row:
    """A row in a lab of `ztunctl local`. What differs in a cluster is in kube.py."""

    tool = ("ztunctl", "local")  # runs the verbs of kubectl
    patience = 1.0  # factor of time limits
    nodes = ("node1", "node2")
    load_program = ("/usr/bin/python3", str(ROOT / "conf" / "local" / "apps" / "load.py"))

    def __init__(self, entry, bin_dir, lab):
        self.entry, self.lab = entry, lab
        self.ns = Path(entry["base"]).parts[1]
        self.client = "client"  # the pod that asks
        self.programs = {"ztunctl": [str(Path(bin_dir) / "ztunctl")]}
        self.observed, self.failures = [], []
        self.code = 0  # of the last command

    # The mesh

    def up(self):
        self.run("up", self.entry["base"], "--images", "conf/local/images.yaml", "--wait=60",
                 "--no-host", *up_flags(self.entry), timeout=90)

    def down(self):
        self.run("down", check=False)

    def wait_ready(self):
        """Until each pod is ready."""
        self.run("wait", "--wait=20")

    def node_log(self, node, show, grep=None):
        """Of the ztun there."""
        time.sleep(0.5)  # lines are written in batches
        return self.run("logs", node, show=show, grep=grep)

    def waypoint_metrics(self, grep, show):
        time.sleep(1)  # metrics are up to a second old
        return self.run("exec", "-n", self.ns, "deployment/waypoint", "--", "curl", "-s",
                        "http://localhost:15020/stats/prometheus", show=show, grep=grep)

    def tcpdump(self, node, flags):
        """The process, on the node's side of the wire."""
        return self.start("exec", node, "--", "timeout", "20", "tcpdump", "-i", "eth0", *flags)

    # Commands: printed as typed, with what they printed

    def run(self, *args, **how):
        """`ztunctl local ARGS`; returns what it printed."""
        return self.command(*self.tool, *args, **how)

    def argv(self, *words):
        """What is run for the command as it is shown."""
        return [*self.programs[words[0]], *words[1:]]

    def start(self, *args):
        """As run, in the background; its output is the process's."""
        argv = [*self.tool, *map(str, args)]
        print("$ " + shlex.join(argv) + " &\n", flush=True)
        return subprocess.Popen(self.argv(*argv), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True, env={**os.environ, "ZTUN_LAB": self.lab})

    def command(self, *args, timeout=60, check=True, show=SHOWN_LINES, stdin=None, grep=None,
                tail=None):
        """grep: only lines with this text; tail: only so many, the last ones."""
        argv = list(map(str, args))
        print("$ " + shlex.join(argv) + (f" | grep -F {shlex.quote(grep)}" if grep else "") +
              (f" | tail -n {tail}" if tail else ""), flush=True)
        env = {**os.environ, "ZTUN_LAB": self.lab}
        try:
            done = subprocess.run(self.argv(*argv), cwd=ROOT, env=env, input=stdin,
                                  capture_output=True, text=True, timeout=timeout * self.patience)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"{shlex.join(argv)}: no end after {timeout} s") from error
        # Of a command in a pod: kubectl's own last line is no part of what it said.
        said = re.sub(r"(?m)^command terminated with exit code \d+\n", "", done.stderr)
        out, self.code = done.stdout + said, done.returncode
        if grep:
            out = "".join(line for line in out.splitlines(keepends=True) if grep in line)
        if tail:
            out = "".join(out.splitlines(keepends=True)[-tail:])
        lines = out.splitlines()
        for line in lines[:show]:
            print(line)
        if len(lines) > show:
            print(f"... {len(lines) - show} lines more")
        print(flush=True)
        if check and done.returncode != 0:
            raise Failed(f"{shlex.join(argv)}: exit {done.returncode}: {out.strip()[-300:]}")
        return out

    def apply(self, *files):
        for file in files:
            self.run("apply", "-f", file)
        self.settle()

    def validate(self, file, *parts):
        """What `ztunctl validate` says of a file has all these parts: the mistake and its fix."""
        out = self.command("ztunctl", "validate", file, check=False)
        missing = [part for part in parts if part not in out]
        self.check(f"validate names the fix of {Path(file).name}", not missing)

    def refused(self, file, words, *options):
        """`apply` ends with an error that has these words."""
        out = self.run("apply", *options, "-f", file, check=False)
        self.check(f"apply {' '.join([*options, Path(file).name])}: {words}",
                   self.code != 0 and words in out)

    def forced(self, file):
        """As a cluster without strict checks takes it: unknown fields are dropped."""
        self.run("apply", "--validate=false", "-f", file)
        self.settle()

    def settle(self):
        """Changes reach the proxies through files that they watch; this is their promise's bound."""
        time.sleep(0.5)

    def curl(self, *args, timeout=90, show=SHOWN_LINES):
        return self.run("exec", "-n", self.ns, self.client, "--", "curl", "-s", *args,
                        timeout=timeout, check=False, show=show)

    def requests(self, n, host="customer:8080", *args, timeout=90, show=SHOWN_LINES):
        """n requests, one after the other; the lines of their answers."""
        path = host if "/" in host else host + "/"
        return self.curl(*args, f"http://{path}?n=[1-{n}]", timeout=timeout,
                         show=show).splitlines()

    def siege(self, users, repeats):
        """`siege -r REPEATS -c USERS`: (seconds, answer) each."""
        out = self.curl("--parallel", "--parallel-immediate", "--parallel-max", users, "-w",
                        "%{time_total} %{http_code}\\n",
                        f"http://customer:8080/?n=[1-{users * repeats}]", timeout=180, show=100)
        answers = [line for line in out.splitlines() if line.startswith("customer")]
        times = [line for line in out.splitlines() if re.fullmatch(r"[\d.]+ \d{3}", line)]
        return answers, [(float(t.split()[0]), int(t.split()[1])) for t in times]

    def log(self, where, show, grep=None, tail=None):
        time.sleep(0.5)  # lines are written in batches
        return self.run("logs", "-n", self.ns, where, show=show, grep=grep, tail=tail)

    def image(self, deployment, image, container="recommendation"):
        self.run("set", "image", f"deployment/{deployment}", "-n", self.ns, f"{container}={image}")
        self.run("rollout", "status", f"deployment/{deployment}", "-n", self.ns, "--timeout", "40s")

    def pods(self, selector):
        out = self.run("get", "pods", "-n", self.ns, "-l", selector, "-o", "name")
        return [line.removeprefix("pod/") for line in out.splitlines()]

    @contextlib.contextmanager
    def load(self, url, limit_s=60):
        """Requests on new connections while the block runs; the numbers are there after it."""
        numbers = types.SimpleNamespace(requests=0, failed=0)
        with self.start("exec", "-n", self.ns, self.client, "--", *self.load_program, url, limit_s,
                        2) as process:
            try:
                yield numbers
            finally:
                self.stop_load(process)
                out = process.communicate(timeout=20 * self.patience)[0]
        print(out, flush=True)
        found = re.search(r"(?ms)^\{.*^\}", out)
        found = json.loads(found.group(0)) if found else {}
        numbers.requests, numbers.failed = found.get("requests", 0), found.get("failed", 0)

    def stop_load(self, process):
        process.send_signal(signal.SIGTERM)

    # Checks

    def check(self, what, is_true):
        self.observed.append(what)
        if not is_true:
            self.failures.append(what)

    def share(self, lines, pattern, share, *wrong):
        """The lines with the pattern are a stats.Share of all (or: a share, and the wrong ones)."""
        share = share if isinstance(share, stats.Share) else stats.Share(share, *wrong)
        n, hits = len(lines), sum(1 for line in lines if re.search(pattern, line))
        if n == 0:
            raise Failed("no answers")
        for q in share.wrong:
            if share.p_accept(n, q) >= stats.WRONG:
                raise Failed(f"{n} requests do not tell {share.p} from {q}")
        low, high = stats.bounds(n, share.p)
        allowed = f", {low} to {high} allowed" if low < high else ""
        self.check(f"{pattern}: {hits} of {n}{allowed}", share.accepts(hits, n))


def version(line):
    found = re.search(r"recommendation (v\d)", line)
    return found.group(1) if found else "error"
