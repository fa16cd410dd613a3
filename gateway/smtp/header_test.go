package smtp

import (
	"bytes"
	"net/mail"
	"slices"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/text/unicode/norm"

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
		{"two, the same", me + me, ""},
		{"two of mine", me + "From: nguyen.van.a+x@congthu.test\r\n", "more than one From"},
		{"two, the other first", boss + me, wrong},
		{"two, the other last", me + boss, wrong},
		{"two, the other in between", me + boss + me, wrong},
		{"two of mine, other case", me + "FROM: nguyen.van.a+x@congthu.test\r\n", "more than one From"},
		{"two of mine, the other later", me + "Subject: x\r\n" + "from: nguyen.van.a+x@congthu.test\r\n", "more than one From"},
		{"two of mine, the other in a list", me + "From: nguyen.van.a@congthu.test, nguyen.van.a+x@congthu.test\r\n", "more than one From"},
		{"two Senders, the same", me + strings.Repeat("Sender: nguyen.van.a@congthu.test\r\n", 2), ""},
		{"two Senders", me + "Sender: nguyen.van.a@congthu.test\r\nSender: nguyen.van.a+x@congthu.test\r\n", "more than one Sender"},
		{"Sender with two addresses", me + "Sender: nguyen.van.a@congthu.test, nguyen.van.a@congthu.test\r\n", "more than one address"},

		{"space before the colon", me + "From : boss@congthu.test\r\n", "a blank before the colon"},
		{"tab before the colon", me + "From\t: boss@congthu.test\r\n", "a blank before the colon"},
		{"space before the colon of another field", me + "Subject : x\r\n" + boss, wrong},
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
		{"mbox line", "From boss@congthu.test Mon Jan  1 00:00:00 2024\r\n" + me, wrong},
		{"quoted mbox line", ">From boss@congthu.test Mon Jan  1 00:00:00 2024\r\n" + me, wrong},
		{"mbox line further down", me + "From nguyen.van.a@congthu.test Mon Jan  1 00:00:00 2024\r\n", "no field"},
		{"a line without a colon", me + "and now\r\n" + boss, "no field"},
		{"a line with nothing before the colon", me + ": x\r\n", "no field"},
		{"a blank line with a space", me + " \r\n" + boss, wrong},
		{"a blank line with a tab", "Subject: x\r\n\t\r\n y\r\n" + me, ""},
		{"a blank line within From", "From: boss\r\n \r\n <nguyen.van.a@congthu.test>\r\n", "a blank line within the field"},
		{"bare LF", me + "X: y\n" + boss, "bare CR or LF"},
		{"bare CR", me + "X: y\r" + boss, "bare CR or LF"},
		{"CR CR LF", me + "X: y\r\r\n" + boss, "bare CR or LF"},
		{"more after the empty line", me + "\r\n" + boss, "ends early"},

		// Allowed by the letter, and hardly ever seen (RFC 5322 section 3.2.2).
		{"comment in front", "From: (boss) nguyen.van.a@congthu.test\r\n", ""},
		{"comment in front of a name", "From: (boss) A <nguyen.van.a@congthu.test>\r\n", ""},
		{"comment within a name", "From: Nguyen (Van) A <nguyen.van.a@congthu.test>\r\n", ""},
		{"comments in brackets", "From: A <(a) nguyen.van.a (b) @ (c) congthu.test (d)>\r\n", ""},
		{"comments everywhere", `From: (a\)) "nguyen.van.a" (b(c)) @(d)congthu.test(e),(f)nguyen.van.a@congthu.test` + "\r\n", ""},
		{"comment folded", "From: (a\r\n b)\r\n nguyen.van.a@congthu.test\r\n (c)\r\n", ""},
		{"comment in an unknown character set", "From: (=?x-klingon?Q?=AA?=) nguyen.van.a@congthu.test\r\n", ""},
		{"folded address", "From: nguyen.van.a\r\n @congthu.test\r\n", ""},
		{"folded address, after the @", "From: nguyen.van.a@\r\n\tcongthu.test\r\n", ""},
		{"folded address in brackets", "From: A <\r\n nguyen.van.a\r\n @\r\n congthu.test\r\n >\r\n", ""},
		{"dots in a name", "From: A. B. Nguyen <nguyen.van.a@congthu.test>\r\n", ""},
		{"empty places in the list", "From: ,<nguyen.van.a@congthu.test>,,\r\n ,nguyen.van.a@congthu.test\r\n", ""},
		{"blanks at the end", "From: nguyen.van.a@congthu.test  \t\r\n", ""},

		{"comment in front of another", "From: (nguyen.van.a@congthu.test) boss@congthu.test\r\n", wrong},
		{"comment within another", "From: boss(x)@congthu.test\r\n", wrong},
		{"comment in front, second of two", "From: nguyen.van.a@congthu.test, (x) boss@congthu.test\r\n", wrong},
		{"folded address of another", "From: boss\r\n @congthu.test\r\n", wrong},
		{"subaddress that is another address", `From: "nguyen.van.a+x@other.domain>"@congthu.test` + "\r\n", wrong},
		{"subaddress with a space", `From: "nguyen.van.a+ boss"@congthu.test` + "\r\n", wrong},
		{"subaddress that turns round", "From: nguyen.van.a+\u202ex@congthu.test\r\n", wrong},
		{"subaddress with a wide @", "From: nguyen.van.a+boss＠congthu.test@congthu.test\r\n", wrong},
		// One who does not know comments reads another address.
		{"bracket in a comment", "From: nguyen.van.a@congthu.test (<boss@congthu.test>)\r\n", "a bracket in a comment"},
		{"bracket in a comment in front", "From: (<boss@congthu.test>) <nguyen.van.a@congthu.test>\r\n", "a bracket in a comment"},
		{"bracket in a comment, escaped", `From: (\<boss@congthu.test\>) <nguyen.van.a@congthu.test>` + "\r\n", "a bracket in a comment"},
		// Is a@congthu.test, or nguyen.van.a@congthu.test (RFC 5322 section 4.4)?
		{"blanks around dots", "From: nguyen . van . a@congthu.test\r\n", "cannot be read"},
		{"folded at a dot", "From: nguyen.van.\r\n a@congthu.test\r\n", "cannot be read"},
		{"folded at a dot of the domain", "From: nguyen.van.a@congthu.\r\n test\r\n", "cannot be read"},
		{"more of the domain", "From: nguyen.van.a@congthu.test\r\n .evil.example\r\n", "cannot be read"},
		{"more of the domain behind a comment", "From: nguyen.van.a@congthu.test(x).evil.example\r\n", "cannot be read"},
		{"more of the local part behind a comment", "From: boss.(x)nguyen.van.a@congthu.test\r\n", "cannot be read"},
		{"a comment between two words", "From: boss(x)nguyen.van.a@congthu.test\r\n", "cannot be read"},
		{"two domains", "From: nguyen.van.a@congthu.test @evil.example\r\n", "cannot be read"},
		{"two domains, a comment between", "From: nguyen.van.a@evil.example(x)@congthu.test\r\n", "cannot be read"},
		{"an @ in a name", "From: boss @ home <nguyen.van.a@congthu.test>\r\n", "an @ in a name"},
		{"nothing before the @", "From: (nguyen.van.a)@congthu.test\r\n", "cannot be read"},
		{"nothing after the @", "From: nguyen.van.a@(congthu.test)\r\n", "cannot be read"},

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
		{"address as a name", "From: boss@congthu.test <nguyen.van.a@congthu.test>\r\n", "an @ in a name"},
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
		{"not UTF-8", "From: Nguy\xean <nguyen.van.a@congthu.test>\r\n", ""},
		{"not UTF-8, in the address", "From: nguyen.van.a+\xea@congthu.test\r\n", wrong},
		{"not UTF-8, with a backslash", "From: \"\x83\\\" <boss@congthu.test>, \" <nguyen.van.a@congthu.test>\r\n", "neither ASCII nor UTF-8"},
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

// A subaddress is as much of one's own as what is before it, but what is behind
// the plus is seen by everybody who reads the mail, and was anything at all.
func TestASubaddressIsAnAddressAndNothingElse(t *testing.T) {
	const user, at = "nguyen.van.a", "@congthu.test"
	for tag, want := range map[string]bool{
		"":                                    true,
		"x":                                   true,
		"a.b":                                 true,
		"list-2024_x":                         true,
		"b=example.com":                       true, // as bounces have it
		"a+b":                                 true,
		"!#$&'?^`{|}~%*":                      true, // atext, RFC 5321 section 4.1.2
		"lịch":                                true, // RFC 6531 section 3.3
		strings.Repeat("x", 64-len(user+"+")): true,
		strings.Repeat("x", 65-len(user+"+")): false, // RFC 5321 section 4.5.3.1.1
		"\r\n":                                false,
		"\r\nBcc: x":                          false,
		"\x00":                                false,
		"x\x1b[2J":                            false,
		"x\x7f":                               false,
		"x\u0085":                             false,
		"x y":                                 false,
		" ":                                   false,
		"x\t":                                 false,
		"x\u00a0":                             false,
		"boss@congthu.test":                   false,
		"x@other.domain>":                     false,
		"x@other.domain> <y":                  false,
		"<boss":                               false,
		"x>":                                  false,
		`"`:                                   false,
		`x\`:                                  false,
		"(boss)":                              false,
		"x, boss":                             false,
		"x,boss":                              false,
		"x;boss":                              false,
		"x:boss":                              false,
		"[x]":                                 false,
		"../boss":                             false,
		"a/b":                                 false,
		"x.":                                  false,
		"x..y":                                false,
		"x＠boss":                              false, // looks like an @, and PRECIS makes one of it
		"x﹫boss":                              false,
		"x＞":                                  false,
		"x\u202etset.uhtgnoc@ssob":            false, // turns round what follows
		"x\u2066":                             false,
		"x\u200b":                             false,
		"x\u200d":                             false,
		"x\u00ad":                             false,
		"x\ufeff":                             false,
		"x\u2028":                             false,
		"x\U000e0041":                         false,
		"🙂":                                   false,
		"x\xff":                               false,
	} {
		for _, policy := range []Sender{{}, {Canonical: (&auth.Namer{Default: "congthu.test", FoldSubaddress: true}).Canonical}} {
			address := user + "+" + tag + at
			if got := policy.Owns(owner, address); got != want {
				t.Errorf("%q: %v, want %v", address, got, want)
			}
		}
	}
}

// FuzzOwns looks for an address that is taken for one's own and is another to
// somebody who reads it.
func FuzzOwns(f *testing.F) {
	for _, tag := range []string{"", "x", "a.b", "x@other.domain>", "x＠boss", "lịch", "\r\n", `x"`, "x\u202e", "a/b"} {
		f.Add(owner[:len("nguyen.van.a")] + "+" + tag + "@congthu.test")
	}
	f.Add("ａ@congthu。test")
	f.Fuzz(func(t *testing.T, address string) {
		if !mineOnly(address) {
			return
		}
		local, domain, _ := strings.Cut(address, "@")
		if strings.ContainsAny(address, "\\\"<>()[]:;, /") || strings.ContainsFunc(address, func(r rune) bool { return !unicode.IsPrint(r) }) && domain == "congthu.test" {
			t.Errorf("%q", address)
		}
		if strings.Contains(domain, "@") || len(norm.NFKC.String(local)) > 64 {
			t.Errorf("%q", address)
		}
		for _, written := range []string{address, "<" + address + ">", "A <" + address + ">"} {
			if a, err := mail.ParseAddress(written); err == nil && a.Address != address {
				t.Errorf("%q is %q", written, a.Address)
			}
		}
	})
}

// notQuoted leaves out what stands in quotes or comments.
func notQuoted(value string) string {
	var plain []byte
	for depth, quoted, i := 0, false, 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '\\':
			i++
		case c == '"' && depth == 0:
			quoted = !quoted
		case c == '(' && !quoted:
			depth++
		case c == ')' && !quoted:
			depth--
		case !quoted && depth == 0:
			plain = append(plain, c)
		}
	}
	return string(plain)
}

