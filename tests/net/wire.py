"""A long wire: what a router forwards goes through here and arrives later, in another order, or not at all.

Run inside the router's network namespace: wire.py DELAY_MS JITTER_MS LOSS_PERCENT. Opens the TUN device `wire0`,
says `ready`, and passes every packet on after DELAY_MS and up to JITTER_MS more, each drawn by itself: with jitter,
packets overtake one another. Ends with its standard input. The kernel's own netem is not everywhere.
"""

import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000

# Packets on the wire at once; a real wire of this length holds no more at the rates of these tests.
ON_THE_WIRE_MAX = 20_000


def main() -> None:
    delay, jitter, loss = (float(word) / div for word, div in zip(sys.argv[1:4], (1e3, 1e3, 1e2)))
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", b"wire0", IFF_TUN | IFF_NO_PI))
    subprocess.run(["ip", "link", "set", "wire0", "up"], check=True)
    print("ready", flush=True)
    waiting: list[tuple[float, int, bytes]] = []
    count = 0
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            os.write(tun, heapq.heappop(waiting)[2])
        pause = max(0.0, waiting[0][0] - now) if waiting else None
        readable, _, _ = select.select([tun, sys.stdin], [], [], pause)
        if sys.stdin in readable and not os.read(sys.stdin.fileno(), 1024):
            return
        if tun not in readable:
            continue
        now = time.monotonic()
        try:
            while True:
                packet = os.read(tun, 65_536)
                if random.random() >= loss and len(waiting) < ON_THE_WIRE_MAX:
                    count += 1
                    heapq.heappush(waiting, (now + delay + random.random() * jitter, count, packet))
        except BlockingIOError:
            pass


if __name__ == "__main__":
    main()
