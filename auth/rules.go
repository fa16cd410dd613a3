package auth

import (
	"fmt"
	"net/netip"
	"time"
)

// Mode says what a rule does when it applies.
type Mode uint8

const (
	Enforce Mode = iota // refuse
	Warn                // allow; log, audit and count what would have happened
	Off                 // do not check

	numModes
)

var modeNames = [numModes]string{"enforce", "warn", "off"}

// String returns the name used in the configuration, metrics and logs.
func (m Mode) String() string { return enumName(m, modeNames[:]) }

// MarshalText implements encoding.TextMarshaler.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *Mode) UnmarshalText(text []byte) error {
	for i, name := range modeNames {
		if name == string(text) {
			*m = Mode(i)
			return nil
		}
	}
	return fmt.Errorf("mode %q: want enforce, warn or off", text)
}

// Rules are the thresholds of the regulation. The decisions on them are pure
// functions of an account and an instant, so that the regulation can be read,
// and tested, as a table. [DefaultRules] are the regulation's own figures.
type Rules struct {
	// Location is the time zone in which days end.
	Location *time.Location
	Lockout  Lockout
	Dormancy Dormancy
	Password PasswordAge
	// Sender is the mode of Art. 13.8 for submitted mail.
	Sender Mode
	// ClockSuspect is set while the clock is not trusted: no password expires and no
	// account becomes dormant then. It is not a setting: see guard.Guard.WatchClock.
	ClockSuspect bool
}

// Lockout is Art. 6.2.d: a mailbox locks when a wrong password is entered more
// than 5 times.
type Lockout struct {
	Mode Mode
	// Tolerated is the number of wrong passwords that do not lock; the next one locks. 1 to 100.
	Tolerated int
	// ForgetAfter is the time after the latest failure at which all are forgotten; 0: never.
	ForgetAfter time.Duration
	// UnlockAfter is the duration of a lock made by wrong passwords; 0: until an unlock.
	UnlockAfter time.Duration
	// CountPrevious counts passwords that were right before like any other wrong one.
	CountPrevious bool
	// CountRepeats is how often the same wrong password counts.
	CountRepeats RepeatWindow
	// DailyFailureCap: after this many wrong passwords on one calendar day (logins do
	// not reset the count), only sources that logged in to the account within the
	// last 30 days may try it until midnight. It stops an attacker who guesses
	// slowly between the owner's logins, each of which resets Failures. The owner is
	// affected only at a source without such a login. 0 disables.
	DailyFailureCap int
	// ForgetUnknown is how long the store keeps the failures of a name that has
	// never had an accepted login and is not locked; 0: forever. Other names are
	// never forgotten.
	ForgetUnknown time.Duration
	// keepShared empties no shared counter: see [Rules].ClockSuspect.
	keepShared bool
}

// Dormancy is Art. 5.3.c: an account not logged in to for more than 12 months
// is revoked.
type Dormancy struct {
	Mode   Mode
	Months int // 1 to 120
	// DoorsComplete says that all logins pass through this gateway, so that an
	// imported account that has never logged in here is dormant.
	DoorsComplete bool
	// Slack is added to the months: the window in which last logins are coalesced,
	// so that no account is revoked early.
	Slack time.Duration
}

// PasswordAge is Art. 9: a password is changed at least once every 3 months.
type PasswordAge struct {
	Mode   Mode
	Months int // 1 to 120
	// WarnDays is how many days before the expiry its owner is warned; 0 never.
	WarnDays int
	// MaxGrace is the longest time for which an admin may extend an expired password.
	MaxGrace time.Duration
}

// DefaultRules are the figures of the regulation.
func DefaultRules() Rules {
	return Rules{
		Location: time.FixedZone("+07", 7*60*60),
		Lockout:  Lockout{Tolerated: 5, CountRepeats: RepeatWindow(3 * time.Minute), DailyFailureCap: 30, ForgetUnknown: 30 * 24 * time.Hour},
		Dormancy: Dormancy{Months: 12, Slack: time.Hour},
		Password: PasswordAge{Months: 3, WarnDays: 14, MaxGrace: 7 * 24 * time.Hour},
	}
}

// CountFailures counts the failures that have not been forgotten.
func (l Lockout) CountFailures(a Account, now time.Time) int {
	if a.Name.Shared() && l.Emptied(a, now) {
		return 0
	}
	if n := len(a.Mistakes); l.ForgetAfter > 0 && n > 0 && !now.Before(a.Mistakes[n-1].At.Add(l.ForgetAfter)) {
		return 0
	}
	return a.Failures
}

// Slots is the number of attempts on the account that the mail server may judge at the
// same time: as many as could all be wrong without exceeding tolerated + 1.
// An account that is not locked always has one: the next real rejection locks. A
// shared counter has none when it is full, since it is never locked.
func (r Rules) Slots(a Account, now time.Time) int {
	free := r.Lockout.Tolerated + 1 - r.Lockout.CountFailures(a, now)
	if a.Name.Shared() {
		return max(0, free)
	}
	return max(1, free)
}

