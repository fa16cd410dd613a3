package auth

import (
	"net/netip"
	"strings"
	"time"
)

// The limits of the time for which a source can be allowed.
const (
	MinAllowance = time.Hour
	MaxAllowance = 7 * 24 * time.Hour
)

// AllowedSource is a source that an administrator exempts from the throttle:
// for example an office behind one address, in which one person guesses or a program
// has an old password. Only the limits of throttle.Throttle are lifted: the lock of an
// account, its limit of wrong passwords in a day and its slots stay.
type AllowedSource struct {
	Source netip.Prefix
	// Since is when it was allowed, Until when the allowance ends.
	Since, Until time.Time
	// By names the admin who allowed it, Reason says why.
	By, Reason string
}

// DescribeAllowance returns the state of a source as the audit log has it;
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

// Allows returns the allowance that an event records; ok is false if it records none.
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
	// No event can allow more, even if the clock was wrong when it was written.
	if most := e.At.Add(MaxAllowance); a.Until.After(most) {
		a.Until = most
	}
	return a, true
}