// checkCount checks that there are as many addresses in a list as were found, but
// for one that is the name of itself.
func checkCount(t *testing.T, value string, ours []string) {
	t.Helper()
	ats := strings.Count(notQuoted(value), "@")
	if name, _, ok := strings.Cut(notQuoted(value), "<"); ok && len(ours) == 1 && sameAddress(strings.Trim(name, " \t\r\n"), ours[0]) {
		ats--
	}
	if ats != len(ours) {
		t.Errorf("%q has %d addresses, was taken for %q", value, ats, ours)
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
		"From: (a) A (b) <(c) nguyen.van.a\r\n (d) @ congthu.test (e)>, \"nguyen.van.a\"(f)@(g)congthu.test\r\n",
		"From: , nguyen.van.a+x@congthu.test (h),\r\n , A. B <nguyen.van.a@congthu.test>\r\n",
		"From: [HCC] nguyen.van.a@congthu.test <nguyen.van.a@congthu.test>;\r\n",
		"From: nguyen.van.a@congthu.test <nguyen.van.a@congthu.test>\r\nFrom: Nguy\xean <nguyen.van.a@congthu.test>\r\n",
		"From nguyen.van.a@congthu.test Thu\r\nSubject : x\r\n \r\nFrom: nguyen.van.a@congthu.test\r\n \r\n",
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
		if froms == 0 {
			t.Error("no From: field")
		}
		// The standard library's reader.
		m, err := mail.ReadMessage(bytes.NewReader(append(bytes.TrimSuffix(header, []byte("\r\n")), "\r\n\r\n"...)))
		if err != nil {
			return
		}
		for _, name := range []string{"From", "Sender", "Resent-From", "Resent-Sender"} {
			for _, value := range m.Header[name] {
				// It does not know comments everywhere; what it can read is as we read it.
				list, _ := addressParser.ParseList(value)
				for _, a := range list {
					if !mineOnly(a.Address) {
						t.Errorf("%s: %q is %q", name, value, a.Address)
					}
				}
				ours, err := parseAddresses(value)
				if err != nil || list != nil && len(list) != len(ours) {
					t.Errorf("%s: %q is %q, %v and %v", name, value, ours, err, list)
				}
				checkCount(t, value, ours)
			}
		}
	})
}

