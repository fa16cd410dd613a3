package postgres

import (
	"testing"

	"congthu/auth"
	"congthu/auth/storetest"
)

func TestNamesAreLearnedMergedAndListedFromTheDatabase(t *testing.T) {
	dsn := database(t)
	s := open(t, Options{DSN: dsn})
	storetest.MergeNames(t, s, func() (names []auth.KeptName) {
		if err := EachName(t.Context(), Options{DSN: dsn}, func(row auth.KeptName) error { names = append(names, row); return nil }); err != nil {
			t.Fatal(err)
		}
		return names
	})
}
