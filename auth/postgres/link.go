package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// link is a connection over which changes are committed.
//
// A COMMIT that waits for a synchronous standby is already on the disk of this
// server. If its wait is cancelled it becomes visible and returns as a success, with a
// warning that the standby may not have it. So this package never cancels a COMMIT,
// neither by a time-out nor when a connection breaks (the driver would send a cancel
// request then), and a warning makes it a commit in doubt.
type link struct {
	*pgx.Conn
	warning atomic.Pointer[pgconn.Notice] // the latest one
}

// errNoCancel keeps the driver from sending a cancel request.
var errNoCancel = errors.New("what is being committed is not cancelled")

// link makes a link with these settings of its session.
func (s *Store) link(ctx context.Context, session settings) (*link, error) {
	l := new(link)
	// Otherwise a setting of the role could suppress the warnings.
	config := s.configWith(session.with(settings{"client_min_messages": "warning"}))
	var made atomic.Bool
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if made.Load() {
			return nil, errNoCancel
		}
		return dial(ctx, network, addr)
	}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if n.SeverityUnlocalized == "WARNING" {
			l.warning.Store(n)
		}
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	made.Store(true)
	l.Conn = conn
	return l, nil
}

// mendStandby is what an operator can do about a commit that is not confirmed.
const mendStandby = "look at pg_stat_replication; bring the standby back, or take it out of synchronous_standby_names, and do not cancel what waits"

// errWarned: a commit came back with a warning.
var errWarned = errors.New("the database has committed with a warning")

// warned returns the latest warning as an error; nil if there is none.
func (l *link) warned() error {
	if n := l.warning.Load(); n != nil {
		return fmt.Errorf("%w: %s", errWarned, n.Message)
	}
	return nil
}

// commit sends a batch, with COMMIT as its last statement, and waits for the answer
// until ctx ends or the time-out of statements is over. If it returns [ErrUnconfirmed],
// another goroutine waits for the answer, and owns the link from then on.
func (s *Store) commit(ctx context.Context, l *link, b *pgx.Batch) error {
	b.Queue(`COMMIT`).Exec(func(tag pgconn.CommandTag) error {
		if tag.String() != "COMMIT" {
			return fmt.Errorf("%w: the transaction ended with %s", errOwn, tag)
		}
		return nil
	})
	l.warning.Store(nil)
	done := make(chan error, 1)
	go func() { done <- l.SendBatch(context.Background(), b).Close() }()
	timer := time.NewTimer(s.o.StatementTimeout)
	defer timer.Stop()
	select {
	case err := <-done:
		if err == nil {
			err = l.warned()
		}
		return err
	case <-timer.C:
	case <-ctx.Done():
	}
	s.awaiting.Go(func() { s.await(l, done) })
	return fmt.Errorf("%w: it does not answer, or waits for a synchronous standby: %s", ErrUnconfirmed, mendStandby)
}

// call begins a call for which Close waits. Its context ends with Close: a commit of the
// call that waits for the standby is then given up, before Close waits for such commits.
func (s *Store) call(ctx context.Context) (_ context.Context, end func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed() {
		return nil, nil, ErrClosed
	}
	s.calls.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.life, cancel)
	return ctx, func() {
		stop()
		cancel()
		s.calls.Done()
	}, nil
}

// apart makes a transaction over a link of its own, for rare work that belongs to no
// lane, and repeats it while that may help. f may run more than once. It must also write
// values that it finds unchanged: a commit that came back in doubt is confirmed by one
// that writes after it.
func (s *Store) apart(ctx context.Context, f func(context.Context, pgx.Tx) error) error {
	ctx, end, err := s.call(ctx)
	if err != nil {
		return err
	}
	defer end()
	return s.read(ctx, func(ctx context.Context) error {
		l, tx, err := s.begin(ctx)
		if err != nil {
			return err
		}
		if err = f(ctx, tx); err == nil {
			err = s.commit(ctx, l, new(pgx.Batch))
		}
		switch {
		case err == nil:
			s.putSpare(l)
		case !errors.Is(err, ErrUnconfirmed): // with ErrUnconfirmed another goroutine owns the link
			closeConn(l.Conn)
		}
		return err
	})
}

// begin begins a transaction over the spare link, or over a new one.
func (s *Store) begin(ctx context.Context) (*link, pgx.Tx, error) {
	if l := s.takeSpare(); l != nil {
		tx, err := l.Begin(ctx)
		if err == nil {
			return l, tx, nil
		}
		closeConn(l.Conn) // the server, or a pooler, has ended it meanwhile
		if ctx.Err() != nil {
			return nil, nil, err
		}
	}
	l, err := s.link(ctx, s.session)
	if err != nil {
		return nil, nil, err
	}
	tx, err := l.Begin(ctx)
	if err != nil {
		closeConn(l.Conn)
		return nil, nil, err
	}
	return l, tx, nil
}

// spareIdle is how long an unused link is trusted. Removals of old events and agreements
// take many transactions, one right after the other. By the next night a firewall may
// have dropped the connection, and nothing would answer.
const spareIdle = time.Minute

// takeSpare returns the spare link, nil for none. The caller puts it back or closes it.
func (s *Store) takeSpare() *link {
	s.mu.Lock()
	l, since := s.spare, s.spareSince
	s.spare = nil
	s.mu.Unlock()
	if l != nil && time.Since(since) > spareIdle {
		closeConn(l.Conn)
		return nil
	}
	return l
}

// putSpare keeps a link whose last commit was confirmed. One spare is enough.
func (s *Store) putSpare(l *link) {
	s.mu.Lock()
	l, s.spare, s.spareSince = s.spare, l, time.Now()
	s.mu.Unlock()
	if l != nil {
		closeConn(l.Conn)
	}
}

// await keeps a connection open until its commit is answered. The transaction keeps its
// locks until then, so that other transactions on the same accounts, or in the same
// lane, wait and fail.
func (s *Store) await(l *link, done <-chan error) {
	select {
	case err := <-done:
		if err == nil {
			err = l.warned()
		}
		if err == nil {
			s.o.Log.Info("a commit that was given up is confirmed after all")
		} else {
			s.o.Log.Warn("a commit that was given up ended without being confirmed", "err", err)
		}
		closeConn(l.Conn)
	case <-s.life.Done():
		l.PgConn().Conn().Close() // the server is not asked to stop
		<-done
	}
}
