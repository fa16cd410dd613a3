package realtest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// pythonTries logs in with Python and returns the code of the reply and all of
// it.
func pythonTries(t *testing.T, door Door, from, how, user, password, authorize string) (string, string) {
	t.Helper()
	o := pythonOutput(t, "login.py", door, user, password, map[string]any{"door": how, "authorize": authorize, "from": from})
	var answer struct{ Code, Text string }
	if err := json.Unmarshal([]byte(o.Stdout), &answer); err != nil {
		t.Fatalf("login.py: %v\n%s\n%s", err, o.Stdout, o.Stderr)
	}
	reply := answer.Code + " " + answer.Text
	// Python 3.11 prints some replies as the bytes they came as.
	reply = strings.Replace(reply, "NO [b'", "NO [", 1)
	return code(reply), reply
}

// curlTries does the same with curl, which tells what the server said with -v.
func curlTries(t *testing.T, door Door, from, scheme, user, password, authorize string) (string, string) {
	t.Helper()
	argv := curl(t, door, scheme, user, "")
	argv = append(argv, "-v", "--interface", from, "--user", user+":"+password)
	if authorize != "" {
		argv = append(argv, "--sasl-authzid", authorize, "--login-options", "AUTH=PLAIN")
	}
	if strings.HasPrefix(scheme, "smtp") {
		argv = append(argv, "-X", "NOOP")
	}
	o := Command(t, "", nil, argv...)
	var reply string
	for line := range strings.Lines(o.Stderr) {
		said, ours := strings.CutPrefix(strings.TrimSpace(line), "< ")
		if !ours {
			continue
		}
		if tag, rest, _ := strings.Cut(said, " "); strings.HasPrefix(scheme, "imap") && strings.HasPrefix(tag, "A") {
			if strings.HasPrefix(rest, "NO ") || strings.HasPrefix(rest, "OK [CAPABILITY") || strings.HasPrefix(rest, "BAD ") {
				reply = rest
			}
		} else if strings.HasPrefix(scheme, "smtp") && (strings.HasPrefix(said, "235 ") || said >= "400" && said < "600") && !strings.HasPrefix(reply, "235") {
			reply = said
		}
	}
	if (o.Code == 0) != (accepted(reply) || strings.HasPrefix(reply, "235")) {
		t.Errorf("curl took %q for exit code %d\n%s", reply, o.Code, o.Stderr)
	}
	return code(reply), reply
}

// program is a way in which a mail program logs in.
type program struct {
	name string
	smtp bool
	try  func(t *testing.T, user string) (code, reply string)
}

// programs are those that each row of the reply table is tried with. from gives
// the address that they come from.
func programs(door Door, from func() string, password, authorize string) []program {
	inPython := func(how, plain string) func(t *testing.T, user string) (string, string) {
		if authorize != "" {
			how = plain // says who it is, which the program's own way does not
		}
		return func(t *testing.T, user string) (string, string) {
			return pythonTries(t, door, from(), how, user, password, authorize)
		}
	}
	inCurl := func(scheme string) func(t *testing.T, user string) (string, string) {
		return func(t *testing.T, user string) (string, string) {
			return curlTries(t, door, from(), scheme, user, password, authorize)
		}
	}
	return []program{
		{"imaplib LOGIN", false, inPython("imaps", "imap-plain")},
		{"smtplib", true, inPython("smtps", "smtp-plain")},
		{"curl imaps", false, inCurl("imaps")},
		{"curl imap", false, inCurl("imap")},
		{"curl smtps", true, inCurl("smtps")},
		{"curl smtp", true, inCurl("smtp")},
	}
}

