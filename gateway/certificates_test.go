package gateway

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"congthu/auth"
)

// A renewal of the certificate needs no command: it suffices that the files change.
func TestACertificateWhoseFilesChangeIsPutIntoForce(t *testing.T) {
	o := newOffice(t)
	o.gateway.renewals.every = 5 * time.Millisecond
	o.open()
	unread := func() error {
		o.counts.mu.Lock()
		defer o.counts.mu.Unlock()
		return o.counts.unread
	}
	first := o.shown()
	renewed := o.certify(time.Now().Add(-48 * time.Hour))
	eventually(t, "the new certificate", func() bool { return o.shown().Equal(renewed) })
	if renewed.Equal(first) || unread() != nil {
		t.Errorf("the new certificate is not told from the old one: %v", unread())
	}
	eventually(t, "its date in the metrics", func() bool {
		o.counts.mu.Lock()
		defer o.counts.mu.Unlock()
		return o.counts.expires.Equal(renewed)
	})

	// Another key, a file that is half there, a file that is gone, and a
	// certificate from twenty years ago: none of them comes into force, and the
	// metric says so until the files are right.
	dir := filepath.Dir(o.file)
	read := func(name string) []byte {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	write := func(name string, content []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, key := read("cert.pem"), read("key.pem")
	for name, spoil := range map[string]func(){
		"another key":    func() { o.certify(time.Now()); write("cert.pem", cert) },
		"half a file":    func() { write("cert.pem", cert[:len(cert)/2]) },
		"no file":        func() { os.Remove(filepath.Join(dir, "key.pem")) },
		"twenty years":   func() { o.certify(auth.AddMonths(time.Now(), -240)) },
		"the wrong file": func() { write("key.pem", cert) },
	} {
		spoil()
		eventually(t, name+" to be noticed", func() bool { return unread() != nil })
		if got := o.shown(); !got.Equal(renewed) {
			t.Errorf("%s: clients see a certificate until %v, want the one from before, %v", name, got, renewed)
		}
		if !strings.Contains(o.log.String(), "from before stays in force") {
			t.Errorf("%s: the log does not say so", name)
		}
		write("cert.pem", cert)
		write("key.pem", key)
		eventually(t, "the right files after "+name, func() bool { return unread() == nil })
	}
}

// Certbot and Kubernetes turn a symbolic link to another directory: the files that
// the configuration names keep their names.
func TestACertificateBehindALinkThatIsTurnedIsPutIntoForce(t *testing.T) {
	o := newOffice(t)
	o.gateway.renewals.every = 5 * time.Millisecond
	dir := filepath.Dir(o.file)
	for _, sub := range []string{"1", "2"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	renewed := o.certify(time.Now().Add(-48 * time.Hour))
	turn := func(to string) {
		t.Helper()
		for _, name := range []string{"cert.pem", "key.pem"} {
			if err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, to, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	turn("2")
	o.certify(time.Now())
	turn("1")
	link := filepath.Join(dir, "live")
	if err := os.Symlink("1", link); err != nil {
		t.Fatal(err)
	}
	o.settings = strings.Replace(o.settings, "certificate: cert.pem, key: key.pem", "certificate: live/cert.pem, key: live/key.pem", 1)
	o.write("")
	o.open()
	if err := os.Symlink("2", link+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link+".new", link); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new certificate", func() bool { return o.shown().Equal(renewed) })
}

// A renewal writes one file after the other: the state in between is not an error.
func TestAPairThatIsBeingWrittenIsNotRead(t *testing.T) {
	o := newOffice(t)
	o.gateway.renewals.every = time.Hour
	dir := filepath.Dir(o.file)
	var pair [2][]byte
	renewed := o.certify(time.Now().Add(-48 * time.Hour))
	for i, name := range []string{"cert.pem", "key.pem"} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		pair[i] = content
	}
	o.certify(time.Now())
	o.open()
	look := func() { o.gateway.renewals.look(o.gateway) }
	look()
	look()
	for i, name := range []string{"cert.pem", "key.pem"} {
		if err := os.WriteFile(filepath.Join(dir, name), pair[i], 0o600); err != nil {
			t.Fatal(err)
		}
		look()
	}
	look()
	if got := o.shown(); !got.Equal(renewed) || o.counts.unread != nil {
		t.Errorf("clients see a certificate until %v, want %v (%v)", got, renewed, o.counts.unread)
	}
	if strings.Contains(o.log.String(), "cannot be used") {
		t.Errorf("half a renewal was taken for a mistake:\n%s", o.log)
	}
}
