#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The exercises, one row each, in namespaces of their own.

    python3 scripts/tutorial [ROW...|quick|all] [--list]

Prints a table: row, what was applied, expected, observed, and pass, fail or later. What a row typed
and saw is in build/tutorial/ROW.log; a single row prints it. `quick` is a subset for each change.
KEEP=1 with one row leaves its lab up, on the machine itself. The last line counts. Exit code 0 only
when no row failed.

MODE=kube: in the cluster that KUBECONFIG names (tests/kube/README.md), with kubectl. Rows that only
the lab can have say why: `lab`. Logs are in build/tutorial-kube.
"""

import argparse
import concurrent.futures
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import traceback
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).resolve().parent))

import kube  # noqa: E402
import rows  # noqa: E402,F401 (declares them)
import rows_apps  # noqa: E402,F401
import rows_security  # noqa: E402,F401
import rows_traffic  # noqa: E402,F401
import rows_mistakes  # noqa: E402,F401
from row import ROOT, ROWS, Failed, Row  # noqa: E402

BIN_DIR = Path(os.environ.get("BIN_DIR", ROOT / "build" / "bin")).resolve()
IS_KUBE = os.environ.get("MODE") == "kube"
LOG_DIR = ROOT / "build" / ("tutorial-kube" if IS_KUBE else "tutorial")
ROW_TIMEOUT_S = 900 * kube.PATIENCE if IS_KUBE else 240
NAME_WIDTH = 22
ALONE = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
         "--propagation", "private", "sh", "-ec",
         'mount -t tmpfs -o mode=755 tmpfs /run; mkdir /run/netns /run/lock; ip link set lo up; '
         'exec "$@"', "sh"]


def run_row(name, is_kept, result_path):
    """In the row's own process: brings the lab up, runs the row, writes the result."""
    entry = ROWS[name]
    row = (kube.KubeRow if IS_KUBE else Row)(entry, BIN_DIR, "tutorial")
    try:
        row.up()
        entry["function"](row)
    except Failed as error:
        row.failures.append(str(error))
    except Exception as error:  # pylint: disable=broad-except (a row that is wrong has failed)
        traceback.print_exc()
        row.failures.append(f"{type(error).__name__}: {error}")
    finally:
        try:
            if not is_kept:
                row.down()
        except Failed as error:
            row.failures.append(str(error))
    Path(result_path).write_text(json.dumps({"observed": row.observed, "failures": row.failures}))


def absent(name):
    """Why there is nothing to run, in a word."""
    if ROWS[name]["function"] is None:
        return "later"
    return "lab" if IS_KUBE and ROWS[name]["lab_only"] else None


def end(process):
    """What is in a cluster is taken away first."""
    if IS_KUBE:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(ROW_TIMEOUT_S / 3)
    process.kill()
    process.wait()


