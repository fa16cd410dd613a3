package gateway

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"congthu/auth"
	"congthu/auth/storetest/testenv"
	"congthu/gateway/config"
	"congthu/gateway/upstream"
)

// resting is a socket that another process has opened.
type resting struct {
	net.Listener
	addr   net.Addr
	closed bool
}

func (r *resting) Addr() net.Addr { return r.addr }
func (r *resting) Close() error   { r.closed = true; return nil }

func socket(name, address string) Socket {
	if strings.HasPrefix(address, "/") {
		return Socket{name, &resting{addr: &net.UnixAddr{Name: address, Net: "unix"}}}
	}
	addr, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		panic(err)
	}
	return Socket{name, &resting{addr: addr}}
}

// usual are the listeners of a configuration without any.
func usual() *config.Config {
	c := new(config.Config)
	c.IMAP.Listen = []config.Listener{{Address: ":143", TLS: upstream.StartTLS}, {Address: ":993", TLS: upstream.Implicit}}
	c.SMTP.Listen = []config.Listener{{Address: ":587", TLS: upstream.StartTLS}, {Address: ":465", TLS: upstream.Implicit}}
	return c
}

const unit = "congthu.socket" // the name of sockets whose unit gives them none

func TestSocketsFindTheirDoors(t *testing.T) {
	four := []Socket{socket(unit, "[::]:143"), socket(unit, "[::]:993"), socket(unit, "[::]:587"), socket(unit, "[::]:465")}
	for name, c := range map[string]struct {
		change  func(*config.Config)
		sockets []Socket
		want    string // IMAP, submission and admin doors; those with TLS at once have a *
	}{
		"the packaged unit, in any order": {sockets: []Socket{four[3], four[1], four[0], four[2]}, want: "[::]:143 [::]:993* | [::]:587 [::]:465* |"},
		"a machine without IPv6": {
			sockets: []Socket{socket(unit, "0.0.0.0:143"), socket(unit, "0.0.0.0:993"), socket(unit, "0.0.0.0:587"), socket(unit, "0.0.0.0:465")},
			want:    "0.0.0.0:143 0.0.0.0:993* | 0.0.0.0:587 0.0.0.0:465* |",
		},
		"with POP3": {
			change: func(c *config.Config) {
				c.POP3.Listen = []config.Listener{{Address: ":110", TLS: upstream.StartTLS}, {Address: ":995", TLS: upstream.Implicit}}
			},
			sockets: append(slices.Clone(four), socket("pop3", "[::]:110"), socket("pop3s", "[::]:995")),
			want:    "[::]:143 [::]:993* | [::]:587 [::]:465* | [::]:110 [::]:995* |",
		},
		"two for one door": {
			sockets: append([]Socket{socket(unit, "0.0.0.0:143")}, four...),
			want:    "0.0.0.0:143 [::]:143 [::]:993* | [::]:587 [::]:465* |",
		},
		"names say what ports do not": {
			sockets: []Socket{socket("submissions", "[::]:2465"), socket("imaps", "[::]:2993"), socket("imap", "[::]:2143"), socket("submission", "[::]:2587")},
			want:    "[::]:2143 [::]:2993* | [::]:2587 [::]:2465* |",
		},
		"the address decides among several of a name": {
			change: func(c *config.Config) {
				c.SMTP.Listen = nil
				c.IMAP.Listen = []config.Listener{{Address: "192.0.2.1:993", TLS: upstream.Implicit}, {Address: "[2001:db8::1]:993", TLS: upstream.Implicit}}
			},
			sockets: []Socket{socket("imaps", "[2001:db8::1]:993"), socket("imaps", "192.0.2.1:993")},
			want:    "192.0.2.1:993* [2001:db8::1]:993* | |",
		},
		"administrators have sockets too": {
			change: func(c *config.Config) {
				c.Admin.Listen, c.Metrics.Listen, c.Admin.Socket = "127.0.0.1:8443", ":9143", "/run/congthu/admin.sock"
			},
			sockets: append([]Socket{socket("metrics", "[::]:9144"), socket(unit, "/run/congthu/admin.sock"), socket("admin", "127.0.0.1:8443")}, four...),
			want:    "[::]:143 [::]:993* | [::]:587 [::]:465* | 127.0.0.1:8443 [::]:9144 /run/congthu/admin.sock",
		},
	} {
		t.Run(name, func(t *testing.T) {
			conf := usual()
			if c.change != nil {
				c.change(conf)
			}
			ls, err := listen(conf, c.sockets)
			if err != nil {
				t.Fatal(err)
			}
			var have []string
			for _, s := range services {
				if s.Protocol == auth.POP3 && len(conf.POP3.Listen) == 0 {
					continue // it is off in the usual configuration
				}
				for _, l := range ls.mail {
					if l.protocol != s.Protocol {
						continue
					}
					text := l.Addr().String()
					if l.implicit {
						text += "*"
					}
					have = append(have, text)
				}
				have = append(have, "|")
			}
			for _, l := range ls.admin {
				have = append(have, l.Addr().String())
			}
			if got := strings.Join(have, " "); got != c.want || !ls.passed {
				t.Errorf("doors %s (passed: %v), want %s", got, ls.passed, c.want)
			}
		})
	}
}

