package smtp

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"congthu/auth"
	"congthu/gateway/frontend"
	"congthu/gateway/smtp/wire"
	"congthu/gateway/upstream"
)

// dialogue is the conversation with one client up to its login.
type dialogue struct {
	*frontend.Client
	server *Server
	// offered are the mail server's extensions as they were known at the greeting.
	offered upstream.Extensions
}

func (s *Server) speak(c *frontend.Client) error {
	if s.Away != nil && s.Away() {
		// Mail programs show the text of a greeting, and ask for no password, as they do
		// after a 454 to AUTH.
		if err := c.Say(line(away.says(s.Words(auth.Unavailable)))); err != nil {
			return err
		}
		return frontend.ErrLoggedOut
	}
	d := &dialogue{Client: c, server: s}
	if known := s.extensions.Load(); known != nil {
		d.offered = *known
	}
	err := d.Say("220 " + d.Hostname() + " ESMTP\r\n") // RFC 5321 section 4.3.1
	for err == nil {
		err = d.next()
	}
	return err
}

// next reads one command and answers it. The error says why there is no next.
func (d *dialogue) next() error {
	d.Arm()
	text, err := d.Input.Line(frontend.MaxCommand)
	if err != nil {
		return err
	}
	if strings.ContainsAny(text, "\x00\r") {
		return d.bad(badData, "A NUL or CR is not allowed")
	}
	text = strings.Trim(text, " \t")
	verb, argument, _ := strings.Cut(text, " ")
	argument = strings.Trim(argument, " \t")
	if verb = strings.ToUpper(verb); verb != "AUTH" && len(text) > wire.MaxCommand {
		return d.bad(badData, "Line too long")
	}
	switch verb {
	case "EHLO":
		return d.Say(wire.Hello(d.hello()...))
	case "HELO":
		return d.Say(wire.Hello(d.Hostname()))
	case "NOOP", "RSET":
		return d.Say("250 2.0.0 Ok\r\n")
	case "QUIT":
		if err := d.Say("221 2.0.0 Bye\r\n"); err != nil {
			return err
		}
		return frontend.ErrLoggedOut
	case "STARTTLS":
		return d.startTLS(argument)
	case "AUTH":
		return d.auth(argument)
	case "BDAT": // what follows it is no command, be it refused or not
		size, _, err := wire.ParseBDAT(argument)
		if err != nil || size > frontend.MaxCommand {
			return frontend.MuchData
		}
		if _, err := d.Input.Octets(int(size)); err != nil {
			return err
		}
		fallthrough
	case "MAIL", "RCPT", "DATA", "VRFY", "EXPN", "ETRN", "HELP":
		if d.Secured() {
			return d.bad(loginFirst, "Authentication required") // RFC 4954 section 6
		}
		return d.bad(loginFirst, "Must issue a STARTTLS command first") // RFC 3207 section 4
	}
	if isHTTP(text) {
		return frontend.NoWebServer
	}
	return d.bad(unknown, "Command not implemented") // RFC 5321 section 4.2.4
}

// httpFields are fields of a request that a browser can be made to send.
var httpFields = []string{"HOST:", "USER-AGENT:", "CONTENT-LENGTH:"}

// isHTTP recognises a browser that was made to talk to a mail server.
func isHTTP(text string) bool {
	word, _, _ := strings.Cut(text, " ")
	return strings.Contains(text, " HTTP/") || slices.Contains(httpFields, strings.ToUpper(word))
}

// bad answers something that is no command, or not now. The text repeats nothing of what
// the client sent: it may be a password.
func (d *dialogue) bad(c code, text string) error {
	if err := d.Say(line(c.says(text))); err != nil {
		return err
	}
	return d.Bad()
}

