package auth

import (
	"errors"
	"strings"
	"testing"
	"unicode"
)

var testNamer = &Namer{
	Default: "example.vn",
	Domains: map[string]bool{"example.vn": true, "other.vn": true, "xn--th-hia.vn": true},
	Aliases: map[Name]Name{"office@example.vn": "lan@example.vn"},
	Unicode: true,
}

func TestSpellingsOfOneMailboxAreOneName(t *testing.T) {
	for login, want := range map[string]Name{
		"lan@example.vn":       "lan@example.vn",
		"LAN@Example.VN":       "lan@example.vn",
		"lan":                  "lan@example.vn",
		"Lan":                  "lan@example.vn",
		"lan@example.vn.":      "lan@example.vn",
		"ｌａｎ@example.vn":       "lan@example.vn",
		"lan@ｅｘａｍｐｌｅ.vn":       "lan@example.vn",
		"lan@example。vn":       "lan@example.vn",
		"office@example.vn":    "lan@example.vn",
		"OFFICE":               "lan@example.vn",
		"lan@other.vn":         "lan@other.vn",
		"nguyễn@example.vn":    "nguyễn@example.vn",
		"NGUYỄN@example.vn":    "nguyễn@example.vn",
		"nguye\u0302\u0303n":   "nguyễn@example.vn",
		"x@xn--TH-hia.vn":      "x@xn--th-hia.vn",
		"a.b_c-d@example.vn":   "a.b_c-d@example.vn",
		"xmh.hbda@example.vn ": "",
	} {
		got, err := testNamer.Canonical(login)
		if want == "" {
			if err == nil {
				t.Errorf("%q is taken for %q, want an error", login, got)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", login, got, err, want)
		}
	}
}

func TestInvalidNamesAreRefused(t *testing.T) {
	for login, want := range map[string]error{
		"":                                   ErrMalformedName,
		"@example.vn":                        ErrMalformedName,
		"lan@":                               ErrMalformedName,
		"lan\x00@example.vn":                 ErrMalformedName,
		"lan\r\nA1 LOGIN":                    ErrMalformedName,
		"lan\x7f@example.vn":                 ErrMalformedName,
		"lan\u0085@example.vn":               ErrMalformedName,
		"la n@example.vn":                    ErrMalformedName,
		"\"lan\"@example.vn":                 ErrMalformedName,
		"lan@example.vn@example.vn":          ErrMalformedName,
		"lan＠example.vn@example.vn":          ErrMalformedName,
		"lan\xff@example.vn":                 ErrMalformedName,
		"lan+tag@example.vn":                 ErrMalformedName,
		"lan＋tag@example.vn":                 ErrMalformedName,
		strings.Repeat("a", 65):              ErrMalformedName,
		strings.Repeat("a", 400):             ErrMalformedName,
		"lan@elsewhere.vn":                   ErrForeignDomain,
		"lan*master@example.vn":              ErrMasterUser,
		"lan＊master@example.vn":              ErrMasterUser,
		"lan%master":                         ErrMasterUser,
		"lan@example.vn*master@elsewhere.vn": ErrMasterUser,
	} {
		if got, err := testNamer.Canonical(login); !errors.Is(err, want) {
			t.Errorf("%q is %q, %v; want %v", login, got, err, want)
		}
	}
}

// A text that is not an address as it stands, or that could be a path to another
// mailbox, is not a name either: a mail server that keeps each mailbox in a directory of
// its name must never see it.
func TestANameIsNoPath(t *testing.T) {
	for _, local := range []string{
		"lan/../boss", "../boss", "boss/", "/boss", "lan/boss", `lan\boss`, `\boss`, `..\boss`,
		".", "..", ".lan", "..lan", "lan.", "lan..", "la..n", "lan/.", "lan/..",
		"lan／boss", "lan＼boss", "．lan", "lan．．", "lan\x00", "lan\x00/x",
		"lan:x", "lan::$data", "c:lan", "lan(x)", "(lan)", "<lan>", "lan,boss", "lan;boss", "lan[1]", `"lan/x"`,
	} {
		for _, login := range []string{local, local + "@example.vn"} {
			if got, err := testNamer.Canonical(login); !errors.Is(err, ErrMalformedName) {
				t.Errorf("%q is %q, %v; want %v", login, got, err, ErrMalformedName)
			}
		}
		if got, err := ParseName(local + "@example.vn"); !errors.Is(err, ErrMalformedName) {
			t.Errorf("%q in a configuration is %q, %v; want %v", local, got, err, ErrMalformedName)
		}
	}
	// Everything that an address may contain without quotes, except the slash and the
	// separators of master users and details.
	for _, local := range []string{"l", "a.b", "a.b.c.d", "o'hara", "lan-x_y", "lan!#$&=?^`{|}~"} {
		if got, err := testNamer.Canonical(local + "@example.vn"); err != nil || string(got) != local+"@example.vn" {
			t.Errorf("%q is %q, %v", local, got, err)
		}
	}
}

// Converting a domain to ASCII takes time with the square of its length: a domain that
// is too long for an address must not be converted, not even if most of it would be
// removed, as these invisible hyphens.
func TestTooLongNamesAreNotProcessed(t *testing.T) {
	for length, ok := range map[int]bool{2: true, 500: true, 1200: false, 20000: false} {
		domain := "exam" + strings.Repeat("\u00ad", length/2) + "ple.vn"
		if got, err := ParseName("lan@" + domain); (err == nil) != ok || ok && got != "lan@example.vn" {
			t.Errorf("%d octets of nothing in the domain: %q, %v", length, got, err)
		}
	}
	for length, ok := range map[int]bool{64: true, 65: false} {
		wide := strings.Repeat("ａ", length) // three octets each, one after the conversion
		if _, err := ParseName(wide + "@example.vn"); (err == nil) != ok {
			t.Errorf("%d wide letters: %v", length, err)
		}
	}
}

func BenchmarkALongAddress(b *testing.B) {
	var domain strings.Builder
	for i := range 20000 {
		domain.WriteRune(rune(0x4e00 + i*7919%20000))
	}
	address := "lan@" + domain.String()
	for b.Loop() {
		if _, err := ParseName(address); err == nil {
			b.Fatal("taken for an address")
		}
	}
}

func TestASubaddressIsFoldedIfTheConfigurationSaysSo(t *testing.T) {
	fold := *testNamer
	fold.FoldSubaddress = true
	for login, want := range map[string]Name{"lan+tag": "lan@example.vn", "office+tag": "lan@example.vn", "lan+a+b@other.vn": "lan@other.vn"} {
		if got, err := fold.Canonical(login); err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", login, got, err, want)
		}
	}
	for _, login := range []string{"+tag@example.vn", "lan.+tag", "lan+a..b", "lan+a/../b"} {
		if got, err := fold.Canonical(login); err == nil {
			t.Errorf("%q is %q", login, got)
		}
	}
}

