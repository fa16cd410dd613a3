package smtp

import (
	"bytes"
	"net/mail"
	"slices"
	"strings"
	"testing"

	"congthu/auth"
)

func mineOnly(address string) bool { return Sender{}.Owns(owner, address) }

func TestHeaderTricks(t *testing.T) {
	const (
		me    = "From: nguyen.van.a@congthu.test\r\n"
		boss  = "From: boss@congthu.test\r\n"
		enc   = "=?utf-8?B?TmFtZQ==?="
		vi    = "=?windows-1258?Q?Nguy=EA=ECn?="
		wrong = "not an address of this account"
	)
	for _, test := range []struct {
		name, header, want string // want is part of the error; "" for none
	}{
		{"plain", me + "Subject: x\r\n", ""},
		{"with the empty line", me + "\r\n", ""},
		{"without the last CRLF", strings.TrimSuffix(me, "\r\n"), ""},
		{"case of the name", "fRoM: nguyen.van.a@congthu.test\r\n", ""},
		{"case of the address", "From: Nguyen.Van.A@CongThu.Test\r\n", ""},
		{"name", "From: Nguyen Van A <nguyen.van.a@congthu.test>\r\n", ""},
		{"no space", "From:<nguyen.van.a@congthu.test>\r\n", ""},
		{"quoted name", `From: "A, \"B\" <boss@congthu.test>" <nguyen.van.a@congthu.test>` + "\r\n", ""},
		{"encoded name", "From: " + enc + " <nguyen.van.a@congthu.test>\r\n", ""},
		{"encoded name, two words", "From: " + enc + "\r\n " + enc + " <nguyen.van.a@congthu.test>\r\n", ""},
		{"encoded name, old Vietnamese", "From: " + vi + " <nguyen.van.a@congthu.test>\r\n", ""},
		{"UTF-8 name", "From: Nguyễn Văn A <nguyen.van.a@congthu.test>\r\n", ""},
		{"comment", "From: nguyen.van.a@congthu.test (Nguyen Van A)\r\n", ""},
		{"comment with an address", "From: nguyen.van.a@congthu.test (boss@congthu.test)\r\n", ""},
		{"nested comment", `From: nguyen.van.a@congthu.test (a (b \) c) d)` + "\r\n", ""},
		{"folded", "From:\r\n Nguyen\r\n\tVan A\r\n <nguyen.van.a@congthu.test>\r\n", ""},
		{"quoted local part", `From: "nguyen.van.a"@congthu.test` + "\r\n", ""},
		{"subaddress", "From: nguyen.van.a+list@congthu.test\r\n", ""},
		{"twice the same address", "From: nguyen.van.a@congthu.test, A <nguyen.van.a@congthu.test>\r\n", ""},
		{"own Sender", me + "Sender: nguyen.van.a@congthu.test\r\n", ""},
		{"resent twice", me + "Resent-From: nguyen.van.a@congthu.test\r\nResent-From: nguyen.van.a@congthu.test\r\nResent-Sender: nguyen.van.a@congthu.test\r\n", ""},
		{"From in the subject", me + "Subject: From: boss@congthu.test\r\n", ""},
		{"From in a continuation", me + "Subject: x\r\n From: boss@congthu.test\r\n", ""},
		{"fields that look alike", me + "X-From: boss@congthu.test\r\nFrom-X: y\r\nReply-To: boss@congthu.test\r\n", ""},

		{"somebody else", boss, wrong},
		{"name of mine, address of another", "From: nguyen.van.a <boss@congthu.test>\r\n", wrong},
		{"somebody else, quoted", `From: "boss"@congthu.test` + "\r\n", wrong},
		{"somebody else, second of two", "From: nguyen.van.a@congthu.test, boss@congthu.test\r\n", wrong},
		{"somebody else, first of two", "From: boss@congthu.test,\r\n nguyen.van.a@congthu.test\r\n", wrong},
		{"own Sender does not help", boss + "Sender: nguyen.van.a@congthu.test\r\n", wrong},
		{"own Resent-From does not help", boss + "Resent-From: nguyen.van.a@congthu.test\r\n", wrong},
		{"Sender", me + "Sender: boss@congthu.test\r\n", "Sender: " + wrong},
		{"Resent-From", me + "Resent-From: boss@congthu.test\r\n", "Resent-From: " + wrong},
		{"Resent-Sender", me + "Resent-Sender: boss@congthu.test\r\n", "Resent-Sender: " + wrong},
		{"second Resent-From", me + "Resent-From: nguyen.van.a@congthu.test\r\nResent-From: boss@congthu.test\r\n", wrong},
		{"encoded local part", "From: =?utf-8?Q?nguyen.van.a?=@congthu.test\r\n", wrong},
		{"look-alike letters", "From: nguyеn.van.a@congthu.test\r\n", wrong},
		{"local part with a space", `From: "nguyen.van.a "@congthu.test` + "\r\n", wrong},
		{"local part with an @", `From: "nguyen.van.a@congthu.test"@evil.example` + "\r\n", wrong},
		{"other domain", "From: nguyen.van.a@congthu.test.evil.example\r\n", wrong},
		{"subaddress of another", "From: boss+nguyen.van.a@congthu.test\r\n", wrong},

		{"none", "Subject: x\r\n", "no From"},
		{"nothing", "", "no From"},
		{"only the empty line", "\r\n", "no From"},
		{"two", me + me, "more than one From"},
		{"two, the other first", boss + me, wrong},
		{"two, other case", me + "FROM: nguyen.van.a@congthu.test\r\n", "more than one From"},
		{"two, the other later", me + "Subject: x\r\n" + "from: nguyen.van.a@congthu.test\r\n", "more than one From"},
		{"two Senders", me + strings.Repeat("Sender: nguyen.van.a@congthu.test\r\n", 2), "more than one Sender"},
		{"Sender with two addresses", me + "Sender: nguyen.van.a@congthu.test, nguyen.van.a@congthu.test\r\n", "more than one address"},

		{"space before the colon", me + "From : boss@congthu.test\r\n", "no field"},
		{"tab before the colon", me + "From\t: boss@congthu.test\r\n", "no field"},
		{"space before the name", "X: y\r\n From: boss@congthu.test\r\n" + me, ""},
		{"begins with a continuation", " From: boss@congthu.test\r\n" + me, "begins with a continuation"},
		{"NUL in the name", me + "From\x00: boss@congthu.test\r\n", "NUL"},
		{"NUL in the value", "From: nguyen.van.a@congthu.test\x00\r\n", "NUL"},
		{"control character in the name", me + "From\x08: boss@congthu.test\r\n", "no field"},
		{"control character in the value", "From: boss@congthu.test\x08 <nguyen.van.a@congthu.test>\r\n", "control character"},
		{"no-break space in the name", me + "From\u00a0: boss@congthu.test\r\n", "no field"},
		{"zero-width space in the name", me + "\u200bFrom: boss@congthu.test\r\n", "no field"},
		{"byte order mark", "\ufeffFrom: boss@congthu.test\r\n" + me, "no field"},
		{"full-width letters in the name", me + "Ｆrom: boss@congthu.test\r\n", "no field"},
		{"mbox line", "From boss@congthu.test Mon Jan  1 00:00:00 2024\r\n" + me, "no field"},
		{"quoted mbox line", ">From boss@congthu.test Mon Jan  1 00:00:00 2024\r\n" + me, "no field"},
		{"a line without a colon", me + "and now\r\n" + boss, "no field"},
		{"a line with nothing before the colon", me + ": x\r\n", "no field"},
		{"a blank line with a space", me + " \r\n" + boss, "blank line"},
		{"a blank line with a tab in a long field", "Subject: x\r\n\t\r\n y\r\n" + me, "blank line"},
		{"bare LF", me + "X: y\n" + boss, "bare CR or LF"},
		{"bare CR", me + "X: y\r" + boss, "bare CR or LF"},
		{"CR CR LF", me + "X: y\r\r\n" + boss, "bare CR or LF"},
		{"more after the empty line", me + "\r\n" + boss, "ends early"},

		// Allowed by the letter, and never seen.
		{"comment in front", "From: (boss) nguyen.van.a@congthu.test\r\n", "cannot be read"},
		{"folded address", "From: nguyen.van.a\r\n @congthu.test\r\n", "cannot be read"},

		{"empty", "From:\r\n", "cannot be read"},
		{"empty, folded", "From: \r\n \t x\r\n", "cannot be read"},
		{"empty brackets", "From: <>\r\n", "cannot be read"},
		{"only commas", "From: ,,,\r\n", "cannot be read"},
		{"only a comment", "From: (nguyen.van.a@congthu.test)\r\n", "cannot be read"},
		{"no domain", "From: nguyen.van.a\r\n", "cannot be read"},
		{"group", "From: friends: nguyen.van.a@congthu.test;\r\n", "a group or a route"},
		{"empty group", "From: undisclosed:;\r\n", "a group or a route"},
		{"group after an address", "From: nguyen.van.a@congthu.test, b: boss@congthu.test;\r\n", "a group or a route"},
		{"route", "From: <@a.example,@b.example:nguyen.van.a@congthu.test>\r\n", "a group or a route"},
		{"address as a name", "From: boss@congthu.test <nguyen.van.a@congthu.test>\r\n", "cannot be read"},
		{"address after the address", "From: <nguyen.van.a@congthu.test> boss@congthu.test\r\n", "cannot be read"},
		{"two without a comma", "From: <nguyen.van.a@congthu.test> <boss@congthu.test>\r\n", "cannot be read"},
		{"brackets in brackets", "From: <<nguyen.van.a@congthu.test>>\r\n", "within an address"},
		{"open bracket", "From: <nguyen.van.a@congthu.test\r\n", "ends in the middle"},
		{"closing bracket", "From: nguyen.van.a@congthu.test>\r\n", "does not begin"},
		{"open quotes", `From: "nguyen.van.a@congthu.test` + "\r\n", "ends in the middle"},
		{"open comment", "From: nguyen.van.a@congthu.test (x\r\n", "ends in the middle"},
		{"closing comment", "From: nguyen.van.a@congthu.test )\r\n", "unexpected )"},
		{"backslash at the end", `From: nguyen.van.a@congthu.test (\` + "\r\n", "ends in the middle"},
		{"backslash outside", `From: nguyen.van.a\@congthu.test` + "\r\n", `unexpected \`},
		{"address literal", "From: nguyen.van.a@[127.0.0.1]\r\n", "unexpected ["},
		{"not UTF-8", "From: Nguy\xean <nguyen.van.a@congthu.test>\r\n", "neither ASCII nor UTF-8"},
		{"too long", "From: " + strings.Repeat("x", maxSenderField) + " <nguyen.van.a@congthu.test>\r\n", "a group or a route"},
		{"too long, folded", "From: a\r\n " + strings.Repeat("x", maxSenderField) + "\r\n <nguyen.van.a@congthu.test>\r\n", "a group or a route"},
	} {
		err := checkHeader([]byte(test.header), mineOnly)
		switch {
		case err == nil && test.want != "":
			t.Errorf("%s: let through, want %q", test.name, test.want)
		case err != nil && (test.want == "" || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

func TestALongHeaderFieldOfNoInterestIsNoObstacle(t *testing.T) {
	header := "From: " + owner + "\r\nX-Spam: " + strings.Repeat("x", 100000) + "\r\nReferences: a\r\n" + strings.Repeat(" <b@c>\r\n", 5000)
	if err := checkHeader([]byte(header), mineOnly); err != nil {
		t.Error(err)
	}
}

func TestWhoMaySendAsWhom(t *testing.T) {
	namer := &auth.Namer{Default: "congthu.test", Domains: map[string]bool{"other.test": true},
		Aliases: map[auth.Name]auth.Name{"a@congthu.test": owner}}
	configured := Sender{
		Canonical: namer.Canonical,
		Aliases:   map[auth.Name]auth.Name{"a@congthu.test": owner, "a@elsewhere.test": owner},
		Delegations: map[auth.Name][]auth.Name{
			"office@congthu.test":   {"other@congthu.test", owner},
			"office@elsewhere.test": {owner},
			"secret@congthu.test":   {"other@congthu.test"},
			"office+vip@other.test": {owner},
		},
	}
	for address, want := range map[string]bool{
		owner:                           true,
		"NGUYEN.VAN.A@congthu.TEST":     true,
		"nguyen.van.a@congthu.test.":    true,
		"nguyen.van.a+x@congthu.test":   true,
		"nguyen.van.a+@congthu.test":    true,
		"a@congthu.test":                true,
		"a+x@congthu.test":              true,
		"a@elsewhere.test":              true,
		"office@congthu.test":           true,
		"Office+in@congthu.test":        true,
		"office@elsewhere.test":         true,
		"office+vip@other.test":         true,
		"office@other.test":             false,
		"secret@congthu.test":           false,
		"other@congthu.test":            false,
		"nguyen.van.a@other.test":       false,
		"nguyen.van.a@elsewhere.test":   false,
		"nguyen.van.a":                  false,
		"+nguyen.van.a@congthu.test":    false,
		"x+nguyen.van.a@congthu.test":   false,
		"nguyen.van.a*x@congthu.test":   false,
		"nguyen.van.a%x@congthu.test":   false,
		"nguyen.van.a @congthu.test":    false,
		"":                              false,
		"@":                             false,
		"+@":                            false,
		"a@b@congthu.test":              false,
		"nguyen.van.a\x00@congthu.test": false,
	} {
		if got := configured.Owns(owner, address); got != want {
			t.Errorf("%q: %v, want %v", address, got, want)
		}
	}
	if (Sender{}).Owns("", "") || (Sender{}).Owns("", "@") {
		t.Error("nobody owns something")
	}
}

// FuzzHeaderFrom looks for a header that is let through although another reader
// of mail sees a From: that is not ours.
func FuzzHeaderFrom(f *testing.F) {
	for _, seed := range []string{
		"From: nguyen.van.a@congthu.test\r\n\r\n",
		"From: A <nguyen.van.a@congthu.test>, b@c\r\nSender: x@y\r\n",
		"From : boss@congthu.test\r\nFrom: nguyen.van.a@congthu.test\r\n",
		"Subject: x\r\n \r\nFrom: =?utf-8?Q?a?= <nguyen.van.a@congthu.test>\r\n",
		"From: \"a\\\" <b@c>\" (d (e) \\) f) <nguyen.van.a@congthu.test>\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, header []byte) {
		if err := checkHeader(header, mineOnly); err != nil {
			return
		}
		if bytes.ContainsRune(header, 0) {
			t.Error("a NUL")
		}
		// Lines that say From in whatever way, where nothing else begins.
		froms := 0
		for line := range strings.SplitSeq(string(header), "\n") {
			name, _, _ := strings.Cut(strings.TrimRight(line, "\r"), ":")
			if len(line) > 0 && line[0] != ' ' && line[0] != '\t' && strings.EqualFold(strings.TrimSpace(name), "from") {
				froms++
			}
		}
		if froms != 1 {
			t.Errorf("%d From: fields", froms)
		}
		// The standard library's reader.
		m, err := mail.ReadMessage(bytes.NewReader(append(bytes.TrimSuffix(header, []byte("\r\n")), "\r\n\r\n"...)))
		if err != nil {
			return
		}
		for _, name := range []string{"From", "Sender", "Resent-From", "Resent-Sender"} {
			for _, value := range m.Header[name] {
				list, err := addressParser.ParseList(value)
				if err != nil {
					t.Errorf("%s: %q: %v", name, value, err)
				}
				for _, a := range list {
					if !mineOnly(a.Address) {
						t.Errorf("%s: %q is %q", name, value, a.Address)
					}
				}
			}
		}
	})
}

func TestBareNewlines(t *testing.T) {
	for text, normal := range map[string]string{
		"":                   "",
		"a\r\nb\r\n":         "a\r\nb\r\n",
		"a":                  "a",
		"\r\n\r\n":           "\r\n\r\n",
		"a\nb":               "a\r\nb",
		"\n":                 "\r\n",
		"a\rb":               "a\r\nb",
		"a\r":                "a\r\n",
		"\r\r\n":             "\r\n\r\n",
		"\n\r\n":             "\r\n\r\n",
		"a\r\n\rb\n\n\r\r\r": "a\r\n\r\nb\r\n\r\n\r\n\r\n\r\n",
	} {
		for size := 1; size <= 8; size++ {
			for _, normalise := range []bool{false, true} {
				l := &lineReader{r: strings.NewReader(text), normalise: normalise}
				var got []byte
				var err error
				for err == nil {
					b := make([]byte, size)
					var n int
					n, err = l.Read(b)
					got = append(got, b[:n]...)
				}
				switch {
				case normalise && (string(got) != normal || err.Error() != "EOF"):
					t.Errorf("%q normalised by %d: %q %v, want %q", text, size, got, err, normal)
				case !normalise && text == normal && (string(got) != text || err.Error() != "EOF"):
					t.Errorf("%q by %d: %q %v", text, size, got, err)
				case !normalise && text != normal && err != errBareNewline:
					t.Errorf("%q by %d: %v", text, size, err)
				}
			}
		}
	}
}

func TestASwallowedCRIsSeenWhereverThePiecesMeet(t *testing.T) {
	for text, want := range map[string]bool{
		"DATA\r\n.\r\n":           false,
		"x\r\n.\r\nx\r\n..\r\n":   false,
		"DATA\r\n.\rx\r\n.\r\n":   true,
		"DATA\n.\r\r\n":           true,
		"x\r\n.\r\n.\r\n.\r.\r\n": true,
		"x.\ry":                   false, // not hidden from the session
	} {
		text = strings.Repeat("-", 20) + text + strings.Repeat("-", 20)
		for i := range len(text) {
			for j := i; j < len(text); j++ {
				var w dotWatch
				for _, piece := range []string{text[:i], text[i:j], text[j:]} {
					w.see([]byte(piece))
				}
				if w.swallowed != want {
					t.Fatalf("%q | %q | %q: %v", text[:i], text[i:j], text[j:], w.swallowed)
				}
				if ends := strings.Count(strings.ReplaceAll(text, "\r\n", "\r\n\r\n"), "\r\n.\r\n"); w.ends != ends {
					t.Fatalf("%q | %q | %q: %d ends, want %d", text[:i], text[i:j], text[j:], w.ends, ends)
				}
			}
		}
	}
}

func TestHTTPIsRecognised(t *testing.T) {
	for text, want := range map[string]bool{
		"GET / HTTP/1.1\r\n":                        true,
		"post /x HTTP/1.0\r\n":                      true,
		"PRI * HTTP/2.0\r\n":                        true,
		"EHLO x\r\nHost: mail\r\n":                  true,
		"\r\nOPTIONS * HTTP/1.1\r\n":                true,
		"EHLO GET.example\r\nNOOP GET \r\nHELP\r\n": false,
		"AUTH PLAIN R0VUIAo=\r\nR0VU\r\n":           false,
	} {
		var w httpWatch
		if got := slices.ContainsFunc([]byte(text), func(c byte) bool { return w.see([]byte{c}) }); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
