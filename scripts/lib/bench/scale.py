"""What many of a kind cost: WebSockets, exchanges that are held, slow readers, tunnels that all come back at once.

Each has a system of its own in front of the tests' workload, so that what one leaves behind is not counted twice.
"""
import json
import re
import resource
import subprocess
import time
import urllib.request

import load
import ours
from process import Group, Process, free_port, wait_tcp

HELD = 10_000
STREAMS_PER_CONNECTION = 100
SLOW_READERS = 50
SLOW_SECONDS = 20
TUNNELS = 200
MIB = 1024


def workload(programs, folder):
    """Starts the workload; gives its process and where it listens."""
    process = Process([f"{programs}/workload"], f"{folder}/workload.log")
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with open(f"{folder}/workload.log") as log:
            lines = [line for line in log if '"ready"' in line]
        if lines:
            return process, json.loads(lines[0])
        time.sleep(0.05)
    raise SystemExit("the workload does not start")


def rises(before, after):
    return {role: (after[role] - before[role]) / MIB for role in before}


def shown(rise):
    return ", ".join(f"{role} +{mib:.1f} MiB" for role, mib in rise.items())


def websockets(system, peer_port_of, seconds, pairs, compare):
    """Echo round trips over 64 WebSockets, beside nginx doing the same two hops."""

    def run(target):
        def measure(length):
            command = [f"{system.programs}/load", load.url(target), "--protocol", "ws", "--in-flight", "64"]
            command += ["--seconds", str(length), "--ca", target["roots"]]
            return json.loads(load.output(command))

        return measure

    contenders = {"WebSocket": (run(dict(system.public, path="/ws")), system.group())}
    if peer_port_of:
        contenders["nginx"] = (run(dict(peer_port_of.plain, path="/ws")), peer_port_of.group())
    return compare("ws", contenders, pairs, seconds)


def held(system):
    """Memory of 10 000 exchanges at once on one tunnel, each waiting for its response."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    count = min(HELD, files - 512)
    group = system.group()
    before, cpu = group.rss_kib(), group.cpu_seconds()
    connections = -(-count // STREAMS_PER_CONNECTION)
    url = load.url(dict(system.public, path="/hang-head/bench"))
    command = [f"{system.programs}/load", url, "--protocol", "h2", "--hold", "--in-flight", str(count)]
    command += ["--connections", str(connections), "--ca", system.public["roots"]]
    driver = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        said = driver.stdout.readline()
        if '"held"' not in said:
            raise SystemExit(f"requests were not held: {said}{driver.stdout.read()}")
        arrived(int(system.upstream.rsplit(":", 1)[1]), count)
        settled(group)
        if driver.poll() is not None:
            raise SystemExit(f"a held request was answered: {driver.stdout.read()}")
        rise = rises(before, group.rss_kib())
        cpu = group.cpu_seconds() - cpu
    finally:
        driver.stdin.close()
        driver.wait(30)
    each = {role: mib * MIB / count for role, mib in rise.items()}
    text = f"{count} exchanges held on one tunnel: {shown(rise)}; each "
    text += ", ".join(f"{role} {kib:.1f} KiB" for role, kib in each.items()) + f"; {cpu:.1f} CPU-s to open them"
    return {"count": count, "rise_mib": rise, "kib_each": each, "cpu_s": cpu, "text": text}


def arrived(port, count, seconds=120):
    """Waits until so many connections to the workload are open: HTTP/1.1 holds one for each exchange."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with open("/proc/net/tcp") as table:
            rows = [line.split() for line in table][1:]
        if sum(row[2].endswith(f":{port:04X}") and row[3] == "01" for row in rows) >= count:
            return
        time.sleep(0.5)
    raise SystemExit(f"fewer than {count} exchanges reached the workload in {seconds} s")


def settled(group, seconds=60):
    """Waits until a group has all but stopped working."""
    end = time.monotonic() + seconds
    last = group.cpu_seconds()
    while time.monotonic() < end:
        time.sleep(1)
        now = group.cpu_seconds()
        if now - last < 0.1:
            return
        last = now


