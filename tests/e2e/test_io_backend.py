# SPDX-License-Identifier: Apache-2.0
"""Where io_uring is refused, epoll does the same; who insists on io_uring is told why not."""

import json
import re
import sys
from pathlib import Path

import pytest
from mesh.fixtures import make_mesh  # noqa: F401
from mesh.topology import echo

REFUSED = [sys.executable, Path(__file__).parent / "mesh" / "no_io_uring.py"]


def build(mesh):
    mesh.pod("client", 1)
    mesh.pod("server", 2, port=8080)


def backend_of(node):
    return {kind for kind in ("io_uring", "epoll") if node.metric("io_backend", type=kind) == 1}


def carries(mesh):
    with mesh.serve("server", 8080, echo):
        return mesh.ask("client", ("server", 8080)) == b"hello world"


def test_refused(make_mesh, monkeypatch):
    """As with a container runtime's seccomp profile."""
    monkeypatch.delenv("ZTUN_IO", raising=False)
    mesh = make_mesh(build, start=False)
    for node in mesh.nodes.values():
        node.start(wrap=REFUSED)
        told = node.log(message=re.compile("io_uring is not usable, epoll is used"))
        assert len(told) == 1 and "seccomp" in told[0]["reason"], told
        assert backend_of(node) == {"epoll"}
        assert node.config_dump()["config"]["io"] == "auto"
    assert carries(mesh)


@pytest.mark.parametrize("choice, kind", [("auto", "io_uring"), ("uring", "io_uring"),
                                          ("epoll", "epoll")])
def test_choice(make_mesh, choice, kind):
    mesh = make_mesh(build, start=False).start(f"--io={choice}")
    for node in mesh.nodes.values():
        assert backend_of(node) == {kind}
        status = json.loads(node.get("/status")[1])
        assert (status["io"], status["ready"], status["notReadyBecause"]) == (kind, True, "")
        assert not node.log(message=re.compile("io_uring is not usable"))
    assert carries(mesh)


def test_insisting(make_mesh):
    mesh = make_mesh(build, start=False)
    node = mesh.nodes[1]
    node.start("--io=uring", wrap=REFUSED, wait=False)
    assert node.process.wait(10) == 1
    told = node.log(level="error", message="no I/O back end is usable")
    assert len(told) == 1 and "seccomp" in told[0]["reason"], told


def test_misspelt(make_mesh):
    mesh = make_mesh(build, start=False)
    node = mesh.nodes[1]
    node.start("--io=poll", wait=False)
    assert node.process.wait(10) == 2
    assert "--io" in node.log_tail() and "auto|uring|epoll" in node.log_tail()
