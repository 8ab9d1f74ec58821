# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the end-to-end tests.

ZTUN_BIN_DIR (default build/bin) has the programs under test. Root is needed; without it, or without
a program, tests fail and are not skipped. scripts/e2e.sh runs them in namespaces of their own.

ZTUN_TEST_QUEUE is a directory that several runs of the same tests share: each test runs in one of
them, the first to come. Tests that share a module's fixture stay together.
"""

import hashlib
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from lablib import BIN_DIR, ZTUNCTL, Lab, leftovers, note_failure, wait_until  # noqa: E402

counter = itertools.count(1)


def lab_prefix():
    return f"t{os.getpid()}-"


@pytest.fixture(scope="session", autouse=True)
def programs():
    assert os.geteuid() == 0, "the end-to-end tests need root"
    assert ZTUNCTL.exists(), f"no ztunctl in {BIN_DIR}: make build, or set ZTUN_BIN_DIR"
    yield
    try:  # a process that was told to end may take a moment on a busy machine
        wait_until(lambda: not leftovers(lab_prefix()), 5)
    except AssertionError:
        left = leftovers(lab_prefix())
        assert not left, "labs left behind:\n" + "\n".join(left)


def pytest_collection_modifyitems(config, items):
    """Tests that change what belongs to the whole machine run in `make test-kernel` only."""
    if "ZTUN_OWN_KERNEL" in os.environ:
        return
    away = [item for item in items if item.get_closest_marker("own_kernel")]
    if away:
        config.hook.pytest_deselected(items=away)
        items[:] = [item for item in items if item not in away]


def queue_key(item):
    """Names what must run in one place: a test, or all of a module that share a fixture."""
    for fixtures in item._fixtureinfo.name2fixturedefs.values():
        if any(fixture.scope == "module" for fixture in fixtures):
            return item.module.__name__
    return item.nodeid


def from_queue(items, queue):
    """Yields the items that are ours; takes the next ones when it is asked for them."""
    groups = {}
    for item in items:
        groups.setdefault(queue_key(item), []).append(item)
    # the long ones first
    for key, group in sorted(groups.items(), key=lambda pair: -len(pair[1])):
        try:
            (queue / hashlib.sha256(key.encode()).hexdigest()).touch(exist_ok=False)
        except FileExistsError:
            continue
        yield from group


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session):
    queue = os.environ.get("ZTUN_TEST_QUEUE")
    if not queue or session.config.option.collectonly or session.testsfailed:
        return None  # pytest's own loop
    ours = from_queue(session.items, Path(queue))
    item = next(ours, None)
    while item is not None:
        following = next(ours, None)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        item = following
    return True


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    note_failure(item, call, report)
    if report.failed and report.when in ("setup", "call"):
        for lab in getattr(item, "labs", []) + module_labs.get(item.module.__name__, []):
            try:
                report.sections.append((f"lab {lab.name}", lab.dump()))
            except (OSError, subprocess.SubprocessError) as e:
                report.sections.append((f"lab {lab.name}", f"cannot be shown: {e}"))


def take_down(labs):
    for lab in labs:
        lab.local("down", check=False)
    left = [x for lab in labs for x in leftovers(lab.name + ".")]
    assert not left, "\n".join(left)


@pytest.fixture
def make_lab(request):
    """make_lab(objects, *options, mesh=True, host=False, wait=30): a lab that is up."""
    labs = request.node.labs = []

    def make(objects=(), *args, **kw):
        lab = Lab(f"{lab_prefix()}{next(counter)}")
        labs.append(lab)
        return lab.up(objects, *args, **kw)

    yield make
    take_down(labs)


module_labs = {}


@pytest.fixture(scope="module")
def make_module_lab(request):
    """As make_lab, for a fixture of a module's own that several tests share."""
    labs = module_labs.setdefault(request.module.__name__, [])

    def make(objects=(), *args, **kw):
        lab = Lab(f"{lab_prefix()}{next(counter)}")
        labs.append(lab)
        return lab.up(objects, *args, **kw)

    yield make
    take_down(labs)
    labs.clear()
