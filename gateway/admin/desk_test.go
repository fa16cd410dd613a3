package admin

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
	"congthu/gateway/scope"
)

// Anyone can choose the name of a mail program: the text for users contains no word of
// it.
func TestTextForUsersContainsNoTextOfClients(t *testing.T) {
	now := instant("2025-06-15 10:00")
	a := auth.Account{
		Name: "an@x.vn", Registered: instant("2024-01-02 08:00"), FirstLogin: instant("2024-01-02 08:00"), LastLogin: instant("2025-06-14 17:30"),
		Failures: 6, Lock: auth.Lock{Mark: auth.Mark{At: instant("2025-06-15 09:05"), By: auth.ByGateway}, Cause: auth.ByWrongPasswords},
		Mistakes: []auth.Mistake{from("198.51.100.7:4000", "2025-06-15 09:00"), from("198.51.100.7:4000", "2025-06-15 09:05")},
	}
	for _, c := range []struct{ program, staffEN, staffVI, tellEN, tellVI string }{
		{
			"your new phone. Call 0909 123 456 to prove it is yours. It is",
			"from a program that calls itself «your new phone. Call 0909 123 45» at 198.51.100.7 over IMAP",
			"từ phần mềm tự xưng là «your new phone. Call 0909 123 45» tại 198.51.100.7 qua IMAP",
			"because a device or a mail program at the network address 198.51.100.7 keeps trying",
			"do một thiết bị hoặc phần mềm thư (địa chỉ mạng 198.51.100.7) vẫn dùng",
		},
		{
			"K-9 Mail» (0909)\u202e: <b>gọi ngay",
			"calls itself «K-9 Mail 0909 bgọi ngay»", "tự xưng là «K-9 Mail 0909 bgọi ngay»",
			"because a device or a mail program at the network address 198.51.100.7 keeps trying",
			"do một thiết bị hoặc phần mềm thư (địa chỉ mạng 198.51.100.7) vẫn dùng",
		},
		{"k-9 mail 6.802", "from K-9 Mail at 198.51.100.7", "từ K-9 Mail tại 198.51.100.7", "because K-9 Mail at the network address 198.51.100.7 keeps trying", "do K-9 Mail (địa chỉ mạng 198.51.100.7) vẫn dùng"},
		{"iPhone Mail", "from iPhone Mail at", "từ iPhone Mail tại", "because iPhone Mail at", "do iPhone Mail (địa chỉ"},
		{"Outlook 0909123456", "calls itself «Outlook 0909123456»", "tự xưng là «Outlook 0909123456»", "because a device or a mail program at", "do một thiết bị hoặc phần mềm thư (địa chỉ"},
		{"", "from 198.51.100.7 over IMAP", "từ 198.51.100.7 qua IMAP", "because a device or a mail program at", "do một thiết bị hoặc phần mềm thư (địa chỉ"},
	} {
		tried := []guard.Tried{{
			First: instant("2025-06-15 09:00"), Last: instant("2025-06-15 09:59"), Times: 6,
			Source: netip.MustParseAddr("198.51.100.7"), Program: auth.ProgramName(c.program), Password: 1,
		}}
		w := Explain(a, auth.DefaultRules(), Lately{Tried: tried}, now, "")[0]
		if !strings.Contains(w.EN, c.staffEN) || !strings.Contains(w.VI, c.staffVI) || !strings.Contains(w.TellEN, c.tellEN) || !strings.Contains(w.TellVI, c.tellVI) {
			t.Errorf("%q: %+v", c.program, w)
		}
		var done Account
		explainer{a, auth.DefaultRules(), Lately{Tried: tried}, now, ""}.unlocked(&done)
		for _, heard := range []string{w.TellEN, w.TellVI, done.TellEN, done.TellVI} {
			if strings.Contains(heard, "0909") || strings.Contains(heard, "phone.") || strings.Contains(heard, "«") {
				t.Errorf("%q: the user hears: %s", c.program, heard)
			}
		}
		if !strings.Contains(done.TellVI, "trên thiết bị có địa chỉ mạng 198.51.100.7") || !strings.Contains(done.TellEN, "on the device at the network address 198.51.100.7") {
			t.Errorf("%q: %s / %s", c.program, done.TellEN, done.TellVI)
		}
	}
}

