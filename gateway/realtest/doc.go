// Package realtest tries congthu in front of real mail servers: Dovecot and
// Postfix as Debian packages them, with the mail programs that people use.
//
// Every server is a plain process, made from nothing in a temporary directory,
// on loopback ports of its own. No system service is touched, started or
// configured; what a test started is stopped by its process id. [Dovecot] and
// [Postfix] are started once and shared by all tests of a run; a test takes a
// fresh account ([DovecotServer.Account]) instead of a fresh server, since a
// test that locks an account must not stand in the way of the next one.
//
// The settings of the servers are their defaults wherever a default can be
// kept. What differs is where they listen and store, who their users are, and
// the two settings by which they trust the gateway to say who the client is:
// login_trusted_networks in Dovecot and smtpd_authorized_xclient_hosts in
// Postfix; and Postfix waits a second, not a minute, before it starts again what
// has died (service_throttle_time). Dovecot's authentication is made talkative (auth_debug), because its
// log is the judge: [DovecotServer.Verdicts] counts there how many passwords of
// an account were really judged.
//
// A test with a mail program runs twice, straight at the servers and through
// the gateway ([BothWays]), and compares what the program saw. That is the
// strongest statement there is about a proxy: nobody can tell that it is there.
//
// Gateways that share a PostgreSQL (replicas_test.go) have a mail server that is
// none: it must count in no time what it judges.
//
// The programs are required, not optional: a missing one fails the test with
// the command that installs it. Postfix runs as root only, so the tests do.
package realtest
