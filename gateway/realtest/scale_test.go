package realtest

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"congthu/auth/storetest/testenv"
)

// fill copies an account of the gateway, which is stopped, until there are n.
func (g *Gateway) fill(t *testing.T, n int) {
	t.Helper()
	path := filepath.Join(g.Dir, "data", "congthu.db")
	sql := func(statement string) string {
		out, err := exec.Command("sqlite3", path, statement).CombinedOutput()
		if err != nil {
			t.Fatalf("sqlite3: %v\n%s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	columns := sql(`SELECT group_concat(name, ', ') FROM pragma_table_info('accounts') WHERE name <> 'name'`)
	sql(fmt.Sprintf(`INSERT INTO accounts (name, %s)
		WITH RECURSIVE numbers (i) AS (SELECT count(*) FROM accounts UNION ALL SELECT i + 1 FROM numbers WHERE i + 1 < %d)
		SELECT printf('n%%07d@%s', i), %s FROM numbers JOIN accounts ON name = '%s'`, columns, n, Domain, columns, memoryAccount(0)))
}

// TestAMillionAccountsStartAndLogInLikeAThousand prints the table of the guide: the
// time until the whole program is ready, its files, its memory, and what LOGIN takes
// in the seconds after the start, while the accounts are counted.
func TestAMillionAccountsStartAndLogInLikeAThousand(t *testing.T) {
	testenv.NeedSoak(t)
	var table strings.Builder
	fmt.Fprintln(&table, "\n| accounts | ready after, ms | octets of the file | memory held, KiB | LOGIN p50, p99 in ms while counting |\n|---|---|---|---|---|")
	var first time.Duration
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		g := inFrontOf(t, memoryMail())
		g.Start(t)
		for i := range memoryAccounts {
			if got := g.Guess(t, "", memoryAccount(i), Password); !accepted(got) {
				t.Fatalf("LOGIN: %q", got)
			}
		}
		g.Stop()
		g.fill(t, n)
		info, err := os.Stat(filepath.Join(g.Dir, "data", "congthu.db"))
		if err != nil {
			t.Fatal(err)
		}
		var ready []time.Duration
		for i := range 3 {
			began := time.Now()
			g.Process = start(t, "congthu", g.Log, Binary(t), "serve", "-c", g.Config)
			for {
				if code, _ := Get(t, g.URL("/readyz")); code != 0 && code != http.StatusNotFound {
					break
				}
				if time.Since(began) > patience {
					t.Fatal("congthu is not ready")
				}
				time.Sleep(time.Millisecond)
			}
			ready = append(ready, time.Since(began))
			if i < 2 {
				g.Stop()
			}
		}
		var took []time.Duration
		for end := time.Now().Add(4 * time.Second); time.Now().Before(end); {
			conn, r, err := g.dial(t, "")
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			got := command(conn, r, "LOGIN "+quoted(memoryAccount(len(took)))+" "+quoted(Password))
			took = append(took, time.Since(began))
			conn.Close()
			if !accepted(got) {
				t.Fatalf("LOGIN: %q", got)
			}
		}
		slices.Sort(took)
		slices.Sort(ready)
		p50, p99 := took[len(took)/2], took[len(took)*99/100]
		if first == 0 {
			first = p50
		}
		fmt.Fprintf(&table, "| %d | %d | %d | %d | %.2f (x%.2f), %.2f |\n", n, ready[1].Milliseconds(), info.Size(), g.Held(t)>>10,
			p50.Seconds()*1000, float64(p50)/float64(first), p99.Seconds()*1000)
		if r := float64(p50) / float64(first); r > 3 {
			t.Errorf("LOGIN takes %.1f times as long with %d accounts", r, n)
		}
		g.Stop()
	}
	t.Log(table.String())
}
