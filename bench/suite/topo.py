# SPDX-License-Identifier: Apache-2.0
"""The network of the bench: two nodes on a bridge, pods behind them, all of them namespaces.

             zb-bridge (10.99.0.0/24)
              /                    \\
        zb-node1 (.1)          zb-node2 (.2)
        /        \\              /         \\
   zb-client  zb-mclient   zb-server   zb-mserver
   10.98.1.2  10.98.1.3    10.98.2.2   10.98.2.3
   zb-proxy   zb-peer
   10.98.1.4  10.98.1.5

Every pod hangs on its node by a veth pair and is routed, so that a byte crosses the same links in
every series. The pods of the mesh (m) are others than those of the direct path and of the peers,
because capture takes everything that a pod sends. Where both pods are on one node there are pairs
of pods on node 1 besides: zb-nc and zb-ns without a mesh, zb-uc and zb-us of ztun, zb-zc and zb-zs
of ztunnel; each of these two has its own namespace for its own ports. The proxies of HTTP have a pod each: the waypoint
(zb-proxy), and the peer (zb-peer). Nothing is made in the machine's own network
namespace.
"""

import os
import subprocess

PREFIX = "zb-"
BRIDGE, NODE1, NODE2 = "zb-bridge", "zb-node1", "zb-node2"
CLIENT, SERVER, MESH_CLIENT, MESH_SERVER = "zb-client", "zb-server", "zb-mclient", "zb-mserver"
PROXY, PEER = "zb-proxy", "zb-peer"
# Client and server on one node.
NODE_PODS = {"plain": ("zb-nc", "zb-ns"), "ztun": ("zb-uc", "zb-us"), "ztunnel": ("zb-zc", "zb-zs")}
ZTUNNEL_NS = "zb-ztunnel"
NODE_IP = {NODE1: "10.99.0.1", NODE2: "10.99.0.2"}
POD_IP = {CLIENT: "10.98.1.2", MESH_CLIENT: "10.98.1.3",
          PROXY: "10.98.1.4", PEER: "10.98.1.5",
          SERVER: "10.98.2.2", MESH_SERVER: "10.98.2.3",
          **{pod: f"10.98.1.{20 + i}" for i, pod in enumerate(sum(NODE_PODS.values(), ()))}}
NODE_OF = {CLIENT: NODE1, MESH_CLIENT: NODE1, PROXY: NODE1, PEER: NODE1, SERVER: NODE2,
           MESH_SERVER: NODE2, **{pod: NODE1 for pods in NODE_PODS.values() for pod in pods}}
POD_CIDR = {NODE1: "10.98.1.0/24", NODE2: "10.98.2.0/24"}
SERVICE_IP, NODE_SERVICE_IP = "10.96.0.10", "10.96.0.11"
CONGESTION = "/proc/sys/net/ipv4/tcp_congestion_control"


def ip(*args):
    subprocess.run(["ip", *args], check=True)


def sysctl(netns, **values):
    script = ";".join(f"echo '{value}' > /proc/sys/{name.replace('__', '/')}"
                      for name, value in values.items())
    subprocess.run(["ip", "netns", "exec", netns, "sh", "-ec", script], check=True)


def remove():
    """Removes every namespace with our prefix, and whatever still runs in one of them."""
    names = subprocess.run(["ip", "-o", "netns", "list"], capture_output=True, text=True,
                           check=False).stdout
    for line in names.splitlines():
        name = line.split()[0]
        if not name.startswith(PREFIX):
            continue
        pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True,
                              check=False).stdout.split()
        if pids:
            subprocess.run(["kill", "-KILL", *pids], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["ip", "netns", "delete", name], check=False)


def add_node(node):
    ip("link", "add", "eth0", "netns", node, "type", "veth", "peer", "name", node[len(PREFIX):],
       "netns", BRIDGE)
    ip("-n", BRIDGE, "link", "set", node[len(PREFIX):], "master", "br0", "up")
    ip("-n", node, "addr", "add", NODE_IP[node] + "/24", "dev", "eth0")
    ip("-n", node, "link", "set", "eth0", "up")
    for other, cidr in POD_CIDR.items():
        if other != node:
            ip("-n", node, "route", "add", cidr, "via", NODE_IP[other])


def add_pod(pod):
    node, name = NODE_OF[pod], pod[len(PREFIX):]
    gateway = POD_CIDR[node].replace(".0/24", ".1")
    ip("link", "add", "eth0", "netns", pod, "type", "veth", "peer", "name", name, "netns", node)
    ip("-n", pod, "addr", "add", POD_IP[pod] + "/32", "dev", "eth0")
    ip("-n", pod, "link", "set", "eth0", "up")
    ip("-n", pod, "route", "add", gateway, "dev", "eth0", "scope", "link")
    ip("-n", pod, "route", "add", "default", "via", gateway)
    ip("-n", node, "addr", "add", gateway + "/32", "dev", name)
    ip("-n", node, "link", "set", name, "up")
    ip("-n", node, "route", "add", POD_IP[pod] + "/32", "dev", name)


def add_tunnel_pods(n_a_side):
    """More pods, for tunnels: each pair of a client pod and a server pod has its own. Returns the
    names on both sides."""
    names = [], []
    for side, node in enumerate((NODE1, NODE2)):
        for i in range(n_a_side):
            pod = f"{PREFIX}{'cs'[side]}{i}"
            POD_IP[pod], NODE_OF[pod] = f"10.98.{side + 1}.{100 + i}", node
            add_namespace(pod)
            add_pod(pod)
            names[side].append(pod)
    return names


def add_namespace(netns):
    ip("netns", "add", netns)
    ip("-n", netns, "link", "set", "lo", "up")
    # Connections by the thousand from one address: no want of ports.
    sysctl(netns, net__ipv4__ip_local_port_range="10240 65535", net__ipv4__tcp_tw_reuse=1)
    # A kernel whose default is BBR paces with timers, which costs everyone; distributions have
    # cubic. Where a namespace may not choose that, reno, which on a wire without loss is the same.
    name = congestion_control(netns)
    if name == "bbr":
        subprocess.run(["ip", "netns", "exec", netns, "sh", "-c",
                        f"for c in cubic reno; do echo $c > {CONGESTION} && break; done"],
                       check=False, stderr=subprocess.DEVNULL)


def congestion_control(netns):
    return subprocess.run(["ip", "netns", "exec", netns, "cat", CONGESTION], capture_output=True,
                          text=True, check=True).stdout.strip()


def build():
    remove()
    for netns in (BRIDGE, NODE1, NODE2, ZTUNNEL_NS, *POD_IP):
        add_namespace(netns)
    ip("-n", BRIDGE, "link", "add", "br0", "type", "bridge")
    ip("-n", BRIDGE, "link", "set", "br0", "up")
    if os.path.exists("/proc/sys/net/bridge/bridge-nf-call-iptables"):
        # The bridge stands for a wire: no packet filter on it.
        sysctl(BRIDGE, **{f"net__bridge__bridge-nf-call-{t}tables": 0 for t in ("ip", "ip6", "arp")})
    for node in (NODE1, NODE2):
        sysctl(node, net__ipv4__ip_forward=1)
        add_node(node)
    for pod in POD_IP:
        add_pod(pod)
