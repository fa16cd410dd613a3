package testenv

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// room is the length in octets that the longest name below the directory may need: that
// of a server, of its data, and of the socket.
const room = 60

// Dir returns a new directory for sockets and servers, which need a better path than
// [testing.T.TempDir] gives: the path of a Unix socket has room for 108 octets
// (unix(7)), a server that gives up root must pass through every directory, and the
// configuration of some servers cannot quote a blank. The directory is removed when the
// test ends.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := MakeDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// MakeDir makes a new directory, which the caller removes. It is in the directory for
// temporary files ($TMPDIR) if that path is suitable, and in /tmp otherwise.
func MakeDir() (string, error) {
	parent := os.TempDir()
	if !fit(parent) {
		parent = "/tmp"
	}
	return makeDir(parent)
}

// MakeMemoryDir is [MakeDir] for many files that need not survive a power cut: in
// memory, if there is a file system for that with 1 GiB of room.
func MakeMemoryDir() (string, error) {
	const memory = "/dev/shm"
	var fs syscall.Statfs_t
	if err := syscall.Statfs(memory, &fs); err != nil || fs.Bavail*uint64(fs.Bsize) < 1<<30 || !fit(memory) {
		return MakeDir()
	}
	return makeDir(memory)
}

func makeDir(parent string) (string, error) {
	dir, err := os.MkdirTemp(parent, "congthu")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // independent of the umask
		return "", fmt.Errorf("%w (and %v)", err, os.RemoveAll(dir))
	}
	return dir, nil
}

// fit reports whether the path is short, plain, and open to every user.
func fit(path string) bool {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-"
	if !filepath.IsAbs(path) || len(path)+len("/congthu1234567890")+room >= 108 || strings.Trim(path, plain) != "" {
		return false
	}
	for ; ; path = filepath.Dir(path) {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		if path == "/" {
			return true
		}
	}
}
