package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
)

// The identity that the kernel verified stays unchanged, whatever the environment says.
func TestTheUserOfSudoIsNamedAfterTheVerifiedOne(t *testing.T) {
	own, other := uint32(os.Getuid()), uint32(os.Getuid()+1000)
	for _, c := range []struct {
		uid    uint32
		said   []string
		suffix string
	}{
		{0, []string{"lan"}, ", sudo user lan"},
		{own, []string{`TINH\lan.nt@ad.tinh.vn`}, `, sudo user TINH\lan.nt@ad.tinh.vn`},
		{other, []string{"lan"}, ""},
		{0, nil, ""},
		{0, []string{""}, ""},
		{0, []string{"lan", "binh"}, ""},
		{0, []string{"lan), uid:1000 (binh"}, ""},
		{0, []string{"lan\x1b[2J"}, ""},
		{0, []string{strings.Repeat("a", 65)}, ""},
	} {
		h := http.Header{}
		for _, s := range c.said {
			h.Add(SudoHeader, s)
		}
		actor := actorOf(c.uid)
		if got := forWhom(credential{c.uid, actor}, h); got != actor+c.suffix {
			t.Errorf("uid %d, %q: %s", c.uid, c.said, got)
		}
	}
	// Over TCP only a token identifies the person.
	f := newFixture(t)
	a := decode[Account](t, f.request("POST", base+"/accounts/an@x.vn/lock", `{"reason":"nghỉ việc"}`, SudoHeader, "lan"), 200)
	if a.Locked.By != "Nguyễn Văn A" {
		t.Errorf("%+v", a.Locked)
	}
}

func TestALockAfterAnUnlockNamesTheAdminAndTheProgram(t *testing.T) {
	now := instant("2025-06-15 10:00")
	phone, home := netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8::5")
	a := auth.Account{
		Name: "an@x.vn", Registered: instant("2024-01-02 08:00"), FirstLogin: instant("2024-01-02 08:00"), LastLogin: instant("2025-06-14 17:30"),
		Failures: 6, Lock: auth.Lock{Mark: auth.Mark{At: instant("2025-06-15 09:05"), By: auth.ByGateway}, Cause: auth.ByWrongPasswords},
	}
	for i := range 6 {
		a.Mistakes = append(a.Mistakes, auth.Mistake{At: instant("2025-06-15 09:00").Add(time.Duration(i) * time.Minute), Source: netip.AddrPortFrom(phone, 4000)})
	}
	tried := func(source netip.Addr, program string, password, times int) guard.Tried {
		return guard.Tried{First: instant("2025-06-15 09:00"), Last: instant("2025-06-15 09:59"), Times: times, Source: source, Program: program, Password: password}
	}
	unlocked := auth.Event{Seq: 7, At: instant("2025-06-15 09:01"), Kind: auth.AccountUnlocked, Actor: "Trần Thị B"}
	before := tried(home, "Geary", 2, 3)
	before.Last = instant("2025-06-15 08:59")
	for _, c := range []struct {
		name     string
		beside   Lately
		en, vi   string // parts
		tell     string
		notAgain bool
	}{
		{
			name:   "by one program",
			beside: Lately{Unlocked: unlocked, Tried: []guard.Tried{before, tried(phone, "K-9 Mail", 1, 14)}},
			en:     "Locked again since 2025-06-15 09:05, 4 minutes after Trần Thị B unlocked it at 2025-06-15 09:01, after 6 wrong passwords, the latest at 2025-06-15 09:05, from 198.51.100.7. It looks like one program: the same wrong password 14 times from K-9 Mail at 198.51.100.7 over IMAP.",
			vi:     "Bị khóa lại từ 09:05 ngày 15/06/2025, 4 phút sau khi Trần Thị B mở khóa lúc 09:01 ngày 15/06/2025, sau 6 lần nhập sai",
			tell:   "K-9 Mail at the network address 198.51.100.7 keeps trying",
		},
		{
			name:   "by several that have the same password",
			beside: Lately{Unlocked: unlocked, Tried: []guard.Tried{tried(phone, "K-9 Mail", 1, 4), tried(home, "", 1, 2)}},
			en:     "the same wrong password 6 times, from 2 programs or addresses", vi: "mật khẩu đã lưu ở nhiều nơi", tell: "saved on every device",
		},
		{
			name:   "by somebody who types",
			beside: Lately{Unlocked: unlocked, Tried: []guard.Tried{tried(phone, "", 1, 1), tried(phone, "", 2, 5)}},
			en:     "2 different passwords from 198.51.100.7 over IMAP: somebody types or guesses there", vi: "đang gõ hoặc dò",
		},
		{
			name:   "by several with several",
			beside: Lately{Unlocked: unlocked, Tried: []guard.Tried{tried(phone, "", 1, 1), tried(home, "", 2, 5)}},
			en:     "2 different passwords from 2 programs or addresses: this may be somebody who guesses", vi: "có thể có người đang dò",
		},
		{name: "seen by another gateway", beside: Lately{Unlocked: unlocked}, en: "All of them came from that one address.", vi: "Tất cả đều từ một địa chỉ"},
		{name: "unlocked long ago", beside: Lately{Unlocked: auth.Event{Seq: 7, At: instant("2025-06-01 09:01")}}, en: "Locked since 2025-06-15 09:05 after 6", vi: "Bị khóa từ", notAgain: true},
		{name: "unlocked after it", beside: Lately{Unlocked: auth.Event{Seq: 7, At: instant("2025-06-15 09:06")}}, en: "Locked since 2025-06-15 09:05 after 6", vi: "Bị khóa từ", notAgain: true},
		{name: "with a session", beside: Lately{Sessions: 2}, en: "2 sessions that were open before go on here: a lock by wrong passwords ends none.", vi: "2 phiên đang mở", notAgain: true},
	} {
		w := Explain(a, auth.DefaultRules(), c.beside, now, "")[0]
		if w.Outcome != "locked" || !strings.Contains(w.EN, c.en) || !strings.Contains(w.VI, c.vi) || !strings.Contains(w.TellEN, c.tell) || strings.Contains(w.EN, "again since") == c.notAgain {
			t.Errorf("%s: %+v", c.name, w)
		}
	}
}

