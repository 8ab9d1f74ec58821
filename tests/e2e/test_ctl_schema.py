# SPDX-License-Identifier: Apache-2.0
"""ztunctl schema: what it prints is a JSON Schema, and agrees with what `validate` says."""

import copy
import json
import subprocess

import jsonschema
import pytest
import yaml

from lablib import ROOT, ZTUNCTL


class Loader(yaml.SafeLoader):
    """Times stay texts, as in JSON."""


Loader.yaml_implicit_resolvers = {
    key: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
    for key, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()}


def ctl(*args, code=0, stdin=None):
    done = subprocess.run([ZTUNCTL, *args], input=stdin, capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == code, done
    return done.stdout if code == 0 else done.stderr


def json_keys(value):
    if isinstance(value, dict):
        return {str(key): json_keys(item) for key, item in value.items()}
    return [json_keys(item) for item in value] if isinstance(value, list) else value


def documents():
    for path in sorted((ROOT / "conf").rglob("*.yaml")):
        try:
            docs = list(yaml.load_all(path.read_text(), Loader))
        except yaml.YAMLError:
            assert "original" in path.parts, path  # as it is in a text, with its mistakes
            continue
        for doc in docs:
            if isinstance(doc, dict) and "kind" in doc:  # else a file of the lab's own
                yield path, json_keys(doc)


def errors_of(docs):
    """Of each document, what validate says by itself."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": docs})
    done = subprocess.run([ZTUNCTL, "validate", "-o", "json", "-q", "-"], input=text,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 1), done
    return json.loads(done.stdout)["messages"]


def is_refused(doc):
    return bool(errors_of([doc]))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    where = tmp_path_factory.mktemp("schemas")
    ctl("schema", "--dir", where)
    return where


@pytest.fixture(scope="module")
def check_all():
    schema = json.loads(ctl("schema"))
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def test_every_file_of_conf(check_all, written):
    seen = set()
    for path, doc in documents():
        if "original" in path.parts and is_refused(doc):
            continue
        assert not list(check_all.iter_errors(doc)), (path, doc)
        own = written / f"{doc['kind'].lower()}.json"
        if own.exists():
            jsonschema.Draft7Validator(json.loads(own.read_text())).validate(doc)
        seen.add(doc["kind"])
    assert {"Pod", "Service", "VirtualService", "DestinationRule", "Gateway"} <= seen


def test_all_files_are_written(written):
    kinds = json.loads(ctl("schema", "--list", "-o", "json"))
    names = {f"{kind['kind'].lower()}.json" for kind in kinds}
    assert {path.name for path in written.iterdir()} == names | {"all.json", "index.json",
                                                                 "meshconfig.json"}
    for path in written.iterdir():
        schema = json.loads(path.read_text())
        if path.name == "index.json":
            assert schema == {"yaml.schemas": {str(written / "all.json"): ["*.yaml", "*.yml"]}}
        else:
            jsonschema.Draft7Validator.check_schema(schema)
    for kind in kinds:
        name = f"{kind['group']}/{kind['kind']}" if kind["group"] else kind["kind"].lower()
        assert ctl("schema", name) == (written / f"{kind['kind'].lower()}.json").read_text()
        own = json.loads(ctl("schema", name))["properties"]["apiVersion"]["enum"]
        assert own == [f"{kind['group']}/{v}" if kind["group"] else v for v in kind["versions"]]


POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
       "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}}
POLICY = {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
          "metadata": {"name": "a"},
          "spec": {"selector": {"matchLabels": {"app": "a"}}, "mtls": {"mode": "STRICT"},
                   "portLevelMtls": {"80": {"mode": "DISABLE"}}}}
ROUTE = {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
         "metadata": {"name": "a"},
         "spec": {"hosts": ["a"], "http": [{"timeout": "3s", "retries": {"attempts": 2},
                                            "route": [{"destination": {"host": "a"},
                                                       "weight": 100}]}]}}
SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"},
          "data": {"key": "YQ=="}}


def changed(doc, path, value):
    doc = copy.deepcopy(doc)
    *way, last = path
    at = doc
    for step in way:
        at = at[step]
    if value is KeyError:
        del at[last]
    else:
        at[last] = value
    return doc


@pytest.mark.parametrize("doc,path,value", [
    (POD, ["kind"], KeyError),
    (POD, ["apiVersion"], "v7"),
    (POD, ["metadata", "name"], KeyError),
    (POD, ["metadata", "name"], ""),
    (POD, ["metadata", "name"], "Upper"),
    (POD, ["metadata", "labels"], {"a": "b c"}),
    (POD, ["metadata", "labels"], {"a b": "c"}),
    (POD, ["metadata", "labels"], {"a": 1}),
    (POD, ["spec", "container"], []),
    (POD, ["spec", "containers"], {}),
    (POD, ["spec", "containers", 0, "name"], KeyError),
    (POD, ["spec", "containers", 0, "ports", 0, "containerPort"], 65536),
    (POD, ["spec", "containers", 0, "ports", 0, "containerPort"], "80"),
    (POD, ["spec", "containers", 0, "ports", 0, "protocol"], "tcp"),
    (POD, ["spec", "containers", 0, "resources"], {"limits": {"memory": "1 GB"}}),
    (POD, ["spec", "containers", 0, "env"], [{"name": "a", "valueFrom": {
        "secretKeyRef": {"name": "s", "key": "k"}, "configMapKeyRef": {"name": "s", "key": "k"}}}]),
    (POD, ["spec", "containers", 0, "readinessProbe"], {"httpGet": {"port": 0}}),
    (POLICY, ["spec", "mtls", "mode"], "strict"),
    (POLICY, ["spec", "portLevelMtls"], {"http": {"mode": "STRICT"}}),
    (POLICY, ["spec", "portLevelMtls"], {}),
    (POLICY, ["spec", "portLevelMtls", "80"], {"mod": "STRICT"}),
    (ROUTE, ["spec", "http", 0, "timeout"], "3"),
    (ROUTE, ["spec", "http", 0, "timeout"], 3),
    (ROUTE, ["spec", "http", 0, "timeot"], "3s"),
    (ROUTE, ["spec", "http", 0, "retries", "attempts"], -1),
    (ROUTE, ["spec", "http", 0, "route", 0, "destination", "host"], KeyError),
    (ROUTE, ["spec", "http", 0, "fault"], {"delay": {"percentage": {"value": 101},
                                                      "fixedDelay": "1s"}}),
    (SECRET, ["data", "key"], "no base64!")])
def test_known_bad(check_all, doc, path, value):
    assert not is_refused(doc) and check_all.is_valid(doc)
    bad = changed(doc, path, value)
    assert is_refused(bad), bad
    assert not check_all.is_valid(bad), bad
    assert not check_all.is_valid({"apiVersion": "v1", "kind": "List", "items": [doc, bad]})


def places(value, path=()):
    """Of every map within: the map's own path and its keys."""
    if isinstance(value, dict):
        yield path, sorted(value)
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from places(item, (*path, i))


def test_it_refuses_nothing_that_is_valid(check_all):
    """Documents that were changed a little: where the schema complains, so does validate."""
    wrong = []
    for doc in (POD, POLICY, ROUTE, SECRET):
        for path, keys in list(places(doc)):
            for key in keys:
                if key in ("apiVersion", "kind"):
                    continue  # what tells which object an error is of
                for value in (None, KeyError, "", "x", 7, 1.5, True, [], {}, ["a"], [None]):
                    bad = changed(doc, [*path, key], value)
                    if not check_all.is_valid(bad):
                        wrong.append(bad)
    # Together, each with a name of its own, by which its error is found.
    named = [doc for doc in wrong if isinstance(doc.get("metadata"), dict)
             and doc["metadata"].get("name") == "a"]
    for i, doc in enumerate(named):
        doc["metadata"]["name"] = f"a{i}"
    assert len(named) > 100
    refused = {message["object"].rsplit("/", 1)[-1] for message in errors_of(named)}
    missing = [doc for doc in named if doc["metadata"]["name"] not in refused]
    assert not missing, missing[:3]


def test_words_are_offered_but_others_allowed(check_all):
    offered = check_all.schema["properties"]["kind"]["anyOf"][0]["enum"]
    assert "VirtualService" in offered and check_all.is_valid(
        {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "a"}})
    labels = json.loads(ctl("schema", "Namespace"))["definitions"]["metadata"]["properties"]
    mode = labels["labels"]["properties"]["istio.io/dataplane-mode"]
    assert mode["anyOf"][0] == {"enum": ["ambient", "none"]} and "ambient" in mode["description"]
    assert check_all.is_valid(changed(POD, ["metadata", "labels"],
                                      {"istio.io/dataplane-mode": "other"}))


def test_mesh_config_in_both_spellings():
    mesh = jsonschema.Draft7Validator(json.loads(ctl("schema", "meshconfig")))
    for key in ("outboundTrafficPolicy", "outbound_traffic_policy"):
        assert mesh.is_valid({key: {"mode": "REGISTRY_ONLY"}})
        assert not mesh.is_valid({key: {"mode": "REGISTRY"}})
    assert not mesh.is_valid({"outboundTrafficPolicies": {}})


def test_wrong_usage(tmp_path):
    assert "did you mean `VirtualService`?" in ctl("schema", "VirtualServce", code=1)
    assert "one of KIND" in ctl("schema", "Pod", "--list", code=2)
    assert "goes with --list" in ctl("schema", "-o", "json", code=2)
    (tmp_path / "file").touch()
    assert "file" in ctl("schema", "--dir", tmp_path / "file", code=1)
