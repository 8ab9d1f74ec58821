# SPDX-License-Identifier: Apache-2.0
"""What a waypoint says of HTTP requests: metrics and access log."""

import json
import re

import pytest

from lablib import config_map, service, wait_until
from mesh.labnet import LabNet
from mesh.topology import read_all
from mesh.web import answering
from test_waypoint_tcp import ID, logs_of_waypoints, waypoints
from test_waypoint_tcp import mesh as tcp_mesh

MESH_CONFIG = "accessLogFile: /dev/stdout\naccessLogEncoding: JSON\n"
BOUNDS = ["0.5", "1", "5", "10", "25", "50", "100", "250", "500", "1000", "2500", "5000", "10000",
          "30000", "60000", "300000", "600000", "1800000", "3600000", "+Inf"]


def web_service():
    doc = service("web", "m", {"app": "server"},
                  ports=[{"name": "http", "port": 80, "targetPort": 8000}])
    doc["metadata"]["labels"] = {"istio.io/use-waypoint": "waypoint"}
    return doc


web = answering(lambda conn, fields: "hello")


@pytest.fixture(scope="module")
def lab(make_module_lab):
    config = config_map("istio", "istio-system", mesh=MESH_CONFIG)
    return make_module_lab(tcp_mesh(1, web_service(), config))


@pytest.fixture
def net(lab):
    return LabNet(lab, "m")


def request(net, lab, path, *fields):
    lines = [f"GET {path} HTTP/1.1", "Host: web.m", "Connection: close", *fields, "", ""]
    with net.connect("client", (lab.vip("web", "m"), 80)) as conn:
        conn.sendall("\r\n".join(lines).encode("latin-1"))
        return read_all(conn)


def lines_of(lab, path):
    """The access log's lines about a path."""
    out = []
    for line in logs_of_waypoints(lab).splitlines():
        if line.startswith('{"start_time"'):
            fields = json.loads(line)
            if fields["path"] == path:
                out.append(fields)
    return out


def scrape(lab):
    ip = lab.ip(waypoints(lab)[0]["name"], "m")
    return lab.exec("node1", "curl", "-sS", "--max-time", 5,
                    f"http://{ip}:15020/stats/prometheus").out


def samples(lab, name, **labels):
    out = []
    for line in scrape(lab).splitlines():
        found = re.fullmatch(re.escape(name) + r"\{(.*)\} (\S+)", line)
        if found:
            have = dict(re.findall(r'(\w+)="([^"]*)"', found.group(1)))
            if all(have.get(k) == v for k, v in labels.items()):
                out.append((have, float(found.group(2))))
    return out


def total(lab, name, **labels):
    return sum(value for _, value in samples(lab, name, **labels))


def new_line(lab, path, n):
    """Of the access log, about a path of which it had n."""
    line, = wait_until(lambda: lines_of(lab, path)[n:])
    return line


def test_access_log_and_metrics_of_a_request(lab, net):
    labels = {"reporter": "waypoint", "response_code": "200", "response_flags": "-"}
    histograms = ("istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes")
    names = ["istio_requests_total", *(f"{name}_count" for name in histograms)]
    n_lines, before = len(lines_of(lab, "/a?b")), [total(lab, name, **labels) for name in names]
    with net.serve("server", 8000, web):
        assert request(net, lab, "/a?b", 'User-Agent: x" 500 "y').endswith(b"hello")
    line = new_line(lab, "/a?b", n_lines)
    assert line["method"] == "GET" and line["protocol"] == "HTTP/1.1"
    assert (line["response_code"], line["response_flags"]) == (200, "-")
    assert line["response_code_details"] == "via_upstream"
    assert (line["bytes_received"], line["bytes_sent"]) == (0, 5)
    assert line["user_agent"] == 'x" 500 "y' and line["authority"] == "web.m"
    assert len(line["request_id"]) == 36 and line["upstream_service_time"].isdigit()
    assert line["upstream_host"] == f"{lab.ip('server', 'm')}:8000"
    assert line["upstream_cluster"] == "inbound-vip|80|http|web.m.svc.cluster.local"
    assert line["downstream_local_address"] == f"{lab.vip('web', 'm')}:80"
    assert line["downstream_remote_address"].split(":")[0] == lab.ip("client", "m")
    assert [total(lab, name, **labels) for name in names] == [n + 1 for n in before]
    (have, value), = samples(lab, "istio_requests_total", **labels)
    assert have == {
        **labels,
        "source_workload": "client", "source_canonical_service": "client",
        "source_canonical_revision": "latest", "source_workload_namespace": "m",
        "source_principal": ID + "client", "source_app": have["source_app"],
        "source_version": have["source_version"], "source_cluster": "Kubernetes",
        "destination_service": "web.m.svc.cluster.local", "destination_service_name": "web",
        "destination_service_namespace": "m",
        "destination_workload": "server", "destination_canonical_service": "server",
        "destination_canonical_revision": have["destination_canonical_revision"],
        "destination_workload_namespace": "m", "destination_principal": ID + "server",
        "destination_app": have["destination_app"],
        "destination_version": have["destination_version"], "destination_cluster": "Kubernetes",
        "request_protocol": "http", "grpc_response_status": "",
        "connection_security_policy": "mutual_tls"}
    for name in histograms:
        buckets = samples(lab, f"{name}_bucket", **labels)
        assert [have["le"] for have, _ in buckets] == BOUNDS
        assert buckets[-1][1] == value
    # No connection of HTTP is one of TCP.
    assert not samples(lab, "istio_tcp_connections_opened_total",
                       destination_service="web.m.svc.cluster.local")


