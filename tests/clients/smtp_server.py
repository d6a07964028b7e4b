"""A mail server (aiosmtpd) that prints every mail it takes as a JSON line, and misbehaves where the recipient's name
asks for it.

It listens in four ways at once: without TLS, with STARTTLS on offer, with STARTTLS and a password demanded, and with TLS
from the first octet. Its certificate is its own; the `ready` line says where the authority lies.

Recipients that it treats in a way of their own, by the local part:
  later-N     451 at RCPT, N times            busy-N    451 after the content, N times
  never       550 at RCPT                     content   554 after the content
  hangup-N    gone in the middle of DATA, N times
  lost-N      takes the mail and is gone before it says so, N times
  slow        three seconds before it answers to the content
"""
import argparse
import asyncio
import datetime
import email
import email.policy
import ipaddress
import json
import re
import ssl
from collections import Counter
from pathlib import Path

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session, syntax
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

USER, PASSWORD = "mezu", "canary-smtp-password"
LINK = re.compile(r"https://\S+")

times: Counter = Counter()
taken: Counter = Counter()


def say(**line) -> None:
    print(json.dumps(line), flush=True)


def file(folder: Path, **mail) -> None:
    """Prints a mail, and appends it to `mails.jsonl` for programs that do not read what this one prints."""
    with open(folder / "mails.jsonl", "a", encoding="utf-8") as lines:
        lines.write(json.dumps(mail) + "\n")
    say(event="mail", **mail)


def asked(recipients: list[str], word: str) -> bool:
    """Whether a recipient asks for this misbehaviour, and has not had it often enough yet."""
    for recipient in recipients:
        match = re.fullmatch(rf"{word}(?:-(\d+))?@.*", recipient)
        if match:
            times[recipient] += 1
            return match[1] is None or times[recipient] <= int(match[1])
    return False


def body(message, kind: str) -> str:
    part = message.get_body(preferencelist=(kind,))
    return part.get_content() if part else ""


class Handler:
    def __init__(self, way: str, folder: Path) -> None:
        self.way = way
        self.folder = folder

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options) -> str:
        if asked([address], "never"):
            return "550 5.1.1 no such user"
        if asked([address], "later"):
            return "451 4.7.1 greylisted, come again"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if asked(envelope.rcpt_tos, "busy"):
            return "451 4.3.0 busy"
        if asked(envelope.rcpt_tos, "content"):
            return "554 5.7.1 this looks like spam"
        if asked(envelope.rcpt_tos, "slow"):
            await asyncio.sleep(3)
        raw = envelope.original_content
        message = email.message_from_bytes(raw, policy=email.policy.default)
        text = body(message, "plain")
        taken.update(envelope.rcpt_tos)
        file(
            self.folder,
            nth=max(taken[address] for address in envelope.rcpt_tos),
            way=self.way,
            tls=server.transport.get_extra_info("ssl_object") is not None,
            auth=bool(session.authenticated),
            sender=envelope.mail_from,
            recipients=envelope.rcpt_tos,
            subject=str(message["subject"]),
            headers=[[name, str(value)] for name, value in message.items()],
            text=text,
            html=body(message, "html"),
            links=LINK.findall(text.split("\n-- \n")[0]),
            longest=max(len(line) for line in raw.split(b"\r\n")),
        )
        if asked(envelope.rcpt_tos, "lost"):
            server.transport.abort()
        return "250 2.0.0 taken"


class Server(SMTP):
    @syntax("DATA")
    async def smtp_DATA(self, arg: str) -> None:
        if self.envelope is not None and asked(self.envelope.rcpt_tos, "hangup"):
            await self.push("354 go on")
            await self._reader.read(1)
            self.transport.abort()
            return
        await super().smtp_DATA(arg)


def authenticate(server, session, envelope, mechanism, data) -> AuthResult:
    good = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=good, handled=good)


def certificate(folder: Path) -> ssl.SSLContext:
    """A certificate of an authority of its own, both new."""
    now = datetime.datetime.now(datetime.timezone.utc)

    def issue(name, issuer, key, signer, authority):
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(signer, hashes.SHA256())

    def named(text):
        return x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, text)])

    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = issue(named("mail test root"), named("mail test root"), root_key, root_key, True)
    leaf = issue(named("localhost"), named("mail test root"), key, root_key, False)
    pem = serialization.Encoding.PEM
    (folder / "mail-ca.pem").write_bytes(root.public_bytes(pem))
    (folder / "mail.pem").write_bytes(
        leaf.public_bytes(pem)
        + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "mail.pem")
    return context


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0, help="of the one without TLS, to come back on")
    options = parser.parse_args()
    tls = certificate(options.folder)
    loop = asyncio.get_running_loop()

    async def listen(way: str, port: int = 0, implicit: bool = False, **more) -> int:
        def make() -> SMTP:
            return Server(Handler(way, options.folder), loop=loop, hostname="mail.test", enable_SMTPUTF8=True, **more)

        server = await loop.create_server(make, "127.0.0.1", port, ssl=tls if implicit else None)
        return server.sockets[0].getsockname()[1]

    demand = {"authenticator": authenticate, "auth_required": True}
    say(
        event="ready",
        plain=await listen("plain", options.port, auth_require_tls=False, authenticator=authenticate),
        starttls=await listen("starttls", tls_context=tls),
        demanding=await listen("demanding", tls_context=tls, require_starttls=True, **demand),
        implicit=await listen("implicit", implicit=True, auth_require_tls=False, **demand),
        ca=str(options.folder / "mail-ca.pem"),
        user=USER,
        password=PASSWORD,
    )
    await asyncio.Event().wait()


asyncio.run(main())
