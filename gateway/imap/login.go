package imap

import (
	"context"
	"encoding/base64"
	"strings"
	"time"

	"congthu/auth"
	"congthu/gateway/relay"
	"congthu/gateway/upstream"
)

// login is the LOGIN command.
func (c *client) login(tag string, args *scanner) error {
	if !c.secure {
		return c.cleartext(tag, auth.LoginCommand)
	}
	if !args.blanks() {
		return args.bad("LOGIN wants a name and a password")
	}
	name, err := args.astring()
	if err != nil {
		return err
	}
	if !args.between() {
		return args.bad("LOGIN wants a name and a password")
	}
	password, err := args.astring()
	if err != nil {
		return err
	}
	if !args.end() {
		return args.bad("something follows the password")
	}
	return c.try(tag, auth.LoginCommand, credentials{login: name, password: auth.NewSecret(password)})
}

// authenticate is the AUTHENTICATE command.
func (c *client) authenticate(tag string, args *scanner) error {
	if !args.take(" ") {
		return args.bad("AUTHENTICATE wants a mechanism")
	}
	var name string
	if !strings.HasPrefix(*args.text(), `"`) { // in quotes it is no mechanism
		var err error
		if name, err = args.word(); err != nil {
			return err
		}
	}
	var given credentials
	server, mech := mechanism(name, &given)
	if server == nil {
		// RFC 9051 section 6.2.2: NO; but no client does that often.
		if err := c.say(tag + " NO no such mechanism\r\n"); err != nil {
			return err
		}
		return c.again(&c.bad, orElse(c.server.MaxBad, 5))
	}
	if !c.secure {
		// Before the "+": a client that waits for it keeps its password.
		return c.cleartext(tag, mech)
	}
	var response []byte // nil: no initial response
	if args.blanks() && !args.end() {
		initial, err := args.word()
		if err != nil {
			return err
		}
		if response, err = decode(initial, true); err != nil {
			return args.bad("%v", err) // RFC 9051 section 6.2.2
		}
	}
	if !args.end() {
		return args.bad("something follows the initial response")
	}
	for {
		challenge, done, err := server.Next(response)
		if err != nil {
			return args.bad("malformed credentials")
		}
		if done {
			return c.try(tag, mech, given)
		}
		if err := c.say("+ " + base64.StdEncoding.EncodeToString(challenge) + "\r\n"); err != nil {
			return err
		}
		line, err := c.in.line(maxSASL)
		switch {
		case err != nil:
			return err
		case line == "*":
			return args.bad("cancelled") // RFC 9051 section 6.2.2
		}
		if response, err = decode(line, false); err != nil {
			return args.bad("%v", err)
		}
	}
}

// cleartext refuses credentials, or the offer of some, without TLS (RFC 9051
// section 6.2.3). They reach nobody and are not counted.
func (c *client) cleartext(tag string, mech auth.Mechanism) error {
	if c.server.Refused != nil {
		c.server.Refused(auth.Attempt{Session: c.id, Protocol: auth.IMAP, Mechanism: mech, Source: c.source}, auth.Cleartext)
	}
	if err := c.say(tag + " " + c.server.refusal(auth.Verdict{Outcome: auth.Cleartext}) + "\r\n"); err != nil {
		return err
	}
	return c.again(&c.failed, orElse(c.server.MaxFailures, 10))
}

// again counts something that a connection may do a few times only.
func (c *client) again(times *int, most int) error {
	if *times++; *times >= most {
		return farewellRefusals
	}
	return nil
}

// loggedIn is a session at the mail server that is not the client's yet.
type loggedIn struct {
	*upstream.IMAPConn
	remove func() // from the registry
}

// try puts complete credentials before the guard, and answers.
func (c *client) try(tag string, mech auth.Mechanism, given credentials) error {
	if hasControls(given.login) || hasControls(given.authorize) {
		return &syntaxError{tag, "a control character in the name"}
	}
	if strings.IndexByte(given.password.Reveal(), 0) >= 0 {
		return &syntaxError{tag, "a NUL in the password"}
	}
	var kept *loggedIn
	defer func() {
		// Refused after all (locked meanwhile, expired, revoked), the client is gone,
		// or a panic has come before the splice.
		if kept != nil && c.spliced() == nil {
			kept.remove()
			kept.Logout()
		}
	}()
	asked := false
	verdict := c.attempt(auth.Attempt{
		Mechanism: mech, Login: given.login, Authorize: given.authorize, Password: given.password,
		Verify: func(ctx context.Context, name auth.Name) auth.Answer {
			conn, answer := c.server.Upstream.LoginIMAP(ctx, name, given.password,
				upstream.Client{Address: c.source, TLS: upstream.TLSVersion(c.conn), Session: c.id, ID: c.said, Fresh: asked})
			asked = true
			if conn != nil {
				kept = &loggedIn{conn, func() {}}
				// Before the guard settles: a lock that comes behind its
				// decision then finds this session and ends it.
				if c.server.Sessions != nil {
					kept.remove = c.server.Sessions.Add(name, c.endSession)
				}
			}
			return answer
		},
	})
	if verdict.Outcome != auth.Accepted || kept == nil {
		if err := c.say(c.server.alert(verdict) + tag + " " + c.server.refusal(verdict) + "\r\n"); err != nil {
			return err
		}
		c.refused = time.Now()
		return c.again(&c.failed, orElse(c.server.MaxFailures, 10))
	}
	if c.isRevoked() {
		return errVanish // an admin was faster than our OK
	}
	if err := c.say(c.welcome(tag, verdict, kept.IMAPConn)); err != nil {
		return err
	}
	c.splice(verdict.Name, kept)
	return errSpliced
}

// hasControls reports control characters, which no name has.
func hasControls(name string) bool {
	return strings.IndexFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) >= 0
}

// welcome is what the client reads at its login, in one write: the alert, what
// the mail server has said, the capabilities unless the client gets them from
// there (RFC 9051 section 6.2.2, 6.2.3: those from before the login are void),
// and the mail server's own words.
func (c *client) welcome(tag string, v auth.Verdict, conn *upstream.IMAPConn) string {
	var b strings.Builder
	if v.Alert && c.server.AlertText != nil {
		b.WriteString("* OK [ALERT] " + oneLine(c.server.AlertText(v.ExpiresIn)) + "\r\n")
	}
	b.Write(conn.Untagged)
	if !conn.Told {
		b.WriteString("* CAPABILITY " + conn.Capabilities + "\r\n")
	}
	b.WriteString(tag + " " + conn.OK + "\r\n")
	return b.String()
}

// splice gives both connections to the relay; from here on this client is what
// the relay and the registry hold of it.
func (c *client) splice(name auth.Name, kept *loggedIn) {
	ahead := c.in.rest()
	c.in, c.said, c.mistakes = nil, nil, nil
	recorder := c.server.recorder()
	remove := kept.remove // and nothing else of what the mail server has said: a session lasts for hours
	c.mu.Lock()           // until those who want to end the client know where to
	defer c.mu.Unlock()
	c.pair = relay.Join(relay.Side{Conn: c.conn, Ahead: ahead}, relay.Side{Conn: kept.Conn, Ahead: kept.Ahead}, relay.Options{
		Idle: orElse(c.server.IdleTimeout, 35*time.Minute),
		Moved: func(fromClient, fromUpstream int) {
			recorder.Relayed(auth.IMAP, int64(fromClient), int64(fromUpstream))
		},
		Done: func(r relay.Result) {
			remove()
			log := c.log.With("account", string(name))
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
