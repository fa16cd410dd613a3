package realtest

import (
	"archive/tar"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// What no mail client says gets a short answer and a closed door, and the next
// client is served.
func TestGarbageIsClosedAndHurtsNobody(t *testing.T) {
	t.Parallel()
	g, user := OwnCongthu(t, Setup{}), Dovecot(t).Account(t)
	for _, garbage := range []struct{ name, octets string }{
		{"HTTP", "GET / HTTP/1.1\r\nHost: congthu.test\r\nAccept: */*\r\nCookie: a=b\r\n\r\n" + strings.Repeat("POST /x HTTP/1.1\r\n\r\n", 20)},
		{"binary", strings.Repeat("\x00\xff\x16\x03\x01", 40000)},
		{"giant line", strings.Repeat("A", 8<<20)},
		{"giant literal", "a LOGIN {4294967296+}\r\n" + strings.Repeat("A", 1<<20)},
		{"literal that overflows", "a LOGIN {18446744073709551617+}\r\n" + strings.Repeat("A", 1<<17)},
		{"many literals", strings.Repeat("a LOGIN {4096+}\r\n"+strings.Repeat("A", 4096)+" {4096+}\r\n"+strings.Repeat("B", 4096)+"\r\n", 300)},
		{"endless commands", strings.Repeat("x BLURDYBLOOP\r\n", 100000)},
		{"endless base64", "AUTH PLAIN\r\n" + strings.Repeat("QUFB", 1<<20)},
	} {
		for port, name := range map[int]string{g.IMAP: "imap", g.IMAPS: "imaps", g.Submission: "submission", g.Submissions: "submissions"} {
			t.Run(garbage.name+" at "+name, func(t *testing.T) {
				t.Parallel()
				var d *Dialogue
				if port == g.IMAPS || port == g.Submissions {
					d = DialTLS(t, port, "127.0.5.1")
				} else {
					d = Dial(t, port, "127.0.5.1")
				}
				go func() { // the gateway need not read it all
					d.Write([]byte(garbage.octets))
				}()
				d.SetDeadline(time.Now().Add(patience))
				answered := 0
				buffer := make([]byte, 4096)
				for {
					n, err := d.r.Read(buffer)
					if answered += n; err != nil {
						if os.IsTimeout(err) {
							t.Error("the connection is still open")
						}
						break
					}
				}
				if answered > 64<<10 {
					t.Errorf("%d octets were answered", answered)
				}
			})
		}
	}
	t.Cleanup(func() {
		if got := tryIMAP(t, g.Door(), "", user, Password); !accepted(got) {
			t.Errorf("afterwards: %s", got)
		}
		if code, exited := g.Process.Exited(); exited {
			t.Errorf("congthu has ended with code %d", code)
			return
		}
		// The Go runtime, SQLite and a fingerprint of a password take some tens.
		if most := g.Memory(t); most > 256<<20 && !raceDetector() {
			t.Errorf("congthu took %d MiB", most>>20)
		} else {
			t.Logf("congthu took %d MiB at most", most>>20)
		}
	})
}

// A canary is a password that must be nowhere: not in a log at level debug, a
// metric, a database, a reply, a profile, a support bundle, what congthu check
// says; in whatever way it was given, right, wrong, the one from before, or typed
// into the field for the name; in whatever spelling.
func TestThePasswordIsNowhere(t *testing.T) {
	t.Parallel()
	g := OwnCongthu(t, Setup{})
	user := Dovecot(t).Account(t)
	// misplaced is a password typed into the field for the name. The store must
	// keep the names that it counts, so it is looked for everywhere but there.
	const previous, right, wrong, misplaced = "Hoang-Yen-Cu-0", "Hoang-Yen-Dung-1", "Hoang-Yen-Sai-2", "Hoang-Yen-Lac-3"
	where := make(map[string]string)
	var replies strings.Builder
	give := func(user, password string) (accepted int) {
		var mu sync.Mutex
		ways := waysToLogIn(t, g.Door())
		names := slices.Collect(maps.Keys(ways))
		each(len(names), func(i int) {
			// Each from an address of its own, or Dovecot has them wait for each other.
			reply := ways[names[i]](fmt.Sprintf("127.0.7.%d", 10+i), user, password)
			mu.Lock()
			defer mu.Unlock()
			replies.WriteString(names[i] + ": " + reply + "\n")
			if strings.HasPrefix(reply, "OK ") || strings.HasPrefix(reply, "235 ") {
				accepted++
			}
		})
		return accepted
	}
	all := len(waysToLogIn(t, g.Door()))
	Dovecot(t).SetPassword(t, user, previous)
	if n := give(user, previous); n != all {
		t.Errorf("%d of %d ways let in:\n%s", n, all, replies.String())
	}
	awaitPasswordSeen(t, g, user)
	Dovecot(t).SetPassword(t, user, right)
	if n := give(user, right); n != all {
		t.Errorf("%d of %d ways let in:\n%s", n, all, replies.String())
	}
	Eventually(t, "the change of the password to be noticed", func() bool {
		_, body := g.API(t, http.MethodGet, "/events?account="+user, "")
		return strings.Contains(body, "password.changed")
	})
	for _, stale := range []struct{ user, password string }{{user, previous}, {misplaced, wrong}, {misplaced + "@elsewhere.example", wrong}, {misplaced + "*" + user, wrong}} {
		if n := give(stale.user, stale.password); n != 0 {
			t.Errorf("%s: %d ways let in:\n%s", stale.user, n, replies.String())
		}
	}
	for name, password := range map[string]string{"right": right, "wrong": wrong} {
		file := filepath.Join(t.TempDir(), "password")
		writeFile(t, file, password+"\n", 0o600)
		o := Command(t, "", nil, Binary(t), "check", "-c", g.Config, "--account", user, "--password-file", file)
		if !strings.Contains(o.All(), "right password") {
			t.Errorf("check tried nothing: %s", o.All())
		}
		where["check "+name] = o.All()
	}
	hear := func(d *Dialogue, reply string) {
		replies.WriteString(reply + "\n")
		d.Close()
	}
	for _, password := range []string{right, wrong} {
		// In the wrong place: as a command, an ID, without TLS, not as base64.
		d := g.Door().DialIMAP(t, "")
		replies.WriteString(d.Command("a", `ID ("name" "x" "x-originating-ip" "`+password+`")`))
		hear(d, d.Command("b", password+" "+password))
		d = Dial(t, g.IMAP, "")
		d.Hear()
		hear(d, d.Command("a", "LOGIN "+user+" "+password))
		d = g.Door().DialIMAP(t, "")
		hear(d, d.Command("a", "AUTHENTICATE PLAIN "+password+"!"))
		s, _ := g.Door().DialSMTP(t, "")
		hear(s, s.Ask("AUTH PLAIN !"+password))
		s, _ = g.Door().DialSMTP(t, "")
		hear(s, s.Ask(password))
	}
	if n := give(user, wrong); n != 0 { // this locks the account
		t.Errorf("%d ways let in:\n%s", n, replies.String())
	}
	for _, path := range []string{"/accounts/" + user, "/accounts/" + url.PathEscape(wrong), "/events?account=" + user, "/accounts?limit=" + wrong, "/events?kind=" + wrong} {
		_, body := g.API(t, http.MethodGet, path, "")
		// The question itself may come back in the "instance" of a problem, so it
		// is not put there: only what the server adds is searched.
		if !strings.Contains(path, wrong) {
			replies.WriteString(body + "\n")
		}
	}
	// The 422 of the API must not echo what it refused.
	for _, body := range []string{`{"reason": 1, "x": "` + wrong + `"}`, `{"reason": "` + wrong, `"` + wrong + `"`} {
		_, answer := g.API(t, http.MethodPost, "/accounts/"+user+"/unlock", body)
		replies.WriteString(answer + "\n")
	}
	_, answer := request(t, http.MethodGet, g.URL("/api/v1/accounts"), "", map[string]string{"Authorization": "Bearer " + wrong})
	replies.WriteString(answer + "\n")
	_, where["metrics"] = Get(t, g.URL("/metrics"))
	if where["metrics"] == "" {
		t.Error("no metrics")
	}
	bundle := filepath.Join(t.TempDir(), "bundle.tar.gz")
	o := g.Run(t, "support-bundle", "--file", bundle)
	if o.Code != 0 {
		t.Errorf("support-bundle: %s", o.All())
	}
	where["support-bundle"] = o.All()
	for name, content := range unpacked(t, bundle) {
		where["bundle/"+name] = content
		for _, person := range []string{user, Admin, AliasOf, DelegateOf, "vanthu@", "vanphong@"} {
			if strings.Contains(content, person) {
				t.Errorf("%s of the bundle names %s", name, person)
			}
		}
	}
	if !strings.Contains(where["bundle/metrics.txt"], "congthu_login_attempts_total") {
		t.Error("the bundle has no metrics")
	}
	// While it runs the database has a WAL.
	search := func(dir string) {
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
				where[file] += readFrom(file, 0)
			}
		}
	}
	search(filepath.Join(g.Dir, "data"))
	if len(where[filepath.Join(g.Dir, "data", "congthu.db-wal")]) == 0 {
		t.Error("there is no WAL to search")
	}
	g.Stop() // everything is written
	search(g.Dir)
	search(filepath.Join(g.Dir, "data"))
	where["replies"] = replies.String()
	for place, text := range where {
		for _, secret := range []string{previous, right, wrong, misplaced, Token} {
			if secret == misplaced && strings.Contains(place, ".db") {
				continue
			}
			for _, form := range forms(secret, user) {
				if strings.Contains(strings.ToLower(text), strings.ToLower(form)) {
					t.Errorf("%s has %q", place, form)
				}
			}
		}
	}
	// The unknown names may be mistyped passwords; the user's own name is no
	// secret and must be there, or this test looks in the wrong places.
	if !strings.Contains(where[g.Log], user) || !strings.Contains(where[g.Log], `"level":"DEBUG"`) {
		t.Errorf("%s does not have the account's name, or nothing of level debug", g.Log)
	}
}

