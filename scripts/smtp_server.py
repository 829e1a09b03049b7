"""A real SMTP server on loopback for the tests: three ports, one mail directory.

usage: smtp_server.py --mail-dir DIR --cert FILE --key FILE --user NAME --password WORD --ready FILE

  plain      no TLS, no login
  starttls   STARTTLS required, then AUTH required
  smtps      TLS from the first byte, AUTH required

The ports are free ones; once all three listen, FILE given by --ready holds "plain=N starttls=N smtps=N".
Each accepted mail becomes DIR/{number}.eml (written whole, then renamed), its envelope in X-Envelope-* lines on top.

A recipient's name can ask for trouble:
  reject-*   550, for ever              defer-*    451, try later
  lost-*     the mail is stored, then the connection is cut before the 250: the sender cannot know
"""

import argparse
import asyncio
import itertools
import os
import ssl
import tempfile

from aiosmtpd.smtp import SMTP, AuthResult

# Limit: mails of recurd are a few KiB; a megabyte is a bug.
MAIL_BYTES_MAX = 1 << 20


class Mailbox:
    def __init__(self, mail_dir, port_name, numbers):
        self.mail_dir = mail_dir
        self.port_name = port_name
        self.numbers = numbers

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("reject-"):
            return "550 5.1.1 No such mailbox"
        if address.startswith("defer-"):
            return "451 4.3.0 Try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        number = next(self.numbers)
        self.store(number, session, envelope)
        if any(to.startswith("lost-") for to in envelope.rcpt_tos):
            server.transport.abort()
        return f"250 OK stored as {number:06}"

    def store(self, number, session, envelope):
        login = session.auth_data.decode() if session.auth_data else "-"
        head = (
            f"X-Envelope-Port: {self.port_name}\r\n"
            f"X-Envelope-Login: {login}\r\n"
            f"X-Envelope-From: {envelope.mail_from}\r\n"
            f"X-Envelope-To: {', '.join(envelope.rcpt_tos)}\r\n"
        )
        handle, part = tempfile.mkstemp(dir=self.mail_dir, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(head.encode() + envelope.content)
        os.rename(part, os.path.join(self.mail_dir, f"{number:06}.eml"))


def authenticator(user, password):
    def check(server, session, envelope, mechanism, login):
        right = (login.login, login.password) == (user.encode(), password.encode())
        return AuthResult(success=right, handled=False, auth_data=login.login if right else None)

    return check


def read_args():
    parser = argparse.ArgumentParser()
    for name in ("mail-dir", "cert", "key", "user", "password", "ready"):
        parser.add_argument(f"--{name}", required=True)
    return parser.parse_args()


async def serve(args):
    loop = asyncio.get_running_loop()
    numbers = itertools.count(1)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(args.cert, args.key)
    login = {"auth_required": True, "authenticator": authenticator(args.user, args.password)}
    # smtps: aiosmtpd sees no STARTTLS there, so it must not ask for one before AUTH.
    ports = {
        "plain": ({}, None),
        "starttls": ({"tls_context": tls, "require_starttls": True, **login}, None),
        "smtps": ({"auth_require_tls": False, **login}, tls),
    }
    listening = []
    for name, (options, tls_at_once) in ports.items():

        def connection(name=name, options=options):
            box = Mailbox(args.mail_dir, name, numbers)
            return SMTP(box, hostname="localhost", data_size_limit=MAIL_BYTES_MAX, loop=loop, **options)

        listener = await loop.create_server(connection, "127.0.0.1", 0, ssl=tls_at_once)
        listening.append(f"{name}={listener.sockets[0].getsockname()[1]}")
    with open(args.ready + ".part", "w") as file:
        file.write(" ".join(listening) + "\n")
    os.rename(args.ready + ".part", args.ready)
    await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(serve(read_args()))
    except KeyboardInterrupt:
        pass
