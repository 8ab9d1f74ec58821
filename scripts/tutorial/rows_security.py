# SPDX-License-Identifier: Apache-2.0
"""The rows of istio-tutorial about who may talk to whom, and what is on the wire."""

import contextlib
import re
import signal
import time
import types

from row import Failed, row
from rows import C, OK

A, M = C + "access/", C + "mtls/"
# The reset may come before curl has seen that it is connected, or before it has sent all.
RESET = r"curl: \((56|55)\) .*(reset by peer|Broken pipe)|curl: \(7\) Failed to connect .*"
IO_ERROR = 'Error: I/O error on GET request for "http://{}:8080": Connection reset by peer'
CAPTURE = ["-n", "-l", "--immediate-mode", "-X",
           "(tcp port 8080 or tcp port 15008) and tcp[tcpflags] & (tcp-push | tcp-rst) != 0"]
TLS_RECORDS = (b"\x14\x03\x03", b"\x16\x03\x01", b"\x16\x03\x03", b"\x17\x03\x03")


def ask(r, who, host, wanted):
    """One request: what curl shows matches."""
    out = r.run("exec", *who, "--", "curl", "-sS", f"http://{host}/", check=False).strip()
    r.check(f"{host.split(':')[0]}: {out}", re.fullmatch(wanted, out))


@row("access-control", "access: no waypoint; deny-all.yaml, then one allow-... after the other; undo",
     "refused connections, as curl and customer show them; customer => preference => "
     "recommendation works when all are allowed, by identity, and only on this path", quick=True)
def access_control(r):
    client = ["-n", r.ns, "client"]
    hosts = [f"{name}:8080" for name in ("customer", "preference", "recommendation")]
    works = OK[1:-1]
    r.run("label", "namespace", r.ns, "istio.io/use-waypoint-")
    time.sleep(2)  # a connection by way of the waypoint would be kept for a while
    ask(r, client, hosts[0], works)
    r.apply(A + "deny-all.yaml")
    ask(r, client, hosts[0], RESET)
    r.apply(A + "allow-customer.yaml")
    ask(r, client, hosts[0], re.escape("customer => " + IO_ERROR.format("preference")))
    r.apply(A + "allow-preference.yaml")
    ask(r, client, hosts[0], re.escape("customer => Error: 503 - preference => " +
                                       IO_ERROR.format("recommendation")))
    r.apply(A + "allow-recommendation.yaml")
    ask(r, client, hosts[0], works)
    for host in hosts[1:]:
        ask(r, client, host, RESET)
    log = "".join(r.node_log(node, show=2, grep="denied by policy") for node in r.nodes)
    for who in ("client", "customer", "preference"):
        r.check(f"{who}'s refusal is in ztun's log",
                re.search(f'src.workload="{who}[^\n]* direction="inbound"', log))
    for name in ("deny-all", "allow-customer", "allow-preference", "allow-recommendation"):
        r.run("delete", "-f", f"{A}{name}.yaml")
    r.settle()
    for host in hosts:
        ask(r, client, host, f"({works}|{works[works.index('recommendation'):]}|preference => .*)")


@row("access-waypoint", "access: deny-all.yaml, then waypoint.yaml",
     "503 from the waypoint, which is refused; then only customer may call preference, and only "
     "preference recommendation")
def access_waypoint(r):
    client = ["-n", r.ns, "client"]
    r.apply(A + "deny-all.yaml")
    ask(r, client, "customer:8080", "upstream connect error or disconnect/reset before headers. "
        ".*transport failure reason: the peer answered status 401")
    r.apply(A + "waypoint.yaml")
    ask(r, client, "customer:8080", OK[1:-1])
    for host in ("preference:8080", "recommendation:8080"):
        ask(r, client, host, RESET)
    log = r.log("deployment/waypoint", show=2, grep="denied by policy")
    refused = set(re.findall(r'dst\.service="(\w+)', log))
    r.check(f"refusals in the waypoint's log: {sorted(refused)}",
            refused == {"preference", "recommendation"})
    r.run("delete", "-f", A + "waypoint.yaml")
    r.run("delete", "-f", A + "deny-all.yaml")
    r.settle()
    ask(r, client, "recommendation:8080", "recommendation v.*")


