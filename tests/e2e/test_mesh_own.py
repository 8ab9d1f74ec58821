# SPDX-License-Identifier: Apache-2.0
"""ztun in its own network namespace: its metrics over HBONE."""

import contextlib
import http.client
import json
import signal
import time

import pytest
from lablib import stays, wait_until
from mesh.fixtures import make_mesh, module_mesh, shown  # noqa: F401
from mesh.h2 import hbone
from mesh.pki import Authority
from mesh.topology import echo

SYSTEM = "istio-system"
IDENTITY = f"spiffe://cluster.local/ns/{SYSTEM}/sa/ztunnel"


def own_pod(mesh, number, account="ztunnel", **meta):
    """The Pod of a node's ztun, whose address is the node's here; nothing enrols it."""
    node = mesh.nodes[number]
    mesh.apply({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": f"ztunnel-{number}", "namespace": SYSTEM,
                     "labels": {"app": "ztunnel", "networking.istio.io/tunnel": "http"}, **meta},
        "spec": {"nodeName": node.name, "serviceAccountName": account,
                 "containers": [{"name": "istio-proxy", "image": "ztunnel"}]},
        "status": {"phase": "Running", "podIP": node.ip,
                   "conditions": [{"type": "Ready", "status": "True"}]}})


def build(mesh):
    mesh.write_namespace(SYSTEM, ambient=False)
    mesh.pod("client", 1)
    mesh.pod("other", 1)
    mesh.pod("far", 2)
    mesh.pod("plain", 2, captured=False)
    for number, node in mesh.nodes.items():
        own_pod(mesh, number)
        node.env = {"POD_NAME": f"ztunnel-{number}", "POD_NAMESPACE": SYSTEM,
                    "SERVICE_ACCOUNT": "ztunnel"}
    mesh.vips["stats"] = mesh.service("stats", port=80, target=15020, ns=SYSTEM,
                                      selector={"app": "ztunnel"})


mesh = module_mesh(build)


@pytest.fixture(scope="module")
def authority(mesh):
    made = Authority(mesh.ca)
    yield made
    made.close()


def scrape(mesh, where, to, path="/metrics"):
    """(status, body); OSError when the connection is refused."""
    conn = http.client.HTTPConnection(to[0], timeout=5)
    conn.sock = mesh.connect(where, to)
    with contextlib.closing(conn):
        conn.request("GET", path, headers={"Connection": "close"})
        response = conn.getresponse()
        return response.status, response.read().decode()


def own_state(node):
    return [pod for pod in json.loads(node.get("/status")[1])["pods"] if pod["name"].startswith("ztunnel")]


@pytest.mark.main
@pytest.mark.parametrize("source", ["client", "far"], ids=["same node", "other node"])
def test_hbone_metrics_access(mesh, source):
    """A scrape of a captured pod goes through a tunnel that ends at ztun, as itself."""
    node, pod = mesh.nodes[1], mesh.pods[source]
    mark, since = node.mark(), node.since()
    status, body = scrape(mesh, source, (node.ip, 15020))
    assert status == 200 and "# TYPE istio_tcp_connections_opened_total" in body
    line = node.access(mark, direction="inbound")[0]
    assert line["message"] == "connection complete" and "error" not in line, line
    assert (line["src.workload"], line["dst.workload"]) == (source, "ztunnel-1")
    assert line["src.addr"].startswith(pod.ip + ":")
    assert line["dst.addr"] == f"{node.ip}:15008"
    assert line["dst.hbone_addr"] == f"{node.ip}:15020"
    assert line["dst.namespace"] == SYSTEM
    assert (line["src.identity"], line["dst.identity"]) == (pod.identity, IDENTITY)
    assert line["bytes_sent"] > len(body) > line["bytes_recv"] > 0
    labels = {"reporter": "destination", "source_workload": source,
              "destination_workload": "ztunnel-1", "destination_principal": IDENTITY,
              "connection_security_policy": "mutual_tls"}
    wait_until(lambda: since("istio_tcp_connections_closed_total", **labels) == 1, 3)
    assert since("istio_tcp_connections_opened_total", **labels) == 1


def test_it_is_no_captured_pod(mesh):
    """It is shown, and not counted among the pods; its namespace has no rules and no other port."""
    for number, node in mesh.nodes.items():
        pod = own_state(node)[0]
        assert (pod["name"], pod["state"]) == (f"ztunnel-{number}", "Up"), pod
        assert pod["netns"] == "/proc/self/ns/net" and pod["identity"] == IDENTITY
        n_pods = sum(1 for pod in mesh.pods.values() if pod.node == number and pod.name != "plain")
        assert node.metric("workload_manager_active_proxy_count") == n_pods
        assert b"ztun" not in mesh.run(node.name, "nft", "list", "ruleset").stdout
        ports = mesh.run(node.name, "ss", "-Hltn").stdout.decode()
        assert ":15008" in ports and ":15001" not in ports and ":15006" not in ports


@pytest.mark.main
def test_what_tunnels_reach(mesh, authority):
    """Metrics and readiness, by address and by the name of a service; nothing else of the node."""
    node = mesh.nodes[1]
    peer = authority.issue("spiffe://cluster.local/ns/demo/sa/client")
    with mesh.serve("node1", 9000, echo) as stranger:
        h2 = hbone(mesh, "plain", (node.ip, 15008), peer)

        def ask(authority):
            return h2.status(h2.connect(authority))

        assert ask(f"{node.ip}:15020") == ask(f"{node.ip}:15021") == "200"
        assert ask(f"stats.{SYSTEM}.svc.cluster.local:80") == "200"
        for port in (9000, 22, 15000, 15001, 15006, 15008, 15080):
            assert ask(f"{node.ip}:{port}") == "503", port
        for where in ("127.0.0.1:15000", "127.0.0.1:15020", f"{mesh.nodes[2].ip}:15020"):
            assert ask(where) == "400", where
        h2.close()
        assert not stranger.conns