// Every row of the reply table, through programs that people use.
func TestEveryReplyReachesPythonAndCurl(t *testing.T) {
	t.Parallel()
	g := Congthu(t)
	// The doors behind which something is broken.
	down := OwnDovecot(t)
	downToo := OwnPostfix(t, down)
	broken := OwnCongthu(t, Setup{Dovecot: down, Postfix: downToo})
	down.Stop()
	downToo.Stop()
	strict := OwnCongthu(t, Setup{Extra: "throttle: { accounts: 2, failures: 4 }"})
	const suspect = "127.0.6.1"
	for range 2 {
		if got := tryIMAP(t, strict.Door(), suspect, Dovecot(t).Account(t), "wrong"); got != imapWrong {
			t.Fatal(got)
		}
	}

	fresh := func(t *testing.T) string { return Dovecot(t).Account(t) }
	locked := func(t *testing.T) string {
		user := fresh(t)
		lockOut(t, g.Door(), user)
		return user
	}
	Eventually(t, "submission to greet with the outage", func() bool {
		return trySMTP(t, broken.Door(), "", "anybody@"+Domain, Password) == smtpAway
	})
	for _, row := range []struct {
		name       string
		door       Door
		from       string
		user       func(*testing.T) string
		password   string
		authorize  string
		imap, smtp string
		judged     bool // the mail server was asked
		text       string
	}{
		{name: "accepted", user: fresh, password: Password, imap: "OK [CAPABILITY]", smtp: smtpAccepted, judged: true},
		{name: "wrong password", user: fresh, password: "sai", imap: imapWrong, smtp: smtpWrong, judged: true},
		{name: "unknown account", user: func(t *testing.T) string { return strings.Replace(fresh(t), "u", "nobody", 1) }, password: "sai", imap: imapWrong, smtp: smtpWrong, judged: true},
		{name: "domain not served here", user: func(t *testing.T) string { return strings.Replace(fresh(t), Domain, "example.com", 1) }, password: Password, imap: imapWrong, smtp: smtpWrong},
		{name: "locked", user: locked, password: Password, imap: imapLocked, smtp: smtpLocked, text: "hotro@"},
		{name: "other identity", user: fresh, password: Password, authorize: AliasOf, imap: "NO [AUTHORIZATIONFAILED]", smtp: smtpWrong},
		{name: "master user", user: func(t *testing.T) string { return strings.Replace(fresh(t), "@", "*"+"admin@", 1) }, password: Password, imap: "NO [AUTHORIZATIONFAILED]", smtp: smtpWrong},
		{name: "too many from this source", door: strict.Door(), from: suspect, user: fresh, password: Password, imap: imapLater, smtp: smtpLater},
		{name: "mail server down", door: broken.Door(), user: fresh, password: Password, imap: imapLater, smtp: smtpAway, text: "Temporarily unavailable"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if row.door.Name == "" {
				row.door = g.Door()
			}
			from := func() string {
				if row.from != "" {
					return row.from
				}
				return FreshAddress()
			}
			for _, program := range programs(row.door, from, row.password, row.authorize) {
				want := row.imap
				if program.smtp {
					want = row.smtp
				}
				user := row.user(t)
				before := Dovecot(t).Judged(user)
				got, reply := program.try(t, user)
				if got != want {
					t.Errorf("%s: %q, want %s", program.name, reply, want)
				}
				if !strings.Contains(reply, row.text) {
					t.Errorf("%s: %q does not say %q", program.name, reply, row.text)
				}
				if asked := Dovecot(t).Judged(user) > before; asked != row.judged {
					t.Errorf("%s: the mail server was asked: %v, want %v", program.name, asked, row.judged)
				}
			}
		})
	}
}

// dam stands before an IMAP server without TLS and holds what it says to those
// who log in, until it is opened.
type dam struct {
	port int
	held atomic.Int64 // verdicts
	open func()
}

func newDam(t *testing.T, port int) *dam {
	t.Helper()
	d := &dam{port: freePort(t)}
	l, err := net.Listen("tcp", addr(d.port))
	if err != nil {
		t.Fatal(err)
	}
	opened := make(chan struct{})
	d.open = sync.OnceFunc(func() { close(opened) })
	t.Cleanup(func() { d.open(); l.Close() })
	flow := func(near, far net.Conn) {
		defer near.Close()
		defer far.Close()
		var login atomic.Bool
		go func() {
			defer near.Close()
			defer far.Close()
			said := bufio.NewReader(near)
			for {
				line, err := said.ReadString('\n')
				if strings.Contains(line, " AUTHENTICATE ") || strings.Contains(line, " LOGIN ") {
					login.Store(true)
				}
				if _, broken := io.WriteString(far, line); err != nil || broken != nil {
					return
				}
			}
		}()
		answer := make([]byte, 32<<10)
		for {
			n, err := far.Read(answer)
			if n > 0 && login.Load() {
				d.held.Add(1)
				<-opened
			}
			if _, broken := near.Write(answer[:n]); err != nil || broken != nil {
				return
			}
		}
	}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := tryDial(port)
			if err != nil {
				near.Close()
				continue
			}
			go flow(near, far)
		}
	}()
	return d
}

