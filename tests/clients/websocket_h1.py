"""WebSocket over HTTP/1.1 with the `websockets` library; prints a JSON line.

    websocket_h1.py --ca FILE --host HOST --port PORT
"""

import argparse
import asyncio
import json
import ssl
import sys

import websockets

WHOLE_MAX_S = 20


def equal(got, wanted):
    assert got == wanted, f"{got!r}"[:200]


async def talk(options):
    context = ssl.create_default_context(cafile=options.ca)
    url = f"wss://{options.host}:{options.port}/ws"
    async with websockets.connect(
        url, ssl=context, host="127.0.0.1", subprotocols=["chat", "other"], compression=None
    ) as socket:
        equal(socket.subprotocol, "chat")
        for length in [0, 5, 125, 126, 65535, 65536, 1_000_000]:
            message = ("0123456789" * (length // 10 + 1))[:length]
            await socket.send(message)
            equal(await socket.recv() == message, True)
            await socket.send(message.encode())
            equal(await socket.recv() == message.encode(), True)
        await asyncio.wait_for(await socket.ping(), 5)
        # A burst, and what comes back keeps its order.
        for number in range(500):
            await socket.send(str(number))
        for number in range(500):
            equal(await socket.recv(), str(number))
        await socket.close(1000, "bye")
        equal((socket.close_code, socket.close_reason), (1000, "bye"))


async def main():
    parser = argparse.ArgumentParser()
    for option in ["ca", "host"]:
        parser.add_argument(f"--{option}", required=True)
    parser.add_argument("--port", type=int, required=True)
    answer = {"event": "done", "feature": "websocket"}
    try:
        await asyncio.wait_for(talk(parser.parse_args()), WHOLE_MAX_S)
        answer["ok"] = True
    except Exception as why:  # a failure is an answer, not an accident
        answer.update(ok=False, why=f"{type(why).__name__}: {why}"[:600])
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
