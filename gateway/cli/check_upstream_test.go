package cli

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"congthu/auth"
	"congthu/gateway/config"
	"congthu/gateway/mailtest"
)

// For each fault of a mail server, check names the setting, its place in the file and
// the correct value.
func TestCheckSuggestsTheFixForAMailServerThatCannotBeUsed(t *testing.T) {
	noTLS := func(*tls.Config) *tls.Config { return nil }
	withTLS := func(c *tls.Config) *tls.Config { return c }
	for name, test := range map[string]struct {
		tls      func(*tls.Config) *tls.Config
		implicit bool
		bare     bool   // no login before TLS
		address  string // replaces the server's
		upstream string // %s is the address
		place    string // of the setting
		says     []string
	}{
		"it wants STARTTLS": {withTLS, false, true, "", "{ address: %s, tls: none }", "%s.upstream.tls, FILE:6:",
			[]string{"over TLS only", "Fix: write tls: starttls"}},
		"its authority is private": {withTLS, false, false, "", "{ address: %s, tls: starttls }", "%s.upstream.ca_file, FILE:6:",
			[]string{`"CN=mail.test"`, "Fix: write ca_file: FILE", "PEM"}},
		"its authority is another private one": {withTLS, false, false, "", "{ address: %s, tls: starttls, ca_file: cert.pem }", "%s.upstream.ca_file, FILE:6:",
			[]string{"cert.pem does not have the authority", "Fix: add the certificate of that authority"}},
		"its certificate is for another name": {withTLS, false, false, "", "{ address: %s, tls: starttls, ca_file: ca.pem, server_name: imap.example.vn }", "%s.upstream.server_name, FILE:6:",
			[]string{"is for mail.test, localhost", `not for "imap.example.vn"`, "Fix: if it is the right server write server_name: mail.test"}},
		"its port begins with TLS, and nothing was said of it": {withTLS, true, false, "", "{ address: %s, tls: none }", "%s.upstream.tls, FILE:6:",
			[]string{"waits for TLS", "tls is none", "Fix: write tls: implicit"}},
		"its port begins with TLS, and STARTTLS is expected": {withTLS, true, false, "", "{ address: %s, tls: starttls, ca_file: ca.pem }", "%s.upstream.tls, FILE:6:",
			[]string{"waits for TLS", "tls is starttls", "Fix: write tls: implicit"}},
		"its port begins in clear text, and TLS is expected": {withTLS, false, false, "", "{ address: %s, tls: implicit, ca_file: ca.pem }", "%s.upstream.tls, FILE:6:",
			[]string{"begins in clear text", "Fix: write tls: starttls"}},
		"it has no TLS": {noTLS, false, false, "", "{ address: %s, tls: starttls }", "%s.upstream.tls, FILE:6:",
			[]string{"does not offer it", "Fix: switch TLS on", "tls: none"}},
		"it is not there": {noTLS, false, false, "127.0.0.1:1", "%s", "%s.upstream.address, FILE:6:",
			[]string{"no program listens at", "Fix: start the mail server"}},
		"its name is none": {noTLS, false, false, "mail.invalid:143", "%s", "%s.upstream.address, FILE:6:",
			[]string{"mail.invalid", "Fix: correct the name"}},
	} {
		for _, door := range []string{"imap", "smtp"} {
			t.Run(name+"/"+door, func(t *testing.T) {
				t.Parallel()
				imap := &mailtest.IMAP{TLS: test.tls(mailtest.ServerTLS()), Implicit: test.implicit}
				smtp := &mailtest.SMTP{TLS: test.tls(mailtest.ServerTLS()), Implicit: test.implicit}
				if test.bare {
					imap.Caps, smtp.Mechanisms = []string{"IMAP4rev1", "LOGINDISABLED"}, []string{}
				}
				t.Cleanup(func() { imap.Close(); smtp.Close() })
				start := map[string]func() (string, error){"imap": imap.Start, "smtp": smtp.Start}[door]
				address, err := start()
				if err != nil {
					t.Fatal(err)
				}
				if test.address != "" {
					address = test.address
				}
				k, out := checkOf(t, door, fmt.Sprintf(test.upstream, `"`+address+`"`))
				// The test does not wait for the server: its timeout setting is an
				// hour.
				k.silence = 50 * time.Millisecond
				map[string]func(){"imap": func() { k.mailServer(t.Context(), auth.IMAP) }, "smtp": func() { k.mailServer(t.Context(), auth.SMTP) }}[door]()
				place := strings.ReplaceAll(fmt.Sprintf(test.place, door), "FILE", k.config.File)
				for _, want := range append(test.says, "failed   "+door, address, place) {
					if !strings.Contains(out.String(), want) {
						t.Errorf("does not say %q: %s", want, out)
					}
				}
				if !k.failed || strings.Count(out.String(), "\n") != 1 {
					t.Errorf("failed: %v: %s", k.failed, out)
				}
			})
		}
	}
}

// Postfix may wait some seconds before it greets.
func TestCheckWaitsForASlowServer(t *testing.T) {
	imap := &mailtest.IMAP{Misbehave: func(s mailtest.Step) mailtest.Misdeed {
		if s == "greeting" {
			return mailtest.Misdeed{Delay: 300 * time.Millisecond}
		}
		return mailtest.Misdeed{}
	}}
	t.Cleanup(func() { imap.Close() })
	address, err := imap.Start()
	if err != nil {
		t.Fatal(err)
	}
	k, out := checkOf(t, "imap", `{ address: "`+address+`", tls: none }`)
	k.silence = 50 * time.Millisecond // a busy machine needs more than a moment to connect
	if k.mailServer(t.Context(), auth.IMAP); k.failed || !strings.Contains(out.String(), "answers: ") {
		t.Error(out)
	}
}

// checkOf returns a check of a configuration with one listener, whose upstream is on
// line 6.
func checkOf(t *testing.T, door, upstream string) (*check, *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	if err := demoCertificate(dir); err != nil {
		t.Fatal(err)
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: mailtest.ServerTLS().Certificates[0].Certificate[0]})
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), ca, 0o600); err != nil {
		t.Fatal(err)
	}
	other := map[string]string{"imap": "smtp", "smtp": "imap"}[door]
	text := fmt.Sprintf(`domain: example.vn
data_dir: .
tls: { certificate: cert.pem, key: key.pem }
%s:
  listen: [{ address: "127.0.0.1:0", tls: starttls }]
  upstream: %s
%s: { listen: [] }
rules: { password: { mode: off } }
`, door, upstream, other)
	file := filepath.Join(dir, "congthu.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	c.IMAP.Upstream.Timeout, c.SMTP.Upstream.Timeout = time.Hour, time.Hour
	out := new(bytes.Buffer)
	return &check{out: out, config: c}, out
}
