"""Calls the service of `grpc_server.py` through an edge with grpcio; prints a JSON line for each feature.

    grpc_client.py --ca FILE --host HOST --port PORT --tag TAG FEATURE...
"""

import argparse
import asyncio
import json
import sys

import grpc

FEATURE_MAX_S = 20
MESSAGE_LEN_MAX = 64 * 1024 * 1024


def equal(got, wanted):
    assert got == wanted, f"{got!r}, not {wanted!r}"


class Run:
    def __init__(self, channel, tag):
        self.channel, self.tag = channel, tag
        self.unary = channel.unary_unary("/test.Echo/Unary")
        self.release = channel.unary_unary("/test.Echo/Release")
        self.server_stream = channel.unary_stream("/test.Echo/ServerStream")


async def grpc_unary(run):
    call = run.unary(b"hello", metadata=(("x-own", "mine"),))
    equal(await call, b"hello")
    equal(dict(await call.initial_metadata()).get("x-first"), "one")
    last = dict(await call.trailing_metadata())
    equal((last.get("x-last"), last.get("x-octets-bin")), ("mine", b"\x00\xff"))
    equal(await call.code(), grpc.StatusCode.OK)
    large = b"x" * (4 * 1024 * 1024)
    equal(await run.unary(large) == large, True)
    equal(await run.unary(b""), b"")


async def grpc_server_stream(run):
    """The second message is made only after the first has arrived."""
    gate = f"stream-{run.tag}".encode()
    call = run.server_stream(gate)
    equal(await call.read(), b"first")
    await run.release(gate)
    rest = []
    while (message := await call.read()) is not grpc.aio.EOF:
        rest.append(message)
    equal((len(rest), rest[-1], await call.code()), (99, b"98", grpc.StatusCode.OK))


async def grpc_client_stream(run):
    async def messages():
        for _ in range(200):
            yield b"x" * 1000

    equal(await run.channel.stream_unary("/test.Echo/ClientStream")(messages()), b"200 200000")


async def grpc_both(run):
    """Each message is sent only after the answer to the one before has come."""
    call = run.channel.stream_stream("/test.Echo/Both")()
    for number in range(20):
        await call.write(f"word {number}".encode())
        equal(await call.read(), f"WORD {number}".encode())
    await call.done_writing()
    equal(await call.read(), grpc.aio.EOF)
    equal(dict(await call.trailing_metadata()).get("x-last"), "done")


async def grpc_error(run):
    """A trailers-only error, and one after a message."""
    try:
        await run.channel.unary_unary("/test.Echo/Fail")(b"")
        raise AssertionError("no error")
    except grpc.aio.AioRpcError as error:
        equal((error.code(), error.details()), (grpc.StatusCode.NOT_FOUND, "nothing here: ü 100%"))
        equal(dict(error.trailing_metadata()).get("x-last"), "why")
    call = run.channel.unary_stream("/test.Echo/FailLate")(b"")
    equal(await call.read(), b"one")
    try:
        await call.read()
        raise AssertionError("no error")
    except grpc.aio.AioRpcError as error:
        equal((error.code(), error.details()), (grpc.StatusCode.DATA_LOSS, "after one"))


async def grpc_cancel(run):
    """The service learns within a second that the caller has left; a deadline ends a call."""
    gate = f"cancel-{run.tag}".encode()
    call = run.server_stream(gate)
    equal(await call.read(), b"first")
    call.cancel()
    was = run.channel.unary_unary("/test.Echo/WasCancelled")
    for _ in range(20):
        if await was(gate) == b"yes":
            break
        await asyncio.sleep(0.05)
    equal(await was(gate), b"yes")
    call = run.server_stream(gate + b"-late", timeout=0.5)
    equal(await call.read(), b"first")
    try:
        await call.read()
        raise AssertionError("no error")
    except grpc.aio.AioRpcError as error:
        equal(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)


FEATURES = {name: value for name, value in list(globals().items()) if asyncio.iscoroutinefunction(value)}


def say(name, **more):
    print(json.dumps({"event": "done", "feature": name, **more}), flush=True)


async def main():
    parser = argparse.ArgumentParser()
    for option in ["ca", "host", "tag"]:
        parser.add_argument(f"--{option}", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("features", nargs="+")
    options = parser.parse_args()
    with open(options.ca, "rb") as ca:
        credentials = grpc.ssl_channel_credentials(ca.read())
    authority = f"{options.host}:{options.port}"
    settings = [
        ("grpc.ssl_target_name_override", options.host),
        ("grpc.default_authority", authority),
        ("grpc.max_receive_message_length", MESSAGE_LEN_MAX),
    ]
    async with grpc.aio.secure_channel(f"127.0.0.1:{options.port}", credentials, settings) as channel:
        run = Run(channel, options.tag)
        for name in options.features:
            try:
                await asyncio.wait_for(FEATURES[name](run), FEATURE_MAX_S)
                say(name, ok=True)
            except BaseException as why:  # a feature that fails is an answer, not an accident
                say(name, ok=False, why=f"{type(why).__name__}: {why}"[:600])


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