def slow_readers(system):
    """How much 50 clients add that read 1 GiB at 64 KiB/s, half over h1 and half over h2."""
    group = system.group()
    before = group.rss_kib()
    group.reset_peak()
    at = f"https://{system.host}:{system.port}/bytes/{1 << 30}"
    curl = ["curl", "-sS", "--cacert", system.public["roots"], "-o", "/dev/null", "--limit-rate", "64k"]
    readers = [
        subprocess.Popen([*curl, "--http1.1" if nth % 2 else "--http2", at], stderr=subprocess.DEVNULL)
        for nth in range(SLOW_READERS)
    ]
    time.sleep(SLOW_SECONDS)
    gone = [reader.returncode for reader in readers if reader.poll() is not None]
    rise = rises(before, group.peak_kib())
    for reader in readers:
        reader.kill()
        reader.wait(5)
    if gone:
        raise SystemExit(f"slow readers were cut off: {gone}")
    total = sum(rise.values())
    text = f"{SLOW_READERS} slow readers of 1 GiB: {shown(rise)}, {total:.1f} MiB in total (at most 64)"
    return {"rise_mib": rise, "total_mib": total, "text": text}


def tunnels(system, health):
    """How long 200 warpgates need to come back when their edge restarts, and what an idle tunnel costs it."""

    def connected():
        with urllib.request.urlopen(f"http://127.0.0.1:{health}/metrics", timeout=5) as answer:
            return int(re.search(r"^\w*edge_tunnels(?:\{\})? (\d+)", answer.read().decode(), re.M).group(1))

    def until(count, seconds=120):
        begin = time.monotonic()
        while time.monotonic() - begin < seconds:
            try:
                if connected() >= count:
                    return time.monotonic() - begin
            except OSError:
                pass
            time.sleep(0.02)
        raise SystemExit(f"only {connected()} of {count} tunnels came back in {seconds} s")

    connect = [f"{system.programs}/warpgate", "connect", "--upstream", system.upstream]
    environment = {"WARPGATE_KEY": system.key}
    before = Group({"server": system.server.pid}).rss_kib()["server"]
    gates = [Process(connect, f"{system.folder}/gate-{nth}.log", env=environment) for nth in range(TUNNELS)]
    try:
        until(TUNNELS + 1)
        settled(Group({"server": system.server.pid}))
        each = (Group({"server": system.server.pid}).rss_kib()["server"] - before) / TUNNELS
        begin = time.monotonic()
        system.server.child.kill()
        system.server.child.wait(10)
        system.server = Process(system.serve, f"{system.folder}/server-again.log")
        wait_tcp(system.port)
        up = time.monotonic() - begin
        back = until(TUNNELS + 1)
    finally:
        for gate in gates:
            gate.child.kill()
        for gate in gates:
            gate.stop()
    text = f"{TUNNELS} tunnels: {each:.0f} KiB each at the edge when idle (at most 100); "
    text += f"its process killed, up again after {up:.2f} s, all tunnels back {back:.2f} s later"
    return {"kib_each": each, "up_s": up, "back_s": back, "text": text}


def run(args, folder, peer_for, compare):
    """All of it; gives rows of text and figures by name."""
    process, at = workload(args.programs, folder)
    health = free_port()
    system = ours.System(args.programs, f"{folder}/scale", int(at["h1"].rsplit(":", 1)[1]), ["--health", f"127.0.0.1:{health}"])
    peer = peer_for(f"{folder}/scale", int(at["h1"].rsplit(":", 1)[1]))
    rows = {}
    try:
        rows["ws"] = websockets(system, peer, args.seconds, args.pairs, compare)
        rows["slow_readers"] = slow_readers(system)
        rows["held"] = held(system)
        rows["tunnels"] = tunnels(system, health)
    finally:
        peer.stop()
        system.stop()
        process.stop()
    return rows
