# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the Kubernetes API as those see it who read and write single objects: versions and
their conflicts, the status subresource, merge patches, server-side apply of labels.

    api = Objects(mesh, "node1", "10.77.0.1", 8001)
    api.put(doc); api.get("Service", "web", "demo")
    api.rule = lambda method, path: 503     # an answer in place of the usual one; None: none
"""

import contextlib
import copy
import itertools
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

PLURALS = {"GatewayClass": "gatewayclasses", "ServiceEntry": "serviceentries",
           "AuthorizationPolicy": "authorizationpolicies"}


def path_of(doc):
    api = doc["apiVersion"]
    ns = doc["metadata"].get("namespace")
    root = f"/apis/{api}" if "/" in api else f"/api/{api}"
    plural = PLURALS.get(doc["kind"], doc["kind"].lower() + "s")
    return f"{root}/namespaces/{ns}/{plural}" if ns else f"{root}/{plural}"


def merge(into, patch):
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


class Failure(Exception):
    def __init__(self, code, reason):
        super().__init__(reason)
        self.code = code
        self.status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                       "reason": reason, "message": f"{reason} it is"}


class Objects:
    def __init__(self, mesh, where, address, port):
        self.mesh, self.where, self.address, self.port = mesh, where, address, port
        self.objects, self.versions = {}, itertools.count(100)
        self.lock, self.rule, self.server = threading.RLock(), None, None
        self.writes = []  # (method, path) of those that succeeded
        self.asked = []  # (monotonic s, method, path) of all
        self.conns = []

    @property
    def url(self):
        return f"http://{self.address}:{self.port}"

    # For tests

    def put(self, doc):
        """Creates or replaces, as a user does: the status stays, the generation grows."""
        with self.lock:
            path = f"{path_of(doc)}/{doc['metadata']['name']}"
            old, doc = self.objects.get(path), copy.deepcopy(doc)
            meta = doc["metadata"]
            meta["uid"] = f"uid-{meta['name']}"
            meta["generation"] = old["metadata"]["generation"] + 1 if old else 1
            if old and "status" in old:
                doc["status"] = old["status"]
            self.keep(path, doc)

    def keep(self, path, doc):
        doc["metadata"]["resourceVersion"] = str(next(self.versions))
        self.objects[path] = doc
        return doc

    def find(self, kind, name, ns=None):
        with self.lock:
            for path, doc in self.objects.items():
                meta = doc["metadata"]
                if doc["kind"] == kind and meta["name"] == name and meta.get("namespace") == ns:
                    return path, copy.deepcopy(doc)
        return None, None

    def get(self, kind, name, ns=None):
        return self.find(kind, name, ns)[1]

    def all(self, kind):
        with self.lock:
            return [copy.deepcopy(d) for d in self.objects.values() if d["kind"] == kind]

    def change(self, kind, name, ns, change):
        """As another controller does: change(doc)."""
        with self.lock:
            path, doc = self.find(kind, name, ns)
            change(doc)
            self.keep(path, doc)

    # Requests

    def check_version(self, old, body):
        version = body.get("metadata", {}).get("resourceVersion")
        if version is not None and version != old["metadata"]["resourceVersion"]:
            raise Failure(409, "Conflict")

    def create(self, path, body):
        path = f"{path}/{body['metadata']['name']}"
        if path in self.objects:
            raise Failure(409, "AlreadyExists")
        return self.keep(path, body)

    def apply(self, path, body, manager):
        """Of labels alone."""
        doc = copy.deepcopy(self.objects[path])
        meta = doc["metadata"]
        entries = meta.setdefault("managedFields", [])
        mine = next((e for e in entries if e["manager"] == manager), None)
        had = mine["fieldsV1"]["f:metadata"]["f:labels"] if mine else {}
        labels = meta.setdefault("labels", {})
        wanted = body["metadata"]["labels"]
        for key, value in wanted.items():
            if key in labels and labels[key] != value and f"f:{key}" not in had:
                raise Failure(409, "Conflict")
            labels[key] = value
        for key in had:
            if key[2:] not in wanted:
                labels.pop(key[2:], None)
        if mine:
            entries.remove(mine)
        if wanted:
            entries.append({"manager": manager, "operation": "Apply", "fieldsV1": {
                "f:metadata": {"f:labels": {f"f:{k}": {} for k in wanted}}}})
        return self.keep(path, doc)

    def write(self, method, url, body, kind):
        path, is_status = url.path, url.path.endswith("/status")
        if is_status:
            path = path.removesuffix("/status")
        if method == "POST":
            return self.create(path, body)
        if path not in self.objects:
            raise Failure(404, "NotFound")
        old = self.objects[path]
        self.check_version(old, body)
        if kind == "application/apply-patch+yaml":
            return self.apply(path, body, parse_qs(url.query)["fieldManager"][0])
        if method == "PUT":
            return self.keep(path, body)
        assert kind == "application/merge-patch+json" and is_status, (method, path, kind)
        doc = copy.deepcopy(old)
        merge(doc, {"status": body["status"]})
        return self.keep(path, doc)

    def serve(self, method, target, body, kind):
        url = urlparse(target)
        with self.lock:
            self.asked.append((time.monotonic(), method, url.path))
            code = self.rule(method, url.path) if self.rule else None
            if code:
                raise Failure(code, "Test")
            if method == "GET":
                if url.path not in self.objects:
                    raise Failure(404, "NotFound")
                return self.objects[url.path]
            done = self.write(method, url, json.loads(body), kind)
            self.writes.append((method, url.path))
            return done

    def start(self):
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                api.conns.append(self.connection)

            def handle_one(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                try:
                    code, doc = 200, api.serve(self.command, self.path, body,
                                               self.headers.get("content-type"))
                except Failure as failure:
                    code, doc = failure.code, failure.status
                data = json.dumps(doc).encode()
                self.send_response(code)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_PATCH = handle_one

            def log_message(self, *_):
                pass

        with self.mesh.inside(self.where):
            self.server = ThreadingHTTPServer((self.address, self.port), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True,
                         kwargs={"poll_interval": 0.05}).start()
        return self

    def stop(self):
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None
        for conn in self.conns:
            with contextlib.suppress(OSError):
                conn.shutdown(socket.SHUT_RDWR)
        self.conns.clear()
