# SPDX-License-Identifier: Apache-2.0
"""What ztun does for services and workloads that a waypoint stands before. The waypoint here is a
pod of the mesh with a plain server: its own ztun ends the tunnels and hands on what they carry
(ztunnel's "sandwich")."""

import ipaddress
import socket

import pytest
from lablib import wait_until
from mesh.fixtures import module_mesh, shown  # noqa: F401
from mesh.topology import read_all, say


OWN = "gateway.networking.k8s.io/gateway-name"


def gateway(mesh, name, *, address, binding=None):
    """Programmed with an address: an IP address, or a host name."""
    annotations = {"ambient.istio.io/waypoint-inbound-binding": binding} if binding else {}
    mesh.apply({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
                "metadata": {"name": name, "namespace": "demo", "annotations": annotations,
                             "labels": {"istio.io/waypoint-for": "all"}},
                "spec": {"gatewayClassName": "sandwich",
                         "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]},
                "status": {"addresses": [{"type": "Hostname" if "svc" in address else "IPAddress",
                                          "value": address}]}})


def bound(mesh, name, waypoint, *, service):
    """A service with one pod; the label is on one of the two."""
    label = {"istio.io/use-waypoint": waypoint}
    mesh.pod(name, 2, port=8080, labels={} if service else label)
    mesh.vips[name] = mesh.service(name)
    if service:
        path = next(mesh.config.glob(f"Service-demo-{name}.json"))
        path.write_text(path.read_text().replace('"name":', '"labels": {"istio.io/use-waypoint": '
                                                 f'"{waypoint}"}},\n"name":', 1))


def build(mesh):
    mesh.pod("client", 1)
    way = mesh.pod("way", 2, port=[80, 8080])
    mesh.service("way", ports=[{"name": "hbone", "port": 15008, "protocol": "TCP"}])
    gateway(mesh, "by-ip", address=way.ip)
    gateway(mesh, "by-name", address="way.demo.svc.cluster.local")
    for name, binding in (("proxy", "PROXY/15088"), ("plain", "NONE/15089")):
        pod = mesh.pod(f"way-{name}", 2, labels={OWN: f"by-{name}"})
        gateway(mesh, f"by-{name}", address=pod.ip, binding=binding)
        bound(mesh, f"service-{name}", f"by-{name}", service=True)
    for name, waypoint in (("ip", "by-ip"), ("name", "by-name")):
        bound(mesh, f"service-{name}", waypoint, service=True)
        bound(mesh, f"workload-{name}", waypoint, service=False)


mesh = module_mesh(build)


def goes_by_the_waypoint(mesh, to, pod, service):
    one, way = mesh.nodes[1], mesh.pods["way"]
    mark = one.mark()
    with mesh.serve("way", to[1], say("way")), mesh.serve(pod, 8080, say("pod")):
        assert mesh.ask("client", to) == b"way"
    line = one.access(mark, direction="outbound")[0]
    assert line["dst.addr"] == f"{way.ip}:15008" and line["dst.identity"] == way.identity, line
    assert line["dst.hbone_addr"] == f"{to[0]}:{to[1]}", "the authority is the original destination"
    assert line.get("dst.service") == service, line


@pytest.mark.main
def test_workload_waypoint(mesh):
    goes_by_the_waypoint(mesh, (mesh.pods["workload-ip"].ip, 8080), "workload-ip", None)


@pytest.mark.main
def test_service_waypoint(mesh):
    goes_by_the_waypoint(mesh, (mesh.vips["service-ip"], 80), "service-ip",
                         "service-ip.demo.svc.cluster.local")


def test_service_waypoint_hostname(mesh):
    goes_by_the_waypoint(mesh, (mesh.vips["service-name"], 80), "service-name",
                         "service-name.demo.svc.cluster.local")


def test_service_waypoint_workload_hostname(mesh):
    goes_by_the_waypoint(mesh, (mesh.pods["workload-name"].ip, 8080), "workload-name", None)


def test_sandwich_waypoint_plain(mesh):
    """The waypoint's ztun takes what is meant for the waypoint's services and workloads, hands it to
    the waypoint with the client's address, and judges it by the client's identity."""
    seen = []

    def who(conn):
        conn.recv(100)
        seen.append(conn.getpeername()[0].removeprefix("::ffff:"))
        conn.sendall(b"way")

    to = (mesh.vips["service-ip"], 80)
    with mesh.serve("way", 80, who):
        assert mesh.ask("client", to) == b"way"
        assert seen == [mesh.pods["client"].ip]
        mesh.settle(lambda: mesh.policy("no", "DENY", [{"from": [{"source": {"principals": [
            "cluster.local/ns/demo/sa/client"]}}]}], {"app": "way"}))
        try:
            mesh.fails("client", to)
        finally:
            mesh.settle(lambda: mesh.delete("AuthorizationPolicy", "no"))


def test_the_waypoint_calls_what_it_stands_before(mesh):
    """It goes straight there: no loop."""
    with mesh.serve("workload-ip", 8080, say("pod")):
        assert mesh.ask("way", (mesh.pods["workload-ip"].ip, 8080)) == b"pod"


def proxy_header(data):
    """The header of version 2: source, destination, TLVs, and what follows."""
    assert data[:12] == b"\r\n\r\n\0\r\nQUIT\n" and data[12:14] == b"\x21\x11", data[:20]
    end = 16 + int.from_bytes(data[14:16], "big")
    ends = [(str(ipaddress.ip_address(data[i:i + 4])), int.from_bytes(data[k:k + 2], "big"))
            for i, k in ((16, 24), (20, 26))]
    tlvs, at = {}, 28
    while at < end:
        n = int.from_bytes(data[at + 1:at + 3], "big")
        tlvs[data[at]] = data[at + 3:at + 3 + n]
        at += 3 + n
    assert at == end
    return *ends, tlvs, data[end:]


def test_sandwich_waypoint_proxy_protocol(mesh):
    """It is told who the client is and what it called, and may listen at loopback only."""
    client, got = mesh.pods["client"], []

    def way(conn):
        got.append(conn.getpeername()[0])
        got.append(read_all(conn))
        conn.sendall(b"way")

    to = (mesh.vips["service-proxy"], 80)
    with mesh.serve("way-proxy", 15088, way, address="127.0.0.1"):
        with mesh.connect("client", to) as conn:
            conn.sendall(b"request")
            conn.shutdown(socket.SHUT_WR)
            assert read_all(conn) == b"way"
    assert got[0] == "127.0.0.1"
    source, destination, tlvs, rest = proxy_header(got[1])
    assert source[0] == client.ip
    assert destination == to
    assert tlvs == {0xd0: client.identity.encode()}
    assert rest == b"request"


def test_sandwich_binding_may_change(mesh):
    """The port of the annotation; without it the waypoint has what it is called by."""
    to, way = (mesh.vips["service-plain"], 80), mesh.pods["way-plain"]
    with mesh.serve("way-plain", 15089, say("15089")), mesh.serve("way-plain", 80, say("80")):
        assert mesh.ask("client", to) == b"15089"
        gateway(mesh, "by-plain", address=way.ip)
        wait_until(lambda: mesh.ask("client", to) == b"80", 5, "the annotation went")
        gateway(mesh, "by-plain", address=way.ip, binding="SOCKS/15089")
        wait_until(lambda: "write NONE or PROXY" in str(mesh.nodes[2].get("/status")), 5, "told")
        assert mesh.ask("client", to) == b"80"
        gateway(mesh, "by-plain", address=way.ip, binding="NONE/15089")
        wait_until(lambda: mesh.ask("client", to) == b"15089", 5, "and is back")
