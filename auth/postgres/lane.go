package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"congthu/auth"
)

const (
	// maxBatch is the largest number of requests in one transaction, and so in one commit.
	maxBatch = 64
	// maxQueue is the number of requests that wait for a lane; further callers wait
	// before the queue.
	maxQueue = 1024
	// patience is how long a lane tries to find the outcome of a commit.
	patience = 3 * time.Second
)

// lane is one goroutine that writes, over a connection of its own. It takes all requests
// that have queued during the last transaction, and makes them in the next one: the more
// callers there are, the fewer commits each of them costs. Every caller waits for its
// own result.
type lane struct {
	*Store
	name   string
	number int // admitting or settling
	faults atomic.Pointer[faults]

	queue   chan *request
	batches chan []*request // each becomes a transaction of its own
	stopped chan struct{}   // closed when run has returned

	// failed is the error of the last transaction; nil if it succeeded.
	failed atomic.Pointer[error]

	conn *link // nil after a failure; only run uses it
}

// The lanes of a process.
const (
	admitting = iota
	settling
	numLanes
)

// faults are errors that tests inject around a commit: before makes the commit fail,
// after makes its outcome unknown, ask makes the doubt last.
type faults struct {
	before, after, ask error
}

func (l *lane) wanted() faults {
	if f := l.faults.Load(); f != nil {
		return *f
	}
	return faults{}
}

// kind is the kind of a request.
type kind uint8

const (
	reserving kind = iota // take a slot
	changing              // change an account and settle a reservation
	lapsing               // turn the reservation of a dead holder into a failure in doubt
	probing               // test whether a commit is possible
)

// request is a change for a lane.
type request struct {
	kind  kind
	name  auth.Name
	slots func(auth.Account) int // when reserving
	// reservation is the one to settle or to let expire; when reserving, the one
	// that was taken.
	reservation auth.Reservation
	change      auth.Change
	tells       bool // change is known to return events

	// mu is held while a function of the caller runs.
	mu      sync.Mutex
	started bool // a function has run, and its result may be part of a transaction
	gone    bool // the caller has given up: its functions must not run any more

	done chan struct{} // closed when the result is set

	// The result. The lane sets these and closes done.
	account auth.Account
	err     error
}

// run calls f, unless the caller has given up.
func (q *request) run(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.gone {
		q.started = true
		f()
	}
}

// leave gives up the request, as soon as no function of the caller runs. A caller that
// waits for a slot cannot leave once the slot may have been taken.
func (q *request) leave() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.started && q.kind == reserving {
		return false
	}
	q.gone = true
	return true
}

func newLane(s *Store, name string, number int) *lane {
	return &lane{
		Store: s, name: name, number: number,
		queue: make(chan *request, maxQueue), batches: make(chan []*request), stopped: make(chan struct{}),
	}
}

// do passes a request to the lane and waits for its result.
func (l *lane) do(ctx context.Context, q *request) (auth.Account, error) {
	if l.isClosed() {
		return auth.Account{}, ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return auth.Account{}, err
	}
	q.done = make(chan struct{})
	select {
	case l.queue <- q:
	case <-ctx.Done():
		return auth.Account{}, ctx.Err()
	case <-l.life.Done():
		return auth.Account{}, ErrClosed
	}
	return l.await(ctx, q)
}

// doBatch passes requests to the lane as one transaction and waits for the result of
// each; it returns the first error among them.
func (l *lane) doBatch(ctx context.Context, batch []*request) error {
	if l.isClosed() {
		return ErrClosed
	}
	for _, q := range batch {
		q.done = make(chan struct{})
	}
	select {
	case l.batches <- batch:
	case <-ctx.Done():
		return ctx.Err()
	case <-l.life.Done():
		return ErrClosed
	}
	var first error
	for _, q := range batch {
		if _, err := l.await(ctx, q); first == nil {
			first = err
		}
	}
	return first
}

// await waits for the result of a request that was passed to the lane.
func (l *lane) await(ctx context.Context, q *request) (auth.Account, error) {
	select {
	case <-q.done:
		return q.account, q.err
	case <-l.stopped:
		select {
		case <-q.done: // in the last batch
			return q.account, q.err
		default:
			return auth.Account{}, ErrClosed
		}
	case <-ctx.Done():
		if q.leave() {
			return auth.Account{}, ctx.Err()
		}
		<-q.done
		return q.account, q.err
	}
}

// run makes transactions until Close, and then writes what is queued.
func (l *lane) run() {
	defer close(l.stopped)
	defer l.disconnect()
	for {
		select {
		case q := <-l.queue:
			l.serve(l.drain(q))
		case batch := <-l.batches:
			l.serve(batch)
		case <-l.life.Done():
			for len(l.queue) > 0 {
				l.serve(l.drain(<-l.queue))
			}
			return
		}
	}
}

