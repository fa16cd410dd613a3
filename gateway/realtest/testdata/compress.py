"""Turns on COMPRESS=DEFLATE (RFC 4978) and talks on."""

import imaplib
import zlib

from door import PASSWORD, USER, imap, show

imaplib.Commands["COMPRESS"] = ("AUTH",)
m = imap()
m.login(USER, PASSWORD)
assert "COMPRESS=DEFLATE" in m.capability()[1][0].decode(), m.capability()
typ, data = m._simple_command("COMPRESS", "DEFLATE")
assert typ == "OK", data

sock, tail = m.sock, b""
out, back = zlib.compressobj(9, zlib.DEFLATED, -15), zlib.decompressobj(-15)
wire = [0, 0]


def say(line):
    octets = out.compress(line) + out.flush(zlib.Z_SYNC_FLUSH)
    wire[0] += len(octets)
    sock.sendall(octets)


def until(tag):
    global tail
    while True:
        lines = tail.split(b"\r\n")
        if any(l.startswith(tag + b" ") for l in lines[:-1]):
            tail = lines[-1]
            return [l.decode("latin-1") for l in lines[:-1]]
        octets = sock.recv(65536)
        assert octets, "connection closed: %r" % tail
        wire[1] += len(octets)
        tail += back.decompress(octets)


def collect(command):
    tag = command.split()[0]
    say(command + b"\r\n")
    return until(tag)


seen = []
text = ("Subject: nén\r\n\r\n" + "lặp lại " * 20000 + "\r\n").encode()
say(b"c1 APPEND INBOX {%d+}\r\n" % len(text) + text + b"\r\n")
seen.append([l.split("]")[-1] for l in until(b"c1") if l.startswith("c1")])
select = collect(b"c2 SELECT INBOX")
seen.append([l for l in select if "EXISTS" in l])
fetch = collect(b"c3 FETCH 1 (RFC822.SIZE BODY.PEEK[TEXT])")
seen.append(fetch)
seen.append(collect(b"c4 NOOP"))
seen.append([l.split("(")[0] for l in collect(b"c5 LOGOUT")])
# 160 kB of text that repeats itself must have been small on the wire.
show({"seen": seen, "compressed": wire[0] < 20000 and wire[1] < 20000})
