# SPDX-License-Identifier: Apache-2.0
"""ztunctl waypoint against a kubectl that only records."""

import json

import pytest

from fake_kubectl import FakeKubectl

GATEWAYS = "gateways.gateway.networking.k8s.io"


@pytest.fixture
def kubectl(tmp_path):
    kubectl = FakeKubectl(tmp_path)
    kubectl.answer("config view --minify -o jsonpath={..namespace}", "shop")
    yield kubectl
    kubectl.close()


def gateway(name, ns="shop", programmed="True", cls="istio-waypoint", **labels):
    return {"metadata": {"name": name, "namespace": ns,
                         "labels": {k.replace("__", "/").replace("_", "."): v
                                    for k, v in labels.items()}},
            "spec": {"gatewayClassName": cls},
            "status": {"conditions": [
                {"type": "Accepted", "status": "True", "reason": "Accepted", "message": "taken"},
                {"type": "Programmed", "status": programmed, "reason": "Programmed",
                 "message": "reaches 1 pod" if programmed == "True" else "no pod is ready"}]}}


def rows(text):
    return [line.split() for line in text.splitlines()]


# generate

PLAIN = """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: waypoint
spec:
  gatewayClassName: istio-waypoint
  addresses:
  - type: Hostname
    value: waypoint
  listeners:
  - name: mesh
    port: 15008
    protocol: HBONE
"""
FULL = """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: edge
  namespace: shop
  labels:
    istio.io/waypoint-for: all
    istio.io/rev: canary
spec:
  gatewayClassName: ztun-waypoint
  addresses:
  - type: Hostname
    value: l7.shop.svc.lan
  listeners:
  - name: mesh
    port: 15008
    protocol: HBONE
"""


def test_generate_asks_nobody(kubectl):
    assert kubectl.ctl("waypoint", "generate").stdout == PLAIN
    assert kubectl.ctl("waypoint", "generate", "--name", "edge", "-n", "shop", "--for", "all", "-r",
                       "canary", "--class", "ztun-waypoint", "--service", "l7", "--cluster-domain",
                       "lan").stdout == FULL
    assert kubectl.calls == []


@pytest.mark.parametrize("args,says", [
    (["generate", "--for", "services"], "--for takes service, workload, all or none"),
    (["generate", "--name", "none"], "`none` is what a label says"),
    (["generate", "--name", "A_b"], "`A_b` is not a valid name"),
    (["generate", "--class", "nginx"], "--class takes istio-waypoint or ztun-waypoint"),
    (["generate", "--wait"], "--wait does not go with it"),
    (["list", "--name", "x"], "--name does not go with it"),
    (["apply", "--overwrite"], "--overwrite goes with --enroll-namespace"),
    (["apply", "--waypoint-timeout", "90"], "`90` is not a duration"),
    (["status", "--wait=maybe"], "--wait takes true or false"),
    (["delete"], "names, or --all, or --revision"),
    (["delete", "a", "--all"], "names, or --all, or --revision"),
    (["remove"], "no verb `remove`"),
    (["list", "x"], "`x` is too much")])
def test_wrong_usage(kubectl, args, says):
    assert says in kubectl.ctl("waypoint", *args, code=2).stderr
    assert not [call for call in kubectl.calls if not call.startswith("config")]


# apply

APPLY = "apply --server-side --field-manager=ztunctl -f -"
NAMESPACE = "get namespace shop -o json --ignore-not-found"
SERVICE = "get service waypoint -n shop -o json --ignore-not-found"
GATEWAY = f"get {GATEWAYS} waypoint -n shop -o json --ignore-not-found"
LABEL = "label namespace shop istio.io/use-waypoint=waypoint --overwrite"


@pytest.fixture
def shop(kubectl):
    kubectl.answer(NAMESPACE, {"metadata": {
        "name": "shop", "labels": {"istio.io/dataplane-mode": "ambient"}}})
    kubectl.answer(APPLY, "applied")
    kubectl.answer(SERVICE, {"spec": {"ports": [{"port": 15008}]}})
    kubectl.answer(LABEL, "labeled")
    return kubectl


