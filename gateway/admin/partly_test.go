package admin

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"congthu/auth"
	"congthu/auth/guard"
)

// away is what of the mail server is down, with the sentences for an owner who is
// refused in any case, and what works for one who is not.
var away = []struct {
	name   string
	checks []Check
	// nobody is true for every owner; afterwards is true for one who changes the password.
	nobodyEN, nobodyVI string
	expiredEN          string
	expiredVI          string
}{
	{
		"IMAP", []Check{down("imap upstream"), up("smtp upstream")},
		"Reading does not work for anybody at the moment.", "Hiện không ai đọc được thư.",
		"Then you can send at once; reading works again when the mail server answers; we look into it.",
		"Đổi xong quý vị gửi được thư ngay; việc đọc thư sẽ trở lại khi máy chủ thư hoạt động, chúng tôi đang xử lý.",
	},
	{
		"SMTP", []Check{up("imap upstream"), down("smtp upstream"), up("pop3 upstream")},
		"Sending does not work for anybody at the moment.", "Hiện không ai gửi được thư.",
		"Then you can read at once; sending works again when the mail server answers; we look into it.",
		"Đổi xong quý vị đọc được thư ngay; việc gửi thư sẽ trở lại khi máy chủ thư hoạt động, chúng tôi đang xử lý.",
	},
	{
		"POP3", []Check{up("imap upstream"), up("smtp upstream"), down("pop3 upstream")},
		"Reading over POP3 does not work for anybody at the moment.", "Hiện không ai đọc được thư qua POP3.",
		"Then you can read over IMAP and send at once; reading over POP3 works again when the mail server answers; we look into it.",
		"Đổi xong quý vị đọc được thư qua IMAP và gửi được thư ngay; việc đọc thư qua POP3 sẽ trở lại khi máy chủ thư hoạt động, chúng tôi đang xử lý.",
	},
	{
		"POP3 and SMTP", []Check{up("imap upstream"), down("smtp upstream"), down("pop3 upstream")},
		"Reading over POP3 and sending do not work for anybody at the moment.", "Hiện không ai đọc được thư qua POP3 và không ai gửi được thư.",
		"Then you can read over IMAP at once; reading over POP3 and sending work again when the mail server answers; we look into it.",
		"Đổi xong quý vị đọc được thư qua IMAP ngay; việc đọc thư qua POP3 và gửi thư sẽ trở lại khi máy chủ thư hoạt động, chúng tôi đang xử lý.",
	},
}

// An owner who is refused in any case hears first of that obstacle, and never that some
// part works: it does not for this owner.
func TestAnObstacleOfTheAccountComesBeforeAPartThatIsDown(t *testing.T) {
	for _, part := range away {
		for obstacle, set := range map[string]func(f *fixture){
			"locked": func(f *fixture) { f.lockedByGuessing("an@x.vn") },
			"locked by hand": func(f *fixture) {
				decode[Account](t, f.request("POST", base+"/accounts/an@x.vn/lock", `{"reason":"mất điện thoại"}`), 200)
			},
			"revoked": func(f *fixture) {
				f.add(auth.Account{Name: "an@x.vn", LastLogin: instant("2024-01-02 08:00"), Revocation: auth.Mark{At: instant("2025-02-01 08:00"), By: auth.ByGateway}})
			},
			"expired": func(f *fixture) {
				f.add(auth.Account{Name: "an@x.vn", Password: auth.Password{Since: instant("2025-01-01 08:00")}})
			},
			"locked and expired": func(f *fixture) {
				f.lockedByGuessing("an@x.vn")
				a := f.store.accounts["an@x.vn"]
				a.Password.Since = instant("2025-01-01 08:00")
				f.store.accounts["an@x.vn"] = a
			},
			"unknown": func(f *fixture) { delete(f.store.accounts, "an@x.vn") },
		} {
			f := newFixture(t)
			f.Checks = part.checks
			f.ChangePassword = func() string { return "https://matkhau.x.vn" }
			set(f)
			a := decode[Account](t, f.request("GET", base+"/accounts/an@x.vn", ""), 200)
			var tellEN, tellVI, all []string
			for _, w := range a.Why {
				all = append(all, w.EN, w.TellEN, w.VI, w.TellVI)
				if w.TellEN != "" {
					tellEN, tellVI = append(tellEN, w.TellEN), append(tellVI, w.TellVI)
				}
			}
			for _, text := range all {
				for _, wrong := range []string{"sending does", "reading does", "reading over IMAP does", "and sending do.", "vẫn bình thường"} {
					if strings.Contains(text, wrong) {
						t.Errorf("%s, %s is down: false for this owner: %q", obstacle, part.name, text)
					}
				}
			}
			if a.Why[0].Outcome == auth.Unavailable.String() || a.Why[0].TellEN == "" {
				t.Errorf("%s, %s is down: the obstacle is not first: %+v", obstacle, part.name, a.Why)
			}
			wantEN, wantVI, most := part.nobodyEN, part.nobodyVI, 1
			switch obstacle {
			case "expired":
				wantEN = "Your password is older than 3 months: change it at https://matkhau.x.vn. " + part.expiredEN
				wantVI = "Mật khẩu đã dùng quá 3 tháng: đề nghị quý vị đổi tại https://matkhau.x.vn. " + part.expiredVI
			case "locked and expired":
				most = 2
			}
			if len(tellEN) != most || !strings.HasSuffix(tellEN[0], wantEN) || !strings.HasSuffix(tellVI[0], wantVI) {
				t.Errorf("%s, %s is down: the user hears\n%q\n%q, want the end\n%q\n%q", obstacle, part.name, tellEN, tellVI, wantEN, wantVI)
			}
			last := a.Why[len(a.Why)-1]
			if last.Outcome != auth.Unavailable.String() || !strings.HasPrefix(last.EN, part.nobodyEN) || !strings.HasPrefix(last.VI, part.nobodyVI) {
				t.Errorf("%s, %s is down: %q, %q", obstacle, part.name, last.EN, last.VI)
			}
		}
	}
}

