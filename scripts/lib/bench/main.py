"""Measures CPU per request, throughput and latency of Mezusphere and of an nginx pair, interleaved.

Both systems run at once and share one origin (nginx, not counted); only one is loaded at a time. A pair is one
measurement of each, back to back, in alternating order: what counts is the median over pairs, because
absolute times scatter. CPU is user and system time of every process of a system, from /proc.
"""
import argparse
import json
import os
import statistics
import sys
import tempfile
import time

import handshakes
import load
import nginx
import ours
import scale
import sessions
from process import Group

HERE = os.path.dirname(os.path.abspath(__file__))


def parse():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--programs", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--pairs", type=int, default=10, help="adjacent pairs per figure (default 10)")
    parser.add_argument("--seconds", type=float, default=3, help="length of one measurement (default 3)")
    parser.add_argument("--only", default="h1,h2,h3,bulk,scale,sessions,handshakes", help="which of h1, h2, h3, bulk, scale, sessions, handshakes")
    parser.add_argument("--sessions", type=int, default=1_000_000, help="how many sessions (default 1000000)")
    parser.add_argument("--out", default="bench-results/bench.json", help="where the figures go as JSON")
    return parser.parse_args()


def measure(run, group, seconds):
    """Runs one load and adds what it cost `group` in CPU-µs per request."""
    before = group.cpu_seconds()
    figures = run(seconds)
    used = group.cpu_seconds() - before
    figures["cpu_us"] = used / figures["requests"] * 1e6
    return figures


def median(rows, key):
    return statistics.median(row[key] for row in rows)


def compare(name, contenders, pairs, seconds):
    """Interleaves the contenders: name -> (load, group). Gives the rows of each."""
    rows = {who: [] for who in contenders}
    for run, group in contenders.values():  # warm: connections, sessions, caches
        run(0.5)
    for pair in range(pairs):
        order = list(contenders) if pair % 2 == 0 else list(reversed(contenders))
        for who in order:
            run, group = contenders[who]
            rows[who].append(measure(run, group, seconds))
        print(f"\r{name}: {pair + 1}/{pairs} pairs", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return rows


def table(results):
    print(f"\n{'':26}{'CPU-µs/req':>12}{'req/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'vs nginx+auth':>15}{'vs nginx':>10}")
    for protocol, rows in results.items():
        for who, all_rows in rows.items():
            line = f"{protocol + ' ' + who:26}{median(all_rows, 'cpu_us'):12.1f}{median(all_rows, 'per_second'):10.0f}"
            line += f"{median(all_rows, 'p50_us') / 1000:9.2f}{median(all_rows, 'p99_us') / 1000:9.2f}"
            for peer, width in (("nginx+auth", 15), ("nginx", 10)):
                if peer in rows and who not in (peer, "nginx", "nginx+auth"):
                    ratios = [a["cpu_us"] / b["cpu_us"] for a, b in zip(all_rows, rows[peer])]
                    line += f"{statistics.median(ratios):{width - 1}.2f}x"
            print(line)
        if "signed in" in rows and "public" in rows:
            ratios = [a["cpu_us"] / b["cpu_us"] for a, b in zip(rows["signed in"], rows["public"])]
            print(f"{protocol + ' signed in / public':26}{statistics.median(ratios):11.2f}x")


def main():
    args = parse()
    only = args.only.split(",")
    results, bulk, many, shaken = {}, {}, {}, {}
    with tempfile.TemporaryDirectory(prefix="mezu-bench-") as folder:
        os.chmod(folder, 0o755)
        origin = nginx.origin(folder, args.programs)
        peer = nginx.Pair(folder, origin.port)
        system = ours.System(args.programs, folder, origin.port)
        try:
            nodes = {"ours": system.group(), "nginx": peer.group()}
            idle = {who: group.rss_kib() for who, group in nodes.items()}
            everything = {
                "public": (system.public, system.group()),
                "signed in": (system.signed_in, system.group()),
                "nginx": (peer.plain, peer.group()),
                "nginx+auth": (peer.with_auth, peer.group(auth=True)),
            }
            for protocol in ("h1", "h2", "h3"):
                if protocol not in only:
                    continue
                contenders = {
                    who: (load.driver(protocol, target, args.programs), group)
                    for who, (target, group) in everything.items()
                    if protocol != "h3" or "nginx" not in who  # Debian's nginx has no h3
                }
                results[protocol] = compare(protocol, contenders, args.pairs, args.seconds)
            if "bulk" in only:
                bulk = load.bulk(system, peer)
        finally:
            system.stop()
            peer.stop()
            origin.stop()
        if "scale" in only:
            many = scale.run(args, folder, lambda where, port: nginx.Pair(where, port, upgrades=True), compare)
            results["echo"] = many.pop("ws")
        if "sessions" in only:
            own = os.path.join(folder, "sessions")
            os.mkdir(own, 0o755)
            origin = nginx.origin(own, args.programs)
            try:
                more, figures = sessions.run(args, own, origin.port, compare)
            finally:
                origin.stop()
            many.update(more)
            results.update(figures)
        if "handshakes" in only:
            shaken = handshakes.run(args, os.path.join(folder, "tls"), compare)
    if results:
        table(results)
    handshakes.table(shaken)
    print(f"\nidle RSS: server {idle['ours']['server'] / 1024:.0f} MiB, warpgate {idle['ours']['warpgate'] / 1024:.0f} MiB")
    for row in [*bulk.values(), *many.values()]:
        print(row["text"])
    os.makedirs(os.path.dirname(os.path.abspath(args.out)), exist_ok=True)
    with open(args.out, "w") as out:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        json.dump({"at": stamp, "args": vars(args), "results": results, "handshakes": shaken, "bulk": bulk, "scale": many, "idle_rss_kib": idle}, out, indent=1)
    print(f"\nwritten to {args.out}")


if __name__ == "__main__":
    main()
