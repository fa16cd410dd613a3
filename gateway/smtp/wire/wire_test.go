package wire

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestReadCommand(t *testing.T) {
	for text, want := range map[string]string{
		"NOOP\r\n":            `"NOOP" "" 6 <nil>`,
		"noop \r\nQUIT\r\n":   `"NOOP" "" 7 <nil>`,
		" \tDATA\t\r\n":       `"DATA" "" 9 <nil>`,
		"maıl\r\n":            `"MAıL" "" 7 <nil>`,
		"RCPT TO:<a b>  \r\n": `"RCPT" "TO:<a b>" 17 <nil>`,
		"MAIL\tFROM:<a>\r\n":  `"MAIL" "FROM:<a>" 15 <nil>`,
		"\r\n":                `"" "" 2 <nil>`,
		"NOOP":                `"" "" 0 <nil>`,
		"NOOP\n":              `"" "" 5 a NUL, a bare CR or a bare LF`,
		"NO\rOP\r\n":          `"" "" 7 a NUL, a bare CR or a bare LF`,
		"NOOP\r\r\n":          `"" "" 7 a NUL, a bare CR or a bare LF`,
		"NOOP\x00\r\n":        `"" "" 7 a NUL, a bare CR or a bare LF`,
		"NOOP " + strings.Repeat("x", 2043) + "\r\n": `"NOOP" "` + strings.Repeat("x", 2043) + `" 2050 <nil>`,
		"NOOP " + strings.Repeat("x", 2044) + "\r\n": `"" "" 2051 line too long`,
		"NOOP " + strings.Repeat("x", 2043) + "\r":   `"" "" 0 <nil>`,
		"NOOP " + strings.Repeat("x", 2045):          `"" "" 0 line too long`,
		"XYZZY \x01\xff\r\n":                         `"XYZZY" "\x01\xff" 10 <nil>`,
		"\"DATA\"\r\n":                               `"\"DATA\"" "" 8 <nil>`,
	} {
		c, n, err := ReadCommand([]byte(text))
		if got := fmt.Sprintf("%q %q %d %v", c.Verb, c.Args, n, err); got != want {
			t.Errorf("%.40q: %.80s, want %.80s", text, got, want)
		}
	}
}

func TestParseBDAT(t *testing.T) {
	for args, want := range map[string]string{
		"0": "0 false", "100": "100 false", "100 LAST": "100 true", "5 last": "5 true", "9223372036854775807": "9223372036854775807 false",
		"": "", "x": "", "-1": "", "+1": "", "1 2": "", "1 LAST x": "", "0x10": "", "9223372036854775808": "", "1LAST": "",
	} {
		size, last, err := ParseBDAT(args)
		got := fmt.Sprintf("%d %v", size, last)
		if err != nil {
			got = ""
		}
		if got != want {
			t.Errorf("%q: %q, want %q", args, got, want)
		}
	}
}

func TestParseMail(t *testing.T) {
	for args, want := range map[string]string{
		"FROM:<>":                             "<>",
		"FROM:<a@b.example>":                  "<a@b.example>",
		"from: <a@b.example>":                 "<a@b.example>",
		"FROM:a@b.example":                    "<a@b.example>",
		"FROM:a@b.example SIZE=1":             "<a@b.example> SIZE=1",
		"FROM:<a>":                            "<a@>",
		"FROM:<a+tag@b.example>":              "<a+tag@b.example>",
		"FROM:<Ngô@ví-dụ.example>":            "<Ngô@ví-dụ.example>",
		`FROM:<"a"@b.example>`:                "<a@b.example>",
		`FROM:<"a b"@c.example>`:              `<"a b"@c.example>`,
		`FROM:<"a\"b\\c"@d.example>`:          `<"a\"b\\c"@d.example>`,
		`FROM:<"b> NOTIFY=NEVER "@c.example>`: `<"b> NOTIFY=NEVER "@c.example>`,
		`FROM:<"a..b"@c.example>`:             `<"a..b"@c.example>`,
		"FROM:<a..b@c.example>":               `<"a..b"@c.example>`,
		"FROM:<@x.example,@y.example:a@b>":    "<a@b>",
		`FROM:<"a@b"@c>`:                      `<"a@b"@c>`,
		"FROM:<a@[192.0.2.1]>":                "<a@[192.0.2.1]>",
		"FROM:<a@[IPv6:2001:db8::1]>":         "<a@[IPv6:2001:db8::1]>",
		"FROM:<a@b> ENVID=a+3db  BODY=8BITMIME\tSMTPUTF8 RET=HDRS": "<a@b> ENVID=a+3db BODY=8BITMIME SMTPUTF8 RET=HDRS",
		"": "", "FROM": "", "FROM:": "", "TO:<a@b>": "", "FROM:<a@b": "", "FROM:<a@b>x": "", "FROM:<a@b>SIZE=1": "",
		"FROM:<a b@c>": "", "FROM:<a@b@c>": "", "FROM:<a@b,c>": "", "FROM:<a@>": "", "FROM:<@b>": "", "FROM:<a@b c>": "",
		"FROM:<a@b><c@d>": "", "FROM:<a@b> <c@d>": "", "FROM:<a@b> =x": "", "FROM:<@x:>": "", "FROM:<@x a@b>": "", `FROM:<"a@b>`: "", `FROM:<"a"b@c>`: "",
		"FROM:<a\x01@b>": "", "FROM:<a\xff@b>": "", "FROM:<a@b\xff>": "", "FROM:<a@[b]c]>": "", `FROM:<a\@b@c>`: "", "FROM:<<a@b>>": "",
		"FROM:<a@" + strings.Repeat("x", 256) + ">": "",
	} {
		p, parameters, err := ParseMail(args)
		got := ""
		if err == nil {
			got = strings.Join(append([]string{p.String()}, parameters...), " ")
		}
		if got != want {
			t.Errorf("%q: %q %v, want %q", args, got, err, want)
		}
	}
}

