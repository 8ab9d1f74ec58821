# SPDX-License-Identifier: Apache-2.0
"""docs/INSTALL.md: values and paths that it names are there, its commands render, and what it says of
logs and metrics is what the programs say."""

import re
import shlex

import pytest
import yaml

from conftest import CHARTS, ROOT, run, schema, values
from test_charts import exported, schema_paths

TEXT = (ROOT / "docs/INSTALL.md").read_text()
COMMANDS = [shlex.split(line.replace("\\'", "'"), comments=True)
            for line in re.findall(r"^    (\S.*)$", TEXT, re.M)]
OURS = [command for command in COMMANDS if command[:1] == ["helm"]
        and any(word.startswith("charts/") for word in command)]


def test_there_are_commands_to_look_at():
    assert len(OURS) >= 4
    assert {word for command in OURS for word in command if word.startswith("charts/")} == {
        f"charts/{path.name}" for path in CHARTS.iterdir()}


@pytest.mark.parametrize("command", OURS, ids=" ".join)
def test_commands_render(helm, command, tmp_path):
    """As `helm template`, which wants neither a cluster nor the release that there was."""
    verb, name = command[1:3]
    if verb == "show":
        assert helm(*command[1:3], ROOT / command[3]).returncode == 0
        return
    assert verb in ("install", "upgrade")
    chart = next(word for word in command if word.startswith("charts/"))
    of_a_cluster = ("--wait", "--install", "--reset-then-reuse-values", "--create-namespace")
    args = [arg for arg in command[3:] if arg not in of_a_cluster and arg != chart]
    if "values.yaml" in args:  # what Istio's chart had
        (tmp_path / "values.yaml").write_text(yaml.safe_dump({"logLevel": "debug", "network": "n1"}))
        args[args.index("values.yaml")] = str(tmp_path / "values.yaml")
    done = helm("template", name, ROOT / chart, *args)
    assert done.returncode == 0, done.stderr


def test_values_are_there():
    known = {path for chart in CHARTS.iterdir() for path in schema_paths(schema(chart.name))}
    theirs = {"profile", "global.platform"}  # of Istio's charts
    given = set(re.findall(r"--set '?([\w.]+)=", TEXT)) - theirs
    tables = re.findall(r"^\| (`[^|]*`) \| (?!not there|those of|refused)", TEXT, re.M)
    given |= {name.split(":")[0] for cell in tables for name in re.findall(r"`([\w.]+)(?:=\S+)?`", cell)
              if name in values("ztun") or "." in name}
    assert "resources" in given and "hub" in given
    assert {name for name in given if name not in known} - {"trustedZtunnelName"} == set()


def test_refused_values_are_refused(template):
    row, = re.findall(r"^\| (`variant`.*?) \|", TEXT, re.M)
    names = re.findall(r"`(\w+)`", row)
    assert len(names) > 4
    for name in names:
        done = template("ztun", f'{name}="x"')
        assert f"additional properties '{name}' not allowed" in done.stderr
    for name in re.findall(r"^\| `env\.(\w+)`", TEXT, re.M):
        assert f"invalid propertyName '{name}'" in template("ztun", f'env={{"{name}": "1"}}').stderr


def test_logs_and_metrics():
    """Of the table of symptoms."""
    table = TEXT.split("| Symptom |")[1]
    said = [text for row in table.splitlines()[2:] if row.startswith("|")
            for text in re.findall(r"`([^`]+)`", row.split("|")[2])]
    assert len(said) > 10
    code = " ".join(path.read_text() for part in ("ztun", "waypoint", "common")
                    for path in (ROOT / part).rglob("*.[chd]*"))
    code = re.sub(r'"\s+"', "", code)
    assert [text for text in said if f'"{text}"' not in code] == []
    metrics = set(re.findall(r"`(\w+_(?:total|count))`", table))
    assert metrics and metrics <= set(exported())
    assert set(re.findall(r'response_flags="(\w+)"', table)) <= set(re.findall(
        r"^\| `(\w+)` \|", (ROOT / "docs/METRICS.md").read_text(), re.M))


def test_make_images_is_as_told():
    done = run("make", "-n", "images", "TAG=1", "REGISTRY=r", "PUSH=1", cwd=ROOT)
    assert "scripts/images.sh" in done.stdout and "PUSH='1'" in done.stdout
