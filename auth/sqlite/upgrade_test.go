package sqlite

import (
	"os"
	"path/filepath"
	"testing"

	"congthu/auth/storetest"
)

func TestADatabaseOfTheFirstVersionLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "congthu.db")
	if err := os.WriteFile(path, storetest.InstalledSQLite(t), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	storetest.Upgraded(t, s)
}
