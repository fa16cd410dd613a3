package imap

import (
	"errors"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"congthu/auth"
	"congthu/gateway/frontend"
	"congthu/gateway/upstream"
)

// next reads one command and answers it. The error is the reason for the end of the
// dialogue.
func (d *dialogue) next() error {
	d.Arm()
	cmd, err := readCommand(d.Input, d.admit)
	if err == nil {
		err = d.obey(cmd)
	}
	var bad *syntaxError
	switch {
	case errors.As(err, &bad):
		return d.refuse(bad)
	case errors.Is(err, errAnswered):
		return nil
	}
	return err
}

// errAnswered: the command was answered before it was complete.
var errAnswered = errors.New("answered")

// refuse answers a command that is unknown or not permitted now.
func (d *dialogue) refuse(bad *syntaxError) error {
	if err := d.Say(bad.tag + " BAD " + bad.text + "\r\n"); err != nil {
		return err
	}
	return d.Bad()
}

// looksLikeHTTP recognizes a request line: "POST / HTTP/1.1".
func looksLikeHTTP(cmd command) bool {
	return len(cmd.args) > 0 && strings.Contains(cmd.args[0].octets, " HTTP/")
}

// admit decides whether the client may send a literal that it has announced. The error
// is nil if it may, and errAnswered if it was refused.
func (d *dialogue) admit(cmd command, a announced) error {
	var err error
	switch {
	case a.size > maxLiteral:
		return &syntaxError{cmd.tag, errLiteralTooLong.Error()}
	case cmd.name == "LOGIN" && !d.Secured():
		err = d.cleartext(cmd.tag, auth.LoginCommand)
	case cmd.name != "LOGIN" && cmd.name != "ID":
		return &syntaxError{cmd.tag, notNow}
	default:
		return d.Say("+ go on\r\n") // RFC 9051 section 7.6
	}
	if err == nil {
		err = errAnswered
	}
	return err
}

const notNow = "unknown, or not before login"

// obey executes a command.
func (d *dialogue) obey(cmd command) error {
	args := cmd.scan()
	switch cmd.name {
	case "CAPABILITY": // RFC 9051 section 6.1.1
		if err := args.skip(); err != nil {
			return err
		}
		return d.Say("* CAPABILITY " + d.capabilities() + "\r\n" + cmd.tag + " OK done\r\n")
	case "NOOP": // section 6.1.2
		if err := args.skip(); err != nil {
			return err
		}
		return d.Say(cmd.tag + " OK done\r\n")
	case "LOGOUT": // section 6.1.3
		if err := args.skip(); err != nil {
			return err
		}
		if err := d.Say("* BYE " + string(frontend.LoggedOut) + "\r\n" + cmd.tag + " OK done\r\n"); err != nil {
			return err
		}
		return frontend.ErrLoggedOut
	case "ENABLE": // RFC 5161: after login, but some clients send it before
		if err := args.skip(); err != nil {
			return err
		}
		return d.Say("* ENABLED\r\n" + cmd.tag + " OK done\r\n")
	case "STARTTLS": // section 6.2.1
		if !args.end() {
			return args.bad("no arguments, please")
		}
		return d.startTLS(cmd.tag)
	case "ID": // RFC 2971
		return d.identify(cmd.tag, args)
	case "LOGIN": // RFC 9051 section 6.2.3
		return d.login(cmd.tag, args)
	case "AUTHENTICATE": // section 6.2.2
		return d.authenticate(cmd.tag, args)
	}
	if looksLikeHTTP(cmd) {
		return frontend.NoWebServer
	}
	return args.bad(notNow)
}

// ours are capabilities that only this dialogue can promise, or must not promise: it
// ends at the login. LOGIN covers LOGIN-REFERRALS (RFC 2221), which would lead clients
// past the rules.
var ours = []string{"IMAP4", "AUTH=", "LOGIN", "SASL", "STARTTLS", "LITERAL", "UNAUTHENTICATE", "X-"}

// maxShown limits the shown capabilities of the mail server, in octets.
const maxShown = 1 << 10

// shown returns the mail server's capabilities that hold after login and that some
// clients check only before it, such as IDLE.
func (d *dialogue) shown() (caps []imap.Cap) {
	if d.server.Shown == nil {
		return nil
	}
	room := maxShown
	for _, name := range d.server.Shown() {
		mine := func(prefix string) bool { return strings.HasPrefix(string(name), prefix) }
		if room -= len(name) + 1; room < 0 {
			break
		}
		if name != imap.CapID && !slices.ContainsFunc(ours, mine) && atom(string(name)) != "" {
			caps = append(caps, name)
		}
	}
	return caps
}

// capabilities returns those before login; after it, the client reads the mail server's
// own.
func (d *dialogue) capabilities() string {
	caps := []imap.Cap{imap.CapIMAP4rev1, imap.CapLiteralPlus, imap.CapSASLIR, imap.CapID}
	switch {
	case d.Secured():
		caps = append(caps, imap.AuthCap("PLAIN"), imap.AuthCap("LOGIN"))
	case d.OffersTLS():
		caps = append(caps, imap.CapStartTLS, imap.CapLoginDisabled) // RFC 9051 section 6.2.3
	default:
		caps = append(caps, imap.CapLoginDisabled)
	}
	caps = append(caps, d.shown()...)
	var b strings.Builder
	for i, name := range caps {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(string(name))
	}
	return b.String()
}

func (d *dialogue) startTLS(tag string) error {
	switch {
	case d.Secured():
		return &syntaxError{tag, "TLS is on already"}
	case !d.OffersTLS():
		return &syntaxError{tag, "there is no TLS here"}
	}
	if err := d.StartTLS(tag + " OK begin\r\n"); err != nil {
		return err
	}
	d.said = nil // data from before TLS is forgotten (section 6.2.1)
	return nil
}

// Limits of RFC 2971 section 3.3.
const (
	maxIDFields = 30
	maxIDName   = 30
	maxIDValue  = 1024
)

// identify records the client's ID fields and the address that a forwarder names.
// Fields that only a proxy may add are not passed on.
func (d *dialogue) identify(tag string, args *scanner) error {
	var said []upstream.IDField
	var from origin
	args.blanks()
	if args.take("(") {
		for n := 0; ; n++ {
			if args.blanks(); args.take(")") {
				break
			}
			name, err := args.anyString()
			if err != nil {
				return err
			}
			if !args.between() && !strings.HasPrefix(*args.text(), ")") {
				return args.bad("no space between the fields")
			}
			if args.blanks(); args.takeNil() || strings.HasPrefix(*args.text(), ")") {
				continue // a field without a value
			}
			value, err := args.anyString()
			if err != nil {
				return err
			}
			if len(name) > maxIDName || len(value) > maxIDValue {
				return args.bad("a field is too long")
			}
			if n >= maxIDFields {
				continue // RFC 2971 section 3.3: clients must not send so many
			}
			from.note(name, value)
			if !strings.HasPrefix(strings.ToLower(name), "x-") {
				said = append(said, upstream.IDField{Name: name, Value: value})
			}
		}
	} else if !args.takeNil() && !args.end() {
		return args.bad("ID wants a list or NIL")
	}
	// Arguments after the list are ignored, as in Dovecot.
	d.said = said
	d.believe(from)
	return d.Say("* ID (\"name\" \"congthu\")\r\n" + tag + " OK done\r\n")
}
