"""What all scripts share: where to connect, and how to print what was seen.

A script is started with one JSON argument: the ports of a door (straight at
the servers, or through congthu), the certificate authority, a user and a
password, and whatever the script itself wants.
"""

import imaplib
import json
import smtplib
import socket
import ssl
import sys

args = json.loads(sys.argv[1])
HOST = "localhost"
USER, PASSWORD = args["user"], args["password"]
TIMEOUT = 60
SOURCE = (args["from"], 0)


class IMAP4(imaplib.IMAP4):
    """imaplib cannot be told which address to come from."""

    def _create_socket(self, timeout):
        return socket.create_connection((HOST, self.port), timeout, SOURCE)


class IMAP4_SSL(imaplib.IMAP4_SSL):
    def _create_socket(self, timeout):
        sock = socket.create_connection((HOST, self.port), timeout, SOURCE)
        return self.ssl_context.wrap_socket(sock, server_hostname=HOST)


def context():
    return ssl.create_default_context(cafile=args["ca"])


def imap(implicit=True):
    """An IMAP connection with TLS, not logged in."""
    if implicit:
        return IMAP4_SSL(HOST, args["imaps"], ssl_context=context(), timeout=TIMEOUT)
    m = IMAP4(HOST, args["imap"], timeout=TIMEOUT)
    m.starttls(context())
    return m


def smtp(implicit=True):
    """A submission connection with TLS, not logged in."""
    if implicit:
        s = smtplib.SMTP_SSL(HOST, args["submissions"], local_hostname="client.example",
                             source_address=SOURCE, context=context(), timeout=TIMEOUT)
        s.ehlo()
        return s
    s = smtplib.SMTP(HOST, args["submission"], local_hostname="client.example",
                     source_address=SOURCE, timeout=TIMEOUT)
    s.starttls(context=context())
    s.ehlo()
    return s


def show(what):
    json.dump(what, sys.stdout, ensure_ascii=True, indent=1, default=lambda b: b.decode("latin-1"))
    print()


def utf7(name):
    """A folder name in modified UTF-7 (RFC 3501 section 5.1.3)."""
    out, run = [], ""

    def flush():
        nonlocal run
        if run:
            import base64
            b = base64.b64encode(run.encode("utf-16-be")).decode().rstrip("=").replace("/", ",")
            out.append("&" + b + "-")
            run = ""
    for c in name:
        if 0x20 <= ord(c) <= 0x7E:
            flush()
            out.append("&-" if c == "&" else c)
        else:
            run += c
    flush()
    return "".join(out)