func FuzzCanonical(f *testing.F) {
	for _, s := range []string{"lan", "LAN@example.vn", "ｌａｎ＠example.vn", "nguye\u0302\u0303n", "ß@example.vn", "İ", "ſ@example.vn", "lan*x", "a+b", "\u212a@example.vn", "lan@xn--zz.vn", "ﬁ", "lan/../x", "．．", "lan＼x@example.vn", ".lan", "lan."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, login string) {
		name, err := testNamer.Canonical(login)
		if err != nil {
			if s := strings.ToValidUTF8(login, ""); len(s) > 8 && strings.Contains(err.Error(), s) {
				t.Fatalf("the error repeats the login: %v", err)
			}
			return
		}
		if again, err := testNamer.Canonical(string(name)); err != nil || again != name {
			t.Fatalf("%q is %q, which is %q, %v: two counters for one mailbox", login, name, again, err)
		}
		if strings.ContainsFunc(string(name), unicode.IsControl) || strings.ContainsAny(string(name), "*%+\" /\\:;,()<>[]") {
			t.Fatalf("%q is %q, which is not safe to send", login, name)
		}
		if dotted := "." + name.Local() + "."; strings.Contains(dotted, "..") {
			t.Fatalf("%q is %q, which is no address without quotes", login, name)
		}
		if d := name.Domain(); !testNamer.Domains[d] || name.Local() == "" {
			t.Fatalf("%q is %q, of no domain served here", login, name)
		}
	})
}
