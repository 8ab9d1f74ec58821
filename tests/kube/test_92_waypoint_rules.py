# SPDX-License-Identifier: Apache-2.0
"""What the HTTP rules of a waypoint do, counted at both ends: no request is lost, none is there
twice."""

import json
import uuid
from collections import Counter

import pytest
from kubelib import SETTINGS, Namespace, apply, get, kubectl, metadata, pod, service, wait_until
from test_90_charts import install_waypoint, uninstall_waypoint

N = 400


class Shop:
    """A client, `shop` in two versions, a mirror, and a waypoint for their namespace."""

    def __init__(self, nodes):
        near, far = nodes
        self.ns = Namespace(f"{SETTINGS.prefix}-shop", True)
        labels = [("v1", near), ("v2", far)]
        shop = [pod(f"shop-{version}", self.ns.name, node, account="shop",
                    labels={"app": "shop", "version": version}) for version, node in labels]
        for made in shop:
            made["metadata"]["labels"]["app"] = "shop"
        self.client, self.v1, self.v2, self.mirror = self.ns.run(
            pod("client", self.ns.name, near), *shop, pod("mirror", self.ns.name, far),
            services=[service("shop", self.ns.name), service("mirror", self.ns.name)])
        self.ns.wait_redirected()
        apply({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
               "metadata": metadata("shop", self.ns.name),
               "spec": {"host": "shop", "subsets": [
                   {"name": version, "labels": {"version": version}} for version, _ in labels]}})

    def rules(self, *http):
        """Puts them into force: each says so in a header of its answers."""
        mark = uuid.uuid4().hex[:8]
        rules = [{**rule, "headers": {"response": {"set": {"x-rules": mark}}}} for rule in http]
        apply({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
               "metadata": metadata("shop", self.ns.name),
               "spec": {"hosts": ["shop"], "http": rules}})
        # all processes of the waypoint: a run of connections of which each has the mark
        def look():
            answers = [self.client.tell(do="ask", url="http://shop:8080/ready", n=1,
                                        headers={"x-user": "nobody"}) for _ in range(12)]
            return all(answer["marks"] == {mark: 1} for answer in answers)
        wait_until(look, 60, 0.1)

    def ask(self, n=N, **headers):
        """Requests to a path of their own: what the client saw, and who was asked how often."""
        path = "/" + uuid.uuid4().hex
        seen = self.client.tell(do="ask", url="http://shop:8080" + path, n=n, headers=headers)
        assert not seen["errors"], seen
        assert sum(seen["statuses"].values()) == n
        return seen, lambda app: app.tell(do="count", path=path)["requests"]


@pytest.fixture(scope="module")
def shop(proxies, nodes):
    made = Shop(nodes)
    try:
        install_waypoint(made.ns.name)
        kubectl("label", "namespace", made.ns.name, "istio.io/use-waypoint=waypoint", "--overwrite")
        yield made
    finally:
        uninstall_waypoint(made.ns.name)
        made.ns.delete()


def to(subset, weight=100):
    return {"destination": {"host": "shop", "subset": subset}, "weight": weight}


def is_about(count, n, share):
    """Within six standard deviations: a wrong share is found, chance alone never fails it."""
    return abs(count - n * share) <= 6 * (n * share * (1 - share)) ** 0.5


def test_canary_by_weight(shop):
    shop.rules({"route": [to("v1", 75), to("v2", 25)]})
    seen, count = shop.ask()
    assert seen["statuses"] == {"200": N}
    assert seen["pods"] == {"shop-v1": count(shop.v1), "shop-v2": count(shop.v2)}
    assert count(shop.v1) + count(shop.v2) == N
    assert is_about(count(shop.v2), N, 0.25), seen


def test_canary_by_header(shop):
    shop.rules({"match": [{"headers": {"x-user": {"exact": "tester"}}}], "route": [to("v2")]},
               {"route": [to("v1")]})
    for headers, pod_ in (({"x-user": "tester"}, "shop-v2"), ({"x-user": "other"}, "shop-v1"),
                          ({}, "shop-v1")):
        seen, count = shop.ask(100, **headers)
        assert seen["pods"] == {pod_: 100}
        assert count(shop.v1) + count(shop.v2) == 100


def test_faults(shop):
    """Who is aborted reaches no server, all others do."""
    shop.rules({"match": [{"headers": {"x-user": {"exact": "tester"}}}], "route": [to("v1")],
                "fault": {"abort": {"percentage": {"value": 40}, "httpStatus": 418}}},
               {"match": [{"headers": {"x-user": {"exact": "slow"}}}], "route": [to("v1")],
                "fault": {"delay": {"percentage": {"value": 100}, "fixedDelay": "0.3s"}}},
               {"route": [to("v1")]})
    seen, count = shop.ask(**{"x-user": "tester"})
    assert set(seen["statuses"]) == {"200", "418"}
    assert is_about(seen["statuses"]["418"], N, 0.4), seen
    assert (count(shop.v1), count(shop.v2)) == (seen["statuses"]["200"], 0)
    seen, count = shop.ask(5, **{"x-user": "slow"})
    assert seen["statuses"] == {"200": 5} and seen["quickest"] >= 0.3 and count(shop.v1) == 5
    seen, count = shop.ask(100)
    assert seen["statuses"] == {"200": 100} and count(shop.v1) == 100, "the others as ever"


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_mirror(shop, share):
    """The copies are counted where they arrive; the answers are never theirs."""
    shop.rules({"route": [to("v1")], "mirror": {"host": "mirror"},
                "mirrorPercentage": {"value": 100 * share}})
    seen, count = shop.ask()
    assert seen["statuses"] == {"200": N} and seen["pods"] == {"shop-v1": N}
    assert (count(shop.v1), count(shop.v2)) == (N, 0)
    if share == 1.0:
        wait_until(lambda: count(shop.mirror) >= N, 20)
        assert count(shop.mirror) == N
    else:
        wait_until(lambda: is_about(count(shop.mirror), N, share), 20)


def test_all_of_it_at_once(shop):
    """Canary, abort and mirror in one rule: an aborted request has no copy."""
    shop.rules({"match": [{"headers": {"x-user": {"exact": "tester"}}}],
                "route": [to("v1", 50), to("v2", 50)], "mirror": {"host": "mirror"},
                "fault": {"abort": {"percentage": {"value": 50}, "httpStatus": 503}}},
               {"route": [to("v1")]})
    seen, count = shop.ask(**{"x-user": "tester"})
    served = seen["statuses"]["200"]
    assert Counter({"200": served, "503": N - served}) == Counter(seen["statuses"])
    assert is_about(served, N, 0.5), seen
    assert seen["pods"] == {"shop-v1": count(shop.v1), "shop-v2": count(shop.v2)}
    assert count(shop.v1) + count(shop.v2) == served and is_about(count(shop.v1), served, 0.5)
    wait_until(lambda: count(shop.mirror) >= served, 20)
    assert count(shop.mirror) == served