// A refusal because of the store has its own reason and text.
func TestAFaultOfTheStoreIsNotTakenForOthers(t *testing.T) {
	a := auth.Account{Name: "an@x.vn", Registered: instant("2024-01-02 08:00"), FirstLogin: instant("2024-01-02 08:00"), LastLogin: instant("2025-06-14 17:30")}
	last := guard.Refusal{At: instant("2025-06-15 09:00"), Source: netip.MustParseAddrPort("198.51.100.7:4000"), Outcome: auth.StoreUnavailable}
	w := Explain(a, auth.DefaultRules(), Lately{Unanswered: last}, instant("2025-06-15 10:00"), "")[0]
	if w.Outcome != "store_unavailable" || !strings.Contains(w.EN, "disk is full") || !strings.Contains(w.VI, "đầy ổ đĩa") || strings.Contains(w.EN, "mail server") || w.TellEN == "" || w.TellVI == "" {
		t.Errorf("%+v", w)
	}
}

func TestAnAnswerForUsersExistsWhileTheStoreIsDown(t *testing.T) {
	f := newFixture(t)
	f.store.fail = errDisk
	w := f.request("GET", base+"/accounts/an@x.vn", "")
	p := decode[struct {
		Detail string
		TellEN string `json:"tell_en"`
		TellVI string `json:"tell_vi"`
	}](t, w, 503)
	if p.TellEN != tellStoreEN || p.TellVI != tellStoreVI || p.Detail == "" {
		t.Errorf("%s", w.Body)
	}
}

func TestAServerThatIsDownIsAReasonForEveryAccount(t *testing.T) {
	f := newFixture(t)
	f.Checks = []Check{
		{Name: "store", Run: func(context.Context) error { return nil }},
		{Name: "imap upstream", Run: func(context.Context) error { return errors.New("connect: refused") }},
	}
	a := decode[Account](t, f.request("GET", base+"/accounts/an@x.vn", ""), 200)
	if len(a.Why) != 1 || a.Why[0].Outcome != "unavailable" || !strings.Contains(a.Why[0].EN, "over IMAP (connect: refused)") || a.Why[0].TellVI == "" {
		t.Errorf("%+v", a.Why)
	}
	// A lock of the account matters once the server answers again.
	f.lockedByGuessing("binh@x.vn")
	a = decode[Account](t, f.request("GET", base+"/accounts/binh@x.vn", ""), 200)
	if len(a.Why) != 2 || a.Why[0].Outcome != "unavailable" || a.Why[1].Outcome != "locked" || a.Why[1].TellEN != "" {
		t.Errorf("%+v", a.Why)
	}
}

func TestAServerThatWasNotProbedYetIsNoReason(t *testing.T) {
	f := newFixture(t)
	f.Checks = []Check{{Name: "imap upstream", Run: func(context.Context) error { return ErrNotProbed }}}
	a := decode[Account](t, f.request("GET", base+"/accounts/an@x.vn", ""), 200)
	if len(a.Why) != 1 || a.Why[0].Outcome != "accepted" {
		t.Errorf("%+v", a.Why)
	}
	if w := f.request("GET", "/readyz", ""); w.Code != 503 {
		t.Errorf("ready before a probe: %s", w.Body)
	}
}

