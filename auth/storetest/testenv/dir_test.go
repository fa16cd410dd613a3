package testenv

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestASocketFitsWhereverTemporaryFilesLie(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	here := t.TempDir()
	long := filepath.Join(here, strings.Repeat("long-name-of-a-directory/", 5))
	blank, closed := filepath.Join(here, "a blank"), filepath.Join(here, "closed")
	for _, dir := range []string{long, blank, closed} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, temporary := range []string{"", long, blank, closed, filepath.Join(here, "missing"), "."} {
		t.Setenv("TMPDIR", temporary)
		dir := Dir(t)
		l, err := net.Listen("unix", filepath.Join(dir, strings.Repeat("s", room-1)))
		if err != nil {
			t.Errorf("TMPDIR=%s: %v", temporary, err)
			continue
		}
		l.Close()
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("TMPDIR=%s: %v, %v", temporary, info, err)
		}
		if strings.Contains(dir, " ") || !filepath.IsAbs(dir) || strings.HasPrefix(dir, closed) {
			t.Errorf("TMPDIR=%s: %q", temporary, dir)
		}
	}
}

func TestADirectoryInMemoryIsOneLikeOthers(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	dir, err := MakeMemoryDir()
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o755 || !fit(filepath.Dir(dir)) {
		t.Errorf("%s: %v, %v", dir, info, err)
	}
}

func TestAShortAndOpenPlaceIsTaken(t *testing.T) {
	parent, err := os.MkdirTemp("/tmp", "t")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(parent)
	if err := os.Chmod(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", parent)
	if dir := Dir(t); filepath.Dir(dir) != parent {
		t.Errorf("%s is not in %s", dir, parent)
	}
}
