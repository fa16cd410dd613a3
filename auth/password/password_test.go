package password

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"congthu/auth"
)

func fingerprint(t *testing.T, f *Fingerprinter, salt, password string) []byte {
	t.Helper()
	sum, err := f.Fingerprint(context.Background(), []byte(salt), auth.NewSecret(password))
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func TestAFingerprintDependsOnPasswordSaltAndPepper(t *testing.T) {
	one, err := New(bytes.Repeat([]byte{1}, pepperSize))
	if err != nil {
		t.Fatal(err)
	}
	two, err := New(bytes.Repeat([]byte{2}, pepperSize))
	if err != nil {
		t.Fatal(err)
	}
	same := fingerprint(t, one, "salt-salt-salt-1", "Mat-khau-1")
	if !bytes.Equal(same, fingerprint(t, one, "salt-salt-salt-1", "Mat-khau-1")) {
		t.Error("the same password gives another fingerprint")
	}
	for name, other := range map[string][]byte{
		"password": fingerprint(t, one, "salt-salt-salt-1", "Mat-khau-2"),
		"salt":     fingerprint(t, one, "salt-salt-salt-2", "Mat-khau-1"),
		"pepper":   fingerprint(t, two, "salt-salt-salt-1", "Mat-khau-1"),
	} {
		if bytes.Equal(same, other) {
			t.Errorf("another %s gives the same fingerprint", name)
		}
	}
}

func TestAFingerprintWaitsForAProcessorNoLongerThanItsContext(t *testing.T) {
	f, err := New(make([]byte, pepperSize))
	if err != nil {
		t.Fatal(err)
	}
	for range cap(f.slots) {
		f.slots <- struct{}{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := f.Fingerprint(ctx, make([]byte, 16), auth.NewSecret("x")); err == nil {
		t.Error("a fingerprint was made although all processors are taken")
	}
}

func TestThePepperIsMadeOnceAndKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pepper.key")
	var fingerprints [4][]byte
	var wg sync.WaitGroup
	for i := range fingerprints {
		wg.Go(func() {
			f, err := Open(path)
			if err != nil {
				t.Error(err)
				return
			}
			fingerprints[i] = fingerprint(t, f, "salt-salt-salt-1", "Mat-khau-1")
		})
	}
	wg.Wait()
	for _, f := range fingerprints[1:] {
		if !bytes.Equal(f, fingerprints[0]) {
			t.Error("two who opened the pepper at once got different ones")
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("pepper has mode %04o, want 0600", info.Mode().Perm())
	}
}

func TestAnUnsuitablePepperFileIsAnError(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	if err := os.WriteFile(open, []byte(strings.Repeat("ab", pepperSize)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o644); err != nil { // independent of the umask
		t.Fatal(err)
	}
	if _, err := Open(open); err == nil || !strings.Contains(err.Error(), "chmod 0600") {
		t.Errorf("a readable pepper gives %v, want the command that mends it", err)
	}
	short := filepath.Join(dir, "short")
	if err := os.WriteFile(short, []byte("abcd"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(short); err == nil || strings.Contains(err.Error(), "abcd") {
		t.Errorf("a short pepper gives %v, want an error that does not repeat it", err)
	}
	if _, err := Open(filepath.Join(dir, "missing", "pepper")); err == nil {
		t.Error("a pepper in a missing directory is no error")
	}
}
