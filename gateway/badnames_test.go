package gateway

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"congthu/auth"
)

// latin is a name in ISO 8859-1, as an old mail client may send it: it is not
// UTF-8, and so no name.
const latin = "ng\xfdy\xean"

// A name that is not UTF-8 is answered like any other name that does not exist,
// in each way that credentials can come, and costs no panic.
func TestANameThatIsNotUTF8IsAnsweredLikeAnUnknownOne(t *testing.T) {
	o := newOffice(t)
	o.open()
	encode := base64.StdEncoding.EncodeToString
	plain := encode([]byte("\x00" + latin + "\x00x"))
	for way, said := range map[string][]string{
		"quoted":             {`a LOGIN "` + latin + `" "x"`},
		"literal":            {"a LOGIN {6}\r\n" + latin + " x"},
		"LITERAL+":           {"a LOGIN {6+}\r\n" + latin + " {1+}\r\nx"},
		"PLAIN":              {"a AUTHENTICATE PLAIN", plain},
		"PLAIN at once":      {"a AUTHENTICATE PLAIN " + plain},
		"PLAIN, as somebody": {"a AUTHENTICATE PLAIN " + encode([]byte(latin+"\x00"+latin+"\x00x"))},
		"LOGIN":              {"a AUTHENTICATE LOGIN", encode([]byte(latin)), encode([]byte("x"))},
	} {
		t.Run("IMAP "+way, func(t *testing.T) {
			p := o.phone()
			p.t = t
			for _, line := range said {
				p.say(line)
			}
			if got := p.read("a "); !strings.HasPrefix(got, "a NO [AUTHENTICATIONFAILED] ") {
				t.Errorf("%q", got)
			}
		})
	}
	for way, said := range map[string][]string{
		"PLAIN":         {"AUTH PLAIN", plain},
		"PLAIN at once": {"AUTH PLAIN " + plain},
		"LOGIN":         {"AUTH LOGIN", encode([]byte(latin)), encode([]byte("x"))},
		"LOGIN, a name": {"AUTH LOGIN " + encode([]byte(latin)), encode([]byte("x"))},
	} {
		t.Run("SMTP "+way, func(t *testing.T) {
			p := o.sender()
			p.t = t
			got := "334 "
			for _, line := range said {
				if !strings.HasPrefix(got, "334 ") {
					t.Fatalf("%q", got)
				}
				p.say(line)
				got = p.line()
			}
			if !strings.HasPrefix(got, "535 5.7.8 ") {
				t.Errorf("%q", got)
			}
		})
	}
	if log := o.log.String(); strings.Contains(log, "panicked") || strings.Contains(log, latin) || strings.Contains(log, `ng\xfd`) {
		t.Errorf("a panic, or a name, in the log: %s", log)
	}
}

// The log names nobody who is no account, whatever the mail server says of them
// and however it writes it.
func TestTheLogNamesNoStrangerInTheWordsOfTheMailServer(t *testing.T) {
	for _, c := range []struct{ text, login, want string }{
		{"no such user LAN", "lan", "no such user ***"},
		{"Lan lAn", "lan", "*** ***"},
		{`unknown "ng\xfdy\xean"`, latin, `unknown "***"`},
		{"unknown " + latin, latin, "unknown ***"},
		{"unknown NGUYỄN", "nguyễn", "unknown ***"},
		{`unknown "nguy\u1ec5n"`, "nguyễn", `unknown "***"`},
		{`unknown "NGUY\u1EC5N"`, "nguyễn", `unknown "***"`},
		{"a \u212aelvin", "kelvin", "a ***"}, // the sign of the unit: another length
		{"an x of y", "x", "an x of y"},      // less than three octets are in every word
		{"la\xffn and lan", "lan", "la\xffn and ***"},
		{"***", "***", "***"},
		{"", "lan", ""},
		{"lan", strings.Repeat("lan", 100), "lan"},
	} {
		if got := redact(c.text, c.login); got != c.want {
			t.Errorf("%q without %q is %q, want %q", c.text, c.login, got, c.want)
		}
	}
}

