#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What went wrong in a run of scripts/test.sh, in 20 lines at most:

    scripts/failures.py LOGS [FAILED-STAGE...]

Each case that failed, and each that passed at the second try, with the first lines of its error; of
a stage that failed without a case that did, lines of its log. LOGS has STAGE.log of each stage, and
STAGE.xml, of pytest or ctest, of those with cases. In the properties `failed try` of its JUnit file
pytest keeps the errors that a second try would hide (tests/e2e/conftest.py); ctest has them in the
log.
"""

import re
import sys
import xml.etree.ElementTree as tree
from pathlib import Path

LINES_MAX = 20
COLUMNS_MAX = 160
ERROR_LINES_MAX = 3  # of each case
CTEST_TRY = re.compile(r"^(?: *\d+/\d+)? +Test +#\d+: (\S+) \.*(\*\*\*)?(\w+)[^\n]*", re.MULTILINE)
CTEST_NEXT = re.compile(r"^(?: +Start +\d+: | *\d+/\d+ Test +#|\d+% tests passed)", re.MULTILINE)
TELLING = re.compile(r"error|fail|Sanitizer|check failed|^E  |timed? ?out", re.IGNORECASE)


def first_lines(text):
    """The lines of an output that tell most, else its last ones."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if TELLING.search(line)]
    return telling[:ERROR_LINES_MAX] or lines[-ERROR_LINES_MAX:]


def ctest_failures(log):
    """(name, error lines) of each try that failed."""
    for match in CTEST_TRY.finditer(log):
        if match.group(2):
            following = CTEST_NEXT.search(log, match.end())
            output = log[match.end():following.start() if following else len(log)]
            how = [] if match.group(3) == "Failed" else [match.group(3)]
            yield match.group(1), [*how, *first_lines(output)] or ["failed without a word"]


def cases(logs, stage):
    """(name, whether it passed in the end, error lines) of the cases of a stage that were not well
    at once."""
    try:
        root = tree.parse(logs / f"{stage}.xml").getroot()
    except (OSError, tree.ParseError):
        return
    tries = dict(ctest_failures((logs / f"{stage}.log").read_text(errors="replace")))
    for case in root.iter("testcase"):
        name, where = case.get("name"), case.get("classname", "")
        if where != name:  # pytest's: tests.e2e.test_x
            name = f"{where.rpartition('.')[2]}::{name}"
        bad = next((e for e in case if e.tag in ("failure", "error", "skipped")), None)
        told = [p.get("value") for p in case.iter("property") if p.get("name") == "failed try"]
        if told:
            errors = told[-1].splitlines()
        elif name in tries:
            errors = tries[name]
        elif bad is not None:
            errors = (bad.get("message") or bad.text or bad.tag).splitlines()
        else:
            continue
        yield name, bad is None and case.get("status") != "fail", errors


def report(logs, failed_stages):
    """The lines."""
    blocks = []
    stages = sorted(logs.glob("*.log"), key=lambda path: path.stat().st_mtime)
    for stage in [path.stem for path in stages]:
        bad = list(cases(logs, stage))
        for name, is_good, errors in bad:
            how = "passed at the second try" if is_good else "FAILED"
            blocks.append((is_good, f"{stage}: {name} {how}", errors))
        if stage in failed_stages and all(is_good for _, is_good, _ in bad):
            text = (logs / f"{stage}.log").read_text(errors="replace")
            blocks.append((False, f"{stage}: FAILED", first_lines(text)))
    blocks.sort(key=lambda block: block[0])
    room = LINES_MAX - len(blocks)
    if room < 0:
        more = [f"... and {1 - room} more"]
        return [head[:COLUMNS_MAX] for _, head, _ in blocks[:LINES_MAX - 1]] + more
    shown = [0] * len(blocks)
    for n in range(1, ERROR_LINES_MAX + 1):  # one more for each, the first ones first
        for i, (_, _, errors) in enumerate(blocks):
            if room > 0 and len(errors) >= n:
                shown[i] = n
                room -= 1
    lines = []
    for (_, head, errors), n in zip(blocks, shown):
        lines += [head, *(f"    {line}" for line in errors[:n])]
    return [line[:COLUMNS_MAX] for line in lines]


if __name__ == "__main__":
    for each in report(Path(sys.argv[1]), sys.argv[2:]):
        print(each)