def test_by_its_service(mesh):
    mark = mesh.nodes[1].mark()
    assert scrape(mesh, "client", (mesh.vips["stats"], 80))[0] == 200
    assert mesh.nodes[1].access(mark, direction="outbound")[0]["dst.service"].startswith("stats.")


@pytest.mark.main
def test_policy_of_ztun(mesh):
    """Policy and PeerAuthentication of its workload count for tunnels to it."""
    node = mesh.nodes[1]
    try:
        mesh.settle(lambda: mesh.policy("scrape", "DENY", [
            {"from": [{"source": {"principals": ["cluster.local/ns/demo/sa/client"]}}],
             "to": [{"operation": {"ports": ["15020"]}}]}], {"app": "ztunnel"}, ns=SYSTEM))
        mark = node.mark()
        mesh.fails("client", (node.ip, 15020))
        line = node.access(mark, direction="inbound")[0]
        assert f"{SYSTEM}/scrape" in line["error"] and line["dst.workload"] == "ztunnel-1", line
        assert scrape(mesh, "other", (node.ip, 15020))[0] == 200
        assert scrape(mesh, "client", (node.ip, 15021), "/healthz/ready")[0] == 200
        mesh.settle(lambda: mesh.peer_authentication("strict", "STRICT", ns=SYSTEM))
        assert scrape(mesh, "other", (node.ip, 15020))[0] == 200
    finally:
        mesh.delete("AuthorizationPolicy", "scrape", SYSTEM)
        with contextlib.suppress(FileNotFoundError):
            mesh.delete("PeerAuthentication", "strict", SYSTEM)
    wait_until(lambda: scrape(mesh, "client", (node.ip, 15020))[0] == 200, 5)


def test_its_pod_comes_and_goes(mesh):
    """Readiness is about the pods of the node: it does not wait for ztun's own."""
    node = mesh.nodes[2]

    def listens():
        return ":15008" in mesh.run(node.name, "ss", "-Hltn").stdout.decode()

    mark = node.mark()
    mesh.settle(lambda: own_pod(mesh, 2, account="somebody"))
    wait_until(lambda: not listens(), 3)
    assert node.get("/healthz/ready", 15021)[0] == 200
    line = wait_until(lambda: node.log(mark, message="own pod is not served"), 2)[0]
    assert "service account" in line["reason"]
    mesh.settle(lambda: mesh.delete("Pod", "ztunnel-2", SYSTEM))
    assert not listens() and node.get("/healthz/ready", 15021)[0] == 200
    assert scrape(mesh, "client", (node.ip, 15020))[0] == 200, "as before, without a tunnel"
    mesh.settle(lambda: own_pod(mesh, 2))
    wait_until(listens, 3)
    assert scrape(mesh, "client", (node.ip, 15020))[0] == 200


def test_its_port_is_taken(make_mesh):
    """Somebody else has port 15008: told, tried again, and no reason not to be ready."""
    mesh = make_mesh(build, start=False)
    node = mesh.nodes[1]
    with contextlib.closing(mesh.listen("node1", 15008)):
        node.start()
        pod = wait_until(lambda: own_state(node)[0], 3)
        assert pod["state"] == "Pending" and "15008" in pod["reason"], pod
        assert node.metric("workload_manager_pending_proxy_count") == 0
        stays(lambda: node.get("/healthz/ready", 15021)[0] == 200, 0.3)
    wait_until(lambda: own_state(node)[0]["state"] == "Up", 8)
    assert scrape(mesh, "client", (node.ip, 15020))[0] == 200


def test_second_ztun_and_new_certificates(make_mesh):
    """A rolling update while it is scraped, with certificates of 4 seconds: every scrape meets one
    of both, though the metrics port changes hands once."""
    mesh = make_mesh(build, "--drain=2s", "--secret-ttl=4s")
    node = mesh.nodes[1]
    first, first_log, mark = node.process, node.log_path, node.mark()
    second_log = node.log_path.with_suffix(".second.log")
    node.log_path = second_log
    node.start("--drain=2s", "--secret-ttl=4s", wait=False)
    mesh.extra.append(first)
    wait_until(lambda: len(node.log(message="pod is served")) == 3, 10)
    first.send_signal(signal.SIGTERM)
    start, failed_at = time.monotonic(), []
    while time.monotonic() < start + 3:
        try:
            assert scrape(mesh, "far", (node.ip, 15020))[0] == 200
        except OSError:
            failed_at.append(time.monotonic() - start)
        time.sleep(0.02)
    assert first.wait(5) == 0
    node.wait_ready()
    errors = []
    for path, since in ((first_log, mark), (second_log, 0)):
        node.log_path = path
        errors += [line["error"] for line in node.log(since, level="error")]
    assert len(errors) == len(failed_at), (errors, failed_at)
    assert all("Connection refused" in error for error in errors), errors
    assert not failed_at or failed_at[-1] < 2, failed_at
    assert node.log(message="certificate issued", identity=IDENTITY)[1:], "renewed"
    assert node.access(direction="inbound", dst__workload="ztunnel-1")


def test_no_pod_of_its_own(make_mesh):
    """Without the three names there is no such port."""
    def without(mesh):
        build(mesh)
        del mesh.nodes[1].env["SERVICE_ACCOUNT"]

    mesh = make_mesh(without)
    with pytest.raises(ConnectionRefusedError), \
            contextlib.closing(mesh.connect("plain", (mesh.nodes[1].ip, 15008))):
        pass
    assert not own_state(mesh.nodes[1])