// The answer to an unlock of an account without a lock does not mention a lock.
func TestAnUnlockWithoutALockMentionsNone(t *testing.T) {
	f := newFixture(t)
	f.store.accounts["hoa.tv@x.vn"] = auth.Account{Name: "hoa.tv@x.vn", Failures: 3, Mistakes: []auth.Mistake{from("203.0.113.5:40000", "2025-06-15 09:00")}}
	f.add(auth.Account{Name: "hoa.vt@x.vn", Failures: 3, Mistakes: []auth.Mistake{from("203.0.113.5:40000", "2025-06-15 09:00")}})
	for _, c := range []struct{ name, en, vi, tellEN, tellVI string }{
		{"hoa.tv", "hoa.tv@x.vn is no account that the gateway knows: 3 wrong passwords for that name are forgotten", "Cổng thư chưa biết tài khoản hoa.tv@x.vn: đã xóa 3 lần nhập sai đã ghi nhận", "Check the spelling", "kiểm tra lại cách viết"},
		{"hoa.vt", "hoa.vt@x.vn was not locked; 3 wrong passwords are forgotten", "không bị khóa; đã xóa 3 lần nhập sai", "Your mailbox was not locked. Log in again.", "Hộp thư của quý vị không bị khóa."},
	} {
		a := decode[Account](t, f.request("POST", base+"/accounts/"+c.name+"/unlock", `{"reason":"đã gọi"}`), 200)
		if !strings.Contains(a.DoneEN, c.en) || !strings.Contains(a.DoneVI, c.vi) || !strings.Contains(a.TellEN, c.tellEN) || !strings.Contains(a.TellVI, c.tellVI) {
			t.Errorf("%s: %s\n%s\n%s\n%s", c.name, a.DoneEN, a.DoneVI, a.TellEN, a.TellVI)
		}
		noLock(t, a)
	}
	// Refused for now.
	e := explainer{auth.Account{Name: "lan.dt@x.vn", Registered: f.now, FirstLogin: f.now, LastLogin: f.now}, auth.DefaultRules(),
		Lately{Refused: guard.Refusal{At: f.now, Source: netip.MustParseAddrPort("203.0.113.5:40000"), Outcome: auth.Throttled}}, f.now, ""}
	a := Account{Summary: Summary{Address: "lan.dt@x.vn"}}
	e.unlocked(&a)
	if !strings.Contains(a.TellEN, "from your network") || !strings.Contains(a.TellVI, "từ mạng của quý vị") || strings.Contains(a.DoneEN, "locked again") {
		t.Errorf("%+v", a)
	}
	noLock(t, a)
}

// noLock holds of texts about an account that was not locked.
func noLock(t *testing.T, a Account) {
	t.Helper()
	for _, text := range []string{a.DoneEN, a.DoneVI, a.TellEN, a.TellVI} {
		for _, not := range []string{"locked again", "is unlocked", "lại bị khóa", "đã được mở khóa"} {
			if strings.Contains(text, not) {
				t.Errorf("%s: %s", a.Address, text)
			}
		}
	}
}

func TestNothingToUnlockIsNotAllWellWhileTheMailServerIsDown(t *testing.T) {
	f := newFixture(t)
	f.Checks = []Check{{Name: "imap upstream", Run: func(context.Context) error { return errors.New("connect: refused") }}}
	p := decode[Problem](t, f.request("POST", base+"/accounts/an@x.vn/unlock", `{"reason":"đã gọi"}`), 409)
	if !strings.HasPrefix(p.Detail, "nothing to do: The mail server does not answer over IMAP") || !strings.Contains(p.DetailVI, "Máy chủ thư không trả lời") {
		t.Errorf("%+v", p)
	}
}

