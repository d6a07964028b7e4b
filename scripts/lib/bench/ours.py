"""The product as a user runs it: `mezusphere serve`, `warpgate connect`, defaults everywhere."""
import json
import os
import re
import subprocess
import time

from process import Group, Process, free_port, wait_tcp


class System:
    """A server and a warpgate in front of the origin, with a public and a protected route and somebody signed in."""

    host = "bench.localhost"

    def __init__(self, programs, folder, origin_port, flags=()):
        os.makedirs(folder, exist_ok=True)
        self.programs, self.folder = programs, folder
        self.data = f"{folder}/data"
        self.port = free_port()
        serve = [f"{programs}/mezusphere", "serve", "--data", self.data, "--listen", f"127.0.0.1:{self.port}"]
        self.serve = [*serve, *flags]
        self.server = Process(self.serve, f"{folder}/server.log")
        wait_tcp(self.port)
        self.wait_log("server.log", "ready")
        self.admin("project", "create", "bench")
        self.admin("route", "add", "bench", "/*", "--auth", "public")
        self.admin("role", "set", "bench", "member")
        self.admin("route", "add", "bench", "/account/*", "--auth", "required", "--role", "member")
        user = self.admin("user", "create", "bench", "ada@example.com", "--name", "Ada", "--role", "member")
        key = self.admin("api-key", "create", "bench")["secret"]
        self.key, self.upstream = key, f"http://127.0.0.1:{origin_port}"
        connect = [f"{programs}/warpgate", "connect", "--upstream", self.upstream]
        self.gate = Process(connect, f"{folder}/warpgate.log", env={"WARPGATE_KEY": key})
        self.wait_log("warpgate.log", "ready")
        cookie = self.sign_in("ada@example.com", user["password"])
        base = {"host": self.host, "roots": f"{self.data}/ca.pem", "port": self.port}
        self.public = dict(base, path="/small", headers=[])
        self.signed_in = dict(base, path="/account/small", headers=[f"cookie: {cookie}"])

    def wait_log(self, name, event, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with open(f"{self.folder}/{name}") as log:
                if f'"event":"{event}"' in log.read():
                    return
            time.sleep(0.05)
        with open(f"{self.folder}/{name}") as log:
            raise SystemExit(f"{name} never said {event}:\n{log.read()}")

    def admin(self, *words):
        command = [f"{self.programs}/mezusphere", "--json", "--data", self.data, *words]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(words)}: {done.stderr}")
        return json.loads(done.stdout)

    def sign_in(self, email, password):
        """Signs in with curl as a browser would, and gives the session cookie."""
        jar = f"{self.folder}/cookies"
        curl = ["curl", "-sS", "--cacert", f"{self.data}/ca.pem", "-b", jar, "-c", jar, "-H", "accept: text/html"]
        page = f"https://{self.host}:{self.port}/account/small"
        form = subprocess.run([*curl, "-L", "-w", "\n%{url_effective}", page], check=True, capture_output=True, text=True)
        html, url = form.stdout.rsplit("\n", 1)
        hidden = re.findall(r'<input[^>]*type="hidden"[^>]*name="([^"]+)"[^>]*value="([^"]*)"', html)
        fields = [*hidden, ("email", email), ("password", password)]
        data = [part for name, value in fields for part in ("--data-urlencode", f"{name}={value}")]
        origin = "/".join(url.split("/")[:3])
        send = [*curl, "-L", "-H", f"origin: {origin}", "-H", "sec-fetch-site: same-origin", *data, url]
        subprocess.run([*send, "-o", os.devnull], check=True)
        with open(jar) as cookies:
            for line in cookies:
                if "__Host-mezu-session" in line:
                    return "__Host-mezu-session=" + line.split("\t")[6].strip()
        raise SystemExit("sign-in gave no session cookie")

    def group(self):
        return Group({"server": self.server.pid, "warpgate": self.gate.pid})

    def stop(self):
        self.gate.stop()
        self.server.stop()
