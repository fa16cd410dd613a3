package imap

import "testing"

// BenchmarkSession is a connection, TLS, a login and a logout, with what the
// client and the fake mail server of the tests need for it: the difference
// between two versions is the server's.
func BenchmarkSession(b *testing.B) {
	s := newScene(b)
	s.Implicit = true
	b.ReportAllocs()
	for b.Loop() {
		c := s.connect(true)
		c.login(password)
		for line := c.Line(); line[:1] == "*"; {
			line = c.Line()
		}
		c.Say("z LOGOUT")
		c.Gone()
		c.Close()
	}
}
