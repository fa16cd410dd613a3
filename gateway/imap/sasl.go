package imap

import (
	"encoding/base64"
	"errors"
	"strings"

	"github.com/emersion/go-sasl"

	"congthu/auth"
)

// credentials are complete when a mechanism is done.
type credentials struct {
	authorize, login string
	password         auth.Secret
}

// mechanism makes the server's side of a SASL exchange that leaves what it
// learns in c; nil for a mechanism that is not offered.
func mechanism(name string, c *credentials) (sasl.Server, auth.Mechanism) {
	switch strings.ToUpper(name) { // RFC 4422 section 3.1: upper case; be lenient
	case sasl.Plain:
		return sasl.NewPlainServer(func(identity, username, password string) error {
			*c = credentials{identity, username, auth.NewSecret(password)}
			return nil
		}), auth.Plain
	case sasl.Login:
		return &loginMechanism{credentials: c}, auth.Login
	}
	return nil, 0
}

// loginMechanism is SASL LOGIN (draft-murchison-sasl-login): the name, then the
// password. An initial response is taken for the name.
type loginMechanism struct {
	*credentials
	asked bool // for the password
	done  bool
}

// Next implements [sasl.Server].
func (m *loginMechanism) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case m.done:
		return nil, false, sasl.ErrUnexpectedClientResponse
	case m.asked:
		m.password, m.done = auth.NewSecret(string(response)), true
		return nil, true, nil
	case response == nil:
		return []byte("Username:"), false, nil
	}
	m.login, m.asked = string(response), true
	return []byte("Password:"), false, nil
}

// errNotBase64 is for a line that cannot be a response.
var errNotBase64 = errors.New("not base64")

// decode decodes a response of the client. In the place of an initial response,
// "=" stands for an empty one (RFC 4959 section 3).
func decode(line string, initial bool) ([]byte, error) {
	if initial && line == "=" {
		return []byte{}, nil
	}
	if len(line) > maxSASL || initial && line == "" || strings.ContainsAny(line, "\r\n") {
		return nil, errNotBase64
	}
	response, err := base64.StdEncoding.DecodeString(line)
	if err != nil {
		return nil, errNotBase64 // the library's error would say where, of a password
	}
	return response, nil
}
