# SPDX-License-Identifier: Apache-2.0
"""Between a client and a server: connections that are cut in the middle, in one direction counted in
bytes."""

import contextlib
import socket
import struct
import threading


class Relay:
    """Listens at `port` of `where`, passes on to (address, to). `cuts`: after how many bytes of the
    server's each of the next connections is reset; none are cut when it is empty."""

    def __init__(self, mesh, where, address, port, to):
        self.mesh, self.where, self.to = mesh, where, (address, to)
        self.cuts, self.n_cut, self.lock = [], 0, threading.Lock()
        self.listener = mesh.listen(where, port, address)
        self.is_closed = False
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while not self.is_closed:
            with contextlib.suppress(OSError):
                conn, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def serve(self, conn):
        try:
            server = self.mesh.connect(self.where, self.to)
        except OSError:
            conn.close()
            return
        with self.lock:
            left = self.cuts.pop(0) if self.cuts else None
        server.settimeout(None)
        for sock in (conn, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=self.upstream, args=(conn, server), daemon=True).start()
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16 if left is None else min(left, 1 << 16)):
                conn.sendall(data)
                left = None if left is None else left - len(data)
                if left == 0:
                    with self.lock:
                        self.n_cut += 1
                    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    break
        for sock in (conn, server):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RD)
            sock.close()

    def upstream(self, conn, server):
        with contextlib.suppress(OSError):
            while data := conn.recv(1 << 16):
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def close(self):
        self.is_closed = True
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
