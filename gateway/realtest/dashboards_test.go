package realtest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"congthu/auth"
)

// panel is one of a dashboard in deploy/grafana.
type panel struct {
	Type, Title string
	Targets     []struct {
		RefID, Expr    string
		Instant, Range bool
	}
}

func panels(t *testing.T, file string) []panel {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../deploy/grafana", file))
	if err != nil {
		t.Fatal(err)
	}
	var d struct{ Panels []panel }
	if err := json.Unmarshal(text, &d); err != nil || len(d.Panels) == 0 {
		t.Fatalf("%s: %v", file, err)
	}
	return d.Panels
}

// calm are the panels that may show 0 here: the store does not fail, and no attempt
// waits at the end. They must have an answer all the same.
var calm = map[string]bool{"Đang chờ / Waiting": true, "Kho dữ liệu lỗi / Store failures": true,
	// No names share a counter, and no program panics.
	"Nguồn bị giữ lại / Throttled B": true, "Từng cổng thư / Each gateway K": true}

const monthsUnused = "Số tháng không đăng nhập / Months without a login"

// setInStore sets columns of an account, which no client can set.
func setInStore(t *testing.T, g *Gateway, user, columns string) {
	t.Helper()
	o := MustSucceed(t, "", nil, "sqlite3", "-cmd", ".timeout 10000", filepath.Join(g.Dir, "data", "congthu.db"),
		fmt.Sprintf("UPDATE accounts SET %s WHERE name = '%s'; SELECT changes()", columns, user))
	if strings.TrimSpace(o.Stdout) != "1" {
		t.Fatalf("%s is not in the store: %s", user, o.All())
	}
}

// reconfigure replaces a part of the configuration and puts it into force.
func reconfigure(t *testing.T, g *Gateway, old, new string) {
	t.Helper()
	text, err := os.ReadFile(g.Config)
	if err != nil || !strings.Contains(string(text), old) {
		t.Fatalf("the configuration has no %q (%v)", old, err)
	}
	writeFile(t, g.Config, strings.Replace(string(text), old, new, 1), 0o600)
	if _, ended := g.Process.Exited(); ended {
		return // it will read it when it starts
	}
	reloads := strings.Count(g.LogText(), "the new configuration is in force")
	g.Reload()
	Eventually(t, "the reload", func() bool { return strings.Count(g.LogText(), "the new configuration is in force") > reloads })
}

// unusedFor is when an account was last logged in to that is to be counted as unused for so many whole months, and not to
// be revoked, for the next minutes. There is no such time for twelve on 29 February: 28 February of the year before is
// the last day that is twelve months back, and an account with its last login on that day is revoked when 28 February has ended.
func unusedFor(months int, now time.Time) (since time.Time, ok bool) {
	rules := auth.DefaultRules()
	since = auth.AddMonths(now.In(rules.Location), -months)
	a := auth.Account{Registered: since, FirstLogin: since, LastLogin: since}
	for _, at := range []time.Time{now, now.Add(15 * time.Minute)} {
		if n, counted := rules.IdleMonths(a, at); !counted || n != months || rules.Dormant(a, at) {
			return since, false
		}
	}
	return since, true
}

// The test of the panels can be run on any day.
func TestAnAccountCanBeUnusedForAnyNumberOfMonthsOnAnyDay(t *testing.T) {
	zone := auth.DefaultRules().Location
	for day := time.Date(2027, 1, 1, 0, 0, 0, 0, zone); day.Year() < 2032; day = day.AddDate(0, 0, 1) {
		for _, into := range []time.Duration{0, time.Second, 30 * time.Minute, 12 * time.Hour, 23*time.Hour + 44*time.Minute, 24*time.Hour - time.Second} {
			now := day.Add(into)
			for months := 1; months <= auth.MaxIdleMonths; months++ {
				if _, ok := unusedFor(months, now.UTC()); !ok && (months < auth.MaxIdleMonths || !leapDay(now) && !leapDay(now.Add(15*time.Minute))) {
					t.Errorf("%s: nobody can be unused for %d months", now, months)
				}
			}
		}
	}
}

// leapDay reports whether it is 29 February.
func leapDay(t time.Time) bool { return t.Month() == time.February && t.Day() == 29 }

