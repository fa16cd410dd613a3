package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/audit"
)

// tampering are the cases of a store with [Harness].Tamper.
var tampering = []testCase{
	{"tampering is found", tamperedLog},
	{"a rewritten log does not match its head", rewrittenLog},
}

// logged is the number of events in the log that is tampered with.
const logged = 200

// withLog returns a store with [logged] events, one second apart.
func withLog(t *testing.T, h Harness) Store {
	t.Helper()
	s := h.open(t)
	update(t, s, testName, 0, func(a *auth.Account) (events []auth.Event, _ bool) {
		for i := range logged {
			a.Failures++
			events = append(events, auth.Event{At: noon.Add(time.Duration(i) * time.Second), Kind: auth.PasswordWrong, Account: number(i), Actor: auth.ByUser})
		}
		return events, true
	})
	return s
}

func wantBreak(t *testing.T, s Store, at int64) {
	t.Helper()
	_, err := s.Verify(t.Context(), nil)
	if broken, ok := errors.AsType[*audit.BrokenChain](err); !ok || broken.Seq != at {
		t.Fatalf("verify: %v, want a break at %d", err, at)
	}
	t.Log(err)
}

func tamperedLog(t *testing.T, h Harness) {
	forged := func(seq int) string {
		return fmt.Sprintf(`INSERT INTO events SELECT %d, at, kind, account, actor, source, was, became, reason, 'f00d' FROM events WHERE seq = 1`, seq)
	}
	for name, c := range map[string]struct {
		statements []string
		at         int64
	}{
		"another reason":  {[]string{`UPDATE events SET reason = 'another' WHERE seq = 77`}, 77},
		"another time":    {[]string{`UPDATE events SET at = (SELECT at FROM events WHERE seq = 2) WHERE seq = 1`}, 1},
		"another account": {[]string{`UPDATE events SET account = 'x@congthu.test' WHERE seq = 200`}, 200},
		"another hash":    {[]string{`UPDATE events SET hash = 'f00d' WHERE seq = 120`}, 120},
		"one removed":     {[]string{`DELETE FROM events WHERE seq = 100`}, 100},
		"the first":       {[]string{`DELETE FROM events WHERE seq <= 5`}, 1},
		"the last":        {[]string{`DELETE FROM events WHERE seq > 190`}, 191},
		"all":             {[]string{`DELETE FROM events`}, 1},
		"one put between": {[]string{`UPDATE events SET seq = seq + 1000 WHERE seq > 50`, forged(51), `UPDATE events SET seq = seq - 999 WHERE seq > 1000`}, 51},
		"one added":       {[]string{forged(logged + 1)}, logged + 1},
		"head set back":   {[]string{`UPDATE head SET seq = 150`}, 151},
		"another head":    {[]string{`UPDATE head SET hash = 'f00d'`}, logged},
	} {
		t.Run(name, func(t *testing.T) {
			s := h.Tamper(t, withLog(t, h), c.statements...)
			wantBreak(t, s, c.at)
			update(t, s, testName, 0, fail) // the store still works
		})
	}
}

// rewrittenLog: all events are recomputed, which needs the code of the chain.
func rewrittenLog(t *testing.T, h Harness) {
	s := withLog(t, h)
	events, err := s.Events(t.Context(), auth.EventFilter{Limit: 1000})
	if err != nil || len(events) != logged {
		t.Fatalf("%d events, %v", len(events), err)
	}
	var statements []string
	prev := ""
	for i := len(events) - 1; i >= 0; i-- {
		e := events[i]
		e.Reason = "rewritten"
		e.Hash = audit.Chain(prev, e)
		prev = e.Hash
		statements = append(statements, fmt.Sprintf(`UPDATE events SET reason = 'rewritten', hash = '%s' WHERE seq = %d`, e.Hash, e.Seq))
	}
	wantBreak(t, h.Tamper(t, s, statements...), logged)
}
