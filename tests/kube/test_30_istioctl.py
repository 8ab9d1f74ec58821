# SPDX-License-Identifier: Apache-2.0
"""What operators look with: istioctl reads the proxy's admin pages."""

import json

from kubelib import SYSTEM, get, istioctl, policy, proxy_pods, wait_until
from test_20_policy import applied


def ask(node, what, *args):
    return istioctl("ztunnel-config", what, "--node", node, "-i", SYSTEM, *args)


def ask_json(node, what):
    return json.loads(ask(node, what, "-o", "json"))


def rows(text):
    """A table of istioctl, as a list of {heading: value}; headings have no spaces here."""
    head, *lines = [line for line in text.splitlines() if line.strip()]
    return [dict(zip(head.split(), line.split())) for line in lines]


def test_workload(world):
    found = {(row["NAMESPACE"], row["POD"]): row for row in rows(
        ask(world.client.node, "workload").replace("POD NAME", "POD"))}
    ns = world.mesh.name
    assert found[ns, "far"]["PROTOCOL"] == "HBONE"
    assert found[ns, "far"]["ADDRESS"] == world.far.ip
    assert found[ns, "far"]["NODE"] == world.far.node
    assert found[world.plain.name, "outside"]["PROTOCOL"] == "TCP"
    detail = {(w["namespace"], w["name"]): w for w in ask_json(world.client.node, "workload")}
    far = detail[ns, "far"]
    assert far["serviceAccount"] == "far" and far["workloadIps"] == [world.far.ip]
    assert far["status"] == "Healthy" and far["clusterId"] == "Kubernetes"
    assert (far["workloadName"], far["workloadType"].lower()) == ("far", "pod")
    assert far["uid"].endswith(f"/{ns}/far") and far["canonicalName"] == "far"


def test_service(world):
    ns = world.mesh.name
    found = {(s["namespace"], s["name"]): s for s in ask_json(world.client.node, "service")}
    vip = get("service/server", ns)["spec"]["clusterIP"]
    server = found[ns, "server"]
    assert server["hostname"] == f"server.{ns}.svc.cluster.local"
    assert [address.split("/")[-1] for address in server["vips"]] == [vip]
    assert set(server["ports"]) == {"8080", "9000"}
    assert len(server["endpoints"]) == 2
    assert any(row["NAMESPACE"] == ns and vip in row.values() and "2/2" in row.values()
               for row in rows(ask(world.client.node, "service")))


def test_policy(world):
    made = policy("seen", world.mesh.name, {"rules": [
        {"from": [{"source": {"namespaces": [world.mesh.name]}}],
         "to": [{"operation": {"ports": ["8080", "9000"]}}]}]})
    with applied("authorizationpolicy", made):
        def look():
            return [p for p in ask_json(world.client.node, "policy") if p["name"] == "seen"]
        found, = wait_until(look)
        assert found["action"] == "Allow" and found["scope"] == "Namespace"
        match = found["rules"][0]
        assert any(m.get("namespaces") == [{"Exact": world.mesh.name}]
                   for clause in match for m in clause)
        assert any(m.get("destinationPorts") == [8080, 9000] for clause in match for m in clause)
    wait_until(lambda: not look())


def test_certificate(world):
    name = f"spiffe://cluster.local/ns/{world.mesh.name}/sa/far"
    found = {c["identity"]: c for c in ask_json(world.far.node, "certificate")}
    assert found[name]["state"] == "Available"
    assert len(found[name]["certChain"]) >= 1 and len(found[name]["rootCerts"]) >= 1
    assert not any(world.plain.name in key for key in found)
    assert any(name in line and "true" in line and "Available" in line
               for line in ask(world.far.node, "certificate").splitlines())


def test_connections(world):
    world.client.begin("seen", "tcp://far:9000", "echo")
    try:
        def look(node, name, side):
            return [flow for pod in ask_json(node, "connections")
                    if (pod["info"]["namespace"], pod["info"]["name"]) == (world.mesh.name, name)
                    for flow in pod["connections"][side] or []]
        flow = wait_until(lambda: [f for f in look(world.client.node, "client", "outbound")
                                   if f["originalDst"].endswith(":9000")])[0]
        assert flow["src"].startswith(world.client.ip) and flow["protocol"] == "HBONE"
        assert flow["actualDst"] in (f"{world.far.ip}:15008", f"{world.far.ip}:9000")
        assert any(f["protocol"] == "HBONE" and f["src"].startswith(world.client.ip)
                   for f in look(world.far.node, "far", "inbound"))
        table = ask(world.client.node, "connections")
        assert any(line.startswith(f"client.{world.mesh.name}") and "Outbound" in line
                   for line in table.splitlines())
    finally:
        world.client.end("seen")


def test_all_and_log(world):
    node = world.client.node
    assert "far" in ask(node, "all")
    name = proxy_pods(node)[0]["metadata"]["name"]
    before = istioctl("ztunnel-config", "log", f"{name}.{SYSTEM}")
    assert "debug" in istioctl("ztunnel-config", "log", f"{name}.{SYSTEM}", "--level",
                               "debug")
    assert "info" in istioctl("ztunnel-config", "log", f"{name}.{SYSTEM}", "--reset")
    assert "info" in before


def test_proxy_status(world):
    """istiod's view: each proxy is connected, and has acknowledged what it was sent."""
    names = [p["metadata"]["name"] for p in proxy_pods()]

    def look():
        lines = istioctl("proxy-status", "-i", SYSTEM).splitlines()
        found = [next((line for line in lines if line.startswith(f"{name}.{SYSTEM}")), "")
                 for name in names]
        return all(found) and found
    assert len(wait_until(look, 60)) == len(names)