// FuzzMail: what is passed on is read as what was checked, and by the simplest reader too.
func FuzzMail(f *testing.F) {
	for _, seed := range []string{"FROM:<a@b> SIZE=1", `from:<"x\"> y"@b>`, "FROM:<@a:b@c>", "FROM:x", "FROM:<>"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, args string) {
		p, parameters, err := ParseMail(args)
		if err != nil {
			return
		}
		if p.Local != "" && p.Domain == "" {
			p.Domain = "d.example"
		}
		written := "FROM:" + p.String()
		again, none, err := ParseMail(written)
		if err != nil || again != p || len(none) > 0 {
			t.Errorf("%q: %q is read as %q %q %v", args, written, again, none, err)
		}
		if strings.ContainsAny(written, "\r\n\x00") {
			t.Errorf("%q: %q", args, written)
		}
		for _, parameter := range parameters {
			if strings.ContainsAny(parameter, " \t") || strings.ContainsAny(parameter[:1], "<>\":") {
				t.Errorf("%q: parameter %q", args, parameter)
			}
		}
	})
}

func TestReadReply(t *testing.T) {
	for text, want := range map[string]string{
		"250 ok\r\n":                    "250 8 <nil>",
		"250 ok\r\n354 go\r\n":          "250 8 <nil>",
		"250-a\r\n250 b\r\n":            "250 14 <nil>",
		"250\r\n":                       "250 5 <nil>",
		"250 ok\n":                      "250 7 <nil>",
		"250-a\r\n":                     "0 0 <nil>",
		"25":                            "0 0 <nil>",
		"":                              "0 0 <nil>",
		"250-a\r\n251 b\r\n":            "0 0 not an SMTP reply",
		"rubbish\r\n":                   "0 0 not an SMTP reply",
		"25\r\n":                        "0 0 not an SMTP reply",
		"2500 x\r\n":                    "0 0 not an SMTP reply",
		"199 x\r\n":                     "0 0 not an SMTP reply",
		"600 x\r\n":                     "0 0 not an SMTP reply",
		strings.Repeat("x", MaxReply+1): "0 0 not an SMTP reply",
		strings.Repeat("250-"+strings.Repeat("x", 1000)+"\r\n", 70): "0 0 not an SMTP reply",
	} {
		code, n, err := ReadReply([]byte(text))
		if got := fmt.Sprint(code, n, err); got != want {
			t.Errorf("%.40q: %s, want %s", text, got, want)
		}
	}
}

func TestFilterHello(t *testing.T) {
	for reply, want := range map[string]string{
		"250-mail.test Hello\r\n250-PIPELINING\r\n250-SIZE 100\r\n250-AUTH PLAIN\r\n250-AUTH=PLAIN\r\n250-starttls\r\n250-XCLIENT NAME\r\n250-XFORWARD NAME\r\n250-BURL imap\r\n250 BINARYMIME\r\n": "250-gw.test Hello\r\n250-PIPELINING\r\n250-SIZE 100\r\n250 MORE 1\r\n",
		"250 mail.test\r\n":                 "250-gw.test\r\n250 MORE 1\r\n",
		"250-mail.test\r\n250 CHUNKING\r\n": "250-gw.test\r\n250-CHUNKING\r\n250 MORE 1\r\n",
	} {
		if got := string(FilterHello([]byte(reply), "gw.test", "MORE 1")); got != want {
			t.Errorf("%q: %q, want %q", reply, got, want)
		}
	}
	if got := string(FilterHello([]byte("250 mail.test\r\n"), "gw.test")); got != "250 gw.test\r\n" {
		t.Errorf("HELO: %q", got)
	}
}

// FuzzReply: a reply is read whole, however it comes, and what is shown of it is one.
func FuzzReply(f *testing.F) {
	f.Add([]byte("250-a\r\n250-AUTH x\r\n250 b\r\nx"))
	f.Fuzz(func(t *testing.T, text []byte) {
		code, n, err := ReadReply(text)
		if err != nil || n == 0 {
			return
		}
		if c, m, err := ReadReply(text[:n]); c != code || m != n || err != nil {
			t.Errorf("%q: %d %d, and %d %d %v", text, code, n, c, m, err)
		}
		if code != 250 {
			return
		}
		shown := FilterHello(text[:n], "gw.test")
		if bytes.ContainsAny(text[:n], "\r") && bytes.Count(text[:n], []byte("\r")) != bytes.Count(text[:n], []byte("\r\n")) {
			return // passed on as it came
		}
		if c, m, err := ReadReply(shown); c != 250 || m != len(shown) || err != nil {
			t.Errorf("%q: shown as %q", text, shown)
		}
		var keywords []string
		for keyword := range Extensions(shown) {
			keywords = append(keywords, keyword)
		}
		if slices.ContainsFunc(keywords, Hidden) {
			t.Errorf("%q: shown as %q", text, shown)
		}
	})
}

// FuzzCommand: whatever is passed on is one line.
func FuzzCommand(f *testing.F) {
	f.Add([]byte("MAIL FROM:<a>\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, n, err := ReadCommand(text)
		if err != nil || n == 0 {
			return
		}
		if said := c.String(); strings.ContainsAny(said, "\r\n\x00") || len(said) > MaxCommand+16 || strings.ContainsAny(c.Verb, " \t") {
			t.Errorf("%q: %q", text, said)
		}
	})
}
