package postgres

import (
	"strings"
	"testing"

	"congthu/auth"
)

var allowTampering = []string{`DROP TRIGGER events_stay ON events`, `DROP TRIGGER events_stay_until_removed ON events`}

// populated returns a store with 200 accounts and 200 events.
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
