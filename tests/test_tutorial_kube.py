# SPDX-License-Identifier: Apache-2.0
"""Exercises in a cluster, without one: the images of the sample services, and whose namespaces are touched."""

import hashlib
import importlib
import io
import json
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "scripts" / "tutorial"), str(ROOT / "tests" / "kube")]
import app_images  # noqa: E402
import kube  # noqa: E402
from row import ROWS, Failed  # noqa: E402

for path in sorted((ROOT / "scripts" / "tutorial").glob("rows*.py")):
    importlib.import_module(path.stem)


def test_names_are_those_that_a_node_looks_for():
    assert app_images.full_name("ztun-client") == "docker.io/library/ztun-client:latest"
    assert app_images.full_name("quay.io/a/b:v1") == "quay.io/a/b:v1"
    assert app_images.full_name("quay.io/a/b:v1", "host:5000/dir/") == "host:5000/dir/b:v1"
    assert {"ztun-client", "quay.io/rhdevelopers/istio-tutorial-recommendation:v2-timeout",
            "docker.io/example/recommendation-service:v2.1"} <= set(app_images.names())


def test_archive(tmp_path):
    """Each image has its own words and the one layer, whose hash is as said."""
    tags = app_images.make_archive(tmp_path / "apps.tar")
    assert len(tags) == len(set(tags)) == len(app_images.names())
    with tarfile.open(tmp_path / "apps.tar") as tar:
        files = {item.name: tar.extractfile(item).read() for item in tar}
    images = {tag: json.loads(files[item["Config"]]) for item in json.loads(files["manifest.json"])
              for tag in item["RepoTags"]}
    assert set(images) == set(tags)
    layer_name, = {item["Layers"][0] for item in json.loads(files["manifest.json"])}
    layer_id = "sha256:" + hashlib.sha256(files[layer_name]).hexdigest()
    assert all(image["rootfs"]["diff_ids"] == [layer_id] for image in images.values())
    slow = images["quay.io/rhdevelopers/istio-tutorial-recommendation:v2-timeout"]["config"]
    assert slow["Entrypoint"][-2:] == ["/opt/ztun/apps/istio_tutorial.py", "recommendation"]
    assert {"VERSION=v2", "DELAY=3"} <= set(slow["Env"])
    with tarfile.open(fileobj=io.BytesIO(files[layer_name])) as tar:
        names = tar.getnames()
    assert len(names) == len(set(names))
    assert {"usr/bin/python3", "usr/bin/curl", "bin/sh", "opt/ztun/apps/istio_tutorial.py"} <= set(names)
    assert any(name.endswith("dist-packages/aiohttp/web.py") for name in names)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A kubectl that answers from files, NAME.json for a namespace, and writes down what was asked."""
    program = tmp_path / "kubectl"
    program.write_text(f"""#!/bin/bash
echo "$*" >> {tmp_path}/said
case $1-$2 in
get-nodes) echo '{{"items": [{{"metadata": {{"name": "b"}}, "spec": {{}}}},
                            {{"metadata": {{"name": "a"}}, "spec": {{}}}}]}}' ;;
get-namespace) [ ! -e {tmp_path}/$3.json ] || cat {tmp_path}/$3.json ;;
get-serviceaccount) echo it ;;
apply-*) cat >> {tmp_path}/applied ;;
esac
""")
    program.chmod(0o755)
    monkeypatch.setenv("ZTUN_KUBE_KUBECTL", str(program))
    monkeypatch.setattr(kube, "SETTLE_S", 0)
    (tmp_path / "said").touch()
    return tmp_path


def make_namespace(cluster, labels):
    if labels is not None:
        (cluster / "tutorial.json").write_text(json.dumps({"metadata": {"labels": labels}}))
    row = kube.KubeRow(ROWS["v1-only"], ".", "lab")
    try:
        row.make_namespaces([{"kind": "Namespace", "metadata": {"name": "tutorial"}}])
    finally:
        said = (cluster / "said").read_text().splitlines()
    return row, [line for line in said if line.startswith("delete namespace")]


def test_a_namespace_of_somebody_else_is_left_alone(cluster):
    with pytest.raises(Failed, match="tutorial is there already"):
        make_namespace(cluster, {"istio.io/dataplane-mode": "ambient"})
    said = (cluster / "said").read_text()
    assert "delete" not in said and "apply" not in said


@pytest.mark.parametrize("labels, n_deleted", [(None, 0), ({kube.OURS: "row"}, 1)])
def test_a_namespace_is_new(cluster, labels, n_deleted):
    """What a former row left goes first; the label says whose it is."""
    row, deleted = make_namespace(cluster, labels)
    assert len(deleted) == n_deleted
    assert row.namespaces == ["tutorial"]
    assert f"{kube.OURS}: row" in (cluster / "applied").read_text()


def test_places(cluster):
    row = kube.KubeRow(ROWS["v1-only"], ".", "lab")
    assert row.nodes == ["a", "b"]
    deployment = {"kind": "Deployment", "spec": {"template": {"spec": {}}}}
    docs = [deployment, {"kind": "Pod", "spec": {}}, json.loads(json.dumps(deployment)),
            {"kind": "Deployment", "spec": {"template": {"spec": {"nodeSelector": {"zone": "c"}}}}}]
    row.place(docs)
    chosen = [doc["spec"]["template"]["spec"]["nodeSelector"] for doc in docs if doc["kind"] == "Deployment"]
    assert chosen == [{"kubernetes.io/hostname": "b"}, {"kubernetes.io/hostname": "a"}, {"zone": "c"}]
    assert docs[1]["spec"]["nodeName"] == "a"


def test_rows_of_the_lab_alone_say_why():
    reasons = {name: entry["lab_only"] for name, entry in ROWS.items() if entry["lab_only"]}
    assert set(reasons) == {"egress", "mesh-mode-original"}
    assert all(len(reason) > 30 for reason in reasons.values())
