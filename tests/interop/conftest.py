# SPDX-License-Identifier: Apache-2.0
"""Peers that no one here wrote. tests/interop/prepare fetches them."""

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

from lablib import note_failure  # noqa: E402


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    note_failure(item, call, (yield).get_result())


def environment():
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ztun"
    found = sorted(p.parent for p in cache.glob("interop-*/complete"))
    assert found, "run tests/interop/prepare"
    return next(found[-1].glob("lib/python3*/site-packages"))


@pytest.fixture(scope="session")
def envoy_program():
    return environment() / "envoy" / "_bin" / "envoy"


@pytest.fixture(scope="session")
def hyper():
    """The modules of hyper-h2 (pure Python)."""
    sys.path.insert(0, str(environment()))  # ahead of the distribution's
    import h2.config
    import h2.connection
    import h2.events
    import h2.settings
    return h2
