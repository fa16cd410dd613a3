package sqlite

import (
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"congthu/auth"
	"congthu/auth/storetest"
)

// TestNothingAcknowledgedIsLostBySIGKILL kills a writing process repeatedly, after a
// random number of lines from it: while it starts, writes, or copies the write-ahead log
// into the database.
func TestNothingAcknowledgedIsLostBySIGKILL(t *testing.T) {
	rounds := storetest.Rounds(10, 500)
	path := filepath.Join(t.TempDir(), "congthu.db")
	tried, did := make(map[auth.Name]int), make(map[auth.Name]int)
	const names = 5
	round := 0
	for ; round < rounds || len(did) < names && round < 20*rounds; round++ {
		cmd, said := child(t, "guess", path)
		lines := rand.N(600)
		if round%5 == 0 {
			lines = rand.N(3) // kill it while it opens
		}
		for n := 0; said.Scan(); n++ {
			what, name, _ := strings.Cut(said.Text(), " ")
			switch what {
			case "try":
				tried[auth.Name(name)]++
			case "did":
				did[auth.Name(name)]++
			case "unexpected":
				t.Fatalf("round %d: %s", round, said.Text())
			}
			if n == lines {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		cmd.Wait()
		if round%3 == 1 {
			continue // the next one opens what this one left
		}

		s := open(t, Options{Path: path})
		total := 0
		for name := range tried {
			a, err := s.Account(t.Context(), name)
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			total += a.Failures
			if a.Failures < did[name] || a.Failures > tried[name] {
				t.Fatalf("round %d: %s has %d failures; %d were acknowledged, %d tried",
					round, name, a.Failures, did[name], tried[name])
			}
		}
		head, err := s.Verify(t.Context(), nil)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if head.Seq != int64(total) {
			t.Fatalf("round %d: %d events for %d failures", round, head.Seq, total)
		}
		shut(t, s)
	}
	if len(did) != names {
		t.Fatalf("only %v were acknowledged: the test kills too early", did)
	}
	t.Logf("%d rounds: tried %v, acknowledged %v", round, tried, did)
}
