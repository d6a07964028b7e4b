"""Asks one host for the features of the matrix over one protocol; prints a JSON line for each.

    features.py --ca FILE --protocol h1|h2|h3 --host HOST --port PORT --tag TAG FEATURE...

`--tag` makes the names of gates unique to this run. Exit code 0 whatever the features' outcome: the lines tell.
"""

import argparse
import asyncio
import hashlib
import json
import sys

from transport import CONNECTIONS, Place

FEATURE_MAX_S = 10
HEAVY = ("large", "many")
HEAVY_MAX_S = 40
BODY_LEN = 300_000


class Run:
    def __init__(self, place, connect, tag):
        self.place, self.connect, self.tag = place, connect, tag

    def open(self):
        return self.connect(self.place)

    async def fetch(self, method, path, headers=(), body=None, length=None, trailers=()):
        """One exchange, whole."""
        async with self.open() as connection:
            exchange = await connection.request(method, path, headers, end=body is None, length=length)
            if body is not None:
                await exchange.send(body, end=True, trailers=trailers)
            interim, status, fields = await exchange.head()
            received, late, broken = await exchange.rest()
            assert broken is None, f"cut: {broken}"
            return status, fields, received, late, interim

    async def release(self, gate):
        status, *_ = await self.fetch("GET", f"/release/{gate}")
        assert status == 200, status


def one(fields, name):
    values = [value for key, value in fields if key == name]
    assert len(values) == 1, f"{name}: {values} in {fields}"
    return values[0]


def equal(got, wanted):
    assert got == wanted, f"{got!r}, not {wanted!r}"


async def get(run):
    status, fields, body, _, _ = await run.fetch("GET", "/told/a%20b?c=d&e=%2F", [("x-own", "1"), ("x-own", "2")])
    equal(status, 200)
    told = json.loads(body)
    equal((told["method"], told["target"], told["received"]), ("GET", "/told/a%20b?c=d&e=%2F", 0))
    equal(told["headers"]["x-own"], ["1", "2"])
    assert "transfer-encoding" not in told["headers"], told["headers"]
    equal(one(fields, "content-type"), "application/json")


async def methods(run):
    for method in ["PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"]:
        status, _, body, _, _ = await run.fetch(method, "/told", body=b"x", length=1)
        equal((status, json.loads(body)["method"], json.loads(body)["received"]), (200, method, 1))


async def head(run):
    status, fields, body, _, _ = await run.fetch("HEAD", "/bytes/1234")
    equal((status, body, one(fields, "content-length")), (200, b"", "1234"))


async def ranges(run):
    whole = (await run.fetch("GET", "/range"))[2]
    status, fields, body, _, _ = await run.fetch("GET", "/range", [("range", "bytes=100-299")])
    equal((status, one(fields, "content-range")), (206, "bytes 100-299/1000"))
    equal(body, whole[100:300])


async def no_body(run):
    for wanted in [204, 304]:
        status, fields, body, _, _ = await run.fetch("GET", f"/status/{wanted}")
        equal((status, body, one(fields, "etag")), (wanted, b"", '"one"'))
        assert not any(name == "transfer-encoding" for name, _ in fields), fields


async def empty_bodies(run):
    status, fields, body, _, _ = await run.fetch("GET", "/bytes/0")
    equal((status, body, one(fields, "content-length")), (200, b"", "0"))
    status, _, body, _, _ = await run.fetch("POST", "/sink", body=b"", length=0)
    equal((status, json.loads(body)["received"]), (200, 0))
    status, _, body, _, _ = await run.fetch("POST", "/sink", body=b"")
    equal((status, json.loads(body)["received"]), (200, 0))
    status, _, body, _, _ = await run.fetch("GET", "/chunked/0")
    equal((status, body), (200, b""))


