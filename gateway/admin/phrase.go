package admin

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"congthu/auth"
)

// Places, persons, instants and figures in sentences, in both languages.

// lasted formats a duration for people.
func lasted(d time.Duration) place {
	switch {
	case d < time.Minute:
		return place{"less than a minute", "chưa đầy 1 phút"}
	case d < 2*time.Hour:
		n := int(d / time.Minute)
		return place{count(n, "minute"), fmt.Sprintf("%d phút", n)}
	case d < 48*time.Hour:
		n := int(d / time.Hour)
		return place{count(n, "hour"), fmt.Sprintf("%d giờ", n)}
	}
	n := int(d / (24 * time.Hour))
	return place{count(n, "day"), fmt.Sprintf("%d ngày", n)}
}

// actorVI names an actor for Vietnamese support staff; the audit log has the identity
// from the kernel.
func actorVI(actor string) string {
	if actor == auth.ByGateway {
		return "cổng thư"
	}
	m := localActor.FindStringSubmatch(actor)
	switch {
	case m == nil:
		return actor
	case m[2] != "":
		return fmt.Sprintf("quản trị viên %s (sudo: %s)", m[1], m[2])
	}
	return "quản trị viên " + m[1]
}

var localActor = regexp.MustCompile(`^uid:[0-9]+ \(([^()]+)\)(?:, sudo user (\S+))?$`)

// IsZero reports whether the place is empty.
func (p place) IsZero() bool { return p == place{} }

// dateEN and dateVI write an instant in words.
func (e explainer) dateEN(t time.Time) string {
	return e.local(t).Format("Monday 2 January 2006 15:04")
}

func (e explainer) dateVI(t time.Time) string {
	t = e.local(t)
	day := [...]string{"Chủ nhật", "thứ Hai", "thứ Ba", "thứ Tư", "thứ Năm", "thứ Sáu", "thứ Bảy"}[t.Weekday()]
	return t.Format("15:04") + " " + day + ", ngày " + t.Format("02/01/2006")
}

// en and vi format an instant for people, in the regulation's time zone.
func (e explainer) en(t time.Time) string { return e.local(t).Format("2006-01-02 15:04") }

func (e explainer) vi(t time.Time) string { return e.local(t).Format("15:04 ngày 02/01/2006") }

func (e explainer) local(t time.Time) time.Time {
	if e.rules.Location == nil {
		return t.UTC()
	}
	return t.In(e.rules.Location)
}

// lastLogin says when the last login was, as exactly as it is known: later logins
// within the window in which they are merged are not written.
func (e explainer) lastLogin() (en, vi string) {
	en, vi = e.en(e.LastLogin), e.vi(e.LastLogin)
	window := e.rules.Dormancy.Slack
	switch {
	case window <= 0:
	case window == time.Hour:
		en, vi = en+" or up to an hour later", vi+" hoặc sau đó tối đa 1 giờ"
	case window%time.Hour == 0:
		n := int(window / time.Hour)
		en, vi = fmt.Sprintf("%s or up to %d hours later", en, n), fmt.Sprintf("%s hoặc sau đó tối đa %d giờ", vi, n)
	default:
		n := int((window + time.Minute - 1) / time.Minute)
		en, vi = fmt.Sprintf("%s or up to %s later", en, count(n, "minute")), fmt.Sprintf("%s hoặc sau đó tối đa %d phút", vi, n)
	}
	return en, vi
}

// left returns the time until an instant in whole days: the same number as in the alert
// to the user ([auth.Rules.ExpiringIn]).
func (e explainer) left(at time.Time) place {
	n := int(at.Sub(e.now) / (24 * time.Hour))
	if n == 0 {
		return place{"less than a day", "chưa đầy 1 ngày"}
	}
	return place{count(n, "day"), fmt.Sprintf("%d ngày", n)}
}

// leftExactly is left with the hours, for an end that an administrator has set some days
// ago: "2 days" a minute after 3 days were granted looks like a mistake.
func (e explainer) leftExactly(at time.Time) place {
	left := e.left(at)
	d := at.Sub(e.now)
	hours := int(d/time.Hour) % 24
	if d < 24*time.Hour || hours == 0 {
		return left
	}
	return place{left.en + " and " + count(hours, "hour"), fmt.Sprintf("%s %d giờ", left.vi, hours)}
}

// place is an origin as text for people.
type place struct{ en, vi string }

func addressOf(source netip.AddrPort) place {
	if addr := source.Addr().Unmap(); addr.IsValid() {
		return place{addr.String(), addr.String()}
	}
	return place{"an unknown address", "địa chỉ không rõ"}
}

// sentence returns a text that a person wrote, without its own full stop.
func sentence(s string) string { return strings.TrimRight(s, ". ") }

// count formats a number with its noun.
func count(n int, noun string) string { return counted(n, noun, noun+"s") }

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
