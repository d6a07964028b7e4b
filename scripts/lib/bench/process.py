"""Child processes, what they cost (from /proc), and their end."""
import os
import re
import signal
import socket
import subprocess
import time

HZ = os.sysconf("SC_CLK_TCK")


def free_port():
    """A port that is free on TCP and UDP."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port = tcp.getsockname()[1]
            try:
                udp.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def wait_tcp(port, seconds=15):
    """Waits until something accepts on a loopback port."""
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise SystemExit(f"nothing listens on port {port}")
            time.sleep(0.05)


class Process:
    """A started program with its output in a file."""

    def __init__(self, command, log, env=None):
        self.log = open(log, "wb")
        full = dict(os.environ, **(env or {}))
        self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=full)
        self.pid = self.child.pid

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(5)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait(5)
        self.log.close()


def family(pid):
    """A process and its children: nginx works in workers."""
    found = [pid]
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as stat:
                    text = stat.read()
                if int(text[text.rindex(")") + 2 :].split()[1]) == pid:
                    found.append(int(entry))
            except (OSError, ValueError):
                continue
    return found


class Group:
    """The processes that count as one system: role -> pid."""

    def __init__(self, roles):
        self.members = {role: family(pid) for role, pid in roles.items()}

    def cpu_seconds(self):
        total = 0
        for pids in self.members.values():
            for pid in pids:
                with open(f"/proc/{pid}/stat") as stat:
                    text = stat.read()
                fields = text[text.rindex(")") + 2 :].split()
                total += int(fields[11]) + int(fields[12])
        return total / HZ

    def _kib(self, role, key):
        total = 0
        for pid in self.members[role]:
            with open(f"/proc/{pid}/status") as status:
                total += int(re.search(rf"^{key}:\s+(\d+) kB", status.read(), re.M).group(1))
        return total

    def rss_kib(self):
        return {role: self._kib(role, "VmRSS") for role in self.members}

    def peak_kib(self):
        return {role: self._kib(role, "VmHWM") for role in self.members}

    def reset_peak(self):
        for pids in self.members.values():
            for pid in pids:
                with open(f"/proc/{pid}/clear_refs", "w") as refs:
                    refs.write("5")