def start_row(name, is_kept, is_shown):
    """Runs a row in a process and namespaces of its own; returns its result."""
    begin = time.monotonic()
    if verdict := absent(name):
        return {"observed": [], "failures": [], "verdict": verdict, "seconds": 0}
    LOG_DIR.mkdir(parents=True, exist_ok=True)
    log_path = LOG_DIR / f"{name}.log"
    with tempfile.NamedTemporaryFile() as result:
        argv = [sys.executable, __file__, "--row", name, "--result", result.name]
        if is_kept:
            argv.append("--keep")
        elif not IS_KUBE:
            argv = ALONE + argv
        tee = subprocess.Popen(["tee", log_path], stdin=subprocess.PIPE,
                               stdout=None if is_shown else subprocess.DEVNULL)
        with tee:
            process = subprocess.Popen(argv, stdout=tee.stdin, stderr=subprocess.STDOUT,
                                       stdin=subprocess.DEVNULL)
            is_late = False
            try:
                process.wait(ROW_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                is_late = True
                end(process)
        text = Path(result.name).read_text(encoding="utf-8")
    outcome = json.loads(text) if text else {
        "observed": [], "failures": [f"no result: more than {ROW_TIMEOUT_S} s" if is_late else
                                     f"no result, see {log_path.relative_to(ROOT)}"]}
    outcome["verdict"] = "fail" if outcome["failures"] or not outcome["observed"] else "pass"
    outcome["seconds"] = time.monotonic() - begin
    return outcome


def chains(names):
    """Groups, one after the other, of lists, side by side, of rows, one after the other: in a cluster
    rows of a base have the same namespace, and when nodes get labels nothing else runs."""
    if not IS_KUBE:
        return [[[name] for name in names]]
    beside, alone = {}, []
    for name in names:
        base = ROWS[name]["base"]
        if base is not None and kube.has_nodes(base):
            alone.append(name)
        else:
            beside.setdefault(base and Path(base).parts[1], []).append(name)
    return [list(beside.values()), [alone]]


def run_rows(names, jobs, is_kept):
    """(name, outcome) of each, in this order."""
    outcomes = {name: concurrent.futures.Future() for name in names}

    def run_chain(chain):
        for name in chain:
            try:
                outcomes[name].set_result(start_row(name, is_kept, len(names) == 1))
            except Exception as error:  # pylint: disable=broad-except (it is raised where it is asked for)
                outcomes[name].set_exception(error)

    def run_groups():
        for group in chains(names):
            with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
                list(pool.map(run_chain, group))
    runner = threading.Thread(target=run_groups)
    runner.start()
    for name in names:
        yield name, outcomes[name].result()
    runner.join()


def print_outcome(name, outcome):
    entry = ROWS[name]
    print(f"{outcome['verdict']:6}{name:{NAME_WIDTH}}{outcome['seconds']:5.0f} s")
    for title, text in (("applied", entry["applied"]), ("expected", entry["expected"]),
                        ("only in the lab", entry["lab_only"] if outcome["verdict"] == "lab" else ""),
                        ("observed", "; ".join(outcome["observed"])),
                        ("failed", "; ".join(outcome["failures"]))):
        if text:
            print(textwrap.fill(f"{title}: {text}", 110, initial_indent=" " * 6,
                                subsequent_indent=" " * 16))
    sys.stdout.flush()


def write_junit(path, outcomes):
    suite = ElementTree.Element("testsuite", name="tutorial")
    for name, outcome in outcomes.items():
        if outcome["verdict"] not in ("later", "lab"):
            case = ElementTree.SubElement(suite, "testcase", classname="tutorial", name=name,
                                          time=f"{outcome['seconds']:.1f}")
            if outcome["verdict"] == "fail":
                message = "; ".join(outcome["failures"] or ["nothing was observed"])
                ElementTree.SubElement(case, "failure", message=message)
    ElementTree.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="ROW")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--junitxml", metavar="FILE", help="the rows that ran as test cases")
    parser.add_argument("--jobs", type=int, default=2 if IS_KUBE else (os.cpu_count() or 2) + 1)
    for hidden in ("--row", "--result"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.row:
        run_row(args.row, args.keep, args.result)
        return 0
    groups = {"all": list(ROWS), "quick": [n for n, e in ROWS.items() if e["quick"]]}
    unknown = [name for name in args.names if name not in ROWS and name not in groups]
    if unknown:
        parser.error(f"no row {', '.join(unknown)}: see --list")
    names = list(dict.fromkeys(n for name in args.names or ["all"] for n in groups.get(name, [name])))
    if args.list:
        for name in names:
            print(f"{name:{NAME_WIDTH}}{ROWS[name]['applied']}")
        return 0
    if os.environ.get("MODE", "") not in ("", "local", "kube"):
        parser.error(f"MODE={os.environ['MODE']} is neither local nor kube")
    for program in ("ztunctl",) if IS_KUBE else ("ztunctl", "ztun", "waypoint"):
        if not (BIN_DIR / program).exists():
            parser.error(f"no {program} in {BIN_DIR}: make build, or BIN_DIR=DIRECTORY")
    is_kept = os.environ.get("KEEP") == "1"
    if is_kept and len(names) != 1:
        parser.error("KEEP=1 is for one row: EX=...")
    if IS_KUBE:
        if problem := kube.check_cluster():
            parser.error(problem)
        kube.bring_images()
    outcomes = {}
    for name, outcome in run_rows(names, args.jobs, is_kept):
        outcomes[name] = outcome
        print_outcome(name, outcome)
    if is_kept and IS_KUBE:
        print(f"\nThe namespaces are there:  kubectl get namespaces -l {kube.OURS}")
    elif is_kept:
        print("\nThe lab is up:  export ZTUN_LAB=tutorial; build/bin/ztunctl local status")
    if args.junitxml:
        write_junit(args.junitxml, outcomes)
    counts = Counter(outcome["verdict"] for outcome in outcomes.values())
    print(f"{counts['pass']} passed, {counts['fail']} failed, {counts['later']} later" +
          (f", {counts['lab']} only in the lab" if IS_KUBE else ""))
    return 1 if counts["fail"] else 0


if __name__ == "__main__":
    sys.exit(main())
