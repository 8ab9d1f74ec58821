# SPDX-License-Identifier: Apache-2.0
"""Reads the first TLS ServerHello on an interface: what was really agreed, whoever the ends are.

    python3 wire.py INTERFACE SECONDS      (in the namespace of the interface; JSON on stdout)

Cipher suite, version and key share travel in the clear in TLS 1.3.
"""

import json
import socket
import struct
import sys
import time

CIPHERS = {0x1301: "TLS_AES_128_GCM_SHA256", 0x1302: "TLS_AES_256_GCM_SHA384",
           0x1303: "TLS_CHACHA20_POLY1305_SHA256"}
GROUPS = {0x0017: "P-256", 0x0018: "P-384", 0x001d: "X25519", 0x11ec: "X25519MLKEM768"}
VERSIONS = {0x0303: "TLS 1.2", 0x0304: "TLS 1.3"}
HELLO_RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")


def tcp_payload(frame):
    """(direction of a connection, payload)."""
    if len(frame) < 54 or frame[12:14] != b"\x08\x00" or frame[23] != 6:
        return None, b""
    ip_len = (frame[14] & 15) * 4
    tcp = 14 + ip_len
    return frame[26:34] + frame[tcp:tcp + 4], frame[tcp + (frame[tcp + 12] >> 4) * 4:]


class Hellos:
    """The first record of each direction; it may come in several segments."""

    def __init__(self):
        self.parts = {}

    def add(self, direction, payload):
        """The ServerHello's fields, once it is whole; else None."""
        data = self.parts.get(direction, b"") + payload
        if len(data) < 6 or data[0] != 22 or data[5] != 2:
            return None
        self.parts[direction] = data
        if len(data) < 5 + struct.unpack_from("!H", data, 3)[0]:
            return None
        return server_hello(data)


def server_hello(data):
    """None unless the record is a ServerHello."""
    if len(data) < 44 or data[0] != 22 or data[5] != 2 or data[11:43] == HELLO_RETRY:
        return None
    off = 44 + data[43]  # past the session id
    result = {"cipher": struct.unpack_from("!H", data, off)[0], "version": 0x0303, "group": None}
    off += 5
    while off + 6 <= 5 + struct.unpack_from("!H", data, 3)[0]:
        kind, length, value = struct.unpack_from("!HHH", data, off)
        if kind == 43:
            result["version"] = value
        elif kind == 51:
            result["group"] = value
        off += 4 + length
    return {"cipher": CIPHERS.get(result["cipher"], hex(result["cipher"])),
            "version": VERSIONS.get(result["version"], hex(result["version"])),
            "group": GROUPS.get(result["group"], str(result["group"]))}


def main():
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    sock.bind((sys.argv[1], 0))
    end = time.monotonic() + float(sys.argv[2])
    print("ready", flush=True)
    hellos = Hellos()
    while time.monotonic() < end:
        sock.settimeout(max(0.01, end - time.monotonic()))
        try:
            found = hellos.add(*tcp_payload(sock.recv(65536)))
        except (TimeoutError, struct.error, IndexError):
            continue
        if found:
            print(json.dumps(found), flush=True)
            return
    print("null", flush=True)


if __name__ == "__main__":
    main()