// Everything that the dashboards show, asked of a real Prometheus that scrapes a
// gateway to which everything happens that they tell of.
func TestEveryPanelOfTheDashboardsIsAnswered(t *testing.T) {
	t.Parallel()
	began := time.Now()
	d := OwnDovecot(t)
	g := OwnCongthu(t, Setup{Dovecot: d, Postfix: OwnPostfix(t, d), Extra: "throttle: { accounts: 2, failures: 8 }"})
	p := Prometheus(t, g.Admin, freePort(t)) // the second port has no listener: that gateway is gone
	// A rate needs a value from before: the counters as they are at the start.
	Eventually(t, "the first scrape", func() bool {
		s := p.Now(t, "congthu_upstream_up == 1")
		return len(s) == 3 // IMAP, submission, POP3
	})
	door := g.Door()
	send := func(user, from, want string) {
		t.Helper()
		m := loggedIn(t, door, user)
		m.MustReply("250", "MAIL FROM:<"+user+">")
		m.MustReply("250", "RCPT TO:<"+user+">")
		m.MustReply("354", "DATA")
		m.Say("From: <" + from + ">\r\nSubject: a panel\r\n\r\ntext\r\n.\r\n")
		if reply := m.Reply(); !strings.HasPrefix(reply, want) {
			t.Fatalf("from %s: %s, want %s", from, reply, want)
		}
		m.Close()
	}

	// People at work.
	user, dormant, expired, soon := d.Account(t), d.Account(t), d.Account(t), d.Account(t)
	for _, u := range []string{user, dormant, expired, soon} {
		if got := tryIMAP(t, door, "", u, Password); !accepted(got) {
			t.Fatal(got)
		}
		awaitPasswordSeen(t, g, u)
	}
	send(user, user, "250")
	send(user, dormant, "550")
	// Mistakes, and what is refused unasked.
	twice := door.DialIMAP(t, "")
	for range 2 {
		twice.Command("a", "LOGIN "+quoted(user)+" wrong")
	}
	tryIMAP(t, door, "", user, Password)
	tryIMAP(t, door, "", "nobody@"+Domain, "wrong")
	tryIMAP(t, door, "", "an@example.com", "wrong")
	tryIMAP(t, door, "", user, "")
	other := door.DialIMAP(t, "")
	other.Command("a", "AUTHENTICATE PLAIN "+plain(dormant, user, Password))
	clear := Dial(t, door.IMAP, "")
	clear.Hear()
	clear.Command("a", "LOGIN "+quoted(user)+" wrong")
	hasty := Dial(t, door.IMAPS, "") // does not speak TLS
	hasty.Say("a LOGIN\r\n")
	hasty.Rest()
	const suspect = "127.0.12.1"
	each(4, func(i int) { tryIMAP(t, door, suspect, d.Account(t), "wrong") })
	if got := tryIMAP(t, door, suspect, d.Account(t), "wrong"); got != imapLater {
		t.Fatalf("a source that guesses: %s", got)
	}
	// An attack: many are locked at once, the last is unlocked.
	var victims []string
	for range 13 {
		victims = append(victims, d.Account(t))
	}
	each(12, func(i int) { tryIMAP(t, door, "", victims[0], fmt.Sprint("guess ", i)) }) // six of them wait
	each(len(victims), func(i int) { lockOut(t, door, victims[i]) })
	g.Act(t, "unlock", victims[12])
	// Time that no test can wait for; the file is the gateway's while it runs. Of the victims, one was last seen a month
	// ago, one two, and so on up to twelve.
	Eventually(t, "the unlock to be scraped", func() bool { return len(p.Now(t, `congthu_unlocks_total{cause="admin"} == 1`)) == 1 })
	g.Stop()
	now := time.Now()
	unusedForAYear := 0.0
	for i, victim := range victims[:12] {
		since, ok := unusedFor(i+1, now)
		if !ok && i+1 < auth.MaxIdleMonths {
			t.Fatalf("nobody can be unused for %d months now", i+1)
		}
		if ok {
			unusedSince(t, g, victim, since)
		}
		if ok && i+1 == auth.MaxIdleMonths {
			unusedForAYear = 1
		}
	}
	unusedSince(t, g, dormant, auth.AddMonths(now, -14))
	tooOld := auth.AddMonths(now, -4).UnixMicro()
	setInStore(t, g, expired, fmt.Sprintf("password_since = %d", tooOld))
	// A grace ends at any time of the day, a password at midnight only, which may be in a minute.
	setInStore(t, g, soon, fmt.Sprintf("password_since = %d, grace_until = %d", tooOld, now.Add(20*time.Hour).UnixMicro()))
	// Two rules only watch, and then one.
	const enforced, watched = "  password: { change_url", "  sender: { mode: warn }\n  password: { mode: warn, change_url"
	reconfigure(t, g, enforced, watched)
	g.Start(t)
	reading, _ := door.LoginIMAP(t, "", user, Password) // stays
	reading.Command("b", "SELECT INBOX")
	send(user, dormant, "250")
	if got := tryIMAP(t, door, "", expired, Password); !accepted(got) {
		t.Fatalf("with an old password and a rule in mode warn: %s", got)
	}
	reconfigure(t, g, "mode: warn, change_url", "change_url")
	// The sweep revokes, counts all accounts and verifies the audit log.
	sweepSoon(t, g)
	Eventually(t, "the audit log to be verified", func() bool { return lineHas(g.LogText(), `"msg":"audit log verified"`) })
	tryIMAP(t, door, "", dormant, Password)
	tryIMAP(t, door, "", expired, Password)
	// And then the mail server goes.
	d.Stop()
	if got := tryIMAP(t, door, "", user, Password); got != imapLater {
		t.Errorf("without a mail server: %s", got)
	}
	Eventually(t, "the outage to be scraped", func() bool {
		return len(p.Now(t, `congthu_upstream_up{protocol="imap"} == 0`)) == 1 &&
			len(p.Now(t, `sum(congthu_login_attempts_total{outcome="unavailable"}) > 0`)) == 1
	})

	asked := 0
	last := make(map[string][]Series) // by title and query
	chosen := strings.NewReplacer("$job", ".+", "$instance", ".+", "$__rate_interval", "1m")
	for _, file := range []string{"auth-path.json", "compliance.json"} {
		for _, panel := range panels(t, file) {
			for _, q := range panel.Targets {
				asked++
				var series []Series
				if q.Range {
					series = p.Lately(t, chosen.Replace(q.Expr), began)
				} else {
					series = p.Now(t, chosen.Replace(q.Expr))
				}
				last[panel.Title+" "+q.RefID] = series
				if len(series) == 0 {
					t.Errorf("%s: %s, query %s: no data\n\t%s", file, panel.Title, q.RefID, q.Expr)
					continue
				}
				most := 0.0
				for _, s := range series {
					for _, v := range s.Values {
						most = max(most, v)
					}
				}
				if most <= 0 && !calm[panel.Title] && !calm[panel.Title+" "+q.RefID] && !(panel.Title == monthsUnused && q.RefID == "M" && unusedForAYear == 0) {
					t.Errorf("%s: %s, query %s: nothing but 0, though it has happened\n\t%s", file, panel.Title, q.RefID, q.Expr)
				}
			}
		}
	}
	if asked < 60 {
		t.Errorf("only %d queries were found", asked)
	}
	t.Logf("%d queries answered, %s after the start", asked, time.Since(began).Round(time.Second))

	// That they are answered is not yet that the answer is right.
	for title, want := range map[string]float64{
		"Cổng không trả lời / Gateways gone A": 1, "Kho dữ liệu / Store A": 1, "Đang khóa / Locked A": 12, "Mật khẩu hết hạn / Expired A": 1,
		"Đã thu hồi / Revoked A": 1, "Nghi tấn công / Attacks A": 1, "Chỉ theo dõi / In warn mode A": 1, "Chuỗi nhật ký kiểm toán / Audit chain A": 1,
		"Mật khẩu sắp hết hạn / Passwords running out A": 1, "Mật khẩu sắp hết hạn / Passwords running out D": 1,
		monthsUnused + " B": 1, monthsUnused + " M": unusedForAYear,
	} {
		if s := last[title]; len(s) != 1 || s[0].Last() != want {
			t.Errorf("%s: %+v, want %v", title, s, want)
		}
	}
	if s := last["Đăng nhập được / Success A"]; len(s) != 1 || s[0].Last() <= 0.5 || s[0].Last() >= 1 {
		t.Errorf("success: %+v, want a little less than 1", s)
	}
	if s := last["Từng cổng thư / Each gateway A"]; len(s) != 2 {
		t.Errorf("the table of gateways: %+v, want the one that is gone as well", s)
	}
	happened := make(map[string]bool)
	for _, s := range last["Lượt đăng nhập theo kết quả / Attempts by outcome A"] {
		for _, v := range s.Values {
			happened[s.Labels["outcome"]] = happened[s.Labels["outcome"]] || v > 0
		}
	}
	for _, o := range []auth.Outcome{
		auth.Accepted, auth.WrongPassword, auth.RepeatedPassword, auth.NoSuchDomain, auth.Malformed, auth.Locked, auth.Revoked, auth.Expired,
		auth.OtherIdentity, auth.Cleartext, auth.Throttled, auth.Unavailable,
	} {
		if !happened[o.String()] {
			t.Errorf("the outcome %v has happened and is not shown", o)
		}
	}
}
