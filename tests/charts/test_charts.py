# SPDX-License-Identifier: Apache-2.0
"""What the charts make, with every option: valid objects, that fit istiod and the programs."""

import json
import re

import jsonschema
import pytest
import yaml

from conftest import CHARTS, NAMESPACES, ROOT, run, schema, values

BOTH = sorted(path.name for path in CHARTS.iterdir())
EXAMPLE_TOLERATION = '[{"key": "k", "operator": "Exists"}]'
# Each value away from its default at least once; a row is one rendering.
COMMON = [
    [],
    ['hub="registry.example/mesh/"', 'image="x"', 'tag="1.2"', 'imagePullPolicy="Always"',
     'imagePullSecrets=["pull"]'],
    ['istioNamespace="mesh"', 'revision="canary"', 'trustBundleName="roots"', 'network="n1"',
     'multiCluster={"clusterName": "c1"}', 'logLevel="info,access=debug"', 'logAsJson=true'],
    ['caAddress="ca.example:15012"', 'xdsAddress="xds.example:15012"'],
    ['env={"ZTUN_IO": "epoll", "NETWORK": "n2", "KEEPALIVE_TIME": 60, "XDS_HEADER_x": "y"}',
     'args=["--memory-limit=400Mi"]'],
    ['resources={"limits": {"cpu": "2", "memory": "512Mi"}}', 'terminationGracePeriodSeconds=60'],
    [f'tolerations={EXAMPLE_TOLERATION}', 'nodeSelector={"a": "b"}',
     'affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": '
     '[{"matchExpressions": [{"key": "k", "operator": "Exists"}]}]}}}'],
    ['labels={"team": "a"}', 'annotations={"team.io/a": "b"}', 'podLabels={"pod": "a"}',
     'podAnnotations={"pod.io/a": "b"}', 'volumes=[{"name": "v", "emptyDir": {}}]',
     'volumeMounts=[{"name": "v", "mountPath": "/v"}]'],
    ['seccompProfile={"type": "Localhost", "localhostProfile": "ztun.json"}'],
    ['global={"networkPolicy": {"enabled": true}, "of-a-parent": 1}',
     'podMonitor={"enabled": true, "labels": {"release": "prometheus"}, "interval": "30s"}',
     'dashboard={"enabled": true, "namespace": "monitoring", "labels": {"grafana": "yes"}}'],
]
MATRIX = {
    "ztun": COMMON + [
        ['resourceName="proxy"', 'dnsPolicy="ClusterFirst"', 'dnsConfig={"nameservers": ["10.0.0.1"]}'],
        ['meshConfig={"defaultConfig": {"proxyMetadata": {"ISTIO_META_X": "1"}}}',
         'peerCaCrl={"enabled": true}'],
        ['updateStrategy={"type": "OnDelete", "rollingUpdate": null}', 'priorityClassName="high"',
         'resourceQuotas={"enabled": true, "pods": 7}', 'seLinuxOptions={"type": "spc_t"}'],
        ['seccompInstall={"enabled": true, "kubeletDir": "/k"}'],
    ],
    "waypoint": COMMON + [
        ['name="shared"', 'gateway={"className": "ztun-waypoint", "waypointFor": "all", "labels": {"a": "b"}, '
         '"annotations": {"a.io/b": "c"}, "allowedRoutes": {"namespaces": {"from": "All"}}}',
         'gatewayClass={"create": true}', 'clusterDomain="example.internal"'],
        ['replicas=3', 'podDisruptionBudget={"maxUnavailable": "50%"}', 'priorityClassName="high"',
         'preStopSeconds=0', 'updateStrategy={"type": "Recreate", "rollingUpdate": null}'],
        ['autoscaling={"enabled": true, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}}',
         'podDisruptionBudget={"enabled": false}', 'priorityClass={"create": true, "value": 5}',
         'topologySpreadConstraints=[]'],
        ['service={"annotations": {"a.io/b": "c"}}', 'serviceAccount={"annotations": {"a.io/b": "c"}}',
         'rbac={"secretNames": ["credential"]}'],
        ['rbac={"create": false}'],
        ['namespaces=["a", "shop"]', 'status={"enabled": false}'],
        ['autoBinding={"enabled": true}'],
        ['namespaces=["*"]', 'gateway={"className": "ztun-waypoint"}'],
    ],
}
ROWS = [(chart, row) for chart in BOTH for row in MATRIX[chart]]


