package imap

import (
	"errors"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"congthu/auth"
	"congthu/gateway/upstream"
)

// next reads one command and answers it. The error says why there is no next.
func (c *client) next() error {
	c.arm()
	cmd, err := c.in.command(c.admit)
	if err == nil {
		err = c.obey(cmd)
	}
	var bad *syntaxError
	switch {
	case errors.As(err, &bad):
		return c.refuse(bad)
	case errors.Is(err, errAnswered):
		return nil
	}
	return err
}

// errAnswered: the command was answered before it was complete.
var errAnswered = errors.New("answered")

// refuse answers something that is no command, or not now.
func (c *client) refuse(bad *syntaxError) error {
	if err := c.say(bad.tag + " BAD " + bad.text + "\r\n"); err != nil {
		return err
	}
	// A browser, or another protocol's client, must not get far.
	if c.bad++; c.bad >= orElse(c.server.MaxBad, 5) {
		return farewellCommands
	}
	return nil
}

// looksLikeHTTP recognises a request line: "POST / HTTP/1.1".
func looksLikeHTTP(cmd command) bool {
	return len(cmd.args) > 0 && strings.Contains(cmd.args[0].octets, " HTTP/")
}

// admit decides whether the client may send a literal that it asks for. The
// error is nil if it may, and errAnswered if it was told that it may not.
func (c *client) admit(cmd command, a announced) error {
	var err error
	switch {
	case a.size > maxLiteral:
		return &syntaxError{cmd.tag, errLiteralTooLong.Error()}
	case cmd.name == "LOGIN" && !c.secure:
		err = c.cleartext(cmd.tag, auth.LoginCommand)
	case cmd.name != "LOGIN" && cmd.name != "ID":
		return &syntaxError{cmd.tag, notNow}
	default:
		return c.say("+ go on\r\n") // RFC 9051 section 7.6
	}
	if err == nil {
		err = errAnswered
	}
	return err
}

const notNow = "unknown, or not before login"

// obey does a command.
func (c *client) obey(cmd command) error {
	args := cmd.scan()
	switch cmd.name {
	case "CAPABILITY": // RFC 9051 section 6.1.1
		if err := args.skip(); err != nil {
			return err
		}
		return c.say("* CAPABILITY " + c.capabilities() + "\r\n" + cmd.tag + " OK done\r\n")
	case "NOOP": // section 6.1.2
		if err := args.skip(); err != nil {
			return err
		}
		return c.say(cmd.tag + " OK done\r\n")
	case "LOGOUT": // section 6.1.3
		if err := args.skip(); err != nil {
			return err
		}
		if err := c.say("* BYE " + string(farewellLogout) + "\r\n" + cmd.tag + " OK done\r\n"); err != nil {
			return err
		}
		return errLogout
	case "ENABLE": // RFC 5161: after login, but who reads ENABLE may say it before
		if err := args.skip(); err != nil {
			return err
		}
		return c.say("* ENABLED\r\n" + cmd.tag + " OK done\r\n")
	case "STARTTLS": // section 6.2.1
		if !args.end() {
			return args.bad("no arguments, please")
		}
		return c.startTLS(cmd.tag)
	case "ID": // RFC 2971
		return c.identify(cmd.tag, args)
	case "LOGIN": // RFC 9051 section 6.2.3
		return c.login(cmd.tag, args)
	case "AUTHENTICATE": // section 6.2.2
		return c.authenticate(cmd.tag, args)
	}
	if looksLikeHTTP(cmd) {
		return farewellWeb
	}
	return args.bad(notNow)
}

// ours are what only this dialogue can promise, or must not: it comes before login and
// ends there. LOGIN covers LOGIN-REFERRALS (RFC 2221), which would lead past the rules.
var ours = []string{"IMAP4", "AUTH=", "LOGIN", "SASL", "STARTTLS", "LITERAL", "UNAUTHENTICATE", "X-"}

// maxShown bounds what is shown of the mail server's capabilities, in octets.
const maxShown = 1 << 10

// shown are the mail server's capabilities that hold after login, and that some
// clients look for only before it, such as IDLE.
func (c *client) shown() (caps []imap.Cap) {
	if c.server.Shown == nil {
		return nil
	}
	room := maxShown
	for _, name := range c.server.Shown() {
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

// capabilities are those before login; after it, the client reads the mail
// server's own.
func (c *client) capabilities() string {
	caps := []imap.Cap{imap.CapIMAP4rev1, imap.CapLiteralPlus, imap.CapSASLIR, imap.CapID}
	switch {
	case c.secure:
		caps = append(caps, imap.AuthCap("PLAIN"), imap.AuthCap("LOGIN"))
	case c.door.tls != nil:
		caps = append(caps, imap.CapStartTLS, imap.CapLoginDisabled) // RFC 9051 section 6.2.3
	default:
		caps = append(caps, imap.CapLoginDisabled)
	}
	caps = append(caps, c.shown()...)
	var b strings.Builder
	for i, name := range caps {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(string(name))
	}
	return b.String()
}

func (c *client) startTLS(tag string) error {
	switch {
	case c.secure:
		return &syntaxError{tag, "TLS is on already"}
	case c.door.tls == nil:
		return &syntaxError{tag, "there is no TLS here"}
	case c.in.r.Buffered() > 0:
		// Whoever sent that, perhaps an attacker in between, wants it executed
		// behind the handshake (CVE-2011-0411, CVE-2021-33515).
		c.log.Warn("bytes between STARTTLS and the handshake")
		return farewellStartTLS
	}
	if err := c.say(tag + " OK begin\r\n"); err != nil {
		return err
	}
	if !c.handshake() {
		return errVanish
	}
	return nil
}

// The bounds of RFC 2971 section 3.3.
const (
	maxIDFields = 30
	maxIDName   = 30
	maxIDValue  = 1024
)

// identify takes note of what the client calls itself, and of whom a forwarder
// speaks for. Fields that only a proxy may add go no further.
func (c *client) identify(tag string, args *scanner) error {
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
				continue // RFC 2971 section 3.3: nobody must send so many
			}
			from.note(name, value)
			if !strings.HasPrefix(strings.ToLower(name), "x-") {
				said = append(said, upstream.IDField{Name: name, Value: value})
			}
		}
	} else if !args.takeNil() && !args.end() {
		return args.bad("ID wants a list or NIL")
	}
	// What follows is not looked at, as Dovecot does not.
	c.said = said
	c.believe(from)
	return c.say("* ID (\"name\" \"congthu\")\r\n" + tag + " OK done\r\n")
}
