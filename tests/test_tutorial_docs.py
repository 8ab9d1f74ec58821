# SPDX-License-Identifier: Apache-2.0
"""What docs/TASKS.md and docs/TUTORIAL.md name exists: rows, their sections, files, headings."""

import importlib
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "scripts" / "tutorial"
sys.path.insert(0, str(HERE))
from row import ROWS  # noqa: E402

for path in sorted(HERE.glob("rows*.py")):
    importlib.import_module(path.stem)

DOCS = ROOT / "docs"
TASKS = [line.strip("| \n").split(" | ") + [""]
         for line in (DOCS / "TASKS.md").read_text().splitlines() if line.startswith("| [")]
LINK = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")


def slugs(path):
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def missing(target, directory):
    """What of a link is not there; empty: all is."""
    if target.startswith("https://"):
        return ""
    name, _, anchor = target.partition("#")
    path = (directory / name).resolve()
    if not path.exists():
        return f"no {name}"
    return f"no #{anchor} in {name}" if anchor and anchor not in slugs(path) else ""


def is_later(name):
    return ROWS[name]["function"] is None


def test_all_groups_of_tasks_are_there():
    assert len(TASKS) >= 60
    assert all(LINK.match(task[0]).group(2).startswith("https://istio.io/latest/docs/tasks/")
               for task in TASKS)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: LINK.match(task[0]).group(1))
def test_task(task):
    here, note = task[1].strip(), task[2]
    word = LINK.sub(r"\1", here).split()[0]
    assert word in ("row", "example", "later")
    links = LINK.findall(here)
    assert bool(links) == (word != "later")
    assert [missing(target, DOCS) for _, target in links + LINK.findall(note)
            if missing(target, DOCS)] == []
    if word == "row":
        assert [name for name, _ in links if name not in ROWS or is_later(name)] == []
    assert [name for name in re.findall(r"rows? `([^`]+)`", note)
            if name not in ROWS or not is_later(name)] == []


@pytest.mark.parametrize("name", [name for name in ROWS if not is_later(name)])
def test_row_has_its_section(name):
    entry = ROWS[name]
    text = (ROOT / "conf" / Path(entry["base"]).parts[1] / "README.md").read_text()
    section = re.search(rf"^## {re.escape(name)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert section, f"no ## {name}"
    assert "\n    $ ztunctl " in section.group(1), "no commands"


@pytest.mark.parametrize("name", ROWS)
def test_the_tutorial_names_the_row(name):
    text = (DOCS / "TUTORIAL.md").read_text()
    assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)


@pytest.mark.parametrize("document", ["TUTORIAL.md", "LAB.md"])
def test_links(document):
    found = LINK.findall((DOCS / document).read_text())
    assert [missing(target, DOCS) for _, target in found if missing(target, DOCS)] == []
