"""One walk through a mailbox with imaplib; prints every answer."""

import re

from door import PASSWORD, USER, args, imap, show, utf7

FOLDERS = ["Công văn đến", "Công văn đi", "Thư đã gửi", "Đơn & kiến nghị", "Ủy ban nhân dân.Xã Minh Hưng"]
seen = []


def note(what, answer):
    typ, data = answer
    seen.append([what, typ, data])


def message(i, body):
    return (f"From: Xã <{USER}>\r\nTo: <{USER}>\r\nSubject: =?utf-8?q?C=C3=B4ng_v=C4=83n?= {i}\r\n"
            f"Message-ID: <{i}@congthu.test>\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Transfer-Encoding: 8bit\r\n\r\n{body}\r\n").encode()


m = imap(args["implicit"])
before = sorted(m.capabilities)
how = args["how"]
if how == "login":
    typ, data = m.login(USER, PASSWORD)
elif how == "plain":
    typ, data = m.authenticate("PLAIN", lambda _: f"\0{USER}\0{PASSWORD}".encode())
elif how == "sasl-login":
    answers = iter([USER.encode(), PASSWORD.encode()])
    typ, data = m.authenticate("LOGIN", lambda _: next(answers))
seen.append(["login", typ, "LOGINDISABLED" in before])
typ, caps = m.capability()
# What the server offers after login must be the server's own.
seen.append(["capability", typ, sorted(caps[0].decode().split())])
note("namespace", m.namespace())
for f in FOLDERS:
    note("create", m.create('"' + utf7(f) + '"'))
note("subscribe", m.subscribe('"' + utf7(FOLDERS[0]) + '"'))
note("list", m.list())
note("lsub", m.lsub())
for i, f in enumerate(["INBOX"] + FOLDERS):
    for j in range(i + 1):
        note("append", (lambda t, d: (t, [re.sub(rb"UID \d+ ", b"UID N ", d[0])]))(
            *m.append('"' + utf7(f) + '"', r"(\Seen)" if j % 2 else None,
                      '"05-Mar-2026 08:00:00 +0700"', message(10 * i + j, "Nội dung số %d" % j))))
for f in ["INBOX"] + FOLDERS:
    note("status", m.status('"' + utf7(f) + '"', "(MESSAGES UNSEEN UIDNEXT)"))
note("rename", m.rename('"' + utf7(FOLDERS[1]) + '"', '"' + utf7("Lưu trữ") + '"'))
note("select", m.select('"' + utf7("Ủy ban nhân dân.Xã Minh Hưng") + '"'))
note("flags", m.response("PERMANENTFLAGS"))
note("search", m.uid("SEARCH", "CHARSET", "UTF-8", "SEEN"))
note("sort", m.sort("(REVERSE SUBJECT)", "UTF-8", "ALL"))
note("thread", m.thread("REFERENCES", "UTF-8", "ALL"))
note("fetch", m.fetch("1:*", "(UID FLAGS INTERNALDATE RFC822.SIZE BODYSTRUCTURE ENVELOPE)"))
note("body", m.fetch("1:*", "(BODY.PEEK[])"))
note("partial", m.fetch("2", "(BODY.PEEK[TEXT]<3.9>)"))
note("store", m.store("1:2", "+FLAGS", r"(\Deleted \Flagged $ViecGap)"))
note("copy", (lambda t, d: (t, [re.sub(rb"UID \d+ ", b"UID N ", d[0] or b"")]))(*m.copy("3", '"' + utf7("Lưu trữ") + '"')))
note("expunge", m.expunge())
note("wrong", m.uid("FETCH", "1:*", "(FLAGS)"))
note("close", m.close())
note("list", m.list("\"\"", '"' + utf7("Ủy") + '*"'))
for f in FOLDERS:
    try:
        note("delete", m.delete('"' + utf7(f) + '"'))
    except m.error as e:
        note("delete", ("error", [str(e)]))
note("noop", m.noop())
note("id", m.xatom("ID", "NIL"))
note("logout", m.logout())
show(seen)
