# SPDX-License-Identifier: Apache-2.0
"""An istiod that misbehaves, and a way to it that breaks: connections that are reset in the middle of
messages, resources that are refused again and again, the same twice, versions that go back."""

import json
import re

import pytest
from lablib import SANITIZED, wait_until
from mesh.fixtures import shown  # noqa: F401
from mesh.istiod import Root, fields
from mesh.relay import Relay
from mesh.topology import Mesh
from mesh.xds import ADDRESS, Discovery, Own, item, service, workload

VIP, WEB = "10.96.7.1", "demo/web.demo.svc.cluster.local"
PORT = 15013


@pytest.fixture(scope="module")
def mesh():
    made = Mesh(1)
    istiod = made.istiod = Discovery(made, where="node1", address="10.77.0.1")
    relay = made.relay = Relay(made, "node1", "10.77.0.1", PORT, istiod.port)
    try:
        pods = [made.pod(name, 1) for name in ("client", "server")]
        node = made.own = made.nodes["own"] = Own(made, pods[0])
        url = f"https://10.77.0.1:{PORT}"
        node.source_args = ["--xds-address", url, *istiod.xds_args[2:]]
        node.ca_args = ["--ca-address", url, *istiod.args[2:]]
        istiod.set(ADDRESS, *map(workload, pods), service("web", VIP, {80: 8080}))
        istiod.start()
        node.start()
        yield made
        made.gauges_are_zero()
    finally:
        bad = made.stop()
        relay.close()
        istiod.stop()
    assert not bad, "\n".join(bad)


@pytest.fixture
def istiod(mesh):
    yield mesh.istiod
    mesh.istiod.on_nack = mesh.istiod.rule = None
    mesh.relay.cuts = []


def status(node):
    return json.loads(node.get("/status")[1])["xds"]


def services(node):
    return {s["name"]: s for s in node.config_dump()["services"]}


def cut_streams(istiod):
    istiod.stop()
    istiod.start()


def padded(name, ip, size):
    """(name, Address) of a service, with a field of that size that nobody knows."""
    key, body = service(name, ip, {80: 8080})
    inner = fields(body)[0][1]
    return key, item(2, inner + item(99, bytes(size)))


def test_largest_response(mesh, istiod):
    """200 MiB in one message, as ztunnel takes, is taken and its memory is given back; beyond, the
    stream ends and what is known stays."""
    node, mib, limit = mesh.own, 1 << 20, 200 << 20
    full = dict(padded(f"pad{i}", f"10.96.9.{i}", 3 * mib) for i in range(1, 67))
    base = istiod.response(ADDRESS, {name: ("v1", body) for name, body in full.items()},
                           nonce="big")[1]
    before = node.memory()

    def answer(size):
        """A message of that size: one more resource fills it up."""
        def tail(pad):
            name, body = padded("last", "10.96.9.99", pad)
            return item(2, item(1, "v1") + item(2, item(1, ADDRESS) + item(2, body)) + item(3, name))

        room = size - len(base)
        data = base + tail(2 * room - len(tail(room)))  # what is around it is as long for both
        assert len(data) == size
        return data

    stream = istiod.connected(1)[0]
    istiod.send(answer(limit))
    ask = wait_until(lambda: stream.answered("big"), 60, "it is answered")
    assert ask.error is None
    assert {"last", "pad66", "web"} <= set(services(node))
    wait_until(lambda: SANITIZED or node.memory() < before + 64 * mib, 60, "its memory is back")

    mark = node.mark()
    istiod.send(answer(limit + 1))
    lines = wait_until(lambda: node.log(mark, reason=re.compile("more than 209715200 bytes")), 60)
    assert lines[0]["status"] == "RESOURCE_EXHAUSTED"
    after = wait_until(lambda: [s for s in istiod.connected(1, 60) if s is not stream], 60)
    assert after[0].answered("big") is None
    assert "web" in services(node) and "last" not in services(node), "gone with the new stream"
    wait_until(lambda: SANITIZED or node.memory() < before + 64 * mib, 60, "its memory is back")


@pytest.mark.main
def test_reset_in_mid_message(mesh, istiod):
    """Wherever a response of a hundred KiB breaks off, nothing of it counts, the next stream tells
    what is known, and in the end all is there once."""
    node = mesh.own
    fresh = dict(service(f"s{i}", f"10.97.{i >> 8}.{i & 255}", {p: p for p in range(1, 30)})
                 for i in range(300))
    cuts = [1, 700, 3000, 20000, 60000]
    since = node.since()
    mesh.relay.cuts, n = list(cuts), mesh.relay.n_cut
    with istiod.lock:
        istiod.resources[ADDRESS].update({name: ("v1", body) for name, body in fresh.items()})
    cut_streams(istiod)
    wait_until(lambda: not mesh.relay.cuts, 60, "all are cut")
    wait_until(lambda: status(node)["services"] == 301 and status(node)["connected"], 60)
    assert mesh.relay.n_cut - n >= len(cuts) - 1  # one may have met the server that went
    assert since("istio_xds_connection_terminations_total") >= len(cuts)
    first = istiod.connected(1)[0].asks[0]
    assert WEB in first.known and "demo/s299.demo.svc.cluster.local" not in first.known
    assert len(services(node)) == 301
    with istiod.lock:
        for name in fresh:
            del istiod.resources[ADDRESS][name]
    istiod.push(ADDRESS, {}, list(fresh))
    assert set(services(node)) == {"web"}


