# SPDX-License-Identifier: Apache-2.0
"""ztun and waypoint under the seccomp profile of the chart: no system call is missing from it."""

import re
import sys
from pathlib import Path

import pytest

from lablib import BIN_DIR, wait_until
from test_waypoint_http import apply, curl, destination_rule, mesh, to, virtual_service
from test_waypoint_tcp import waypoints

ROOT = Path(__file__).resolve().parent.parent.parent
PROFILE = ROOT / "charts/ztun/files/seccomp.json"


@pytest.fixture(scope="module")
def lab(make_module_lab, tmp_path_factory):
    home = tmp_path_factory.mktemp("confined")
    options = []
    for name in ("ztun", "waypoint"):
        script = home / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).parent}/mesh/under_seccomp.py '
                          f'{PROFILE} {BIN_DIR}/{name} "$@"\n')
        script.chmod(0o755)
        options += [f"--{name}-bin", script]
    return make_module_lab(mesh(), *options)


def processes(lab):
    """What runs under a filter, by the name of its program."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/status"):
        try:
            text, name = path.read_text(), Path(path.parent / "exe").resolve().name
        except OSError:
            continue
        if re.search(r"^Seccomp:\s+2$", text, re.M) and name in ("ztun", "waypoint"):
            found.setdefault(name, set()).add(int(path.parent.name))
    return found


def test_flows_requests_and_changes(lab):
    """Enrolment with rules, DNS, tunnels, HTTP, new configuration, metrics; nobody has been ended."""
    before = processes(lab)
    assert {name: len(pids) for name, pids in before.items()} == {"ztun": 2, "waypoint": 1}
    assert curl(lab, url="http://direct.m").status == 200
    assert curl(lab).status == 200
    apply(lab, destination_rule(), virtual_service(
        {"match": [{"uri": {"prefix": "/"}, "method": {"exact": "GET"}}], "fault":
         {"abort": {"httpStatus": 418, "percentage": {"value": 100}}}, "route": [to()]}))
    wait_until(lambda: curl(lab).status == 418, what="the new route")
    assert lab.metrics("node1").value("workload_manager_active_proxy_count") >= 1
    assert processes(lab) == before
    assert all(pod["restarts"] == 0 for pod in waypoints(lab))
