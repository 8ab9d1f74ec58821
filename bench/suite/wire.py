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
    if len(frame) < 54 or frame[12:14] != b"\x08\x00" or frame[23] != 6:
        return b""
    ip_len = (frame[14] & 15) * 4
    tcp = 14 + ip_len
    return frame[tcp + (frame[tcp + 12] >> 4) * 4:]


def server_hello(data):
    """None unless the segment begins with a ServerHello."""
    if len(data) < 44 or data[0] != 22 or data[5] != 2 or data[11:43] == HELLO_RETRY:
        return None
    off = 44 + data[43]  # past the session id
    result = {"cipher": struct.unpack_from("!H", data, off)[0], "version": 0x0303, "group": None}
    off += 5
    while off + 6 <= len(data):
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
    while time.monotonic() < end:
        sock.settimeout(max(0.01, end - time.monotonic()))
        try:
            found = server_hello(tcp_payload(sock.recv(65536)))
        except (TimeoutError, struct.error, IndexError):
            continue
        if found:
            print(json.dumps(found), flush=True)
            return
    print("null", flush=True)


if __name__ == "__main__":
    main()
