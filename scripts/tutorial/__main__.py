#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The exercises, one row each, in namespaces of their own.

    python3 scripts/tutorial [ROW...] [--quick] [--list]

Prints a table: row, what was applied, expected, observed, and pass, fail or later. What a row typed
and saw is in build/tutorial/ROW.log; a single row prints it. KEEP=1 with one row leaves its lab up,
on the machine itself. Exit code 0 only when no row failed.
"""

import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import rows  # noqa: E402,F401 (declares them)
import rows_apps  # noqa: E402,F401
import rows_security  # noqa: E402,F401
import rows_traffic  # noqa: E402,F401
import rows_mistakes  # noqa: E402,F401
from row import ROOT, ROWS, Failed, Row  # noqa: E402

BIN_DIR = Path(os.environ.get("BIN_DIR", ROOT / "build" / "bin")).resolve()
LOG_DIR = ROOT / "build" / "tutorial"
ROW_TIMEOUT_S = 240
ALONE = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
         "--propagation", "private", "sh", "-ec",
         'mount -t tmpfs -o mode=755 tmpfs /run; mkdir /run/netns /run/lock; ip link set lo up; '
         'exec "$@"', "sh"]


def run_row(name, is_kept, result_path):
    """In the row's own process: brings the lab up, runs the row, writes the result."""
    entry = ROWS[name]
    row = Row(Path(entry["base"]).parts[1], BIN_DIR, "tutorial")
    try:
        row.run("up", entry["base"], "--images", "conf/local/images.yaml", "--wait=60", "--no-host",
                "--waypoint-arg=--access-log=true", *entry["up"], timeout=90)
        entry["function"](row)
    except Failed as error:
        row.failures.append(str(error))
    except Exception as error:  # pylint: disable=broad-except (a row that is wrong has failed)
        traceback.print_exc()
        row.failures.append(f"{type(error).__name__}: {error}")
    finally:
        if not is_kept:
            row.run("down", check=False)
    Path(result_path).write_text(json.dumps({"observed": row.observed, "failures": row.failures}))


def start_row(name, is_kept, is_shown):
    """Runs a row in a process and namespaces of its own; returns its result."""
    begin = time.monotonic()
    if ROWS[name]["function"] is None:
        return {"observed": [], "failures": [], "verdict": "later", "seconds": 0}
    LOG_DIR.mkdir(parents=True, exist_ok=True)
    log_path = LOG_DIR / f"{name}.log"
    with tempfile.NamedTemporaryFile() as result:
        argv = [sys.executable, __file__, "--row", name, "--result", result.name]
        argv = [*argv, "--keep"] if is_kept else ALONE + argv
        with open(log_path, "w", encoding="utf-8") as log:
            process = subprocess.Popen(argv, stdout=None if is_shown else log,
                                       stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
            try:
                process.wait(ROW_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        text = Path(result.name).read_text(encoding="utf-8")
    outcome = json.loads(text) if text else {
        "observed": [], "failures": [f"the row died or took more than {ROW_TIMEOUT_S} s"]}
    outcome["verdict"] = "fail" if outcome["failures"] or not outcome["observed"] else "pass"
    outcome["seconds"] = time.monotonic() - begin
    return outcome


def print_outcome(name, outcome):
    entry = ROWS[name]
    print(f"{outcome['verdict']:6}{name:16}{outcome['seconds']:5.0f} s")
    for title, text in (("applied", entry["applied"]), ("expected", entry["expected"]),
                        ("observed", "; ".join(outcome["observed"])),
                        ("failed", "; ".join(outcome["failures"]))):
        if text:
            print(textwrap.fill(f"{title}: {text}", 110, initial_indent=" " * 6,
                                subsequent_indent=" " * 16))
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="ROW")
    parser.add_argument("--quick", action="store_true", help="a subset for each change")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--jobs", type=int, default=max(2, os.cpu_count() or 2))
    for hidden in ("--row", "--result"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.row:
        run_row(args.row, args.keep, args.result)
        return 0
    unknown = [name for name in args.names if name not in ROWS]
    if unknown:
        parser.error(f"no row {', '.join(unknown)}: see --list")
    names = args.names or [n for n, e in ROWS.items() if not args.quick or e["quick"]]
    if args.list:
        for name in names:
            print(f"{name:16}{ROWS[name]['applied']}")
        return 0
    is_kept = os.environ.get("KEEP") == "1"
    if is_kept and len(names) != 1:
        parser.error("KEEP=1 is for one row: EX=...")
    counts = {"pass": 0, "fail": 0, "later": 0}
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        running = [(name, pool.submit(start_row, name, is_kept, len(names) == 1)) for name in names]
        for name, future in running:
            outcome = future.result()
            counts[outcome["verdict"]] += 1
            print_outcome(name, outcome)
    if is_kept:
        print("\nThe lab is up:  export ZTUN_LAB=tutorial; build/bin/ztunctl local status")
    print(f"{counts['pass']} passed, {counts['fail']} failed, {counts['later']} later")
    return 1 if counts["fail"] else 0


if __name__ == "__main__":
    sys.exit(main())
