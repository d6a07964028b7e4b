"""A gRPC service on grpcio: every kind of call, on plain HTTP/2 and on TLS. Messages are octets; no stubs, no protoc.

    grpc_server.py --certificate FILE --key FILE     prints {"event": "ready", "plain": PORT, "tls": PORT}
"""

import argparse
import asyncio
import json

import grpc

MESSAGE_LEN_MAX = 64 * 1024 * 1024


class Echo:
    """Knows which gates are open and which calls were cancelled."""

    def __init__(self):
        self.gates, self.cancelled = {}, set()

    def gate(self, name):
        return self.gates.setdefault(name, asyncio.Event())

    async def unary(self, request, context):
        sent = [value for name, value in context.invocation_metadata() if name == "x-own"]
        await context.send_initial_metadata((("x-first", "one"),))
        context.set_trailing_metadata((("x-last", ",".join(sent)), ("x-octets-bin", b"\x00\xff")))
        return request

    async def fail(self, request, context):
        context.set_trailing_metadata((("x-last", "why"),))
        await context.abort(grpc.StatusCode.NOT_FOUND, "nothing here: ü 100%")

    async def server_stream(self, request, context):
        """A first message; the rest once the gate named by the request is open."""
        yield b"first"
        try:
            await self.gate(request).wait()
        except asyncio.CancelledError:
            self.cancelled.add(request)
            raise
        for number in range(99):
            yield str(number).encode()

    async def client_stream(self, requests, context):
        count = length = 0
        async for request in requests:
            count, length = count + 1, length + len(request)
        return f"{count} {length}".encode()

    async def both(self, requests, context):
        async for request in requests:
            yield request.upper()
        context.set_trailing_metadata((("x-last", "done"),))

    async def fail_late(self, request, context):
        yield b"one"
        await context.abort(grpc.StatusCode.DATA_LOSS, "after one")

    async def release(self, request, context):
        self.gate(request).set()
        return b""

    async def was_cancelled(self, request, context):
        return b"yes" if request in self.cancelled else b"no"

    def handlers(self):
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        methods = {
            "Unary": unary(self.unary),
            "Fail": unary(self.fail),
            "FailLate": stream(self.fail_late),
            "ServerStream": stream(self.server_stream),
            "ClientStream": grpc.stream_unary_rpc_method_handler(self.client_stream),
            "Both": grpc.stream_stream_rpc_method_handler(self.both),
            "Release": unary(self.release),
            "WasCancelled": unary(self.was_cancelled),
        }
        return grpc.method_handlers_generic_handler("test.Echo", methods)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--certificate", required=True)
    parser.add_argument("--key", required=True)
    options = parser.parse_args()
    limits = [("grpc.max_receive_message_length", MESSAGE_LEN_MAX), ("grpc.so_reuseport", 0)]
    server = grpc.aio.server(options=limits)
    server.add_generic_rpc_handlers((Echo().handlers(),))
    with open(options.key, "rb") as key, open(options.certificate, "rb") as certificate:
        credentials = grpc.ssl_server_credentials([(key.read(), certificate.read())])
    plain = server.add_insecure_port("127.0.0.1:0")
    tls = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    print(json.dumps({"event": "ready", "plain": plain, "tls": tls}), flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