func TestActsAnswerInSentences(t *testing.T) {
	f := newFixture(t)
	f.lockedByGuessing("an@x.vn")
	f.add(auth.Account{Name: "cu@x.vn", LastLogin: instant("2024-01-02 08:00"), Revocation: auth.Mark{At: instant("2025-02-01 08:00"), By: auth.ByGateway}})
	f.add(auth.Account{Name: "het@x.vn", Password: auth.Password{Since: instant("2025-01-01 08:00")}})
	f.live["binh@x.vn"] = 2
	for _, c := range []struct{ path, body, en, vi, tell string }{
		{"an@x.vn/unlock", `{"reason":"đã gọi"}`, "an@x.vn is unlocked: it can be logged in to at once. It was locked since 2025-06-15 09:05 after 6 wrong passwords, the latest at 2025-06-15 09:05, from 203.0.113.5. Have the password saved there corrected now, or it is locked again.", "an@x.vn đã được mở khóa, có thể đăng nhập ngay.", "Your mailbox is unlocked."},
		{"cu@x.vn/restore", `{"reason":"công văn 1"}`, "cu@x.vn is given back. It can log in: it was restored at 2025-06-15 10:00 by Nguyễn Văn A, and nobody has logged in since. It is revoked again unless somebody logs in before Tuesday 16 June 2026 01:00.", "trước 01:00 thứ Ba, ngày 16/06/2026", "Log in with your usual password."},
		{"het@x.vn/grace", `{"reason":"công tác","days":3}`, "The password of het@x.vn is accepted for 3 days more, until Wednesday 18 June 2025 10:00;", "đến 10:00 thứ Tư, ngày 18/06/2025", "until Wednesday 18 June 2025 10:00"},
		{"binh@x.vn/lock", `{"reason":"mất điện thoại"}`, "2 live sessions are ended.", "2 phiên đang mở đã kết thúc", "every program is logged out"},
	} {
		a := decode[Account](t, f.request("POST", base+"/accounts/"+c.path, c.body), 200)
		if !strings.Contains(a.DoneEN, c.en) || !strings.Contains(a.DoneVI, c.vi) || !strings.Contains(a.TellEN, c.tell) || a.TellVI == "" {
			t.Errorf("%s: %s\n%s\n%s\n%s", c.path, a.DoneEN, a.DoneVI, a.TellEN, a.TellVI)
		}
	}
	// What still prevents a login is shown, and not that all is well.
	f.lockedByGuessing("het2@x.vn")
	a := f.store.accounts["het2@x.vn"]
	a.Password.Since = instant("2025-01-01 08:00")
	f.store.accounts["het2@x.vn"] = a
	got := decode[Account](t, f.request("POST", base+"/accounts/het2@x.vn/unlock", `{"reason":"đã gọi"}`), 200)
	if !strings.Contains(got.DoneEN, "cannot be logged in to yet: The password") || strings.Contains(got.DoneEN, "at once") || !strings.Contains(got.TellEN, "Change it") {
		t.Errorf("%s\n%s", got.DoneEN, got.TellEN)
	}
}

func TestAnAccountShowsItsUnitItsSessionsAndWhereItsLoginsComeFrom(t *testing.T) {
	f := newFixture(t)
	f.add(auth.Account{Name: "an@x.vn", Unit: "UBND xã Minh Hưng", Seen: []auth.Seen{
		{At: instant("2025-06-14 08:00"), Source: netip.MustParsePrefix("198.51.100.7/32")}, {At: instant("2025-06-13 08:00"), Source: netip.MustParsePrefix("2001:db8::/64")},
	}})
	f.live["an@x.vn"] = 30
	f.Shared = true
	a := decode[Account](t, f.request("GET", base+"/accounts/an@x.vn", ""), 200)
	if a.Unit != "UBND xã Minh Hưng" || a.Sessions != 30 || len(a.OpenSessions) != 20 || a.OpenSessions[0].Program != "Thunderbird" || !a.ThisGatewayOnly || a.LastLoginFrom != nil {
		t.Errorf("%+v", a)
	}
	if len(a.LoggedInFrom) != 2 || a.LoggedInFrom[0].Source != "198.51.100.7" || a.LoggedInFrom[1].Source != "2001:db8::/64" {
		t.Errorf("%+v", a.LoggedInFrom)
	}
}

// pageCounter counts the pages that are read.
type pageCounter struct {
	Accounts
	pages, rows int
}

func (c *pageCounter) List(ctx context.Context, f auth.Filter) ([]auth.Account, error) {
	page, err := c.Accounts.List(ctx, f)
	c.pages, c.rows = c.pages+1, c.rows+len(page)
	return page, err
}

