package realtest

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// each runs f n times at once and waits for all.
func each(n int, f func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { f(i) })
	}
	all.Wait()
}

// tally counts answers, safe for use by several goroutines.
type tally struct {
	sync.Mutex
	counts map[string]int
}

func (c *tally) add(what string) {
	c.Lock()
	defer c.Unlock()
	if c.counts == nil {
		c.counts = make(map[string]int)
	}
	c.counts[what]++
}

// code is the part of a reply that a program goes by: OK or NO with the
// response code, or the number with the enhanced status code.
func code(reply string) string {
	words := strings.Fields(reply)
	switch {
	case len(words) == 0:
		return "(nothing)"
	case len(words) == 1:
		return words[0]
	case strings.HasPrefix(words[1], "["):
		return words[0] + " " + strings.TrimRight(words[1], "]") + "]"
	case words[0] >= "200" && words[0] < "600":
		return words[0] + " " + words[1]
	}
	return words[0]
}

// tryIMAP logs in once on a connection of its own and returns the code.
func tryIMAP(t *testing.T, door Door, from, user, password string) string {
	t.Helper()
	d, reply := door.LoginIMAP(t, from, user, password)
	d.Close()
	return code(reply)
}

// trySMTP does the same at the other door.
func trySMTP(t *testing.T, door Door, from, user, password string) string {
	t.Helper()
	d, reply := door.LoginSMTP(t, from, user, password)
	d.Close()
	return code(reply)
}

const (
	imapWrong, smtpWrong   = "NO [AUTHENTICATIONFAILED]", "535 5.7.8"
	imapLocked, smtpLocked = "NO [CONTACTADMIN]", "525 5.7.13"
	imapLater, smtpLater   = "NO [UNAVAILABLE]", "454 4.7.0"
	smtpAway               = "421 4.3.2"
	smtpAccepted           = "235 2.7.0"
)

// accepted reports whether an IMAP code is that of a login.
func accepted(code string) bool { return strings.HasPrefix(code, "OK") }

// lockOut gives wrong passwords until the account is locked.
func lockOut(t *testing.T, door Door, user string) {
	t.Helper()
	each(6, func(i int) { tryIMAP(t, door, "", user, fmt.Sprint("wrong ", i)) })
	if got := tryIMAP(t, door, "", user, Password); got != imapLocked {
		t.Fatalf("after six wrong passwords: %s", got)
	}
}

// spellings are ways to write one mailbox.
func spellings(user string) []string {
	local, domain, _ := strings.Cut(user, "@")
	wide := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r > 0x20 && r < 0x7f && r != '@' && r != '.' {
				return r - 0x21 + 0xff01 // full-width forms
			}
			return r
		}, s)
	}
	return []string{
		user, local, strings.ToUpper(user), strings.ToUpper(local), strings.ToUpper(local) + "@" + domain,
		local + "@" + strings.ToUpper(domain), user + ".", strings.ToUpper(user) + ".",
		wide(local), wide(local) + "@" + domain, wide(strings.ToUpper(local)) + "@" + domain, local + "@Congthu.Test",
		wide(local) + "@" + strings.ToUpper(domain) + ".",
		local + "@" + strings.ReplaceAll(domain, ".", "\u3002"), // the ideographic full stop is a dot of IDNA
	}
}

// The tests rely on Dovecot's log as the judge, so the judge is tried first.
func TestDovecotsLogCountsEveryVerdict(t *testing.T) {
	t.Parallel()
	door, user := Straight(t), Dovecot(t).Account(t)
	each(7, func(i int) {
		try := tryIMAP
		if i%2 == 1 {
			try = trySMTP
		}
		try(t, door, "", user, fmt.Sprint("wrong ", i))
	})
	tryIMAP(t, door, "", user, Password)
	Eventually(t, "the log", func() bool { return Dovecot(t).Verdicts(user) >= 7 })
	if n := Dovecot(t).Verdicts(user); n != 7 {
		t.Errorf("seven wrong passwords, %d verdicts", n)
	}
}