def test_apply(shop):
    done = shop.ctl("waypoint", "apply", "--for", "service")
    assert done.stdout == "waypoint shop/waypoint applied\n" and done.stderr == ""
    assert shop.applied.rstrip() == PLAIN.replace(
        "  name: waypoint\nspec", "  name: waypoint\n  namespace: shop\n  labels:\n"
        "    istio.io/waypoint-for: service\nspec").replace(
        "value: waypoint", "value: waypoint.shop.svc.cluster.local").rstrip()
    assert APPLY in shop.calls and LABEL not in shop.calls


def test_apply_waits_and_enrols(shop):
    shop.answer(GATEWAY, gateway("waypoint", programmed="False"), then=gateway("waypoint"))
    done = shop.ctl("waypoint", "apply", "--enroll-namespace", "--wait")
    assert done.stdout.splitlines() == [
        "waypoint shop/waypoint applied", "waypoint shop/waypoint is ready",
        'namespace shop labeled with "istio.io/use-waypoint: waypoint"']
    assert shop.calls.index(APPLY) < shop.calls.index(GATEWAY) < shop.calls.index(LABEL)


def test_apply_that_is_never_ready_enrols_nobody(shop):
    shop.answer(GATEWAY, gateway("waypoint", programmed="False"))
    done = shop.ctl("waypoint", "apply", "--enroll-namespace", "-w", "--waypoint-timeout", "10ms",
                    code=1)
    assert "is not programmed after" in done.stderr and "no pod is ready" in done.stderr
    assert LABEL not in shop.calls


def test_apply_does_not_take_a_namespace_from_another_waypoint(shop):
    shop.answer(NAMESPACE, {"metadata": {"name": "shop", "labels": {
        "istio.io/dataplane-mode": "ambient", "istio.io/use-waypoint": "old"}}})
    done = shop.ctl("waypoint", "apply", "--enroll-namespace")
    assert "bound to waypoint old already" in done.stdout and APPLY not in shop.calls
    shop.ctl("waypoint", "apply", "--enroll-namespace", "--overwrite")
    assert APPLY in shop.calls and LABEL in shop.calls


def test_apply_warns(shop):
    shop.answer(NAMESPACE, {"metadata": {"name": "shop"}})
    shop.answer(SERVICE, "")
    done = shop.ctl("waypoint", "apply", "--enroll-namespace")
    assert "kubectl label namespace shop istio.io/dataplane-mode=ambient" in done.stdout
    assert "there is no service shop/waypoint yet" in done.stderr
    shop.answer(SERVICE, {"spec": {"ports": [{"port": 80}]}})
    assert "has no port 15008" in shop.ctl("waypoint", "apply").stderr


def test_apply_that_fails(shop):
    shop.refuse(APPLY, 'error: no matches for kind "Gateway" in version "v1"')
    done = shop.ctl("waypoint", "apply", "--enroll-namespace", code=1)
    assert "CRDs of the Gateway API are missing" in done.stderr and "no matches" in done.stderr
    assert LABEL not in shop.calls
    shop.answer(NAMESPACE, "")
    assert "there is no namespace shop" in shop.ctl("waypoint", "apply", code=1).stderr


# list, status, delete

LIST = f"get {GATEWAYS} -o json -n shop"


@pytest.fixture
def three(kubectl):
    items = [gateway("b", istio_io__rev="r2"), gateway("a", programmed="False",
                                                       istio_io__waypoint_for="x"),
             gateway("z", cls="ztun-waypoint"), gateway("web", cls="nginx")]
    items[1]["metadata"]["labels"] = {"istio.io/waypoint-for": "workload"}
    kubectl.answer(LIST, {"items": items})
    kubectl.answer(f"get {GATEWAYS} -o json -A", {"items": [*items, gateway("c", ns="a-first")]})
    for item in items:
        kubectl.answer(f"get {GATEWAYS} {item['metadata']['name']} -n shop -o json "
                       "--ignore-not-found", item)
        kubectl.answer(f"delete {GATEWAYS} {item['metadata']['name']} -n shop", "deleted")
    return kubectl


