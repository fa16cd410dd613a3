package postgres

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"congthu/auth"
	"congthu/auth/audit"
)

var allowTampering = []string{`DROP TRIGGER events_stay ON events`, `DROP TRIGGER events_stay_until_removed ON events`}

// populated returns a store with 200 accounts and events.
func populated(t *testing.T) *Store {
	t.Helper()
	s := open(t, Options{})
	update(t, s, victim, 0, func(a *auth.Account) (events []auth.Event, _ bool) {
		for i := range 200 {
			a.Failures++
			events = append(events, auth.Event{At: noon, Kind: auth.PasswordWrong, Account: numbered(i), Actor: auth.ByUser})
		}
		return events, true
	})
	return s
}

func TestTheAuditLogTakesNoChange(t *testing.T) {
	t.Parallel()
	s := populated(t)
	for _, statement := range []string{
		`DELETE FROM events WHERE seq = 3`, `UPDATE events SET reason = 'nothing' WHERE seq = 3`, `TRUNCATE events`,
	} {
		_, err := connected(t, s).Exec(t.Context(), statement)
		if err == nil || !strings.Contains(err.Error(), "append-only") {
			t.Errorf("%s: %v", statement, err)
		}
	}
	wantEvents(t, s, 200)
}

func TestTamperingIsFound(t *testing.T) {
	t.Parallel()
	forged := func(seq int) string {
		return fmt.Sprintf(`INSERT INTO events VALUES (%d, to_timestamp(0), 'password.wrong', '', '', '', '', '', '', 'f00d')`, seq)
	}
	s := populated(t)
	conn := connected(t, s)
	for name, c := range map[string]struct {
		tamper []string
		at     int64
	}{
		"another reason":  {[]string{`UPDATE events SET reason = 'another' WHERE seq = 77`}, 77},
		"another time":    {[]string{`UPDATE events SET at = at + interval '1 microsecond' WHERE seq = 1`}, 1},
		"another account": {[]string{`UPDATE events SET account = 'x@congthu.test' WHERE seq = 200`}, 200},
		"another hash":    {[]string{`UPDATE events SET hash = 'f00d' WHERE seq = 120`}, 120},
		"one removed":     {[]string{`DELETE FROM events WHERE seq = 100`}, 100},
		"the first":       {[]string{`DELETE FROM events WHERE seq <= 5`}, 1},
		"the last":        {[]string{`DELETE FROM events WHERE seq > 190`}, 191},
		"all":             {[]string{`DELETE FROM events`}, 1},
		"one put between": {[]string{`UPDATE events SET seq = seq + 1000 WHERE seq > 50`, forged(51), `UPDATE events SET seq = seq - 999 WHERE seq > 1000`}, 51},
		"one added":       {[]string{forged(201)}, 201},
		"head set back":   {[]string{`UPDATE head SET seq = 150`}, 151},
		"another head":    {[]string{`UPDATE head SET hash = 'f00d'`}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			execute(t, conn, `CREATE TABLE kept AS TABLE events`)
			execute(t, conn, `CREATE TABLE kept_head AS TABLE head`)
			for _, statement := range slices.Concat(allowTampering, c.tamper) {
				execute(t, conn, statement)
			}
			_, err := s.Verify(t.Context(), nil)
			if broken, ok := errors.AsType[*audit.BrokenChain](err); !ok || broken.Seq != c.at {
				t.Fatalf("verify: %v, want a break at %d", err, c.at)
			}
			t.Log(err)
			update(t, s, victim, 0, fail) // mail goes on all the same
			for _, statement := range []string{
				`DELETE FROM events`, `INSERT INTO events TABLE kept`, `DELETE FROM head`, `INSERT INTO head TABLE kept_head`,
				`DROP TABLE kept, kept_head`,
				`CREATE TRIGGER events_stay BEFORE UPDATE OR TRUNCATE ON events FOR EACH STATEMENT EXECUTE FUNCTION events_stay()`,
				`CREATE TRIGGER events_stay_until_removed AFTER DELETE ON events REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION events_stay_until_removed()`,
			} {
				execute(t, conn, statement)
			}
			wantEvents(t, s, 200)
		})
	}
}

// TestARewrittenLogDoesNotFitItsHead: all events recomputed, as only somebody
// with the program at hand can.
func TestARewrittenLogDoesNotFitItsHead(t *testing.T) {
	t.Parallel()
	s := populated(t)
	events, err := s.Events(t.Context(), auth.EventFilter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	conn := connected(t, s)
	for _, statement := range allowTampering {
		execute(t, conn, statement)
	}
	prev := ""
	for i := len(events) - 1; i >= 0; i-- {
		e := events[i]
		e.Reason = "rewritten"
		e.Hash = audit.Chain(prev, e)
		prev = e.Hash
		execute(t, conn, `UPDATE events SET reason = 'rewritten', hash = $1 WHERE seq = $2`, e.Hash, e.Seq)
	}
	_, err = s.Verify(t.Context(), nil)
	if broken, ok := errors.AsType[*audit.BrokenChain](err); !ok || broken.Seq != 200 {
		t.Fatalf("verify: %v, want a break at 200", err)
	}
}
