# SPDX-License-Identifier: Apache-2.0
"""A WebSocket server of the package websockets, on HTTP/1.1: it echoes.

    ws_peer.py PORT
"""

import asyncio
import sys

import websockets


async def echo(conn):
    async for message in conn:
        await conn.send(message)


async def main(port):
    async with websockets.serve(echo, "0.0.0.0", port, subprotocols=["chat"], max_size=64 << 20):
        await asyncio.Future()


asyncio.run(main(int(sys.argv[1])))
