package demo

import (
	"context"
	"net"
	"testing"
	"time"
)

// The gateway in front of the mail server may refuse its configuration before the mail
// server accepts connections.
func TestTheMailServerEndsEvenWhenStoppedEarly(t *testing.T) {
	for range 200 {
		var listeners [2]net.Listener
		for i := range listeners {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			listeners[i] = l
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- (&MailServer{Passwords: map[string]string{"an@" + Domain: Password}}).Serve(ctx, listeners[0], listeners[1])
		}()
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("it does not end")
		}
		for _, l := range listeners {
			if _, err := l.Accept(); err == nil {
				t.Fatal("a listener is still open")
			}
		}
	}
}
