# SPDX-License-Identifier: Apache-2.0
"""A kubectl that answers from files, and keeps what it was asked. Port forwarding leads to HTTP
servers of the test."""

import http.server
import json
import os
import stat
import subprocess
import threading

from lablib import ZTUNCTL

SCRIPT = """#!/bin/sh
dir=$(dirname "$0")
printf '%s\\n' "$*" >> "$dir/calls"
key=$(printf '%s' "$*" | tr -c 'A-Za-z0-9' '_' | cut -c1-200)
if [ "$1" = port-forward ] && [ -f "$dir/answers/port_$4" ]; then
    echo "Forwarding from 127.0.0.1:$(cat "$dir/answers/port_$4") -> 15000"
    exec sleep 60
fi
[ "$1" != apply ] || cat > "$dir/applied"
if [ -f "$dir/answers/$key.err" ]; then
    cat "$dir/answers/$key.err" >&2
    exit 1
fi
[ ! -f "$dir/answers/$key.next" ] || mv "$dir/answers/$key.next" "$dir/answers/$key.now"
if [ -f "$dir/answers/$key" ]; then
    cat "$dir/answers/$key"
    [ ! -f "$dir/answers/$key.now" ] || mv "$dir/answers/$key.now" "$dir/answers/$key"
    exit 0
fi
echo "error: nothing is known of: $*" >&2
exit 1
"""


class Status(http.server.BaseHTTPRequestHandler):
    def do_GET(self):  # noqa: N802
        body = json.dumps(self.server.status).encode()
        has_page = self.path == "/status" and self.server.status is not None
        self.send_response(200 if has_page else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class FakeKubectl:
    def __init__(self, where):
        self.where = where
        self.program = where / "kubectl"
        self.servers = []
        (where / "answers").mkdir()
        self.program.write_text(SCRIPT)
        self.program.chmod(self.program.stat().st_mode | stat.S_IXUSR)

    def _file(self, asked):
        name = "".join(c if c.isalnum() and c.isascii() else "_" for c in asked)
        return self.where / "answers" / name[:200]

    def answer(self, asked, value, then=None):
        """What `kubectl ASKED` prints: a text, or a value as JSON; `then` from the second time."""
        for item, suffix in ((value, ""), (then, ".next")):
            if item is not None:
                text = item if isinstance(item, str) else json.dumps(item)
                self._file(asked).with_name(self._file(asked).name + suffix).write_text(text)

    def refuse(self, asked, text):
        self._file(asked).with_name(self._file(asked).name + ".err").write_text(text)

    def pod(self, path, status):
        """A pod, "pod/NAME", whose admin port has this /status; None: no such page."""
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Status)
        server.status = status
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.servers.append(server)
        where = self.where / "answers" / f"port_{path}"
        where.parent.mkdir(exist_ok=True)
        where.write_text(str(server.server_address[1]))

    def close(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def ctl(self, *args, code=0):
        env = dict(os.environ, PATH=f"{self.where}:{os.environ['PATH']}")
        done = subprocess.run([ZTUNCTL, *args], capture_output=True, text=True, timeout=60, env=env)
        assert done.returncode == code, done
        return done

    @property
    def calls(self):
        path = self.where / "calls"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def applied(self):
        return (self.where / "applied").read_text()