// A grace that ends before the password does is refused, and one that changes nothing
// is not written.
func TestAGraceThatGivesNothingIsNotGranted(t *testing.T) {
	f := newFixture(t)
	f.add(auth.Account{Name: "chi.lt@x.vn", Password: auth.Password{Since: instant("2025-03-20 09:00")}}) // until 21 June
	p := decode[Problem](t, f.request("POST", base+"/accounts/chi.lt@x.vn/grace", `{"reason":"đi công tác","days":3}`), 409)
	if p.Detail != "nothing to do: the password expires by itself at Saturday 21 June 2025 00:00, which is later than 3 days from now" ||
		p.DetailVI != "không cần xử lý: mật khẩu đến 00:00 thứ Bảy, ngày 21/06/2025 mới hết hạn, muộn hơn 3 ngày kể từ bây giờ" {
		t.Errorf("%+v", p)
	}
	if a := f.store.accounts["chi.lt@x.vn"]; !a.GraceUntil.IsZero() || len(f.store.events) != 0 {
		t.Errorf("%+v, %+v", a, f.store.events)
	}
	// Seven days do help.
	decode[Account](t, f.request("POST", base+"/accounts/chi.lt@x.vn/grace", `{"reason":"đi công tác","days":7}`), 200)
	f.now = f.now.Add(30 * time.Second)
	p = decode[Problem](t, f.request("POST", base+"/accounts/chi.lt@x.vn/grace", `{"reason":"đi công tác","days":7}`), 409)
	if p.Detail != "nothing to do: grace until Sunday 22 June 2025 10:00 is granted already" || p.DetailVI != "không cần xử lý: đã gia hạn đến 10:00 Chủ nhật, ngày 22/06/2025" || len(f.store.events) != 1 {
		t.Errorf("%+v, %+v", p, f.store.events)
	}
	// It can be made shorter, as long as some grace remains.
	decode[Account](t, f.request("POST", base+"/accounts/chi.lt@x.vn/grace", `{"reason":"về sớm","days":6}`), 200)
}

// The advice for a lock after a theft does not lead in a circle.
func TestALockByAnAdminSaysThatThePasswordIsStillTheOld(t *testing.T) {
	f := newFixture(t)
	decode[Account](t, f.request("POST", base+"/accounts/an@x.vn/lock", `{"reason":"mất điện thoại"}`), 200)
	a := decode[Account](t, f.request("GET", base+"/accounts/an@x.vn", ""), 200)
	w := a.Why[0]
	if !strings.Contains(w.EN, "no new password since the lock") || !strings.Contains(w.VI, "chưa thấy mật khẩu mới từ khi khóa") ||
		strings.Contains(w.TellEN, "contact the helpdesk") || strings.Contains(w.TellVI, "bộ phận hỗ trợ") || !strings.Contains(w.TellVI, "sau khi quý vị đã đổi mật khẩu") {
		t.Errorf("%+v", w)
	}
	a = decode[Account](t, f.request("POST", base+"/accounts/an@x.vn/unlock", `{"reason":"có mật khẩu mới"}`), 200)
	if !strings.Contains(a.DoneEN, "no new password since the lock") || !strings.Contains(a.DoneVI, "chưa thấy mật khẩu mới từ khi khóa") {
		t.Errorf("%s\n%s", a.DoneEN, a.DoneVI)
	}
}

func TestAdminsHaveNamesInVietnamese(t *testing.T) {
	for actor, want := range map[string]string{
		"uid:0 (root)":                  "quản trị viên root",
		"uid:0 (root), sudo user lan":   "quản trị viên root (sudo: lan)",
		"Trần Thị B":                    "Trần Thị B",
		"uid:1000":                      "uid:1000",
		"gateway":                       "cổng thư",
		"uid:0 (x) and more, sudo user": "uid:0 (x) and more, sudo user",
	} {
		if got := actorVI(actor); got != want {
			t.Errorf("%s: %s", actor, got)
		}
	}
}

// A caller who may unlock but not read does not learn where the user logs in and is
// logged in now.
func TestAnActShowsNoSessionsWithoutTheScopeRead(t *testing.T) {
	f := newFixture(t)
	const unlocker = "token-of-one-who-may-only-unlock"
	f.SetTokens([]Token{
		{Name: "Nguyễn Văn A", SHA256: sha256.Sum256([]byte(master)), Scopes: scope.All()},
		{Name: "Trực", SHA256: sha256.Sum256([]byte(unlocker)), Scopes: []scope.Scope{scope.Unlock}},
	})
	for token, shown := range map[string]bool{unlocker: false, master: true} {
		f.lockedByGuessing("an@x.vn")
		a := f.store.accounts["an@x.vn"]
		a.Seen = []auth.Seen{{Source: netip.MustParsePrefix("203.0.113.9/32"), At: f.now}}
		f.store.accounts["an@x.vn"] = a
		got := decode[Account](t, f.request("POST", base+"/accounts/an@x.vn/unlock", `{"reason":"called"}`, "Authorization", "Bearer "+token), 200)
		if (len(got.LoggedInFrom) > 0) != shown || got.DoneEN == "" {
			t.Errorf("may read %t: logged in from %v, %q", shown, got.LoggedInFrom, got.DoneEN)
		}
	}
}

