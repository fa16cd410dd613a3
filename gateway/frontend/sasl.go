package frontend

import (
	"cmp"
	"encoding/base64"
	"strings"

	"github.com/emersion/go-sasl"

	"congthu/auth"
)

// maxSASL is the maximum length of a line in a SASL exchange (RFC 4954 section 4; other
// protocols give no figure).
const maxSASL = 12288

// Mechanism is an offered SASL mechanism: PLAIN (RFC 4616) or LOGIN
// (draft-murchison-sasl-login).
type Mechanism struct {
	Name auth.Mechanism
	next sasl.Server
	// given is complete when the exchange has ended.
	given *Credentials
}

// Choose returns the mechanism with that name; ok is false if it is not offered.
func Choose(name string) (m Mechanism, ok bool) {
	given := new(Credentials)
	switch strings.ToUpper(name) { // RFC 4422 section 3.1 requires upper case; lower case is accepted
	case sasl.Plain:
		return Mechanism{auth.Plain, sasl.NewPlainServer(func(identity, username, password string) error {
			*given = Credentials{identity, username, auth.NewSecret(password)}
			return nil
		}), given}, true
	case sasl.Login:
		return Mechanism{auth.Login, &loginMechanism{Credentials: given}, given}, true
	}
	return Mechanism{}, false
}

// loginMechanism is SASL LOGIN (draft-murchison-sasl-login): the name, then the
// password. An initial response counts as the name.
type loginMechanism struct {
	*Credentials
	asked bool // for the password
	done  bool
}

// Next implements [sasl.Server].
func (m *loginMechanism) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case m.done:
		return nil, false, sasl.ErrUnexpectedClientResponse
	case m.asked:
		m.Password, m.done = auth.NewSecret(string(response)), true
		return nil, true, nil
	case response == nil:
		return []byte("Username:"), false, nil
	}
	m.Login, m.asked = string(response), true
	return []byte("Password:"), false, nil
}

// SASLError reports a failed exchange after which the client may continue. The text is
// for the client, and repeats nothing that it sent.
type SASLError string

// Error implements error.
func (e SASLError) Error() string { return string(e) }

const (
	// ErrNotBase64 reports a line that is not a valid response.
	ErrNotBase64      = SASLError("not base64")
	errBadCredentials = SASLError("malformed credentials")
	errCancelled      = SASLError("cancelled")
)

// Decode decodes a response of the client. As an initial response, "=" stands for an
// empty one (RFC 4959 section 3).
func Decode(line string, initial bool) ([]byte, error) {
	if initial && line == "=" {
		return []byte{}, nil
	}
	if len(line) > maxSASL || initial && line == "" || strings.ContainsAny(line, "\r\n") {
		return nil, ErrNotBase64
	}
	response, err := base64.StdEncoding.DecodeString(line)
	if err != nil {
		return nil, ErrNotBase64 // the library's error would contain a position in the password
	}
	return response, nil
}

// Authenticate runs an exchange with the client, with challenges in the protocol's form.
// response is the initial response, nil for none. After a [SASLError] the dialogue can
// continue.
func (c *Client) Authenticate(m Mechanism, response []byte) (Credentials, error) {
	before := cmp.Or(c.serving.protocol.Challenge, "+ ")
	for {
		challenge, done, err := m.next.Next(response)
		if err != nil {
			return Credentials{}, errBadCredentials
		}
		if done {
			return *m.given, nil
		}
		if err := c.Say(before + base64.StdEncoding.EncodeToString(challenge) + "\r\n"); err != nil {
			return Credentials{}, err
		}
		line, err := c.Input.Line(maxSASL)
		switch {
		case err != nil:
			return Credentials{}, err
		case line == "*":
			return Credentials{}, errCancelled // RFC 9051 section 6.2.2
		}
		if response, err = Decode(line, false); err != nil {
			return Credentials{}, err
		}
	}
}
