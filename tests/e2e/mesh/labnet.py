# SPDX-License-Identifier: Apache-2.0
"""Sockets of the test itself in the pods of a lab (lablib.Lab).

    net = LabNet(lab, "m")                        # names without a namespace are those of "m"
    with net.serve("server", 8080, echo):
        assert net.ask("client", (lab.vip("server", "m"), 80)) == b"hello world"
"""

import socket
from pathlib import Path

from mesh.netns import entered
from mesh.topology import Server, read_all


class LabNet:
    def __init__(self, lab, ns):
        self.lab, self.ns, self.paths = lab, ns, {}

    def path(self, where):
        if where not in self.paths:
            ns, _, name = where.rpartition("/")
            pod = self.lab.pod(name, ns or self.ns)
            self.paths[where] = Path("/run/netns") / pod["netns"]
        return self.paths[where]

    def inside(self, where):
        return entered(self.path(where))

    def connect(self, where, to, timeout=5):
        with self.inside(where):
            conn = socket.socket(socket.AF_INET6 if ":" in to[0] else socket.AF_INET)
        try:
            conn.settimeout(timeout)
            conn.connect(to)
        except OSError:
            conn.close()
            raise
        return conn

    def listen(self, where, port):
        with self.inside(where):
            listener = socket.socket(socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", port))
        listener.listen(1024)
        return listener

    def serve(self, where, port, handler=None):
        return Server(self.listen(where, port), handler)

    def ask(self, where, to, data=b"hello world", timeout=5):
        """Connects, sends, ends its side, reads until the end of the other."""
        with self.connect(where, to, timeout) as conn:
            conn.sendall(data)
            conn.shutdown(socket.SHUT_WR)
            return read_all(conn)

    def fails(self, where, to, data=b"hello world", timeout=5):
        """Asserts that a connection is refused, or ended without an answer; gives the error."""
        try:
            got = self.ask(where, to, data, timeout)
        except socket.timeout:
            raise AssertionError(f"{where} to {to}: hangs") from None
        except OSError as e:
            return e
        assert got == b"", f"{where} to {to}: answered {got[:100]!r}"
        return None
