package smtp

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"congthu/gateway/upstream"
)

// maxLine bounds a line, of a command as of a message: go-smtp has one limit for
// both. Long lines in messages are not allowed (RFC 5321 section 4.5.3.1.6) and
// usual.
const maxLine = 65536

// goSMTP is go-smtp's server for one connection. Its fields are read without a
// lock, so each connection has one of its own, with the extensions as they are
// known at that time.
func (d *door) goSMTP(s *session) *gosmtp.Server {
	extensions := *d.extensions.Load()
	g := gosmtp.NewServer(gosmtp.BackendFunc(func(*gosmtp.Conn) (gosmtp.Session, error) { return s, nil }))
	g.Domain = d.hostname()
	g.MaxRecipients = d.MaxRecipients
	s.longest = extensions.Size()
	g.MaxMessageBytes = s.longest
	g.MaxLineLength = maxLine
	g.ErrorLog = errorLog{s.log, d.tellPanic}
	// TLS is complete; go-smtp cannot see that.
	g.AllowInsecureAuth = true
	// The time does not matter: conn takes its setting for "a command begins".
	g.ReadTimeout = time.Minute
	g.EnableSMTPUTF8 = extensions.Has("SMTPUTF8")
	g.EnableDSN = extensions.Has("DSN")
	g.EnableRRVS = extensions.Has("RRVS")
	g.EnableDELIVERBY = extensions.Has("DELIVERBY")
	if seconds, err := strconv.Atoi(extensions["DELIVERBY"]); err == nil && seconds > 0 {
		g.MinimumDeliverByTime = time.Duration(seconds) * time.Second // RFC 2852 section 3
	}
	g.EnableMTPRIORITY = extensions.Has("MT-PRIORITY")
	g.MtPriorityProfile = gosmtp.PriorityProfile(extensions["MT-PRIORITY"])
	return g
}

// single is a listener with one connection.
type single struct {
	conn *conn
	once sync.Once
}

// Accept returns the connection, and when that is closed that there are no more.
func (l *single) Accept() (c net.Conn, err error) {
	l.once.Do(func() { c = l.conn })
	if c != nil {
		return c, nil
	}
	<-l.conn.closed
	return nil, net.ErrClosed
}

func (l *single) Close() error   { return nil }
func (l *single) Addr() net.Addr { return l.conn.LocalAddr() }

// errorLog is where go-smtp reports. What it reports has addresses and errors of
// the network in it, but nothing a client said; a panic comes as "panic serving
// (address): (value)" and the stack.
type errorLog struct {
	log      *slog.Logger
	panicked func(log *slog.Logger, p any, stack []byte)
}

func (l errorLog) Printf(format string, v ...any) {
	if strings.HasPrefix(format, "panic") && len(v) == 3 {
		stack, _ := v[2].([]byte)
		l.panicked(l.log, v[1], stack)
		return
	}
	l.log.Debug("go-smtp", "text", fmt.Sprintf(format, v...))
}

func (l errorLog) Println(v ...any) { l.log.Debug("go-smtp", "text", fmt.Sprint(v...)) }

// refresh asks the mail server for its extensions, now and again. first is closed
// after the first answer, or failure.
func (d *door) refresh(ctx context.Context, first chan<- struct{}) {
	const retry = 10 * time.Second
	usual := or(d.RefreshEvery, 5*time.Minute)
	for failed := false; ; {
		wait := usual
		extensions, err := d.Upstream.ProbeSMTP(ctx)
		if err == nil {
			d.learn(extensions)
		} else if wait = min(retry, usual); !failed && ctx.Err() == nil { // once is enough in the log
			// What was known is kept: the server will be back.
			d.logger().Warn("mail server cannot be asked for its extensions", "err", err)
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

func (d *door) learn(extensions upstream.Extensions) {
	if old := *d.extensions.Swap(&extensions); old["SIZE"] != extensions["SIZE"] {
		d.logger().Debug("mail server's extensions changed", "size", extensions.Size())
	}
}
