"""A node with a million sessions, and password sign-ins at full rate beside ordinary traffic.

What is shown: how long an edge takes until it is ready, what it holds in memory, and what a signed-in request costs beside a
public one; and what sign-ins do to the latency of requests that go through a tunnel.
"""
import json
import os
import subprocess
import threading
import time

import load
import ours
from process import Process, wait_tcp

MIB = 1024


def restarted(system):
    """Stops the server and starts it on the same data; gives the seconds until it was ready."""
    system.server.stop()
    log = f"{system.folder}/server.log"
    os.rename(log, f"{log}.before")
    begun = time.monotonic()
    system.server = Process(system.serve, log)
    wait_tcp(system.port, 600)
    system.wait_log("server.log", "ready", 600)
    return time.monotonic() - begun


def serves(system, seconds):
    """Waits until the signed-in page comes through the tunnel again; gives how long that took."""
    target = system.signed_in
    command = ["curl", "-sS", "-o", os.devnull, "-w", "%{http_code}", "--cacert", target["roots"], "-H", target["headers"][0], load.url(target)]
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.stdout == "200":
            return time.monotonic() - begun
        time.sleep(0.2)
    raise SystemExit("the signed-in page does not come back")


def quiet(group, seconds=600):
    """Waits until the server has nothing to do: what was published has been fetched."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        before = group.cpu_seconds()
        time.sleep(3)
        if group.cpu_seconds() - before < 0.3:
            return
    raise SystemExit("the server does not come to rest")


def million(system, args, compare, count):
    """The node before and after it has so many sessions."""
    rows = {}
    few = {"public": (load.driver("h1", system.public, args.programs), system.group())}
    few["signed in"] = (load.driver("h1", system.signed_in, args.programs), system.group())
    rows["few"] = compare("few sessions", few, args.pairs, args.seconds)
    before = system.group().rss_kib()["server"]
    project = next(one["id"] for one in projects(system) if one["slug"] == "bench")
    system.server.stop()
    fill = [f"{args.programs}/examples/fill", system.data, project, system.host, str(count)]
    print(load.output(fill).strip())
    joined = restarted(system)
    begun = time.monotonic()
    quiet(system.group())
    fetched = time.monotonic() - begun - 3
    peak = system.group().peak_kib()["server"]
    again = restarted(system)
    serves(system, 60)
    rss = system.group().rss_kib()["server"]
    many = {"public": (load.driver("h1", system.public, args.programs), system.group())}
    many["signed in"] = (load.driver("h1", system.signed_in, args.programs), system.group())
    rows["many"] = compare(f"{count} sessions", many, args.pairs, args.seconds)
    after = system.group().rss_kib()["server"]
    system.server.child.kill()
    system.server.child.wait()
    killed = restarted(system)
    text = f"{count} sessions: ready after {joined:.1f} s and fetched {fetched:.0f} s later (at most {peak / MIB:.0f} MiB); "
    text += f"started again in {again:.1f} s, after a kill in {killed:.1f} s (bound 10 s); "
    text += f"server RSS {before / MIB:.0f} MiB before, {rss / MIB:.0f} MiB with them, {after / MIB:.0f} MiB under load"
    for name in ("few", "many"):
        pairs = zip(rows[name]["signed in"], rows[name]["public"])
        ratios = sorted(one["cpu_us"] / other["cpu_us"] for one, other in pairs)
        text += f"\n  signed in / public with {name}: {ratios[len(ratios) // 2]:.2f}x of CPU (bound 1.10x)"
    return {"text": text, "ready_s": again, "killed_s": killed, "rss_kib": after}, rows


def projects(system):
    listed = system.admin("project", "list")
    return listed["items"] if isinstance(listed, dict) else listed


def sign_ins(system, args):
    """The p99 of requests through a tunnel, alone and beside as many sign-ins as the node takes."""
    drive = load.driver("h1", system.public, args.programs)
    user = system.admin("user", "create", "bench", "grace@example.com", "--name", "Grace", "--role", "member")
    drive(1)
    alone = [drive(args.seconds)["p99_us"] for _ in range(3)]
    ended, done = threading.Event(), []

    def sign_in_again_and_again(name):
        while not ended.is_set():
            try:
                browser = ours_browser(system, name)
                browser("grace@example.com", user["password"])
                done.append(1)
            except (SystemExit, subprocess.CalledProcessError):
                time.sleep(0.05)  # throttled, or the pool is full: that is its right

    threads = [threading.Thread(target=sign_in_again_and_again, args=(n,)) for n in range(8)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    beside = [drive(args.seconds)["p99_us"] for _ in range(3)]
    took = time.monotonic() - begun
    ended.set()
    for thread in threads:
        thread.join()
    one, other = sorted(alone)[1], sorted(beside)[1]
    text = f"password sign-ins at {len(done) / took:.1f}/s: p99 of tunnel traffic {one / 1000:.1f} ms alone, "
    text += f"{other / 1000:.1f} ms beside them ({other / one:.2f}x, bound 2x)"
    return {"text": text, "alone_us": alone, "beside_us": beside, "per_second": len(done) / took}


def ours_browser(system, name):
    """Signs in with a cookie jar of its own."""
    other = object.__new__(ours.System)
    other.__dict__.update(system.__dict__)
    other.folder = f"{system.folder}/browser-{name}"
    os.makedirs(other.folder, exist_ok=True)
    jar = f"{other.folder}/cookies"
    if os.path.exists(jar):
        os.remove(jar)
    return other.sign_in


def run(args, folder, origin_port, compare):
    """All of it; gives rows of text by name, and figures of the comparisons."""
    system = ours.System(args.programs, f"{folder}/sessions", origin_port)
    try:
        rows = {"sign_ins": sign_ins(system, args)}
        rows["sessions"], figures = million(system, args, compare, args.sessions)
    finally:
        system.stop()
    return rows, {f"{name} sessions": figures[name] for name in figures}
