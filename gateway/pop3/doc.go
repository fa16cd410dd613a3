// Package pop3 serves POP3: the dialogue with a mail client up to its login. Package
// frontend has everything around the dialogue (listeners, TLS, SASL, the login, the
// splice to the mail server).
//
// Before login a client may send CAPA, USER and PASS, AUTH, STLS and QUIT, and no other
// command; APOP requires clear-text passwords at the server and is not offered. If the
// guard accepts the credentials, the client reads the mail server's own answer, and
// from then on octets flow both ways unchanged (package relay). If the guard refuses,
// the client reads the reply from the table in replies.go.
//
// Supported: RFC 1939, CAPA and RESP-CODES (RFC 2449), STLS (RFC 2595), AUTH with SASL
// PLAIN and LOGIN and an initial response (RFC 5034), AUTH-RESP-CODE (RFC 3206), TLS
// from the first octet (RFC 8314), ALPN "pop3".
package pop3