// A source that is refused for now is an obstacle as well. An attempt without a verdict
// is explained by the part that is down, and has no second answer.
func TestARefusalForNowComesBeforeAPartThatIsDown(t *testing.T) {
	now := instant("2025-06-15 10:00")
	from := netip.MustParseAddrPort("203.0.113.9:4000")
	known := auth.Account{Name: "an@x.vn", Registered: instant("2024-01-02 08:00"), FirstLogin: instant("2024-01-02 08:00"), LastLogin: instant("2025-06-14 17:30")}
	for _, outcome := range []auth.Outcome{auth.Throttled, auth.Busy} {
		for _, a := range []auth.Account{known, {Name: "van@x.vn"}} {
			v := Account{Why: Explain(a, auth.DefaultRules(), Lately{Refused: guard.Refusal{At: now, Source: from, Outcome: outcome}}, now, "")}
			s := Server{Checks: []Check{down("imap upstream"), up("smtp upstream")}}
			s.showTroubles(t.Context(), &v)
			if w := v.Why[0]; w.Outcome != outcome.String() || !strings.HasSuffix(w.TellEN, "Reading does not work for anybody at the moment.") {
				t.Errorf("%s: %+v", outcome, v.Why)
			}
			if w := v.Why[len(v.Why)-1]; w.Outcome != auth.Unavailable.String() || w.TellEN != "" || strings.Contains(w.EN, "sending does") {
				t.Errorf("%s: %+v", outcome, v.Why)
			}
		}
	}
	v := Account{Why: Explain(known, auth.DefaultRules(), Lately{Unanswered: guard.Refusal{At: now, Source: from, Outcome: auth.Unavailable}}, now, "")}
	s := Server{Checks: []Check{down("imap upstream"), up("smtp upstream")}}
	s.showTroubles(t.Context(), &v)
	if len(v.Why) != 2 || !strings.HasPrefix(v.Why[0].TellEN, "Reading mail does not work at the moment; sending does.") || v.Why[1].TellEN != "" || v.Why[1].TellVI != "" {
		t.Errorf("%+v", v.Why)
	}
}

// While the store is down as well, no part works for everybody.
func TestAPartThatIsDownBesideTheStoreDoesNotSayThatTheRestWorks(t *testing.T) {
	f := newFixture(t)
	f.Checks = []Check{{Name: "store", Run: func(context.Context) error { return errors.New("database is locked") }}, down("imap upstream"), up("smtp upstream")}
	for _, w := range decode[Account](t, f.request("GET", base+"/accounts/an@x.vn", ""), 200).Why {
		if strings.Contains(w.EN, "sending does") || strings.Contains(w.VI, "vẫn bình thường") {
			t.Errorf("%q, %q", w.EN, w.VI)
		}
	}
}

// An act on an account that is still refused says once that a part is down.
func TestAnActWhileAPartIsDownSaysSoOnce(t *testing.T) {
	for _, part := range away {
		f := newFixture(t)
		f.Checks = part.checks
		f.ChangePassword = func() string { return "https://matkhau.x.vn" }
		f.lockedByGuessing("an@x.vn")
		a := f.store.accounts["an@x.vn"]
		a.Password.Since = instant("2025-01-01 08:00")
		f.store.accounts["an@x.vn"] = a
		f.add(auth.Account{Name: "cu@x.vn", LastLogin: instant("2024-01-02 08:00"), Revocation: auth.Mark{At: instant("2025-02-01 08:00"), By: auth.ByGateway}, Password: auth.Password{Since: instant("2025-01-01 08:00")}})
		for act, start := range map[string]string{"an@x.vn/unlock": "Your mailbox is unlocked. ", "cu@x.vn/restore": "Your mailbox has been given back. "} {
			did := decode[Account](t, f.request("POST", base+"/accounts/"+act, `{"reason":"đã gọi"}`), 200)
			if want := start + "Your password is older than 3 months: change it at https://matkhau.x.vn. " + part.expiredEN; !strings.HasPrefix(did.TellEN, want) {
				t.Errorf("%s, %s is down: %q", act, part.name, did.TellEN)
			}
			if strings.Contains(did.TellEN, "at the moment") || !strings.Contains(did.TellVI, part.expiredVI) || did.TellEN != strings.TrimSpace(did.TellEN) {
				t.Errorf("%s, %s is down: %q, %q", act, part.name, did.TellEN, did.TellVI)
			}
		}
		f.store.accounts["ten@x.vn"] = auth.Account{Name: "ten@x.vn", Failures: 6,
			Lock: auth.Lock{Mark: auth.Mark{At: instant("2025-06-15 09:05"), By: auth.ByGateway}, Cause: auth.ByWrongPasswords}}
		did := decode[Account](t, f.request("POST", base+"/accounts/ten@x.vn/unlock", `{"reason":"đã gọi"}`), 200)
		if !strings.HasSuffix(did.TellEN, " "+part.nobodyEN) || !strings.HasSuffix(did.TellVI, " "+part.nobodyVI) {
			t.Errorf("%s is down: %q, %q", part.name, did.TellEN, did.TellVI)
		}
	}
}
