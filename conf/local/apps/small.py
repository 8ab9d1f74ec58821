#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Small sample services.

    small.py hello-server             "Hello server - v1"
    small.py bff                      GET /: asks recommendation-service, passes its answer on
    small.py recommendation-service   pages that differ by VERSION
    small.py product                  GET /: asks order-history, and says where both run
    small.py order-history
    small.py blue-green               a page in the colour of VERSION
    small.py clock                    the JSON of worldclockapi.com/api/json/cet/now
    small.py httpbin                  /get, /headers, /status/N, /delay/S, /ip

Environment: VERSION (v1), PORT; NEXT_URL: whom bff and product call; ZONE, the node's zone.
"""

import datetime
import os
import sys

from service import asyncio, call, log, pod_name, run, text, web

VERSION = os.environ.get("VERSION", "v1")
ZONE = os.environ.get("ZONE") or os.environ.get("NODE_NAME") or "unknown"
COLOURS = {"v1": "blue", "v2": "green"}


async def hello(_request):
    return text(f"Hello server - {VERSION}\n")


def page(title, body, colour):
    return web.Response(content_type="text/html", text=f"""<!DOCTYPE html>
<html><head><title>{title}</title></head>
<body style="background: {colour}">
<h1>{title}</h1>
<p>{body}</p>
</body></html>
""")


async def recommendations(_request):
    kind = "best sellers of the week" if VERSION == "v1" else "picked for you"
    return page(f"Recommendations {VERSION}", kind, "white" if VERSION == "v1" else "gold")


async def blue_green(_request):
    colour = os.environ.get("COLOR") or COLOURS.get(VERSION, "grey")
    return page(f"The {colour} version", f"{VERSION} on {pod_name()}", colour)


def frontend(name, default_url, is_html):
    url = os.environ.get("NEXT_URL", default_url)

    async def handle(request):
        try:
            status, body = await call(request, url)
        except (OSError, asyncio.TimeoutError) as error:
            return text(f"{name}: {url}: {error}\n", 503)
        if status >= 400:
            return text(body, status)
        if is_html:
            return web.Response(text=body, content_type="text/html")
        return text(f"{name} {VERSION} in {ZONE} ({pod_name()}) => {body}")
    return handle


async def order_history(_request):
    return text(f"order-history {VERSION} in {ZONE} ({pod_name()})\n")


async def clock(_request):
    now = datetime.datetime.now(datetime.timezone(datetime.timedelta(hours=1)))
    return web.json_response({"$id": "1", "currentDateTime": now.isoformat(timespec="minutes"),
                              "utcOffset": "01:00:00", "isDayLightSavingsTime": False,
                              "dayOfTheWeek": now.strftime("%A"), "timeZoneName": "CET",
                              "serviceResponse": None})


async def bin_get(request):
    return web.json_response({"args": dict(request.query), "headers": dict(request.headers),
                              "origin": request.remote, "url": str(request.url)})


async def bin_headers(request):
    return web.json_response({"headers": dict(request.headers)})


async def bin_ip(request):
    return web.json_response({"origin": request.remote})


async def bin_status(request):
    return web.Response(status=int(request.match_info["code"]))


async def bin_delay(request):
    await asyncio.sleep(min(float(request.match_info["seconds"]), 10))
    return await bin_get(request)


SERVICES = {
    "hello-server": [web.get("/", hello)],
    "bff": [web.get("/", frontend("bff", "http://recommendation-service:8080", True))],
    "recommendation-service": [web.get("/", recommendations)],
    "product": [web.get("/", frontend("product", "http://order-history:8080", False))],
    "order-history": [web.get("/", order_history)],
    "blue-green": [web.get("/", blue_green)],
    "clock": [web.get("/api/json/cet/now", clock)],
    "httpbin": [web.get("/get", bin_get), web.get("/headers", bin_headers), web.get("/ip", bin_ip),
                web.route("*", r"/status/{code:[2-5]\d\d}", bin_status),
                web.get(r"/delay/{seconds:\d+(?:\.\d+)?}", bin_delay)],
}


def main():
    name = sys.argv[1] if len(sys.argv) == 2 else ""
    if name not in SERVICES:
        sys.exit(__doc__)
    log(f"{name} {VERSION}")
    run(*SERVICES[name])


if __name__ == "__main__":
    main()
