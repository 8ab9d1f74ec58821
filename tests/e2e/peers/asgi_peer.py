# SPDX-License-Identifier: Apache-2.0
"""An ASGI application for hypercorn, a server of HTTP/2 with WebSockets in it (RFC 8441):

    python3 -m hypercorn -b 0.0.0.0:8080 asgi_peer:app
"""

import json


async def websocket(scope, receive, send):
    await receive()
    if scope["path"] == "/refuse":
        await send({"type": "websocket.close"})
        return
    offered = scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": offered[0] if offered else None})
    while True:
        event = await receive()
        if event["type"] != "websocket.receive":
            return
        if event.get("text") == "scope":
            text = json.dumps({"version": scope["http_version"], "path": scope["path"], "fields": [
                [k.decode(), v.decode()] for k, v in scope["headers"]]})
            await send({"type": "websocket.send", "text": text})
        elif event.get("text") is not None:
            await send({"type": "websocket.send", "text": event["text"]})
        else:
            await send({"type": "websocket.send", "bytes": event["bytes"]})


async def http(scope, receive, send):
    body = b""
    while True:
        event = await receive()
        body += event.get("body", b"")
        if not event.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body",
                "body": f"HTTP/{scope['http_version']} {len(body)}".encode()})


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await websocket(scope, receive, send)
    elif scope["type"] == "http":
        await http(scope, receive, send)
