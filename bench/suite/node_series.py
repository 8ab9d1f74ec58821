# SPDX-License-Identifier: Apache-2.0
"""Client and server on one node: direct, two bare relays in the pods, one ztun for both pods, one
ztunnel for both pods. The proxies prefer AES-256-GCM, as ztunnel does."""

from . import series, topo
from .procs import Proc, wait_listening
from .series import BULK_PORT, REQ_PORT, Series, Ztun, mesh_objects


class NodeSeries(Series):
    def __init__(self, name, pods, req, bulk, halves=((), ())):
        super().__init__(name, pods[0], req, bulk, halves)
        self.server_ns = pods[1]


class PodPlace:
    """Relays in the two pods of one node, as the proxies' sockets are."""

    def __init__(self):
        self.ns = topo.NODE_PODS["plain"]
        self.near_ip = self.app_ip = "127.0.0.1"
        self.far_ip = topo.POD_IP[self.ns[1]]


def direct():
    pods = topo.NODE_PODS["plain"]
    ip = topo.POD_IP[pods[1]]
    return NodeSeries("direct-node", pods, f"{ip}:{REQ_PORT}", f"{ip}:{BULK_PORT}")


def relay(tools, log_dir):
    made = series.hops("relay-node", PodPlace(), 7180,
                       lambda _, a, b: [tools / "relay_probe", a, b, 1], log_dir)
    return NodeSeries("relay-node", topo.NODE_PODS["plain"], made.req, made.bulk, made.halves)


def bpf(tools, log_dir):
    """An experiment: both pods' sockets joined by a BPF program, without a tunnel or a cipher."""
    client, server = topo.NODE_PODS["plain"]
    procs, ports = [], (7190, 7191)
    for port, app_port in zip(ports, (REQ_PORT, BULK_PORT)):
        procs.append(Proc(f"bpf-node-{app_port}",
                          [tools / "bpf_relay", f"127.0.0.1:{port}", f"127.0.0.1:{app_port}",
                           f"/run/netns/{server}"], client, log_dir))
        wait_listening(client, port, procs)
    made = NodeSeries("bpf-node", (client, server), *(f"127.0.0.1:{port}" for port in ports),
                      halves=[procs, []])
    made.note = "an experiment; its work is in no process, so its CPU figure says nothing"
    return made


def node_objects(_tunnel_pods=((), ())):
    """The mesh of the two pods of one node; the other objects are those of two nodes."""
    made = [o for o in mesh_objects() if o["kind"] not in ("Pod", "Service")]
    for netns, name in zip(topo.NODE_PODS["ztun"], ("client", "server")):
        made.append(series.pod_object(netns, name, "node1", name))
    made.append(series.service_object("server", topo.NODE_SERVICE_IP))
    return made


class NodeZtun(Ztun):
    """One ztun for both pods."""

    objects = staticmethod(node_objects)

    def start(self, *extra, on_first=None):
        self.stop()
        self.started_with = ["--workers=1", *self.options, *extra]
        proc = self.start_half("node1", topo.NODE1)
        if on_first:
            on_first(proc)
        self.series = NodeSeries("ztun-node", topo.NODE_PODS["ztun"], f"{topo.NODE_SERVICE_IP}:80",
                                 f"{topo.NODE_SERVICE_IP}:81", [[proc], []])
        return self.series
