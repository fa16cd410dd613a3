package pop3

import (
	"testing"

	"go.uber.org/goleak"

	"congthu/gateway/frontend/frontendtest"
	"congthu/gateway/mailtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	owner    = frontendtest.Owner
	password = "Mat khau 1" // blanks belong to it
)

// scene is a server under test between clients and a fake mail server.
type scene struct {
	*frontendtest.Scene
	fake   *mailtest.POP3
	server *Server
}

func newScene(t testing.TB) *scene {
	s := &scene{fake: &mailtest.POP3{Accounts: map[string]string{owner: password}}}
	s.Scene = frontendtest.New(t, s.fake)
	s.server = &Server{Server: s.FrontEnd(), Upstream: s.Upstream()}
	s.Serve = s.server.Serve
	return s
}

// connect makes a connection over TLS, and reads the greeting.
func (s *scene) connect() *frontendtest.Client {
	s.T.Helper()
	s.Implicit = true
	c := s.Connect()
	c.Secure()
	c.ExpectLine("+OK mail.test ready")
	return c
}
