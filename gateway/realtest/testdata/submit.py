"""Submits messages with smtplib and prints every reply.

Queue ids differ from one message to the next and are written as QUEUEID.
"""

import re
import smtplib

from door import PASSWORD, USER, args, show, smtp

seen = []


def note(what, answer):
    code, text = answer
    seen.append([what, code, re.sub(r"queued as \w+", "queued as QUEUEID", text.decode())])


s = smtp(args["implicit"])
# AUTH and the greeting's own words apart, the same is offered.
# The gateway says by LIMITS (RFC 9422) how many recipients it takes.
seen.append(["offers", sorted(k for k in s.esmtp_features if k not in ("vrfy", "etrn", "xclient", "limits"))])
seen.append(["size", s.esmtp_features.get("size")])
seen.append(["mechanisms", sorted(s.esmtp_features["auth"].split())])
code, text = s.login(USER, PASSWORD)
seen.append(["login", code])
to = args.get("to", USER)


def submit(name, head, body, options=(), recipients=(to,)):
    s.rset()
    code, text = s.mail(USER, options)
    seen.append([name + ": mail", code])
    for r in recipients:
        code, text = s.rcpt(r)
        seen.append([name + ": rcpt", code, text.decode() if code >= 400 else ""])
    try:
        note(name + ": data", s.data(head.encode() + b"\r\n" + body))
    except smtplib.SMTPDataError as e:
        seen.append([name + ": data", e.smtp_code // 100])


head = f"From: =?utf-8?b?WMOj?= <{USER}>\r\nTo: <{to}>\r\nSubject: NAME\r\nDate: Thu, 05 Mar 2026 08:00:00 +0700\r\nMessage-ID: <NAME@congthu.test>\r\n"
submit("plain", head.replace("NAME", "plain"), b"Hello\r\n")
submit("dots", head.replace("NAME", "dots"), b".\r\n..\r\n.leading\r\n...\r\nend\r\n")
submit("eight", head.replace("NAME", "eight") + "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n",
       "Kính gửi Ủy ban nhân dân tỉnh Bình Phước\r\n".encode(), ["BODY=8BITMIME"])
# Longer than the 998 octets of RFC 5321, as some programs do all the same.
submit("long line", head.replace("NAME", "longline"), b"x" * 20000 + b"\r\nend\r\n")
submit("no body", head.replace("NAME", "nobody"), b"")
submit("no newline", head.replace("NAME", "nonewline"), b"no newline at the end")
submit("unknown recipient", head.replace("NAME", "partly"), b"to one of two\r\n",
       recipients=(to, "nobody-here@congthu.test"))
submit("foreign recipient", head.replace("NAME", "foreign"), b"accepted, then returned\r\n",
       recipients=("someone@example.com",))
s.rset()

# What the gateway answers itself is right, but in its own words.
for what, command in (("too large", f"MAIL FROM:<{USER}> SIZE=99999999"), ("no mail", f"RCPT TO:<{to}>"),
                      ("noop", "NOOP"), ("second AUTH", "AUTH PLAIN AHgAeA=="), ("unknown", "BLURDYBLOOP"), ("quit", "QUIT")):
    code, text = s.docmd(command)
    seen.append([what, code // 100])
show(seen)