// A mail server that answers on no protocol is one reason with one answer.
func TestAServerThatIsDownOnTwoProtocolsIsOneReason(t *testing.T) {
	f := newFixture(t)
	f.Checks = []Check{
		{Name: "imap upstream", Run: func(context.Context) error { return errors.New("refused") }},
		{Name: "smtp upstream", Run: func(context.Context) error { return errors.New("too slow") }},
	}
	a := decode[Account](t, f.request("GET", base+"/accounts/an@x.vn", ""), 200)
	if len(a.Why) != 1 || !strings.Contains(a.Why[0].EN, "over IMAP (refused) and over SMTP (too slow): nobody") || !strings.Contains(a.Why[0].VI, "qua IMAP (nguyên văn: «refused») và qua SMTP (nguyên văn: «too slow»)") {
		t.Errorf("%+v", a.Why)
	}
}

// What is known of logins before the gateway existed is shown as such, with the reason
// why it revokes nothing.
func TestAnImportedAccountIsNotCalledUnused(t *testing.T) {
	now := instant("2025-06-15 10:00")
	for last, want := range map[string][2]string{
		"2025-06-01 08:00": {"the last login before, as it was imported, was at 2025-06-01 08:00.", "theo danh sách đã nhập, lúc 08:00 ngày 01/06/2025."},
		"2024-05-01 08:00": {"more than 12 months ago, but Article 5.3.c is not applied before the first login here", "Đã quá 12 tháng, nhưng Điều 5.3.c chưa áp dụng"},
	} {
		a := auth.Account{Name: "an@x.vn", Registered: instant("2024-01-02 08:00"), LastLogin: instant(last)}
		why := Explain(a, auth.DefaultRules(), Lately{}, now, "")[0]
		if !strings.Contains(why.EN, want[0]) || !strings.Contains(why.VI, want[1]) {
			t.Errorf("last login %s: %s\n%s", last, why.EN, why.VI)
		}
	}
}

// When the store works again, the fault is described in the past tense.
func TestAFaultThatIsOverIsInThePastTense(t *testing.T) {
	now := instant("2025-06-15 10:00")
	a := auth.Account{Name: "an@x.vn", Registered: instant("2024-01-02 08:00"), FirstLogin: instant("2024-01-02 08:00"), LastLogin: instant("2025-06-14 17:30")}
	why := Explain(a, auth.DefaultRules(), Lately{Unanswered: guard.Refusal{Outcome: auth.StoreUnavailable, At: instant("2025-06-15 09:00")}}, now, "")[0]
	if !strings.Contains(why.TellEN, "had a fault when you logged in") || strings.Contains(why.TellVI, "đang gặp sự cố") {
		t.Errorf("%s\n%s", why.TellEN, why.TellVI)
	}
}

// down is a readiness check of something that does not answer.
func down(name string) Check {
	return Check{Name: name, Run: func(context.Context) error { return errors.New("refused") }}
}

func up(name string) Check {
	return Check{Name: name, Run: func(context.Context) error { return nil }}
}

// While nobody can log in, the user hears one thing: not to change a password and to
// change it cannot both be right.
func TestAnOutageHasTheOnlyAnswerToTheUser(t *testing.T) {
	for _, c := range []struct {
		checks         []Check
		outcome, tell  string
		afterEN, after string
	}{
		{[]Check{up("store"), down("imap upstream"), down("smtp upstream")}, "unavailable", "Máy chủ thư hiện không hoạt động", "Once the mail server answers again: ", "Khi máy chủ thư hoạt động trở lại: "},
		{[]Check{down("store"), up("imap upstream")}, "store_unavailable", "Cổng thư đang gặp sự cố", "Once the gateway's store works again: ", "Khi kho dữ liệu của cổng thư hoạt động trở lại: "},
		{[]Check{down("store"), down("imap upstream")}, "store_unavailable", "Cổng thư đang gặp sự cố", "Once both work again: ", "Khi cả hai hoạt động trở lại: "},
	} {
		f := newFixture(t)
		f.Checks = c.checks
		f.lockedByGuessing("an@x.vn")
		f.add(auth.Account{Name: "het@x.vn", Password: auth.Password{Since: instant("2025-01-01 08:00")}})
		for _, name := range []string{"an@x.vn", "het@x.vn"} {
			why := decode[Account](t, f.request("GET", base+"/accounts/"+name, ""), 200).Why
			if why[0].Outcome != c.outcome || !strings.HasPrefix(why[0].TellVI, c.tell) || !strings.Contains(why[0].TellEN, "do not change it") {
				t.Errorf("%s: %+v", name, why)
			}
			for _, w := range why[1:] {
				if w.TellEN != "" || w.TellVI != "" || w.AllowSource != "" {
					t.Errorf("%s is a second answer: %+v", name, w)
				}
			}
			if last := why[len(why)-1]; !strings.HasPrefix(last.EN, c.afterEN) || !strings.HasPrefix(last.VI, c.after) {
				t.Errorf("%s: %+v", name, last)
			}
		}
	}
}

