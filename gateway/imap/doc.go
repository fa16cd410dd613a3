// Package imap serves IMAP: the dialogue with a mail client up to its login. Package
// frontend has everything around the dialogue (listeners, TLS, SASL, the login, the
// splice to the mail server).
//
// Before login a client may send CAPABILITY, NOOP, ID, ENABLE (which has no effect
// there), STARTTLS, LOGOUT, LOGIN and AUTHENTICATE, and no other command. Extra blanks
// are accepted as in Dovecot. If the guard accepts the credentials, the client reads
// the mail server's own answer, and from then on bytes flow both ways unchanged
// (package relay): every extension of the mail server works, and this package need not
// know any. If the guard refuses, the client reads the reply from the table in
// replies.go.
//
// Supported: IMAP4rev1 and the part of IMAP4rev2 (RFC 9051) before login, SASL-IR (RFC
// 4959), LITERAL+ (RFC 7888), ID (RFC 2971), response codes of RFC 5530, SASL PLAIN
// (RFC 4616) and LOGIN, TLS by STARTTLS or from the first byte (RFC 8314), ALPN "imap".
package imap
