package config

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"congthu/auth"
	"congthu/gateway/upstream"
)

const five = `domain: congthu.test
tls: { certificate: cert.pem, key: key.pem }
imap: { upstream: 127.0.0.1:10143 }
smtp: { upstream: 127.0.0.1:10587 }
rules: { password: { change_url: "https://mail.congthu.test/password" } }
`

func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	c, err := parse("congthu.yaml", []byte(text), now)
	var mistakes *Error
	if errors.As(err, &mistakes) {
		t.Fatal(mistakes.Report())
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFiveLinesAreEnough(t *testing.T) {
	inTestdata(t)
	c := mustParse(t, five)
	if len(c.Warnings) > 0 {
		t.Errorf("warnings: %s", Render(c.Warnings))
	}
	host, _ := os.Hostname()
	got := map[string]any{
		"profile": c.Profile, "hostname": c.Hostname, "data_dir": c.DataDir, "store": c.Store.Path, "pepper": c.Store.PepperFile,
		"socket": c.Admin.Socket, "imap": c.IMAP.Listen, "smtp": c.SMTP.Listen, "imap up": c.IMAP.Upstream.Address, "imap up tls": c.IMAP.Upstream.TLS,
		"imap name": c.IMAP.Upstream.ServerName, "timeout": c.SMTP.Upstream.Timeout, "zone": c.Regulation.TimeZone.String(),
		"sweep": c.Regulation.Dormancy.SweepAt.String(), "log": c.Log, "drain": c.DrainTimeout, "limits": c.Limits, "throttle": c.Throttle,
	}
	want := map[string]any{
		"profile": "binhphuoc", "hostname": host, "data_dir": "/var/lib/congthu", "store": "/var/lib/congthu/congthu.db", "pepper": "/var/lib/congthu/pepper.key",
		"socket":  "/var/lib/congthu/admin.sock",
		"imap":    []Listener{{":143", upstream.StartTLS}, {":993", upstream.Implicit}},
		"smtp":    []Listener{{":587", upstream.StartTLS}, {":465", upstream.Implicit}},
		"imap up": "127.0.0.1:10143", "imap up tls": upstream.Plain, "imap name": "127.0.0.1", "timeout": 30 * time.Second,
		"zone": "Asia/Ho_Chi_Minh", "sweep": "02:30", "log": Log{slog.LevelInfo, LogJSON}, "drain": 30 * time.Second,
		"limits":   Limits{20000, 2000, time.Minute, 3 * time.Minute, 10, 35 * time.Minute, 15 * time.Second},
		"throttle": Throttle{Enabled: true, Window: 10 * time.Minute, Accounts: 10, Failures: 100, Locks: 5, StrangersAfter: 30},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheDefaultsAreTheRegulation(t *testing.T) {
	inTestdata(t)
	for _, profile := range Profiles() {
		got := mustParse(t, five+"profile: "+profile+"\n").Rules()
		want := auth.DefaultRules()
		if got.Location.String() != "Asia/Ho_Chi_Minh" {
			t.Errorf("%s: time zone %v", profile, got.Location)
		}
		got.Location, want.Location = nil, nil
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(auth.Lockout{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", profile, diff)
		}
	}
}

// A figure that a profile repeats would make a decoy of auth.DefaultRules.
func TestAProfileWritesNoFigureThatHoldsWithoutIt(t *testing.T) {
	for _, profile := range Profiles() {
		data, err := profiles.ReadFile("profiles/" + profile + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		s := newSource(profile, data)
		c := builtIn()
		s.decode("", s.tree(), reflect.ValueOf(c).Elem())
		ours, theirs := reflect.ValueOf(builtIn().Regulation), reflect.ValueOf(c.Regulation)
		for i := range ours.NumField() {
			group := ours.Type().Field(i)
			if group.Type.Kind() != reflect.Struct {
				continue
			}
			for j := range group.Type.NumField() {
				path := "rules." + group.Tag.Get("yaml") + "." + group.Type.Field(j).Tag.Get("yaml")
				if !strings.HasSuffix(path, ".mode") && s.given(path) && reflect.DeepEqual(ours.Field(i).Field(j).Interface(), theirs.Field(i).Field(j).Interface()) {
					t.Errorf("%s: %s is what holds without it", profile, path)
				}
			}
		}
		if !s.given("rules.lockout.mode") {
			t.Errorf("%s: this test sees nothing", profile)
		}
	}
}

// The example documents every field there is, and says what the defaults are.
func TestTheCompleteExampleIsRightAndComplete(t *testing.T) {
	example, err := os.ReadFile("../../deploy/examples/congthu.yaml")
	if err != nil {
		t.Fatal(err)
	}
	minimal, err := os.ReadFile("../../deploy/examples/minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	inTestdata(t)
	c := mustParse(t, string(example))
	if len(c.Warnings) > 0 {
		t.Errorf("warnings: %s", Render(c.Warnings))
	}
	eachField(reflect.TypeFor[Config](), "", func(path string) {
		name := path[strings.LastIndexByte(path, '.')+1:]
		if !regexp.MustCompile(`(?m)[\s{]` + name + `:`).Match(append([]byte("\n"), example...)) {
			t.Errorf("`%s` is not in the example", path)
		}
	})

	short := mustParse(t, string(minimal))
	if lines := len(regexp.MustCompile(`(?m)^[^#\n]`).FindAll(minimal, -1)); lines != 5 {
		t.Errorf("the minimal example has %d lines, want 5", lines)
	}
	// What the example gives as defaults are the defaults. It differs from the
	// minimal file where it must show something.
	for _, part := range []struct{ full, short any }{
		{c.Store, short.Store}, {c.Throttle, short.Throttle}, {c.Limits, short.Limits}, {c.Admin, short.Admin}, {c.Metrics, short.Metrics},
		{c.Texts, short.Texts}, {c.Log, short.Log}, {c.DrainTimeout, short.DrainTimeout}, {c.ProxyProtocol.Timeout, short.ProxyProtocol.Timeout},
		{len(c.ProxyProtocol.From), len(short.ProxyProtocol.From)}, {len(c.TrustedForwarders), len(short.TrustedForwarders)}, {c.Names, short.Names}, {c.Rules().Lockout, short.Rules().Lockout},
		{c.Regulation.Dormancy, short.Regulation.Dormancy}, {c.Regulation.Password, short.Regulation.Password}, {c.IMAP.Listen, short.IMAP.Listen},
		{c.SMTP.Listen, short.SMTP.Listen}, {c.SMTP.MaxRecipients, short.SMTP.MaxRecipients}, {c.DataDir, short.DataDir}, {c.Profile, short.Profile},
	} {
		if diff := cmp.Diff(part.short, part.full, cmpopts.IgnoreUnexported(auth.Lockout{}), cmp.Transformer("empty", func(t []Token) int { return len(t) }),
			cmp.Transformer("none", func(n []KnownNetwork) string { return fmt.Sprint(n) }),
			cmp.Comparer(func(a, b auth.Secret) bool { return a == b })); diff != "" {
			t.Errorf("the example differs from the defaults (-default +example):\n%s", diff)
		}
	}
}

// installed.yaml is the complete example of the first version.
func TestAConfigurationOfTheFirstVersionIsStillRight(t *testing.T) {
	inTestdata(t)
	file, err := os.ReadFile("installed.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c := mustParse(t, string(file))
	if len(c.Warnings) > 0 {
		t.Errorf("warnings: %s", Render(c.Warnings))
	}
	if w := c.Rules().Lockout.CountRepeats; w != auth.AlwaysCountRepeats {
		t.Errorf("count_repeats: true is read as %v", w)
	}
}

func TestHowOftenTheSameWrongPasswordCounts(t *testing.T) {
	inTestdata(t)
	for text, want := range map[string]auth.RepeatWindow{
		"":       auth.RepeatWindow(3 * time.Minute),
		"always": auth.AlwaysCountRepeats,
		"true":   auth.AlwaysCountRepeats,
		"never":  auth.NeverCountRepeats,
		"false":  auth.NeverCountRepeats,
		"False":  auth.NeverCountRepeats,
		"0s":     auth.NeverCountRepeats,
		"90s":    auth.RepeatWindow(90 * time.Second),
		"24h":    auth.RepeatWindow(24 * time.Hour),
	} {
		yaml := strings.Replace(five, "rules: { ", "rules: { lockout: { count_repeats: "+text+" }, ", 1)
		if !strings.Contains(yaml, "count_repeats") {
			t.Fatal("the configuration has no rules")
		}
		if got := mustParse(t, yaml).Rules().Lockout.CountRepeats; got != want {
			t.Errorf("count_repeats: %s is read as %v, want %v", text, got, want)
		}
	}
}

func TestTheProvinceIsNamedInItsProfileOnly(t *testing.T) {
	province := regexp.MustCompile(`(?i)binhphuoc\.gov|binh ?phuoc province|0844|hotro@`)
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, "profiles/generic.yaml") {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if found := province.Find(data); found != nil {
			t.Errorf("%s has %q", file, found)
		}
	}
}

func TestAWrongPasswordAndAnUnknownAccountAreToldTheSame(t *testing.T) {
	inTestdata(t)
	c := mustParse(t, five+"texts: { wrong: 'khong dung / not right' }\n")
	for _, o := range []auth.Outcome{auth.WrongPassword, auth.PreviousPassword, auth.RepeatedPassword, auth.NoSuchDomain, auth.Malformed} {
		if got := c.Text(o); got != "khong dung / not right" {
			t.Errorf("%s: %q", o, got)
		}
	}
}

func TestEveryTextIsOneShortLineOfASCII(t *testing.T) {
	inTestdata(t)
	for _, profile := range Profiles() {
		c := mustParse(t, five+"profile: "+profile+"\n")
		texts := []string{c.AlertText(0), c.AlertText(1), c.AlertText(14)}
		for _, o := range auth.Outcomes() {
			texts = append(texts, c.Text(o))
		}
		for _, text := range texts {
			if text == "" || len(text) > longestText || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) || strings.ContainsAny(text, "{}") {
				t.Errorf("%s: %q", profile, text)
			}
		}
		if c.AlertText(0) == c.AlertText(1) || !strings.Contains(c.AlertText(3), "3 ") || !strings.Contains(c.Text(auth.Expired), "https://mail.congthu.test/password") {
			t.Errorf("%s: alert %q, expired %q", profile, c.AlertText(3), c.Text(auth.Expired))
		}
	}
	c := mustParse(t, five+"texts: { helpdesk: phong CNTT }\n")
	if got := c.Text(auth.Locked); !strings.Contains(got, "phong CNTT") || !strings.Contains(got, "qua 5 lan") {
		t.Errorf("the values are not put in: %q", got)
	}
}

func TestNamesAreReadInCanonicalForm(t *testing.T) {
	inTestdata(t)
	c := mustParse(t, strings.Replace(five, "domain: congthu.test", "domain: CongThu.Test.", 1)+`
domains: [Other.Test]
names: { subaddress: fold, master_separators: "*" }
aliases: { Office@CONGTHU.test: An@other.test }
delegations: { Office@congthu.test: [Binh@congthu.test] }
`)
	n := c.Namer()
	for login, want := range map[string]auth.Name{"AN": "an@congthu.test", "office": "an@other.test", "An+x@OTHER.test": "an@other.test"} {
		if got, err := n.Canonical(login); got != want || err != nil {
			t.Errorf("%s: got %q, %v; want %q", login, got, err, want)
		}
	}
	if diff := cmp.Diff(map[auth.Name][]auth.Name{"office@congthu.test": {"binh@congthu.test"}}, c.Delegations); diff != "" {
		t.Error(diff)
	}
	if got, err := n.Canonical("a%b"); err != nil {
		t.Errorf("a%%b: %q, %v: only the separators of the file are refused", got, err)
	}
}

func TestRelativePathsStartAtTheFile(t *testing.T) {
	inTestdata(t)
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "congthu.yaml")
	if err := os.WriteFile(path, []byte(five+"data_dir: state\nadmin: { socket: run/admin.sock }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir("/")
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for got, want := range map[string]string{
		c.TLS.Key: "key.pem", c.Store.Path: "state/congthu.db", c.Store.PepperFile: "state/pepper.key", c.Admin.Socket: "run/admin.sock",
	} {
		if got != filepath.Join(dir, want) {
			t.Errorf("got %s, want %s in %s", got, want, dir)
		}
	}
	if c.Certificate().NotAfter().IsZero() {
		t.Error("the certificate is not loaded")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) < 5 {
		t.Fatal(err)
	} else if _, err := os.Stat(filepath.Join(dir, "state")); !os.IsNotExist(err) {
		t.Error("reading a configuration has made a directory")
	}
}

func TestAFileThatCannotBeReadIsNoMistakeInIt(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{filepath.Join(dir, "missing.yaml"), dir, "/dev/zero"} {
		_, err := Load(path)
		var mistakes *Error
		if err == nil || errors.As(err, &mistakes) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	large := filepath.Join(dir, "large.yaml")
	if err := os.WriteFile(large, bytes.Repeat([]byte("#\n"), maxFile), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(large); err == nil || !strings.Contains(err.Error(), "1 MiB") {
		t.Error(err)
	}
}

// Support staff may use the socket without being allowed to read the keys.
func TestPeekFindsTheSocketInAFileThatIsNotRight(t *testing.T) {
	path := filepath.Join(t.TempDir(), "congthu.yaml")
	if err := os.WriteFile(path, []byte("domain: congthu.test\nunknown: 1\ntls: { key: /nonexistent }\ndata_dir: /srv/congthu\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Peek(path)
	if err != nil || c.Admin.Socket != "/srv/congthu/admin.sock" || c.Regulation.TimeZone.String() != "Asia/Ho_Chi_Minh" {
		t.Fatalf("%v, %v", c, err)
	}
	if err := os.WriteFile(path, []byte("domain: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Peek(path); err == nil {
		t.Error("a file that is not YAML was taken")
	}
}

func TestATokenInAFileHasItsSum(t *testing.T) {
	inTestdata(t)
	c := mustParse(t, five+"admin: { listen: '127.0.0.1:8080', tokens: [{ name: A, token_file: token, scopes: [read, grace] }] }\n")
	if got, want := c.Admin.Tokens[0].SHA256, sum([]byte("3q2+7wAAEiM0RVZneImaq7zN3u8")); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestASingleMistakeFitsInOneLineOfALog(t *testing.T) {
	_, err := parse("x.yaml", []byte("domain: [\n"), now)
	if err == nil || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "x.yaml:1:9: ") {
		t.Errorf("%q", err)
	}
	_, err = parse("x.yaml", nil, now)
	if err == nil || strings.Contains(err.Error(), "\n") || !strings.HasSuffix(err.Error(), "more mistakes)") {
		t.Errorf("%q", err)
	}
}

func TestTheSweepComesOnceADay(t *testing.T) {
	zone := mustZone(t, "Asia/Ho_Chi_Minh")
	at := TimeOfDay{2, 30}
	for from, want := range map[string]string{
		"2026-11-20 02:29": "2026-11-20 02:30", "2026-11-20 02:30": "2026-11-21 02:30", "2026-12-31 23:00": "2027-01-01 02:30",
	} {
		now, err := time.ParseInLocation("2006-01-02 15:04", from, zone)
		if err != nil {
			t.Fatal(err)
		}
		if got := at.Next(now.UTC(), zone).Format("2006-01-02 15:04"); got != want {
			t.Errorf("after %s: got %s, want %s", from, got, want)
		}
	}
}

func mustZone(t *testing.T, name string) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// handshake runs a TLS handshake and returns what the client thought of it and
// the certificate that it saw.
func handshake(t *testing.T, server, client *tls.Config) (*x509.Certificate, error) {
	t.Helper()
	// A real socket has buffers: over a pipe, two alerts wait for each other.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		_ = tls.Server(conn, server).Handshake() // the client's opinion is what counts
		conn.Close()
	}()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := tls.Client(conn, client)
	err = c.Handshake()
	conn.Close()
	<-done
	if err != nil {
		return nil, err
	}
	return c.ConnectionState().PeerCertificates[0], nil
}

func spki(t *testing.T, file string) SHA256 {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(file+"cert.pem", file+"key.pem")
	if err != nil {
		t.Fatal(err)
	}
	return sum(pair.Leaf.RawSubjectPublicKeyInfo)
}

func TestTheMailServerIsVerifiedAndPinned(t *testing.T) {
	inTestdata(t)
	own, other := spki(t, ""), spki(t, "other-")
	for name, c := range map[string]struct {
		fields string
		want   string
	}{
		"its own authority":         {"ca_file: cert.pem", ""},
		"the system's authorities":  {"", "certificate"},
		"another authority":         {"ca_file: other-cert.pem", "certificate"},
		"the right pin":             {"ca_file: cert.pem, pin_sha256: [" + other.String() + ", " + own.String() + "]", ""},
		"the wrong pin":             {"ca_file: cert.pem, pin_sha256: [" + other.String() + "]", "pin_sha256"},
		"a pin is no verification":  {"ca_file: other-cert.pem, pin_sha256: [" + own.String() + "]", "certificate"},
		"another name":              {"ca_file: cert.pem, server_name: other.congthu.test", "other.congthu.test"},
		"the name of an expired CA": {"ca_file: expired-cert.pem", "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			conf := mustParse(t, strings.Replace(five, "127.0.0.1:10143", "{ address: 'mail.congthu.test:143', pass_client: id, login_name: local, wrong: ['^NO x'], "+c.fields+" }", 1))
			server, err := conf.IMAPUpstream()
			if err != nil {
				t.Fatal(err)
			}
			if server.TLS != upstream.StartTLS || server.PassClient != upstream.PassID || !server.LocalNames || server.Timeout != 30*time.Second || len(server.CredentialPatterns) != 1 {
				t.Errorf("%+v", server)
			}
			_, err = handshake(t, conf.TLSConfig(), server.TLSConfig)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want an error about %s", err, c.want)
			}
		})
	}
	plain, err := mustParse(t, five).SMTPUpstream()
	if err != nil || plain.TLSConfig != nil || plain.TLS != upstream.Plain {
		t.Errorf("%+v, %v", plain, err)
	}
}

func TestTheServerIsToldTheClientTheWayThatIsWritten(t *testing.T) {
	inTestdata(t)
	for written, want := range map[string]upstream.PassClient{
		"": upstream.PassNone, "pass_client: none": upstream.PassNone, "pass_client: id": upstream.PassID, "pass_client: proxy": upstream.PassPROXY,
	} {
		server, err := mustParse(t, strings.Replace(five, "127.0.0.1:10143", "{ address: '127.0.0.1:10143', "+written+" }", 1)).IMAPUpstream()
		if err != nil || server.PassClient != want {
			t.Errorf("%q: %v, %v", written, server, err)
		}
	}
}

func TestAListenerShowsTheCertificateOfTheLatestReload(t *testing.T) {
	inTestdata(t)
	before := mustParse(t, five)
	listener := before.TLSConfig()
	if listener.MinVersion != tls.VersionTLS12 {
		t.Errorf("minimum version %x", listener.MinVersion)
	}
	client := &tls.Config{InsecureSkipVerify: true} // the test looks at the certificate itself
	seen, err := handshake(t, listener, client)
	if err != nil || sum(seen.RawSubjectPublicKeyInfo) != spki(t, "") {
		t.Fatal("another certificate", err)
	}
	after := mustParse(t, strings.Replace(five, "certificate: cert.pem, key: key.pem", "certificate: other-cert.pem, key: other-key.pem", 1))
	before.Certificate().Replace(after.Certificate())
	seen, err = handshake(t, listener, client)
	if err != nil || sum(seen.RawSubjectPublicKeyInfo) != spki(t, "other-") {
		t.Fatal("the old certificate", err)
	}
	if before.AdminCertificate() != nil {
		t.Error("an admin certificate out of nothing")
	}
}

func TestAKeyThatEverybodyMayReadIsDoubted(t *testing.T) {
	inTestdata(t)
	if err := os.Chmod("key.pem", 0o644); err != nil {
		t.Fatal(err)
	}
	c := mustParse(t, five)
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0].Fix, "chmod o-rwx key.pem") {
		t.Errorf("%s", Render(c.Warnings))
	}
}

func TestAConnectionStringIsNeverShown(t *testing.T) {
	inTestdata(t)
	c := mustParse(t, five+"store: { driver: postgres, postgres: { dsn_file: dsn } }\n")
	if got := c.Store.Postgres.DSN.Reveal(); got != "postgres://congthu:hunter2@db.congthu.test/congthu?sslmode=verify-full" {
		t.Errorf("the file's first line is not what is used: %q", got)
	}
	if text := fmt.Sprintf("%v %+v %#v", c, *c, c.Store); strings.Contains(text, "hunter2") {
		t.Error("a printed configuration shows the password of the database")
	}
}

func TestTheDrainIsShortWhereClientsWaitForItsEnd(t *testing.T) {
	inTestdata(t)
	for text, want := range map[string][2]time.Duration{
		"":                     {30 * time.Second, 5 * time.Second},
		"drain_timeout: 30s\n": {30 * time.Second, 30 * time.Second},
		"drain_timeout: 0s\n":  {0, 0},
	} {
		c := mustParse(t, five+text)
		if got := [2]time.Duration{c.Drain(false), c.Drain(true)}; got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
