# SPDX-License-Identifier: Apache-2.0
"""Pods with IPv6 alone, and with both families, as in a cluster: handed over by istio-cni's agent, with
workloads and certificates from an istiod that has an IPv6 address."""

import socket

import pytest
from mesh import dns
from mesh.cni import Agent, redirect
from mesh.fixtures import shown  # noqa: F401
from mesh.topology import Mesh, echo, who
from mesh.xds import ADDRESS, POLICY, Discovery, deny_port, service, workload

SIX, DUAL = "demo/six.demo.svc.cluster.local", "demo/dual.demo.svc.cluster.local"
VIPS = {"six": ["fd96::6"], "dual": ["10.96.8.1", "fd96::8"]}
PODS = {"client6": (6,), "client": (4, 6), "server6": (6,), "server": (4, 6)}


@pytest.fixture(scope="module")
def mesh():
    made = Mesh(1)
    istiod = made.istiod = Discovery(made, where="node1", address="[fd77::1]")
    agent = Agent(made.dir / "zds.sock")
    try:
        node = made.nodes[1]
        pods = [made.pod(name, 1, families=families, annotations={"ztun.io/netns": ""})
                for name, families in PODS.items()]
        for pod in pods:
            redirect(made, pod)
        services = {"server6": {SIX: {80: 8080}}, "server": {DUAL: {80: 8080}}}
        istiod.set(ADDRESS, *(workload(p, services.get(p.name, {})) for p in pods),
                   *(service(name, vips, {80: 8080}) for name, vips in VIPS.items()))
        node.source_args, node.ca_args = istiod.xds_args, istiod.args
        node.args = ["--inpod-uds", agent.path]
        node.env = {"INSTANCE_IP": "fd77::1"}
        istiod.start()
        node.start(wait=False)
        agent.conn = agent.snapshot(pods)
        node.wait_ready()
        yield made
        made.gauges_are_zero()
    finally:
        agent.close()
        bad = made.stop()
        istiod.stop()
    assert not bad, "\n".join(bad)


FLOWS = {  # name: (from, to, by)
    "six-to-six-by-service": ("client6", "server6", VIPS["six"][0], 80),
    "six-to-six-by-pod": ("client6", "server6", None, 8080),
    "six-to-dual-by-service": ("client6", "server", VIPS["dual"][1], 80),
    "dual-to-six-by-service": ("client", "server6", VIPS["six"][0], 80),
    "dual-to-dual-by-4": ("client", "server", VIPS["dual"][0], 80),
    "dual-to-dual-by-6": ("client", "server", VIPS["dual"][1], 80),
}


@pytest.mark.main
@pytest.mark.parametrize("name", FLOWS)
def test_flows(mesh, name):
    """In tunnels of the family that was called, from the client's own address."""
    source, target, vip, port = FLOWS[name]
    to = (vip or mesh.pods[target].v6, port)
    node, client = mesh.nodes[1], mesh.pods[source]
    mark = node.mark()
    with mesh.serve(target, 8080, who, address="::"):
        seen = mesh.ask(source, to).decode()
    assert seen == (client.v6 if ":" in to[0] else client.v4)
    line = node.access(mark, direction="inbound")[0]
    assert line["src.identity"] == client.identity
    assert line["dst.identity"] == mesh.pods[target].identity
    assert (":" in to[0]) == line["dst.hbone_addr"].startswith("[")
    line = node.access(mark, direction="outbound")[0]
    assert line["dst.workload"] == target


def test_node(mesh):
    """Who istiod is told that we are."""
    stream = mesh.istiod.connected(1)[0]
    assert stream.asks[0].node[1].decode().startswith("ztunnel~fd77::1~")
    assert stream.asks[0].metadata["INSTANCE_IPS"] == "fd77::1"


def test_policy(mesh):
    """DENY of a port counts for plain text over IPv6, too."""
    to = (mesh.pods["server6"].v6, 8080)
    with mesh.serve("server6", 8080, echo, address="::"):
        assert mesh.ask("node1", to) == b"hello world"  # nobody of the mesh: plain text
        mesh.istiod.set(POLICY, deny_port("no", 8080))
        mesh.fails("node1", to)
        mesh.fails("client6", (VIPS["six"][0], 80))
        mesh.istiod.remove(POLICY, "demo/no")
        assert mesh.ask("node1", to) == b"hello world"


@pytest.mark.parametrize("where, server", [("client6", "::1"), ("client", "::1"),
                                           ("client", "127.0.0.1")])
def test_dns(mesh, where, server):
    """At both loopback addresses, where the pod has them."""
    for name, vips in VIPS.items():
        for kind, is_v6 in ((dns.A, False), (dns.AAAA, True)):
            answer = ask(mesh, where, server, f"{name}.demo.svc.cluster.local", kind)
            assert answer.rcode == dns.NOERROR
            assert [r[3] for r in answer.records] == [v for v in vips if (":" in v) == is_v6]


def ask(mesh, where, server, name, kind):
    """Straight at the proxy: these rules capture no DNS."""
    packet = dns.query(name, kind)
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with mesh.socket(where, family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.sendto(packet, (server, 15053))
        return dns.parse(sock.recv(65535))
