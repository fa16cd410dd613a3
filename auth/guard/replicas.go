package guard

import "congthu/auth"

// Several gateways may share one store. What one of them does to an account is in the
// store, and so visible to all at once. What each keeps in its own memory (live sessions,
// passwords known to be good, waiting attempts, failures that could not be written)
// needs the events.

// OnRemoteEvent applies a change that some gateway on the same store made to an account.
// It is called in the order of the audit log. The event may be this gateway's own, which
// does no harm, and it may come late.
func (g *Guard) OnRemoteEvent(e auth.Event) {
	g.init()
	// A gateway from before an upgrade or a reload may use a name that means another
	// account here: the event then applies to that account.
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
		g.onClockEvent(e)
		return
	case auth.AccountLocked, auth.NameLocked:
		if e.Actor == auth.ByGateway {
			// A lock by wrong passwords: sessions go on, or any guesser could disconnect
			// any user (I5). But while the store is down no login may go on by what was
			// known before the lock.
			g.void(account)
		} else {
			g.endSessions(account)
		}
	case auth.AccountRevoked:
		g.endSessions(account)
	case auth.AccountMerged:
		// It may be locked now. A lock or revocation that ends sessions has its own event.
		g.void(account)
	case auth.AccountUnlocked:
		// What came since stays: this event may be late, or of an unlock made here.
		if e.Actor == auth.ByGateway {
			// The lock has ended by itself: that forgives the failures, and proves
			// nothing about any source.
			g.forgivePendingUpTo(account, e.At)
		} else {
			g.forgiveSince(account, e.At)
		}
	case auth.SourceAllowed:
		g.applyAllowance(e)
		return // it belongs to no account
	}
	g.waitQueues.wakeAll(account)
}
