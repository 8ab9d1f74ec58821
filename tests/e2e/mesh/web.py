# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 servers in the test itself, for Mesh.serve and LabNet.serve."""


def read_until(conn, end, data=b""):
    while end not in data:
        more = conn.recv(65536)
        if not more:
            return data
        data += more
    return data


def answering(text):
    """A handler of one request, answered with text(conn, fields); names of fields in lower case."""

    def handle(conn):
        head, end, _ = read_until(conn, b"\r\n\r\n").decode("latin-1").partition("\r\n\r\n")
        if not end:
            return
        lines = (line.partition(":") for line in head.split("\r\n")[1:])
        body = text(conn, {name.lower(): value.strip() for name, _, value in lines}).encode()
        conn.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
                     % (len(body), body))

    return handle
