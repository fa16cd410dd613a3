// Package frontend is what all mail protocols share between the listener and the
// login: accepting and limiting connections, TLS, deadlines, reading commands within
// limits, SASL, the login itself, live sessions, the shutdown, panics and metrics. A
// protocol adds a [Protocol]: its dialogue up to the login and its reply texts.
//
// The life of a connection:
//
//  1. [Server.Serve] accepts it, from a listener that knows the client's address
//     (package proxyproto). It needs a place ([Limiter]).
//  2. It gets a goroutine, which alone reads and writes it. TLS from the first octet
//     is negotiated, and [Protocol].Speak called with the [Client].
//  3. Speak greets, and reads commands through [Client.Input], each within the time
//     that [Client.Arm] gives it. STARTTLS is [Client.StartTLS], SASL is
//     [Client.Authenticate].
//  4. Complete credentials go to [Client.Login]. The guard decides, and asks the mail
//     server through the protocol's function. The connection to the mail server is
//     kept until the verdict, and registered as a session before it: a lock that
//     comes after the decision finds and ends it.
//  5. If the guard accepts, the client reads the welcome, both connections go to the
//     relay, and the goroutine ends. If it refuses, the client reads the refusal, and
//     may try again a few times.
//
// Other goroutines (a shutdown, an administrator's lock) only set flags and force a
// time-out. A panic costs its own connection. An attempt whose credentials are
// complete is settled even if the client hangs up.
//
// Everything that a client can send before login is limited, in size and in time,
// and data from before a TLS handshake is never used after it.
//
// After an IMAP or POP3 login the gateway copies octets both ways. Submission has to be
// read after the login too: package smtp brings its own relay.
package frontend
