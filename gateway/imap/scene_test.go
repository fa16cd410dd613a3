package imap

import (
	"fmt"
	"testing"

	"go.uber.org/goleak"

	"congthu/gateway/frontend/frontendtest"
	"congthu/gateway/mailtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	owner    = frontendtest.Owner
	password = "Mat-khau-1"
)

// scene is a server under test between clients and a fake mail server.
type scene struct {
	*frontendtest.Scene
	fake   *mailtest.IMAP
	server *Server
}

func newScene(t testing.TB) *scene {
	s := &scene{fake: &mailtest.IMAP{Accounts: map[string]string{owner: password}}}
	s.Scene = frontendtest.New(t, s.fake)
	s.server = &Server{
		Server:    s.FrontEnd(),
		Upstream:  s.Upstream(),
		AlertText: func(days int) string { return fmt.Sprintf("Mat khau con %d ngay. %d days left.", days, days) },
	}
	s.Serve = s.server.Serve
	return s
}

// talker is a client.
type talker struct{ *frontendtest.Client }

// connect greets and, over TLS, is where a client may log in.
func (s *scene) connect(secure bool) talker {
	s.T.Helper()
	c := talker{s.Connect()}
	if !s.Implicit {
		c.Expect("* OK [CAPABILITY ")
	}
	if !s.Implicit && secure {
		c.Say("s STARTTLS")
		c.Expect("s OK")
	}
	if secure {
		c.Secure()
	}
	if s.Implicit {
		c.Expect("* OK [CAPABILITY ")
	}
	return c
}

func (c talker) login(word string) { c.Say(`l LOGIN ` + owner + ` ` + word) }
