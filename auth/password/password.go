// Package password makes fingerprints of passwords, which show at a later login
// whether the password has been changed (Art. 9), and of a rejected password whether it
// is the one from before the change.
//
// No password is stored. A fingerprint is Argon2id (RFC 9106) over an HMAC of
// the password with a secret pepper. The pepper is in a file beside the database and
// not in it: a thief who has only the database cannot search for passwords. The salt is
// the account's own.
package password

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/crypto/argon2"

	"congthu/auth"
)

// pepperSize is the key size of HMAC-SHA-256 (RFC 2104 section 3).
const pepperSize = 32

// The cost of one fingerprint: 19 MiB and two passes, about 20 ms. If this changes, no
// stored fingerprint matches, which looks like a password change.
const (
	passes  = 2
	memory  = 19 * 1024 // KiB
	lanes   = 1
	keySize = 32
)

// Fingerprinter makes fingerprints, at most one for each processor at a time, so that a
// flood of logins cannot use up the memory.
type Fingerprinter struct {
	pepper []byte
	slots  chan struct{}
}

// New makes a Fingerprinter with a pepper of 32 octets.
func New(pepper []byte) (*Fingerprinter, error) {
	if len(pepper) != pepperSize {
		return nil, fmt.Errorf("pepper has %d octets: want %d", len(pepper), pepperSize)
	}
	return &Fingerprinter{bytes.Clone(pepper), make(chan struct{}, runtime.GOMAXPROCS(0))}, nil
}

// Fingerprint implements [auth.Fingerprinter].
func (f *Fingerprinter) Fingerprint(ctx context.Context, salt []byte, password auth.Secret) ([]byte, error) {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a processor: %w", context.Cause(ctx))
	}
	mac := hmac.New(sha256.New, f.pepper)
	mac.Write([]byte(password.Reveal()))
	return argon2.IDKey(mac.Sum(nil), salt, passes, memory, lanes, keySize), nil
}

// Open reads the pepper from a file, and makes the file if there is none.
func Open(path string) (*Fingerprinter, error) {
	f, err := Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		f, _, err = Make(path)
	}
	return f, err
}

// Read reads the pepper from a file; fs.ErrNotExist if there is none. A file that other
// users may read is an error: the pepper would not be secret. Losing the file does not
// lock anybody out (each account's next login looks like a change of password), but
// moves every password's age to that day; back it up.
func Read(path string) (*Fingerprinter, error) {
	pepper, err := readPepper(path)
	if err != nil {
		return nil, fmt.Errorf("read pepper: %w", err)
	}
	return New(pepper)
}

// Make makes a file with a new pepper, unless there is one, and reads it. made reports
// whether this call has made the file.
func Make(path string) (f *Fingerprinter, made bool, err error) {
	if made, err = writePepper(path); err != nil {
		return nil, made, fmt.Errorf("make pepper: %w", err)
	}
	f, err = Read(path)
	return f, made, err
}

func readPepper(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o and others could read it: chmod 0600 %s", path, perm, path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pepper, err := hex.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(pepper) != pepperSize {
		return nil, fmt.Errorf("%s is no pepper: want %d hexadecimal digits; restore it from a backup", path, 2*pepperSize)
	}
	return pepper, nil
}

// writePepper makes the file completely or not at all, and durable before any
// fingerprint uses it.
func writePepper(path string) (made bool, err error) {
	pepper := make([]byte, pepperSize)
	rand.Read(pepper) // never fails (crypto/rand)
	dir := filepath.Dir(path)
	temporary, err := os.CreateTemp(dir, ".pepper-*") // mode 0600
	if err != nil {
		return false, err
	}
	defer os.Remove(temporary.Name())
	_, err = fmt.Fprintln(temporary, hex.EncodeToString(pepper))
	err = errors.Join(err, temporary.Sync(), temporary.Close())
	if err != nil {
		return false, err
	}
	// Link fails if another process was first; then its pepper is used.
	err = os.Link(temporary.Name(), path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	made = err == nil
	parent, err := os.Open(dir)
	if err != nil {
		return made, err
	}
	return made, errors.Join(parent.Sync(), parent.Close())
}
