package gateway

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"congthu/auth"
	"congthu/gateway/config"
	"congthu/gateway/frontend"
	"congthu/gateway/imap"
	"congthu/gateway/pop3"
	"congthu/gateway/smtp"
	"congthu/gateway/upstream"
)

// services are the mail protocols that the gateway serves. A new protocol is a new
// entry; [config.Config.Mail] returns its settings.
var services = []service{
	{
		Protocol: auth.IMAP,
		sockets:  sockets{starttls: "imap", implicit: "imaps"},
		probe: func(ctx context.Context, _ *live, s *upstream.Server) error {
			_, err := s.ProbeIMAP(ctx)
			return err
		},
		serve: func(g *Gateway, p parts) frontEnd {
			s := &imap.Server{Upstream: &g.live, AlertText: g.live.alertText, Forwarder: g.live.forwarder, Shown: g.live.beforeIMAP}
			g.equip(&s.Server, p)
			return s
		},
	},
	{
		Protocol: auth.SMTP,
		sockets:  sockets{starttls: "submission", implicit: "submissions"},
		probe: func(ctx context.Context, l *live, s *upstream.Server) error {
			_, err := l.extensions.ask(ctx, s, probeEvery/2)
			return err
		},
		serve: func(g *Gateway, p parts) frontEnd {
			s := &smtp.Server{
				Upstream: &g.live, Sender: g.live.sender, Counter: g.Metrics,
				Away:              func() bool { return g.upstreamDown(auth.SMTP) },
				NormaliseNewlines: p.config.SMTP.NormaliseNewlines, MaxRecipients: p.config.SMTP.MaxRecipients,
				RefreshEvery: probeEvery, // from memory
			}
			g.equip(&s.Server, p)
			return s
		},
		fixed: func(c *config.Config) []setting {
			return []setting{{"smtp.normalise_newlines", c.SMTP.NormaliseNewlines}, {"smtp.max_recipients", c.SMTP.MaxRecipients}}
		},
	},
	{
		Protocol: auth.POP3,
		sockets:  sockets{starttls: "pop3", implicit: "pop3s"},
		probe: func(ctx context.Context, _ *live, s *upstream.Server) error {
			_, err := s.ProbePOP3(ctx)
			return err
		},
		serve: func(g *Gateway, p parts) frontEnd {
			s := &pop3.Server{Upstream: &g.live}
			g.equip(&s.Server, p)
			return s
		},
	},
}

// service is one mail protocol.
type service struct {
	// Protocol is also the name of the service's settings, such as imap.
	auth.Protocol
	// sockets are the names under which its sockets are passed.
	sockets sockets
	// probe returns why the mail server cannot be used, without logging in.
	probe func(context.Context, *live, *upstream.Server) error
	// serve returns the front end.
	serve func(*Gateway, parts) frontEnd
	// fixed returns settings, besides the listeners, that a reload cannot change. Nil:
	// there are none.
	fixed func(*config.Config) []setting
}

type sockets struct{ starttls, implicit string }

// frontEnd serves listeners.
type frontEnd interface {
	Serve(ctx context.Context, l net.Listener, implicit bool) error
}

// setting is a value of the configuration, with its path.
type setting struct {
	name  string
	value any
}

// listen returns the path of the setting with the addresses.
func (s service) listen() string { return s.String() + ".listen" }

// served returns the services for which a configuration has addresses.
func served(c *config.Config) (list []service) {
	for _, s := range services {
		if len(c.Mail(s.Protocol).Listen) > 0 {
			list = append(list, s)
		}
	}
	return list
}

// parts are shared by all front ends.
type parts struct {
	config  *config.Config
	limiter *frontend.Limiter
	// drain and grace are the times for sessions and for logins during a shutdown.
	drain, grace time.Duration
	// awaited is set if new clients will wait for the end of this process.
	awaited bool
}

// equip sets the fields of [frontend.Server] that are the same for all protocols.
func (g *Gateway) equip(s *frontend.Server, p parts) {
	l := p.config.Limits
	s.Guard, s.TLSConfig, s.Hostname, s.Text = g.guard, g.mailCert.TLSConfig(), p.config.Hostname, g.live.text
	s.Sessions, s.Recorder, s.Refused, s.Log = &g.sessions, g.Metrics, g.refused, g.Log
	s.Limiter, s.LoginTimeout, s.LoginTotal, s.IdleTimeout = p.limiter, l.LoginTimeout, l.LoginTotal, l.IdleTimeout
	s.MaxFailures, s.DrainTimeout, s.LoginGrace, s.EndQuiet = l.FailedLogins, p.drain, p.grace, p.awaited
}

// health is the result of the last probe of each mail server; nil before the first.
type health map[auth.Protocol]*atomic.Pointer[error]

func newHealth() health {
	h := make(health)
	for _, s := range services {
		h[s.Protocol] = new(atomic.Pointer[error])
	}
	return h
}

// extensions caches what the mail server for submission offered at the last probe, so
// that one probe serves all listeners.
type extensions struct {
	// turn has room for one caller, which probes.
	turn chan struct{}

	server *upstream.Server
	at     time.Time
	known  upstream.Extensions
	err    error
}

func newExtensions() *extensions { return &extensions{turn: make(chan struct{}, 1)} }

// ask returns what is known of the server. If that is older than maxAge, it probes the
// server first.
func (e *extensions) ask(ctx context.Context, server *upstream.Server, maxAge time.Duration) (upstream.Extensions, error) {
	select {
	case e.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-e.turn }()
	if e.server == server && time.Since(e.at) < maxAge {
		return e.known, e.err
	}
	known, err := server.ProbeSMTP(ctx)
	if ctx.Err() == nil { // otherwise the error is the caller's, not the server's
		e.server, e.at, e.known, e.err = server, time.Now(), known, err
	}
	return known, err
}
