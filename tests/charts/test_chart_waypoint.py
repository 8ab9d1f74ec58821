# SPDX-License-Identifier: Apache-2.0
"""The chart waypoint: one Gateway, and what stands behind it."""

import json
import re

import pytest
import yaml

from conftest import ROOT, run


def test_waypoint_is_confined(render):
    objects = render("waypoint")
    security = objects.container()["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    pod = objects.pod()["spec"]["securityContext"]
    assert pod["runAsNonRoot"] and pod["runAsUser"] == 1337


def written(objects):
    """Resources that may be written, with the verbs."""
    found = {}
    for role in objects.of_kind("Role") + objects.of_kind("ClusterRole"):
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
            for verb in set(rule["verbs"]) - {"get", "list", "watch"}:
                for name in rule["resources"]:
                    found.setdefault(name, set()).add(verb)
    return found


def test_what_it_may_write(render):
    """Not more than it was told to."""
    lease = {"leases": {"create", "update"}}
    status = lease | {"grpcroutes/status": {"patch"}, "httproutes/status": {"patch"}, "events": {"create"}}
    gateway = {"gateways/status": {"patch"}, "gatewayclasses/status": {"patch"}}
    bindings = {"services": {"patch"}, "serviceentries": {"patch"}}
    off, auto = 'status={"enabled": false}', 'autoBinding={"enabled": true}'
    assert written(render("waypoint")) == status
    assert written(render("waypoint", 'gateway={"className": "ztun-waypoint"}')) == status | gateway
    assert written(render("waypoint", off)) == {}
    assert written(render("waypoint", auto)) == status | bindings
    for rule in [rule for role in render("waypoint").of_kind("Role") for rule in role["rules"]]:
        assert "secrets" not in rule["resources"]


def watched():
    """Resources that the program lists and watches, by scope."""
    text = (ROOT / "common/mesh/source_kube.c").read_text()
    types = (ROOT / "common/mesh/kobj_kind.c").read_text()
    plurals = dict(re.findall(r'\{(KOBJ_\w+),\s+[\w"./]+,\s+"\w+",\s+"(\w+)"', types))
    plurals |= re.findall(r'kobj_type (\w+) = \{[^}]*\.plural = "(\w+)"', text)
    rows = [(scope, plurals[kind if own == "NULL" else own]) for kind, scope, own in
            re.findall(r"\{(KOBJ_\w+), SCOPE_(\w+), &?(\w+),", text)]
    assert {scope for scope, _ in rows} == {"ALL", "SERVED", "NAMED"} and len(rows) == 20
    return {scope: {plural for other, plural in rows if other == scope} for scope, _ in rows}


def readable(role):
    return {name for rule in role["rules"] for name in rule["resources"]
            if {"get", "list", "watch"} <= set(rule["verbs"])}


@pytest.mark.parametrize("given, served", [([], {"shop", "istio-system"}),
                                           (["a", "b"], {"a", "b", "istio-system"}),
                                           (["*"], {"istio-system"})])
def test_rights_are_those_of_the_watches(render, given, served):
    """Neither less, which would keep it from getting ready, nor more."""
    objects = render("waypoint", f"namespaces={json.dumps(given)}")
    kinds = watched()
    everywhere = kinds["ALL"] | (kinds["SERVED"] if given == ["*"] else set())
    assert readable(objects["ClusterRole"]) == everywhere
    roles = {role["metadata"]["namespace"]: role for role in objects.of_kind("Role")
             if role["metadata"]["name"] != "waypoint"}
    assert set(roles) == served
    rules = set() if given == ["*"] else kinds["SERVED"]
    for namespace, role in roles.items():
        named = {"configmaps"} if namespace == "istio-system" else set()
        assert readable(role) == rules | named
    config_map, = [rule for rule in roles["istio-system"]["rules"] if "configmaps" in rule["resources"]]
    assert config_map["resourceNames"] == ["istio"]
    for binding in objects.of_kind("RoleBinding") + objects.of_kind("ClusterRoleBinding"):
        kind, name = binding["roleRef"]["kind"], binding["roleRef"]["name"]
        assert [role for role in objects.of_kind(kind) if role["metadata"]["name"] == name
                and role["metadata"].get("namespace") == binding["metadata"].get("namespace")]
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "waypoint", "namespace": "shop"}]
    assert len(objects.of_kind("RoleBinding")) == len(objects.of_kind("Role"))
    args = objects.container()["args"]
    assert [arg for arg in args if arg.startswith("--kube-namespaces")] == (
        [f"--kube-namespaces={','.join(given)}"] if given else [])


