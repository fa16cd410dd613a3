// Package imap serves IMAP: the dialogue with a mail client up to its login. What is
// around the dialogue (listeners, TLS, SASL, the login, the splice to the mail server)
// is package frontend's.
//
// Before login a client may say CAPABILITY, NOOP, ID, ENABLE (which does nothing
// there), STARTTLS, LOGOUT, LOGIN and AUTHENTICATE, nothing else. Blanks too many are
// taken as Dovecot takes them. If the guard accepts its credentials, the client
// reads the mail server's own answer, and from there on bytes flow both ways
// untouched (package relay): every extension works that the mail server has, and
// none has to be known here. If it refuses, the client reads what the table in
// replies.go says.
//
// Supported: IMAP4rev1 and the part of IMAP4rev2 (RFC 9051) before login,
// SASL-IR (RFC 4959), LITERAL+ (RFC 7888), ID (RFC 2971), response codes of
// RFC 5530, SASL PLAIN (RFC 4616) and LOGIN, TLS by STARTTLS or from the first
// byte (RFC 8314), ALPN "imap".
package imap
