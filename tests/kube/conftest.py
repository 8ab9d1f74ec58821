# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests on a Kubernetes cluster (README.md says what it has to have).

The order is that of the files' names: the proxies are installed once, by Istio's chart, and stay
until the end of the run.
"""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from kubelib import (SETTINGS, SYSTEM, Namespace, Proxies, get, pod, proxy_pods, run,  # noqa: E402
                     service)


def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.timeout(900 * SETTINGS.patience))


def pytest_configure(config):
    config.addinivalue_line("markers", "crash: the test ends a proxy with SIGKILL")


@pytest.fixture(scope="session")
def nodes():
    """Names of two nodes that pods can run on."""
    found = [n["metadata"]["name"] for n in get("nodes")["items"]
             if not n["spec"].get("unschedulable")]
    assert len(found) >= 2, "the tests want two nodes"
    return sorted(found)[:2]


@pytest.fixture(scope="session", autouse=True)
def proxies():
    """The proxy under test on all nodes."""
    if SETTINGS.load_image:
        images = [SETTINGS.image, SETTINGS.peer_image, SETTINGS.app_image, SETTINGS.pause_image]
        run(SETTINGS.load_image, *[image for image in images if image], timeout=600)
    release = Proxies(SETTINGS.image)
    release.install()
    yield release
    if os.environ.get("ZTUN_KUBE_KEEP") != "1":
        release.uninstall()


@pytest.fixture(autouse=True)
def no_restart_by_itself(request, proxies):
    """A proxy that crashes and comes back fails the test in which it did, unless that is its
    subject."""
    if request.node.get_closest_marker("crash"):
        yield
        return

    def count():
        return {(p["metadata"]["name"], p["spec"]["nodeName"]):
                sum(c["restartCount"] for c in p["status"].get("containerStatuses", []))
                for p in proxy_pods()}
    before = count()
    yield
    after = count()
    assert not {key: n for key, n in after.items() if n > before.get(key, 0)}, \
        f"a proxy has ended by itself (kubectl logs -p -n {SYSTEM})"


class World:
    """Two namespaces: one in the mesh, with pods on both nodes, and one outside."""

    def __init__(self, nodes, suffix=""):
        near, far = self.nodes = nodes
        self.mesh = Namespace(f"{SETTINGS.prefix}-mesh{suffix}", True)
        self.plain = Namespace(f"{SETTINGS.prefix}-plain{suffix}", False)
        self.client, self.near, self.far = self.mesh.run(
            pod("client", self.mesh.name, near),
            pod("near", self.mesh.name, near, labels={"which": "server"}),
            pod("far", self.mesh.name, far, labels={"which": "server"}),
            services=[service("near", self.mesh.name), service("far", self.mesh.name),
                      service("server", self.mesh.name, {"which": "server"}),
                      service("bare", self.mesh.name, {"which": "server"}, clusterIP="None")])
        self.outsider, self.outside = self.plain.run(
            pod("outsider", self.plain.name, near), pod("outside", self.plain.name, far),
            services=[service("outside", self.plain.name)])
        self.mesh.wait_redirected()

    def delete(self):
        self.mesh.delete()
        self.plain.delete()


@pytest.fixture(scope="session")
def world(proxies, nodes):
    made = World(nodes)
    yield made
    made.delete()
