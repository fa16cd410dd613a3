package gateway

import (
	"fmt"
	"strings"
	"testing"

	"congthu/auth"
)

// localNames makes the mail servers know accounts by the part before the @, and
// serves a second domain.
func (o *office) localNames() {
	o.settings = strings.ReplaceAll(o.settings, "tls: none }", "tls: none, login_name: local }") + "domains: [other.vn]\n"
	o.write("")
	o.imap.Accounts = map[string]string{"lan": "Mat-khau-1"}
	o.smtp.Accounts = o.imap.Accounts
}

// guess tries wrong passwords over IMAP, each on a connection of its own.
func (o *office) guess(login string, first, n int) {
	o.t.Helper()
	for i := range n {
		stranger := o.phone()
		stranger.say(fmt.Sprintf(`a LOGIN %s "guess%d"`, login, first+i))
		stranger.read("a NO")
		stranger.conn.Close()
	}
}

func TestDomainsThatTheMailServerDoesNotTellApartShareOneCounter(t *testing.T) {
	o := newOffice(t)
	o.localNames()
	o.open()
	o.guess("lan@example.vn", 0, 8)
	o.guess("lan@other.vn", 8, 8)
	if judged := o.imap.Verdicts("lan").Wrong; judged != 6 {
		t.Errorf("the mail server judged %d wrong passwords of one mailbox, want 6", judged)
	}
}

func TestALockHoldsInEveryDomainThatTheMailServerTakesForOne(t *testing.T) {
	o := newOffice(t)
	o.localNames()
	o.open()
	p := o.phone()
	p.say(`a LOGIN lan@example.vn "Mat-khau-1"`)
	p.read("a OK")
	if _, err := o.gateway.guard.Lock(t.Context(), lan, auth.Act{Actor: "A", Reason: "left the office"}); err != nil {
		t.Fatal(err)
	}
	other := o.phone()
	other.say(`a LOGIN lan@other.vn "Mat-khau-1"`)
	if alert := other.line(); !strings.HasPrefix(alert, "* NO [ALERT] ") {
		t.Errorf("the user of a locked account is told nothing: %q", alert)
	}
	if answer := other.line(); !strings.HasPrefix(answer, "a NO") {
		t.Errorf("a locked account in its other domain: %q", answer)
	}
	if judged := o.imap.Verdicts("lan").Right; judged != 1 {
		t.Errorf("the mail server judged %d right passwords, want the first only", judged)
	}
}

// Art. 13.8: the address of an account is its own in each domain that the mail
// server takes for one, and so are its aliases and what was delegated to it.
func TestSendersAreOnesOwnInEveryDomainThatTheMailServerTakesForOne(t *testing.T) {
	o := newOffice(t)
	o.localNames()
	o.write(`aliases: { office@example.vn: lan@other.vn }
delegations: { desk@other.vn: [lan@other.vn] }
`)
	o.open()
	for _, login := range []string{"lan@example.vn", "lan@other.vn"} {
		p := o.sender()
		p.say("AUTH PLAIN " + plain(login, "Mat-khau-1"))
		p.read("235 ")
		for sender, want := range map[string]string{
			"lan@example.vn": "250 ", "lan@other.vn": "250 ", "office@example.vn": "250 ", "office@other.vn": "250 ",
			"desk@example.vn": "250 ", "desk@other.vn": "250 ", "binh@example.vn": "5", "binh@other.vn": "5",
		} {
			p.say("MAIL FROM:<" + sender + ">")
			if answer := p.line(); !strings.HasPrefix(answer, want) {
				t.Errorf("%s sends as %s: %q, want %s", login, sender, answer, want)
			}
			p.say("RSET")
			p.read("250 ")
		}
	}
}

// A door that the new file does not want is open until the restart, with the mail
// server that it has.
func TestAReloadCannotMakeTwoNamesOneMailboxBehindADoorThatStays(t *testing.T) {
	o := newOffice(t)
	o.localNames()
	o.open()
	local := o.settings
	o.settings = strings.Replace(strings.ReplaceAll(local, ", login_name: local", ""), fmt.Sprintf("listen: [ { address: %q, tls: implicit } ]", o.submit), "listen: []", 1)
	o.write("")
	if err := o.gateway.Reload(); err == nil || !strings.Contains(err.Error(), "restart") {
		t.Fatalf("a reload with another login_name behind one of two doors: %v", err)
	}
	o.guess("lan@example.vn", 0, 8)
	o.guess("lan@other.vn", 8, 8)
	if judged := o.imap.Verdicts("lan").Wrong; judged != 6 {
		t.Errorf("the mail server judged %d wrong passwords of one mailbox, want 6", judged)
	}
}
