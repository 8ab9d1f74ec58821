# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the Kubernetes API: lists in pages, watches, and the ways in which both go wrong.

    api = KubeApi(path)             # path/account has token, ca.crt and namespace
    api.put(doc); api.delete("Pod", "web", "demo")
    api.start("10.77.0.2", socket)  # TLS, HTTP/1.1
    with api.fault(status=500, plural="pods"): ...
    api.cut("pods")                 # the watches, by a reset

Resource versions are one count for all, as in etcd. Items of Kubernetes' own lists have no kind.
"""

import asyncio
import contextlib
import json
import ssl
import threading
from pathlib import Path

from aiohttp import web
from lablib import wait_until

from mesh.pki import Authority

PLURALS = {"EndpointSlice": "endpointslices", "ServiceEntry": "serviceentries",
           "WorkloadEntry": "workloadentries", "GatewayClass": "gatewayclasses",
           "AuthorizationPolicy": "authorizationpolicies", "Telemetry": "telemetries"}


def plural_of(kind):
    return PLURALS.get(kind, kind.lower() + "s")


def dump(event, doc):
    return json.dumps({"type": event, "object": doc}).encode() + b"\n"


def failure(code, reason, message):
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
            "reason": reason, "message": message}


class Asked:
    """A request that came."""

    def __init__(self, request, plural, ns):
        self.plural, self.ns, self.query = plural, ns, dict(request.query)
        self.is_watch = self.query.get("watch") in ("1", "true")
        self.token = request.headers.get("authorization", "").removeprefix("Bearer ")
        self.transport = request.transport
        self.queue = asyncio.Queue()  # of a watch: bytes, or None for its end

    def wants(self, doc):
        meta = doc["metadata"]
        selector = self.query.get("fieldSelector", "")
        name = selector.removeprefix("metadata.name=") if selector else None
        return self.ns in (None, meta.get("namespace")) and name in (None, meta["name"])


class Fault:
    """What happens instead, `times` times (None: for as long as it is there)."""

    def __init__(self, plural, ns, watch, times, answer):
        self.plural, self.ns, self.watch = plural, ns, watch
        self.times, self.answer, self.n = times, answer, 0

    def fits(self, asked):
        return (self.plural in (None, asked.plural) and self.ns in (None, asked.ns)
                and self.watch in (None, asked.is_watch)
                and (self.times is None or self.n < self.times))


class KubeApi:
    def __init__(self, path):
        self.account = Path(path) / "account"
        self.account.mkdir(parents=True)
        self.lock = threading.RLock()
        self.version = 100
        self.objects = {}  # {plural: {(ns, name): doc}}
        self.history = []  # (version, plural, event, doc)
        self.oldest = 0  # versions before it are forgotten
        self.page_oldest = 0  # so are pages
        self.absent, self.faults, self.asked, self.watches = set(), [], [], []
        self.tokens = {"token-1"}
        self.authority = None
        self.renew_token("token-1")
        self.renew_authority()
        (self.account / "namespace").write_text("demo\n")
        self.loop = asyncio.new_event_loop()
        self.thread = self.runner = self.address = self.port = None

    # Credentials

    def write(self, name, text):
        temporary = self.account / f".{name}"
        temporary.write_text(text)
        temporary.rename(self.account / name)

    def renew_token(self, token):
        self.tokens = {token}
        self.write("token", token + "\n")

    def renew_authority(self):
        if self.authority is not None:
            self.authority.close()
        self.authority = Authority()

    def publish_authority(self):
        self.write("ca.crt", self.authority.root.read_text())

    # Objects

    def put(self, doc):
        doc = json.loads(json.dumps(doc))
        plural, meta = plural_of(doc["kind"]), doc["metadata"]
        with self.lock:
            self.version += 1
            meta["resourceVersion"] = str(self.version)
            meta["managedFields"] = [{"manager": "test", "fieldsV1": {"f:spec": {}}}]
            key = meta.get("namespace"), meta["name"]
            have = self.objects.setdefault(plural, {})
            event = "MODIFIED" if key in have else "ADDED"
            have[key] = doc
            self.tell(plural, event, doc)
        return doc

    def delete(self, kind, name, ns=None):
        plural = plural_of(kind)
        with self.lock:
            doc = dict(self.objects[plural].pop((ns, name)))
            self.version += 1
            doc["metadata"] = {**doc["metadata"], "resourceVersion": str(self.version)}
            self.tell(plural, "DELETED", doc)

    def tell(self, plural, event, doc):
        self.history.append((self.version, plural, event, doc))
        for asked in self.watches:
            if asked.plural == plural and asked.wants(doc):
                self.post(asked, dump(event, doc))

    def post(self, asked, data):
        self.loop.call_soon_threadsafe(asked.queue.put_nowait, data)

    def watching(self, plural, ns=None, timeout=10):
        """The watch that there is to be, at last."""
        return wait_until(lambda: next((w for w in reversed(self.watches) if w.plural == plural
                                        and ns in (None, w.ns)), None),
                          timeout, f"a watch of {plural}")

    def say(self, plural, *data, ns=None):
        """Bytes to a watch; None: it ends in order."""
        asked = self.watching(plural, ns)
        for one in data:
            self.post(asked, one)
        return asked

    def bookmark(self, plural, ns=None):
        with self.lock:
            self.version += 1
            self.say(plural, dump("BOOKMARK", {"kind": "X", "apiVersion": "v1", "metadata": {
                "resourceVersion": str(self.version)}}), ns=ns)
            return str(self.version)

    def forget(self):
        """Versions before now are too old for those who come."""
        with self.lock:
            self.version += 1
            self.oldest = self.version
            self.history.clear()

    def cut(self, plural=None, ns=None):
        with self.lock:
            watches = [w for w in self.watches
                       if plural in (None, w.plural) and ns in (None, w.ns)]
        for asked in watches:
            self.loop.call_soon_threadsafe(asked.transport.abort)
        wait_until(lambda: not set(watches) & set(self.watches), 10, "the watches are cut")

    # Faults

    @contextlib.contextmanager
    def fault(self, status, plural=None, ns=None, watch=None, times=None, headers=None, data=b"",
              reason=""):
        """`status` with `data`, or a Status of that reason."""
        async def answer(_):
            body = data or json.dumps(failure(status, reason, "as the test has it")).encode()
            return web.Response(status=status, headers=headers, body=body)

        fault = Fault(plural, ns, watch, times, answer)
        with self.lock:
            self.faults.append(fault)
        try:
            yield fault
        finally:
            with self.lock:
                self.faults.remove(fault)

    def count(self, plural, watch=None):
        with self.lock:
            return sum(a.plural == plural and watch in (None, a.is_watch) for a in self.asked)

    # Answers

    async def handle(self, request):
        parts = request.path.strip("/").split("/")
        parts = parts[2:] if parts[0] == "api" else parts[3:]
        ns = parts[1] if parts[0] == "namespaces" and len(parts) > 2 else None
        plural = parts[-1]
        asked = Asked(request, plural, ns)
        with self.lock:
            self.asked.append(asked)
            fault = next((f for f in self.faults if f.fits(asked)), None)
            if fault:
                fault.n += 1
            is_known = asked.token in self.tokens
        if fault:
            return await fault.answer(request)
        if not is_known:
            return web.json_response(failure(401, "Unauthorized", "Unauthorized"), status=401)
        if plural in self.absent:
            return web.Response(status=404, text="404 page not found\n")
        return await (self.watch(request, asked) if asked.is_watch else self.list(asked))

    async def list(self, asked):
        with self.lock:
            docs = [d for _, d in sorted(self.objects.get(asked.plural, {}).items(), key=str)
                    if asked.wants(d)]
            meta = {"resourceVersion": str(self.version)}
            first, limit = 0, int(asked.query.get("limit", 0))
            if "continue" in asked.query:
                version, first = map(int, asked.query["continue"].split(":"))
                if version < self.page_oldest:
                    return web.json_response(failure(410, "Expired", "the page is too old"),
                                             status=410)
            if limit and len(docs) > first + limit:
                meta["continue"] = f"{self.version}:{first + limit}"
            items = docs[first:first + limit if limit else None]
        if items and "/" not in items[0]["apiVersion"]:
            items = [{k: v for k, v in d.items() if k not in ("kind", "apiVersion")} for d in items]
        return web.json_response({"kind": "XList", "apiVersion": "v1", "metadata": meta,
                                  "items": items})

    async def next(self, asked):
        while not asked.transport.is_closing():
            with contextlib.suppress(asyncio.TimeoutError):
                return await asyncio.wait_for(asked.queue.get(), 0.05)
        raise ConnectionError

    async def watch(self, request, asked):
        response = web.StreamResponse(headers={"content-type": "application/json"})
        response.enable_chunked_encoding()
        known = int(asked.query["resourceVersion"])
        with self.lock:
            if known < self.oldest:
                asked.queue.put_nowait(dump("ERROR", failure(410, "Expired", "too old")))
                asked.queue.put_nowait(None)
            for version, plural, event, doc in self.history:
                if version > known and plural == asked.plural and asked.wants(doc):
                    asked.queue.put_nowait(dump(event, doc))
            self.watches.append(asked)
        try:
            await response.prepare(request)
            while (data := await self.next(asked)) is not None:
                await response.write(data)
            await response.write_eof()
        except ConnectionError:
            pass
        finally:
            with self.lock:
                self.watches.remove(asked)
        return response

    # Life

    def start(self, address, listener):
        """Serves on a socket that listens."""
        credentials = self.authority.issue(None, sans=f"IP:{address}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(credentials.cert, credentials.key)
        self.address, self.port = address, listener.getsockname()[1]

        async def begin():
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", self.handle)
            self.runner = web.AppRunner(app)
            await self.runner.setup()
            await web.SockSite(self.runner, listener, shutdown_timeout=0.1,
                               ssl_context=context).start()

        if self.thread is None:
            self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
            self.thread.start()
        asyncio.run_coroutine_threadsafe(begin(), self.loop).result(20)

    def pause(self):
        """Nothing listens, and all connections end."""
        self.cut()
        asyncio.run_coroutine_threadsafe(self.runner.cleanup(), self.loop).result(20)

    def stop(self):
        if self.thread is not None:
            self.pause()
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(10)
        self.authority.close()

    @property
    def args(self):
        return ["--kube", f"https://{self.address}:{self.port}", "--kube-account", self.account]
