# SPDX-License-Identifier: Apache-2.0
"""Prometheus scrapes a ztun and a waypoint; the questions of Istio's dashboards have answers."""

import json
import math
import subprocess
from urllib.parse import quote

import pytest

from lablib import wait_until
from test_waypoint_http import apply, curl, destination_rule, mesh, to, virtual_service
from test_waypoint_tcp import waypoints

API = "http://127.0.0.1:9090/api/v1/query?query="
# What promtool has against names that Istio and ztunnel gave: scripts and dashboards know them.
ISTIOS_OWN = {
    'istio_request_duration_milliseconds use base unit "seconds" instead of "milliseconds"',
    'workload_manager_active_proxy_count non-histogram and non-summary metrics should not have '
    '"_count" suffix',
    'workload_manager_pending_proxy_count non-histogram and non-summary metrics should not have '
    '"_count" suffix'}


@pytest.fixture(scope="module")
def lab(make_module_lab):
    lab = make_module_lab(mesh())
    apply(lab, destination_rule(), virtual_service(
        {"match": [{"uri": {"exact": "/none"}}], "route": [to("v9")]},
        {"match": [{"uri": {"prefix": "/"}, "method": {"exact": "GET"}}], "route": [to()]}))
    return lab


def targets(lab):
    """Address and labels of each process, as Kubernetes' service discovery would give them."""
    pod, = waypoints(lab)
    return [(lab.ip(pod["name"], "m"), {"app": "waypoint", "pod": pod["name"]}),
            ("127.0.0.1", {"app": "ztunnel", "pod": "ztunnel-1"})]


def traffic(lab):
    for path in ("/", "/bytes/1000", "/status/404", "/none"):
        curl(lab, path, "-o", "/dev/null")
    curl(lab, url="http://direct.m")  # bytes, to ztun


def is_moving(lab):
    asked = dict((labels["destination_workload"], number) for labels, number in ask(
        lab, "sum by (destination_workload) (rate(istio_request_duration_milliseconds_count[1m]))"))
    if min(asked.get("web-1", 0), asked.get("web-2", 0)) == 0:
        return False  # the balancer may have left one out
    return all(value(lab, f"sum(rate({series}[1m]))") > 0 for series in (
        'istio_requests_total{response_code="404"}',
        'istio_tcp_sent_bytes_total{reporter="source"}', "istio_dns_requests_total"))


@pytest.fixture(scope="module")
def prometheus(lab, tmp_path_factory):
    home = tmp_path_factory.mktemp("prometheus")
    config = {"global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
              "scrape_configs": [{"job_name": "mesh", "metrics_path": "/stats/prometheus",
                                  "static_configs": [{"targets": [f"{ip}:15020"], "labels": labels}
                                                     for ip, labels in targets(lab)]}]}
    (home / "prometheus.json").write_text(json.dumps(config))  # JSON is YAML
    process = lab.popen("node1", "prometheus", f"--config.file={home}/prometheus.json",
                        f"--storage.tsdb.path={home}/data", "--web.listen-address=127.0.0.1:9090",
                        "--log.level=error")
    try:
        wait_until(lambda: value(lab, "count(up == 1)") == 2, 20)
        # A rate is that between two samples of a series.
        wait_until(lambda: traffic(lab) or is_moving(lab), interval=0.3)
        yield
    finally:
        process.terminate()
        process.communicate(timeout=20)


def ask(lab, query):
    """The answer's samples: (labels, value)."""
    done = lab.exec("node1", "curl", "-sS", "-m", "5", API + quote(query))
    answer = json.loads(done.out)
    assert answer["status"] == "success", (query, answer)
    return [(item["metric"], float(item["value"][1])) for item in answer["data"]["result"]]


def value(lab, query):
    (_, number), = ask(lab, query)
    return number


# Format


@pytest.mark.parametrize("app", ["waypoint", "ztunnel"])
def test_promtool_has_nothing_against_it(lab, app):
    ip = next(ip for ip, labels in targets(lab) if labels["app"] == app)
    traffic(lab)
    text = lab.exec("node1", "curl", "-sS", f"http://{ip}:15020/metrics").out
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True,
                          text=True, timeout=30)
    complaints = set((done.stdout + done.stderr).splitlines())
    assert complaints <= ISTIOS_OWN, complaints - ISTIOS_OWN
    assert done.returncode in (0, 3), done  # 3: only style


def test_every_sample_is_stored(lab, prometheus):
    # In the format that Prometheus asks for: a line that it cannot read fails the whole scrape.
    for _, labels in targets(lab):
        kept = value(lab, f'scrape_samples_post_metric_relabeling{{app="{labels["app"]}"}}')
        assert kept > 50
    bounds = {labels["le"] for labels, _ in ask(lab, "istio_request_duration_milliseconds_bucket")}
    assert "+Inf" in bounds and len(bounds) == 20
    assert all(math.isfinite(float(bound)) or bound == "+Inf" for bound in bounds)


# The dashboards: their questions, in words of our own

CLIENT_SIDE = 'reporter=~"source|waypoint"'
SERVICE = 'destination_service="web.m.svc.cluster.local"'
BY_TARGET = "destination_workload, destination_workload_namespace"


def requests(more=""):
    return f"rate(istio_requests_total{{{CLIENT_SIDE}{more}}}[1m])"


