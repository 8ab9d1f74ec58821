#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tcp_echo.py PORT[,PORT...] PREFIX: sends each line back behind a prefix ("one hello")."""

import asyncio
import signal
import sys

LINE_MAX = 65536


async def serve(reader, writer, prefix):
    try:
        while line := await reader.readline():
            writer.write(prefix + b" " + line)
            await writer.drain()
    except (ConnectionError, ValueError, asyncio.CancelledError):
        pass  # the peer went away, or sent a line without end
    finally:
        writer.close()


async def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    prefix = sys.argv[2].encode()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    servers = [await asyncio.start_server(lambda r, w: serve(r, w, prefix), None, int(port),
                                          limit=LINE_MAX)
               for port in sys.argv[1].split(",")]
    await stop.wait()
    for server in servers:
        server.close()


if __name__ == "__main__":
    asyncio.run(main())
