package imap

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"congthu/gateway/frontend"
	"congthu/gateway/frontend/frontendtest"
	"congthu/gateway/upstream"
)

// fromWebmail is a scene in which this machine is a trusted forwarder, and what
// its server writes into the log.
func fromWebmail(t *testing.T) (*scene, *bytes.Buffer) {
	s, log := newScene(t), new(bytes.Buffer)
	s.server.Forwarder = func(addr netip.Addr) bool { return addr == netip.MustParseAddr("127.0.0.1") }
	s.server.Upstream.(*upstream.Server).PassClient = upstream.PassID
	s.server.Log = frontendtest.Log(log)
	return s, log
}

// identify says ID, with fields as a client would write them.
func (c talker) identify(fields ...string) {
	c.T.Helper()
	c.Say("i ID (" + strings.Join(fields, " ") + ")")
	c.Expect("* ID")
	c.Expect("i OK")
}

func originating(ip string) string   { return fmt.Sprintf(`"X-Originating-IP" %q`, ip) }
func originPort(port string) string  { return fmt.Sprintf(`"x-originating-port" %q`, port) }
func (c talker) peer() string        { return c.LocalAddr().String() }
func (s *scene) source(i int) string { return s.Guard.Made()[i].Source.String() }

func TestAForwarderSaysWhoseLoginItIs(t *testing.T) {
	for _, test := range []struct {
		fields []string
		want   string // "": the forwarder's own
	}{
		{[]string{originating("192.0.2.7"), originPort("50312")}, "192.0.2.7:50312"},
		{[]string{originPort("50312"), `"name" "Roundcube"`, originating("2001:db8::7")}, "[2001:db8::7]:50312"},
		{[]string{originating("::ffff:192.0.2.7"), originPort("1")}, "192.0.2.7:1"},
		{[]string{originating("192.0.2.7")}, "192.0.2.7:0"},
		{[]string{originating("192.0.2.7"), originPort("65536")}, "192.0.2.7:0"},
		{[]string{originating("192.0.2.7"), originPort("-1")}, "192.0.2.7:0"},
		{[]string{originating("192.0.2.7"), `"x-originating-port" NIL`}, "192.0.2.7:0"},
		{[]string{`"x-originating-ip" NIL`, originPort("50312")}, ""},
		{[]string{originPort("50312")}, ""},
		{[]string{`"name" "Roundcube"`}, ""},
		{[]string{originating("192.0.2.7.8")}, ""},
		{[]string{originating("webmail.example")}, ""},
		{[]string{originating("192.0.2.7:993")}, ""},
		{[]string{originating("0.0.0.0")}, ""},
		{[]string{originating("224.0.0.1")}, ""},
		{[]string{originating("fe80::1%eth0")}, ""},
		{[]string{originating("")}, ""},
		{[]string{originating("192.0.2.7"), originating("192.0.2.8")}, ""},
	} {
		t.Run(strings.Join(test.fields, " "), func(t *testing.T) {
			s, log := fromWebmail(t)
			c := s.connect(true)
			c.identify(test.fields...)
			c.login(password)
			c.Expect("l OK")
			want := test.want
			if want == "" {
				want = c.peer()
			}
			if got := s.source(0); got != want {
				t.Errorf("the guard was told of %s, want %s", got, want)
			}
			address := netip.MustParseAddrPort(want)
			port := fmt.Sprint(address.Port())
			if port == "0" {
				port = ""
			}
			if id := s.fake.IDs()[0]; id["x-originating-ip"] != address.Addr().String() || id["x-originating-port"] != port {
				t.Errorf("the mail server was told of %v", id)
			}
			c.Close()
			s.Close()
			if got := strings.Contains(log.String(), "source="+want) && strings.Contains(log.String(), "forwarder="+c.peer()); got != (test.want != "") {
				t.Errorf("the log: %s", log)
			}
		})
	}
}

func TestNobodyElseSaysWhoseLoginItIs(t *testing.T) {
	s, log := fromWebmail(t)
	s.server.Forwarder = func(addr netip.Addr) bool { return addr == netip.MustParseAddr("192.0.2.7") }
	c := s.connect(true)
	c.identify(originating("192.0.2.7"), originPort("50312"))
	c.identify(originating("192.0.2.7"), originPort("50312")) // not even who says to be one that may
	c.login("wrong")
	c.Expect("l NO")
	if got := s.source(0); got != c.peer() {
		t.Errorf("the guard was told of %s, want %s", got, c.peer())
	}
	if id := s.fake.IDs()[0]; id["x-originating-ip"] != "127.0.0.1" {
		t.Errorf("the mail server was told of %v", id)
	}
	c.Close()
	s.Close()
	if strings.Contains(log.String(), "192.0.2.7") {
		t.Errorf("the log: %s", log)
	}
}

// A webmail may keep a connection for the next user, and says ID for its own
// purposes.
func TestTheLatestAddressOfAForwarderCounts(t *testing.T) {
	s, log := fromWebmail(t)
	c := s.connect(true)
	for _, id := range []string{originating("192.0.2.7"), `"name" "Roundcube"`, originating("192.0.2.8"), originating("a secret"), originating("another")} {
		c.identify(id)
		c.login("wrong")
		c.Expect("l NO")
	}
	var got []string
	for _, a := range s.Guard.Made() {
		got = append(got, a.Source.Addr().String())
	}
	if want := "192.0.2.7 192.0.2.7 192.0.2.8 192.0.2.8 192.0.2.8"; strings.Join(got, " ") != want {
		t.Errorf("the guard was told of %s, want %s", got, want)
	}
	c.Close()
	s.Close()
	if n := strings.Count(log.String(), "is not an address"); n != 1 || strings.Contains(log.String(), "secret") {
		t.Errorf("%d lines about a malformed address, want one without it: %s", n, log)
	}
}

// RFC 9051 section 6.2.1; an attacker in between may have said it.
func TestAnAddressSaidInClearIsForgotten(t *testing.T) {
	s, _ := fromWebmail(t)
	c := s.connect(false)
	c.identify(originating("192.0.2.7"))
	c.Say("s STARTTLS")
	c.Expect("s OK")
	c.Secure()
	c.login("wrong")
	c.Expect("l NO")
	if got := s.source(0); got != c.peer() {
		t.Errorf("the guard was told of %s, want %s", got, c.peer())
	}
}

func TestAForwardersConnectionsAreItsOwn(t *testing.T) {
	s, _ := fromWebmail(t)
	s.server.Limiter = &frontend.Limiter{PerSource: 1}
	for range 3 {
		c := s.connect(true)
		c.identify(originating("192.0.2.7"))
		second, err := s.Dial()
		if err != nil {
			t.Fatal(err)
		}
		defer second.Close()
		if got, _ := io.ReadAll(second); !strings.HasPrefix(string(got), "* BYE [UNAVAILABLE]") {
			t.Errorf("a second connection reads %q", got)
		}
		c.Say("b LOGOUT")
		c.Gone()
		frontendtest.WaitFor(t, func() bool { r := s.Recorder.Counts(); return r.Closed == r.Opened })
	}
}
