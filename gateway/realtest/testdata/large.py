"""Submits a message of almost 10 MB and reads it back, byte for byte."""

import hashlib
import random
import time

from door import PASSWORD, USER, args, imap, show, smtp

rng = random.Random(1956)
alphabet = bytes(range(0x20, 0x7F))
lines = [bytes(rng.choices(alphabet, k=76)) for _ in range(1000)]
body = b"".join(lines[i * 7919 % 1000] + b"\r\n" for i in range(args["size"] // 78))
head = f"From: <{USER}>\r\nTo: <{USER}>\r\nSubject: large\r\nMessage-ID: <large@congthu.test>\r\n\r\n".encode()

s = smtp()
s.login(USER, PASSWORD)
refused = s.sendmail(USER, [USER], head + body)
s.quit()

m = imap()
m.login(USER, PASSWORD)
deadline = time.monotonic() + 60
while True:
    m.select("INBOX")
    typ, data = m.search(None, "ALL")
    if data[0]:
        break
    assert time.monotonic() < deadline, "not delivered"
    time.sleep(0.1)
typ, data = m.fetch("1", "(BODY.PEEK[TEXT])")
m.append("INBOX", None, None, head + body)
m.select("INBOX")
typ, again = m.fetch("2", "(BODY.PEEK[])")
m.logout()


def digest(b):
    return [len(b), hashlib.sha256(b).hexdigest()]


show({"refused": refused, "sent": digest(body), "delivered": digest(data[0][1]),
      "appended": digest(again[0][1][len(head):]), "same": data[0][1] == body and again[0][1] == head + body})
