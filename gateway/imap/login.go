package imap

import (
	"context"
	"errors"
	"strings"

	"congthu/auth"
	"congthu/gateway/frontend"
	"congthu/gateway/upstream"
)

// login executes the LOGIN command.
func (d *dialogue) login(tag string, args *scanner) error {
	if !d.Secured() {
		return d.cleartext(tag, auth.LoginCommand)
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
	return d.try(tag, auth.LoginCommand, frontend.Credentials{Login: name, Password: auth.NewSecret(password)})
}

// authenticate executes the AUTHENTICATE command.
func (d *dialogue) authenticate(tag string, args *scanner) error {
	if !args.take(" ") {
		return args.bad("AUTHENTICATE wants a mechanism")
	}
	var name string
	if !strings.HasPrefix(*args.text(), `"`) { // a quoted string is not a mechanism
		var err error
		if name, err = args.word(); err != nil {
			return err
		}
	}
	mech, ok := frontend.Choose(name)
	if !ok {
		// RFC 9051 section 6.2.2 requires NO; a client that repeats this often is
		// ended.
		if err := d.Say(tag + " NO no such mechanism\r\n"); err != nil {
			return err
		}
		return d.BadMechanism()
	}
	if !d.Secured() {
		// Before the "+": a client that waits for it does not send its password.
		return d.cleartext(tag, mech.Name)
	}
	var response []byte // nil: no initial response
	if args.blanks() && !args.end() {
		initial, err := args.word()
		if err != nil {
			return err
		}
		if response, err = frontend.Decode(initial, true); err != nil {
			return args.bad("%v", err) // RFC 9051 section 6.2.2
		}
	}
	if !args.end() {
		return args.bad("something follows the initial response")
	}
	given, err := d.Authenticate(mech, response)
	var nothing frontend.SASLError
	switch {
	case errors.As(err, &nothing):
		return args.bad("%s", string(nothing))
	case err != nil:
		return err
	}
	return d.try(tag, mech.Name, given)
}

// cleartext refuses credentials, or the start of an exchange, without TLS (RFC 9051
// section 6.2.3).
func (d *dialogue) cleartext(tag string, mech auth.Mechanism) error {
	return d.Cleartext(mech, tag+" "+d.server.refusal(auth.Verdict{Outcome: auth.Cleartext})+"\r\n")
}

// try submits complete credentials to the guard, and answers.
func (d *dialogue) try(tag string, mech auth.Mechanism, given frontend.Credentials) error {
	if err := given.Check(); err != nil {
		return &syntaxError{tag, err.Error()}
	}
	program := ""
	for _, field := range d.said {
		if strings.EqualFold(field.Name, "name") { // RFC 2971 section 3.3
			program = field.Value
		}
	}
	return d.Login(frontend.Login{
		Credentials: given, Mechanism: mech, Program: program,
		Verify: func(ctx context.Context, name auth.Name, again bool) (*frontend.Session, auth.Answer) {
			conn, answer := d.server.Upstream.LoginIMAP(ctx, name, given.Password,
				upstream.Client{Address: d.Source(), TLS: upstream.TLSVersion(d.Conn()), Session: d.ID, ID: d.said, Fresh: again})
			if conn == nil {
				return nil, answer
			}
			return &frontend.Session{
				Conn: conn.Conn, Ahead: conn.Ahead, Logout: conn.Logout,
				Welcome: func(v auth.Verdict) string { return d.server.welcome(tag, v, conn) },
			}, answer
		},
		Refusal: func(v auth.Verdict) string {
			return d.server.alert(v) + tag + " " + d.server.refusal(v) + "\r\n"
		},
	})
}

// welcome returns what the client reads at its login, in one write: the alert, the mail
// server's untagged responses, the capabilities unless the mail server sends them (RFC
// 9051 section 6.2.2, 6.2.3: those from before the login are void), and the mail
// server's own answer.
func (s *Server) welcome(tag string, v auth.Verdict, conn *upstream.IMAPConn) string {
	var b strings.Builder
	if v.Alert && s.AlertText != nil {
		b.WriteString("* OK [ALERT] " + frontend.OneLine(s.AlertText(v.ExpiresIn)) + "\r\n")
	}
	b.Write(conn.Untagged)
	if !conn.HasCapabilities {
		b.WriteString("* CAPABILITY " + conn.Capabilities + "\r\n")
	}
	b.WriteString(tag + " " + conn.OK + "\r\n")
	return b.String()
}