@pytest.mark.parametrize("revision, name", [("canary", "istio-canary"), ("default", "istio")])
def test_mesh_config_of_a_revision(render, revision, name):
    objects = render("waypoint", f'revision="{revision}"')
    rule, = [rule for role in objects.of_kind("Role") for rule in role["rules"]
             if "configmaps" in rule["resources"]]
    assert rule["resourceNames"] == [name]
    assert f"--revision={revision}" in objects.container()["args"]


def test_secrets_are_named(render):
    objects = render("waypoint", 'rbac={"secretNames": ["credential", "credential-cacert"]}')
    rule, = [rule for role in objects.of_kind("Role") for rule in role["rules"]
             if "secrets" in rule["resources"]]
    assert rule["resourceNames"] == ["credential", "credential-cacert"]
    assert set(rule["verbs"]) == {"get", "list", "watch"}


def test_waypoint_fits_together(render):
    """Gateway, Service and pods by one name; the way to it is not through it."""
    objects = render("waypoint", 'name="shared"', 'clusterDomain="example.internal"')
    gateway, service = objects["Gateway"], objects["Service"]
    assert gateway["spec"]["gatewayClassName"] == "istio-waypoint"
    assert gateway["spec"]["addresses"] == [
        {"type": "Hostname", "value": "shared.shop.svc.example.internal"}]
    listener, = gateway["spec"]["listeners"]
    assert (listener["protocol"], listener["port"]) == ("HBONE", 15008)
    assert service["metadata"]["name"] == "shared"
    assert service["metadata"]["labels"]["istio.io/use-waypoint"] == "none"
    ports = {port["name"]: port for port in objects.container()["ports"]}
    for port in service["spec"]["ports"]:
        assert ports[port["targetPort"]]["containerPort"] == port["port"]
    assert 15008 in [port["port"] for port in service["spec"]["ports"]]
    labels = objects.pod()["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert labels["gateway.networking.k8s.io/gateway-name"] == "shared"
    assert labels["istio.io/dataplane-mode"] == "none"
    assert objects.env()["GATEWAY_NAME"] == objects.pod()["spec"]["serviceAccountName"] == "shared"
    for constraint in objects.pod()["spec"]["topologySpreadConstraints"]:
        assert constraint["labelSelector"]["matchLabels"].items() <= labels.items()


def test_waypoint_ends_within_its_grace(render):
    objects = render("waypoint", "terminationGracePeriodSeconds=60", "preStopSeconds=7")
    assert objects.pod()["spec"]["terminationGracePeriodSeconds"] == 60
    assert objects.container()["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "7"]
    assert objects.env()["TERMINATION_GRACE_PERIOD_SECONDS"] == "53"


def test_cpus(render):
    assert "WORKER_THREADS" not in render("waypoint").env()
    limited = render("waypoint", 'resources={"limits": {"cpu": "2"}}')
    assert limited.env()["WORKER_THREADS"] == "limits.cpu"
    given = render("waypoint", 'resources={"limits": {"cpu": "2"}}', 'env={"WORKER_THREADS": "4"}')
    assert given.env()["WORKER_THREADS"] == "4"


def test_waypoint_scales(render):
    plain = render("waypoint", "replicas=3")
    assert plain["Deployment"]["spec"]["replicas"] == 3 and not plain.of_kind("HorizontalPodAutoscaler")
    scaled = render("waypoint", 'autoscaling={"enabled": true}')
    assert "replicas" not in scaled["Deployment"]["spec"]
    assert scaled["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == "waypoint"
    assert plain["PodDisruptionBudget"]["spec"]["selector"] == plain["Deployment"]["spec"]["selector"]


def test_waypoints_objects_are_read(bin_dir, render, tmp_path):
    """`ztunctl validate`, which reads as a waypoint does, has nothing against them."""
    objects = render("waypoint", 'gateway={"className": "ztun-waypoint"}', 'gatewayClass={"create": true}')
    kinds = ("Gateway", "GatewayClass", "Service", "ServiceAccount", "Deployment")
    docs = [obj for obj in objects if obj["kind"] in kinds]
    docs.append({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(docs))
    done = run(bin_dir / "ztunctl", "validate", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stdout + done.stderr
