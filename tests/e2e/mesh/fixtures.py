# SPDX-License-Identifier: Apache-2.0
"""Fixtures for meshes (topology.py). A module takes the ones it needs by name:

    from mesh.fixtures import make_mesh, module_mesh, shown  # noqa: F401

    mesh = module_mesh(build)     # build(mesh): objects; started once for the module
"""

import pytest

from mesh.topology import Mesh


def module_mesh(build, *args, nodes=2):
    @pytest.fixture(scope="module")
    def mesh():
        made = Mesh(nodes)
        try:
            build(made)
            made.start(*args)
            yield made
            made.gauges_are_zero()
        finally:
            bad = made.stop()
        assert not bad, "\n".join(bad)

    return mesh


@pytest.fixture(autouse=True)
def shown(request):
    """Puts the logs of a module's mesh into the report of a failure; no ztun may have died."""
    mesh = request.getfixturevalue("mesh") if "mesh" in request.fixturenames else None
    if mesh is not None:
        request.node.labs = [*getattr(request.node, "labs", []), mesh]
    yield
    if mesh is not None:
        for server in mesh.servers:
            server.close()
        mesh.servers.clear()
        for node in mesh.nodes.values():
            if node.process is not None:
                node.alive()


@pytest.fixture
def make_mesh(request):
    """make_mesh(build, *ztun arguments, nodes=2): a mesh of a test's own, started."""
    made = []
    request.node.labs = [*getattr(request.node, "labs", []), *made]

    def make(build=None, *args, nodes=2, start=True):
        mesh = Mesh(nodes)
        made.append(mesh)
        request.node.labs.append(mesh)
        if build is not None:
            build(mesh)
        if start:
            mesh.start(*args)
        return mesh

    yield make
    bad = [text for mesh in made for text in mesh.stop()]
    assert not bad, "\n".join(bad)