def test_refused_again_and_again(mesh, istiod):
    """A server that sends the same at each refusal: each is answered, the log tells once, and what is
    good comes through between."""
    node, (uid, good) = mesh.own, workload(mesh.pods["server"])
    bad = workload(mesh.pods["server"], tunnel=2)[1]
    nacks, mark = [], node.mark()

    def insist(stream, ask):
        nacks.append(ask.error)
        if len(nacks) < 300:
            stream.answers.put(istiod.response(ADDRESS, {uid: ("bad", bad)})[1])

    istiod.on_nack = insist
    istiod.push(ADDRESS, {uid: ("bad", bad)})
    name, body = service("between", "10.96.7.2", {80: 8080})
    assert all(a.error is None for a in istiod.push(ADDRESS, {name: ("v1", body)}))
    wait_until(lambda: len(nacks) == 300, 20)
    assert set(nacks) == {f"{uid}: tunnel_protocol: LEGACY_ISTIO_MTLS is not supported"}
    assert len(node.log(mark, message="resources refused, their last good version stays in force")) == 1
    assert status(node)["refused"] >= 300 and status(node)["workloads"] == 2
    assert "between" in services(node)
    istiod.on_nack = None
    assert all(a.error is None for a in istiod.push(ADDRESS, {uid: ("v9", good)}, [name]))


def test_the_same_twice(mesh, istiod):
    """In one response the last counts; a response that comes twice changes nothing; what is there and
    removed in one response is gone."""
    node = mesh.own
    name, one = service("twice", "10.96.7.3", {80: 8080})
    two = service("twice", "10.96.7.4", {80: 8080})[1]
    resources = b"".join(item(2, item(1, v) + item(2, item(1, ADDRESS) + item(2, b)) + item(3, name))
                         for v, b in (("v1", one), ("v2", two)))
    stream = istiod.connected(1)[0]
    for nonce in ("twice-1", "twice-2"):
        stream.answers.put(resources + item(4, ADDRESS) + item(5, nonce))
        assert wait_until(lambda: stream.answered(nonce), 5).error is None  # noqa: B023
        assert services(node)["twice"]["vips"] == ["/10.96.7.4"]
    assert all(a.error is None for a in istiod.push(ADDRESS, {name: ("v3", one)}, [name, "demo/never"]))
    assert "twice" not in services(node)


def test_versions_go_back(mesh, istiod):
    """An istiod that is behind the one before is believed all the same, and told what is known."""
    node = mesh.own
    name, one = service("back", "10.96.7.5", {80: 8080})
    two = service("back", "10.96.7.6", {80: 8080})[1]
    istiod.set(ADDRESS, service("later", "10.96.7.7", {80: 8080}))
    istiod.push(ADDRESS, {name: ("v2", two)})
    with istiod.lock:
        istiod.resources[ADDRESS][name] = ("v1", one)
        del istiod.resources[ADDRESS]["demo/later.demo.svc.cluster.local"]
    cut_streams(istiod)
    wait_until(lambda: services(node).get("back", {}).get("vips") == ["/10.96.7.5"], 20)
    first = istiod.connected(1)[0].asks[0]
    assert first.known[name] == "v2"
    assert "later" not in services(node)
    istiod.remove(ADDRESS, name)


def test_expired_certificate(mesh, istiod):
    """Told, and nothing is asked of who has it."""
    node, sign = mesh.own, Root.sign
    Root.sign = lambda self, key, sans, **kw: sign(self, key, sans, seconds=-10, start=-100)
    try:
        cut_streams(istiod)
    finally:
        Root.sign = sign
    wait_until(lambda: "expired" in (status(node)["problem"] or ""), 30)
    wait_until(lambda: not istiod.streams and not status(node)["connected"], 10)
    cut_streams(istiod)
    istiod.connected(1, 30)
    assert set(services(node)) == {"web"}


def test_certificates_over_resets(mesh, istiod):
    """The way to the CA breaks in the middle of handshakes and answers: asked for again, with new keys."""
    node = mesh.own
    node.end()
    mesh.relay.cuts = [1, 700, 1500, 2000, 2500]
    n = len(istiod.requests)
    node.start()
    wait_until(lambda: node.log(message="certificate issued"), 20)
    keys = {r.csr.public_key().public_numbers().x for r in istiod.requests[n:]}
    assert len(keys) == len(istiod.requests) - n >= 1
