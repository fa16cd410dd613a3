package sqlite

import (
	"path/filepath"
	"slices"
	"testing"

	"congthu/auth"
	"congthu/auth/storetest"
)

func TestNamesAreLearnedMergedAndListedFromTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "congthu.db")
	s := open(t, Options{Path: path})
	storetest.MergeNames(t, s, func() (names []auth.KeptName) {
		if err := EachName(t.Context(), path, func(row auth.KeptName) error { names = append(names, row); return nil }); err != nil {
			t.Fatal(err)
		}
		return names
	})
	if err := EachName(t.Context(), filepath.Join(t.TempDir(), "none.db"), func(auth.KeptName) error { t.Error("a name"); return nil }); err != nil {
		t.Errorf("without a file: %v", err)
	}
	if files, err := filepath.Glob(filepath.Join(filepath.Dir(path), "none*")); err != nil || !slices.Equal(files, nil) {
		t.Errorf("files were made: %v, %v", files, err)
	}
}
