#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""customer => preference => recommendation: the three services of the istio-tutorial.

    istio_tutorial.py customer | preference | recommendation

    GET /          customer => preference => recommendation v1 from 'b4d9f-x7k2m': 1
    GET /misbehave, /behave   (recommendation) answers of / are 503, or 200 again

Environment: VERSION (v1) and DELAY (0, seconds) of recommendation; PREFERENCES_API_URL,
RECOMMENDATIONS_API_URL, CLOCK_URL: whom to call. v3 of recommendation asks a clock for the time.
"""

import json
import os
import re
import sys

from service import asyncio, call, log, pod_name, run, text, web

VERSION = os.environ.get("VERSION", "v1")
DELAY = float(os.environ.get("DELAY", "0"))
POD = re.sub(r"recommendation-v\d+-", "", pod_name())
CLOCK_URL = os.environ.get("CLOCK_URL", "http://worldclockapi.com/api/json/cet/now")

count = 0
is_misbehaving = False


def caller(name, url):
    """A service that passes on what the next one says; any failure behind it is a 503 of its own."""
    async def handle(request):
        # The browser's name reaches all services as baggage of the trace.
        agent = request.headers.get("User-Agent") if name == "customer" else None
        try:
            status, body = await call(request, url, baggage_user_agent=agent)
        except (OSError, asyncio.TimeoutError) as error:
            log(f"{name}: {url}: {error}")
            return text(f'{name} => Error: I/O error on GET request for "{url}": {error}\n', 503)
        if status >= 400:
            log(f"{name}: {url}: {status}")
            return text(f"{name} => Error: {status} - {body.strip()}\n", 503)
        return text(f"{name} => {body.strip()}\n")
    return handle


async def recommend(request):
    global count
    log(f"recommendation request from {POD}: {count + 1}, Host {request.host}")
    if DELAY:
        await asyncio.sleep(DELAY)
    if is_misbehaving:
        count = 0
        return text(f"recommendation misbehavior from '{POD}'\n", 503)
    count += 1
    n = count
    if VERSION != "v3":
        return text(f"recommendation {VERSION} from '{POD}': {n}\n")
    try:
        status, body = await call(request, CLOCK_URL, timeout=10)
        if status != 200:
            raise ValueError(f"{status} {body.strip()}")
        now = json.loads(body)["currentDateTime"]
    except (OSError, asyncio.TimeoutError, ValueError, KeyError) as error:
        return text(f"recommendation v3 without the time: {error}\n", 503)
    return text(f"recommendation v3 {now} from '{POD}': {n}\n")


def switch(value, code):
    async def handle(_request):
        global is_misbehaving
        is_misbehaving = value
        log(f"'misbehave' has been set to '{str(value).lower()}'")
        return text(f"Following requests to '/' will return a {code}\n")
    return handle


def main():
    name = sys.argv[1] if len(sys.argv) == 2 else ""
    if name == "customer":
        url = os.environ.get("PREFERENCES_API_URL", "http://preference:8080")
        run(web.get("/", caller(name, url)))
    elif name == "preference":
        url = os.environ.get("RECOMMENDATIONS_API_URL", "http://recommendation:8080")
        run(web.get("/", caller(name, url)))
    elif name == "recommendation":
        run(web.get("/", recommend), web.get("/misbehave", switch(True, 503)),
            web.get("/behave", switch(False, 200)))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
