package cli

import (
	"net/http"
	"strings"
	"testing"

	"congthu/gateway/admin"
)

// A text of the database server stays as it is, since administrators look it up. It is
// quoted in a sentence of the user's language.
func TestWhatTheDatabaseSaidIsQuotedInTheUsersLanguage(t *testing.T) {
	for said, want := range map[string][2]string{
		`FATAL: sorry, too many clients already (SQLSTATE 53300)`: {
			`the database said: "sorry, too many clients already" (SQLSTATE 53300)`, `cơ sở dữ liệu báo: «sorry, too many clients already» (SQLSTATE 53300)`,
		},
		`ping: ERROR: cannot execute INSERT in a read-only transaction (SQLSTATE 25006)`: {
			`ping: the database said: "cannot execute INSERT in a read-only transaction" (SQLSTATE 25006)`, `cơ sở dữ liệu báo: «cannot execute INSERT in a read-only transaction» (SQLSTATE 25006)`,
		},
		"failed to connect to `user=congthu database=mail`: 192.0.2.1:5432 (db.example.vn): server error: FATAL: the database system is starting up (SQLSTATE 57P03)": {
			"failed to connect to `user=congthu database=mail`: 192.0.2.1:5432 (db.example.vn): the database said: \"the database system is starting up\" (SQLSTATE 57P03)",
			`cơ sở dữ liệu báo: «the database system is starting up» (SQLSTATE 57P03)`,
		},
		`KATASTROPHAL: kein Platz (mehr) (SQLSTATE 53100)`: {
			`the database said: "kein Platz (mehr)" (SQLSTATE 53100)`, `cơ sở dữ liệu báo: «kein Platz (mehr)» (SQLSTATE 53100)`,
		},
	} {
		t.Setenv("LC_ALL", "C.UTF-8")
		if got := faultInWords(said); got != want[0] {
			t.Errorf("%q:\n got %s\nwant %s", said, got, want[0])
		}
		t.Setenv("LC_ALL", "vi_VN.UTF-8")
		if got := faultInWords(said); !strings.HasPrefix(got, want[1]) {
			t.Errorf("%q:\n got %s\nwant %s", said, got, want[1])
		}
		// The gateway quotes faults in its sentences.
		if got := plainly("Kho dữ liệu của cổng thư có sự cố (nguyên văn: «" + said + "»): người chưa đăng nhập"); !strings.Contains(got, want[1]) {
			t.Errorf("%q: %s", said, got)
		}
	}
}

// The screens that show a fault of the store say whose words they quote.
func TestEachScreenQuotesTheDatabase(t *testing.T) {
	const said = "ERROR: permission denied for table accounts (SQLSTATE 42501)"
	for locale, want := range map[string]string{
		"C.UTF-8": `the database said: "permission denied for table accounts"`, "vi_VN.UTF-8": `cơ sở dữ liệu báo: «permission denied for table accounts»`,
	} {
		t.Setenv("LC_ALL", locale)
		f := newFake(t)
		f.health = http.StatusServiceUnavailable
		f.readiness = admin.Readiness{Checks: map[string]admin.Condition{"store": {Error: said}}}
		var out, errOut strings.Builder
		Run(t.Context(), []string{"health", "--ready", "--socket", f.socket}, strings.NewReader(""), &out, &errOut)
		c := &client{zone: hanoi}
		c.printAnswer(&out, admin.Account{Summary: admin.Summary{Address: "an@x.vn"}, Why: []admin.Why{{
			Outcome: "store_unavailable", EN: "The gateway's own store has a fault (" + said + "): wait.", VI: "Kho dữ liệu của cổng thư có sự cố (nguyên văn: «" + said + "»): chờ.",
		}}})
		(&check{out: &out}).say("failed", "store", "open: "+said)
		out.WriteString(quotingTheDatabase("migrate: dial tcp 192.0.2.1:5432: connect: connection refused; " + said))
		if n := strings.Count(out.String(), want); n != 4 || strings.Contains(out.String(), "ERROR:") {
			t.Errorf("%s: %d times\n%s%s", locale, n, out.String(), errOut.String())
		}
	}
}
