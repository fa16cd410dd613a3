package frontend

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"congthu/auth"
	"congthu/gateway/relay"
)

// Credentials are the credentials of a login.
type Credentials struct {
	// Authorize is the identity to act as (RFC 4616 section 2); empty: Login.
	Authorize, Login string
	Password         auth.Secret
}

// Errors of credentials that cannot belong to any account.
var (
	ErrControl = errors.New("a control character in the name")
	ErrNUL     = errors.New("a NUL in the password")
)

// Check returns why the credentials cannot belong to any account.
func (c Credentials) Check() error {
	switch {
	case hasControls(c.Login) || hasControls(c.Authorize):
		return ErrControl
	case strings.IndexByte(c.Password.Reveal(), 0) >= 0:
		return ErrNUL // RFC 4616 section 2
	}
	return nil
}

// hasControls reports control characters, which are in no account's name.
func hasControls(name string) bool {
	return strings.IndexFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) >= 0
}

// Login is one attempt of a client with complete credentials.
type Login struct {
	Credentials
	Mechanism auth.Mechanism
	// Program is the name that the client gives itself; empty if none.
	Program string
	// Verify logs in at the mail server. The session is nil unless the password was
	// right. again is set if the same attempt called Verify before.
	Verify func(ctx context.Context, name auth.Name, again bool) (*Session, auth.Answer)
	// Refusal returns the reply lines for a refused client.
	Refusal func(auth.Verdict) string
}

// Session is a login at the mail server.
type Session struct {
	// Conn goes to the relay when the client is accepted.
	Conn net.Conn
	// Ahead is data that was read after the server's answer: it belongs to the client.
	Ahead []byte
	// Logout ends the session if the client is refused.
	Logout func()
	// Welcome returns the reply lines for an accepted client.
	Welcome func(auth.Verdict) string
	// Carry starts the relay of the session. Nil: octets are copied both ways
	// ([relay.Join]).
	Carry func(Carriage) Relay
}

// Carriage is what a relay needs to start.
type Carriage struct {
	// Client and Server are the two connections. The relay owns them from now on.
	Client, Server relay.Side
	Account        auth.Name
	// Log adds the session's id, its source and its account to each line.
	Log *slog.Logger
	// The relay calls Moved and Done as [relay.Join] calls those of [relay.Options]. Done
	// logs the end of the session with the given logger.
	Moved func(fromClient, fromServer int)
	Done  func(*slog.Logger, relay.Result)
	// ReadAhead is [Gate.ReadAhead] of the client's connection.
	ReadAhead func(on bool)
	// Panicked is called for a panic, which ends this session only.
	Panicked func(value any, stack []byte)
}

// Relay carries a session. Its methods may be called at any time by any goroutine and do
// not wait.
type Relay interface {
	// Kick ends the session now.
	Kick()
	// KickWhenQuiet ends it at its next pause.
	KickWhenQuiet()
}

// drainer is a [Relay] with a last line for its client at shutdown. A relay that copies
// octets has none.
type drainer interface{ Drain() }

// kept is a session at the mail server before the verdict.
type kept struct {
	*Session
	remove func() // from the registry
}

// Login submits complete credentials to the guard and answers the client. A nil error
// means that the login was refused and the client may try again. The verdict is settled
// even if the client hangs up in the meantime.
func (c *Client) Login(l Login) error {
	var session *kept
	var mu sync.Mutex // guards session until the verdict: a guard that gave up may still be asking
	settled := false
	defer func() {
		// The account was refused after all (locked in the meantime, expired, revoked),
		// the client has gone, or a panic came before the splice.
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
			mu.Lock()
			defer mu.Unlock()
			asked = true
			switch {
			case opened == nil:
			case settled:
				opened.Logout()
			default:
				session = &kept{opened, func() {}}
				// Registered before the guard settles: a lock that comes after its
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
	mu.Lock()
	settled = true
	mu.Unlock()
	if verdict.Outcome != auth.Accepted || session == nil {
		if err := c.Say(l.Refusal(verdict)); err != nil {
			return err
		}
		c.refused = time.Now()
		return c.fail()
	}
	if c.isRevoked() {
		return errVanish // a lock came before our welcome
	}
	c.place.LoggedIn()
	c.gate.Open()
	if err := c.Say(session.Welcome(verdict)); err != nil {
		return err
	}
	c.splice(verdict.Name, session)
	return errSpliced
}

// endSession ends the session of this client's login. A login that is still being
// settled waits for its verdict: a verdict that revokes the account ends all its
// sessions, and this client should read the reason.
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

// splice gives both connections to the relay. From here on, only the relay and the
// registry refer to this client.
func (c *Client) splice(name auth.Name, session *kept) {
	ahead := c.Input.rest()
	c.Input, c.mistakes = nil, nil
	protocol, recorder := c.serving.protocol.Name, c.serving.recorder()
	remove := session.remove // and nothing else of the mail server's answer: a session lasts for hours
	carry := session.Carry
	if carry == nil {
		carry = c.join
	}
	c.mu.Lock() // until callers that end the client can find the relay
	defer c.mu.Unlock()
	c.pair = carry(Carriage{
		Client: relay.Side{Conn: c.conn, Ahead: ahead}, Server: relay.Side{Conn: session.Conn, Ahead: session.Ahead},
		Account: name, Log: c.Log.With("account", string(name)),
		Moved: func(fromClient, fromServer int) {
			recorder.Relayed(protocol, int64(fromClient), int64(fromServer))
		},
		Done: func(log *slog.Logger, r relay.Result) {
			remove()
			if r.Err != nil {
				log = log.With("why", r.Err)
			}
			log.Info("session ends", "from_client", r.FromClient, "to_client", r.FromUpstream,
				"seconds", int(time.Since(c.begun).Seconds()))
			c.gone()
		},
		Panicked: c.panicked, ReadAhead: c.gate.ReadAhead,
	})
	if c.ended || c.revoked {
		c.pair.Kick()
	}
	if c.brief {
		c.pair.KickWhenQuiet()
	}
	if d, ok := c.pair.(drainer); ok && c.draining {
		d.Drain()
	}
}

// join starts a relay that copies octets both ways.
func (c *Client) join(s Carriage) Relay {
	return relay.Join(s.Client, s.Server, relay.Options{
		Idle: positive(c.serving.IdleTimeout, 35*time.Minute), Moved: s.Moved,
		Done: func(r relay.Result) { s.Done(s.Log, r) },
	})
}
