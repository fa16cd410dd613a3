// Package pop3 serves POP3: the dialogue with a mail client up to its login. What is
// around the dialogue (listeners, TLS, SASL, the login, the splice to the mail server)
// is package frontend's.
//
// Before login a client may say CAPA, USER and PASS, AUTH, STLS and QUIT, nothing
// else; APOP needs a password in clear text at the server and is not offered. If the
// guard accepts its credentials, the client reads the mail server's own answer, and
// from there on octets flow both ways untouched (package relay). If it refuses, the
// client reads what the table in replies.go says.
//
// Supported: RFC 1939, CAPA and RESP-CODES (RFC 2449), STLS (RFC 2595), AUTH with SASL
// PLAIN and LOGIN and an initial response (RFC 5034), AUTH-RESP-CODE (RFC 3206), TLS
// from the first octet (RFC 8314), ALPN "pop3".
package pop3