def test_list(three):
    assert rows(three.ctl("waypoint", "list").stdout.replace("TRAFFIC TYPE", "TYPE")) == [
        ["NAME", "REVISION", "TYPE", "CLASS", "PROGRAMMED"],
        ["a", "default", "workload", "istio-waypoint", "False"],
        ["b", "r2", "service", "istio-waypoint", "True"],
        ["z", "default", "service", "ztun-waypoint", "True"]]
    everywhere = rows(three.ctl("waypoint", "list", "-A").stdout)
    assert [row[:2] for row in everywhere[1:]] == [["a-first", "c"], ["shop", "a"], ["shop", "b"],
                                                   ["shop", "z"]]
    listed = json.loads(three.ctl("waypoint", "list", "-o", "json").stdout)
    assert [item["metadata"]["name"] for item in listed] == ["a", "b", "z"]


def test_list_of_none(kubectl):
    kubectl.answer(LIST, {"items": [gateway("web", cls="nginx")]})
    assert kubectl.ctl("waypoint", "list").stdout == "No waypoints found.\n"


def test_status(three):
    three.answer("get events -n shop --field-selector involvedObject.kind=Gateway,"
                 "involvedObject.name=a -o json",
                 {"items": [{"type": "Warning", "reason": "NoPods", "message": "none is there"}]})
    out = three.ctl("waypoint", "status", "--wait=false", code=1).stdout
    assert out.splitlines()[1].split() == ["a", "False", "Programmed", "Programmed", "no", "pod",
                                           "is", "ready"]
    assert out.splitlines()[2].split()[:3] == ["b", "True", "Programmed"]
    assert out.splitlines()[4:] == ["events:", "shop/a  Warning  NoPods  none is there"]
    done = three.ctl("waypoint", "status", "--waypoint-timeout", "10ms", code=1)
    assert "shop/a is not programmed" in done.stderr


def test_status_of_one_that_becomes_ready(kubectl):
    kubectl.answer(LIST, {"items": [gateway("waypoint", programmed="False")]})
    kubectl.answer(GATEWAY, gateway("waypoint", programmed="False"), then=gateway("waypoint"))
    assert rows(kubectl.ctl("waypoint", "status").stdout)[1][:2] == ["waypoint", "True"]


def deleted(kubectl):
    return [call.split()[2] for call in kubectl.calls if call.startswith("delete")]


def test_delete_by_name(three):
    done = three.ctl("waypoint", "delete", "b", "z")
    assert done.stdout.splitlines() == ["waypoint shop/b deleted", "waypoint shop/z deleted"]
    done = three.ctl("waypoint", "delete", "web", code=1)  # a Gateway, but no waypoint
    assert "waypoint shop/web not found" in done.stderr
    assert deleted(three) == ["b", "z"]


def test_delete_many(three):
    three.ctl("waypoint", "delete", "--all")
    assert deleted(three) == ["a", "b", "z"]
    three.answer(f"{LIST} -l istio.io/rev=r2", {"items": [gateway("b")]})
    three.ctl("waypoint", "delete", "--revision", "r2")
    assert deleted(three) == ["a", "b", "z", "b"]


# kubectl


def test_its_options_are_passed_on(kubectl):
    kubectl.answer(f"--context c --kubeconfig f get {GATEWAYS} -o json -n other", {"items": []})
    done = kubectl.ctl("waypoint", "list", "--context", "c", "--kubeconfig", "f", "-n", "other")
    assert done.stdout == "No waypoints found.\n"


def test_kubectl_that_is_not_there(kubectl):
    done = kubectl.ctl("waypoint", "list", "--kubectl", "/no/such", "-n", "x", code=1)
    assert "/no/such: No such file" in done.stderr
    done = kubectl.ctl("waypoint", "list", "-n", "nowhere", code=1)
    assert "nothing is known of: get gateways" in done.stderr
