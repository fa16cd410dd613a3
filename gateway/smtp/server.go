package smtp

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"time"

	"congthu/auth"
	"congthu/gateway/frontend"
	live "congthu/gateway/session"
	"congthu/gateway/upstream"
)

// Guard decides about logins.
type Guard interface {
	Attempt(context.Context, auth.Attempt) auth.Verdict
}

// Upstream is the mail server; [*upstream.Server] is one.
type Upstream interface {
	LoginSMTP(context.Context, auth.Name, auth.Secret, upstream.Client) (*upstream.SMTPConn, auth.Answer)
	ProbeSMTP(context.Context) (upstream.Extensions, error)
}

// Recorder is told what happens, for metrics. It must not block.
type Recorder interface {
	Opened(auth.Protocol)
	Closed(auth.Protocol)
	// RecordHandshake is told of every TLS handshake; the error is nil for success.
	RecordHandshake(auth.Protocol, error)
	// Panicked is told of every panic, which has cost one connection.
	Panicked(auth.Protocol)
	// Relayed is told, at the end of a connection, how many octets it carried.
	Relayed(p auth.Protocol, fromClient, fromServer int64)
	// Submitted is told of every message, and of every sender that was refused or
	// would have been.
	Submitted(Result)
}

// Result is what became of a message.
type Result uint8

const (
	Accepted    Result = iota // the mail server took it
	Refused                   // the mail server did not
	NotYours                  // sender or header refused (Art. 13.8)
	WouldRefuse               // the same in mode warn; counted besides what became of it
	Malformed                 // a bare CR or LF, or a line without end
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

// Server is the submission door. Set the fields before the first Serve and leave
// them alone; what has to change while it runs is a function or an interface.
type Server struct {
	// Hostname is the name in the greeting. Empty: the machine's.
	Hostname string
	// TLSConfig has the certificate, or GetCertificate; ALPN and the lowest version
	// are set here, which GetConfigForClient would undo. Required, as are the next
	// two.
	TLSConfig *tls.Config
	Guard     Guard
	Upstream  Upstream
	// Sender is asked for each message; nil is the zero Sender: everybody sends as
	// themselves.
	Sender func() Sender
	// Text is what a user is told of an outcome: one line of ASCII. Nil, or an
	// empty text, for plain English.
	Text func(auth.Outcome) string
	// Away, if set, reports whether the mail server is known not to answer: then new
	// connections are greeted with 421 and the text of [auth.Unavailable].
	Away func() bool
	// Sessions, if set, knows who is logged in.
	Sessions *live.Registry
	// Recorder may be nil.
	Recorder Recorder
	// Refused is told of credentials that were offered without TLS: the guard, who
	// records all others, is not shown them. The attempt has neither name nor
	// password. Nil: nobody is told.
	Refused func(auth.Attempt, auth.Outcome)
	// Log may be nil. Nothing secret is written to it.
	Log *slog.Logger

	// NormaliseNewlines makes CRLF of a bare CR or LF in a message, which is
	// refused otherwise.
	NormaliseNewlines bool
	// MaxRecipients bounds one message; 0 leaves it to the mail server.
	MaxRecipients int
	// Limiter bounds the connections; other doors may share it. Nil: nothing does.
	Limiter *frontend.Limiter
	// MaxFailures is how many refused logins a connection may have. 0: 10.
	MaxFailures int
	// LoginTimeout bounds each wait before login, LoginTotal all of it.
	// 0: 1 and 3 minutes.
	LoginTimeout, LoginTotal time.Duration
	// CommandTimeout bounds each wait after login. 0: 5 minutes, the least that
	// RFC 5321 section 4.5.3.2.7 allows.
	CommandTimeout time.Duration
	// DrainTimeout is how long messages under way may take when Serve's context has
	// ended. 0: 30 s; negative: not at all.
	DrainTimeout time.Duration
	// Grace is how much of DrainTimeout those have who have no message under way:
	// whoever was let in at the last moment need not be told to come again. 0: none.
	Grace time.Duration
	// RefreshEvery is how often the mail server is asked for its extensions. 0: 5
	// minutes; more often while it cannot be reached.
	RefreshEvery time.Duration

	refusals frontend.Refusals
}

func or[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

func (s *Server) maxFailures() int { return or(s.MaxFailures, 10) }

func (s *Server) times() times {
	return times{or(s.LoginTimeout, time.Minute), or(s.LoginTotal, 3*time.Minute), or(s.CommandTimeout, 5*time.Minute)}
}

func (s *Server) logger() *slog.Logger { return or(s.Log, slog.New(slog.DiscardHandler)) }

func (s *Server) sender() Sender {
	if s.Sender == nil {
		return Sender{}
	}
	return s.Sender()
}

func (s *Server) hostname() string {
	if s.Hostname == "" {
		name, err := os.Hostname()
		if err != nil {
			return "localhost"
		}
		return name
	}
	return s.Hostname
}

// alpn are the names that mail clients which use ALPN at all send; there is no
// registered one for SMTP.
var alpn = []string{"smtp", "esmtp"}