def paths(tree, prefix=""):
    """The values with a name of their own, as in a schema or in values.yaml."""
    for name, sub in tree.items():
        yield prefix + name
        if isinstance(sub, dict):
            yield from paths(sub, f"{prefix}{name}.")


def schema_paths(tree, prefix=""):
    for name, sub in tree.get("properties", {}).items():
        yield prefix + name
        yield from schema_paths(sub, f"{prefix}{name}.")


@pytest.mark.parametrize("chart", BOTH)
def test_lint(helm, chart):
    done = helm("lint", "--strict", CHARTS / chart)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("chart", BOTH)
def test_every_value_has_a_schema_and_a_default(chart):
    known = set(schema_paths(schema(chart)))
    given = set(paths(values(chart)))
    assert {path for path in given - known
            if not re.match(r"(resources|updateStrategy|podAnnotations|dashboard\.labels|"
                            r"service\.annotations)\.", path)} == set()
    optional = {"resources.limits", "resources.claims", "resources.requests", "seccompProfile.type",
                "seccompProfile.localhostProfile", "gateway.allowedRoutes.namespaces.selector"}
    assert known - given - optional == set()


@pytest.mark.parametrize("chart", BOTH)
def test_every_value_does_something(chart, template):
    """A value that is in the matrix changes what is made; and each is in it."""
    plain = template(chart).stdout
    tried = set()
    for row in MATRIX[chart][1:]:
        for value in row:
            name, text = value.split("=", 1)
            tried.add(name)
            given = json.loads(text)
            if isinstance(given, dict) and name in ("gateway", "autoscaling", "dashboard", "podMonitor"):
                tried |= {f"{name}.{key}" for key in given}
            if name == "podDisruptionBudget":
                tried |= {f"{name}.{key}" for key in given}
            done = template(chart, value)
            assert done.returncode == 0, done.stderr
            assert done.stdout != plain, f"{value} changes nothing"
    assert set(values(chart)) - {name.split(".")[0] for name in tried} == set()


@pytest.fixture(scope="module")
def check_schema(tools):
    """check_schema(OBJECT): as a strict API server sees it. False: it is of no kind of Kubernetes."""
    definitions = json.loads((tools / "schemas/_definitions.json").read_text())
    url = "https://kubernetes.io/api/_definitions.json"

    def check(obj):
        group, _, version = obj["apiVersion"].rpartition("/")
        name = "-".join(filter(None, [obj["kind"].lower(), group.split(".")[0], version]))
        path = tools / "schemas" / f"{name}.json"
        if not path.exists():
            assert group in ("gateway.networking.k8s.io", "monitoring.coreos.com"), f"no schema: {name}"
            return False
        whole = json.loads(path.read_text())
        resolver = jsonschema.RefResolver.from_schema(whole, store={url: definitions})
        jsonschema.Draft7Validator(whole, resolver=resolver).validate(obj)
        return True

    return check


def test_the_schemas_are_strict(check_schema):
    def service(**spec):
        return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": spec}

    assert check_schema(service(type="ClusterIP"))
    with pytest.raises(jsonschema.ValidationError):
        check_schema(service(typ="ClusterIP"))


@pytest.mark.parametrize("chart, row", ROWS, ids=[f"{c}-{i}" for c in BOTH
                                                  for i in range(len(MATRIX[c]))])
