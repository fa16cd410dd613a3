package auth

import (
	"net/netip"
	"strings"
	"time"
)

// How long a source can be allowed.
const (
	MinAllowance = time.Hour
	MaxAllowance = 7 * 24 * time.Hour
)

// AllowedSource is a source that an administrator lets go on whatever it has done:
// an office behind one address, say, in which somebody guesses or a program has an
// old password. Only what throttle.Throttle holds against sources is lifted: the lock of an
// account, its limit of wrong passwords a day and its slots stay.
type AllowedSource struct {
	Source netip.Prefix
	// Since is when it was allowed, Until when that ends by itself.
	Since, Until time.Time
	// By and Reason are of whoever allowed it.
	By, Reason string
}

// DescribeAllowance is the state of a source in the audit log, from which
// [Event.Allows] reads it.
func DescribeAllowance(source netip.Prefix, until time.Time) string {
	if until.IsZero() {
		return source.String() + notAllowed
	}
	return source.String() + allowedUntil + until.UTC().Format(time.RFC3339)
}

const (
	notAllowed   = " not allowed"
	allowedUntil = " allowed until "
)

// Allows is what an event tells of a source that is allowed; ok is false when it tells
// of none.
func (e Event) Allows() (a AllowedSource, ok bool) {
	if e.Kind != SourceAllowed {
		return a, false
	}
	text, end, allowed := strings.Cut(e.After, allowedUntil)
	source, err := netip.ParsePrefix(strings.TrimSuffix(text, notAllowed))
	if err != nil {
		return a, false
	}
	a = AllowedSource{Source: source, Since: e.At, By: e.Actor, Reason: e.Reason}
	if !allowed {
		return a, true
	}
	if a.Until, err = time.Parse(time.RFC3339, end); err != nil {
		return a, false
	}
	// No event can allow more, whatever the clock was when it was made.
	if most := e.At.Add(MaxAllowance); a.Until.After(most) {
		a.Until = most
	}
	return a, true
}
