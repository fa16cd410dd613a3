package auth

import "time"

// MaxIdleMonths is the highest number of months without a login that is counted: it
// stands for 12 or more.
const MaxIdleMonths = 12

// IdleMonths is for how many whole months the account has not been used, at most
// [MaxIdleMonths]. ok is false when the rule on dormancy (Art. 5.3.c) does not apply
// because the account may be used without this gateway.
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

// ExpiryDays are the spans, in days, within which expiring passwords are counted.
func ExpiryDays() []int { return []int{1, 3, 7, 14} }

// AccountStats are the figures of all accounts for the metrics, from one scan.
type AccountStats struct {
	// States counts the accounts by their state.
	States map[State]int
	// ExpiringWithin counts the passwords that expire within a number of days, for each of
	// [ExpiryDays]; a password counted under 1 is counted under 3 as well. Revoked
	// accounts are not counted.
	ExpiringWithin map[int]int
	// Idle counts the accounts by [Rules.IdleMonths]. Revoked accounts are not counted.
	Idle [MaxIdleMonths + 1]int
	// Violations counts the accounts that violate each rule: [Rules.Violates].
	Violations map[Rule]int
}

// Count adds one account.
func (r Rules) Count(n *AccountStats, a Account, now time.Time) {
	n.States[r.State(a, now)]++
	for rule := range numRules {
		if r.Violates(rule, a, now) {
			n.Violations[rule]++
		}
	}
	if !a.Revocation.IsZero() {
		return
	}
	if months, ok := r.IdleMonths(a, now); ok {
		n.Idle[months]++
	}
	if at := r.PasswordExpiryWithGrace(a); at.After(now) {
		left := at.Sub(now)
		for _, days := range ExpiryDays() {
			if left <= time.Duration(days)*24*time.Hour {
				n.ExpiringWithin[days]++
			}
		}
	}
}

// Counters are the figures of the shared counters for the metrics, from one scan.
type Counters struct {
	// Used is the number of counters with failures, Full of those that refuse logins.
	Used, Full int
}
