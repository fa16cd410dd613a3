package gateway

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"congthu/auth"
	"congthu/auth/postgres"
	"congthu/auth/postgres/pgtest"
	"congthu/auth/sqlite"
	"congthu/gateway/mailtest"
	"congthu/gateway/smtp"
	"congthu/metrics"
)

// counted are the real metrics, and what the fake ones take of the rest.
type counted struct {
	*counts
	real   *metrics.Metrics
	panics atomic.Int64
}

func (c *counted) RecordAttempt(a auth.Attempt, v auth.Verdict) { c.real.RecordAttempt(a, v) }
func (c *counted) RecordEvent(e auth.Event, known bool)         { c.real.RecordEvent(e, known) }
func (c *counted) Opened(p auth.Protocol)                       { c.real.Opened(p) }
func (c *counted) Closed(p auth.Protocol)                       { c.real.Closed(p) }
func (c *counted) RecordHandshake(p auth.Protocol, err error)   { c.real.RecordHandshake(p, err) }
func (c *counted) Relayed(p auth.Protocol, in, out int64)       { c.real.Relayed(p, in, out) }
func (c *counted) Submitted(r smtp.Result)                      { c.real.Submitted(metrics.Submission(r.String())) }
func (c *counted) Panicked(auth.Protocol)                       { c.panics.Add(1) }
func (c *counted) AdminPanicked()                               { c.panics.Add(1) }

// alarms keeps the lines of the log that tell of a mistake in the program, which a
// client must not be able to cause.
type alarms struct {
	slog.Handler
	told chan string
}

func (a alarms) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError || strings.Contains(r.Message, "panic") {
		text := r.Message
		r.Attrs(func(attr slog.Attr) bool { text += fmt.Sprintf(" %s=%v", attr.Key, attr.Value); return true })
		select {
		case a.told <- text:
		default:
		}
	}
	return a.Handler.Handle(ctx, r) // whoever writes the lines may panic as well
}

func (a alarms) WithAttrs(attrs []slog.Attr) slog.Handler {
	return alarms{a.Handler.WithAttrs(attrs), a.told}
}
func (a alarms) WithGroup(name string) slog.Handler { return alarms{a.Handler.WithGroup(name), a.told} }

// The protocols, in the order of a house's doors.
const (
	spokenIMAP = iota
	spokenSMTP
	spokenPOP3
	spoken // how many there are
)

// house is a gateway with all that one has: six doors, the log, the metrics, and
// a store on a disk.
type house struct {
	*office
	store   Store
	counted *counted
	alarms  alarms
	pop3    mailtest.POP3
	doors   [2 * spoken]string // the addresses of the protocols in clear text, then with TLS
}

