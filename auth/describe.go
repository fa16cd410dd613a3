package auth

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// DescribeLock returns the text for events: who locked an account, or that it is not
// locked, with its wrong passwords.
func DescribeLock(a *Account) string {
	switch a.Lock.Cause {
	case ByWrongPasswords:
		return "locked by " + DescribeFailures(a.Failures)
	case ByAdmin:
		return "locked by " + a.Lock.By
	}
	return "not locked, " + DescribeFailures(a.Failures)
}

// Instant writes a time for people, in the regulation's time zone.
func (r Rules) Instant(t time.Time) string { return t.In(r.Location).Format("2006-01-02 15:04 -07:00") }

// Describe returns the text for events: what the rules hold against an account.
func Describe(a Account) string {
	if a.Blank() {
		return "nothing known"
	}
	text := DescribeLock(&a)
	if !a.Revocation.IsZero() {
		text += ", revoked"
	}
	return text
}

// DescribeFailures writes "1 wrong password", "2 wrong passwords".
func DescribeFailures(n int) string {
	if n == 1 {
		return "1 wrong password"
	}
	return fmt.Sprintf("%d wrong passwords", n)
}

// lockReason returns the sentence with the sources of the wrong passwords.
func (r Rules) lockReason(a *Account) string {
	var sources []string
	seen := make(map[netip.Addr]bool)
	for _, m := range a.Mistakes {
		if addr := m.Source.Addr(); addr.IsValid() && !seen[addr] {
			seen[addr] = true
			sources = append(sources, addr.String())
		}
	}
	return fmt.Sprintf("%s, %d tolerated, from %s", DescribeFailures(a.Failures), r.Lockout.Tolerated, strings.Join(sources, ", "))
}
