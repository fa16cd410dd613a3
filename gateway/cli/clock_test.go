package cli

import (
	"strings"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/sqlite"
)

func TestAGatewayWhoseClockWasAheadSaysSoUntilItIsAccepted(t *testing.T) {
	t.Parallel()
	s := newSite(t, "")
	s.run().stop() // so that there is a store
	const name auth.Name = "an@example.vn"
	ahead := auth.AddMonths(time.Now(), 14).UTC().Truncate(time.Microsecond)
	write := func() {
		store, err := sqlite.Open(t.Context(), sqlite.Options{Path: s.path("congthu.db")})
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		_, err = store.Update(t.Context(), name, 0, func(a *auth.Account) ([]auth.Event, bool) {
			a.Registered, a.FirstLogin, a.LastLogin = ahead, ahead, ahead
			return []auth.Event{{At: ahead, Kind: auth.FirstLogin, Account: name, Actor: auth.ByUser}}, true
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	write()
	for range 2 { // a restart keeps the warning
		p := s.run()
		_, body := p.get("/readyz")
		if !strings.Contains(body, `"clock":{"ok":true,"warning":"`) || !strings.Contains(body, "congthu clock accept") {
			t.Errorf("/readyz does not warn: %s", body)
		}
		p.stop()
	}
	p := s.run()
	socket := []string{"--socket", s.path("admin.sock")}
	if code, out := s.command(append([]string{"clock", "show"}, socket...)...); code != 0 || !strings.Contains(out, "It is suspect since") || !strings.Contains(out, "newest event of the audit log") {
		t.Errorf("clock show ends with %d: %s", code, out)
	}
	if code, out := s.command(append([]string{"sweep"}, socket...)...); code == 0 || !strings.Contains(out, "congthu clock accept") {
		t.Errorf("sweep ends with %d: %s", code, out)
	}
	if code, out := s.command(append([]string{"clock", "accept", "--reason", "time server mended"}, socket...)...); code != 0 || !strings.Contains(out, "The clock is accepted; 1 account corrected.") {
		t.Errorf("clock accept ends with %d: %s", code, out)
	}
	code, out := s.command(append([]string{"account", "show", string(name), "--output", "json"}, socket...)...)
	// The audit log keeps its events.
	if account, _, _ := strings.Cut(out, `"events"`); code != 0 || strings.Contains(account, ahead.Format("2006-01")) {
		t.Errorf("account show ends with %d, and something is in the future still: %s", code, out)
	}
	if _, body := p.get("/readyz"); strings.Contains(body, "warning") {
		t.Errorf("/readyz warns: %s", body)
	}
	if _, body := p.get("/api/v1/events?kind=clock.suspected,clock.accepted,account.redated"); strings.Count(body, `"kind"`) != 3 {
		t.Errorf("events: %s", body)
	}
	p.stop()
}