def read_packets(text):
    """What `tcpdump -X` printed: (source, destination, payload) of packets that have one."""
    packets = []
    for part in re.split(r"(?m)^(?=\d\d:\d\d:\d\d\.\d+ IP )", text):
        found = re.match(r"\S+ IP ([\d.]+)\.(\d+) > ([\d.]+)\.(\d+):", part)
        rows = re.findall(r"(?m)^\s+0x[0-9a-f]{4}:  ((?:[0-9a-f]{2,4} )+)", part)
        data = bytes.fromhex("".join(rows).replace(" ", ""))
        if not found or len(data) < 40:
            continue
        tcp = (data[0] & 15) * 4
        payload = data[tcp + (data[tcp + 12] >> 4) * 4:int.from_bytes(data[2:4], "big")]
        if payload:
            packets.append((found.group(1), int(found.group(4)), payload))
    return packets


@contextlib.contextmanager
def wire(r, node):
    """tcpdump on the node's side of the wire while the block runs; the packets are there after it."""
    seen = types.SimpleNamespace(packets=[])
    with r.tcpdump(node, CAPTURE) as process:
        try:
            for line in process.stdout:
                if line.startswith("listening on"):
                    break
            yield seen
            time.sleep(r.patience)  # the last packets are on their way to tcpdump
        finally:
            process.send_signal(signal.SIGTERM)
            out = process.communicate(timeout=25)[0]
    lines = out.splitlines()
    print("\n".join(lines[:40]) + f"\n... {max(0, len(lines) - 40)} lines more\n", flush=True)
    seen.packets = read_packets(out)


@row("mtls", "mtls: a client outside of the mesh; permissive.yaml, strict.yaml, disable.yaml; tcpdump",
     "the plain client works, is refused, works, in clear text; the mesh is TLS all the time")
def mtls(r):
    r.apply(M + "outside.yaml")
    r.wait_ready()
    where = r.run("get", "pods", "-A", "-o", "wide")
    near, far = map(re.escape, r.nodes)
    plain = re.search(rf"(?m)^outside .*?(\d+\.\d+\.\d+\.\d+) +{near}\s", where)
    if not plain or not re.search(rf"(?m)^tutorial +customer.* {far}\s", where):
        raise Failed(f"the plain client has to be on {near}, customer on {far}")
    url = "http://customer.tutorial:8080/"
    for mode in ("permissive", "strict", "disable"):
        r.apply(f"{M}{mode}.yaml")
        with wire(r, r.nodes[1]) as seen:
            out = r.run("exec", "-n", "outside", "plain", "--", "curl", "-sS", url,
                        check=False).strip()
        sent = [data for source, port, data in seen.packets
                if source == plain.group(1) and port == 8080]
        r.check(f"{mode}, plain: {out}",
                re.fullmatch(RESET if mode == "strict" else OK[1:-1], out))
        r.check(f"{len(sent)} packets in clear text", (sent or mode == "strict") and
                all(data.startswith(b"GET / HTTP/1.1") for data in sent))
        with wire(r, r.nodes[1]) as seen:
            out = r.run("exec", "-n", r.ns, "client", "--", "curl", "-sS", url, check=False).strip()
        r.check(f"{mode}, mesh: {out}", re.fullmatch(OK[1:-1], out))
        to_mesh = [data for _, port, data in seen.packets if port == 15008]
        others = [data for _, port, data in seen.packets if port == 8080 or b"GET /" in data]
        r.check(f"{len(to_mesh)} packets of TLS, {len(others)} others",
                any(data.startswith(TLS_RECORDS) for data in to_mesh) and not others)