func newHouse(t testing.TB, open func(testing.TB, *slog.Logger) (Store, func() error)) *house {
	t.Helper()
	h := &house{office: newOffice(t)}
	h.alarms = alarms{slog.NewJSONHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelDebug}), make(chan string, 16)}
	store, shut := open(t, slog.New(h.alarms))
	t.Cleanup(func() {
		if err := shut(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	h.store = store
	h.counted = &counted{counts: h.office.counts, real: metrics.New(prometheus.NewRegistry(), metrics.Build{})}
	h.gateway.Store, h.gateway.Metrics, h.gateway.Log = h.store, h.counted, slog.New(h.alarms)
	pop3 := h.addPOP3(t, &h.pop3)
	h.doors = [2 * spoken]string{freeAddress(t), freeAddress(t), freeAddress(t), h.address, h.submit, pop3}
	for i, address := range h.doors[spoken:] {
		clear := fmt.Sprintf("listen: [ { address: %q, tls: starttls }, { address: %q, tls: implicit } ]", h.doors[i], address)
		h.settings = strings.Replace(h.settings, fmt.Sprintf("listen: [ { address: %q, tls: implicit } ]", address), clear, 1)
	}
	// Whoever has guessed too much would hear nothing else any more.
	h.write("throttle: { enabled: false }\nlimits: { connections_per_source: 1000 }\n")
	h.open()
	return h
}

func onSQLite(t testing.TB, log *slog.Logger) (Store, func() error) {
	t.Helper()
	s, err := sqlite.Open(context.Background(), sqlite.Options{Path: filepath.Join(t.TempDir(), "congthu.db"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return s, s.Close
}

func onPostgres(t testing.TB, log *slog.Logger) (Store, func() error) {
	t.Helper()
	s, err := postgres.Open(context.Background(), postgres.Options{DSN: pgtest.Start(t, pgtest.Options{}).Database(t), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return s, s.Close
}

// kinds are how a door can be come to: in clear text, with TLS, and with TLS that a
// command has begun.
const kinds = 3 * spoken

// visit says something at a door, in pieces, and reads until the end.
func (h *house) visit(t testing.TB, door, pieces uint8, said []byte) {
	t.Helper()
	// A lock by the one before would hide what comes behind a login.
	if a, err := h.store.Account(context.Background(), lan); err != nil {
		t.Fatal(err)
	} else if a.Lock.Cause != auth.NotLocked {
		if _, err := h.gateway.guard.Unlock(context.Background(), lan, auth.Act{Actor: "A", Reason: "the next visitor"}); err != nil {
			t.Fatal(err)
		}
	}
	kind := int(door) % kinds
	conn, err := net.Dial("tcp", h.doors[kind%len(h.doors)])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if kind >= len(h.doors) {
		starttls(t, conn, kind%spoken)
	}
	var speak interface {
		io.ReadWriter
		CloseWrite() error
	} = conn.(*net.TCPConn)
	if kind >= spoken {
		secured := tls.Client(conn, &tls.Config{RootCAs: h.roots, ServerName: "127.0.0.1"})
		if err := secured.Handshake(); err != nil {
			t.Fatal(err)
		}
		speak = secured
	}
	heard := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, speak)
		heard <- err
	}()
	for size := int(pieces) + 1; len(said) > 0; {
		n := len(said)
		if pieces > 0 {
			n = min(n, size*16)
		}
		if _, err := speak.Write(said[:n]); err != nil {
			break // it has heard enough
		}
		said = said[n:]
	}
	speak.CloseWrite()
	if err := <-heard; err != nil {
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			t.Errorf("the connection does not end")
		}
	}
	select {
	case text := <-h.alarms.told:
		t.Errorf("the log tells of a mistake: %s", text)
	default:
	}
	if n := h.counted.panics.Load(); n != 0 {
		t.Fatalf("%d panics were caught", n)
	}
}

// starttls goes as far as the handshake.
func starttls(t testing.TB, conn net.Conn, protocol int) {
	t.Helper()
	hear := func(end string) {
		t.Helper()
		var line []byte
		for octet := make([]byte, 1); !strings.HasSuffix(string(line), "\n") || !strings.Contains(string(line), end); {
			if _, err := conn.Read(octet); err != nil {
				t.Fatalf("%v after %q", err, line)
			}
			line = append(line, octet[0])
		}
	}
	begin := [spoken]struct{ greeting, command, ready string }{
		spokenIMAP: {"* OK ", "s STARTTLS", "s OK "},
		spokenSMTP: {"220 ", "STARTTLS", "220 "},
		spokenPOP3: {"+OK ", "STLS", "+OK"},
	}[protocol]
	hear(begin.greeting)
	io.WriteString(conn, begin.command+"\r\n")
	hear(begin.ready)
}

// aVisit is what is said at a door.
type aVisit struct {
	door, pieces uint8
	said         string
}

// visits are what the doors are tried with first.
func visits() (all []aVisit) {
	for i, said := range sayings() {
		protocol := spokenIMAP
		switch word, _, _ := strings.Cut(said, " "); word {
		case "EHLO":
			protocol = spokenSMTP
		case "USER", "PASS", "AUTH", "APOP", "CAPA":
			protocol = spokenPOP3
		}
		for door := range uint8(kinds) {
			if int(door)%spoken != protocol && i%16 > 0 {
				continue // the other protocols' doors: few of them
			}
			all = append(all, aVisit{door, uint8(i % 3), said})
		}
	}
	return all
}

func sayings() (said []string) {
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	names := []string{"lan", "LAN@EXAMPLE.VN", "nobody", latin, "l\x00n", "a b", "lan*admin", "lan@elsewhere.vn", "nguy\u1ec5n", "\u212aelvin", "@", "***", `"`, strings.Repeat("a", 400)}
	passwords := []string{"Mat-khau-1", "x", "", "\xff", strings.Repeat("p", 1025), "a\x00b"}
	for i, name := range names {
		for _, password := range passwords[i%2:] {
			said = append(said,
				fmt.Sprintf("a LOGIN {%d+}\r\n%s {%d+}\r\n%s\r\nb LOGOUT\r\nc LOGIN lan Mat-khau-1\r\nd NOOP\r\n", len(name), name, len(password), password),
				"a AUTHENTICATE PLAIN "+encode("\x00"+name+"\x00"+password)+"\r\nb NOOP\r\n",
				"a AUTHENTICATE LOGIN\r\n"+encode(name)+"\r\n"+encode(password)+"\r\nb LOGOUT\r\nb LOGOUT\r\n",
				"EHLO x\r\nAUTH PLAIN "+encode("\x00"+name+"\x00"+password)+"\r\nMAIL FROM:<lan@example.vn>\r\nQUIT\r\nMAIL FROM:<a@a.test>\r\n",
				"EHLO x\r\nAUTH LOGIN\r\n"+encode(name)+"\r\n"+encode(password)+"\r\nQUIT\r\nAUTH LOGIN\r\n",
				"USER "+name+"\r\nPASS "+password+"\r\nSTAT\r\nQUIT\r\nUSER lan\r\n",
				"AUTH PLAIN "+encode("\x00"+name+"\x00"+password)+"\r\nLIST\r\n",
				"AUTH LOGIN "+encode(name)+"\r\n"+encode(password)+"\r\nECHO\r\n\xff\x00")
		}
	}
	login := "EHLO x\r\nAUTH PLAIN " + encode("\x00lan\x00Mat-khau-1") + "\r\n"
	return append(said,
		`a LOGIN "ng`+"\xfd"+`y" "x"`+"\r\n", "a LOGOUT\r\nb LOGIN lan x\r\n", "a STARTTLS\r\nb LOGIN lan x\r\n", "a ID (\"n\" {3+}\r\n\xfd\xfd\xfd)\r\nb LOGIN lan Mat-khau-1\r\nc NOOP\r\nd LOGOUT\r\ne NOOP\r\n",
		"a LOGIN \"lan\" \"Mat-khau-1\"\r\nb IDLE\r\nDONE\r\nc ECHO\r\n\xff\x00\r\n", strings.Repeat("x\r\n", 20), strings.Repeat("a LOGIN lan x\r\n", 12),
		"EHLO x\r\nQUIT\r\nMAIL FROM:<a@a.test>\r\n", "QUIT\r\nQUIT\r\n", "EHLO x\r\nSTARTTLS\r\nAUTH PLAIN AGEAYg==\r\n", "EHLO \xfd\r\nMAIL FROM:<\xfd@a.test>\r\n",
		login+"MAIL FROM:<lan@example.vn> SIZE=99999999999999999999\r\nRCPT TO:<b@example.vn>\r\nDATA\r\nFrom: lan@example.vn\r\n\r\nx\r\n.\r\nQUIT\r\nRSET\r\n",
		login+"MAIL FROM:<lan@example.vn> BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<b@example.vn> NOTIFY=NEVER ORCPT=rfc822;b\r\nBDAT 3\r\nabcBDAT 0 LAST\r\nQUIT\r\nBDAT 3 LAST\r\nabc",
		login+"MAIL FROM:<lan@example.vn>\r\nRCPT TO:<b@example.vn>\r\nBDAT 99999 LAST\r\nabc", login+"BDAT 3 LAST\r\nabcDATA\r\n.\r\nNOOP\r\n", login+login+"RSET\r\nVRFY lan\r\nHELP\r\n",
		login+"MAIL FROM:<>\r\nRCPT TO:<b@example.vn>\r\nDATA\r\nFrom: =?utf-8?q?l?= <lan@example.vn>\r\nSender: \xfd\r\nTo: @\r\n\r\n.\n.\r\n\r\n.\r\n", login+"QUIT\r\n"+login,
		"USER lan\r\nPASS Mat-khau-1\r\nECHO\r\n\xff\x00\r\n", "CAPA \r\nSTLS\r\nUSER lan\r\nPASS Mat-khau-1\r\n", "AUTH PLAIN\r\n*\r\nAUTH\r\nAUTH X\r\nPASS x\r\n",
		"AUTH PLAIN\r\n"+strings.Repeat("A", 13_000)+"\r\n", "APOP lan 0123456789abcdef0123456789abcdef\r\nQUIT\r\nCAPA\r\n", strings.Repeat("USER lan\r\nPASS x\r\n", 12), "USER \xfd\r\nPASS \xfd\r\nUSER\r\nPASS\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "")
}

// FuzzDoors says any octets at any door of a whole gateway, in clear text and under
// TLS, in one piece and in many. Whatever is said, nothing panics, also where a panic
// would be caught and counted, the log tells of no mistake in the program, and the
// connection ends when its client has gone.
func FuzzDoors(f *testing.F) {
	h := newHouse(f, onSQLite)
	for _, v := range visits() {
		f.Add(v.door, v.pieces, []byte(v.said))
	}
	f.Fuzz(func(t *testing.T, door, pieces uint8, said []byte) { h.visit(t, door, pieces, said) })
}

// found are the visits that fuzzing has found, in the format of package testing:
// two octets and a text.
func found(t *testing.T) (all []aVisit) {
	t.Helper()
	files, err := filepath.Glob("testdata/fuzz/FuzzDoors/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var v aVisit
		lines := strings.Split(string(text), "\n")
		if len(lines) < 4 {
			t.Fatalf("%s has %d lines", file, len(lines))
		}
		for i, octet := range []*uint8{&v.door, &v.pieces} {
			r, _, _, err := strconv.UnquoteChar(strings.TrimSuffix(strings.TrimPrefix(lines[i+1], "byte('"), "')"), '\'')
			if err != nil {
				t.Fatalf("%s: %q: %v", file, lines[i+1], err)
			}
			*octet = uint8(r)
		}
		if v.said, err = strconv.Unquote(strings.TrimSuffix(strings.TrimPrefix(lines[3], "[]byte("), ")")); err != nil {
			t.Fatalf("%s: %q: %v", file, lines[3], err)
		}
		all = append(all, v)
	}
	return all
}

// The same on PostgreSQL, with what fuzzing has found.
func TestTheDoorsOnPostgres(t *testing.T) {
	h := newHouse(t, onPostgres)
	for _, v := range append(visits(), found(t)...) {
		h.visit(t, v.door, v.pieces, []byte(v.said))
		if t.Failed() {
			t.Fatalf("door %d, pieces %d: %q", v.door, v.pieces, v.said)
		}
	}
	for name, v := range map[string]mailtest.Verdicts{"IMAP": h.imap.Verdicts(lan), "SMTP": h.smtp.Verdicts(lan), "POP3": h.pop3.Verdicts(lan)} {
		if v.Right == 0 || v.Wrong == 0 {
			t.Errorf("the visitors have shown the mail server %+v passwords over %s: no door was open", v, name)
		}
	}
}
