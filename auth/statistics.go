package auth

import "time"

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

// Count adds one account.
func (r Rules) Count(n *Headcount, a Account, now time.Time) {
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

// Counters is what metrics tell of the shared counters, from one reading of them.
type Counters struct {
	// Used have failures, Full are those of them that refuse.
	Used, Full int
}