// The line of a failed login has the words of the mail server without the name as it
// was entered, as it is understood, and without its domain; an account's line has them
// as they are.
func TestTheLineOfAFailedLoginHasNoForeignNameInItsError(t *testing.T) {
	const text = `550 Nobody.Here@Example.VN (NOBODY.HERE, \"ngu\u1ef3\", nguỳ) is unknown at mail.example.vn`
	for _, c := range []struct {
		login string
		name  auth.Name
		known bool
		want  string
	}{
		{"Nobody.Here", "nobody.here@example.vn", false, `550 *** (***, \"ngu\u1ef3\", nguỳ) is unknown at mail.example.vn`},
		{"nobody.here@example.vn", "nobody.here@example.vn", false, `550 *** (***, \"ngu\u1ef3\", nguỳ) is unknown at mail.example.vn`},
		{"NGUỲ", "nguỳ@example.vn", false, `550 Nobody.Here@Example.VN (NOBODY.HERE, \"***\", ***) is unknown at mail.example.vn`},
		{"nobody.here", "", false, `550 ***@Example.VN (***, \"ngu\u1ef3\", nguỳ) is unknown at mail.example.vn`},
		{"nobody.here", "nobody.here@example.vn", true, text},
	} {
		var out bytes.Buffer
		newAccessLog(slog.New(slog.NewJSONHandler(&out, nil))).RecordAttempt(auth.Attempt{Login: c.login}, auth.Verdict{Outcome: auth.Refused, Name: c.name, Known: c.known, Err: errors.New(text)})
		var line struct{ Err string }
		if err := json.Unmarshal(out.Bytes(), &line); err != nil || line.Err != c.want {
			t.Errorf("%q, %q: %q, %v; want %q", c.login, c.name, line.Err, err, c.want)
		}
	}
}

// BenchmarkRedact is what a failed login of an unknown name costs its line.
func BenchmarkRedact(b *testing.B) {
	const text = `the mail server says: "NO [AUTHENTICATIONFAILED] Authentication failed for Nobody.Here@example.vn."`
	b.ReportAllocs()
	for b.Loop() {
		redact(text, "nobody.here@example.vn", "Nobody.Here@example.vn", "nobody.here")
	}
}

// Recorders are told on the path of a login, where a store that answers slowly
// would be waited for a second time: they ask none.
func TestNothingThatIsRecordedAsksTheStore(t *testing.T) {
	o := newOffice(t)
	asked := 0
	o.store.Fail = func(auth.StoreOp) error { asked++; return nil }
	c, err := o.gateway.Load()
	if err != nil {
		t.Fatal(err)
	}
	if err := o.gateway.assemble(c, false); err != nil { // and nothing runs beside it
		t.Fatal(err)
	}
	recorder := o.gateway.guard.Recorder
	for _, kind := range auth.EventKinds() {
		recorder.RecordEvent(auth.Event{Kind: kind, Account: lan, Actor: "A"}, true)
		recorder.RecordEvent(auth.Event{Kind: kind, Account: "nobody@example.vn", Actor: "A"}, false)
	}
	for _, outcome := range auth.Outcomes() {
		recorder.RecordAttempt(auth.Attempt{Login: "nobody"}, auth.Verdict{Outcome: outcome, Name: "nobody@example.vn"})
	}
	if asked != 0 {
		t.Errorf("the store was asked %d times", asked)
	}
	if log := o.log.String(); strings.Contains(log, "nobody") || !strings.Contains(log, "kind=account.unlocked account="+lan) || !strings.Contains(log, "kind=account.unlocked login_hash=") {
		t.Errorf("the log does not name the account, or names who is none:\n%s", log)
	}
}

// FuzzWithout: no name stays, nothing fails, and what is no name stays.
func FuzzWithout(f *testing.F) {
	f.Add("unknown user Lan", "lan")
	f.Add("unknown "+latin, latin)
	f.Add(`"\xfd\xfd\xfd"`, "\xfd\xfd\xfd")
	f.Add("İİİ", "i̇i̇i̇")
	f.Fuzz(func(t *testing.T, text, name string) {
		got := redact(text, name)
		if len(name) >= 3 && !strings.Contains(name, "*") && strings.Contains(got, name) {
			t.Errorf("%q is still in %q", name, got)
		}
		if len(name) < 3 && len(fmt.Sprintf("%+q", name)) < 5 && got != text {
			t.Errorf("%q became %q without %q", text, got, name)
		}
	})
}
