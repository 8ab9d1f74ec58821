#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Puts the goals of reports into README.md, between the two marks there: a row for each line of the
table of goals, with what is met and what is not. What a newer report of a part has replaces what an
older one of the whole suite has.

    bench/readme_table.py bench/results/REPORT.json [NEWER.json...]
"""

import json
import pathlib
import sys

from suite.catalogue import LINES
from suite.stats import number

ROOT = pathlib.Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- bench: by bench/readme_table.py -->", "<!-- bench: end -->"


def figure(goal):
    """One goal: its name in the report, what it came to, and in bold when that misses it."""
    value = goal["ratio"] if goal["by"] == "R" else goal["f"] if goal["by"] == "F" else goal["ours"]
    shown = number(value) if goal["met"] else f"**{number(value)}**"
    return f"`{goal['id']}` {shown} ({goal['wanted']})"


def newest(reports):
    """The goals, each of the last report that measured it."""
    found = {}
    for report in reports:
        for goal in report["goals"]:
            if goal["id"] not in found or goal["ours"] is not None:
                found[goal["id"]] = goal
    return list(found.values())


def lines_of(all_goals):
    lines = ["| | Met | Missed | No verdict |", "|---|---|---|---|"]
    for line, title in LINES.items():
        goals = [g for g in all_goals if g["line"] == line]
        met, missed = ([g for g in goals if g["met"] is verdict] for verdict in (True, False))
        lines.append(f"| {title} | " + "<br>".join(map(figure, met)) + " | " +
                     "<br>".join(map(figure, missed)) + f" | {len(goals) - len(met) - len(missed)} |")
    return lines


def source(path, report, name):
    """Where figures are from, in words."""
    return f"[{name}]({path.with_suffix('.md').relative_to(ROOT)}) of {report['environment']['date'][:16]}"


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    paths = [pathlib.Path(arg).resolve() for arg in sys.argv[1:]]
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    env = reports[-1]["environment"]
    sources = source(paths[0], reports[0], "the report") + f", made by `{reports[0]['command']}`"
    if len(paths) > 1:
        sources += ", and newer ones of parts (" + ", ".join(
            source(path, report, f"{i}") for i, (path, report)
            in enumerate(zip(paths[1:], reports[1:]), 1)) + ")"
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        sys.exit(f"README.md: no place between '{BEGIN}' and '{END}'")
    made = [BEGIN, "", f"From {sources}, on {env['cpus']} x {env['cpu']}; R is ours over the peer, F "
            "ours over the floor of the same run.", "", *lines_of(newest(reports)), "",
            "Bold: misses its goal. [bench/](bench) has the suite (`make bench`), "
            "[docs/COMPARISON.md](docs/COMPARISON.md) the other meshes.", "", END]
    head, rest = text.split(BEGIN)
    readme.write_text(head + "\n".join(made) + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
