package postgres

import (
	"testing"
	"time"

	"congthu/auth/storetest"
	"congthu/auth/storetest/testenv"
)

// TestALoginCostsTheSameWithAMillionAccounts prints the table of the guide.
func TestALoginCostsTheSameWithAMillionAccounts(t *testing.T) {
	testenv.NeedSoak(t)
	var stores []storetest.Sized
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		s := harness.Filled(t, open(t, Options{}), n).(*Store)
		var octets int64
		if err := connected(t, s).QueryRow(t.Context(), `SELECT pg_total_relation_size('accounts')`).Scan(&octets); err != nil {
			t.Fatal(err)
		}
		stores = append(stores, storetest.Sized{Store: s, Accounts: n, Octets: octets})
	}
	storetest.Scale(t, stores, 50, 100*time.Millisecond)
}
