package frontend

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"congthu/auth"
	"congthu/gateway/relay"
)

// Credentials are what a client logs in with.
type Credentials struct {
	// Authorize is the identity to act as (RFC 4616 section 2); empty: Login.
	Authorize, Login string
	Password         auth.Secret
}

// Errors of credentials that no account can have.
var (
	ErrControl = errors.New("a control character in the name")
	ErrNUL     = errors.New("a NUL in the password")
)

// Check says why credentials cannot be any account's.
func (c Credentials) Check() error {
	switch {
	case hasControls(c.Login) || hasControls(c.Authorize):
		return ErrControl
	case strings.IndexByte(c.Password.Reveal(), 0) >= 0:
		return ErrNUL // RFC 4616 section 2
	}
	return nil
}

// hasControls reports control characters, which no name has.
func hasControls(name string) bool {
	return strings.IndexFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) >= 0
}

// Login is one attempt of a client, with complete credentials.
type Login struct {
	Credentials
	Mechanism auth.Mechanism
	// Program is what the client calls itself; empty if it does not say.
	Program string
	// Verify logs in at the mail server. The session is nil unless the password was
	// judged right. again is set when the same attempt has asked before.
	Verify func(ctx context.Context, name auth.Name, again bool) (*Session, auth.Answer)
	// Refusal are the lines for a client that is refused.
	Refusal func(auth.Verdict) string
}

// Session is a login at the mail server.
type Session struct {
	// Conn is handed to the relay when the client is let in.
	Conn net.Conn
	// Ahead is what was read behind the server's answer: it belongs to the client.
	Ahead []byte
	// Logout ends it instead.
	Logout func()
	// Welcome are the lines for the client that is let in.
	Welcome func(auth.Verdict) string
}

// kept is a session at the mail server that is not the client's yet.
type kept struct {
	*Session
	remove func() // from the registry
}

// Login puts complete credentials before the guard and answers the client. A nil
// error means that it was refused and may try again. The verdict is settled even if
// the client hangs up meanwhile.
func (c *Client) Login(l Login) error {
	var session *kept
	defer func() {
		// Refused after all (locked meanwhile, expired, revoked), the client is gone,
		// or a panic has come before the splice.
		if session != nil && c.spliced() == nil {
			session.remove()
			session.Logout()
		}
	}()
	asked := false
	attempt := auth.Attempt{
		Session: c.ID, Protocol: c.serving.protocol.Name, Source: c.source, Rejected: c.mistakes, Connected: c.begun,
		Mechanism: l.Mechanism, Login: l.Login, Authorize: l.Authorize, Password: l.Password, Program: l.Program,
		Verify: func(ctx context.Context, name auth.Name) auth.Answer {
			opened, answer := l.Verify(ctx, name, asked)
			asked = true
			if opened != nil {
				session = &kept{opened, func() {}}
				// Before the guard settles: a lock that comes behind its
				// decision then finds this session and ends it.
				if c.serving.Sessions != nil {
					from := auth.Origin{At: time.Now(), Source: c.source, Protocol: c.serving.protocol.Name, Program: auth.ProgramName(l.Program)}
					session.remove = c.serving.Sessions.Add(name, from, c.endSession)
				}
			}
			return answer
		},
	}
	var verdict auth.Verdict
	OnFreshStack(func() {
		verdict = c.serving.Guard.Attempt(context.WithoutCancel(c.serving.ctx), attempt)
	})
	if verdict.Outcome != auth.Accepted || session == nil {
		if err := c.Say(l.Refusal(verdict)); err != nil {
			return err
		}
		c.refused = time.Now()
		return c.fail()
	}
	if c.isRevoked() {
		return errVanish // an admin was faster than our welcome
	}
	c.place.LoggedIn()
	c.gate.Open()
	if err := c.Say(session.Welcome(verdict)); err != nil {
		return err
	}
	c.splice(verdict.Name, session)
	return errSpliced
}

// endSession ends the session of this client's login. A login that is still
// being settled is left to its verdict: one that revokes the account ends all
// sessions of it, and its own client is to read why.
func (c *Client) endSession() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revoked = true
	if c.pair != nil {
		c.pair.Kick()
	}
}

func (c *Client) isRevoked() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.revoked
}

// splice gives both connections to the relay; from here on this client is what
// the relay and the registry hold of it.
func (c *Client) splice(name auth.Name, session *kept) {
	ahead := c.Input.rest()
	c.Input, c.mistakes = nil, nil
	protocol, recorder := c.serving.protocol.Name, c.serving.recorder()
	remove := session.remove // and nothing else of what the mail server has said: a session lasts for hours
	c.mu.Lock()              // until those who want to end the client know where to
	defer c.mu.Unlock()
	c.pair = relay.Join(relay.Side{Conn: c.conn, Ahead: ahead}, relay.Side{Conn: session.Conn, Ahead: session.Ahead}, relay.Options{
		Idle: positive(c.serving.IdleTimeout, 35*time.Minute),
		Moved: func(fromClient, fromUpstream int) {
			recorder.Relayed(protocol, int64(fromClient), int64(fromUpstream))
		},
		Done: func(r relay.Result) {
			remove()
			log := c.Log.With("account", string(name))
			if r.Err != nil {
				log = log.With("why", r.Err)
			}
			log.Info("session ends", "from_client", r.FromClient, "to_client", r.FromUpstream,
				"seconds", int(time.Since(c.begun).Seconds()))
			c.gone()
		},
	})
	if c.ended || c.revoked {
		c.pair.Kick()
	}
	if c.brief {
		c.pair.KickWhenQuiet()
	}
}