// waysToLogIn are all ways to give a name and a password, each on a connection of
// its own; they return the reply.
func waysToLogIn(t *testing.T, door Door) map[string]func(from, user, password string) string {
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	imap := func(talk func(d *Dialogue, user, password string) string) func(from, user, password string) string {
		return func(from, user, password string) string {
			d := door.DialIMAP(t, from)
			defer d.Close()
			return talk(d, user, password)
		}
	}
	smtp := func(talk func(d *Dialogue, user, password string) string) func(from, user, password string) string {
		return func(from, user, password string) string {
			d, _ := door.DialSMTP(t, from)
			defer d.Close()
			return talk(d, user, password)
		}
	}
	// ask says lines, each after the reply to the one before.
	ask := func(d *Dialogue, lines ...string) (reply string) {
		for _, line := range lines {
			if reply = d.Ask(line); !strings.HasPrefix(reply, "334") {
				break
			}
		}
		return reply
	}
	tagged := func(d *Dialogue, lines ...string) string {
		for i, line := range lines {
			d.Say(line + "\r\n")
			if i < len(lines)-1 {
				if challenge := d.Hear(); !strings.HasPrefix(challenge, "+") {
					return strings.TrimPrefix(challenge, "a ")
				}
			}
		}
		last := d.Tagged("a")
		return strings.TrimPrefix(last[len(last)-1], "a ")
	}
	return map[string]func(from, user, password string) string{
		"IMAP LOGIN": imap(func(d *Dialogue, u, p string) string { return tagged(d, "a LOGIN "+quoted(u)+" "+quoted(p)) }),
		"IMAP LOGIN, literals": imap(func(d *Dialogue, u, p string) string {
			return tagged(d, fmt.Sprintf("a LOGIN {%d}", len(u)), fmt.Sprintf("%s {%d}", u, len(p)), p)
		}),
		"IMAP LOGIN, literals at once": imap(func(d *Dialogue, u, p string) string { return tagged(d, "a LOGIN "+literal(u)+" "+literal(p)) }),
		"IMAP PLAIN":                   imap(func(d *Dialogue, u, p string) string { return tagged(d, "a AUTHENTICATE PLAIN "+plain("", u, p)) }),
		"IMAP PLAIN, asked for":        imap(func(d *Dialogue, u, p string) string { return tagged(d, "a AUTHENTICATE PLAIN", plain("", u, p)) }),
		"IMAP LOGIN mechanism":         imap(func(d *Dialogue, u, p string) string { return tagged(d, "a AUTHENTICATE LOGIN", encode(u), encode(p)) }),
		"SMTP PLAIN":                   smtp(func(d *Dialogue, u, p string) string { return ask(d, "AUTH PLAIN "+plain("", u, p)) }),
		"SMTP PLAIN, asked for":        smtp(func(d *Dialogue, u, p string) string { return ask(d, "AUTH PLAIN", plain("", u, p)) }),
		"SMTP LOGIN":                   smtp(func(d *Dialogue, u, p string) string { return ask(d, "AUTH LOGIN", encode(u), encode(p)) }),
		"SMTP LOGIN, name at once":     smtp(func(d *Dialogue, u, p string) string { return ask(d, "AUTH LOGIN "+encode(u), encode(p)) }),
	}
}

