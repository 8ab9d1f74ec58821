# SPDX-License-Identifier: Apache-2.0
"""What the sample services have in common: one HTTP server, one client, headers that are passed on.

A service is a list of aiohttp routes. SIGTERM stops accepting and lets running requests finish.
"""

import asyncio
import errno
import os
import socket
import sys

import aiohttp
from aiohttp import web

# Every service of a request copies these, so that a trace stays one trace and rules can tell users.
PASSED_ON = {"x-request-id", "x-ot-span-context", "b3", "traceparent", "tracestate", "baggage",
             "x-client-trace-id", "x-envoy-force-trace", "x-cloud-trace-context",
             "grpc-trace-bin", "end-user"}
PASSED_ON_PREFIXES = ("x-b3-", "baggage-")
SESSION = web.AppKey("session") if hasattr(web, "AppKey") else "session"


def pod_name():
    return os.environ.get("HOSTNAME") or socket.gethostname()


def log(text):
    print(text, file=sys.stderr, flush=True)


def passed_on(request, **more):
    """The headers of `request` that its calls carry, and those of `more` that have a value."""
    headers = {name: value for name, value in request.headers.items()
               if name.lower() in PASSED_ON or name.lower().startswith(PASSED_ON_PREFIXES)}
    headers.update((name.replace("_", "-"), value) for name, value in more.items() if value)
    return headers


def reason(error):
    """Why there was no answer, in the system's words: whatever a reset met, connect, write or read."""
    if not isinstance(error, aiohttp.ClientOSError):
        return str(error)
    number = error.errno
    if number in (None, errno.EPIPE):  # it was closed when the request was to be written
        number = errno.ECONNRESET
    return os.strerror(number) if number > 0 else str(error.strerror)  # below 0: names


async def call(request, url, timeout=60.0, **more):
    """GET. Returns (status, body); OSError and asyncio.TimeoutError when there was no answer."""
    session = request.app[SESSION]
    limit = aiohttp.ClientTimeout(total=timeout)
    for is_last in (False, True):
        try:
            async with session.get(url, headers=passed_on(request, **more), timeout=limit) as answer:
                return answer.status, await answer.text()
        except aiohttp.ServerDisconnectedError as error:
            # A kept connection may have been closed when the request was on its way.
            if is_last:
                raise OSError("Unexpected end of file from server") from error
        except aiohttp.ClientError as error:
            raise OSError(reason(error)) from error


def text(body, status=200):
    return web.Response(text=body, status=status)


async def health(_request):
    return web.json_response({"status": "UP"})


async def with_session(app):
    # getaddrinfo each time, as resolvers of other languages: answers of cluster DNS may change.
    connector = aiohttp.TCPConnector(limit=0, use_dns_cache=False)
    # curl, browsers and Java name themselves; whoever gave a name is passed on explicitly.
    async with aiohttp.ClientSession(connector=connector) as session:
        app[SESSION] = session
        yield


def run(*routes, port=None):
    """Serves until SIGTERM; the environment's PORT goes before `port`."""
    app = web.Application()
    app.cleanup_ctx.append(with_session)
    app.add_routes(routes)
    app.add_routes([web.get(path, health) for path in
                    ("/health", "/health/live", "/health/ready", "/healthz")])
    port = int(os.environ.get("PORT", port or 8080))
    web.run_app(app, port=port, access_log=None, backlog=1024, shutdown_timeout=20,
                print=lambda *_: log(f"{pod_name()} listens on {port}"))


__all__ = ["asyncio", "call", "log", "passed_on", "pod_name", "run", "text", "web"]
