package frontend

import (
	"encoding/base64"
	"strings"

	"github.com/emersion/go-sasl"

	"congthu/auth"
)

// maxSASL is the longest line of a SASL exchange (RFC 4954 section 4, for
// want of a figure in other protocols).
const maxSASL = 12288

// Mechanism is a SASL mechanism that is offered: PLAIN (RFC 4616) or LOGIN
// (draft-murchison-sasl-login).
type Mechanism struct {
	Name auth.Mechanism
	next sasl.Server
	// given are complete when the exchange is done.
	given *Credentials
}

// Choose returns the mechanism of that name; ok is false if it is not offered.
func Choose(name string) (m Mechanism, ok bool) {
	given := new(Credentials)
	switch strings.ToUpper(name) { // RFC 4422 section 3.1: upper case; be lenient
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
// password. An initial response is taken for the name.
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

// SASLError is an exchange that came to nothing: its client may go on. The text is
// for the client, and repeats nothing that it sent.
type SASLError string

// Error implements error.
func (e SASLError) Error() string { return string(e) }

const (
	// ErrNotBase64 is for a line that cannot be a response.
	ErrNotBase64      = SASLError("not base64")
	errBadCredentials = SASLError("malformed credentials")
	errCancelled      = SASLError("cancelled")
)

// Decode decodes a response of the client. In the place of an initial response,
// "=" stands for an empty one (RFC 4959 section 3).
func Decode(line string, initial bool) ([]byte, error) {
	if initial && line == "=" {
		return []byte{}, nil
	}
	if len(line) > maxSASL || initial && line == "" || strings.ContainsAny(line, "\r\n") {
		return nil, ErrNotBase64
	}
	response, err := base64.StdEncoding.DecodeString(line)
	if err != nil {
		return nil, ErrNotBase64 // the library's error would say where, of a password
	}
	return response, nil
}

// Authenticate has an exchange with the client, with challenges behind "+" as IMAP
// has them. response is the initial one, nil for none. A [SASLError] leaves
// the dialogue as it was.
func (c *Client) Authenticate(m Mechanism, response []byte) (Credentials, error) {
	for {
		challenge, done, err := m.next.Next(response)
		if err != nil {
			return Credentials{}, errBadCredentials
		}
		if done {
			return *m.given, nil
		}
		if err := c.Say("+ " + base64.StdEncoding.EncodeToString(challenge) + "\r\n"); err != nil {
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
