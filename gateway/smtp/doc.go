// Package smtp serves submission (RFC 6409): the dialogue with a mail client up to its
// login, and the relay that carries its session after it. What is around the dialogue
// (listeners, TLS, SASL, the login) is package frontend's; what has to be understood of
// SMTP is package wire's.
//
// Before login a client may say EHLO, HELO, STARTTLS, AUTH, NOOP, RSET and QUIT, nothing
// else. EHLO shows what the mail server offers, as it was when it was last asked. There is
// no XCLIENT for trusted forwarders, as there is ID in package imap: a webmail logs in by
// IMAP before it sends anything, with the same password, so that who guesses through it is
// met there.
//
// After login the client speaks with the mail server: what it says goes on as it is, and
// so do the replies. The exceptions are few:
//
//   - The sender of MAIL is checked (Art. 13.8) and sent as it was read; AUTH= is dropped.
//   - A message is held until its header has been checked. Only then is DATA said to the
//     server; the 354 that the client has read is ours. NOOP keeps the server's session
//     meanwhile.
//   - A chunk of BDAT becomes several: each is sent when all of it is here.
//   - Of the reply to EHLO what is done already, or is for proxies, is left out.
//   - Verbs that are not known here, and lines that servers could end in different places,
//     are answered here, in their turn.
//
// Supported: SMTP (RFC 5321), STARTTLS (RFC 3207), TLS from the first octet (RFC 8314),
// AUTH PLAIN and LOGIN (RFC 4954), LIMITS (RFC 9422), ALPN "smtp"; and of the mail server
// every extension that needs nothing but these verbs, such as PIPELINING, SIZE, 8BITMIME,
// SMTPUTF8, DSN and CHUNKING.
//
// # Half a message
//
// Once the server has said 354 it takes everything up to CRLF.CRLF. There are two ways
// out: the end of the message, and to close the connection. The client is told 421, and
// has to log in again.
//
// # Who owns what
//
// One goroutine carries a session ([session.run]), reads the two ends in turn and writes
// both. When neither has said anything for a moment, it parks the session and ends: both
// sockets wait in the idle poller ([relay.Quiet]), and no buffer is kept but for what was
// read and cannot be used yet. An event of either, the session's timer, or an order of
// another goroutine ([session.Kick], [session.Drain]) resumes it. Only the orders, behind
// session.mu, are written by others. A panic costs its own session.
package smtp