// The central test: a hundred guesses at once, over both protocols, under every
// spelling, some closing the connection as soon as the password is sent. The log of the
// real Dovecot shows how many it judged.
func TestAHundredParallelGuessesGetSixVerdicts(t *testing.T) {
	t.Parallel()
	g, user := Congthu(t), Dovecot(t).Account(t)
	door := g.Door()
	names := spellings(user)
	var replies tally
	each(100, func(i int) {
		name, from := names[i%len(names)], fmt.Sprintf("127.0.1.%d", 1+i%50)
		guess := fmt.Sprint("guess-", i)
		switch i % 4 {
		case 0: // says LOGIN and hangs up
			d := door.DialIMAP(t, from)
			d.Say("a LOGIN " + literal(name) + " " + quoted(guess) + "\r\n")
			d.Close()
		case 1:
			d := door.DialIMAP(t, from)
			replies.add(code(d.Command("a", "LOGIN "+literal(name)+" "+quoted(guess))))
		case 2:
			d := door.DialIMAP(t, from)
			replies.add(code(d.Command("a", "AUTHENTICATE PLAIN "+plain("", name, guess))))
		case 3:
			_, reply := door.LoginSMTP(t, from, name, guess)
			replies.add(code(reply))
		}
	})
	// Attempts of clients that hung up are settled too, perhaps a moment later.
	Eventually(t, "the lock", func() bool {
		return tryIMAP(t, door, "", user, Password) == imapLocked
	})
	if n := Dovecot(t).Verdicts(user); n != 6 {
		t.Errorf("Dovecot judged %d wrong passwords of %s, want 6", n, user)
	}
	for reply, n := range replies.counts {
		switch reply {
		case imapWrong, smtpWrong, imapLocked, smtpLocked:
		default:
			t.Errorf("%d were answered %s", n, reply)
		}
	}
	if wrong := replies.counts[imapWrong] + replies.counts[smtpWrong]; wrong > 6 {
		t.Errorf("%d were told that the password is wrong", wrong)
	}
	if got := trySMTP(t, door, "", user, Password); got != smtpLocked {
		t.Errorf("the right password at the other door: %s", got)
	}
	if n := Dovecot(t).Verdicts(user); n != 6 {
		t.Errorf("a locked account was judged again: %d", n)
	}
}

// A name without an account has its own lock, and the reply reveals nothing.
func TestANameNobodyHasIsAnsweredLikeAnAccount(t *testing.T) {
	t.Parallel()
	door := Congthu(t).Door()
	user := fmt.Sprintf("nobody-%d@%s", time.Now().UnixNano(), Domain)
	for i := range 6 {
		if got := tryIMAP(t, door, "", user, fmt.Sprint("guess ", i)); got != imapWrong {
			t.Fatalf("guess %d: %s", i+1, got)
		}
	}
	if got := tryIMAP(t, door, "", user, "guess"); got != imapLocked {
		t.Errorf("the seventh: %s", got)
	}
	if n := Dovecot(t).Verdicts(user); n != 6 {
		t.Errorf("Dovecot was asked %d times, want 6", n)
	}
}

// Dovecot admits 10 connections of one user and address by default: each of
// the twenty here comes from an address of its own, which only helps when the
// gateway passes it on.
func TestTwentyParallelLoginsWithTheRightPasswordSucceed(t *testing.T) {
	t.Parallel()
	g, user := Congthu(t), Dovecot(t).Account(t)
	each(20, func(i int) {
		d, reply := g.Door().LoginIMAP(t, fmt.Sprintf("127.0.2.%d", 1+i), user, Password)
		if !strings.HasPrefix(reply, "OK") {
			t.Errorf("login %d: %s", i, reply)
			return
		}
		if reply := d.Command("b", "SELECT INBOX"); !strings.HasPrefix(reply, "OK") {
			t.Errorf("select %d: %s", i, reply)
		}
	})
	each(20, func(i int) {
		if got := trySMTP(t, g.Door(), fmt.Sprintf("127.0.2.%d", 1+i), user, Password); got != smtpAccepted {
			t.Errorf("submission login %d: %s", i, got)
		}
	})
}

