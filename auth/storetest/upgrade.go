package storetest

import (
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/json"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"congthu/auth"
	"congthu/auth/audit"
)

// installed is the data of an installation of the first version: an SQLite file, a dump
// of a PostgreSQL database that was copied from it, and what the program of that version
// read from either.
//
//go:embed testdata/installed
var installed embed.FS

// InstalledSQLite returns the database file of the first version.
func InstalledSQLite(t testing.TB) []byte {
	t.Helper()
	packed, err := gzip.NewReader(bytes.NewReader(InstalledFile(t, "sqlite.db.gz")))
	if err != nil {
		t.Fatal(err)
	}
	file, err := io.ReadAll(packed)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// InstalledFile returns one file of the installation of the first version:
// sqlite.db.gz, postgres.sql or accounts.json.
func InstalledFile(t testing.TB, name string) []byte {
	t.Helper()
	file, err := installed.ReadFile("testdata/installed/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// Upgraded checks that a store which opened the data of the first version has lost
// nothing of it and can be written.
func Upgraded(t *testing.T, s Store) {
	var was struct {
		Accounts []firstAccount
		Head     audit.Head
	}
	if err := json.Unmarshal(InstalledFile(t, "accounts.json"), &was); err != nil {
		t.Fatal(err)
	}
	var accounts []auth.Account
	for _, a := range was.Accounts {
		accounts = append(accounts, a.now())
	}
	all, err := s.List(t.Context(), auth.Filter{Unknown: true, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(accounts, all, cmp.Comparer(sameAccount)); d != "" {
		t.Errorf("accounts (-first version +now):\n%s", d)
	}
	head, err := s.Verify(t.Context(), nil)
	if err != nil || head.Hash != was.Head.Hash || head.Seq != was.Head.Seq {
		t.Errorf("audit log: head %v, %v, want %v", head, err, was.Head)
	}
	unknown := 0
	for _, a := range accounts {
		if !a.Known() {
			unknown++
		}
	}
	if n, err := s.UnknownNames(t.Context()); n != unknown || err != nil {
		t.Errorf("%d unknown names, %v, want %d", n, err, unknown)
	}
	_, err = s.Update(t.Context(), "active@congthu.test", 0, func(a *auth.Account) ([]auth.Event, bool) {
		a.Failures++
		return []auth.Event{{At: was.Head.At, Kind: auth.PasswordWrong, Account: a.Name, Actor: auth.ByUser}}, true
	})
	if err != nil {
		t.Fatal(err)
	}
	if head, err := s.Verify(t.Context(), nil); err != nil || head.Seq != was.Head.Seq+1 {
		t.Errorf("audit log after another event: head %v, %v", head, err)
	}
}

// firstAccount is an account as the first version read it: it knew two passwords.
type firstAccount struct {
	auth.Account
	Password struct {
		Salt, Current, Previous []byte
		Since                   time.Time
	}
}

// now is the same account in today's form: the password keeps its date, and the one
// before it is at least as old.
func (f firstAccount) now() auth.Account {
	a := f.Account
	a.Password = auth.Password{Salt: f.Password.Salt, Since: f.Password.Since}
	for _, fingerprint := range [][]byte{f.Password.Previous, f.Password.Current} {
		if len(fingerprint) > 0 {
			a.Password.Known = append(a.Password.Known, auth.KnownPassword{Fingerprint: fingerprint, Since: f.Password.Since})
		}
	}
	return a
}

// sameAccount compares the fields that the first version knew.
func sameAccount(was, is auth.Account) bool {
	a, errA := json.Marshal(was.Normalized())
	b, errB := json.Marshal(is.Normalized())
	return errA == nil && errB == nil && bytes.Equal(a, b)
}