// drain returns first and the requests that are queued, up to a full batch.
func (l *lane) drain(first *request) []*request {
	batch := []*request{first}
	for len(batch) < maxBatch {
		select {
		case q := <-l.queue:
			batch = append(batch, q)
		default:
			return batch
		}
	}
	return batch
}

// depth is the number of callers that wait for the lanes.
func (s *Store) depth() int { return len(s.admit.queue) + len(s.settle.queue) }

// serve makes one transaction of a batch and returns the result to every caller.
func (l *lane) serve(batch []*request) {
	l.o.Recorder.Queued(len(batch) + l.depth())
	defer func() { l.o.Recorder.Queued(l.depth()) }()
	err := l.process(batch)
	if err != nil && len(batch) > 1 && ofOneChange(err) {
		// One of them cannot be written; write the others separately.
		for _, q := range batch {
			l.finish([]*request{q}, l.process([]*request{q}))
		}
		return
	}
	l.finish(batch, err)
}

// finish sets the results of the requests: the batch's error, or their own.
func (l *lane) finish(batch []*request, err error) {
	if err == nil {
		if l.failed.Swap(nil) != nil {
			l.o.Log.Info("the database can be written again", "lane", l.name)
		}
	} else {
		err = fmt.Errorf("write: %w", explain(context.Background(), err))
		if l.failed.Swap(&err) == nil {
			// Log it once, not for every batch.
			l.o.Log.Error("the database cannot be written", "lane", l.name, "err", err)
		}
	}
	for _, q := range batch {
		if err != nil {
			q.err = err
		}
		close(q.done)
	}
}

// process makes the batch, and repeats it while it is certain that it was not committed
// and another try may succeed.
func (l *lane) process(batch []*request) error {
	began := time.Now()
	for try := 1; ; try++ {
		t := &transaction{lane: l}
		err := t.make(batch)
		made := err == nil
		if t.committing && err != nil && !certain(err) {
			if errors.Is(err, ErrUnconfirmed) {
				t.abandon()
				return fmt.Errorf("it is not known whether the changes were made: %w", err)
			}
			l.disconnect()
			var doubt error
			if made, doubt = l.ask(t); doubt != nil {
				t.abandon()
				return fmt.Errorf("it is not known whether the changes were made: %w (asked again: %w)", err, doubt)
			}
			l.o.Log.Warn("a commit was in doubt", "lane", l.name, "made", made, "err", err)
		}
		if made {
			t.settle()
			if t.committing {
				l.o.Recorder.Committed(len(batch), time.Since(began))
			}
			return nil
		}
		t.abandon()
		l.rollback()
		if errors.Is(err, errLeaseExpired) && l.conn != nil {
			if err := l.register(context.Background(), l.conn.Conn, t.identity); err != nil {
				l.disconnect()
				return err
			}
		}
		if try == maxTries || !again(err) || try > 1 && time.Since(began) > patience || !l.pause(context.Background(), try) {
			return err
		}
	}
}

// reach makes sure that there is a connection.
func (l *lane) reach(ctx context.Context) error {
	if l.conn != nil && !l.conn.IsClosed() {
		return nil
	}
	conn, err := l.link(ctx, l.session)
	l.conn = conn
	return err
}

// rollback makes the connection ready for another transaction, or drops it.
func (l *lane) rollback() {
	if l.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if l.conn.IsClosed() {
		l.conn = nil
	} else if _, err := l.conn.Exec(ctx, `ROLLBACK`); err != nil {
		l.disconnect()
	}
}

// disconnect closes the connection, which ends any transaction.
func (l *lane) disconnect() {
	if l.conn != nil {
		closeConn(l.conn.Conn)
		l.conn = nil
	}
}

// ask finds out whether a transaction was committed whose commit has not been confirmed.
// The row of its lane shows it: the transaction has incremented the row's counter, and
// locks the row as long as it is open, so the answer is final. The answer is trusted
// only after ask's own commit is confirmed: everything committed before is then where
// that commit is, on the standby as well.
func (l *lane) ask(t *transaction) (made bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience+l.o.LockTimeout)
	defer cancel()
	began := time.Now()
	for try := 1; ; try++ {
		var commits int64
		if err = l.wanted().ask; err != nil {
			return false, err
		}
		if err = l.reach(ctx); err == nil {
			l.conn.warning.Store(nil)
			err = l.conn.QueryRow(ctx, `UPDATE lanes SET commits = commits WHERE id = $1 RETURNING commits`, t.identity.lanes[l.number]).Scan(&commits)
		}
		if err == nil {
			err = l.conn.warned()
		}
		if err == nil {
			return commits == t.commits, nil
		}
		l.disconnect()
		if errors.Is(err, pgx.ErrNoRows) || time.Since(began) > patience || !l.pause(ctx, min(try, 5)) {
			return false, err
		}
	}
}
