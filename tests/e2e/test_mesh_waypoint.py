# SPDX-License-Identifier: Apache-2.0
"""What ztun does for services and workloads that a waypoint stands before. The waypoint here is a
pod of the mesh with a plain server: its own ztun ends the tunnels and hands on what they carry
(ztunnel's "sandwich")."""

import pytest
from mesh.fixtures import module_mesh, shown  # noqa: F401
from mesh.topology import say


def gateway(mesh, name, *, address):
    """Programmed with an address: an IP address, or a host name."""
    mesh.apply({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
                "metadata": {"name": name, "namespace": "demo",
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