// After an act the user hears first what it did, and then of the outage, with no advice
// that contradicts it.
func TestAnActDuringAnOutageSaysFirstWhatItDid(t *testing.T) {
	f := newFixture(t)
	f.Checks = []Check{down("imap upstream")}
	f.lockedByGuessing("an@x.vn")
	f.add(auth.Account{Name: "cu@x.vn", LastLogin: instant("2024-01-02 08:00"), Revocation: auth.Mark{At: instant("2025-02-01 08:00"), By: auth.ByGateway}})
	f.add(auth.Account{Name: "het@x.vn", Password: auth.Password{Since: instant("2025-01-01 08:00")}})
	const outEN, outVI = "The mail server is not available at the moment.", "Máy chủ thư hiện không hoạt động."
	for _, c := range []struct{ path, body, en, vi string }{
		{"an@x.vn/unlock", `{"reason":"đã gọi"}`, "Your mailbox is unlocked. " + outEN, "Hộp thư của quý vị đã được mở khóa. " + outVI},
		{"cu@x.vn/restore", `{"reason":"công văn 1"}`, "Your mailbox has been given back. " + outEN, "Hộp thư của quý vị đã được khôi phục. " + outVI},
		{"het@x.vn/grace", `{"reason":"công tác","days":3}`, "You can use your password until Wednesday 18 June 2025 10:00. " + outEN, "Quý vị được dùng mật khẩu hiện tại đến 10:00 thứ Tư, ngày 18/06/2025. " + outVI},
	} {
		a := decode[Account](t, f.request("POST", base+"/accounts/"+c.path, c.body), 200)
		if !strings.HasPrefix(a.TellEN, c.en) || !strings.HasPrefix(a.TellVI, c.vi) || strings.Contains(a.TellEN, "Correct the password") || strings.Contains(a.TellEN, "Change it before") {
			t.Errorf("%s: %s\n%s", c.path, a.TellEN, a.TellVI)
		}
		if !strings.Contains(a.DoneEN, "does not answer over IMAP") {
			t.Errorf("%s: %s", c.path, a.DoneEN)
		}
	}
}

// Who was told to change the password after a theft never hears not to.
func TestALockByAnAdministratorIsNeverFollowedByDoNotChange(t *testing.T) {
	f := newFixture(t)
	f.Checks = []Check{down("imap upstream")}
	var said []string
	for _, c := range []struct{ method, path, body string }{
		{"POST", "/lock", `{"reason":"mất điện thoại"}`}, {"GET", "", ""}, {"POST", "/unlock", `{"reason":"có mật khẩu mới"}`}, {"GET", "", ""},
	} {
		a := decode[Account](t, f.request(c.method, base+"/accounts/an@x.vn"+c.path, c.body), 200)
		said = append(said, a.TellEN, a.TellVI)
		for _, w := range a.Why {
			said = append(said, w.TellEN, w.TellVI)
		}
	}
	for _, text := range said {
		if strings.Contains(text, "do not change") || strings.Contains(text, "không đổi mật khẩu") {
			t.Error(text)
		}
	}
	if all := strings.Join(said, "\n"); !strings.Contains(all, "we unlock it after you have changed the password") || !strings.Contains(all, "Your mailbox is unlocked. The mail server is not available at the moment; try again") {
		t.Error(all)
	}
}