// FuzzAddressList looks for an address, anybody's, that a list has and we do not
// see, or that we see otherwise than the standard library.
func FuzzAddressList(f *testing.F) {
	for _, seed := range []string{
		"a@b", "A <a@b>", "a@b, c@d", "(x) a@b", "a (x) @ (y) b", "<(x) a @ b (y)>", `"a b"@c`, `"a\"(b" <c@d>`, `(a\)b) c@d`, "a@b (c (d) e)",
		",a@b,,", "A. B <a@b>", "a . b@c", "=?utf-8?Q?a?= <b@c>", "a@b <c@d>", "a(b)c@d", "a@b(c)d", "a@b (c) .d", `"(" a@b ")"`, "a@b (<c@d>)", "g: a@b;", "[g] A <a@b>", "[g], a@b", "a@b <a@b>", "a@b;", "\xea <a@b>",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		ours, err := parseAddresses(value)
		if err != nil {
			return
		}
		checkCount(t, value, ours)
		list, err := addressParser.ParseList(value)
		if err != nil {
			return
		}
		var theirs []string
		for _, a := range list {
			theirs = append(theirs, a.Address)
		}
		if !slices.Equal(theirs, ours) {
			t.Errorf("%q was taken for %q, and is %q to others", value, ours, theirs)
		}
	})
}

func TestHTTPIsRecognised(t *testing.T) {
	for text, want := range map[string]bool{
		"GET / HTTP/1.1": true, "post /x HTTP/1.0": true, "PRI * HTTP/2.0": true, "Host: mail": true, "OPTIONS * HTTP/1.1": true, "Content-Length: 5": true,
		"EHLO GET.example": false, "NOOP GET ": false, "HELP": false, "AUTH PLAIN R0VUIAo=": false, "": false,
	} {
		if got := isHTTP(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
