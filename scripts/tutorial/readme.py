#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Puts what rows typed and saw into the READMEs of the exercises.

    make tutorial && python3 scripts/tutorial/readme.py [ROW...]

A row has a section in the README beside its objects: what is applied and expected, and commands and
output from build/tutorial/ROW.log, cut. Other text of a section, and before the first one, stays.
"""

import importlib
import re
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from row import ROOT, ROWS, up_flags  # noqa: E402

LINES, WIDTH = 6, 180
WIDE, WIDTH_MAX = (" validate ", " apply "), 500  # messages are shown whole
MORE_LINES = {"http://customer.tutorial:8080/": 11}  # a packet
# Of a page: who asked, the stars or why there are none, the seconds.
OF_PAGES = r"<p>\w+ \(|<font |currently unavailable|Book Reviews|^[\d.]+$"
SKIPPED = ("$ ztunctl local up ", "$ ztunctl local down", "$ ztunctl local wait")


def declare_rows():
    for path in sorted(Path(__file__).resolve().parent.glob("rows*.py")):
        importlib.import_module(path.stem)


def shown(command, output):
    """A command and its output, cut and indented."""
    most = next((n for text, n in MORE_LINES.items() if text in command), LINES)
    is_page = "productpage:9080/productpage" in command
    lines = [line for line in output if re.search(OF_PAGES if is_page else r"\S", line)]
    is_cut = len(lines) > most or any(re.fullmatch(r"\.\.\. \d+ lines more", x) for x in lines)
    lines = [x for x in lines if not re.fullmatch(r"\.\.\. \d+ lines more", x)][:most]
    width = WIDTH_MAX if any(word in command for word in WIDE) else WIDTH
    text = [command, *(line.expandtabs(8)[:width] for line in lines), *(["..."] if is_cut else [])]
    return [("    " + line).replace(f"{ROOT}/", "$PWD/").rstrip() for line in text]


def from_log(path):
    out, command, output = [], None, []
    for line in [*path.read_text(encoding="utf-8").splitlines(), "$ ztunctl local down"]:
        if line.startswith("$ "):
            if command and not command.startswith(SKIPPED):
                out += shown(command, output)
            command, output = line, []
        else:
            output.append(line)
    if not out:
        sys.exit(f"{path}: no commands")
    return out


def section(name, old):
    entry = ROWS[name]
    text = "\n".join(x for x in old if not x.startswith(("    ", "Applied: ")))
    notes = re.sub(r"\n\n+", "\n\n", text).strip()
    flags = up_flags(entry)
    up = [f"    $ ztunctl local up {entry['base']} --wait {shlex.join(flags)}"]
    return "\n".join([f"## {name}", "", *([notes, ""] if notes else []),
                      f"Applied: {entry['applied']}. Expected: {entry['expected']}.", "", *(up if len(flags) > 1 else []),
                      *from_log(ROOT / "build" / "tutorial" / f"{name}.log"), ""])


def update(readme, names):
    head, *parts = re.split(r"(?m)^(?=## )", readme.read_text(encoding="utf-8"))
    sections = {part.split("\n")[0].removeprefix("## "): part.rstrip("\n") + "\n" for part in parts}
    for name in names:
        sections[name] = section(name, sections.get(name, "").split("\n")[1:])
    order = list(ROWS)
    known = sorted((x for x in sections if x in ROWS), key=order.index)
    others = [x for x in sections if x not in ROWS]
    readme.write_text("\n".join([head.rstrip("\n") + "\n", *(sections[x] for x in [*others, *known])]),
                      encoding="utf-8")


def main():
    declare_rows()
    names = sys.argv[1:] or [x for x, entry in ROWS.items() if entry["function"] is not None]
    of_readme = {}
    for name in names:
        of_readme.setdefault(ROOT / "conf" / Path(ROWS[name]["base"]).parts[1] / "README.md",
                             []).append(name)
    for readme, its_names in of_readme.items():
        update(readme, its_names)


if __name__ == "__main__":
    main()
