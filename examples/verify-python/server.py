"""A sample workload that believes nothing but the signed assertion: it answers who you are, or 401 and why not.

    pip install -r requirements.txt
    python server.py --issuer spiffe://mezu.internal --audience prj_…/env_… --keys https://shop.example/.mezu/jwks.json

`mezusphere environment list PROJECT --json` shows issuer and audience. Needs Python 3.9 and the package `cryptography`.
"""

import argparse
import base64
import http.client
import json
import re
import socket
import ssl
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

LEN_MAX = 8 * 1024  # longest assertion there is, in characters
SKEW_S_MAX = 60  # how far our clock may be behind the one that signed
KEPT_FOR_S = 300  # how long the key set is used without looking again, as its cache-control says
FETCH_AGAIN_AFTER_S = 10  # an invented key must not turn requests into fetches
FETCH_WITHIN_S = 5
KEYS_LEN_MAX = 64 * 1024  # largest key set, in octets

# ---- Verifying: the part to copy ------------------------------------------------------------------------------------

BASE64URL = re.compile(r"[A-Za-z0-9_-]+\Z")


class Refused(Exception):
    """Why an assertion is not believed."""


def octets(text):
    if not BASE64URL.match(text):
        raise Refused("malformed")
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise Refused("malformed") from None


def part(text):
    try:
        value = json.loads(octets(text))
    except ValueError:
        raise Refused("malformed") from None
    if not isinstance(value, dict):
        raise Refused("malformed")
    return value


def verify(assertion, issuer, audience, find_key, now):
    """What an assertion says, if it is good.

    The reader decides everything: one algorithm, one type, one issuer, one audience. The text can only agree or be
    refused. `find_key(kid)` gives a P-256 public key or None; `now` is in seconds since 1970.
    """
    parts = assertion.split(".")
    if len(assertion) > LEN_MAX or len(parts) != 3:
        raise Refused("malformed")
    header = part(parts[0])
    if "crit" in header:
        raise Refused("malformed")
    # Never "whatever the header says": `none` and HMAC with a public key live there.
    if header.get("alg") != "ES256":
        raise Refused("wrong algorithm")
    if header.get("typ") != "mezu-assertion+jwt":
        raise Refused("wrong type")
    kid = header.get("kid")
    key = find_key(kid) if isinstance(kid, str) else None
    if key is None:
        raise Refused("unknown key")
    signature = octets(parts[2])
    if len(signature) != 64:
        raise Refused("bad signature")
    r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
    try:
        signed = f"{parts[0]}.{parts[1]}".encode("ascii")
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise Refused("bad signature") from None
    claims = part(parts[1])
    if claims.get("iss") != issuer:
        raise Refused("wrong issuer")
    if claims.get("aud") != audience:
        raise Refused("wrong audience")
    if not all(isinstance(claims.get(name), int) for name in ("exp", "iat")):
        raise Refused("malformed")
    if claims["exp"] <= now:
        raise Refused("expired")
    if claims["iat"] > now + SKEW_S_MAX:
        raise Refused("not valid yet")
    return claims


# ---- The key set: fetched once, kept, fetched again when an assertion names a key that is not in it --------------------


class KeySet:
    def __init__(self, source, ca):
        self.source, self.ca = source, ca
        self.keys, self.fetched_at = {}, None
        self.lock = threading.Lock()

    def find(self, kid):
        with self.lock:
            age = float("inf") if self.fetched_at is None else time.monotonic() - self.fetched_at
            if age >= KEPT_FOR_S or (kid not in self.keys and age >= FETCH_AGAIN_AFTER_S):
                try:
                    self.keys = keys_of(json.loads(self.read()))
                    self.fetched_at = time.monotonic()
                except (OSError, ValueError, http.client.HTTPException):
                    # What is held still verifies; keys are announced long before they sign.
                    if not self.keys:
                        raise
            return self.keys.get(kid)

    def read(self):
        if not self.source.startswith("https://"):
            with open(self.source, "rb") as file:
                return file.read()
        url = urllib.parse.urlsplit(self.source)
        connection = Connection(url.hostname, url.port or 443, timeout=FETCH_WITHIN_S, context=context(self.ca))
        try:
            connection.request("GET", url.path)
            response = connection.getresponse()
            body = response.read(KEYS_LEN_MAX + 1)
            if response.status != 200 or len(body) > KEYS_LEN_MAX:
                raise OSError(f"{self.source} answered {response.status}, {len(body)} octets")
            return body
        finally:
            connection.close()


class Connection(http.client.HTTPSConnection):
    """Names under localhost are loopback (RFC 6761 §6.3), which not every resolver knows."""

    def connect(self):
        address = "127.0.0.1" if self.host.endswith(".localhost") else self.host
        tcp = socket.create_connection((address, self.port), self.timeout)
        self.sock = self._context.wrap_socket(tcp, server_hostname=self.host)


def context(ca):
    return ssl.create_default_context(cafile=ca)


def keys_of(jwks):
    found = {}
    for jwk in jwks.get("keys", []):
        if jwk.get("kty") == "EC" and jwk.get("crv") == "P-256" and isinstance(jwk.get("kid"), str):
            x, y = (int.from_bytes(octets(jwk[name]), "big") for name in ("x", "y"))
            found[jwk["kid"]] = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    return found


# ---- The service ----------------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self):
        try:
            claims = self.caller()
            told = {name: claims.get(name, "") for name in ("email", "name")}
            status, told = 200, {"account": claims.get("sub"), **told, "roles": claims.get("roles", [])}
        except Refused as why:
            status, told = 401, {"error": str(why)}
        except (OSError, ValueError, http.client.HTTPException) as why:
            # Without keys nobody is believed.
            status, told = 503, {"error": str(why)}
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def caller(self):
        assertions = self.headers.get_all("mezu-assertion", [])
        if len(assertions) != 1 or not assertions[0]:
            raise Refused("nobody is signed in")
        server = self.server
        return verify(assertions[0], server.issuer, server.audience, server.keys.find, int(time.time()))

    def log_message(self, *_):
        pass


def main():
    parser = argparse.ArgumentParser(description="Verifies the assertion of each request, and answers who sends it.")
    parser.add_argument("--listen", default="127.0.0.1:3000")
    parser.add_argument("--issuer", required=True)
    parser.add_argument("--audience", required=True)
    parser.add_argument("--keys", required=True, help="https://shop.example/.mezu/jwks.json, or a file")
    parser.add_argument("--ca", help="root certificates to trust when keys are fetched, PEM")
    options = parser.parse_args()
    if "://" in options.keys and not options.keys.startswith("https://"):
        sys.exit(f"error: {options.keys}: keys come over https, or from a file")
    host, _, port = options.listen.rpartition(":")
    server = ThreadingHTTPServer((host, int(port)), Handler)
    server.daemon_threads = True
    server.issuer, server.audience = options.issuer, options.audience
    server.keys = KeySet(options.keys, options.ca)
    print("listening on http://{}:{}".format(*server.server_address), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
