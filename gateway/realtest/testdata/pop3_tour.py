"""One walk through a maildrop with poplib; prints every answer."""

import json
import poplib
import ssl
import sys

args = json.loads(sys.argv[1])
context = ssl.create_default_context(cafile=args["ca"])
if args["implicit"]:
    m = poplib.POP3_SSL("localhost", args["pop3s"], context=context)
else:
    m = poplib.POP3("localhost", args["pop3"])
    m.stls(context=context)
seen = []
capabilities = m.capa()
seen.append(["before", sorted(c for c in capabilities if c in ("USER", "UIDL", "TOP", "RESP-CODES", "AUTH-RESP-CODE"))])
for wrong in args.get("wrong", []):
    m.user(args["user"])
    try:
        m.pass_(wrong)
    except poplib.error_proto as e:
        seen.append(["wrong", str(e).split("]")[0]])
seen.append(["user", m.user(args["user"]).split()[0].decode()])
seen.append(["pass", m.pass_(args["password"]).decode()])
# After the login the capabilities are the mail server's own.
seen.append(["after", sorted(m.capa())])
seen.append(["stat", m.stat()[0]])
seen.append(["list", [line.split()[0].decode() for line in m.list()[1]]])
for i in (1, 2):
    seen.append(["retr", [line.decode("utf-8") for line in m.retr(i)[1]]])
    seen.append(["top", [line.decode("utf-8") for line in m.top(i, 0)[1]]])
seen.append(["uidl", len(m.uidl()[1])])
seen.append(["dele", m.dele(1).decode()])
seen.append(["quit", m.quit().decode()])
for line in seen:
    print(json.dumps(line, ensure_ascii=False))
