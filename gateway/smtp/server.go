package smtp

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"congthu/auth"
	"congthu/gateway/frontend"
	"congthu/gateway/upstream"
)

// Upstream is the mail server; [*upstream.Server] is one.
type Upstream interface {
	LoginSMTP(context.Context, auth.Name, auth.Secret, upstream.Client) (*upstream.SMTPConn, auth.Answer)
	ProbeSMTP(context.Context) (upstream.Extensions, error)
}

// Recorder is told what happens, for metrics. It must not block.
type Recorder interface {
	frontend.Recorder
	Counter
}

// Counter is told of every message, and of every sender that was refused or would have
// been. It must not block.
type Counter interface{ Submitted(Result) }

// Result is what became of a message.
type Result uint8

const (
	Accepted    Result = iota // the mail server took it
	Refused                   // the mail server did not
	NotYours                  // sender or header refused (Art. 13.8)
	WouldRefuse               // the same in mode warn; counted besides what became of it
	Malformed                 // a bare CR or LF
	TooLarge                  // longer than the mail server takes
	Abandoned                 // the client left in the middle, or was made to
	ServerLost                // the connection to the mail server broke

	numResults
)

var resultNames = [numResults]string{
	"accepted", "refused", "not_yours", "would_refuse", "malformed", "too_large", "abandoned", "server_lost",
}

// String returns the name used in metrics and logs.
func (r Result) String() string {
	if r < numResults {
		return resultNames[r]
	}
	return fmt.Sprintf("Result(%d)", r)
}

// MarshalText implements encoding.TextMarshaler.
func (r Result) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Server serves submission. Set the fields before Serve and leave them alone then; what
// has to change while it runs is a function or an interface. It may serve several
// listeners at once.
type Server struct {
	// Server is the front end.
	frontend.Server
	// Upstream is required.
	Upstream Upstream
	// Sender is asked for each message; nil is the zero Sender: everybody sends as
	// themselves.
	Sender func() Sender
	// Away, if set, reports whether the mail server is known not to answer: then new
	// connections are greeted with 421 and the text of [auth.Unavailable].
	Away func() bool
	// Counter counts messages. Nil: nothing is counted.
	Counter Counter

	// NormaliseNewlines makes CRLF of a bare CR or LF in a message, which is
	// refused otherwise.
	NormaliseNewlines bool
	// MaxRecipients bounds one message; 0 leaves it to the mail server.
	MaxRecipients int
	// CommandTimeout bounds each wait for a client that is logged in. 0: 5 minutes, the
	// least that RFC 5321 section 4.5.3.2.7 allows.
	CommandTimeout time.Duration
	// RefreshEvery is how often the mail server is asked for its extensions. 0: 5
	// minutes; more often while it cannot be reached.
	RefreshEvery time.Duration

	// extensions are those that the mail server had when it was last asked.
	extensions atomic.Pointer[upstream.Extensions]
}

// Serve accepts clients from l as [frontend.Server.Serve] does. Whoever has a transaction
// open when ctx ends may finish it within DrainTimeout; the others are told 421.
func (s *Server) Serve(ctx context.Context, l net.Listener, implicit bool) error {
	refreshing, stop := context.WithCancel(ctx)
	defer stop()
	first, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		s.refresh(refreshing, first)
	}()
	defer func() { stop(); <-done }()
	select { // nobody should be told less than the mail server offers
	case <-first:
	case <-time.After(5 * time.Second):
	case <-ctx.Done():
	}
	return s.Server.Serve(ctx, l, implicit, s.protocol())
}

// alpn are the names that mail clients which use ALPN at all send; there is no
// registered one for SMTP.
var alpn = []string{"smtp", "esmtp"}

func (s *Server) protocol() frontend.Protocol {
	return frontend.Protocol{Name: auth.SMTP, ALPN: alpn, Speak: s.speak, Bye: bye, Challenge: "334 "}
}

// refresh asks the mail server for its extensions, now and again. first is closed
// after the first answer, or failure.
func (s *Server) refresh(ctx context.Context, first chan<- struct{}) {
	const retry = 10 * time.Second
	usual := cmp.Or(s.RefreshEvery, 5*time.Minute)
	for failed := false; ; {
		wait := usual
		extensions, err := s.Upstream.ProbeSMTP(ctx)
		if err == nil {
			s.learn(extensions)
		} else if wait = min(retry, usual); !failed && ctx.Err() == nil && s.Log != nil { // once is enough in the log
			// What was known is kept: the server will be back.
			s.Log.Warn("mail server cannot be asked for its extensions", "err", err)
		}
		failed = err != nil
		if first != nil {
			close(first)
			first = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (s *Server) learn(extensions upstream.Extensions) {
	if old := s.extensions.Swap(&extensions); s.Log != nil && (old == nil || (*old)["SIZE"] != extensions["SIZE"]) {
		s.Log.Debug("mail server's extensions changed", "size", extensions.Size())
	}
}

func (s *Server) sender() Sender {
	if s.Sender == nil {
		return Sender{}
	}
	return s.Sender()
}

func (s *Server) count(r Result) {
	if s.Counter != nil {
		s.Counter.Submitted(r)
	}
}
