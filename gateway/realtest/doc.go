// Package realtest tests congthu in front of real mail servers, Dovecot and Postfix as
// packaged by Debian, with common mail programs.
//
// Every server is a plain process, created in a temporary directory, on loopback ports
// of its own. The tests touch no system service; they stop what they started by its
// process id. [Dovecot] and [Postfix] are started once and shared by all tests of a
// run; a test takes a new account ([DovecotServer.Account]) instead of a new server,
// since a test that locks an account must not affect the next one.
//
// The servers keep their default settings where possible. The differences are their
// addresses, storage and users, and the two settings by which they trust the gateway to
// name the client: login_trusted_networks in Dovecot and smtpd_authorized_xclient_hosts
// in Postfix. In addition, Postfix waits a second, not a minute, before it restarts a
// dead process (service_throttle_time). Dovecot logs its authentication in detail
// (auth_debug), because its log is the judge: [DovecotServer.Verdicts] counts there how
// many passwords of an account were really judged.
//
// A test with a mail program runs twice, directly at the servers and through the
// gateway ([BothWays]), and compares what the program saw. That is the strongest
// statement about a proxy: a program cannot detect it.
// Submission is also compared octet by octet in random dialogues (differential_test.go);
// testdata/submission.differences has the reason of each difference.
//
// Gateways that share a PostgreSQL (replicas_test.go) have a fake mail server: it must
// count its verdicts without delay.
//
// The programs are required: a missing one fails the test with the command that
// installs it. Postfix runs as root only, so the tests do too.
package realtest
