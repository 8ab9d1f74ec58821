# SPDX-License-Identifier: Apache-2.0
"""A server and a client of gRPC, both grpcio's. Messages are bytes: no code is generated.

    grpc_peer.py serve PORT

    from grpc_peer import channel, unary, ...     # in a client

What a call is to do it says in its metadata:
    fail: CODE [TEXT]       ends with that status before any message (trailers only)
    fail-late: CODE         the same after the messages
    fail-first: KEY N CODE  as `fail`, for the first N calls of that key
    delay: SECONDS          waits before the answer
"""

import sys
import threading
import time
from concurrent import futures

import grpc

SERVICE = "test.Echo"
OPTIONS = [("grpc.max_receive_message_length", 64 << 20),
           ("grpc.max_send_message_length", 64 << 20)]
LONG = [("grpc.enable_retries", 0), ("grpc.max_metadata_size", 64 << 10)]


def code_of(number):
    return next(c for c in grpc.StatusCode if c.value[0] == int(number))


# The server

seen, lock = {}, threading.Lock()
active = 0


def obey(context):
    said = dict(context.invocation_metadata())
    if "delay" in said:
        time.sleep(float(said["delay"]))
    if "fail-first" in said:
        key, n, code = said["fail-first"].split()
        with lock:
            seen[key] = seen.get(key, 0) + 1
            is_failing = seen[key] <= int(n)
        if is_failing:
            context.abort(code_of(code), f"try {seen[key]}")
    if "fail" in said:
        code, _, text = said["fail"].partition(" ")
        context.abort(code_of(code), text)
    context.set_trailing_metadata([("attempt", said.get("x-envoy-attempt-count", "")),
                                   ("left", str(context.time_remaining() or -1))])
    return said


def finish(context, said):
    if "fail-late" in said:
        context.abort(code_of(said["fail-late"]), "late")


def unary(request, context):
    """Echo; `active`: how many calls of Down run."""
    finish(context, obey(context))
    return b"%d" % active if request == b"active" else request


def down(request, context):
    """`N SIZE`: N messages of that size; 0: until the call is cancelled."""
    global active
    said = obey(context)
    n, size = map(int, request.split())
    i = 0
    active += 1
    context.add_callback(ended)
    while (n == 0 or i < n) and context.is_active():
        yield b"%08d" % i + b"x" * (size - 8)
        i += 1
        if n == 0:
            time.sleep(0.05)
    finish(context, said)


def ended():
    global active
    active -= 1


def up(requests, context):
    said = obey(context)
    n = size = 0
    for message in requests:
        n, size = n + 1, size + len(message)
    finish(context, said)
    return b"%d %d" % (n, size)


def both(requests, context):
    said = obey(context)
    for message in requests:
        yield message
    finish(context, said)


def serve(port):
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=64), options=OPTIONS)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Down": grpc.unary_stream_rpc_method_handler(down),
        "Up": grpc.stream_unary_rpc_method_handler(up),
        "Both": grpc.stream_stream_rpc_method_handler(both)})])
    server.add_insecure_port(f"0.0.0.0:{port}")
    server.start()
    server.wait_for_termination()


# A client


class Client:
    def __init__(self, to):
        self.channel = grpc.insecure_channel(to, options=OPTIONS + LONG)
        path = f"/{SERVICE}/"
        self.unary = self.channel.unary_unary(path + "Unary")
        self.down = self.channel.unary_stream(path + "Down")
        self.up = self.channel.stream_unary(path + "Up")
        self.both = self.channel.stream_stream(path + "Both")


def error_of(call):
    """(status, details) of a call that fails; (0, "") if it does not."""
    try:
        out = call()
        if hasattr(out, "__iter__") and not isinstance(out, bytes):
            for _ in out:
                pass
    except grpc.RpcError as error:
        return error.code().value[0], error.details()
    return 0, ""


if __name__ == "__main__":
    serve(int(sys.argv[2]))
