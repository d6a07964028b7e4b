"""TLS handshakes: full and resumed, of Mezusphere and of one nginx with the same certificate, group and suites, interleaved.

Nothing is asked on the connections. Both have tickets and no other memory of sessions; a handshake is over when its ticket
has come. The driver counts only handshakes of the kind that is measured and fails on any other.
"""
import json
import os
import statistics
import subprocess

import load
import nginx
from process import Group, Process, free_port, wait_tcp

HOST = "bench.localhost"
NAMES = [HOST, "*.localhost", "console.mezu.localhost", "login.mezu.localhost", "connect.mezu.localhost"]

# What is measured: name -> flags of the driver. Debian's nginx is on an OpenSSL without the post-quantum group, so that is ours alone.
KINDS = {
    "1.3 full": ["--tls", "1.3"],
    "1.3 resumed": ["--tls", "1.3", "--resumed"],
    "1.2 full": ["--tls", "1.2"],
    "1.2 resumed": ["--tls", "1.2", "--resumed"],
}
POST_QUANTUM = {
    "1.3 full, X25519MLKEM768": ["--tls", "1.3", "--group", "x25519mlkem768"],
    "1.3 resumed, X25519MLKEM768": ["--tls", "1.3", "--group", "x25519mlkem768", "--resumed"],
}


def certificate(folder):
    """A leaf that both show, P-256 as ours are, and its root."""
    if os.path.exists(f"{folder}/leaf.crt"):
        return
    nginx.shell("openssl ecparam -name prime256v1 -genkey -noout -out root.key", folder)
    nginx.shell("openssl req -x509 -new -key root.key -subj /CN=bench -days 2 -out root.pem", folder)
    with open(f"{folder}/leaf.ext", "w") as ext:
        ext.write(f"subjectAltName={','.join(f'DNS:{name}' for name in NAMES)}\nextendedKeyUsage=serverAuth\n")
    nginx.shell("openssl ecparam -name prime256v1 -genkey -out leaf.sec1 -noout", folder)
    nginx.shell("openssl pkcs8 -topk8 -nocrypt -in leaf.sec1 -out leaf.key", folder)
    nginx.shell("openssl req -new -key leaf.key -subj /CN=leaf -out leaf.csr", folder)
    signing = "-CA root.pem -CAkey root.key -CAcreateserial -days 2"
    nginx.shell(f"openssl x509 -req -in leaf.csr {signing} -extfile leaf.ext -out leaf.crt", folder)


class Ours:
    """`mezusphere serve` with defaults everywhere, showing that certificate."""

    def __init__(self, programs, folder):
        self.port = free_port()
        command = [f"{programs}/mezusphere", "serve", "--data", f"{folder}/data", "--listen", f"127.0.0.1:{self.port}"]
        command += ["--tls-cert", f"{folder}/leaf.crt", "--tls-key", f"{folder}/leaf.key"]
        self.process = Process(command, f"{folder}/server.log")
        wait_tcp(self.port)
        self.group = Group({"server": self.process.pid})

    def stop(self):
        self.process.stop()


class Peer:
    """nginx with as many workers as cores."""

    def __init__(self, folder):
        self.port = free_port()
        suites = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305"
        server = (
            f"  server {{ listen 127.0.0.1:{self.port} ssl backlog=4096; server_name {HOST};\n"
            f"    ssl_certificate {folder}/leaf.crt; ssl_certificate_key {folder}/leaf.key;\n"
            f"    ssl_protocols TLSv1.2 TLSv1.3; ssl_ecdh_curve X25519; ssl_ciphers {suites};\n"
            "    ssl_session_cache off; ssl_session_tickets on; ssl_session_timeout 12h; return 204; }"
        )
        self.nginx = nginx.Nginx(folder, "handshakes", server, self.port)
        self.group = Group({"nginx": self.nginx.process.pid})

    def stop(self):
        self.nginx.stop()


def driver(programs, port, roots, flags):
    def run(seconds):
        command = [f"{programs}/handshakes", f"https://{HOST}:{port}", "--ca", roots, "--seconds", str(seconds), *flags]
        return json.loads(load.output(command))

    return run


def wait_certificate(port, roots):
    """The certificate comes over the feed, a moment after the port is open."""
    command = ["curl", "-sS", "-o", os.devnull, "--cacert", roots, "--retry", "50", "--retry-all-errors", "--retry-delay", "1"]
    command += ["--retry-max-time", "30", "--resolve", f"{HOST}:{port}:127.0.0.1", f"https://{HOST}:{port}/"]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def run(args, folder, compare):
    """Rows of each kind, in CPU-µs per handshake, and what is said of them."""
    os.makedirs(folder, exist_ok=True)
    os.chmod(folder, 0o755)
    certificate(folder)
    roots = f"{folder}/root.pem"
    ours, peer = Ours(args.programs, folder), Peer(folder)
    results = {}
    try:
        for at in (ours, peer):
            wait_certificate(at.port, roots)
        for name, flags in {**KINDS, **POST_QUANTUM}.items():
            contenders = {"ours": (driver(args.programs, ours.port, roots, flags), ours.group)}
            if name in KINDS:
                contenders["nginx"] = (driver(args.programs, peer.port, roots, flags), peer.group)
            results[name] = compare(f"handshakes {name}", contenders, args.pairs, args.seconds)
    finally:
        ours.stop()
        peer.stop()
    return results


def table(results):
    """Handshakes per second of one core: what counts is the median over pairs of how many times nginx's."""
    if not results:
        return
    print(f"\n{'TLS handshakes':34}{'CPU-µs':>9}{'per core-s':>12}{'p50 ms':>9}{'p99 ms':>9}{'of nginx':>10}")
    for kind, rows in results.items():
        for who, all_rows in rows.items():
            cpu = statistics.median(row["cpu_us"] for row in all_rows)
            line = f"{kind + ' ' + who:34}{cpu:9.1f}{1e6 / cpu:12.0f}"
            for key in ("p50_us", "p99_us"):
                line += f"{statistics.median(row[key] for row in all_rows) / 1000:9.2f}"
            if who == "ours" and "nginx" in rows:
                ratios = [b["cpu_us"] / a["cpu_us"] for a, b in zip(all_rows, rows["nginx"])]
                line += f"{statistics.median(ratios):9.2f}x"
            print(line)