func TestAMisspeltAddressIsRecognised(t *testing.T) {
	f := newFixture(t)
	for _, name := range []auth.Name{"nguyenvan.an@x.vn", "nguyenvan.anh@x.vn", "tranthi.binh@x.vn", "lethi.dao@y.vn", "lap@x.vn"} {
		f.add(auth.Account{Name: name})
	}
	f.store.accounts["nguyenvan.am@x.vn"] = auth.Account{Name: "nguyenvan.am@x.vn", Failures: 3} // never logged in
	for address, want := range map[string][]string{
		"nguyenvan.ann":         {"nguyenvan.an@x.vn", "nguyenvan.anh@x.vn"},
		"nguyenvanan@x.vn":      {"nguyenvan.an@x.vn", "nguyenvan.anh@x.vn"},
		"gnuyenvan.an@x.vn":     {"nguyenvan.an@x.vn", "nguyenvan.anh@x.vn"},
		"Nguyễn Văn.An@x.vn":    {"nguyenvan.an@x.vn", "nguyenvan.anh@x.vn"},
		"lêthị.đào":             {"lethi.dao@y.vn"},
		"lethi.dao@x.vn":        {"lethi.dao@y.vn"},
		"tranthi.bihn@y.vn":     {"tranthi.binh@x.vn"},
		"tranthi.binh@x.com.vn": {"tranthi.binh@x.vn"},
		"lop@x.vn":              {"lap@x.vn"},
		"lopp@x.vn":             nil,
		"somebody.else@x.vn":    nil,
		"@x.vn":                 nil,
		"":                      nil,
		strings.Repeat("a", 99): nil,
	} {
		if got := f.similar(t.Context(), address); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
	a := decode[Account](t, f.request("GET", base+"/accounts/nguyenvan.ann", ""), 200)
	if len(a.Similar) != 2 {
		t.Errorf("%+v", a)
	}
	// A caller who may not read accounts gets no suggestions.
	w := f.request("POST", base+"/accounts/nguyenvan.ann/lock", `{"reason":"thử"}`)
	if p := decode[Problem](t, w, 404); strings.Contains(w.Body.String(), "nguyenvan") {
		t.Errorf("%+v", p)
	}
}

// The cost of a search does not depend on the number of accounts.
func TestLookingForSimilarAddressesIsBounded(t *testing.T) {
	f := newFixture(t)
	families, given := []string{"nguyen", "tran", "le", "pham", "hoang", "phan", "vu", "dang", "bui", "do"}, []string{"an", "binh", "chi", "dung", "giang", "hai", "khanh", "lan", "minh", "nam"}
	for _, family := range families {
		for _, middle := range given {
			for _, name := range given {
				for i := range 20 {
					full := auth.Name(fmt.Sprintf("%s%s.%s%d@x.vn", family, middle, name, i))
					f.store.accounts[full] = auth.Account{Name: full, Registered: f.now}
				}
			}
		}
	}
	c := &pageCounter{Accounts: f.store}
	f.Accounts = c
	for _, address := range []string{"nguyenbihn.chi7@x.vn", "zzzz.zzzz@x.vn", "a@x.vn"} {
		c.pages, c.rows = 0, 0
		got := f.similar(t.Context(), address)
		t.Log(address, got, c.pages, c.rows)
		if c.pages > similarReads || c.rows > similarReads*similarPage {
			t.Errorf("%s: %d pages of %d accounts were read", address, c.pages, c.rows)
		}
		if address[0] == 'n' && !slices.Contains(got, "nguyenbinh.chi7@x.vn") {
			t.Errorf("%s: %v", address, got)
		}
	}
}

// endless always has one more account, none of them similar.
type endless struct {
	Accounts
	pages int
}

func (e *endless) List(_ context.Context, f auth.Filter) (page []auth.Account, _ error) {
	e.pages++
	for i := range f.Limit {
		page = append(page, auth.Account{Name: f.After + auth.Name(rune('a'+i))})
	}
	return page, nil
}

func TestLookingForSimilarAddressesEndsHoweverManyThereAre(t *testing.T) {
	f := newFixture(t)
	e := &endless{Accounts: f.store}
	f.Accounts = e
	if got := f.similar(t.Context(), "somebody.else"); len(got) != 0 || e.pages != similarReads {
		t.Errorf("%v, %d pages", got, e.pages)
	}
}

func TestTheDocumentHasTheFieldsOfAProblem(t *testing.T) {
	f := newFixture(t)
	document := decode[struct {
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct{ Description string }
			}
		}
	}](t, f.request("GET", base+"/openapi.json", ""), 200)
	for _, member := range []string{"detail", "detail_vi", "tell_en", "tell_vi"} {
		if document.Components.Schemas["ErrorModel"].Properties[member].Description == "" {
			t.Errorf("no word of %s", member)
		}
	}
}
