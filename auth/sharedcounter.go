package auth

import (
	"strings"
	"time"
)

// SharedFor is the time after its first failure at which a shared counter is emptied. It
// counts from the first, so that continued guessing does not keep a newcomer out for
// longer, and a few guesses a day never add up.
const SharedFor = 24 * time.Hour

// Shared reports whether the name is that of a shared counter. No address begins
// with an @.
func (n Name) Shared() bool { return strings.HasPrefix(string(n), "@") }

// Emptied reports whether the failures of a shared counter are forgotten: its day is
// over, or the time after which locks of accounts end by themselves, if that is shorter.
// A first failure that lies a day ahead comes from a clock that was wrong.
func (l Lockout) Emptied(a Account, now time.Time) bool {
	switch {
	case len(a.Mistakes) == 0:
		return true
	case l.keepShared:
		return false
	}
	if age := now.Sub(a.Mistakes[0].At); age >= SharedFor || age <= -SharedFor {
		return true
	}
	latest := a.Mistakes[len(a.Mistakes)-1].At
	return l.UnlockAfter > 0 && a.Failures > l.Tolerated && !now.Before(latest.Add(l.UnlockAfter))
}

// Full reports whether a shared counter refuses for now.
func (r Rules) Full(a Account, now time.Time) bool {
	return a.Name.Shared() && r.Lockout.Mode == Enforce && r.Lockout.CountFailures(a, now) > r.Lockout.Tolerated
}
