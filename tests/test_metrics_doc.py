# SPDX-License-Identifier: Apache-2.0
"""docs/METRICS.md names what is exported, and nothing else; no metric is declared and never counted."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROW = re.compile(r'^METRIC\((\w+), (\w+), "(\w+)"', re.M)
# Made by a collector for each scrape, not in metrics.def.
COLLECTED = re.compile(r'"((?:process|certificate)_\w+)"(, METRIC_COUNTER)?')


def sources(*names):
    for name in names:
        yield from (ROOT / name).rglob("*.[ch]")


def declared():
    return ROW.findall((ROOT / "common/obs/metrics.def").read_text())


def exported():
    names = {name + ("_total" if kind == "COUNTER" else "") for _, kind, name in declared()}
    for path in sources("common/obs", "common/proc", "ztun"):
        found = COLLECTED.findall(path.read_text())
        names |= {name + ("_total" if is_counter else "") for name, is_counter in found}
    return names


def documented():
    text = (ROOT / "docs/METRICS.md").read_text()
    rows = [line.split("|")[1] for line in text.splitlines()
            if line.startswith("| `") and re.search(r"\| *(counter|gauge|histogram|) ?", line)]
    names = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    return {name for name in names if "_" in name and not name.startswith(
        ("source_", "destination_", "request_", "response_", "grpc_", "connection_"))}


def test_the_document_is_complete():
    assert exported() - documented() == set()


def test_the_document_promises_nothing_else():
    flags = {"NETWORK_POLICY", "TLS_FAILURE", "H2_HANDSHAKE_FAILURE", "IDENTITY_ERROR",
             "CERT_REVOKED"}
    assert documented() - exported() - flags == set()


def test_every_metric_is_counted():
    text = "\n".join(path.read_text() for path in sources("common", "ztun", "waypoint"))
    unused = [id for id, _, _ in declared() if not re.search(rf"METRIC_{id}\b", text)]
    assert unused == []