// A mail server that answers over some protocols is not away.
func TestASideThatIsDownIsNamedByWhatDoesNotWork(t *testing.T) {
	for _, c := range []struct {
		checks []Check
		en, vi string
	}{
		{[]Check{up("imap upstream"), down("smtp upstream"), up("pop3 upstream")}, "Sending mail does not work at the moment; reading does.", "Hiện chưa gửi được thư; việc đọc thư vẫn bình thường."},
		{[]Check{down("imap upstream"), up("smtp upstream")}, "Reading mail does not work at the moment; sending does.", "Hiện chưa đọc được thư; việc gửi thư vẫn bình thường."},
		{[]Check{down("imap upstream"), up("smtp upstream"), down("pop3 upstream")}, "Reading mail does not work at the moment; sending does.", "Hiện chưa đọc được thư; việc gửi thư vẫn bình thường."},
		{[]Check{up("imap upstream"), up("smtp upstream"), down("pop3 upstream")}, "Reading mail over POP3 does not work at the moment; reading over IMAP and sending do.", "Hiện chưa đọc được thư qua POP3; việc đọc thư qua IMAP và gửi thư vẫn bình thường."},
		{[]Check{down("imap upstream"), up("smtp upstream"), up("pop3 upstream")}, "Reading mail over IMAP does not work at the moment; reading over POP3 and sending do.", "Hiện chưa đọc được thư qua IMAP; việc đọc thư qua POP3 và gửi thư vẫn bình thường."},
		{[]Check{up("imap upstream"), down("smtp upstream"), down("pop3 upstream")}, "Reading mail over POP3 and sending mail do not work at the moment; reading over IMAP does.", "Hiện chưa đọc được thư qua POP3 và chưa gửi được thư; việc đọc thư qua IMAP vẫn bình thường."},
	} {
		f := newFixture(t)
		f.Checks = c.checks
		w := decode[Account](t, f.request("GET", base+"/accounts/an@x.vn", ""), 200).Why[0]
		for _, text := range []string{w.EN, w.TellEN} {
			if !strings.HasPrefix(text, c.en) || strings.Contains(text, "nobody can log in") || strings.Contains(text, "do not change") {
				t.Errorf("want %s\ngot  %s", c.en, text)
			}
		}
		for _, text := range []string{w.VI, w.TellVI} {
			if !strings.HasPrefix(text, c.vi) {
				t.Errorf("want %s\ngot  %s", c.vi, text)
			}
		}
		f.lockedByGuessing("binh@x.vn")
		if why := decode[Account](t, f.request("GET", base+"/accounts/binh@x.vn", ""), 200).Why; why[0].Outcome != "locked" || why[0].TellEN == "" || why[1].Outcome != "unavailable" {
			t.Errorf("%+v", why)
		}
		a := decode[Account](t, f.request("POST", base+"/accounts/binh@x.vn/unlock", `{"reason":"đã gọi"}`), 200)
		if !strings.HasPrefix(a.TellEN, "Your mailbox is unlocked. Log in again.") || !strings.Contains(a.TellEN, c.en) || !strings.Contains(a.DoneEN, "at once") || !strings.Contains(a.DoneVI, c.vi) {
			t.Errorf("%s\n%s", a.DoneEN, a.TellEN)
		}
	}
}

