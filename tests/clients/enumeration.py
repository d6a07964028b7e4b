"""Asks for known and unknown accounts in turn at sign-in, sign-up and recovery, and judges whether anybody could tell
them apart: same status, same header, same body, and times that come from one distribution (R13).

Each attempt comes from a network of its own (127.x.y.1), because one network is slowed after a few; the order of known and
unknown is drawn anew for each pair, so that drift of the machine falls on both alike. Prints a JSON line for each flow.

Strangers altogether are sent 100 mails at once and one a second from then on. With `--fresh N` it prints `rest` before
each N samples of a flow that mails, and waits for a line: whoever runs it starts the server anew, which has forgotten.
"""
import argparse
import hashlib
import html
import http.client
import json
import random
import re
import socket
import ssl
import statistics
import sys
import time
from urllib.parse import urlencode

# A difference of medians under this, in milliseconds, is not seen through a network, whatever statistics say of it here.
SEEN_MS = 1.0
# Standard deviations of the rank sum: 4 are crossed by chance once in 16 000 runs.
Z_MAX = 4.0
# Between two attempts to sign in: strangers altogether are let in about 15 times a second.
PACE_S = 0.08
# Before the samples that count after a rest: a server that has just begun is slower.
WARM = 2

networks = iter(f"127.{n // 250 + 1}.{n % 250 + 1}.1" for n in range(60_000))


def say(**line) -> None:
    print(json.dumps(line), flush=True)


class Visitor:
    """A browser's one visit from a network of its own."""

    def __init__(self, place, context) -> None:
        self.place = place
        plain = socket.create_connection(("127.0.0.1", place.port), 30, source_address=(next(networks), 0))
        self.connection = http.client.HTTPConnection(place.host, place.port, timeout=30)
        self.connection.sock = context.wrap_socket(plain, server_hostname=place.host)
        self.cookies = {}

    def ask(self, method: str, path: str, body: str | None = None):
        headers = {"host": f"{self.place.host}:{self.place.port}", "accept": "text/html"}
        if self.cookies:
            headers["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if body is not None:
            headers |= {
                "content-type": "application/x-www-form-urlencoded",
                "origin": f"https://{self.place.host}:{self.place.port}",
                "sec-fetch-site": "same-origin",
            }
        began = time.perf_counter()
        self.connection.request(method, path, body=body, headers=headers)
        answer = self.connection.getresponse()
        text = answer.read().decode()
        took = (time.perf_counter() - began) * 1000
        for cookie in answer.headers.get_all("set-cookie") or []:
            name, _, value = cookie.split(";")[0].partition("=")
            self.cookies[name] = value
        return answer, text, took


def plain(answer, text: str, email: str) -> tuple:
    """An answer without what is new in each: form tokens, request ids, times, cookies' values, the address itself."""
    text = text.replace(email, "ADDRESS").replace(html.escape(email), "ADDRESS")
    text = re.sub(r'name="form" value="[^"]*"', "FORM", text)
    text = re.sub(r"req_[0-9a-z]{26}", "REQUEST", text)
    text = re.sub(r'href="[^"]*[?&][^"]*"', "HREF", text)
    head = []
    for name, value in answer.getheaders():
        name = name.lower()
        if name in ("date", "content-length"):
            continue
        value = re.sub(r"=[A-Za-z0-9_.-]{20,}", "=VALUE", re.sub(r"req_[0-9a-z]{26}", "REQUEST", value))
        head.append((name, value.replace(email, "ADDRESS")))
    return answer.status, tuple(sorted(head)), hashlib.sha256(text.encode()).hexdigest(), text


def attempt(place, context, path: str, email: str, password: str | None):
    visitor = Visitor(place, context)
    _, page, _ = visitor.ask("GET", path)
    form = re.search(r'name="form" value="([^"]*)"', page)
    if not form:
        raise SystemExit(f"{path} has no form: {page[:500]}")
    action = re.search(r'<form method="post" action="([^"]*)"', page)[1]
    fields = {"form": html.unescape(form[1]), "email": email}
    if password is not None:
        fields["password"] = password
    answer, text, took = visitor.ask("POST", html.unescape(action), urlencode(fields))
    visitor.connection.close()
    return plain(answer, text, email), took


def z_of_ranks(known: list[float], unknown: list[float]) -> float:
    """Mann-Whitney: how many standard deviations the rank sum lies from where one distribution would put it."""
    ranked = sorted([(value, True) for value in known] + [(value, False) for value in unknown])
    ranks = sum(rank for rank, (_, is_known) in enumerate(ranked, 1) if is_known)
    n, m = len(known), len(unknown)
    mean, variance = n * (n + m + 1) / 2, n * m * (n + m + 1) / 12
    return (ranks - mean) / variance**0.5


def rest(feature: str, ask) -> None:
    say(event="rest", feature=feature)
    if not sys.stdin.readline():
        raise SystemExit("nobody says to go on")
    for n in range(WARM):
        ask(n % 2 == 0, n)


def judge(feature: str, samples: int, ask, fresh: int = 0, pace: float = 0.0) -> None:
    times, answers = {True: [], False: []}, {}
    for n in range(samples):
        if fresh and n % fresh == 0:
            rest(feature, ask)
        for is_known in random.sample([True, False], 2):
            answer, took = ask(is_known, n)
            times[is_known].append(took)
            answers.setdefault(answer[:3], (is_known, answer[3]))
            time.sleep(pace)
    if len(answers) != 1:
        (first, one), (second, other) = list(answers.values())[:2]
        statuses = [answer[0] for answer in answers]
        why = f"{len(answers)} answers {statuses}: known={first} {one[-600:]!r}, known={second} {other[-600:]!r}"
        heads = [set(answer[1]) for answer in answers]
        say(event="done", feature=feature, ok=False, why=f"{why}; {heads[0] ^ heads[1]}")
        return
    medians = {which: statistics.median(values) for which, values in times.items()}
    apart, z = abs(medians[True] - medians[False]), z_of_ranks(times[True], times[False])
    ok = samples < 100 or apart < SEEN_MS or abs(z) < Z_MAX
    why = f"{samples} each: medians {medians[True]:.2f} and {medians[False]:.2f} ms, z = {z:.2f}"
    say(event="done", feature=feature, ok=ok, why=why)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ca", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--samples", type=int, required=True)
    parser.add_argument("--accounts", type=int, required=True)
    parser.add_argument("--fresh", type=int, default=0, help="samples of a flow that mails for which one server is good")
    parser.add_argument("--query", required=True, help="of an application, as its edge sends people to the login host")
    place = parser.parse_args()
    context = ssl.create_default_context(cafile=place.ca)
    fresh = iter(range(1_000_000))

    def ask(path: str, password: bool):
        def once(is_known: bool, n: int):
            # The same length, so that no length tells.
            email = f"known-{n % place.accounts:05}@shop.example" if is_known else f"never-{next(fresh):05}@shop.example"
            return attempt(place, context, f"{path}?{place.query}", email, f"wrong password {random.random()}" if password else None)

        return once

    judge("sign_in", place.samples, ask("/sign-in", True), pace=PACE_S)
    judge("sign_up", place.samples, ask("/sign-up", False), fresh=place.fresh)
    judge("recovery", place.samples, ask("/recover", False), fresh=place.fresh)


main()
