package cli

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"congthu/auth/postgres/pgtest"
)

func TestAGatewayWhoseDatabaseFileIsGoneSaysSo(t *testing.T) {
	for name, happen := range map[string]func(s *site){
		"removed":      func(s *site) { s.remove("congthu.db") },
		"log removed":  func(s *site) { s.remove("congthu.db-wal") },
		"replaced":     func(s *site) { s.copy("congthu.db", "other"); os.Rename(s.path("other"), s.path("congthu.db")) },
		"both removed": func(s *site) { s.remove("congthu.db", "pepper.key") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, "")
			p := s.run()
			// The site's mail server does not answer; its store does.
			if _, body := p.get("/readyz"); !strings.Contains(body, `"store":{"ok":true}`) {
				t.Fatal(body)
			}
			happen(s)
			s.eventually("/readyz says so", func() bool {
				status, body := p.get("/readyz")
				return status == 503 && strings.Contains(body, "removed or replaced while the gateway ran") && strings.Contains(body, "Stop the gateway")
			})
			if log := p.log.String(); !strings.Contains(log, "the database is used no longer") {
				t.Errorf("the log does not say it:\n%s", log)
			}
			if status, body := p.get("/api/v1/accounts"); status != 503 {
				t.Errorf("accounts are listed: %d %s", status, body)
			}
			p.stop()
			switch name {
			case "log removed", "replaced":
				s.run()
			default:
				s.wantRefused("congthu.db was there at an earlier start", "newest backup", "congthu.db.lock")
				if s.has("congthu.db") || name == "both removed" && s.has("pepper.key") {
					t.Error("something new was left in its place")
				}
				if code, out := s.command("check", "-c", s.file); code == 0 || !strings.Contains(out, "was there at an earlier start") {
					t.Errorf("check ends with %d: %s", code, out)
				}
			}
		})
	}
}

// copy copies a file of the site.
func (s *site) copy(from, to string) {
	s.t.Helper()
	content, err := os.ReadFile(s.path(from))
	if err == nil {
		err = os.WriteFile(s.path(to), content, 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func TestALostPepperStopsTheStart(t *testing.T) {
	dsn := pgtest.Database(t)
	for driver, more := range map[string]string{
		"sqlite":   "",
		"postgres": fmt.Sprintf("store: { driver: postgres, postgres: { dsn: %q } }\n", dsn),
	} {
		t.Run(driver, func(t *testing.T) {
			s := newSite(t, more)
			if code, out := s.command("check", "-c", s.file); s.has("pepper.key") || strings.Contains(out, "failed   pepper") {
				t.Fatalf("check before the first start ends with %d: %s", code, out)
			}
			s.run().stop()
			s.copy("pepper.key", "saved")
			if _, out := s.command("check", "-c", s.file); !strings.Contains(out, "ok       pepper") {
				t.Errorf("check: %s", out)
			}

			s.remove("pepper.key")
			s.wantRefused("pepper.key is missing", "backup", "DELETE FROM agreed WHERE what = 'pepper'")
			if _, out := s.command("check", "-c", s.file); !strings.Contains(out, "failed   pepper") {
				t.Errorf("check without it: %s", out)
			}
			if s.has("pepper.key") {
				t.Error("a new key was left in its place")
			}

			other := newSite(t, "")
			other.run().stop()
			content, err := os.ReadFile(other.path("pepper.key"))
			if err == nil {
				err = os.WriteFile(s.path("pepper.key"), content, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			s.wantRefused("not the one that the store was used with", "backup")
			if _, out := s.command("check", "-c", s.file); !strings.Contains(out, "failed   pepper") {
				t.Errorf("check with another: %s", out)
			}

			s.copy("saved", "pepper.key")
			s.run().stop()
			if _, out := s.command("check", "-c", s.file); !strings.Contains(out, "ok       pepper") {
				t.Errorf("check: %s", out)
			}

			// The advice of the error for the case that every copy is lost.
			s.remove("pepper.key")
			engine, name := "sqlite", s.path("congthu.db")
			if driver == "postgres" {
				engine, name = "pgx", dsn
			}
			db, err := sql.Open(engine, name)
			if err == nil {
				_, err = db.Exec("DELETE FROM agreed WHERE what = 'pepper'")
			}
			if err := errors.Join(err, db.Close()); err != nil {
				t.Fatal(err)
			}
			s.run().stop()
			if !s.has("pepper.key") {
				t.Error("no new key was made")
			}
		})
	}
}