// The row "slots busy too long": six passwords of the account are being judged, and any
// of them could be the sixth wrong one. A further client waits for a time and then
// receives "try again later"; its attempt is not counted and the mail server does not
// judge it.
func TestWhoWaitsTooLongForASlotIsToldToComeAgain(t *testing.T) {
	t.Parallel()
	dam, user := newDam(t, Dovecot(t).IMAP), Dovecot(t).Account(t)
	g := Configured(t, Setup{Limits: "  patience: 1s\n  login_timeout: 10m\n  login_total: 10m"})
	straight := regexp.MustCompile(`upstream: \{ address: "[^"]*", tls: starttls, .*pass_client: id \}`)
	config := readFrom(g.Config, 0)
	if !straight.MatchString(config) {
		t.Fatal(config)
	}
	writeFile(t, g.Config, straight.ReplaceAllString(config, fmt.Sprintf("upstream: { address: %q, tls: none, pass_client: id, timeout: 10m }", addr(dam.port))), 0o600)
	g.Start(t)
	t.Cleanup(func() { g.Process.Kill() })

	var held []*Dialogue
	for i := range 6 {
		password := Password
		if i < 5 {
			password = fmt.Sprint("wrong ", i)
		}
		c := g.Door().DialIMAP(t, "")
		c.Say("a LOGIN " + quoted(user) + " " + quoted(password) + "\r\n")
		held = append(held, c)
	}
	// Dovecot answers ID before it looks a password up, and writes that down later.
	lookedUp := regexp.MustCompile(`passwd-file\(` + regexp.QuoteMeta(user) + `,[^)]*\): Finished passdb lookup`)
	Eventually(t, "six verdicts to be under way", func() bool {
		return dam.held.Load() == 6 && len(lookedUp.FindAllString(readFrom(Dovecot(t).Log, 0), -1)) == 6
	})
	before := Dovecot(t).Judged(user)
	for _, password := range []string{"sai", Password} {
		for _, program := range programs(g.Door(), FreshAddress, password, "") {
			want := imapLater
			if program.smtp {
				want = smtpLater
			}
			if got, reply := program.try(t, user); got != want || !strings.Contains(reply, "thu lai sau") {
				t.Errorf("%s: %q, want %s", program.name, reply, want)
			}
		}
	}
	if n := Dovecot(t).Judged(user) - before; n != 0 {
		t.Errorf("the mail server was asked %d more times", n)
	}
	if _, metrics := Get(t, g.URL("/metrics")); !regexp.MustCompile(`(?m)^congthu_login_attempts_total\{.*outcome="busy".*\} [1-9]`).MatchString(metrics) {
		t.Error("no metric tells of them")
	}

	// Had one more been counted, the account would be locked, and the right
	// password, whose turn came before, refused.
	dam.open()
	for i, c := range held {
		got := code(strings.TrimPrefix(c.Tagged("a")[0], "a "))
		if want := imapWrong; i < 5 && got != want || i == 5 && !accepted(got) {
			t.Errorf("verdict %d: %s", i+1, got)
		}
	}
	if got := tryIMAP(t, g.Door(), "", user, Password); !accepted(got) {
		t.Errorf("afterwards: %s", got)
	}
}

