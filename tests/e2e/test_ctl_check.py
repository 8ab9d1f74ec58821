# SPDX-License-Identifier: Apache-2.0
"""ztunctl check: of a cluster that is well, and with one thing wrong at a time."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest

from fake_kubectl import FakeKubectl
from lablib import ZTUNCTL

GATEWAYS = "gateways.gateway.networking.k8s.io"
PODS = ("get pods -A --no-headers -o custom-columns=NS:.metadata.namespace,NAME:.metadata.name,"
        "PHASE:.status.phase,HOST:.spec.hostNetwork,"
        "MODE:.metadata.labels.istio\\.io/dataplane-mode,"
        "SIDECAR:.metadata.annotations.sidecar\\.istio\\.io/status,"
        "REDIRECTION:.metadata.annotations.ambient\\.istio\\.io/redirection")


def named(name, ns=None, **more):
    return {"metadata": {"name": name, **({"namespace": ns} if ns else {}), **more}}


def workload(image, env=(), **spec):
    return {"template": {"spec": {**spec, "containers": [
        {"image": image, "env": [{"name": k, "value": v} for k, v in env]}]}}}


def node(name):
    return {**named(name), "status": {"nodeInfo": {"kernelVersion": "6.1.0-18-amd64",
                                                   "operatingSystem": "linux"}}}


def policy(name, ingress, ns="shop", **more):
    return {**named(name, ns), "spec": {"podSelector": {}, "ingress": ingress, **more}}


def ready_pod(name, ns, where):
    return {**named(name, ns), "spec": {"nodeName": where},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}


STATUS = {
    "version": "x", "state": "running", "ready": True, "io": "io_uring", "generation": 3,
    "refusesNewFlows": False,
    "xds": {"connected": True, "problem": "", "hasAddresses": True, "hasAuthorizations": True,
            "workloads": 5, "services": 2, "refused": 0, "lastRefused": ""},
    "nodeAgent": {"isConnected": True, "hasSnapshot": True, "error": "", "pods": 1},
    "pods": [{"namespace": "shop", "name": "web", "state": "Up", "isKnown": True,
              "isRedirected": True}],
    "identities": [{"identity": "spiffe://td/ns/shop/sa/web", "state": "Available",
                    "secondsToExpiry": 80000}],
    "problems": []}


WAYPOINT = {
    "state": "running", "ready": True, "notReadyBecause": "", "generation": 7,
    "refusesNewConnections": False, "boundServices": [], "problems": [],
    "xds": STATUS["xds"], "identities": STATUS["identities"],
    "kubernetes": {"synced": True, "objects": 9, "watches": [
        {"resource": "httproutes", "needed": True, "synced": True, "state": "watching"},
        {"resource": "telemetries", "needed": False, "synced": False, "state": "absent"}]}}


def healthy():
    """What kubectl answers, by what it is asked; and /status by pod."""
    ambient = {"istio.io/dataplane-mode": "ambient"}
    answers = {
        "get --raw /version": {"gitVersion": "v1.30.2"},
        "get nodes -o json": {"items": [node("n1"), node("n2")]},
        "get daemonsets.apps -A -l k8s-app=istio-cni-node -o json": {"items": [
            {**named("istio-cni-node", "istio-system"), "spec": workload("cni:1.26"),
             "status": {"desiredNumberScheduled": 2, "numberReady": 2}}]},
        "get configmap istio-cni-config -n istio-system --ignore-not-found -o json":
            {"data": {"AMBIENT_ENABLED": "true"}},
        "get daemonsets.apps -A -l app.kubernetes.io/name=ztunnel -o json": {"items": [
            {**named("ztunnel", "istio-system"),
             "spec": workload("hub/ztun:1", serviceAccountName="ztunnel"),
             "status": {"desiredNumberScheduled": 2, "numberReady": 2}}]},
        "get deployments.apps -A -l app=istiod -o json": {"items": [
            {**named("istiod", "istio-system"), "status": {"readyReplicas": 1},
             "spec": workload("docker.io/istio/pilot:1.26.2-distroless", [
                 ("PILOT_ENABLE_AMBIENT", "true"),
                 ("CA_TRUSTED_NODE_ACCOUNTS", "kube-system/other, istio-system/ztunnel")])}]},
        f"get customresourcedefinitions.apiextensions.k8s.io {GATEWAYS} --ignore-not-found "
        "-o json": named(GATEWAYS, annotations={
            "gateway.networking.k8s.io/bundle-version": "v1.3.0"}),
        "get namespaces -o json": {"items": [
            named("shop", labels={**ambient, "istio.io/use-waypoint": "waypoint"}),
            named("istio-system")]},
        "get --raw /api/v1/nodes/n1/proxy/configz": {"kubeletconfig": {"seccompDefault": False}},
        "get networkpolicies.networking.k8s.io -A -o json": {"items": [
            policy("any-port", [{"from": []}]), policy("hbone", [{"ports": [{"port": 15008}]}]),
            policy("range", [{"ports": [{"port": 15000, "endPort": 15010}]}]),
            policy("two", [{"ports": [{"port": 80}]}, {"ports": [{"protocol": "TCP"}]}]),
            policy("deny", []), policy("other", [{"ports": [{"port": 80}]}], "istio-system")]},
        "get pods -n istio-system -l app=ztunnel -o json": {"items": [
            ready_pod("ztunnel-1", "istio-system", "n1"),
            ready_pod("ztunnel-2", "istio-system", "n2")]},
        PODS: "shop web Running <none> <none> <none> enabled\n"
              "shop out Running <none> none <none> <none>\n"
              "shop host Running true <none> <none> <none>\n"
              "shop car Running <none> <none> {\"a\": \"b\"} <none>\n"
              "shop new Pending <none> <none> <none> <none>\n"
              "istio-system ztunnel-1 Running <none> none <none> <none>\n",
        f"get {GATEWAYS} -A -o json": {"items": [
            {**named("waypoint", "shop"),
             "spec": {"gatewayClassName": "istio-waypoint", "addresses": [
                 {"type": "Hostname", "value": "waypoint.shop.svc.cluster.local"}]},
             "status": {"addresses": [{"value": "10.0.0.1"}], "conditions": [
                 {"type": "Programmed", "status": "True", "message": "fine"}]}}]},
        "get service waypoint -n shop --ignore-not-found -o json":
            {**named("waypoint", "shop", labels={"istio.io/use-waypoint": "none"}),
             "spec": {"ports": [{"port": 15008}]}},
        "get pods -n shop -l gateway.networking.k8s.io/gateway-name=waypoint -o json":
            {"items": [ready_pod("waypoint-1", "shop", "n1")]},
        "get services -A -l istio.io/use-waypoint -o json": {"items": [
            named("cart", "shop", labels={"istio.io/use-waypoint": "waypoint"}),
            named("plain", "shop", labels={"istio.io/use-waypoint": "none"})]},
        "get gatewayclasses.gateway.networking.k8s.io ztun-waypoint --ignore-not-found -o json":
            named("ztun-waypoint")}
    return answers, {"ztunnel-1": copy.deepcopy(STATUS), "ztunnel-2": copy.deepcopy(STATUS),
                     "waypoint-1": copy.deepcopy(WAYPOINT)}


@pytest.fixture
def check(tmp_path):
    kubectl = FakeKubectl(tmp_path)

    def run(answers, statuses, *args, code=None):
        for asked, value in answers.items():
            if isinstance(value, Exception):
                kubectl.refuse(asked, str(value))
            else:
                kubectl.answer(asked, value)
        for name, status in statuses.items():
            kubectl.pod(f"pod/{name}", status)
        done = subprocess.run([ZTUNCTL, "check", "--kubectl", kubectl.program, "-o", "json", *args],
                              capture_output=True, text=True, timeout=60)
        assert done.stderr == "" and done.returncode in (0, 1), done
        found = json.loads(done.stdout)
        n_errors = sum(f["severity"] == "error" for f in found["findings"])
        assert found["errors"] == n_errors and done.returncode == (1 if n_errors else 0)
        return found["findings"]

    run.kubectl = kubectl
    yield run
    kubectl.close()


def bad(findings):
    return [f for f in findings if f["severity"] in ("warning", "error")]


def test_a_cluster_that_is_well(check):
    findings = check(*healthy())
    assert not bad(findings)
    fine = {f["check"] for f in findings if f["severity"] == "ok"}
    assert fine >= {"kubernetes", "kernel", "istio-cni", "istiod", "istiod-ambient", "istiod-ca",
                    "gateway-api", "daemonset", "xds", "node-agent", "certificate", "redirection",
                    "enrolment", "io", "pod-security", "seccomp", "network-policy",
                    "waypoint-pod", "waypoint-objects", "waypoint", "waypoint-service", "binding"}
    assert not [f for f in findings if f["severity"] == "ok" and "remedy" in f]


def get(answers, part):
    """The one answer to a question with this in it."""
    key, = [key for key in answers if part in key]
    return answers[key]


def first(answers, part):
    return get(answers, part)["items"][0]


def put(answers, part, value):
    key, = [key for key in answers if part in key]
    answers[key] = value


def env(answers, name, value):
    items = first(answers, "app=istiod")["spec"]["template"]["spec"]["containers"][0]["env"]
    items[:] = [item for item in items if item["name"] != name]
    if value is not None:
        items.append({"name": name, "value": value})


def image(answers, part, value):
    first(answers, part)["spec"]["template"]["spec"]["containers"][0]["image"] = value


def info(answers, key, value):
    first(answers, "get nodes")["status"]["nodeInfo"][key] = value


def condition(answers, **change):
    first(answers, f"{GATEWAYS} -A")["status"]["conditions"][0].update(change)


CLUSTER = {
    "old Kubernetes": (lambda a: put(a, "/version", {"gitVersion": "v1.27.9-gke"}),
                       "error", "kubernetes", "v1.27.9-gke is too old"),
    "odd Kubernetes": (lambda a: put(a, "/version", {"gitVersion": "main"}),
                       "warning", "kubernetes", "`main` is no version"),
    "old kernel": (lambda a: info(a, "kernelVersion", "5.15.0-91"),
                   "error", "kernel", "Linux 5.15.0-91 is too old"),
    "odd kernel": (lambda a: info(a, "kernelVersion", "?"), "warning", "kernel", "no version"),
    "no rights": (lambda a: put(a, "get nodes", PermissionError("nodes is forbidden")),
                  "warning", "kernel", "could not be looked at: nodes is forbidden"),
    "no cni": (lambda a: put(a, "istio-cni-node", {"items": []}),
               "error", "istio-cni", "is not installed"),
    "cni without ambient": (lambda a: put(a, "istio-cni-config", {"data": {}}),
                            "error", "istio-cni", "not in ambient mode"),
    "cni not ready": (lambda a: first(a, "istio-cni-node")["status"].update(numberReady=1),
                      "error", "istio-cni", "ready on 1 of 2 nodes"),
    "no istiod": (lambda a: put(a, "app=istiod", {"items": []}),
                  "error", "istiod", "is not installed"),
    "old istiod": (lambda a: image(a, "app=istiod", "istio/pilot:1.22.1"),
                   "error", "istiod", "Istio 1.22 is older"),
    "istiod not ready": (lambda a: first(a, "app=istiod").pop("status"),
                         "error", "istiod", "no pod that is ready"),
    "istiod without ambient": (lambda a: env(a, "PILOT_ENABLE_AMBIENT", "false"),
                               "error", "istiod-ambient", "not in ambient mode"),
    "istiod trusts another": (lambda a: env(a, "CA_TRUSTED_NODE_ACCOUNTS", "mesh/ztunnel"),
                              "error", "istiod-ca",
                              "no certificates to istio-system/ztunnel: it trusts `mesh/ztunnel`"),
    "istiod trusts nobody": (lambda a: env(a, "CA_TRUSTED_NODE_ACCOUNTS", None),
                             "error", "istiod-ca", "it trusts ``"),
    "no Gateway API": (lambda a: put(a, "customresource", ""),
                       "warning", "gateway-api", "is not installed"),
    "two ztuns": (lambda a: get(a, "name=ztunnel")["items"].append(
        {**named("ztunnel", "other"), "spec": workload("hub/ztun:1")}),
        "error", "ztun", "second one beside istio-system/ztunnel"),
    "node without ztun": (lambda a: get(a, "app=ztunnel")["items"].pop(),
                          "error", "daemonset", "has no ztun"),
    "pod left out": (lambda a: put(a, "pods -A", "shop web Running <none> <none> <none> <none>\n"),
                     "error", "enrolment", "istio-cni has not set it up"),
    "pod by its own label": (
        lambda a: put(a, "pods -A", "istio-system web Running <none> ambient <none> <none>\n"),
        "error", "enrolment", "istio-cni has not set it up"),
    "pod security": (
        lambda a: get(a, "namespaces")["items"][1]["metadata"].update(
            labels={"pod-security.kubernetes.io/enforce": "baseline"}),
        "error", "pod-security", "admits only `baseline` pods"),
    "profile of the runtime": (
        lambda a: first(a, "name=ztunnel")["spec"]["template"]["spec"].update(
            securityContext={"seccompProfile": {"type": "RuntimeDefault"}}),
        "warning", "seccomp", "refuses io_uring"),
    "profile of the kubelet": (
        lambda a: put(a, "configz", {"kubeletconfig": {"seccompDefault": True}}),
        "warning", "seccomp", "kubelets give pods"),
    "ports in": (lambda a: get(a, "networkpol")["items"].append(
        policy("web", [{"ports": [{"port": 80}, {"port": 15008, "protocol": "UDP"}]}])),
        "warning", "network-policy", "no connections of the mesh in (port 15008)"),
    "ports out": (lambda a: get(a, "networkpol")["items"].append(
        policy("web", [], egress=[{"ports": [{"port": "http"}]}])),
        "warning", "network-policy", "no connections of the mesh out"),
    "waypoint without address": (
        lambda a: first(a, f"{GATEWAYS} -A")["status"].pop("addresses"),
        "error", "waypoint", "no address in its status"),
    "no service of a waypoint": (lambda a: put(a, "service waypoint", ""),
                                 "error", "waypoint-service", "shop/waypoint, which it names"),
    "service without the port": (
        lambda a: get(a, "service waypoint")["spec"].update(ports=[{"port": 80}]),
        "error", "waypoint-service", "no port 15008"),
    "waypoint of a waypoint": (
        lambda a: get(a, "service waypoint")["metadata"].pop("labels"),
        "error", "waypoint-service", "bound to a waypoint itself"),
    "service of a missing waypoint": (
        lambda a: first(a, "services")["metadata"]["labels"].update(
            {"istio.io/use-waypoint": "gone"}),
        "error", "binding", "waypoint shop/gone, which is not there"),
    "service of another namespace's": (
        lambda a: first(a, "services")["metadata"]["labels"].update(
            {"istio.io/use-waypoint-namespace": "infra"}),
        "error", "binding", "waypoint infra/waypoint, which is not there"),
    "waypoint for workloads": (
        lambda a: first(a, f"{GATEWAYS} -A")["metadata"].update(
            labels={"istio.io/waypoint-for": "workload"}),
        "warning", "binding", "takes workload traffic only"),
    "a class that is not there": (
        lambda a: (put(a, "gatewayclasses", ""), first(a, f"{GATEWAYS} -A")["spec"].update(
            gatewayClassName="ztun-waypoint")),
        "error", "waypoint-class", "1 waypoint is of this class"),
}


@pytest.mark.parametrize("case", CLUSTER)
def test_of_the_cluster(check, case):
    change, severity, name, says = CLUSTER[case]
    answers, statuses = healthy()
    change(answers)
    found, = bad(check(answers, statuses))
    assert (found["severity"], found["check"]) == (severity, name) and says in found["message"]
    assert found.get("remedy") or "no version" in says


def test_of_an_account_that_sees_no_nodes(check):
    answers, statuses = healthy()
    put(answers, "get nodes", PermissionError("forbidden"))
    first(answers, "name=ztunnel")["status"]["numberReady"] = 1
    found = bad(check(answers, statuses))
    assert [f["check"] for f in found] == ["kernel", "daemonset"]
    assert found[1]["message"] == "is ready on 1 of 2 nodes"


def test_of_a_waypoint_that_is_not_programmed(check):
    answers, statuses = healthy()
    condition(answers, status="False", message="no pod is ready")
    found = bad(check(answers, statuses))
    assert [f["check"] for f in found] == ["waypoint", "binding", "binding"]
    assert "is not programmed: no pod is ready" in found[0]["message"]
    assert [f["object"] for f in found] == ["shop/waypoint", "namespace shop", "service shop/cart"]


NODE = {
    "not ready": (lambda s: s.update(ready=False, state="starting", notReadyBecause="no agent"),
                  "error", "ztun", "is not ready (starting): no agent"),
    "memory": (lambda s: s.update(refusesNewFlows=True), "error", "memory", "limit of memory"),
    "epoll": (lambda s: s.update(io="epoll"), "warning", "io", "uses epoll"),
    "no istiod": (lambda s: s["xds"].update(connected=False, problem="refused"),
                  "error", "xds", "no connection to istiod: refused"),
    "half of it": (lambda s: s["xds"].update(hasAuthorizations=False),
                   "error", "xds", "not sent everything"),
    "refused": (lambda s: s["xds"].update(refused=2, lastRefused="ns/x: bad"),
                "warning", "xds", "refused 2 resources of istiod, last: ns/x: bad"),
    "no agent": (lambda s: s["nodeAgent"].update(isConnected=False, error="no such file"),
                 "error", "node-agent", "no connection to istio-cni: no such file"),
    "no snapshot": (lambda s: s["nodeAgent"].update(hasSnapshot=False),
                    "error", "node-agent", "has not heard"),
    "pending": (lambda s: s["pods"][0].update(state="Pending", reason="bind: in use"),
                "error", "pod", "is not served: bind: in use"),
    "no redirection": (lambda s: s["pods"][0].update(isRedirected=False),
                       "error", "redirection", "go past the mesh"),
    "not known": (lambda s: s["pods"][0].update(isKnown=False),
                  "warning", "pod", "istiod has not told of it"),
    "no certificate": (lambda s: s["identities"][0].update(state="Unavailable: denied"),
                       "error", "certificate", "sa/web: Unavailable: denied"),
    "expired": (lambda s: s["identities"][0].update(secondsToExpiry=-1),
                "error", "certificate", "has expired"),
    "not renewed": (lambda s: s["identities"][0].update(error="no answer"),
                    "warning", "certificate", "could not be renewed"),
    "an object": (lambda s: s.update(problems=[{"object": "Service shop/web", "problem": "odd"}]),
                  "warning", "configuration", "Service shop/web: odd"),
}


@pytest.mark.parametrize("case", NODE)
def test_of_a_node(check, case):
    change, severity, name, says = NODE[case]
    answers, statuses = healthy()
    change(statuses["ztunnel-2"])
    found, = bad(check(answers, statuses))
    assert (found["severity"], found["check"]) == (severity, name) and says in found["message"]
    assert found["object"].startswith("n2") and found["remedy"]


POD = {
    "not ready": (lambda s: s.update(ready=False, notReadyBecause="no certificate"),
                  "error", "waypoint-pod", "is not ready (running): no certificate"),
    "memory": (lambda s: s.update(refusesNewConnections=True), "error", "memory", "limit of memory"),
    "no istiod": (lambda s: s["xds"].update(connected=False, problem="refused"),
                  "error", "xds", "no connection to istiod: refused"),
    "no rights": (lambda s: s["kubernetes"]["watches"][0].update(
        synced=False, problem="httproutes is forbidden"),
        "error", "waypoint-objects", "does not have the httproutes: httproutes is forbidden"),
    "an object": (lambda s: s.update(problems=[{"object": "HTTPRoute shop/a", "problem": "odd"}]),
                  "warning", "configuration", "HTTPRoute shop/a: odd"),
}


@pytest.mark.parametrize("case", POD)
def test_of_a_waypoint_pod(check, case):
    change, severity, name, says = POD[case]
    answers, statuses = healthy()
    change(statuses["waypoint-1"])
    found, = bad(check(answers, statuses))
    assert (found["severity"], found["check"]) == (severity, name) and says in found["message"]
    assert found["object"] == "shop/waypoint-1" and found["remedy"]


def test_of_waypoint_pods(check):
    answers, statuses = healthy()
    pods = get(answers, "gateway-name=waypoint")["items"]
    pods.append(named("waypoint-2", "shop"))
    found, = bad(check(answers, statuses))
    assert found["severity"] == "warning" and "waypoint-2 is not ready" in found["message"]
    del pods[:]
    found, = bad(check(answers, statuses))
    assert found["severity"] == "error" and "no pod that is ready" in found["message"]
    pods.append(ready_pod("envoy", "shop", "n1"))
    findings = check(answers, {"envoy": None})
    assert not bad(findings) and "is not ztun's waypoint" in str(findings)


def test_of_a_pod_that_is_not_ready(check):
    answers, statuses = healthy()
    second = get(answers, "app=ztunnel")["items"][1]
    second["status"] = {"phase": "Pending", "containerStatuses": [
        {"state": {"waiting": {"reason": "ImagePullBackOff"}}}]}
    found, = bad(check(answers, statuses))
    assert found["object"] == "n2" and "ztunnel-2 is not ready: ImagePullBackOff" in found["message"]


def test_of_a_successor_beside_one_that_ends(check):
    answers, statuses = healthy()
    old = ready_pod("ztunnel-0", "istio-system", "n1")
    old["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    for items in ([old, *get(answers, "app=ztunnel")["items"]],
                  [*get(answers, "app=ztunnel")["items"], old]):
        put(answers, "app=ztunnel", {"items": items})
        assert not bad(check(answers, statuses))


def test_a_ztun_that_does_not_answer(check):
    answers, statuses = healthy()
    del statuses["ztunnel-1"]
    found, = bad(check(answers, statuses))
    assert found["severity"] == "warning" and "could not be asked" in found["message"]
    assert "portforward" in found["remedy"]


def test_others_in_its_place(check):
    answers, statuses = healthy()
    findings = check(answers, {**statuses, "ztunnel-2": None})
    assert not bad(findings)
    note, = [f for f in findings if f["check"] == "ztun"]
    assert note["severity"] == "note" and "1 of 2 that were asked are not ztun" in note["message"]


def test_before_it_is_installed(check):
    answers, statuses = healthy()
    put(answers, "name=ztunnel", {"items": []})
    answers["get daemonsets.apps -n mesh -l app.kubernetes.io/name=ztunnel -o json"] = {"items": []}
    findings = check(answers, statuses)
    assert not bad(findings) and "is not installed yet" in str(findings)
    assert not [call for call in check.kubectl.calls
                if call.startswith(("port-forward -n istio-system", "get pods -n istio-system"))]
    found, = bad(check(answers, statuses, "-n", "mesh"))
    assert "no certificates to mesh/ztunnel" in found["message"]


def test_a_profile_of_its_own_and_a_kubelet_that_may_not_be_asked(check):
    answers, statuses = healthy()
    put(answers, "configz", PermissionError("forbidden"))
    assert not bad(check(answers, statuses))
    first(answers, "name=ztunnel")["spec"]["template"]["spec"]["containers"][0].update(
        securityContext={"seccompProfile": {"type": "Localhost"}})
    n_calls = len([call for call in check.kubectl.calls if "configz" in call])
    assert not bad(check(answers, statuses))
    assert len([call for call in check.kubectl.calls if "configz" in call]) == n_calls


def test_how_many_are_asked(check):
    answers, statuses = healthy()
    findings = check(answers, statuses, "--max-nodes", "1")
    assert not bad(findings) and "1 of 2 were asked" in str(findings)
    check(answers, statuses, "--max-nodes", "0")
    assert [call.split()[3] for call in check.kubectl.calls if "port-forward" in call] == [
        "pod/ztunnel-1", "pod/waypoint-1"]


def test_no_cluster(check):
    found, = check({"get --raw /version": ConnectionError("refused")}, {})
    assert found["severity"] == "error" and "does not answer: refused" in found["message"]


def test_text(check):
    answers, statuses = healthy()
    env(answers, "PILOT_ENABLE_AMBIENT", None)
    assert bad(check(answers, statuses))
    done = check.kubectl.ctl("check", "-q", code=1)
    assert done.stdout.splitlines() == [
        "error    istiod-ambient     istio-system/istiod: is not in ambient mode: it tells ztun of "
        "no workloads",
        " " * 25 + "-> install it with --set profile=ambient (PILOT_ENABLE_AMBIENT=true)",
        "1 error, 0 warnings"]
    assert "ok       kubernetes         Kubernetes v1.30.2" in check.kubectl.ctl("check",
                                                                                 code=1).stdout


def test_this_machine():
    """The tests run where io_uring is allowed."""
    done = subprocess.run([ZTUNCTL, "check", "--node", "-o", "json"], capture_output=True,
                          text=True, timeout=60)
    findings = {f["check"]: f for f in json.loads(done.stdout)["findings"]}
    assert set(findings) == {"kernel", "io", "seccomp", "nftables", "open-files"}
    assert done.returncode == 0 and done.stderr == ""
    for name in ("kernel", "io", "nftables"):
        assert findings[name]["severity"] == "ok", findings[name]


def test_a_machine_that_refuses_io_uring():
    refused = Path(__file__).parent / "mesh" / "no_io_uring.py"
    done = subprocess.run(["prlimit", "--nofile=4096:4096", sys.executable, refused, ZTUNCTL,
                           "check", "--node", "-q"], capture_output=True, text=True, timeout=60)
    assert "epoll will be used: io_uring_setup is not permitted" in done.stdout, done
    assert "at most 4096 open files" in done.stdout and done.returncode == 0


@pytest.mark.parametrize("args,says", [
    (["-o", "yaml"], "-o takes text or json"),
    (["--max-nodes", "x"], "--max-nodes: `x` is not a number"),
    (["now"], "`now` is too much")])
def test_wrong_usage(check, args, says):
    assert says in check.kubectl.ctl("check", *args, code=2).stderr
