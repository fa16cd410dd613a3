package auth

import (
	"context"
	"fmt"
	"time"
)

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

// Against reports whether a rule stands against the account: what is refused
// while the rule is enforced, and would be if one in mode warn were. A rule that
// is off stands against nobody, and that on senders is about messages.
func (r Rules) Against(rule Rule, a Account, now time.Time) bool {
	if r.Mode(rule) == Off {
		return false
	}
	switch rule {
	case RuleLockout:
		return r.Locked(a, now) || r.Lockout.Mode == Warn && r.Lockout.failures(a, now) > r.Lockout.Tolerated
	case RuleDormancy:
		return !a.Revocation.IsZero() || r.Dormant(a, now)
	case RulePassword:
		return r.TooOld(a, now)
	}
	return false
}

// RunsOut is when the password stops to be accepted, grace counted; zero when
// its age is not known or the rule is off.
func (r Rules) RunsOut(a Account) time.Time {
	at := r.ExpiresAt(a)
	if r.Password.Mode == Off || at.IsZero() {
		return time.Time{}
	}
	if a.GraceUntil.After(at) {
		at = a.GraceUntil
	}
	return at
}

// MaxIdleMonths is where the count of months of disuse ends: that many or more.
const MaxIdleMonths = 12

// IdleMonths is how many whole months the account has not been used for, at most
// [MaxIdleMonths]; ok is false where the rule on dormancy (Art. 5.3.c) does not
// count, other doors being possible.
func (r Rules) IdleMonths(a Account, now time.Time) (months int, ok bool) {
	baseline := r.dormancyBaseline(a)
	if baseline.IsZero() {
		return 0, false
	}
	from, to := baseline.In(r.Location), now.In(r.Location)
	months = (to.Year()-from.Year())*12 + int(to.Month()) - int(from.Month())
	if AddMonths(from, months).After(to) {
		months--
	}
	return min(max(months, 0), MaxIdleMonths), true
}

// ExpiryDays are the spans within which passwords that run out are counted.
func ExpiryDays() []int { return []int{1, 3, 7, 14} }

// Headcount is what metrics tell of all accounts, from one reading of them.
type Headcount struct {
	// States counts the accounts by their state.
	States map[State]int
	// RunOut counts the passwords that run out within so many days, for each of
	// [ExpiryDays]: whoever is counted in 1 is so in 3. Revoked accounts are not.
	RunOut map[int]int
	// Idle counts the accounts by [Rules.IdleMonths]. Revoked ones are not.
	Idle [MaxIdleMonths + 1]int
	// Against counts the accounts that each rule stands against: [Rules.Against].
	Against map[Rule]int
}

// Count counts all accounts.
func (g *Guard) Count(ctx context.Context, census Census) (Headcount, error) {
	g.init()
	rules, now := g.Rules(), g.now()
	n := Headcount{States: make(map[State]int), RunOut: make(map[int]int), Against: make(map[Rule]int)}
	err := census.Each(ctx, func(a Account) error {
		rules.count(&n, a, now)
		return nil
	})
	if err != nil {
		return Headcount{}, fmt.Errorf("read accounts: %w", err)
	}
	return n, nil
}

// count adds one account.
func (r Rules) count(n *Headcount, a Account, now time.Time) {
	n.States[r.State(a, now)]++
	for rule := range numRules {
		if r.Against(rule, a, now) {
			n.Against[rule]++
		}
	}
	if !a.Revocation.IsZero() {
		return
	}
	if months, ok := r.IdleMonths(a, now); ok {
		n.Idle[months]++
	}
	if at := r.RunsOut(a); at.After(now) {
		left := at.Sub(now)
		for _, days := range ExpiryDays() {
			if left <= time.Duration(days)*24*time.Hour {
				n.RunOut[days]++
			}
		}
	}
}
