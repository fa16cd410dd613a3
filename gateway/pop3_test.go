package gateway

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"congthu/auth"
	"congthu/gateway/mailtest"
)

// withPOP3 is an office whose mail is read over POP3 as well; its address is that with
// TLS from the first octet.
func withPOP3(t *testing.T, fake *mailtest.POP3) (o *office, address string) {
	t.Helper()
	o = newOffice(t)
	address = o.addPOP3(t, fake)
	o.write("")
	return o, address
}

// addPOP3 has the mail read over POP3 as well, in the settings that are written next.
func (o *office) addPOP3(t testing.TB, fake *mailtest.POP3) (address string) {
	t.Helper()
	if fake.Accounts == nil {
		fake.Accounts = map[string]string{lan: "Mat-khau-1"}
	}
	behind, err := fake.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fake.Close() })
	address = freeAddress(t)
	o.settings += fmt.Sprintf("pop3: { listen: [ { address: %q, tls: implicit } ], upstream: { address: %q, tls: none, not_wrong: [ \"(?i)locked\" ] } }\n", address, behind)
	return address
}

// The rules are the account's: guesses over three protocols at once are judged as often
// as over one.
func TestGuessesOverAllProtocolsAreCountedTogether(t *testing.T) {
	fake := new(mailtest.POP3)
	o, address := withPOP3(t, fake)
	o.settings = strings.Replace(o.settings, "rules: {", "throttle: { enabled: false }\nrules: {", 1)
	o.write("")
	o.open()
	var guesses sync.WaitGroup
	for i := range 100 {
		var p *phone
		says, refused := fmt.Sprintf("a LOGIN %s wrong%d", lan, i), "a NO"
		switch i % 3 {
		case 0:
			p = o.phone()
		case 1:
			p = o.sender()
			says, refused = "AUTH PLAIN "+plain(lan, fmt.Sprint("wrong", i)), "5"
		case 2:
			p = o.dial(address)
			p.read("+OK")
			says, refused = "AUTH PLAIN "+plain(lan, fmt.Sprint("wrong", i)), "-ERR ["
		}
		guesses.Go(func() {
			p.say(says)
			line := p.line()
			for strings.HasPrefix(line, "* NO [ALERT]") {
				line = p.line()
			}
			if !strings.HasPrefix(line, refused) {
				t.Errorf("read %q, want %q", line, refused)
			}
		})
	}
	guesses.Wait()
	judged := o.imap.Verdicts(lan).Wrong + o.smtp.Verdicts(lan).Wrong + fake.Verdicts(lan).Wrong
	if judged != 6 {
		t.Errorf("100 guesses over three protocols were judged %d times, want 6", judged)
	}
	p := o.dial(address)
	p.read("+OK")
	p.say("AUTH PLAIN " + plain(lan, "Mat-khau-1"))
	p.read("-ERR [SYS/PERM] ")
}

// A right password while another session has the maildrop, ten times, at a server that
// cannot say it better (RFC 1939 section 7): nothing is counted.
func TestALockedMaildropCountsNothing(t *testing.T) {
	fake := &mailtest.POP3{Caps: []string{"USER"}, Misbehave: mailtest.At("verdict", mailtest.Misdeed{Say: "-ERR maildrop already locked\r\n"})}
	o, address := withPOP3(t, fake)
	o.open()
	for range 10 {
		p := o.dial(address)
		p.read("+OK")
		p.say("USER " + lan)
		p.read("+OK")
		p.say("PASS Mat-khau-1")
		p.read("-ERR [SYS/TEMP] ")
	}
	p := o.phone()
	p.say(`a LOGIN lan "Mat-khau-1"`)
	p.read("a OK")
	eventually(t, "the probe", func() bool { return o.gateway.health[auth.POP3].Load() != nil })
	if err := *o.gateway.health[auth.POP3].Load(); err != nil {
		t.Errorf("the probe says %v", err)
	}
}

// Without its upstream POP3 is not served, not probed and not in the health of the
// gateway.
func TestPOP3IsOffByDefault(t *testing.T) {
	o := newOffice(t)
	o.open()
	o.phone()
	eventually(t, "the probes", func() bool { return o.gateway.health[auth.SMTP].Load() != nil })
	if o.gateway.frontEnds[auth.POP3] != nil || o.gateway.live.server(auth.POP3) != nil || o.gateway.health[auth.POP3].Load() != nil {
		t.Error("POP3 is served")
	}
}
