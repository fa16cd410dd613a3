package smtp

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"

	"congthu/auth"
	"congthu/gateway/frontend"
	"congthu/gateway/upstream"
)

// maxExchange bounds what a client may say within one AUTH, in base64 (RFC 4954
// section 4).
const maxExchange = 12288

// AuthMechanisms implements [gosmtp.AuthSession].
func (s *session) AuthMechanisms() []string { return []string{sasl.Plain, sasl.Login} }

// Auth implements [gosmtp.AuthSession]. go-smtp itself refuses a second login
// with 503, and bad base64, by its own reading, with 454.
func (s *session) Auth(mechanism string) (sasl.Server, error) {
	if err := s.wanted(); err != nil {
		return nil, err
	}
	if s.failures >= s.server.maxFailures() {
		s.conn.hangUp()
		return nil, tooManyFailures.says("Too many failed logins on this connection")
	}
	switch strings.ToUpper(mechanism) {
	case sasl.Plain:
		return &exchange{session: s, inner: sasl.NewPlainServer(func(identity, username, password string) error {
			return s.attempt(auth.Plain, identity, username, password)
		})}, nil
	case sasl.Login:
		return &exchange{session: s, inner: &loginServer{authenticate: func(username, password string) error {
			return s.attempt(auth.Login, "", username, password)
		}}}, nil
	}
	return nil, badMechanism.says("Mechanism not available")
}

// exchange bounds a mechanism, and makes every error of it a reply: any other
// error would reach the client as 454 and the text of the error.
type exchange struct {
	session *session
	inner   sasl.Server
	octets  int
}

func (e *exchange) Next(response []byte) (challenge []byte, done bool, err error) {
	if e.octets += base64.StdEncoding.EncodedLen(len(response)); e.octets > maxExchange {
		e.session.failures++
		return nil, true, tooLong.says("Authentication exchange is too long")
	}
	challenge, done, err = e.inner.Next(response)
	if err == nil {
		return challenge, done, nil
	}
	e.session.failures++
	var reply *gosmtp.SMTPError
	if !errors.As(err, &reply) {
		reply = badResponse.says("Malformed authentication response")
	}
	return nil, true, reply
}

// loginServer is the server's side of LOGIN (draft-murchison-sasl-login), which
// go-sasl does not have.
type loginServer struct {
	authenticate func(username, password string) error

	username string
	step     int
}

var errLogin = errors.New("unexpected response")

// Next implements [sasl.Server]. A client may send the name with the command.
func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case l.step == 0 && response == nil:
		return []byte("Username:"), false, nil
	case l.step == 0:
		l.username, l.step = string(response), 1
		return []byte("Password:"), false, nil
	case l.step == 1 && response != nil:
		l.step = 2
		return nil, true, l.authenticate(l.username, string(response))
	}
	return nil, true, errLogin
}

// attempt is one login by the rules. A nil error lets go-smtp say 235.
func (s *session) attempt(mechanism auth.Mechanism, identity, username, password string) error {
	// Both are at least one octet, and neither has a NUL (RFC 4616 section 2).
	if username == "" || password == "" || strings.ContainsRune(username+password, 0) {
		return badResponse.says("Malformed authentication response")
	}
	secret := auth.NewSecret(password)
	e := &entry{session: s}
	defer e.settle(false) // should the guard panic
	var verdict auth.Verdict
	frontend.OnFreshStack(func() {
		verdict = s.server.Guard.Attempt(s.ctx, auth.Attempt{
			Session: s.id, Protocol: auth.SMTP, Mechanism: mechanism, Source: s.source,
			Login: username, Authorize: identity, Password: secret, Rejected: &s.mistakes, Connected: s.conn.opened,
			Verify: func(ctx context.Context, name auth.Name) auth.Answer { return e.verify(ctx, name, secret) },
		})
	})
	up, leave := e.settle(verdict.Outcome == auth.Accepted)
	if verdict.Outcome != auth.Accepted {
		s.conn.refuse()
		return s.server.refusal(verdict.Outcome)
	}
	if up == nil {
		s.log.Error("accepted without a connection to the mail server")
		return s.server.refusal(auth.Unavailable)
	}
	s.account, s.leave = verdict.Name, leave
	s.up.Store(up)
	s.log = s.log.With("account", string(verdict.Name))
	s.conn.login()
	return nil
}

// entry is the connection to the mail server that an attempt makes, until it is
// known whether the attempt was accepted.
type entry struct {
	session *session
	asked   bool // the mail server was asked before

	mu       sync.Mutex
	settled  bool
	accepted bool
	ended    bool // by an admin, or a revocation
	up       *upstream.SMTPConn
	leave    func()
}

// verify asks the mail server. The session is in the register of live sessions
// before the guard settles the attempt: a lock that comes later finds it there,
// one that came earlier is found by the guard.
func (e *entry) verify(ctx context.Context, name auth.Name, password auth.Secret) auth.Answer {
	s := e.session
	up, answer := s.server.Upstream.LoginSMTP(ctx, name, password, upstream.Client{Address: s.source, TLS: upstream.TLSVersion(s.conn.inner), Session: s.id, Fresh: e.asked})
	e.asked = true
	if up == nil {
		return answer
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.settled {
		up.Quit()
		return answer
	}
	e.up = up
	if s.server.Sessions != nil {
		e.leave = s.server.Sessions.Add(name, auth.Origin{At: time.Now(), Source: s.source, Protocol: auth.SMTP}, e.end)
	}
	return answer
}

// end ends the session that this attempt has become. While it is being decided
// the end waits for the verdict: who is refused reads why, and has a connection
// as good as after any other refusal.
func (e *entry) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = true
	e.session.revoked.Store(true)
	if e.accepted {
		e.session.conn.kick()
	}
}

// settle returns the connection, or gives it up. Only the first call counts.
func (e *entry) settle(accepted bool) (*upstream.SMTPConn, func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.settled {
		return nil, nil
	}
	e.settled = true
	if accepted && e.up != nil {
		e.accepted = true
		if e.ended { // before anybody has read that it had begun
			e.session.conn.kick()
		}
		return e.up, e.leave
	}
	if e.leave != nil {
		e.leave()
	}
	if e.up != nil {
		e.up.Quit()
	}
	return nil, nil
}
