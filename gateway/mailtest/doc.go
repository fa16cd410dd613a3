// Package mailtest holds deliberately nasty mail servers and a player of
// dialogue files, for the tests of everything that listens or dials.
//
// The servers ([IMAP], [POP3], [SMTP]) do as they are told: any greeting, any
// capabilities, and at each [Step] a delay, another answer, or a closed
// connection. They count what the rules of the gateway are about: how many
// passwords of which name, exactly as it was spelt, they were asked to judge.
//
// A dialogue file (see [Play]) is a transcript that can be read by whoever wrote
// the rules, and is played against a listener.
//
// Nothing here is for production: no limits, no mercy.
package mailtest
