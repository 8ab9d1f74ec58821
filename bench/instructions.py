#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Instructions that the waypoint executes for a request, counted by callgrind: the same in each run of
one binary (but for digits of times), whatever else the machine does. waypoint_request_probe drives
parse, route, rewrite, choice of a host, writing, log and metrics on the simulated network; what that
network itself executes is left out, the kernel has no part in it.

    bench/instructions.py [--bin build/release/bin] [--top N]

Exit status 1: more than MAX."""

import argparse
import collections
import re
import subprocess
import sys
import tempfile

# What gcc 12 made of it when it was last looked at, and 2 %. Who needs more says why.
MAX = 31600

ROOT = "loop_turn"  # what the product executes begins here ...
BACK = "fake_turn"  # ... and goes on where the simulated network hands out completions
NETWORK, OUTSIDE = "common/rt/fake", ("tests/", "bench/")
N_FEW, N_MANY = 500, 1500  # their difference has neither start nor end in it


def calls(path):
    """Call edges of a callgrind file: ((file, function) of the caller, of the callee, instructions)."""
    names = {"fl": {}, "fn": {}}
    caller = callee = None
    with open(path, encoding="utf-8") as out:
        lines = iter(out)
        for line in lines:
            found = re.match(r"(fl|fi|fe|fn|cfi|cfl|cfn)=\((\d+)\)(?: (.*))?$", line)
            if found:
                key, number, text = found.groups()
                table = names["fn" if key.endswith("fn") else "fl"]
                if text:
                    table[number] = text
                text = table[number]
                if key == "fl":
                    caller = (text, None)
                elif key == "fn":
                    caller = (caller[0], text)
                    callee = (caller[0], None)
                elif key == "cfn":
                    callee = (callee[0], text)
                elif key in ("cfi", "cfl"):
                    callee = (text, None)
            elif line.startswith("calls="):
                yield caller, callee, int(next(lines).split()[1])
                callee = (caller[0], None)


def kind(file):
    if NETWORK in file:
        return "network"
    if any(f"/{part}" in file for part in OUTSIDE):
        return "outside"
    return "ours" if "/common/" in file or "/waypoint/" in file else "library"


def count(path):
    total = 0
    for (file, function), (to_file, to_function), cost in calls(path):
        a, b = kind(file), kind(to_file)
        if a == "outside" and to_function == ROOT:
            total += cost
        elif a == "ours" and b == "network":
            total -= cost
        elif a == "network" and function == BACK and b == "ours" and "/common/base/" not in to_file:
            total += cost
    return total


def callgrind(probe, directory, n_requests):
    path = f"{directory}/callgrind-{n_requests}.out"
    done = subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={path}", probe,
                           f"--requests={n_requests}"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"callgrind: {done.stderr[-500:]}")
    return path


def print_top(path, n):
    """Functions with most instructions, those of their callees included."""
    costs = collections.Counter()
    for _, (file, function), cost in calls(path):
        if kind(file) == "ours":
            costs[f"{function} ({file.split('/common/')[-1].split('/waypoint/')[-1]})"] += cost
    for name, cost in costs.most_common(n):
        print(f"{cost / N_MANY:10.0f}  {name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="build/release/bin", help="directory of bench/")
    parser.add_argument("--top", type=int, default=0, help="print the costliest functions too")
    args = parser.parse_args()
    probe = f"{args.bin}/bench/waypoint_request_probe"
    with tempfile.TemporaryDirectory(prefix="zb-") as directory:
        few, many = (callgrind(probe, directory, n) for n in (N_FEW, N_MANY))
        print_top(many, args.top)
        n = (count(many) - count(few)) / (N_MANY - N_FEW)
    print(f"{n:.0f} instructions a request, at most {MAX}")
    return n > MAX


if __name__ == "__main__":
    sys.exit(main())