// A full disk can be read but not written: an unlock after a theft fails, and its answer
// does not advise against a new password.
func TestAnUnlockThatFailsAfterATheftDoesNotSayNotToChange(t *testing.T) {
	f := newFixture(t)
	decode[Account](t, f.request("POST", base+"/accounts/an@x.vn/lock", `{"reason":"mất điện thoại"}`), 200)
	f.store.failAt = 1
	w := f.request("POST", base+"/accounts/an@x.vn/unlock", `{"reason":"có mật khẩu mới"}`)
	if w.Code != 503 || !strings.Contains(w.Body.String(), calmStoreEN) || strings.Contains(w.Body.String(), "do not change") {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
}

// A name that was refused because of its address has no wrong spelling.
func TestANewNameAtAThrottledOfficeIsNotAMisspeltOne(t *testing.T) {
	now := instant("2025-06-15 10:00")
	refused := guard.Refusal{At: now, Source: netip.MustParseAddrPort("127.0.0.70:4000"), Outcome: auth.Throttled}
	name := auth.Account{Name: "van@x.vn"}
	why := Explain(name, auth.DefaultRules(), Lately{Refused: refused}, now, "")
	if len(why) != 2 || why[0].Outcome != "throttled" || why[1].TellEN != "" || why[1].TellVI != "" ||
		why[1].EN != "Nobody has logged in as van@x.vn here yet." || why[1].VI != "Chưa có ai đăng nhập van@x.vn qua cổng thư." {
		t.Errorf("%+v", why)
	}
	a := Account{Summary: Summary{Address: "van@x.vn"}}
	explainer{name, auth.DefaultRules(), Lately{Refused: refused}, now, ""}.unlocked(&a)
	if a.DoneEN != "Nobody has logged in as van@x.vn here yet; the block of 127.0.0.70 no longer holds for it." ||
		a.DoneVI != "Chưa có ai đăng nhập van@x.vn qua cổng thư; từ 127.0.0.70 nay đăng nhập được tài khoản này." ||
		a.TellEN != "Try again now." || a.TellVI != "Đề nghị quý vị đăng nhập lại ngay." {
		t.Errorf("%s\n%s\n%s\n%s", a.DoneEN, a.DoneVI, a.TellEN, a.TellVI)
	}
	// Wrong passwords for the name are mentioned only if there were some.
	name.Failures = 2
	explainer{name, auth.DefaultRules(), Lately{Refused: refused}, now, ""}.unlocked(&a)
	if !strings.HasSuffix(a.DoneEN, "2 wrong passwords for it are forgotten.") || a.TellEN != "Try again now." {
		t.Errorf("%s\n%s", a.DoneEN, a.TellEN)
	}
}

// Tries with a misspelt address lock a name, not a mailbox.
func TestALockedNameIsNoMailbox(t *testing.T) {
	f := newFixture(t)
	f.add(auth.Account{Name: "quoc@x.vn"})
	f.store.accounts["quocc@x.vn"] = auth.Account{Name: "quocc@x.vn", Failures: 6,
		Lock: auth.Lock{Mark: auth.Mark{At: instant("2025-06-15 09:05"), By: auth.ByGateway}, Cause: auth.ByWrongPasswords}}
	a := decode[Account](t, f.request("GET", base+"/accounts/quocc@x.vn", ""), 200)
	if len(a.Why) != 1 || a.Why[0].Outcome != "locked" ||
		!strings.HasPrefix(a.Why[0].EN, "No account of this name is known; 6 tries with it have locked the name") ||
		!strings.HasPrefix(a.Why[0].VI, "Chưa có tài khoản nào mang tên này; tên này bị khóa sau 6 lần thử") ||
		!strings.Contains(a.Why[0].TellVI, "kiểm tra lại cách viết địa chỉ") || len(a.Similar) == 0 {
		t.Errorf("%+v, %v", a.Why, a.Similar)
	}
	a = decode[Account](t, f.request("POST", base+"/accounts/quocc@x.vn/unlock", `{"reason":"đã gọi"}`), 200)
	if !strings.Contains(a.DoneEN, "no account of this name is known") || !strings.Contains(a.DoneVI, "chưa có tài khoản nào mang tên này") ||
		strings.Contains(a.TellEN, "mailbox is unlocked") || !strings.Contains(a.TellEN, "Check the spelling") {
		t.Errorf("%s\n%s\n%s", a.DoneEN, a.DoneVI, a.TellEN)
	}
}

// An unlock of an account that was not locked did not make the next lock a second one.
func TestALockAfterForgottenPasswordsIsNotASecondLock(t *testing.T) {
	a := auth.Account{
		Name: "an@x.vn", Registered: instant("2024-01-02 08:00"), FirstLogin: instant("2024-01-02 08:00"), LastLogin: instant("2025-06-14 17:30"),
		Failures: 6, Lock: auth.Lock{Mark: auth.Mark{At: instant("2025-06-15 10:50"), By: auth.ByGateway}, Cause: auth.ByWrongPasswords},
	}
	event := auth.Event{Seq: 7, At: instant("2025-06-15 10:39"), Actor: "uid:0 (root)", Before: "not locked, 3 wrong passwords"}
	w := Explain(a, auth.DefaultRules(), Lately{Unlocked: event}, instant("2025-06-15 11:00"), "")[0]
	if w.EN != "Locked since 2025-06-15 10:50 after 6 wrong passwords; its wrong passwords were forgotten at 2025-06-15 10:39 by uid:0 (root)." ||
		w.VI != "Bị khóa từ 10:50 ngày 15/06/2025 sau 6 lần nhập sai mật khẩu; trước đó quản trị viên root đã xóa các lần nhập sai lúc 10:39 ngày 15/06/2025." {
		t.Errorf("%s\n%s", w.EN, w.VI)
	}
}

func TestAReasonHasAWordInIt(t *testing.T) {
	f := newFixture(t)
	f.lockedByGuessing("an@x.vn")
	for _, reason := range []string{"...", "-- --", "…!?"} {
		p := decode[Problem](t, f.request("POST", base+"/accounts/an@x.vn/unlock", `{"reason":"`+reason+`"}`), 422)
		if len(p.Errors) != 1 || !strings.Contains(p.Errors[0].Message, "an auditor will read it") || len(f.store.events) != 0 {
			t.Errorf("%q: %+v", reason, p)
		}
	}
	decode[Account](t, f.request("POST", base+"/accounts/an@x.vn/unlock", `{"reason":"#17"}`), 200)
}

func TestALostDeviceNeedsNoNewPassword(t *testing.T) {
	now := instant("2025-06-15 10:00")
	a := auth.Account{Name: "an@x.vn", Registered: now, FirstLogin: now, LastLogin: now, Stale: from("198.51.100.7:4000", "2025-06-15 09:00")}
	w := Explain(a, auth.DefaultRules(), Lately{}, now, "")[0]
	if !strings.Contains(w.TellEN, "If that is the device that was lost: it does not get in any more; there is nothing to do.") ||
		!strings.Contains(w.TellVI, "Nếu đó là thiết bị đã mất thì thiết bị đó không vào được nữa, quý vị không cần làm gì.") {
		t.Errorf("%+v", w)
	}
}

func TestALockOfAMailboxWithoutALoginWarnsOfTheOldPassword(t *testing.T) {
	f := newFixture(t)
	f.store.accounts["moi@x.vn"] = auth.Account{Name: "moi@x.vn", Registered: instant("2025-06-01 08:00")}
	decode[Account](t, f.request("POST", base+"/accounts/moi@x.vn/lock", `{"reason":"mất điện thoại"}`), 200)
	shown := decode[Account](t, f.request("GET", base+"/accounts/moi@x.vn", ""), 200).Why[0]
	done := decode[Account](t, f.request("POST", base+"/accounts/moi@x.vn/unlock", `{"reason":"có mật khẩu mới"}`), 200)
	for _, text := range []string{shown.EN, done.DoneEN} {
		if !strings.Contains(text, "has seen no new password since the lock") {
			t.Error(text)
		}
	}
}

// Who types different passwords has none saved.
func TestDifferentPasswordsAreTyped(t *testing.T) {
	a := auth.Account{
		Name: "an@x.vn", Registered: instant("2024-01-02 08:00"), FirstLogin: instant("2024-01-02 08:00"), LastLogin: instant("2025-06-14 17:30"),
		Failures: 6, Lock: auth.Lock{Mark: auth.Mark{At: instant("2025-06-15 09:05"), By: auth.ByGateway}, Cause: auth.ByWrongPasswords},
		Mistakes: []auth.Mistake{from("198.51.100.7:4000", "2025-06-15 09:00"), from("198.51.100.7:4000", "2025-06-15 09:05")},
	}
	var tried []guard.Tried
	for i := range 6 {
		at := instant("2025-06-15 09:00").Add(time.Duration(i) * time.Minute)
		tried = append(tried, guard.Tried{First: at, Last: at, Times: 1, Source: netip.MustParseAddr("198.51.100.7"), Password: i})
	}
	now := instant("2025-06-15 10:00")
	w := Explain(a, auth.DefaultRules(), Lately{Tried: tried}, now, "")[0]
	done := Account{Summary: Summary{Address: "an@x.vn"}}
	explainer{a, auth.DefaultRules(), Lately{Tried: tried}, now, ""}.unlocked(&done)
	for _, told := range [][2]string{{w.TellEN, w.TellVI}, {done.TellEN, done.TellVI}} {
		if strings.Contains(told[0], "saved") || !strings.Contains(told[0], "Caps Lock") || strings.Contains(told[1], "đã lưu") || !strings.Contains(told[1], "bộ gõ tiếng Việt") {
			t.Errorf("%s\n%s", told[0], told[1])
		}
	}
	if strings.Contains(done.DoneEN, "saved") {
		t.Error(done.DoneEN)
	}
}
