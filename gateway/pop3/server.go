package pop3

import (
	"context"
	"errors"
	"net"
	"strings"

	"congthu/auth"
	"congthu/gateway/frontend"
	"congthu/gateway/upstream"
)

// Upstream logs in at the mail server. The connection is nil unless the password was
// judged right.
type Upstream interface {
	LoginPOP3(context.Context, auth.Name, auth.Secret, upstream.Client) (*upstream.POP3Conn, auth.Answer)
}

// Server serves POP3. Set the fields before Serve and do not change them afterwards. It
// may serve several listeners at once.
type Server struct {
	// Server is the front end.
	frontend.Server
	// Upstream is required.
	Upstream Upstream
}

// Serve accepts clients from l as [frontend.Server.Serve] does.
func (s *Server) Serve(ctx context.Context, l net.Listener, implicit bool) error {
	return s.Server.Serve(ctx, l, implicit, s.protocol())
}

func (s *Server) protocol() frontend.Protocol {
	return frontend.Protocol{Name: auth.POP3, ALPN: []string{"pop3"}, Speak: s.speak, Bye: bye}
}

// dialogue is the conversation with one client up to its login.
type dialogue struct {
	*frontend.Client
	server *Server
	user   string // from USER
	named  bool   // after USER
}

func (s *Server) speak(c *frontend.Client) error {
	d := &dialogue{Client: c, server: s}
	// RFC 1939 section 4; without a timestamp there is no APOP (section 7).
	err := d.Say("+OK " + d.Hostname() + " ready\r\n")
	for err == nil {
		err = d.next()
	}
	return err
}

// next reads one command and answers it. The error is the reason for the end of the
// dialogue.
func (d *dialogue) next() error {
	d.Arm()
	line, err := d.Input.Line(frontend.MaxCommand)
	if err != nil {
		return err
	}
	keyword, argument, given := strings.Cut(line, " ")
	if strings.ContainsAny(line, "\x00\r") {
		return d.bad("a NUL or CR")
	}
	switch strings.ToUpper(keyword) { // RFC 1939 section 3: case-insensitive
	case "CAPA": // RFC 2449 section 5
		return d.Say("+OK\r\n" + d.capabilities() + ".\r\n")
	case "USER": // RFC 1939 section 7
		return d.userCommand(argument)
	case "PASS":
		return d.pass(argument)
	case "AUTH": // RFC 5034 section 4
		return d.auth(argument, given)
	case "STLS": // RFC 2595 section 4
		return d.startTLS(argument)
	case "QUIT": // RFC 1939 section 5
		if err := d.Say("+OK " + string(frontend.LoggedOut) + "\r\n"); err != nil {
			return err
		}
		return frontend.ErrLoggedOut
	}
	if strings.Contains(line, " HTTP/") {
		return frontend.NoWebServer
	}
	return d.bad("unknown, or not before login")
}

// bad answers a command that is unknown or not permitted now. The text repeats nothing
// that the client sent: it may be a password.
func (d *dialogue) bad(text string) error {
	if err := d.Say("-ERR " + text + "\r\n"); err != nil {
		return err
	}
	return d.Bad()
}

// capabilities returns those before login; after it the mail server answers itself.
func (d *dialogue) capabilities() string {
	// TOP and UIDL hold after login; some programs check for them before it.
	list := "TOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\n"
	switch {
	case d.Secured():
		list += "USER\r\nSASL PLAIN LOGIN\r\n"
	case d.OffersTLS():
		list += "STLS\r\n"
	}
	return list
}

func (d *dialogue) startTLS(argument string) error {
	switch {
	case strings.TrimSpace(argument) != "":
		return d.bad("no arguments, please")
	case d.Secured():
		return d.bad("TLS is on already")
	case !d.OffersTLS():
		return d.bad("there is no TLS here")
	}
	if err := d.StartTLS("+OK begin\r\n"); err != nil {
		return err
	}
	d.user, d.named = "", false // RFC 2595 section 4: data from before TLS is forgotten
	return nil
}

// userCommand records the name. It accepts any name, so that the reply does not reveal
// whether the account exists.
func (d *dialogue) userCommand(name string) error {
	if !d.Secured() {
		// Before PASS: a client that waits for the answer does not send its password.
		return d.cleartext(auth.LoginCommand)
	}
	if name == "" {
		return d.bad("USER wants a name")
	}
	d.user, d.named = name, true
	return d.Say("+OK\r\n")
}

// pass reads the password: everything after the blank, with further blanks (RFC 1939
// section 7).
func (d *dialogue) pass(password string) error {
	if !d.Secured() {
		return d.cleartext(auth.LoginCommand)
	}
	if !d.named {
		return d.bad("USER comes first")
	}
	name := d.user
	d.user, d.named = "", false
	return d.try(auth.LoginCommand, frontend.Credentials{Login: name, Password: auth.NewSecret(password)})
}

// auth executes the AUTH command. Without an argument it lists the mechanisms, as
// programs older than CAPA expect.
func (d *dialogue) auth(argument string, given bool) error {
	if !given || argument == "" {
		if !d.Secured() {
			return d.bad("AUTH needs TLS")
		}
		return d.Say("+OK\r\nPLAIN\r\nLOGIN\r\n.\r\n")
	}
	name, initial, hasInitial := strings.Cut(argument, " ")
	mech, ok := frontend.Choose(name)
	if !ok {
		if err := d.Say("-ERR no such mechanism\r\n"); err != nil {
			return err
		}
		return d.BadMechanism()
	}
	if !d.Secured() {
		// Before the "+": a client that waits for it does not send its password.
		return d.cleartext(mech.Name)
	}
	var response []byte // nil: no initial response
	if hasInitial {
		var err error
		if response, err = frontend.Decode(initial, true); err != nil {
			return d.bad(err.Error())
		}
	}
	credentials, err := d.Authenticate(mech, response)
	var nothing frontend.SASLError
	switch {
	case errors.As(err, &nothing):
		return d.bad(string(nothing))
	case err != nil:
		return err
	}
	return d.try(mech.Name, credentials)
}

// cleartext refuses credentials, or the start of an exchange, without TLS (RFC 2595
// section 2.1).
func (d *dialogue) cleartext(mech auth.Mechanism) error {
	return d.Cleartext(mech, d.server.refusal(auth.Verdict{Outcome: auth.Cleartext}))
}

// try submits complete credentials to the guard, and answers.
func (d *dialogue) try(mech auth.Mechanism, given frontend.Credentials) error {
	if err := given.Check(); err != nil {
		return d.bad(err.Error())
	}
	return d.Login(frontend.Login{
		Credentials: given, Mechanism: mech,
		Verify: func(ctx context.Context, name auth.Name, again bool) (*frontend.Session, auth.Answer) {
			conn, answer := d.server.Upstream.LoginPOP3(ctx, name, given.Password,
				upstream.Client{Address: d.Source(), TLS: upstream.TLSVersion(d.Conn()), Session: d.ID, Fresh: again})
			if conn == nil {
				return nil, answer
			}
			return &frontend.Session{
				Conn: conn.Conn, Ahead: conn.Ahead, Logout: conn.Logout,
				Welcome: func(auth.Verdict) string { return conn.OK + "\r\n" },
			}, answer
		},
		Refusal: d.server.refusal,
	})
}
