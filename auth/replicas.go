package auth

import (
	"context"
	"net/netip"
	"time"
)

// Several gateways may share one store. What one of them does to an account is
// in the store for all at once; what each keeps in its own memory (live
// sessions, passwords known to be good, waiting attempts, failures that could
// not be written) must be told.

// Heard is told of a change that some gateway on the same store made to an
// account, in the order of the audit log. It may be one of this gateway's own,
// which does no harm, and it may come late.
func (g *Guard) Heard(e Event) {
	g.init()
	// Another gateway, of before an upgrade or a reload, may use a name that means
	// another account here: what happens to it happens to that one.
	account := e.Account
	if policy := g.policy.Load(); policy != nil && e.Account != "" {
		if e.Kind == AccountMerged {
			policy.strays.remove(e.Account)
		} else {
			account, _ = policy.strays.add(e.Account)
		}
	}
	switch e.Kind {
	case ClockSuspected, ClockAccepted:
		g.heardOfClock(e)
		return
	case AccountLocked, NameLocked:
		if e.Actor == ByGateway {
			// Made by wrong passwords: sessions go on, or anybody could disconnect
			// anybody. But while the store is down nobody may go on by what was
			// known before the lock.
			g.forgetKnown(account)
		} else {
			g.endSessions(account)
		}
	case AccountRevoked:
		g.endSessions(account)
	case AccountMerged:
		// Perhaps it is locked now. What ends sessions has an event of its own.
		g.forgetKnown(account)
	case AccountUnlocked:
		// Not what came since: this may be late, or the echo of an unlock made here.
		if e.Actor == ByGateway {
			// The lock has ended by itself: that forgives the failures and proves
			// nobody's source.
			g.forgiveDebtsOf(account, e.At)
		} else {
			g.forgiveSince(account, e.At)
		}
	case SourceAllowed:
		g.applyAllowance(e)
		return // it is of no account
	}
	g.gates.wakeAll(account)
}

// Lapsed is what becomes of an account of which a slot has lapsed: the gateway
// that took it is gone, and nobody will ever learn how the mail server judged.
// It counts like any attempt without an answer, which never by itself locks. It
// reports whether it has counted.
func (r Rules) Lapsed(a *Account, now time.Time) ([]Event, bool) {
	before := a.Failures
	events := r.doubt(a, now, netip.AddrPort{})
	for i := range events {
		events[i].Reason = "the gateway ended before it could note what the mail server answered"
	}
	return events, a.Failures != before
}

// hangs is how long whoever can go on without the store waits for it: one that
// is cut off takes what it is asked and never answers, and mail programs give up
// sooner than [Guard.StoreTimeout].
const hangs = 3 * time.Second

// goodAccount reads the account of a password that is known to be good.
func (t *try) goodAccount(ctx context.Context) (Account, error) {
	ctx, cancel := context.WithTimeout(ctx, t.readTimeout())
	defer cancel()
	return t.Store.Account(ctx, t.name)
}

// readTimeout is how long the try waits for what it reads before the mail server is
// asked.
func (t *try) readTimeout() time.Duration {
	if t.good && t.StoreGrace > 0 {
		return min(t.storeTimeout(), hangs)
	}
	return t.storeTimeout()
}