// unpacked are the files of a tar.gz, those in it that are packed themselves too.
func unpacked(t *testing.T, name string) map[string]string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		var content io.Reader = r
		if strings.HasSuffix(h.Name, ".gz") {
			if content, err = gzip.NewReader(r); err != nil {
				t.Fatal(err)
			}
		}
		text, err := io.ReadAll(content)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(h.Name)] = string(text)
	}
}

// forms are the ways in which a secret may be written down.
func forms(secret, user string) []string {
	return []string{
		secret, hex.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(secret)),
		strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(secret)), "="),
		plain("", user, secret), plain(user, user, secret), url.QueryEscape(secret),
	}
}

// congthu check says what it found at the real servers, and says everything
// that is wrong with a file at once.
func TestCheckTellsWhatItFound(t *testing.T) {
	t.Parallel()
	g := Configured(t, Setup{})
	o := Command(t, "", nil, Binary(t), "check", "-c", g.Config)
	if o.Code != 0 {
		t.Errorf("with everything in order: exit code %d: %s", o.Code, o.All())
	}
	for _, want := range []string{"imap", "smtp", "anvil-auth-penalty", addr(Dovecot(t).IMAP), addr(Postfix(t).Submission)} {
		if !strings.Contains(strings.ToLower(o.All()), want) {
			t.Errorf("does not say %q: %s", want, o.All())
		}
	}
	// Nothing was started or made.
	if entries, err := os.ReadDir(filepath.Join(g.Dir, "data")); err != nil || len(entries) != 0 {
		t.Errorf("check left %v (%v)", entries, err)
	}
	bad := tempFile(t, "bad.yaml", "domain: \nimap: { listen: [ { address: nowhere } ], upstream: { address: \"mail:143\", tls: never } }\nrules: { lockout: { tolerated: -1 } }\n")
	for _, command := range []string{"check", "serve"} {
		o := Command(t, "", nil, Binary(t), command, "-c", bad)
		if o.Code != 78 {
			t.Errorf("%s with a bad file: exit code %d, want 78: %s", command, o.Code, o.All())
		}
		for _, want := range []string{"domain", "nowhere", "never", "tolerated", "^"} {
			if !strings.Contains(o.All(), want) {
				t.Errorf("%s does not complain about %q: %s", command, want, o.All())
			}
		}
	}
	if o := Command(t, "", nil, Binary(t), "check", "-c", filepath.Join(t.TempDir(), "missing.yaml")); o.Code != 78 {
		t.Errorf("with a missing file: exit code %d: %s", o.Code, o.All())
	}
}