// FreeSlots is the number of slots left for attempts that may come after at most free
// failures. Attempts in flight count too, so there are never more failures, however many
// sources try at once. Failures of a lock that has ended by itself do not count.
func (r Rules) FreeSlots(a Account, free int, now time.Time) int {
	failures := r.Lockout.CountFailures(a, now)
	if a.Lock.Cause == ByWrongPasswords && !r.Locked(a, now) {
		failures = 0
	}
	return min(max(0, free-failures), r.Slots(a, now))
}

// Locked reports whether the account is locked. An admin's lock holds in every
// mode; one made by wrong passwords only while the rule is enforced. A shared
// counter that is full refuses as if it were locked.
func (r Rules) Locked(a Account, now time.Time) bool {
	switch a.Lock.Cause {
	case NotLocked:
		return r.Full(a, now)
	case ByAdmin:
		return true
	}
	if r.Lockout.Mode != Enforce {
		return false
	}
	return r.Lockout.UnlockAfter == 0 || now.Before(a.Lock.At.Add(r.Lockout.UnlockAfter))
}

// DailyCapReached reports whether the account had so many wrong passwords today that
// only known sources may still try it: see [Lockout].DailyFailureCap.
func (r Rules) DailyCapReached(a Account, now time.Time) bool {
	return r.Lockout.Mode == Enforce && r.Lockout.DailyFailureCap > 0 &&
		a.WrongThatDay >= r.Lockout.DailyFailureCap && a.WrongOn == r.Day(now)
}

// UnfamiliarSource reports whether a source may not try the account for the rest of
// the day: the daily cap is reached, and the account has not logged in from there.
func (r Rules) UnfamiliarSource(a Account, source netip.Prefix, now time.Time) bool {
	return r.DailyCapReached(a, now) && !a.SeenFrom(source, now)
}

// Forgettable reports whether the store may delete what it has of the name: see
// [Lockout].ForgetUnknown. A locked name is kept: it may be that of an account whose
// owner has not logged in yet.
func (r Rules) Forgettable(a Account, now time.Time) bool {
	if r.Lockout.ForgetUnknown <= 0 || a.Known() || a.Lock.Cause != NotLocked || len(a.Mistakes) == 0 {
		return false
	}
	return !now.Before(a.Mistakes[len(a.Mistakes)-1].At.Add(r.Lockout.ForgetUnknown))
}

// dormancyBaseline is the instant from which the months are counted; zero when the
// account is exempt because it may be used without this gateway.
func (r Rules) dormancyBaseline(a Account) time.Time {
	if !a.Known() || a.FirstLogin.IsZero() && !r.Dormancy.DoorsComplete {
		return time.Time{}
	}
	baseline := a.LastLogin
	if baseline.IsZero() {
		baseline = a.Registered
	}
	if a.Restored.After(baseline) {
		baseline = a.Restored
	}
	return baseline
}

// DormantAt is when the account has been unused for too long; zero for never.
func (r Rules) DormantAt(a Account) time.Time {
	baseline := r.dormancyBaseline(a)
	if baseline.IsZero() {
		return baseline
	}
	return after(baseline, r.Dormancy.Months, r.Location).Add(r.Dormancy.Slack)
}

// Dormant reports whether the account has been unused for too long, revoked
// already or not.
func (r Rules) Dormant(a Account, now time.Time) bool {
	at := r.DormantAt(a)
	return !r.ClockSuspect && !at.IsZero() && !now.Before(at)
}

// Revoked reports whether a correct password is refused because the account is
// revoked or, the sweep not having come by yet, must be.
func (r Rules) Revoked(a Account, now time.Time) bool {
	if r.Dormancy.Mode != Enforce {
		return false
	}
	return !a.Revocation.IsZero() || r.Dormant(a, now)
}

// PasswordExpiry is when the account's newest password expires, without grace; zero when
// its age is not known.
func (r Rules) PasswordExpiry(a Account) time.Time {
	return r.passwordExpiry(a.Password.Since)
}

// passwordExpiry is when a password expires that was first accepted at since; zero when
// that is not known.
func (r Rules) passwordExpiry(since time.Time) time.Time {
	if since.IsZero() {
		return time.Time{}
	}
	return after(since, r.Password.Months, r.Location)
}

// PasswordTooOld reports whether the newest password is older than the rule allows and no
// grace is left, whatever the mode.
func (r Rules) PasswordTooOld(a Account, now time.Time) bool {
	return r.passwordTooOld(a, a.Password.Since, now)
}

// passwordTooOld is PasswordTooOld of the password that was accepted first at since.
func (r Rules) passwordTooOld(a Account, since, now time.Time) bool {
	at := r.passwordExpiry(since)
	return !r.ClockSuspect && !at.IsZero() && !now.Before(at) && !now.Before(a.GraceUntil)
}

// Expired reports whether the newest password is refused for its age though it is
// correct.
func (r Rules) Expired(a Account, now time.Time) bool {
	return r.PasswordExpired(a, a.Password.Since, now)
}