func TestTwoHundredSpellingsShareOneCounter(t *testing.T) {
	t.Parallel()
	g, user := Congthu(t), Dovecot(t).Account(t)
	local, domain, _ := strings.Cut(user, "@")
	var names []string
	names = append(names, spellings(user)...)
	for bits := 0; len(names) < 200; bits++ { // every way to capitalise
		name, i := []byte(local+"@"+domain), 0
		for j, c := range name {
			if c >= 'a' && c <= 'z' {
				if bits>>i&1 == 1 {
					name[j] = c - 'a' + 'A'
				}
				i++
			}
		}
		names = append(names, string(name))
	}
	each(8, func(worker int) {
		for i := worker; i < len(names); i += 8 {
			d := g.Door().DialIMAP(t, fmt.Sprintf("127.0.3.%d", 1+worker))
			got := code(d.Command("a", "AUTHENTICATE PLAIN "+plain("", names[i], fmt.Sprint("guess ", i))))
			if got != imapWrong && got != imapLocked {
				t.Errorf("%q: %s", names[i], got)
			}
			d.Close()
		}
	})
	if n := Dovecot(t).Verdicts(""); n == 0 {
		t.Error("no verdict was counted at all: has the format of Dovecot's log changed?")
	}
	if n := Dovecot(t).Verdicts(user); n != 6 {
		t.Errorf("Dovecot judged %d wrong passwords, want 6", n)
	}
}

// One entry by the user is one failure: smtplib tries PLAIN and then LOGIN with
// the same password.
func TestOneEntryByTwoMechanismsCountsOnce(t *testing.T) {
	t.Parallel()
	g, user := Congthu(t), Dovecot(t).Account(t)
	for i := range 5 {
		o := pythonOutput(t, "login.py", g.Door(), user, fmt.Sprint("wrong-", i), map[string]any{"door": "smtps"})
		if !strings.Contains(o.Stdout, `"535"`) {
			t.Fatalf("%s%s", o.Stdout, o.Stderr)
		}
	}
	if got := tryIMAP(t, g.Door(), "", user, Password); !accepted(got) {
		t.Errorf("after five wrong entries, each by two mechanisms: %s", got)
	}
	if n := Dovecot(t).Verdicts(user); n != 5 {
		t.Errorf("Dovecot judged %d wrong passwords, want 5", n)
	}
}

// The second device still has the password from before the change: it may retry as
// often as it likes without locking the account, but it is not accepted.
func TestTheDeviceWithThePreviousPasswordLocksNobody(t *testing.T) {
	t.Parallel()
	g, d := Congthu(t), Dovecot(t)
	user := d.Account(t)
	if got := tryIMAP(t, g.Door(), "", user, Password); !accepted(got) {
		t.Fatal(got)
	}
	awaitPasswordSeen(t, g, user)
	d.SetPassword(t, user, "Mat-khau-moi-2")
	if got := tryIMAP(t, g.Door(), "", user, "Mat-khau-moi-2"); !accepted(got) {
		t.Fatal(got)
	}
	Eventually(t, "the change of the password to be noticed", func() bool {
		_, body := g.API(t, http.MethodGet, "/events?account="+user, "")
		return strings.Contains(body, "password.changed")
	})
	each(8, func(i int) {
		try, wrong := tryIMAP, imapWrong
		if i%2 == 1 {
			try, wrong = trySMTP, smtpWrong
		}
		if got := try(t, g.Door(), "", user, Password); got != wrong {
			t.Errorf("the previous password: %s", got)
		}
	})
	if got := tryIMAP(t, g.Door(), "", user, "Mat-khau-moi-2"); !accepted(got) {
		t.Errorf("the current password: %s", got)
	}
}

// awaitPasswordSeen waits until the gateway has made a fingerprint of the
// account's password, which it does some time after the login. Only the store
// tells.
func awaitPasswordSeen(t *testing.T, g *Gateway, user string) {
	t.Helper()
	Eventually(t, "the password's fingerprint", func() bool {
		o := Command(t, "", nil, "sqlite3", "-readonly", filepath.Join(g.Dir, "data", "congthu.db"),
			"SELECT 'seen' FROM accounts WHERE name = '"+user+"' AND length(password) > 0")
		return strings.Contains(o.Stdout, "seen")
	})
}

