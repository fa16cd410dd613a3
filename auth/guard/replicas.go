package guard

import "congthu/auth"

// Several gateways may share one store. What one of them does to an account is
// in the store for all at once; what each keeps in its own memory (live
// sessions, passwords known to be good, waiting attempts, failures that could
// not be written) must be told.

// OnRemoteEvent is told of a change that some gateway on the same store made to an
// account, in the order of the audit log. It may be one of this gateway's own,
// which does no harm, and it may come late.
func (g *Guard) OnRemoteEvent(e auth.Event) {
	g.init()
	// Another gateway, of before an upgrade or a reload, may use a name that means
	// another account here: what happens to it happens to that one.
	account := e.Account
	if policy := g.policy.Load(); policy != nil && e.Account != "" {
		if e.Kind == auth.AccountMerged {
			policy.strays.remove(e.Account)
		} else {
			account, _ = policy.strays.add(e.Account)
		}
	}
	switch e.Kind {
	case auth.ClockSuspected, auth.ClockAccepted:
		g.heardOfClock(e)
		return
	case auth.AccountLocked, auth.NameLocked:
		if e.Actor == auth.ByGateway {
			// Made by wrong passwords: sessions go on, or anybody could disconnect
			// anybody. But while the store is down nobody may go on by what was
			// known before the lock.
			g.void(account)
		} else {
			g.endSessions(account)
		}
	case auth.AccountRevoked:
		g.endSessions(account)
	case auth.AccountMerged:
		// Perhaps it is locked now. What ends sessions has an event of its own.
		g.void(account)
	case auth.AccountUnlocked:
		// Not what came since: this may be late, or the echo of an unlock made here.
		if e.Actor == auth.ByGateway {
			// The lock has ended by itself: that forgives the failures and proves
			// nobody's source.
			g.forgiveDebtsOf(account, e.At)
		} else {
			g.forgiveSince(account, e.At)
		}
	case auth.SourceAllowed:
		g.applyAllowance(e)
		return // it is of no account
	}
	g.gates.wakeAll(account)
}