def test_objects_are_valid(check_schema, render, chart, row):
    objects = render(chart, *row)
    names = [(obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"]) for obj in objects]
    assert len(set(names)) == len(names)
    assert sum(check_schema(obj) for obj in objects) >= 2
    pod = objects.pod()
    selector = objects.workload()["spec"]["selector"]["matchLabels"]
    assert selector.items() <= pod["metadata"]["labels"].items()
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    for container in pod["spec"]["containers"] + pod["spec"].get("initContainers", []):
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    for obj in objects:
        labels = obj["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        kinds = ("ServiceAccount", "DaemonSet", "Deployment")
        if "labels={\"team\": \"a\"}" in row and obj["kind"] in kinds:
            assert labels["team"] == "a"


def settings_fit(objects, flags, names):
    """What the container is told, the program reads."""
    prefixes = ("XDS_HEADER_", "CA_HEADER_", "ISTIO_META_", "ISTIO_METAJSON_")
    unknown = {name for name in objects.env() if name not in names and not name.startswith(prefixes)}
    assert unknown == set()
    given = {arg.split("=")[0] for arg in objects.container()["args"] if arg.startswith("--")}
    assert given <= flags


@pytest.mark.parametrize("chart, row", ROWS, ids=[f"{c}-{i}" for c in BOTH
                                                  for i in range(len(MATRIX[c]))])
def test_the_program_reads_what_it_is_told(render, settings, chart, row):
    settings_fit(render(chart, *row), *settings(chart))


@pytest.mark.parametrize("chart", BOTH)
def test_names_of_env(chart, settings):
    """The schema admits what the program reads, and nothing else."""
    pattern = re.compile(schema(chart)["properties"]["env"]["propertyNames"]["pattern"])
    _, names = settings(chart)
    assert [name for name in sorted(names) if not pattern.search(name)] == []
    listed = [name for name in pattern.pattern[2:-2].split("|") if not name.endswith("_.+")]
    assert set(listed) - names == set()
    for other in ("RUST_BACKTRACE", "ISTIO_META_", "x", "XNODE_NAME"):
        assert not pattern.search(other), other


WRONG = {
    "ztun": [
        ('profile="ambient"', "additional properties 'profile' not allowed"),
        ('variant="debug"', "additional properties 'variant' not allowed"),
        ('hub=3', "at '/hub': got number, want string"),
        ('env={"RUST_BACKTRACE": "1"}', "invalid propertyName 'RUST_BACKTRACE'"),
        ('env={"ZTUN_IO": null, "NETWORK": {}}', "at '/env/NETWORK'"),
        ('args=["proxy"]', "at '/args/0'"),
        ('terminationGracePeriodSeconds="30s"', "at '/terminationGracePeriodSeconds'"),
        ('imagePullPolicy="Sometimes"', "at '/imagePullPolicy'"),
        ('updateStrategy={"type": "Recreate"}', "at '/updateStrategy/type'"),
        ('seccompProfile={"type": "Local"}', "at '/seccompProfile/type'"),
        ('seccompInstall={"kubeletDir": "var"}', "at '/seccompInstall/kubeletDir'"),
        ('peerCaCrl={"enable": true}', "additional properties 'enable' not allowed"),
        ('resourceName="A_b"', "at '/resourceName'"),
        ('podMonitor={"interval": "1"}', "at '/podMonitor/interval'"),
    ],
    "waypoint": [
        ('replicas=-1', "at '/replicas'"),
        ('gateway={"className": "istio"}', "at '/gateway/className'"),
        ('gateway={"waypointFor": "services"}', "at '/gateway/waypointFor'"),
        ('gateway={"allowedRoutes": {"namespaces": {"from": "Any"}}}', "/gateway/allowedRoutes/namespaces/from"),
        ('autoscaling={"enabled": "yes"}', "at '/autoscaling/enabled'"),
        ('podDisruptionBudget={"maxUnavailable": "many"}', "at '/podDisruptionBudget/maxUnavailable'"),
        ('env={"PACKET_MARK": "1"}', "invalid propertyName 'PACKET_MARK'"),
        ('rbac={"secretNames": [""]}', "at '/rbac/secretNames/0'"),
        ('preStopSeconds=50', "preStopSeconds (50) has to be below terminationGracePeriodSeconds (45)"),
        ('status={"enabled": false}', 'autoBinding={"enabled": true}',
         "autoBinding.enabled needs status.enabled"),
        ('replicaCount=1', "additional properties 'replicaCount' not allowed"),
    ],
}


@pytest.mark.parametrize("chart, row", [(c, row) for c in BOTH for row in WRONG[c]])
def test_wrong_values(template, chart, row):
    *given, told = row
    done = template(chart, *given)
    assert done.returncode != 0
    assert told in done.stderr


@pytest.mark.parametrize("chart", BOTH)
def test_notes(helm, chart):
    """NOTES.txt of an installation, told without a cluster."""
    done = helm("install", "x", CHARTS / chart, "--namespace", NAMESPACES[chart], "--dry-run=client")
    assert done.returncode == 0, done.stderr
    notes = done.stdout.split("NOTES:")[1]
    assert "kubectl" in notes and "{{" not in notes


# ---- dashboards ----------------------------------------------------------------------------------


def exported():
    """Metrics of docs/METRICS.md (which test_metrics_doc.py compares with the programs)."""
    text = (ROOT / "docs/METRICS.md").read_text()
    names = {}
    for line in text.splitlines():
        cells = line.split("|")
        if line.startswith("| `") and len(cells) > 3:
            for name in re.findall(r"`(\w+)`", cells[1]):
                names[name] = cells[2].strip()
    return names


def labels_of():
    """Labels by metric, of those that have rows in metrics.def, and of certificates."""
    text = (ROOT / "common/obs/metrics.def").read_text()
    sets = {}
    for name, label in re.findall(r'^LABEL(?:_OPTIONAL)?\((\w+), \w+, "(\w+)"\)', text, re.M):
        sets.setdefault(name, set()).add(label)
    found = {"certificate_expiry_seconds": {"identity"}}
    for kind, name, labels in re.findall(
            r'^METRIC\(\w+, (\w+), "(\w+)", "\w*", (\w+),', text, re.M):
        found[name + ("_total" if kind == "COUNTER" else "")] = sets.get(labels, set())
    return found


def labels_fit(query, known):
    """Matchers and groupings of a query are labels of its metrics, or of what scrapes them."""
    parts = re.findall(r"\b([a-z]\w+)\{([^}]*)\}", query)
    have = set().union(*(known.get(re.sub(r"_bucket$", "", name), set()) for name, _ in parts))
    have |= {"namespace", "pod", "le"}
    asked = {label for _, matchers in parts for label in re.findall(r"(\w+)[=!]~?\"?", matchers)}
    asked |= {label.strip() for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(",")}
    return asked - have


@pytest.mark.parametrize("chart", BOTH)
def test_dashboard(render, chart, tmp_path):
    objects = render(chart, 'dashboard={"enabled": true, "namespace": "monitoring"}')
    config_map = objects["ConfigMap"]
    assert config_map["metadata"]["namespace"] == "monitoring"
    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
    text, = config_map["data"].values()
    dashboard = json.loads(text)
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    known, labels = exported(), labels_of()
    assert {query: labels_fit(query, labels) for query in asked if labels_fit(query, labels)} == {}
    assert labels_fit('sum by (x, pod) (hbone_pool_tunnels{y="1",namespace="a"})', labels) == {"x", "y"}
    for query in asked + [v["query"] for v in dashboard["templating"]["list"] if v["type"] == "query"]:
        names = re.findall(r"\b([a-z][a-z0-9_]+)(?=\{)", query) + re.findall(r"label_values\((\w+)", query)
        assert names, query
        for name in names:
            base = re.sub(r"_bucket$", "", name)
            assert base in known, f"{name} in {query}"
            assert (base != name) == (known[base] == "histogram"), f"{name} in {query}"
            assert ("rate(" in query) == (known[base] != "gauge" and name.endswith(("_total", "_bucket"))), \
                query
    rules = {"groups": [{"name": "all", "rules": [
        {"record": f"r{i}", "expr": query.replace("$__rate_interval", "1m")}
        for i, query in enumerate(asked)]}]}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    done = run("promtool", "check", "rules", tmp_path / "rules.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("chart", BOTH)
def test_pod_monitor_finds_the_pods(render, chart):
    objects = render(chart, 'podMonitor={"enabled": true}')
    spec = objects["PodMonitor"]["spec"]
    assert spec["selector"]["matchLabels"].items() <= objects.pod()["metadata"]["labels"].items()
    endpoint, = spec["podMetricsEndpoints"]
    port, = [port for port in objects.container()["ports"] if port["name"] == endpoint["port"]]
    assert port["containerPort"] == 15020


@pytest.mark.parametrize("chart", BOTH)
def test_network_policy_admits_what_is_served(render, chart):
    objects = render(chart, 'global={"networkPolicy": {"enabled": true}}')
    spec = objects["NetworkPolicy"]["spec"]
    assert spec["podSelector"]["matchLabels"].items() <= objects.pod()["metadata"]["labels"].items()
    admitted = {port["port"] for rule in spec["ingress"] for port in rule["ports"]}
    assert admitted == {15008, 15020, 15021}
