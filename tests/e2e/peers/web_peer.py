# SPDX-License-Identifier: Apache-2.0
"""A web server of aiohttp: what a browser's, an API's and a bot's requests ask of a proxy.

    web_peer.py PORT

    GET  /headers       the request's method, target, version and fields, as JSON
    *    /status/N      that status, no body
    *    /echo          the body back, piece by piece, as it comes (chunked)
    *    /count         reads the body, answers its length
    GET  /bytes/N       N bytes, as fast as they are taken
    GET  /chunks/N      N pieces, 20 ms apart (chunked)
    GET  /events        server-sent events: `ready`, then one whenever something is POSTed to it
    *    /early         413 without a look at the body, and the connection ends
    *    /refuse        417 to Expect: 100-continue (elsewhere it is granted)
    GET  /cut           a chunked answer that breaks off
    GET  /hold          an answer that comes never
    GET  /hints         103 before the answer
    GET  /ws            WebSocket: echoes; `close N` is answered by closing with that code
"""

import asyncio
import json
import sys

from aiohttp import WSMsgType, web

PIECE = bytes(range(256)) * 256
queues = set()


async def headers(request):
    return web.Response(text=json.dumps({
        "method": request.method, "path": request.raw_path, "version": list(request.version),
        "fields": [[k.decode().lower(), v.decode("latin-1")] for k, v in request.raw_headers]}))


async def status(request):
    return web.Response(status=int(request.match_info["n"]),
                        headers={"etag": '"x"', "x-kept": "yes"})


async def echo(request):
    out = web.StreamResponse()
    out.enable_chunked_encoding()
    await out.prepare(request)
    async for piece in request.content.iter_any():
        await out.write(piece)
    await out.write_eof()
    return out


async def count(request):
    n = 0
    async for piece in request.content.iter_any():
        n += len(piece)
    return web.Response(text=str(n))


async def many(request):
    left = int(request.match_info["n"])
    out = web.StreamResponse(headers={"content-length": str(left)})
    await out.prepare(request)
    while left > 0:
        await out.write(PIECE[:left])
        left -= min(left, len(PIECE))
    return out


async def chunks(request):
    out = web.StreamResponse()
    out.enable_chunked_encoding()
    await out.prepare(request)
    for i in range(int(request.match_info["n"])):
        await out.write(b"piece %d\n" % i)
        await asyncio.sleep(0.02)
    await out.write_eof()
    return out


async def events(request):
    out = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await out.prepare(request)
    queue = asyncio.Queue()
    queues.add(queue)
    try:
        await out.write(b"event: ready\ndata:\n\n")
        while True:
            await out.write(b"data: %s\n\n" % await queue.get())
    finally:
        queues.discard(queue)


async def publish(request):
    text = await request.read()
    for queue in queues:
        queue.put_nowait(text)
    return web.Response(text=str(len(queues)))


async def early(request):
    out = web.Response(status=413, text="too much")
    out.force_close()
    return out


async def refuse(_request):
    raise web.HTTPExpectationFailed(text="no")


async def cut(request):
    out = web.StreamResponse()
    out.enable_chunked_encoding()
    await out.prepare(request)
    await out.write(b"the beginning")
    await asyncio.sleep(0.05)
    request.transport.abort()
    return out


async def hold(_request):
    await asyncio.sleep(3600)


async def hints(request):
    request.transport.write(b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n")
    return web.Response(text="hinted")


async def websocket(request):
    out = web.WebSocketResponse(protocols=("chat",), max_msg_size=64 << 20)
    await out.prepare(request)
    async for message in out:
        if message.type == WSMsgType.TEXT and message.data.startswith("close "):
            await out.close(code=int(message.data[6:]), message=b"as asked")
        elif message.type == WSMsgType.TEXT:
            await out.send_str(message.data)
        elif message.type == WSMsgType.BINARY:
            await out.send_bytes(message.data)
    return out


def main(port):
    app = web.Application(client_max_size=1 << 30)
    app.router.add_get("/headers", headers)
    app.router.add_get("/events", events)
    app.router.add_post("/events", publish)
    app.router.add_get("/ws", websocket)
    app.router.add_route("*", "/refuse", count, expect_handler=refuse)
    for path, handler in (("/status/{n}", status), ("/echo", echo), ("/count", count),
                          ("/bytes/{n}", many), ("/chunks/{n}", chunks), ("/early", early),
                          ("/cut", cut), ("/hold", hold), ("/hints", hints)):
        app.router.add_route("*", path, handler)
    web.run_app(app, host="0.0.0.0", port=port, print=None, access_log=None)


main(int(sys.argv[1]))