// A lock ends in the admin's hands, by either of their ways.
func TestALockIsEndedThroughTheAPI(t *testing.T) {
	t.Parallel()
	g := Congthu(t)
	door := g.Door()
	ways := map[string]func(t *testing.T, user string) string{
		"curl on the socket": func(t *testing.T, user string) string {
			return MustSucceed(t, "", nil, "curl", "-sS", "--fail-with-body", "--unix-socket", g.Socket, "-H", "Content-Type: application/json",
				"-d", `{"reason": "called from her office number"}`, "http://congthu/api/v1/accounts/"+user+"/unlock").Stdout
		},
		"curl with a token": func(t *testing.T, user string) string {
			return MustSucceed(t, "", nil, "curl", "-sS", "--fail-with-body", "-H", "Authorization: Bearer "+Token, "-H", "Content-Type: application/json",
				"-d", `{"reason": "called from her office number"}`, g.URL("/api/v1/accounts/"+user+"/unlock")).Stdout
		},
		"congthu account unlock": func(t *testing.T, user string) string {
			o := g.Run(t, "account", "unlock", user, "--reason", "called from her office number")
			if o.Code != 0 {
				t.Fatalf("exit code %d: %s", o.Code, o.All())
			}
			return o.Stdout
		},
	}
	for name, unlock := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			user := Dovecot(t).Account(t)
			if got := tryIMAP(t, door, "", user, Password); !accepted(got) {
				t.Fatal(got)
			}
			lockOut(t, door, user)
			if o := g.Run(t, "account", "show", user); o.Code != 0 || !strings.Contains(o.Stdout, "locked") {
				t.Errorf("account show: exit code %d: %s", o.Code, o.All())
			}
			unlock(t, user)
			if got := tryIMAP(t, door, "", user, Password); !accepted(got) {
				t.Errorf("after the unlock: %s", got)
			}
			if got := trySMTP(t, door, "", user, Password); got != smtpAccepted {
				t.Errorf("after the unlock, submission: %s", got)
			}
			_, body := g.API(t, http.MethodGet, "/events?account="+user, "")
			for _, want := range []string{"account.locked", "account.unlocked", "called from her office number"} {
				if !strings.Contains(body, want) {
					t.Errorf("the audit log has no %s: %s", want, body)
				}
			}
		})
	}
}

func TestAnActWithoutAReasonIsRefused(t *testing.T) {
	t.Parallel()
	g, user := Congthu(t), Dovecot(t).Account(t)
	lockOut(t, g.Door(), user)
	if o := g.Run(t, "account", "unlock", user); o.Code == 0 {
		t.Errorf("unlock without a reason: exit code 0: %s", o.All())
	}
	if status, body := g.API(t, http.MethodPost, "/accounts/"+user+"/unlock", `{}`); status < 400 || status > 499 {
		t.Errorf("unlock without a reason: %d %s", status, body)
	}
	if status, body := request(t, http.MethodPost, g.URL("/api/v1/accounts/"+user+"/unlock"), `{"reason":"x"}`, nil); status != http.StatusUnauthorized {
		t.Errorf("unlock without a token: %d %s", status, body)
	}
	if got := tryIMAP(t, g.Door(), "", user, Password); got != imapLocked {
		t.Errorf("the account: %s", got)
	}
}

// An admin's lock ends open sessions; a lock made by wrong passwords does not,
// otherwise an attacker could disconnect any user.
func TestOnlyAnAdminsLockEndsLiveSessions(t *testing.T) {
	t.Parallel()
	g, user := Congthu(t), Dovecot(t).Account(t)
	door := g.Door()
	imap, reply := door.LoginIMAP(t, "", user, Password)
	if !strings.HasPrefix(reply, "OK") {
		t.Fatal(reply)
	}
	smtp, reply := door.LoginSMTP(t, "", user, Password)
	if !strings.HasPrefix(reply, "235") {
		t.Fatal(reply)
	}
	lockOut(t, door, user)
	if reply := imap.Command("b", "SELECT INBOX"); !strings.HasPrefix(reply, "OK") {
		t.Errorf("a stranger's guesses ended the session: %s", reply)
	}
	smtp.MustReply("250", "NOOP")
	if o := g.Run(t, "account", "lock", user, "--reason", "left the service"); o.Code != 0 {
		t.Fatalf("account lock: %s", o.All())
	}
	if rest := imap.Rest(); rest != "" {
		t.Errorf("a spliced session was ended with words: %q", rest)
	}
	if rest := smtp.Rest(); !strings.HasPrefix(rest, "421 ") && rest != "" {
		t.Errorf("the submission session was ended with %q", rest)
	}
	if got := tryIMAP(t, door, "", user, Password); got != imapLocked {
		t.Errorf("after the admin's lock: %s", got)
	}
}