// Without the gateway no user has mail: with an expired certificate it starts, reports
// it in all places, and serves clients that accept the certificate.
func TestACertificateOutOfDateDoesNotStopTheMail(t *testing.T) {
	t.Parallel()
	year := 365 * 24 * time.Hour
	for name, c := range map[string]struct {
		from, until time.Duration
		says        string
	}{
		"run out":       {-2 * year, -time.Hour, "ran out on"},
		"not valid yet": {time.Hour, year, "is not valid before"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, user := Configured(t, Setup{}), Dovecot(t).Account(t)
			until := time.Now().Add(c.until)
			TheAuthority(t).IssueFor(t, filepath.Base(g.Dir), time.Now().Add(c.from), until)
			o := Command(t, "", nil, Binary(t), "check", "-c", g.Config)
			if o.Code != 1 || !regexp.MustCompile(`(?m)^failed +certificate +`+c.says).MatchString(o.Stdout) {
				t.Errorf("check: exit code %d, want 1: %s", o.Code, o.All())
			}
			g.Start(t)
			t.Cleanup(g.Stop)
			if !lineHas(g.LogText(), `"WARN"`, "tls.certificate", c.says) {
				t.Errorf("the log does not say %q: %s", c.says, g.LogText())
			}
			_, metrics := Get(t, g.URL("/metrics"))
			m := regexp.MustCompile(`(?m)^congthu_certificate_expiry_timestamp_seconds\{certificate="clients"\} (\S+)$`).FindStringSubmatch(metrics)
			if m == nil {
				t.Fatal("no metric of the certificate")
			}
			if at, err := strconv.ParseFloat(m[1], 64); err != nil || int64(at) != until.Unix() {
				t.Errorf("the metric says %s, want %d", m[1], until.Unix())
			}
			try := []string{"curl", "-sS", "--ssl-reqd", "--max-time", "60", "-u", user + ":" + Password, fmt.Sprintf("imaps://localhost:%d/", g.IMAPS)}
			if o := Command(t, "", nil, append(try, "--cacert", TheAuthority(t).File)...); o.Code != 60 { // CURLE_PEER_FAILED_VERIFICATION
				t.Errorf("a client that looks at the dates: exit code %d: %s", o.Code, o.All())
			}
			if o := Command(t, "", nil, append(try, "--insecure")...); o.Code != 0 || !strings.Contains(o.Stdout, "INBOX") {
				t.Errorf("a client that goes on: exit code %d: %s", o.Code, o.All())
			}
		})
	}
	for name, spoil := range map[string]func(cert, key string){
		"no certificate": func(cert, _ string) {
			writeFile(t, cert, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 0o644)
		},
		"another's key": func(_, key string) { _, other := TheAuthority(t).Issue(t, "other"); os.Rename(other, key) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := Configured(t, Setup{})
			spoil(TheAuthority(t).Issue(t, filepath.Base(g.Dir)))
			for _, command := range []string{"check", "serve"} {
				if o := Command(t, "", nil, Binary(t), command, "-c", g.Config); o.Code != 78 || !strings.Contains(o.All(), "tls") {
					t.Errorf("%s: exit code %d, want 78: %s", command, o.Code, o.All())
				}
			}
		})
	}
}

