# SPDX-License-Identifier: Apache-2.0
"""ztunctl on a waypoint that runs: what it says is what happens."""

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import termios

import pytest

from lablib import STATE_DIR, ZTUNCTL, wait_until
from test_waypoint_http import apply, curl, destination_rule, mesh, to, virtual_service

RULES = (
    {"name": "canary", "match": [{"headers": {"end-user": {"exact": "jason"}}}],
     "route": [to("v2")]},
    {"name": "old", "match": [{"uri": {"prefix": "/old/"}}], "rewrite": {"uri": "/"},
     "headers": {"request": {"set": {"x-set": "a"}}}, "route": [to("v1")]},
    {"match": [{"uri": {"exact": "/gone"}}], "redirect": {"uri": "/new", "redirectCode": 302}},
    {"match": [{"uri": {"exact": "/none"}}], "route": [to("v9")]},
    {"match": [{"uri": {"prefix": "/"}, "method": {"regex": "GET|POST"}}], "route": [to("v1")]})
POLICY = {"connectionPool": {"tcp": {"maxConnections": 3},
                             "http": {"http2MaxRequests": 7, "http1MaxPendingRequests": 4}},
          "outlierDetection": {"consecutive5xxErrors": 1, "interval": "1s",
                               "baseEjectionTime": "60s", "maxEjectionPercent": 100}}


@pytest.fixture(scope="module")
def lab(make_module_lab):
    lab = make_module_lab(mesh())
    apply(lab, destination_rule(POLICY), virtual_service(*RULES))
    return lab


