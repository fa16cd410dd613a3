package sqlite

import (
	"bufio"
	"context"
	"os/exec"
	"path/filepath"
	"testing"

	"congthu/auth/storetest"
)

func BenchmarkImport(b *testing.B) {
	storetest.Imports(b, func() storetest.Store { return open(b, Options{}) })
}

// importOn imports a list, and writes how far it is.
func importOn(path string) {
	s, err := Open(context.Background(), Options{Path: path})
	must(err)
	_, err = storetest.Import(context.Background(), s, storetest.List(), func(done int) { say("done %d", done) })
	must(err)
	say("finished")
}

func TestAnImportThatSIGKILLInterruptsIsFinishedByAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "congthu.db")
	storetest.InterruptedImport(t,
		func() (*exec.Cmd, *bufio.Scanner) { return child(t, "import", path) },
		func(empty bool) (storetest.Store, func()) {
			if empty {
				return open(t, Options{}), func() {}
			}
			s := open(t, Options{Path: path})
			return s, func() { shut(t, s) }
		})
}