// congthu check finds an upstream that is not there, or not who it should be.
func TestCheckFailsWhenAServerIsWrong(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]struct{ from, to, says string }{
		"nobody listens":         {fmt.Sprintf("%q", addr(Dovecot(t).IMAP)), fmt.Sprintf("%q", addr(freePort(t))), "(imap.upstream.address, "},
		"another server":         {fmt.Sprintf("%q", addr(Dovecot(t).IMAP)), fmt.Sprintf("%q", addr(Postfix(t).Submission)), "is not an IMAP server"},
		"another certificate":    {"server_name: localhost", "server_name: mail.example", "Fix: if it is the right server write server_name: "},
		"Dovecot's port for TLS": {fmt.Sprintf("%q", addr(Dovecot(t).IMAP)), fmt.Sprintf("%q", addr(Dovecot(t).IMAPS)), "it waits for TLS: this port begins with TLS"},
		"Postfix's port for TLS": {fmt.Sprintf("%q", addr(Postfix(t).Submission)), fmt.Sprintf("%q", addr(Postfix(t).Submissions)), "it waits for TLS: this port begins with TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := Configured(t, Setup{})
			text, err := os.ReadFile(g.Config)
			if err != nil {
				t.Fatal(err)
			}
			changed := strings.Replace(string(text), change.from, change.to, 1)
			if changed == string(text) {
				t.Fatalf("no %s in the file", change.from)
			}
			writeFile(t, g.Config, changed, 0o600)
			if o := Command(t, "", nil, Binary(t), "check", "-c", g.Config); o.Code != 1 || !strings.Contains(o.Stdout, change.says) {
				t.Errorf("exit code %d, want 1 and %q: %s", o.Code, change.says, o.All())
			}
		})
	}
}

// congthu check --account tells how the server's replies are understood.
func TestCheckTriesAnAccount(t *testing.T) {
	t.Parallel()
	g, user := Configured(t, Setup{}), Dovecot(t).Account(t)
	o := Command(t, Password+"\n", nil, Binary(t), "check", "-c", g.Config, "--account", user)
	if o.Code != 0 {
		t.Errorf("exit code %d: %s", o.Code, o.All())
	}
	if strings.Contains(o.All(), Password) {
		t.Errorf("prints the password: %s", o.All())
	}
	for _, want := range []string{"only -ERR [AUTH] is a wrong password", `wrong password: understood as "wrong, counted" (the mail server says: "-ERR [AUTH] `} {
		if !lineHas(o.All(), "pop3", want) {
			t.Errorf("of pop3 it does not say %q: %s", want, o.All())
		}
	}
	if n := Dovecot(t).Verdicts(user); n == 0 {
		t.Errorf("no wrong password was tried: %s", o.All())
	}
}
