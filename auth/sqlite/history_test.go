package sqlite

import (
	"fmt"
	"path/filepath"
	"testing"

	"congthu/auth"
	"congthu/auth/storetest"
)

// One process owns the file, so there is one gateway at a time. The attempts that it had
// in flight when it was killed are recorded nowhere.
func TestEveryHistoryKeepsTheInvariantsOnSQLite(t *testing.T) {
	dir, n := t.TempDir(), 0
	storetest.Gateways(t, storetest.Cluster{
		Most: 1, PerCrash: 6, Real: true, Settle: func() {},
		Begin: func() (func() storetest.Member, func()) {
			n++
			var s *Store
			open := func() storetest.Member {
				s = open(t, Options{Path: filepath.Join(dir, fmt.Sprint(n))})
				last := s
				return storetest.Member{Store: last, Kill: func(map[auth.Reservation]auth.Name) func() {
					shut(t, last)
					return func() {}
				}}
			}
			return open, func() { shut(t, s) }
		},
	})
}
