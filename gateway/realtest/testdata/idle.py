"""Idles in INBOX while a message is submitted, and prints what IDLE tells."""

import time

from door import PASSWORD, USER, args, imap, show, smtp

m = imap()
m.login(USER, PASSWORD)
m.select("INBOX")
m.send(b"X1 IDLE\r\n")
seen = [m.readline().decode()]

s = smtp()
s.login(USER, PASSWORD)
s.sendmail(USER, [USER], f"From: <{USER}>\r\nTo: <{USER}>\r\nSubject: idle\r\n\r\nwake up\r\n")
sent = time.monotonic()
s.quit()

# A socket time-out (see door.py) ends the wait: the server sends no message
# for two minutes when nothing happens.
while True:
    line = m.readline().decode()
    if "EXISTS" in line:
        seen.append(line)
        break
took = time.monotonic() - sent
m.send(b"DONE\r\n")
while True:
    line = m.readline().decode()
    if line.startswith("X1 "):
        seen.append(line.split()[1])
        break
m.logout()
show({"seen": seen, "took": took})
