# SPDX-License-Identifier: Apache-2.0
"""Helm, the charts rendered with it, and what the programs read.

    objects = render("waypoint", "autoscaling.enabled=true")   # values as for --set-json, `a.b=JSON`
    objects["Deployment"]["spec"]
"""

import functools
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
CHARTS = ROOT / "charts"
NAMESPACES = {"ztun": "istio-system", "waypoint": "shop"}
RELEASES = {"ztun": "ztunnel", "waypoint": "waypoint"}


def run(*command, **more):
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60, check=False,
                          **more)


@pytest.fixture(scope="session")
def tools():
    """The directory with helm, kubectl, hadolint and schemas."""
    done = run(ROOT / "tests/charts/prepare")
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def bin_dir():
    return Path(os.environ["ZTUN_BIN_DIR"])


class Objects(list):
    """What a chart makes: objects[KIND] is the only one of its kind, of_kind(KIND) all of them."""

    def of_kind(self, kind):
        return [obj for obj in self if obj["kind"] == kind]

    def __getitem__(self, kind):
        one, = self.of_kind(kind)
        return one

    def workload(self):
        one, = self.of_kind("DaemonSet") + self.of_kind("Deployment")
        return one

    def pod(self):
        return self.workload()["spec"]["template"]

    def container(self):
        one, = self.pod()["spec"]["containers"]
        return one

    def env(self):
        """Name to text, or to the path of a field or resource."""
        pairs = []
        for row in self.container()["env"]:
            source = row.get("valueFrom", {})
            pairs.append((row["name"], row.get("value")
                          or source.get("fieldRef", {}).get("fieldPath")
                          or source["resourceFieldRef"]["resource"]))
        assert len(dict(pairs)) == len(pairs), "a variable twice"
        return dict(pairs)


class UniqueKeys(yaml.SafeLoader):
    """Two equal keys in one map are an error, as they are for the API server."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        assert len(set(keys)) == len(keys), f"a key twice: {keys}"
        return super().construct_mapping(node, deep)


@pytest.fixture(scope="session")
def helm(tools, tmp_path_factory):
    """helm(ARGUMENT...): the finished process."""
    home = tmp_path_factory.mktemp("helm")
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "HELM_CACHE_HOME": str(home),
           "HELM_CONFIG_HOME": str(home), "HELM_DATA_HOME": str(home)}
    return lambda *args: run(tools / "helm", *args, env=env)


@pytest.fixture(scope="session")
def template(helm):
    """template(CHART, VALUE...): the finished process; the same again is not rendered again."""

    @functools.lru_cache(maxsize=None)
    def make(chart, *values):
        args = [arg for value in values for arg in ("--set-json", value)]
        return helm("template", RELEASES[chart], CHARTS / chart, "--namespace", NAMESPACES[chart], *args)

    return make


@pytest.fixture(scope="session")
def render(template):
    def make(chart, *values):
        done = template(chart, *values)
        assert done.returncode == 0, done.stderr
        return Objects(doc for doc in yaml.load_all(done.stdout, UniqueKeys) if doc)

    return make


@pytest.fixture(scope="session")
def settings(bin_dir):
    """settings(PROGRAM): flags and environment names that it reads."""

    def read(program):
        sources = [path.read_text() for part in ("common", program)
                   for path in (ROOT / part).rglob("*.[ch]")]
        # Without a flag: second names, and what is asked for by getenv(); MALLOC_CONF is jemalloc's.
        more = {name for text in sources for pair in re.findall(
            r'\bNULL, "([A-Z_0-9]+)", PROC_|getenv\("(\w+)"\)', text) for name in pair if name}
        text = run(bin_dir / program, "--help").stdout
        names = set(re.findall(r"\[([A-Z_0-9]+)\]$", text, re.M))
        assert len(names) > 10, text
        kubelets = {"KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"}
        return (set(re.findall(r"^  (--[a-z0-9-]+)", text, re.M)),
                names | more - kubelets | {"MALLOC_CONF"})

    return read


def schema(chart):
    return json.loads((CHARTS / chart / "values.schema.json").read_text())


def values(chart):
    return yaml.safe_load((CHARTS / chart / "values.yaml").read_text())
