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
	switch e.Kind {
	case ClockSuspected, ClockAccepted:
		g.heardOfClock(e)
		return
	case AccountLocked, NameLocked:
		if e.Actor == ByGateway {
			// Made by wrong passwords: sessions go on, or anybody could disconnect
			// anybody. But while the store is down nobody may go on by what was
			// known before the lock.
			g.forgetKnown(e.Account)
		} else {
			g.endSessions(e.Account)
		}
	case AccountRevoked:
		g.endSessions(e.Account)
	case AccountUnlocked:
		// Not what was owed since: this may be the echo of an unlock made here.
		g.forgiveDebtsOf(e.Account, e.At)
	}
	g.gates.wakeAll(e.Account)
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
	patience := t.storeTimeout()
	if t.StoreGrace > 0 {
		patience = min(patience, hangs)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return t.Store.Account(ctx, t.name)
}