def test_failure_of_the_upstream(lab, net):
    before, n_lines = total(lab, "istio_requests_total", response_code="503"), len(lines_of(lab, "/refused"))
    # Nobody listens on the port.
    assert request(net, lab, "/refused").startswith(b"HTTP/1.1 503 ")
    line = new_line(lab, "/refused", n_lines)
    assert line["response_code"] == 503
    assert "UF" in line["response_flags"].split(",")
    assert line["response_code_details"].startswith("upstream_reset_before_response_started{")
    assert total(lab, "istio_requests_total", response_code="503") == before + 1
    assert samples(lab, "istio_requests_total", response_code="503",
                   response_flags=line["response_flags"])


def mesh_settings(encoding):
    return config_map("istio", "istio-system",
                      mesh=MESH_CONFIG.replace("JSON", encoding))


def test_wait_covers_files(lab, net):
    """`wait` returns when ztuns and waypoints have read what was written before it: the first
    request behind it finds it in force."""
    waypoint = waypoints(lab)[0]["name"]
    path = lab.dir / "config" / "late.yaml"
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write("{apiVersion: v1, kind: Service, metadata: {name: late, namespace: m}, ")
            file.flush()  # and is half a file until it is closed
            status = lab.status()
            assert not status["isReady"]
            pending = [n["name"] for n in status["nodes"] if n["pending"]]
            assert pending == ["node1", "node2"]
            assert [p["name"] for p in status["pods"] if p.get("pending")] == [waypoint]
            file.write("spec: ")
            file.flush()
            text = lab.local("status").stdout
            assert text.count("Ready, reads changed files") == 2
            assert text.count("waypoint: reads changed files") == 1
            file.write("{clusterIP: 10.96.200.200, ports: [{port: 80}]}}")
        lab.wait_ready()
        for where in ("node1", "node2", f"m/{waypoint}"):
            page = lab.exec(where, "curl", "-sS", "-m", 5, "http://127.0.0.1:15000/config_dump").out
            assert "late.m.svc.cluster.local" in page, where
    finally:
        path.unlink()
    lab.wait_ready()
    assert lab.status()["isReady"]
    # A request behind each of some changes: it is reported as the newest one has it.
    with net.serve("server", 8000, web):
        for i in range(4):
            lab.apply(mesh_settings("TEXT" if i % 2 == 0 else "JSON"))
            assert request(net, lab, f"/encoding{i}").endswith(b"hello")
            wait_until(lambda i=i: f"/encoding{i}" in logs_of_waypoints(lab))
            assert bool(lines_of(lab, f"/encoding{i}")) == (i % 2 == 1)


def test_what_is_no_request(lab, net):
    labels = {"response_code": "400", "response_flags": "DPE", "destination_workload": "unknown"}
    before, n_lines = total(lab, "istio_requests_total", **labels), len(lines_of(lab, None))
    assert request(net, lab, "/bad", "Broken : field").startswith(b"HTTP/1.1 400 ")
    line = new_line(lab, None, n_lines)
    assert (line["response_code"], line["response_flags"], line["method"]) == (400, "DPE", None)
    assert total(lab, "istio_requests_total", **labels) == before + 1
