package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"congthu/auth/postgres"
	"congthu/gateway/config"
)

func TestCheckTellsWhatIsInForceAndWhatAPoolerNeeds(t *testing.T) {
	t.Setenv("LC_ALL", "C")
	good := postgres.Report{StatementTimeout: "6s", LockTimeout: "4s", IdleInTransactionTimeout: "3s", Wanted: 14}
	for _, c := range []struct {
		name   string
		change func(*postgres.Report)
		want   []string
		failed bool
	}{
		{"as set", func(*postgres.Report) {}, []string{"ok       store          statement_timeout 6s, lock_timeout 4s, idle_in_transaction_session_timeout 3s\n"}, false},
		{"undone", func(r *postgres.Report) { r.LockTimeout, r.Ignored = "0", []string{"lock_timeout"} },
			[]string{"failed   store ", "not in force: lock_timeout", "without it"}, true},
		{"no limit", func(r *postgres.Report) { r.StatementTimeout = "0" },
			[]string{"warning  store ", "statement_timeout 0", "out of the connection string"}, false},
		{"a pooler", func(r *postgres.Report) { r.Pooler, r.Gateways = true, []string{"a:1", "b:2"} },
			[]string{"ok       store          a pooler is in between", "room for 42 connections (default_pool_size", "3 gateways may open 14 each"}, false},
		{"a deaf one", func(r *postgres.Report) { r.Pooler, r.Deaf = true, true }, []string{"warning  store          no notice (NOTIFY)", "up to 2s later"}, false},
	} {
		r := good
		c.change(&r)
		var out bytes.Buffer
		k := &check{out: &out, config: &config.Config{Store: config.Store{Postgres: config.Postgres{Poll: 2 * time.Second}}}}
		k.session(r)
		for _, want := range c.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: no %q in\n%s", c.name, want, &out)
			}
		}
		if k.failed != c.failed {
			t.Errorf("%s: failed %v, want %v", c.name, k.failed, c.failed)
		}
	}
}
