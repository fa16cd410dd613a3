package sqlite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"congthu/auth"
	"congthu/auth/storetest"
	"congthu/auth/storetest/testenv"
)

// children are the processes that tests kill, limit, or take privileges from; each gets
// the path of a database.
var children = storetest.Children{Variable: "CONGTHU_SQLITE_TEST_CHILD", Roles: map[string]func(path string){
	"guess":    guess,
	"serve":    serve,
	"hold":     hold,
	"limited":  limited,
	"readonly": readonly,
	"import":   importOn,
	"prune":    pruneOn,
}}

func child(t *testing.T, role, path string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	return children.Start(t, role, path)
}

var say, must, line = storetest.Say, storetest.Must, storetest.Line

// guess enters wrong passwords until it is killed.
func guess(path string) {
	say("start")
	s, err := Open(context.Background(), Options{Path: path})
	must(err)
	say("open")
	storetest.Guess(s)
}

// hold opens the database and keeps it.
func hold(path string) {
	_, err := Open(context.Background(), Options{Path: path})
	must(err)
	say("open")
	select {}
}

// limited writes until the file has reached its limit, shows that reads still work, and
// writes again when the limit is raised.
func limited(path string) {
	ctx := context.Background()
	signal.Ignore(syscall.SIGXFSZ)
	s, err := Open(ctx, Options{Path: path})
	must(err)
	var before syscall.Rlimit
	must(syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before))
	must(syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 300 << 10, Max: before.Max}))
	const name auth.Name = "n@congthu.test"
	did := 0
	for {
		if _, err = s.Update(ctx, name, 0, fail); err != nil {
			break
		}
		did++
	}
	say("full %v, disk full %v, health %v", err, errors.Is(err, ErrDiskFull), errors.Is(s.Health(ctx), ErrDiskFull))
	a, err := s.Account(ctx, name)
	must(err)
	_, r, err := s.Reserve(ctx, name, func(auth.Account) int { return 1 })
	must(err)
	_, err = s.Update(ctx, name, r, fail)
	say("kept %v, refused %v", a.Failures == did, err != nil)
	must(syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before))
	must(s.Health(ctx))
	a, err = s.Update(ctx, name, r, fail) // the guard's second try
	must(err)
	head, err := s.Verify(ctx, nil)
	must(err)
	say("again %v, chain %v", a.Failures == did+1, head.Seq == int64(did+1))
	must(s.Close())
}

// readonly opens a database as a user that may not write it.
func readonly(path string) {
	if os.Getuid() == 0 {
		must(syscall.Setgroups(nil))
		must(syscall.Setgid(65534))
		must(syscall.Setuid(65534))
	}
	_, err := Open(context.Background(), Options{Path: path})
	say("read-only %v: %v", errors.Is(err, ErrReadOnly), err)
}

func TestOnlyOneProcessOwnsTheDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "congthu.db")
	cmd, said := child(t, "hold", path)
	if got := line(t, said); got != "open" {
		t.Fatalf("the child said %q", got)
	}
	_, err := Open(t.Context(), Options{Path: path})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprintf("process %d;", cmd.Process.Pid)) {
		t.Fatalf("error %v, want one that names process %d", err, cmd.Process.Pid)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	s := open(t, Options{Path: path})
	// Two stores of one process cannot both own it either.
	if _, err := Open(t.Context(), Options{Path: path}); !errors.Is(err, ErrInUse) ||
		!strings.Contains(err.Error(), fmt.Sprintf("process %d;", os.Getpid())) {
		t.Fatalf("error %v, want one that names this process, %d", err, os.Getpid())
	}
	if _, err := s.Account(t.Context(), "n@congthu.test"); err != nil {
		t.Fatalf("the second Open disturbed the store: %v", err)
	}
}

func TestAFullDiskLosesNothingAndHeals(t *testing.T) {
	_, said := child(t, "limited", filepath.Join(t.TempDir(), "congthu.db"))
	full := line(t, said)
	t.Log(full)
	if !strings.Contains(full, "disk full true, health true") || !strings.Contains(full, "look for a full disk") {
		t.Errorf("at the limit: %s", full)
	}
	if got := line(t, said); got != "kept true, refused true" {
		t.Errorf("after the limit: %s", got)
	}
	if got := line(t, said); got != "again true, chain true" {
		t.Errorf("with room again: %s", got)
	}
}

func TestAnUnwritableDatabaseSaysWhatToDo(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, path string){
		"directory": func(t *testing.T, path string) {
			chmod(t, filepath.Dir(path), 0o555)
		},
		"directory of a database": func(t *testing.T, path string) {
			shut(t, open(t, Options{Path: path}))
			give(t, path, path+".lock")
			chmod(t, filepath.Dir(path), 0o555)
		},
		"file": func(t *testing.T, path string) {
			shut(t, open(t, Options{Path: path}))
			chmod(t, path, 0o400)
			give(t, path, path+".lock", filepath.Dir(path))
		},
		"a file of another user": func(t *testing.T, path string) {
			shut(t, open(t, Options{Path: path}))
			chmod(t, path, 0o000)
			give(t, path+".lock", filepath.Dir(path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			// Other users may not enter t.TempDir.
			dir := testenv.Dir(t)
			t.Cleanup(func() { chmod(t, dir, 0o700) })
			path := filepath.Join(dir, "congthu.db")
			prepare(t, path)
			_, said := child(t, "readonly", path)
			got := line(t, said)
			t.Log(got)
			if !strings.HasPrefix(got, "read-only true") || !strings.Contains(got, "to the user that runs the gateway") {
				t.Errorf("the child said %q", got)
			}
		})
	}
}

// give gives files to the user that the child will be.
func give(t *testing.T, paths ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	for _, path := range paths {
		if err := os.Chown(path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}
