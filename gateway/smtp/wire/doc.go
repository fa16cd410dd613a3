// Package wire is what the gateway has to understand of SMTP (RFC 5321) when it carries a
// session: commands, the path of a sender, replies, and where a message ends. Its parts
// are functions of octets; they read nothing and wait for nothing.
//
// They are strict where two programs could understand different things: a line ends in
// CRLF and nothing else does, a command has no NUL, and a path is written as it was read.
package wire
