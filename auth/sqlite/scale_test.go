package sqlite

import (
	"os"
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
		stores = append(stores, storetest.Sized{Store: s, Accounts: n, Octets: octetsOf(t, s.path)})
	}
	storetest.Scale(t, stores, 50, 100*time.Millisecond)
}

// octetsOf is the size of a database on the disk.
func octetsOf(t *testing.T, path string) (octets int64) {
	t.Helper()
	for _, file := range []string{path, path + "-wal"} {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		octets += info.Size()
	}
	return octets
}
