"""An SMTP server for the behaviour tests (tests/src/smtp.rs).

Usage: smtp_server.py FOLDER. It listens on a free port of 127.0.0.1 and prints the port. Each mail goes to the Maildir
FOLDER/maildir and, parsed by Python's own e-mail library, to FOLDER/parsed/NNNN.json. FOLDER/refusals.json, read at each
command, maps "rcpt ADDRESS" and "data ADDRESS" to the reply that recipient gets. It ends when standard input closes.
"""

import asyncio
import email
import email.policy
import itertools
import json
import mailbox
import os
import sys

from aiosmtpd.smtp import SMTP


class Handler:
    def __init__(self, folder):
        self.folder = folder
        self.parsed = os.path.join(folder, "parsed")
        os.makedirs(self.parsed, exist_ok=True)
        self.maildir = mailbox.Maildir(os.path.join(folder, "maildir"))
        self.count = itertools.count(1)

    def refusal(self, stage, address):
        try:
            with open(os.path.join(self.folder, "refusals.json"), encoding="utf-8") as file:
                return json.load(file).get(f"{stage} {address}")
        except FileNotFoundError:
            return None

    async def handle_RCPT(self, server, session, envelope, address, options):
        refusal = self.refusal("rcpt", address)
        if refusal:
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server, session, envelope):
        for address in envelope.rcpt_tos:
            refusal = self.refusal("data", address)
            if refusal:
                return refusal
        self.keep(envelope)
        return "250 2.0.0 OK: queued"

    def keep(self, envelope):
        self.maildir.add(envelope.content)
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        body = {}
        for kind in ("plain", "html"):
            part = message.get_body(preferencelist=(kind,))
            body[kind] = part.get_content() if part else ""
        mail = {
            "from": envelope.mail_from,
            "recipients": envelope.rcpt_tos,
            "headers": {name.lower(): str(value) for name, value in message.items()},
            "text": body["plain"],
            "html": body["html"],
            "raw": envelope.content.decode("utf-8", "replace"),
        }
        target = os.path.join(self.parsed, f"{next(self.count):06}.json")
        with open(target + ".next", "w", encoding="utf-8") as file:
            json.dump(mail, file)
        os.rename(target + ".next", target)


async def main():
    handler = Handler(sys.argv[1])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(handler, enable_SMTPUTF8=True), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


asyncio.run(main())
