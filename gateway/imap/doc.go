// Package imap is the IMAP door of the gateway: the dialogue with a mail client
// up to its login, and then a splice to the mail server.
//
// Before login a client may say CAPABILITY, NOOP, ID, ENABLE (which does nothing
// there), STARTTLS, LOGOUT, LOGIN and AUTHENTICATE, nothing else. Blanks too many are
// taken as Dovecot takes them. Complete credentials go to the [Guard], which asks
// the mail server through the function it is given. If it accepts, the client
// reads the mail server's own answer, and from there on bytes flow both ways
// untouched (package relay): every extension works that the mail server has, and
// none has to be known here. If it refuses, the client reads what the table in
// replies.go says.
//
// Supported: IMAP4rev1 and the part of IMAP4rev2 (RFC 9051) before login,
// SASL-IR (RFC 4959), LITERAL+ (RFC 7888), ID (RFC 2971), response codes of
// RFC 5530, SASL PLAIN (RFC 4616) and LOGIN, TLS by STARTTLS or from the first
// byte (RFC 8314), ALPN "imap".
//
// Everything a client can send before login is bounded, in size and in time, and
// nothing that it sent before a TLS handshake is looked at after it.
//
// Who owns what: [Server.Serve] accepts; each connection has one goroutine, which
// alone reads and writes it, asks the guard, and ends with the login: the relay
// takes the connection over then. Other goroutines (a shutdown, an admin's lock)
// only set flags and force a time-out. A panic costs its own connection.
package imap
