# SPDX-License-Identifier: Apache-2.0
"""Certificates that live for a minute: each is replaced before its end, and nobody notices."""

import json
import time

import pytest
from kubelib import SETTINGS, SYSTEM, Proxies, istioctl, wait_until


@pytest.fixture
def short_life(proxies):
    Proxies(SETTINGS.image, SECRET_TTL="60s").install()
    yield
    proxies.install()


def serials(world):
    name = f"spiffe://cluster.local/ns/{world.mesh.name}/sa/far"
    dump = json.loads(istioctl("ztunnel-config", "certificate", "--node", world.far.node,
                               "-i", SYSTEM, "-o", "json"))
    return [c["certChain"][0]["serialNumber"] for c in dump if c["identity"] == name]


def test_short_life(world, short_life):
    first = wait_until(lambda: serials(world))
    world.client.begin("new", "http://far:8080/", timeout=15)
    world.client.begin("keep", "http://far:8080/", "keep", timeout=15)
    begin = time.monotonic()
    wait_until(lambda: serials(world) not in ([], first) and time.monotonic() - begin > 70, 150, 2)
    for name in ("new", "keep"):
        assert world.client.end(name)["failed"] == 0