def ctl(lab, *args, code=0):
    done = subprocess.run([ZTUNCTL, *args, "--lab", lab.name, "--state-dir", STATE_DIR],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done
    return done.stdout if code == 0 else done.stderr


def explain(lab, request, *headers):
    args = [arg for header in headers for arg in ("-H", header)]
    return json.loads(ctl(lab, "explain", "--from", "m/client", "--to", "web.m", "--request",
                          request, *args, "-o", "json"))


def config(lab, noun, *args):
    return json.loads(ctl(lab, "config", noun, "-o", "json", *args))


def rows(text):
    """A table as a list of dicts: columns are two blanks apart."""
    lines = [re.split(r" {2,}", line.rstrip()) for line in text.splitlines()]
    return [dict(zip(lines[0], line)) for line in lines[1:]]


# explain


@pytest.mark.parametrize("path,header,version", [
    ("/", "end-user: jason", "v2"), ("/", "end-user: other", "v1"), ("/", None, "v1")])
def test_explain_is_what_happens(lab, path, header, version):
    headers = [header] if header else []
    out = explain(lab, f"GET {path}", *headers)["http"]
    chosen, = [d for d in out["destinations"] if d["chosen"]]
    picked, = [e for e in chosen["endpoints"] if e.get("chosen")]
    reply = curl(lab, path, *[arg for h in headers for arg in ("-H", h)])
    assert chosen["subset"] == reply.version == version
    assert picked["workload"] == {"v1": "m/web-1", "v2": "m/web-2"}[version]


def test_explain_of_a_rewrite(lab):
    out = explain(lab, "/old/headers")["http"]
    sent = out["destinations"][0]["sent"]
    assert sent["path"] == "/headers" and "x-set: a" in sent["set"]
    reply = curl(lab, "/old/headers")
    for field in sent["set"]:
        assert field in reply.body.lower()
    canary = next(r for r in out["rules"] if r["rule"] == "canary")
    assert canary["reason"] == "header end-user is absent" and canary["line"] > 0


@pytest.mark.parametrize("path", ["/gone", "/none"])
def test_explain_of_answers(lab, path):
    out = explain(lab, path)["http"]
    answer = out.get("answer") or out["destinations"][0]["answer"]
    reply = curl(lab, path)
    assert reply.status == answer["status"]
    assert reply.headers.get("location") == answer.get("location")


def test_explain_without_a_waypoint(lab):
    lab.apply(virtual_service({"route": [to(host="direct")]}, name="direct", host="direct"))
    out = ctl(lab, "explain", "--from", "m/client", "--to", "direct.m", "--request", "/")
    assert "no rule for HTTP applies: service direct.m.svc.cluster.local has no waypoint" in out
    assert "nobody reads VirtualService m/direct, " in out


# config


def test_listeners_and_routes(lab):
    mesh_row, *others = rows(ctl(lab, "config", "listener"))
    assert mesh_row["MATCH"] == f"CONNECT {lab.vip('web', 'm')}:80"
    assert mesh_row["DESTINATION"] == "Route: web.m.svc.cluster.local:80"
    assert [row["NAME"] for row in others] == ["admin", "metrics", "readiness"]
    table = rows(ctl(lab, "config", "route", "--fqdn", "web.m.svc.cluster.local"))
    assert {"NAME": "canary", "DOMAIN": "web.m.svc.cluster.local",
            "MATCH": "/*, header end-user jason", "VIRTUAL SERVICE": "web.m",
            "ACTION": "web.m.svc.cluster.local v2"} in table
    assert any(row["MATCH"] == "/old/*" for row in table)
    assert not rows(ctl(lab, "config", "route", "-n", "elsewhere"))


def test_live_numbers_of_clusters_and_endpoints(lab):
    slow = lab.popen("m/client", "curl", "-sS", "-m", "20", "http://web.m/slow/1")
    only = ("--fqdn", "web.m.svc.cluster.local", "--port", "80", "--subset", "v1")

    def busy():
        cluster, = config(lab, "cluster", *only)
        assert cluster["breakers"]["requests"]["used"] == 1
        return cluster

    cluster = wait_until(busy)
    assert cluster["breakers"]["requests"]["limit"] == 7
    assert cluster["breakers"]["connections"] == {"used": 1, "limit": 3}
    endpoint, = cluster["endpoints"]
    assert (endpoint["name"], endpoint["activeRequests"], endpoint["connections"]) == ("web-1", 1, 1)
    row, = rows(ctl(lab, "config", "cluster", *only))
    assert (row["REQUESTS"], row["CONNS"], row["PENDING"]) == ("1/7", "1/3", "0/4")
    assert row["DESTINATION RULE"] == "web.m"
    assert slow.communicate(timeout=20)[0].startswith("server v1")
    wait_until(lambda: config(lab, "endpoint", *only)[0]["activeRequests"] == 0)


def test_ejection_is_seen(lab):
    only = ("--fqdn", "web.m.svc.cluster.local", "--subset", "v2")
    row, = rows(ctl(lab, "config", "endpoint", *only))
    assert (row["STATUS"], row["OUTLIER CHECK"]) == ("HEALTHY", "OK")
    assert curl(lab, "/status/500", "-H", "end-user: jason").status == 500
    row, = rows(ctl(lab, "config", "endpoint", *only))
    assert (row["STATUS"], row["OUTLIER CHECK"], row["WORKLOAD"]) == ("UNHEALTHY", "FAILED",
                                                                      "web-2.m")
    endpoint, = config(lab, "endpoint", *only)
    assert endpoint["ejections"] == 1 and 0 <= endpoint["ejectedForMs"] < 30000
    row, = rows(ctl(lab, "config", "cluster", *only))
    assert row["EJECTED"] == "1"
    # explain asks the waypoint, too; on files alone it says so.
    out = explain(lab, "/", "end-user: jason")["http"]
    assert out["health"]["source"] == "live"
    host, = [e for e in out["destinations"][0]["endpoints"] if "level" in e]
    assert host["live"]["ejected"] and not host["chosen"]
    assert out["destinations"][0]["answer"]["status"] == curl(lab, "/", "-H",
                                                              "end-user: jason").status == 503
    text = ctl(lab, "explain", "--from", "m/client", "--to", "web.m", "--request", "/",
               "-H", "end-user: jason")
    assert re.search(r"health +live: what waypoint m/waypoint-\S+ knows now", text)
    assert re.search(r"m/web-2 .*, ejected for .*, 0 active requests, ", text)
    done = subprocess.run([ZTUNCTL, "explain", "--config", lab.status()["lab"]["config"], "--from",
                           "m/client", "--to", "web.m", "--request", "/"],
                          capture_output=True, text=True)
    assert "health       from configuration only: no waypoint was named" in done.stdout, done


def test_whole_dumps_have_it_too(lab, tmp_path):
    dump = tmp_path / "dump.json"
    dump.write_text(ctl(lab, "config", "all", "-o", "json", "--waypoint", "m/waypoint"))
    done = subprocess.run([ZTUNCTL, "config", "route", "-f", dump], capture_output=True, text=True)
    assert done.returncode == 0 and "canary" in done.stdout, done
    netns = next(n["netns"] for n in lab.status()["nodes"] if n["name"] == "node1")
    done = subprocess.run([ZTUNCTL, "config", "route", "--netns", netns], capture_output=True,
                          text=True)
    assert done.returncode == 1 and "/l7_dump answered 404" in done.stderr, done


# top


def test_top_in_a_terminal(lab):
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 60, 0, 0))
    top = subprocess.Popen([ZTUNCTL, "top", "--http", "--lab", lab.name, "--state-dir", STATE_DIR],
                           stdin=terminal, stdout=terminal)
    os.close(terminal)
    out = b""

    def has_pair():
        nonlocal out
        curl(lab)
        if select.select([master], [], [], 0.1)[0]:
            out += os.read(master, 65536)
        return b"client.m web.m.svc" in out and out.count(b"\x1b[2J") >= 2

    try:
        wait_until(has_pair)
        os.write(master, b"q")
        assert top.wait(10) == 0
    finally:
        top.kill()
        top.wait()
        os.close(master)
    assert all(len(line) <= 60 for line in re.sub(rb"\x1b\[[?\d]*\w", b"", out).splitlines()), out


def test_top_of_requests(lab):
    load = lab.popen("m/client", "h2load", "--h1", "-c", "2", "-D", "3", "http://web.m/")
    out = wait_until(lambda: re.search(
        r"^client\.m\s+web\.m\.svc\.cluster\.local +(\S+) +(\S+) +(\S+) +([\d.]+)ms +([\d.]+)ms",
        ctl(lab, "top", "--http", "--once"), re.M))
    load.communicate(timeout=30)
    assert float(out[1].replace("k", "e3")) > 10 and 0 < float(out[4]) <= float(out[5])
    assert curl(lab, "/none").status == 503
    total = ctl(lab, "top", "--http", "--total", "--waypoint", "m/waypoint")
    assert re.search(r"^client\.m .*NC:\d", total, re.M), total