// hello are the lines of the reply to EHLO. Under TLS they are what the mail server
// offers after the login, so that nobody has to ask again.
func (d *dialogue) hello() []string {
	lines := []string{d.Hostname()}
	switch {
	case !d.Secured() && d.OffersTLS():
		return append(lines, "PIPELINING", "ENHANCEDSTATUSCODES", "STARTTLS")
	case !d.Secured():
		return append(lines, "PIPELINING", "ENHANCEDSTATUSCODES")
	}
	if d.offered == nil { // the mail server could not be asked
		lines = append(lines, "PIPELINING", "ENHANCEDSTATUSCODES")
	}
	for _, keyword := range slices.Sorted(maps.Keys(d.offered)) {
		if !wire.Hidden(keyword) {
			lines = append(lines, strings.TrimRight(keyword+" "+d.offered[keyword], " "))
		}
	}
	return append(append(lines, d.server.limits()...), "AUTH PLAIN LOGIN")
}

// limits are the extensions that are ours (RFC 9422).
func (s *Server) limits() []string {
	if s.MaxRecipients == 0 {
		return nil
	}
	return []string{"LIMITS RCPTMAX=" + strconv.Itoa(s.MaxRecipients)}
}

func (d *dialogue) startTLS(argument string) error {
	switch {
	case argument != "":
		return d.bad(badArgument, "STARTTLS has no arguments") // RFC 3207 section 4
	case d.Secured():
		return d.bad(wrongOrder, "TLS is on already")
	case !d.OffersTLS():
		return d.bad(unknown, "There is no TLS here")
	}
	return d.StartTLS("220 2.0.0 Ready to start TLS\r\n")
}

// maxExchange bounds what a client may say within one AUTH, in base64 (RFC 4954
// section 4).
const maxExchange = 12288

// auth is the AUTH command (RFC 4954 section 4).
func (d *dialogue) auth(argument string) error {
	name, initial, hasInitial := strings.Cut(argument, " ")
	if name == "" {
		return d.bad(badArgument, "AUTH wants a mechanism")
	}
	mech, ok := frontend.Choose(name)
	if !ok {
		if err := d.Say(line(badMechanism.says("Mechanism not available"))); err != nil {
			return err
		}
		return d.BadMechanism()
	}
	if !d.Secured() {
		// Before the 334: a client that waits for it keeps its password.
		return d.Cleartext(mech.Name, d.server.refusal(auth.Verdict{Outcome: auth.Cleartext}))
	}
	var response []byte // nil: no initial response
	if initial = strings.TrimLeft(initial, " "); hasInitial && initial != "" {
		var err error
		if len(initial) > maxExchange {
			return d.bad(tooLong, "Authentication exchange is too long")
		}
		if response, err = frontend.Decode(initial, true); err != nil {
			return d.bad(badResponse, "Malformed authentication response")
		}
	}
	given, err := d.Authenticate(mech, response)
	var nothing frontend.SASLError
	switch {
	case errors.As(err, &nothing):
		return d.bad(badResponse, "Malformed authentication response, or none")
	case err != nil:
		return err
	case given.Check() != nil || given.Login == "" || given.Password.IsZero(): // RFC 4616 section 2
		return d.bad(badResponse, "Malformed authentication response")
	}
	return d.try(mech.Name, given)
}

// try puts complete credentials before the guard, and answers.
func (d *dialogue) try(mech auth.Mechanism, given frontend.Credentials) error {
	return d.Login(frontend.Login{
		Credentials: given, Mechanism: mech,
		Verify: func(ctx context.Context, name auth.Name, again bool) (*frontend.Session, auth.Answer) {
			conn, answer := d.server.Upstream.LoginSMTP(ctx, name, given.Password,
				upstream.Client{Address: d.Source(), TLS: upstream.TLSVersion(d.Conn()), Session: d.ID, Fresh: again})
			if conn == nil {
				return nil, answer
			}
			return &frontend.Session{
				Conn: conn.Conn, Ahead: conn.Ahead, Logout: conn.Logout,
				Welcome: func(auth.Verdict) string { return conn.OK },
				Carry: func(c frontend.Carriage) frontend.Relay {
					return d.server.carry(c, d.Hostname(), conn.Extensions)
				},
			}, answer
		},
		Refusal: d.server.refusal,
	})
}
