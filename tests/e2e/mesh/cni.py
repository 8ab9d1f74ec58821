# SPDX-License-Identifier: Apache-2.0
"""A stand-in for istio-cni's node agent: ZDS over SOCK_SEQPACKET, step by step, well or badly, and the
redirection rules that istio-cni makes in a pod.

    agent = Agent(path)
    node.start("--inpod-uds", path, wait=False)
    conn = agent.accept()                 # until ztun has said hello
    assert conn.add(pod) == ""            # "" = yes, else the error
    assert conn.snapshot_sent() == ""
"""

import contextlib
import os
import socket
import subprocess

ADD, DEL, SNAPSHOT_SENT, KEEP = 1, 2, 3, 5


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number, data):
    """A length-delimited field."""
    data = data.encode() if isinstance(data, str) else data
    return varint(number << 3 | 2) + varint(len(data)) + data


def add_message(uid, pod, account=None):
    info = field(1, pod.name) + field(2, pod.ns) + field(3, account or pod.sa)
    return field(ADD, field(1, uid) + field(2, info))


def error_of(packet):
    """Of a WorkloadResponse{ack: Ack{error}}."""
    assert packet[:1] == b"\x0a", packet
    if packet[1:] == b"\x00":
        return ""
    at = 3 if packet[1] & 128 else 2
    assert packet[at:at + 1] == b"\x0a", packet
    at += 3 if packet[at + 1] & 128 else 2
    return packet[at:].decode()


def uid_of(pod):
    return f"zds-{pod.name}"


class Conn:
    def __init__(self, sock):
        self.sock = sock
        self.sock.settimeout(8)

    def send(self, packet, fds=()):
        socket.send_fds(self.sock, [packet], list(fds))

    def answer(self):
        """The error; None: the connection has ended."""
        packet = self.sock.recv(4096)
        return error_of(packet) if packet else None

    def ask(self, packet, fds=()):
        self.send(packet, fds)
        return self.answer()

    def add(self, pod, uid=None, account=None, wait=True):
        with open(f"/run/netns/{pod.netns}", "rb") as netns:
            self.send(add_message(uid or uid_of(pod), pod, account), [netns.fileno()])
        return self.answer() if wait else None

    def delete(self, uid):
        return self.ask(field(DEL, field(2, uid)))

    def keep(self, uid):
        return self.ask(field(KEEP, field(1, uid)))

    def snapshot_sent(self):
        return self.ask(field(SNAPSHOT_SENT, b""))

    def has_ended(self):
        with contextlib.suppress(ConnectionResetError):
            return self.sock.recv(4096) == b""
        return True

    def close(self):
        self.sock.close()


class Agent:
    def __init__(self, path):
        self.path, self.conns = str(path), []
        self.listener = None
        self.listen()

    def listen(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.settimeout(18)  # the longest pause between two attempts
        self.listener.bind(self.path)
        self.listener.listen(8)

    def accept(self):
        sock, _ = self.listener.accept()
        conn = Conn(sock)
        self.conns.append(conn)
        assert sock.recv(1024) == b"\x08\x01", "ZdsHello, version 1"
        return conn

    def snapshot(self, pods):
        """Accepts, and hands out these and no others."""
        conn = self.accept()
        for pod in pods:
            assert conn.add(pod) == ""
        assert conn.snapshot_sent() == ""
        return conn

    def stop_listening(self):
        self.listener.close()

    def close(self):
        self.listener.close()
        for conn in self.conns:
            conn.close()


# Redirection as istio-cni makes it (without DNS).

RULES = """
*mangle
-A PREROUTING -m mark --mark 0x539/0xfff -j CONNMARK --set-xmark 0x111/0xfff
-A OUTPUT -m connmark --mark 0x111/0xfff -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff
COMMIT
*nat
-A PREROUTING -s {probe} -p tcp -j ACCEPT
-A PREROUTING ! -d {loopback} -p tcp -m mark ! --mark 0x539/0xfff -m tcp ! --dport 15008 -j REDIRECT --to-ports 15006
-A OUTPUT -d {probe} -p tcp -j ACCEPT
-A OUTPUT -p tcp -m mark --mark 0x111/0xfff -j ACCEPT
-A OUTPUT ! -d {loopback} -o lo -j ACCEPT
-A OUTPUT ! -d {loopback} -p tcp -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15001
COMMIT
"""


FAMILIES = {
    4: ("iptables-nft-restore", "169.254.7.127/32", "127.0.0.1/32", "0.0.0.0/0"),
    6: ("ip6tables-nft-restore", "fd16:9254:7127:1337:ffff:ffff:ffff:ffff/128", "::1/128", "::/0"),
}


def redirect(mesh, pod):
    for number, (command, probe, loopback, everything) in FAMILIES.items():
        if number == 6 and pod.v6 is None:
            continue
        done = subprocess.run(mesh.command(pod.name, command), text=True, capture_output=True,
                              input=RULES.format(probe=probe, loopback=loopback), timeout=20)
        assert done.returncode == 0, done.stderr
        for line in ("rule add fwmark 0x111/0xfff pref 32764 lookup 100",
                     f"route add local {everything} dev lo table 100"):
            subprocess.run(mesh.command(pod.name, "ip", f"-{number}", *line.split()), check=True,
                           timeout=20)
