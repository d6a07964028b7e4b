"""Drives load at a target and reads what the driver measured: h2load for h1 and h2, our own for h3, curl for bulk."""
import json
import re
import subprocess

IN_FLIGHT = 64
H2_CONNECTIONS = 4


def url(target):
    return f"https://{target['host']}:{target['port']}{target['path']}"


def driver(protocol, target, programs):
    """A function of seconds that runs one load and gives requests, per_second, p50_us, p99_us."""
    return {"h1": h1, "h2": h2, "h3": h3}[protocol](target, programs)


def output(command):
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
    return done.stdout


def headers(target, flag):
    return [part for header in target["headers"] for part in (flag, header)]


def h2load(target, words):
    """h2load connects by address, because the system may not resolve names under localhost."""

    def run(seconds):
        log = "/dev/shm/mezu-h2load.log"
        open(log, "w").close()
        connect = [f"--connect-to=127.0.0.1:{target['port']}", f"--log-file={log}", "-t1", "-D", str(max(1, round(seconds)))]
        text = output(["h2load", *words, *connect, *headers(target, "-H"), url(target)])
        ok = int(re.search(r"status codes: (\d+) 2xx", text).group(1))
        if not ok or not re.search(r" 0 3xx, 0 4xx, 0 5xx", text) or not re.search(r" 0 errored, 0 timeout", text):
            raise SystemExit(f"{url(target)}: {text}")
        with open(log) as lines:
            times = sorted(int(line.split("\t")[2]) for line in lines)
        return {
            "requests": ok,
            "per_second": ok / float(re.search(r"finished in ([\d.]+)s", text).group(1)),
            "p50_us": times[len(times) // 2],
            "p99_us": times[len(times) * 99 // 100],
        }

    return run


def h1(target, _programs):
    return h2load(target, ["--h1", f"-c{IN_FLIGHT}", "-m1"])


def h2(target, _programs):
    return h2load(target, [f"-c{H2_CONNECTIONS}", f"-m{IN_FLIGHT // H2_CONNECTIONS}"])


def h3(target, programs):
    def run(seconds):
        command = [f"{programs}/load", url(target), "--protocol", "h3", "--in-flight", str(IN_FLIGHT)]
        command += ["--seconds", str(seconds), "--ca", target["roots"], *headers(target, "--header")]
        return json.loads(output(command))

    return run


def bulk(system, peer):
    """1 GiB down and up through each system, and how far each process's memory rose."""
    rows = {}
    for who, target, group in (("ours", system.public, system.group()), ("nginx", peer.plain, peer.group())):
        for direction in ("down", "up"):
            at = f"https://{target['host']}:{target['port']}"
            curl = ["curl", "-sS", "--fail", "--cacert", target["roots"], "-o", "/dev/null", "-w", "%{time_total}"]
            if direction == "down":
                command = [*curl, "--http1.1", f"{at}/large"]
            else:
                command = [*curl, "--http1.1", "-H", "expect:", "-T", f"{system.folder}/www/large", f"{at}/sink"]
            group.reset_peak()
            before, cpu = group.rss_kib(), group.cpu_seconds()
            seconds = float(output(command))
            cpu = group.cpu_seconds() - cpu
            rise = {role: (peak - before[role]) / 1024 for role, peak in group.peak_kib().items()}
            rises = ", ".join(f"{role} +{mib:.1f} MiB" for role, mib in rise.items())
            text = f"1 GiB {direction:4} {who:6} {1024 / seconds:7.0f} MiB/s  {cpu:5.2f} CPU-s/GiB  {rises}"
            rows[f"{who} {direction}"] = {"seconds": seconds, "cpu_s": cpu, "rss_rise_mib": rise, "text": text}
    return rows