def quantile(q, name, more="", by=""):
    return (f"histogram_quantile({q}, sum by (le{by}) "
            f"(rate({name}_bucket{{{CLIENT_SIDE}{more}}}[1m])))")


DASHBOARDS = {
    "mesh: requests": f"round(sum({requests()}), 0.001)",
    "mesh: success rate": f"sum({requests(', response_code!~' + repr('5..'))}) / sum({requests()})",
    "mesh: 4xx": f"sum({requests(', response_code=~' + repr('4..'))})",
    "mesh: 5xx": f"sum({requests(', response_code=~' + repr('5..'))})",
    "mesh: workloads": f'label_join(sum by ({BY_TARGET}, destination_service) ({requests()}), '
                       f'"target", ".", "destination_workload", "destination_workload_namespace")',
    "mesh: median by workload": quantile(0.5, "istio_request_duration_milliseconds",
                                         by=f", {BY_TARGET}"),
    "mesh: p99 by workload": quantile(0.99, "istio_request_duration_milliseconds",
                                      by=f", {BY_TARGET}"),
    "mesh: bytes of TCP": f"sum by ({BY_TARGET}, destination_service) "
                          f"(rate(istio_tcp_received_bytes_total{{{CLIENT_SIDE}}}[1m]))",
    "mesh: versions": "sum by (component, tag) (istio_build)",
    "service: encrypted requests": "sum(" + requests(
        f', {SERVICE}, connection_security_policy="mutual_tls"') + ")",
    "service: by client and code": "sum by (source_workload, source_workload_namespace, "
                                   f"response_code) ({requests(', ' + SERVICE)})",
    "service: by canonical service": "sum by (source_canonical_service, "
                                     f"destination_canonical_service) ({requests()})",
    "service: p90 of requests' size": quantile(0.9, "istio_request_bytes", ", " + SERVICE),
    "service: p90 of responses' size": quantile(0.9, "istio_response_bytes", ", " + SERVICE),
    "service: p95 by client": quantile(0.95, "istio_request_duration_milliseconds", ", " + SERVICE,
                                       ", source_workload"),
    "workload: incoming": 'sum by (source_workload, response_code) '
                          '(rate(istio_requests_total{destination_workload_namespace="m"}[1m]))',
    "workload: outgoing": 'sum by (destination_service, response_code) '
                          '(rate(istio_requests_total{source_workload="client", '
                          'source_workload_namespace="m"}[1m]))',
    "workload: failures by flag": 'sum by (response_flags) (rate(istio_requests_total'
                                  '{response_flags!="-"}[1m]))',
    "workload: TCP sent": 'sum by (destination_service) (rate(istio_tcp_sent_bytes_total'
                          '{source_workload="client"}[1m]))',
    "workload: list": 'count by (destination_workload) ({__name__=~"istio_requests_total|'
                      'istio_tcp_connections_opened_total", destination_workload!="unknown"})',
    # Those of its xDS are about what is not there; container_* are the kubelet's.
    "ztunnel: version": 'sum by (tag) (istio_build{component="ztunnel"})',
    "ztunnel: opened": 'sum by (pod) (rate(istio_tcp_connections_opened_total'
                       '{pod=~"ztunnel-.*"}[1m]))',
    "ztunnel: closed": 'sum by (pod) (rate(istio_tcp_connections_closed_total'
                       '{pod=~"ztunnel-.*"}[1m]))',
    "ztunnel: sent": 'sum by (pod) (rate(istio_tcp_sent_bytes_total{pod=~"ztunnel-.*"}[1m]))',
    "ztunnel: received": 'sum by (pod) (rate(istio_tcp_received_bytes_total'
                         '{pod=~"ztunnel-.*"}[1m]))',
    "ztunnel: DNS": 'sum by (pod) (rate(istio_dns_requests_total{pod=~"ztunnel-.*"}[1m]))',
    "ztunnel: served pods": 'sum by (pod) (workload_manager_active_proxy_count'
                            '{pod=~"ztunnel-.*"})',
    "ztunnel: CPU": 'sum by (pod) (rate(process_cpu_seconds_total[1m]))',
    "ztunnel: memory": 'sum by (pod) (process_resident_memory_bytes)',
}
ZERO = {"ztunnel: CPU"}  # may be so


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboards_have_data(lab, prometheus, name):
    answer = ask(lab, DASHBOARDS[name])
    assert answer, DASHBOARDS[name]
    for labels, number in answer:
        assert math.isfinite(number), (labels, number)
        # What no label set explains would be a row without a name.
        assert all(labels.values()), labels
    assert name in ZERO or any(number > 0 for _, number in answer), answer


def test_numbers_are_right(lab, prometheus):
    rate = value(lab, DASHBOARDS["mesh: success rate"])
    assert 0.5 < rate < 0.95  # one of four is 503
    flags = {labels["response_flags"] for labels, _ in
             ask(lab, DASHBOARDS["workload: failures by flag"])}
    assert flags == {"NC"}
    rows = {(labels["source_workload"], labels["response_code"]) for labels, number in
            ask(lab, DASHBOARDS["service: by client and code"]) if number > 0}
    assert rows == {("client", "200"), ("client", "404"), ("client", "503")}
    assert 1000 < value(lab, quantile(0.99, "istio_response_bytes")) < 10000