// The row "too many from this source": a stranger at one address cannot lock the owners
// of many accounts out.
func TestASourceThatGuessesAtManyAccountsMovesNoMoreCounters(t *testing.T) {
	t.Parallel()
	g := OwnCongthu(t, Setup{Extra: "throttle: { accounts: 2, failures: 100 }"})
	door, owner := g.Door(), Dovecot(t).Account(t)
	if got := tryIMAP(t, door, "", owner, Password); !accepted(got) {
		t.Fatal(got)
	}
	const stranger = "127.0.7.1"
	for range 2 {
		if got := tryIMAP(t, door, stranger, Dovecot(t).Account(t), "wrong"); got != imapWrong {
			t.Fatal(got)
		}
	}
	before := Dovecot(t).Judged(owner)
	for i := range 7 {
		if got := tryIMAP(t, door, stranger, owner, fmt.Sprint("guess ", i)); got != imapLater {
			t.Errorf("IMAP, guess %d: %s", i+1, got)
		}
		if got := trySMTP(t, door, stranger, owner, fmt.Sprint("guess ", i)); got != smtpLater {
			t.Errorf("submission, guess %d: %s", i+1, got)
		}
	}
	if n := Dovecot(t).Judged(owner) - before; n != 0 {
		t.Errorf("the mail server was asked %d times", n)
	}
	if failures := g.Failures(t, owner); failures != 0 {
		t.Errorf("%d failures were counted", failures)
	}
	if _, events := g.API(t, http.MethodGet, "/events?account="+owner, ""); strings.Contains(events, "password.wrong") {
		t.Errorf("the audit log: %s", events)
	}
	if got := tryIMAP(t, door, "", owner, Password); !accepted(got) {
		t.Errorf("the owner: %s", got)
	}
	if got := trySMTP(t, door, "", owner, Password); got != smtpAccepted {
		t.Errorf("the owner, submission: %s", got)
	}
}

// Passwords offered without TLS are refused unread: the mail server is not
// asked and nothing is counted.
func TestNobodyLogsInWithoutTLS(t *testing.T) {
	t.Parallel()
	g, user := Congthu(t), Dovecot(t).Account(t)
	for range 7 {
		if got, reply := pythonTries(t, g.Door(), FreshAddress(), "imap-cleartext", user, "sai", ""); got != "NO [PRIVACYREQUIRED]" {
			t.Errorf("imaplib: %q", reply)
		}
		if got, reply := pythonTries(t, g.Door(), FreshAddress(), "smtp-cleartext", user, "sai", ""); !strings.HasPrefix(got, "523 5.7.10") && !strings.HasPrefix(got, "538 5.7.11") {
			t.Errorf("smtplib: %q", reply)
		}
	}
	// curl asks for capabilities, sees LOGINDISABLED or no AUTH, and gives up.
	if o := Command(t, "", nil, "curl", "-sS", "-u", user+":"+Password, fmt.Sprintf("imap://localhost:%d/", g.IMAP)); o.Code == 0 {
		t.Errorf("curl imap: exit code 0: %s", o.All())
	}
	if o := Command(t, letter(user, user, "clear"), nil, "curl", "-sS", "-u", user+":"+Password, "--mail-from", user, "--mail-rcpt", user, "-T", "-",
		fmt.Sprintf("smtp://localhost:%d/", g.Submission)); o.Code == 0 {
		t.Errorf("curl smtp: exit code 0: %s", o.All())
	}
	if n := Dovecot(t).Judged(user); n != 0 {
		t.Errorf("the mail server was asked %d times", n)
	}
	if got := tryIMAP(t, g.Door(), "", user, Password); !accepted(got) {
		t.Errorf("afterwards, with TLS: %s", got)
	}
}

// What the mail server refuses for a reason of its own is passed on with its
// code and is no wrong password. Here it is Dovecot's limit of 10 connections
// of one user from one address.
func TestARefusalForAnotherReasonIsNotCounted(t *testing.T) {
	t.Parallel()
	g, user := Congthu(t), Dovecot(t).Account(t)
	const from = "127.0.4.1"
	for range 10 {
		if _, reply := g.Door().LoginIMAP(t, from, user, Password); !strings.HasPrefix(reply, "OK") {
			t.Fatal(reply)
		}
	}
	for range 7 {
		_, reply := g.Door().LoginIMAP(t, from, user, Password)
		if got := code(reply); got != "NO [LIMIT]" {
			t.Errorf("with ten connections open: %q", reply)
		}
	}
	if got := tryIMAP(t, g.Door(), "127.0.4.2", user, Password); !accepted(got) {
		t.Errorf("from another address: %s", got)
	}
}

func TestMailWithoutALoginIsRefused(t *testing.T) {
	t.Parallel()
	d, _ := Congthu(t).Door().DialSMTP(t, "")
	for _, command := range []string{"MAIL FROM:<a@congthu.test>"} {
		if got := code(d.Ask(command)); got != "530 5.7.0" {
			t.Errorf("%s: %s", command, got)
		}
	}
}