func TestSocketsThatDoNotFitSayWhatToWrite(t *testing.T) {
	for name, c := range map[string]struct {
		sockets []Socket
		want    []string
	}{
		"a port is missing in the unit": {
			[]Socket{socket(unit, "[::]:143"), socket(unit, "[::]:993"), socket(unit, "[::]:587")},
			[]string{"systemd passes no socket for smtp.listen[1] (:465): add ListenStream=465 to congthu.socket"},
		},
		"a port is missing in the configuration": {
			[]Socket{socket(unit, "[::]:143"), socket(unit, "[::]:993"), socket(unit, "[::]:587"), socket(unit, "[::]:465"), socket(unit, "[::]:1993")},
			[]string{`a socket :1993, named congthu.socket, that the configuration does not have: write its address ":1993" into imap.listen, smtp.listen`, "or take ListenStream=1993 out"},
		},
		"one address in place of all": {
			[]Socket{socket(unit, "192.0.2.1:143"), socket(unit, "[::]:993"), socket(unit, "[::]:587"), socket(unit, "[::]:465")},
			[]string{"no socket for imap.listen[0] (:143)", `a socket 192.0.2.1:143, named`, "ListenStream=192.0.2.1:143 out"},
		},
		"the name is another door's": {
			[]Socket{socket("metrics", "[::]:143"), socket(unit, "[::]:993"), socket(unit, "[::]:587"), socket(unit, "[::]:465")},
			[]string{"no socket for imap.listen[0]", `a socket :143, named metrics, that the configuration does not have: write its address ":143" into metrics.listen`},
		},
		"a file that is not the admin socket": {
			[]Socket{socket("admin", "/run/else.sock"), socket(unit, "[::]:143"), socket(unit, "[::]:993"), socket(unit, "[::]:587"), socket(unit, "[::]:465")},
			[]string{"a socket /run/else.sock, named admin", "write admin: { socket: /run/else.sock }"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := listen(usual(), slices.Clone(c.sockets))
			if err == nil {
				t.Fatal("no error")
			}
			var mistake *SocketError
			if lines := strings.Count(err.Error(), "systemd passes"); !errors.As(err, &mistake) || lines < 1 {
				t.Errorf("%T: %v", err, err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("does not say %q:\n%v", want, err)
				}
			}
			for _, s := range c.sockets {
				if !s.Listener.(*resting).closed {
					t.Errorf("%s is still open", s.Addr())
				}
			}
		})
	}
}

// Without a socket for mail the gateway opens its ports by itself.
func TestASocketForAdministratorsAloneChangesNoDoor(t *testing.T) {
	c := new(config.Config)
	c.Admin.Socket = filepath.Join(testenv.Dir(t), "admin.sock")
	address := freeAddress(t)
	c.IMAP.Listen = []config.Listener{{Address: address, TLS: upstream.StartTLS}}
	ls, err := listen(c, []Socket{socket("admin", c.Admin.Socket)})
	if err != nil {
		t.Fatal(err)
	}
	defer ls.close()
	if ls.passed || len(ls.mail) != 1 || ls.mail[0].protocol != auth.IMAP || ls.mail[0].Addr().String() != address || fmt.Sprintf("%T", ls.admin[0].Listener) != "*gateway.resting" {
		t.Errorf("passed: %v, doors %v", ls.passed, ls.addresses())
	}
}

// A session on which nothing moves does not hold up those who wait for the next
// process; one that has something under way may finish it.
func TestWithPassedSocketsAQuietSessionEndsInAShutdown(t *testing.T) {
	o := newOffice(t)
	o.settings = strings.Replace(o.settings, "300ms", "20s", 1)
	o.write("")
	for _, address := range []string{o.address, o.submit} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		o.gateway.Sockets = append(o.gateway.Sockets, Socket{unit, l})
	}
	o.open()
	user := o.phone()
	user.say(`a LOGIN lan "Mat-khau-1"`)
	user.read("a OK")
	o.stop()
	user.say("b NOOP")
	user.read("b OK")
	if rest := user.ended(); rest != "" {
		t.Errorf("a spliced session was ended with words: %q", rest)
	}
	// The end comes before the drain time is over, or this waits longer than a
	// phone does.
	if err := <-o.done; err != nil {
		t.Error(err)
	}
	close(o.done)
}
