// Package smtp is the submission door (RFC 6409): go-smtp's server in front, its
// client (in package upstream) behind, and between them one login by the rules
// and the sender check of Art. 13.8.
//
// It offers STARTTLS (RFC 3207) or TLS from the first octet (RFC 8314), AUTH
// PLAIN and LOGIN (RFC 4954), PIPELINING (RFC 2920), 8BITMIME (RFC 6152),
// ENHANCEDSTATUSCODES (RFC 2034) and CHUNKING (RFC 3030); and, as far as the mail
// server offers them, SIZE (RFC 1870), SMTPUTF8 (RFC 6531), DSN (RFC 3461), RRVS
// (RFC 7293), DELIVERBY (RFC 2852) and MT-PRIORITY (RFC 6710).
//
// There is no XCLIENT for trusted forwarders here, as there is ID in package imap:
// go-smtp can neither offer nor answer it, and a dialogue of our own in front of
// go-smtp's would have to repeat its EHLO. Nor is much lost: a webmail logs in by
// IMAP before it sends anything, with the same password, so that who guesses
// through it is met there.
//
// # The way of a message
//
// The client logs in; the same password logs in at the mail server, and that
// connection is kept for everything the client submits. MAIL and RCPT are passed
// on one by one, so that the client reads the mail server's own refusals. Of the
// message, the header is read first, up to 256 KiB, and checked; only then is
// DATA said to the mail server, and what follows is passed on as it comes.
//
// go-smtp reads a message octet by octet. Lines with nothing special to them are
// taken past its reader, directly from conn, and past its client's writer; see
// bodyReader and [upstream.SMTPMessage]. Where a message ends is decided by the
// one, and said by the other.
//
// Half a message must never be delivered. Once DATA is said, the mail server
// takes everything up to CRLF.CRLF, and go-smtp's client sends exactly that
// before any other command. So there is one way to give up a message: to close
// the connection to the mail server. The client can stay, but has to log in
// again before it can submit anything (421).
//
// # Who owns what
//
// One goroutine, [Server.serve], owns a connection from accept to close; it does
// TLS and the dialogue in clear before it. Then go-smtp's goroutine calls the
// methods of session, and only that one, but for BDAT, where Data runs in a
// goroutine of its own while the first one waits. Anybody may call kick, drain
// and abort.
//
// conn is the client's connection for go-smtp, and stands above TLS. Only there
// can be seen, and put right, what go-smtp hides from its sessions: a chunk of
// BDAT that was cut short (go-smtp hands the half of it to Data as if it were
// all), a command that was cut short (half a password is a wrong password), a CR
// that its reader of DATA swallows, an end of DATA that it misses, and where a
// command begins. conn owns all time-outs; go-smtp's are set, and mean "a command
// begins here". To end a session from outside, conn pretends that the time is
// over, on which go-smtp says 421 by itself.
//
// STARTTLS is done here as well and not by go-smtp, because that would put its
// TLS on top of conn. So go-smtp never sees a connection without TLS, and says its
// greeting once more after the handshake; conn drops that.
package smtp
