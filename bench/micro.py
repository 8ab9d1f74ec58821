#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Instructions that the hot pure modules execute (micro_probe under callgrind), against the stored
baseline. They do not depend on what else the machine does, so a build fails that needs more.

    bench/micro.py [--bin build/release/bin] [--write]

The baseline is bench/micro_baseline.json, of the release build with Debian 12's gcc. A change that
needs more says why when it stores the new figures (--write); one that needs clearly less stores
them, too, so that the gain is not lost again. Exit status 1: a case drifted by more than DRIFT up.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

DRIFT = 0.03
N = 300
BASELINE = pathlib.Path(__file__).resolve().parent / "micro_baseline.json"


def dumps(directory):
    """{case: instructions} of all calls, from the dumps of callgrind. Of the first thread: what
    liburcu's does meanwhile depends on the machine."""
    found = {}
    for path in pathlib.Path(directory).glob("out*-01"):
        text = path.read_text(encoding="utf-8", errors="replace")
        trigger = re.search(r"^desc: Trigger: Client Request: (\S+)$", text, re.MULTILINE)
        total = re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)
        if trigger and total:
            found[trigger.group(1)] = int(total.group(1))
    return found


def measure(probe):
    """Instructions of one call of each case."""
    with tempfile.TemporaryDirectory(prefix="zb-") as directory:
        done = subprocess.run(["valgrind", "--tool=callgrind", "--separate-threads=yes",
                               f"--callgrind-out-file={directory}/out", probe, f"--n={N}"],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"callgrind: {done.stderr[-800:]}")
        found = dumps(directory)
    cases = list(json.loads(done.stdout))
    missing = [case for case in cases if case not in found]
    if missing or not cases:
        sys.exit(f"callgrind has no figures of {missing or 'anything'}")
    return {case: round(found[case] / N) for case in cases}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="build/release/bin", help="directory of bench/")
    parser.add_argument("--write", action="store_true", help="store the figures as the baseline")
    args = parser.parse_args()
    now = measure(f"{args.bin}/bench/micro_probe")
    if args.write:
        BASELINE.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
    stored = json.loads(BASELINE.read_text(encoding="utf-8"))
    failed = 0
    for case, count in now.items():
        if case not in stored:
            print(f"{case:<18} {count:>9}  not in {BASELINE.name}: --write")
            failed = 1
            continue
        drift = count / stored[case] - 1
        verdict = "TOO MANY" if drift > DRIFT else "fewer: store them" if drift < -DRIFT else ""
        print(f"{case:<18} {count:>9} instructions, {drift * 100:+.1f} %  {verdict}".rstrip())
        failed |= drift > DRIFT
    return failed


if __name__ == "__main__":
    sys.exit(main())