async def bodies(run):
    sent = bytes(range(256)) * (BODY_LEN // 256)
    for length in [len(sent), None]:
        status, _, body, _, _ = await run.fetch("POST", "/sink", body=sent, length=length)
        told = json.loads(body)
        equal((status, told["received"], told["digest"]), (200, len(sent), hashlib.sha256(sent).hexdigest()))
    for path in [f"/bytes/{BODY_LEN}", f"/chunked/{BODY_LEN}"]:
        status, fields, body, _, _ = await run.fetch("GET", path)
        equal((status, len(body), hashlib.sha256(body).hexdigest()), (200, BODY_LEN, one(fields, "x-digest")))


async def streamed(run):
    """The second event is made only after the first has arrived."""
    gate = f"sse-{run.tag}"
    async with run.open() as connection:
        exchange = await connection.request("GET", f"/sse/{gate}", [("accept", "text/event-stream")])
        _, status, fields = await exchange.head()
        equal((status, one(fields, "content-type")), (200, "text/event-stream"))
        equal(await exchange.data(len(b"data: first\n\n")), b"data: first\n\n")
        await run.release(gate)
        body, _, broken = await exchange.rest()
        equal((body, broken), (b"data: second\n\n", None))


async def duplex(run):
    """Each piece is sent only after the one before has come back."""
    async with run.open() as connection:
        exchange = await connection.request("POST", "/echo", end=False)
        for number in range(5):
            piece = f"piece {number}\n".encode()
            await exchange.send(piece)
            if number == 0:
                _, status, _ = await exchange.head()
                equal(status, 200)
            equal(await exchange.data(len(piece)), piece)
        await exchange.send(b"", end=True)
        body, _, broken = await exchange.rest()
        equal((body, broken), (b"", None))


async def response_trailers(run):
    status, _, body, late, _ = await run.fetch("GET", "/trailers", [("te", "trailers")])
    equal((status, body), (200, b"with trailers\n"))
    equal((one(late, "x-sum"), [v for n, v in late if n == "x-late"]), ("abc", ["one", "two"]))


async def request_trailers(run):
    trailers = [("x-sum", "abc"), ("mezu-user-id", "usr_forged")]
    declared = [("trailer", "x-sum, mezu-user-id")]
    status, _, body, _, _ = await run.fetch("POST", "/sink", declared, body=b"hello", trailers=trailers)
    told = json.loads(body)
    equal((status, told["received"], told["trailers"]), (200, 5, [["x-sum", "abc"]]))


async def early_hints(run):
    status, _, _, _, interim = await run.fetch("GET", "/hints")
    equal(status, 200)
    equal([(code, one(fields, "link")) for code, fields in interim], [(103, "</style.css>; rel=preload")])
    status, _, _, _, interim = await run.fetch("GET", "/processing")
    equal((status, [code for code, _ in interim]), (200, [102, 102]))


async def continued(run):
    """The body is sent only after the upstream has asked for it."""
    async with run.open() as connection:
        expect = [("expect", "100-continue")]
        exchange = await connection.request("POST", "/sink", expect, end=False, length=BODY_LEN)
        event = await exchange.event()
        equal(event[:2], ("interim", 100))
        await exchange.send(b"x" * BODY_LEN, end=True)
        interim, status, _ = await exchange.head()
        body, _, broken = await exchange.rest()
        equal((interim, status, broken, json.loads(body)["received"]), ([], 200, None, BODY_LEN))


async def continue_refused(run):
    """The refusal comes without a byte of the body, and without a 100."""
    async with run.open() as connection:
        expect = [("expect", "100-continue")]
        exchange = await connection.request("POST", "/refuse", expect, end=False, length=BODY_LEN)
        interim, status, _ = await exchange.head()
        body, _, _ = await exchange.rest()
        equal((interim, status, body), ([], 417, b"not that"))


async def early_final(run):
    """The answer comes while the upload, which never ends, goes on."""
    async with run.open() as connection:
        exchange = await connection.request("POST", "/too-large", end=False)
        await exchange.send(b"x" * BODY_LEN)
        _, status, _ = await exchange.head()
        body = await exchange.data(len(b"too large"))
        equal((status, body), (413, b"too large"))


async def cut(run):
    for path in ["/cut/100000", "/cut-chunked/100000"]:
        async with run.open() as connection:
            exchange = await connection.request("GET", path)
            _, status, _ = await exchange.head()
            body, _, broken = await exchange.rest()
            assert status == 200 and broken and len(body) <= 100000, f"{path}: {status} {len(body)} {broken}"


async def cut_upload(run):
    """A client that breaks off its upload: the workload must not take what came for the whole. The harness judges."""
    async with run.open() as connection:
        exchange = await connection.request("POST", f"/sink/cut-upload-{run.tag}", end=False)
        await exchange.send(b"x" * 1000)
        # The workload has the beginning before the rest fails to come.
        await asyncio.sleep(0.2)
        await exchange.leave()
        say("left", "cut_upload")
        await asyncio.sleep(1.5 if run.connect.protocol != "h1" else 0)


async def leaves(run):
    """A client that leaves in the midst of a response. The harness judges."""
    async with run.open() as connection:
        exchange = await connection.request("GET", f"/hang/leaves-{run.tag}")
        await exchange.head()
        equal(await exchange.data(5), b"here\n")
        await exchange.leave()
        # Still there, so that it is the exchange that ended and not only the connection.
        say("left", "leaves")
        await asyncio.sleep(1.5 if run.connect.protocol != "h1" else 0)


async def leaves_early(run):
    """A client that leaves before any head. The harness judges."""
    async with run.open() as connection:
        exchange = await connection.request("GET", f"/hang-head/early-{run.tag}")
        await asyncio.sleep(0.5)
        await exchange.leave()
        say("left", "leaves_early")
        await asyncio.sleep(1.5 if run.connect.protocol != "h1" else 0)


async def other_upgrade(run):
    async with run.open() as connection:
        if run.connect.protocol == "h1":
            headers = [("connection", "Upgrade"), ("upgrade", "shout")]
            exchange = await connection.request("GET", "/upgrade", headers)
            wanted = 101
        else:
            assert connection.extended_connect, "extended CONNECT is not advertised"
            exchange = await connection.request("CONNECT", "/upgrade", end=False, protocol="shout")
            wanted = 200
        _, status, _ = await exchange.head()
        equal(status, wanted)
        for word in [b"hello", b"again"]:
            await exchange.raw(word)
            equal(await exchange.data(5), word.upper())


async def upgrade_refused(run):
    """An upgrade the workload does not make is answered as a plain request."""
    async with run.open() as connection:
        if run.connect.protocol == "h1":
            headers = [("connection", "Upgrade"), ("upgrade", "nothing")]
            exchange = await connection.request("GET", "/upgrade", headers)
        else:
            exchange = await connection.request("CONNECT", "/upgrade", end=False, protocol="nothing")
        _, status, _ = await exchange.head()
        assert status in (426, 501), status
        if status == 501:
            raise AssertionError("501: the edge refuses it itself")


async def websocket(run):
    """RFC 8441: WebSocket on a stream of HTTP/2. (Over HTTP/1.1 the `websockets` library asks.)"""
    async with run.open() as connection:
        assert connection.extended_connect, "extended CONNECT is not advertised"
        exchange = await connection.request(
            "CONNECT",
            "/ws",
            [("sec-websocket-version", "13"), ("sec-websocket-protocol", "chat")],
            end=False,
            protocol="websocket",
        )
        _, status, fields = await exchange.head()
        equal((status, one(fields, "sec-websocket-protocol")), (200, "chat"))
        assert not any(name in ("connection", "upgrade", "sec-websocket-accept") for name, _ in fields), fields
        for length in [0, 5, 125, 126, 65535, 65536, 200_000]:
            payload = (b"0123456789" * (length // 10 + 1))[:length]
            await exchange.raw(masked(0x82, payload))
            equal(await unmasked(exchange), (0x82, payload))
        await exchange.raw(masked(0x89, b"ping"))
        equal(await unmasked(exchange), (0x8A, b"ping"))
        await exchange.raw(masked(0x88, b"\x03\xe8"))
        equal(await unmasked(exchange), (0x88, b"\x03\xe8"))
        _, _, broken = await exchange.rest()
        equal(broken, None)


def masked(first, payload):
    key = b"\x11\x22\x33\x44"
    length = len(payload)
    if length < 126:
        size = bytes([0x80 | length])
    elif length < 65536:
        size = bytes([0xFE]) + length.to_bytes(2, "big")
    else:
        size = bytes([0xFF]) + length.to_bytes(8, "big")
    repeated = (key * (length // 4 + 1))[:length]
    covered = (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(length, "big")
    return bytes([first]) + size + key + covered


async def unmasked(exchange):
    buffer = bytearray(getattr(exchange, "kept", b""))

    async def need(count):
        while len(buffer) < count:
            event = await exchange.event()
            assert event[0] == "data", f"no data, but {event}"
            buffer.extend(event[1])

    await need(2)
    first, length, start = buffer[0], buffer[1], 2
    if length == 126:
        await need(4)
        length, start = int.from_bytes(buffer[2:4], "big"), 4
    elif length == 127:
        await need(10)
        length, start = int.from_bytes(buffer[2:10], "big"), 10
    await need(start + length)
    exchange.kept = bytes(buffer[start + length :])
    return first, bytes(buffer[start : start + length])


async def not_advertised(run):
    """HTTP/3 has no extended CONNECT here, and must not say it has."""
    async with run.open() as connection:
        exchange = await connection.request("GET", "/told")
        await exchange.head()
        assert not connection.extended_connect, "extended CONNECT is advertised"


async def bare_head(run):
    """A response that is nothing but a head stays one: gRPC's trailers-only."""
    status, fields, body, late, _ = await run.fetch("POST", "/trailers-only", [("te", "trailers")], body=b"")
    equal((status, body, late, one(fields, "grpc-status")), (200, b"", [], "5"))


async def grpc_unary(run):
    """gRPC without a gRPC library: one message each way, status in the trailers."""
    message = b"\x00" + (5).to_bytes(4, "big") + b"hello"
    headers = [("content-type", "application/grpc"), ("te", "trailers")]
    status, fields, body, late, _ = await run.fetch("POST", "/test.Echo/Unary", headers, body=message)
    equal((status, one(fields, "content-type"), body), (200, "application/grpc", message))
    equal(one(late, "grpc-status"), "0")


async def large(run):
    """Megabytes both ways."""
    length = 8 * 1024 * 1024
    status, fields, body, _, _ = await run.fetch("GET", f"/bytes/{length}")
    equal((status, len(body), hashlib.sha256(body).hexdigest()), (200, length, one(fields, "x-digest")))
    status, _, told, _, _ = await run.fetch("POST", "/sink", body=body, length=length)
    told = json.loads(told)
    equal((status, told["received"], told["digest"]), (200, length, one(fields, "x-digest")))


async def many(run, count=1000, each=100):
    """All exchanges are at the workload at once before one of them is answered."""
    connections = [run.open() for _ in range(count // each)]
    for connection in connections:
        await connection.__aenter__()
    exchanges = []
    for connection in connections:
        for _ in range(each):
            exchanges.append(await connection.request("GET", f"/barrier/{count}/{run.tag}"))
    for exchange in exchanges:
        _, status, _ = await exchange.head()
        body, _, broken = await exchange.rest()
        equal((status, body, broken), (200, b"all here", None))
    for connection in connections:
        await connection.__aexit__()


FEATURES = {name: value for name, value in list(globals().items()) if asyncio.iscoroutinefunction(value)}


def say(what, feature, **more):
    print(json.dumps({"event": what, "feature": feature, **more}), flush=True)


async def one_feature(run, name):
    try:
        await asyncio.wait_for(FEATURES[name](run), HEAVY_MAX_S if name in HEAVY else FEATURE_MAX_S)
        say("done", name, ok=True)
    except BaseException as why:  # a feature that fails is an answer, not an accident
        say("done", name, ok=False, why=f"{type(why).__name__}: {why}")


async def main():
    parser = argparse.ArgumentParser()
    for option in ["ca", "protocol", "host", "tag"]:
        parser.add_argument(f"--{option}", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("features", nargs="+")
    options = parser.parse_args()
    connect = CONNECTIONS[options.protocol]
    run = Run(Place(options.host, options.port, options.ca), connect, options.tag)
    for name in options.features:
        await one_feature(run, name)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