// PasswordExpired is Expired of the password that was accepted first at since.
func (r Rules) PasswordExpired(a Account, since, now time.Time) bool {
	return r.Password.Mode == Enforce && r.passwordTooOld(a, since, now)
}

// ExpiringIn is the number of days left until the newest password expires, with today as
// 0, if it is small enough to warn the user; grace counts as the end. ok is false
// otherwise.
func (r Rules) ExpiringIn(a Account, now time.Time) (days int, ok bool) {
	return r.expiringIn(a, a.Password.Since, now)
}

// expiringIn is ExpiringIn of the password that was accepted first at since.
func (r Rules) expiringIn(a Account, since, now time.Time) (days int, ok bool) {
	at := r.passwordExpiry(since)
	if r.Password.Mode != Enforce || at.IsZero() || r.ClockSuspect {
		return 0, false
	}
	if a.GraceUntil.After(at) {
		at = a.GraceUntil
	}
	left := at.Sub(now)
	if left <= 0 {
		return 0, false
	}
	days = int(left / (24 * time.Hour))
	return days, days < r.Password.WarnDays
}

// Day names the calendar day of now in the regulation's time zone.
func (r Rules) Day(now time.Time) string { return now.In(r.Location).Format(time.DateOnly) }

// State is the one word for an account in lists and gauges. If several apply it is the
// one that the owner notices first.
type State uint8

const (
	Active         State = iota
	StateLocked          // by wrong passwords or an admin
	StateRevoked         // or to be revoked at the next sweep
	StateExpired         // the password is too old
	StateExpiring        // it will be within the warning days
	StateNeverSeen       // imported, never logged in here

	numStates
)

var stateNames = [numStates]string{"active", "locked", "revoked", "expired", "expiring", "never_seen"}

// String returns the name used in metrics, logs and JSON.
func (s State) String() string { return enumName(s, stateNames[:]) }

// MarshalText implements encoding.TextMarshaler.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// States lists every state.
func States() []State { return enumValues[State](int(numStates)) }

// State returns the account's state at now.
func (r Rules) State(a Account, now time.Time) State {
	switch {
	case r.Locked(a, now):
		return StateLocked
	case r.Revoked(a, now):
		return StateRevoked
	case r.Expired(a, now):
		return StateExpired
	}
	if _, soon := r.ExpiringIn(a, now); soon {
		return StateExpiring
	}
	if a.FirstLogin.IsZero() {
		return StateNeverSeen
	}
	return Active
}

// Rule is one of the rules that have a [Mode].
type Rule uint8

const (
	RuleLockout  Rule = iota // Art. 6.2.d
	RuleDormancy             // Art. 5.3.c
	RulePassword             // Art. 9
	RuleSender               // Art. 13.8

	numRules
)

var ruleNames = [numRules]string{"lockout", "dormancy", "password", "sender"}

// String returns the name used in the configuration and in metrics.
func (r Rule) String() string { return enumName(r, ruleNames[:]) }

// AllRules lists every rule.
func AllRules() []Rule { return enumValues[Rule](int(numRules)) }

// Modes lists every mode.
func Modes() []Mode { return enumValues[Mode](int(numModes)) }

// Mode is what a rule does when it applies.
func (r Rules) Mode(rule Rule) Mode {
	switch rule {
	case RuleLockout:
		return r.Lockout.Mode
	case RuleDormancy:
		return r.Dormancy.Mode
	case RulePassword:
		return r.Password.Mode
	case RuleSender:
		return r.Sender
	}
	return Off
}

// Violates reports whether the account violates a rule now: in mode enforce its
// logins are refused, in mode warn they would be. No account violates a rule that is
// off, or the rule on senders, which is about messages.
func (r Rules) Violates(rule Rule, a Account, now time.Time) bool {
	if r.Mode(rule) == Off {
		return false
	}
	switch rule {
	case RuleLockout:
		return r.Locked(a, now) || r.Lockout.Mode == Warn && r.Lockout.CountFailures(a, now) > r.Lockout.Tolerated
	case RuleDormancy:
		return !a.Revocation.IsZero() || r.Dormant(a, now)
	case RulePassword:
		return r.PasswordTooOld(a, now)
	}
	return false
}

// PasswordExpiryWithGrace is when the password is no longer accepted: its expiry or the
// end of the grace, whichever is later; zero when its age is not known or the rule is
// off.
func (r Rules) PasswordExpiryWithGrace(a Account) time.Time {
	at := r.PasswordExpiry(a)
	if r.Password.Mode == Off || at.IsZero() {
		return time.Time{}
	}
	if a.GraceUntil.After(at) {
		at = a.GraceUntil
	}
	return at
}

// WithoutGrant is the number of wrong passwords of an account that need no grant, at a
// source from which the account had no login: see throttle.Throttle. known is for known
// networks.
func (l Lockout) WithoutGrant() (elsewhere, known int) {
	return l.Tolerated / 2, max(l.Tolerated/2, l.Tolerated-1)
}
