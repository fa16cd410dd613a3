"""Tries to log in once and prints the reply, word for word.

door: imap, imaps (LOGIN command), imap-plain, imap-cleartext,
      smtp, smtps (smtplib's own choice), smtp-login, smtp-cleartext
"""

import base64
import smtplib

from door import HOST, IMAP4, PASSWORD, SOURCE, TIMEOUT, USER, args, imap, show, smtp

door, authorize = args["door"], args.get("authorize", "")


def try_imap():
    if door == "imap-cleartext":
        m = IMAP4(HOST, args["imap"], timeout=TIMEOUT)
    else:
        m = imap(implicit=door != "imap")
    try:
        if door == "imap-plain":
            typ, data = m.authenticate("PLAIN", lambda _: f"{authorize}\0{USER}\0{PASSWORD}".encode())
        else:
            typ, data = m.login(USER, PASSWORD)
    except m.error as e:
        # imaplib raises with the text of the reply as bytes, str() of bytes, or both.
        text = str(e)
        if text.startswith("b'"):
            text = text[2:-1]
        return {"code": "NO", "text": text}
    finally:
        try:
            m.shutdown()
        except OSError:
            pass
    return {"code": typ, "text": data[0].decode()}


def try_smtp():
    if door == "smtp-cleartext":
        s = smtplib.SMTP(HOST, args["submission"], local_hostname="client.example",
                         source_address=SOURCE, timeout=TIMEOUT)
        s.ehlo()
    else:
        try:
            s = smtp(implicit=door != "smtp")
        except smtplib.SMTPConnectError as e:  # the greeting says that it is away
            return {"code": str(e.smtp_code), "text": e.smtp_error.decode()}
    try:
        if door in ("smtp-cleartext", "smtp-plain"):
            blob = base64.b64encode(f"{authorize}\0{USER}\0{PASSWORD}".encode()).decode()
            code, text = s.docmd("AUTH", "PLAIN " + blob)
        elif door == "smtp-login":
            s.user, s.password = USER, PASSWORD
            code, text = s.auth("LOGIN", s.auth_login)
        else:
            # Tries PLAIN first and LOGIN when that is refused.
            code, text = s.login(USER, PASSWORD)
    except smtplib.SMTPAuthenticationError as e:
        code, text = e.smtp_code, e.smtp_error
    finally:
        s.close()
    return {"code": str(code), "text": text.decode()}


show(try_imap() if door.startswith("imap") else try_smtp())
