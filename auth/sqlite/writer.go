package sqlite

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"congthu/auth"
)

const (
	// maxBatch is the largest number of changes in one transaction, and so in one fsync.
	maxBatch = 64
	// maxQueue is the number of changes that wait for the writer; further callers wait
	// before the queue.
	maxQueue = 1024
)

// writer is the one goroutine that writes. It takes all changes that have queued while
// the disk was busy with the last transaction, and makes them in the next one: the more
// callers there are, the fewer fsyncs each of them costs. Every caller waits for its own
// result.
//
// After a transaction that failed nothing in memory is trusted: the connection is
// closed, and the next one reads the head of the chain again. The head counts
// transactions, which shows whether one in doubt was committed.
type writer struct {
	path     string
	files    *files
	slots    *slots
	cache    *cache
	try      func(auth.Change, *auth.Account) ([]auth.Event, bool, error)
	recorder Recorder
	log      *slog.Logger
	now      func() time.Time
	faults   atomic.Pointer[faults]

	queue   chan *request
	batches chan []*request // each becomes a transaction of its own
	quit    chan struct{}   // closed by Close
	stopped chan struct{}   // closed when run has returned

	// failed is the error of the last transaction; nil if it succeeded.
	failed atomic.Pointer[error]

	// look asks run to check for changes by other programs; looked is the time of the
	// last check, in nanoseconds since began.
	look   chan struct{}
	began  time.Time
	looked atomic.Int64

	// Only run uses these.
	conn  *connection  // nil after a failure
	doubt *transaction // a transaction whose commit has an unknown outcome; else nil
	blind bool         // changes by others cannot be checked for, and this is in the log
}

// faults are errors that tests inject around a commit: before makes the commit fail,
// after makes its outcome unknown, connect makes the doubt last.
type faults struct {
	before, after, connect error
}

func (w *writer) wanted() faults {
	if f := w.faults.Load(); f != nil {
		return *f
	}
	return faults{}
}

// request is a change for the writer.
type request struct {
	name        auth.Name
	reservation auth.Reservation
	change      auth.Change
	probe       bool      // no change: test whether a commit is possible
	prune       *pruning  // instead of name, reservation and change
	agree       *agreeing // instead of name, reservation and change

	state   atomic.Int32
	applied chan struct{} // closed when change cannot run any more
	done    chan struct{} // closed when the result is set

	// The result. The writer sets these and closes done.
	account auth.Account
	err     error
}

// The states of a request. The goroutine that moves it away from waiting decides its
// result.
const (
	waiting   = iota
	running   // the writer has it
	abandoned // its caller has given up
)

func newWriter(s *Store) *writer {
	return &writer{
		path: s.path, files: s.files, slots: &s.slots, cache: s.cache, try: s.try, recorder: s.recorder, log: s.log, now: s.now,
		queue: make(chan *request, maxQueue), batches: make(chan []*request), quit: make(chan struct{}), stopped: make(chan struct{}),
		look: make(chan struct{}, 1), began: time.Now(),
	}
}

// isClosed is also true for nil, the writer before Open has made it.
func (w *writer) isClosed() bool {
	if w == nil {
		return true
	}
	select {
	case <-w.quit:
		return true
	default:
		return false
	}
}

// update passes a change to the writer and waits for its result.
func (w *writer) update(ctx context.Context, q *request) (auth.Account, error) {
	if err := w.files.problem(); err != nil {
		return auth.Account{}, err
	}
	if q.prune != nil || q.agree != nil {
		if err := w.updateBatch(ctx, []*request{q}); err != nil {
			return auth.Account{}, err
		}
		return q.account, nil
	}
	q.applied, q.done = make(chan struct{}), make(chan struct{})
	select {
	case w.queue <- q:
	case <-ctx.Done():
		return auth.Account{}, ctx.Err()
	case <-w.quit:
		return auth.Account{}, ErrClosed
	}
	return w.await(ctx, q)
}

// updateBatch passes changes to the writer as one transaction and waits for the result
// of each; it returns the first error among them.
func (w *writer) updateBatch(ctx context.Context, batch []*request) error {
	if err := w.files.problem(); err != nil {
		return err
	}
	for _, q := range batch {
		q.applied, q.done = make(chan struct{}), make(chan struct{})
	}
	select {
	case w.batches <- batch:
	case <-ctx.Done():
		return ctx.Err()
	case <-w.quit:
		return ErrClosed
	}
	var first error
	for _, q := range batch {
		if _, err := w.await(ctx, q); first == nil {
			first = err
		}
	}
	return first
}

// await waits for the result of a request that was passed to the writer.
func (w *writer) await(ctx context.Context, q *request) (auth.Account, error) {
	select {
	case <-q.done:
	case <-ctx.Done():
		if q.state.CompareAndSwap(waiting, abandoned) {
			return auth.Account{}, ctx.Err()
		}
		// The change may be running and use its caller's variables, so wait until it has
		// ended. It is not necessary to wait for the disk.
		<-q.applied
		select {
		case <-q.done:
		default:
			return auth.Account{}, ctx.Err()
		}
	case <-w.stopped:
		if q.state.CompareAndSwap(waiting, abandoned) {
			return auth.Account{}, ErrClosed
		}
		<-q.done
	}
	return q.account, q.err
}

// finish sets the result of a request: its own error, or that of the batch.
func (q *request) finish(err error) {
	if q.err == nil {
		q.err = err
	}
	q.ran()
	close(q.done)
}

// ran notes that change will not run again. Only the writer calls it.
func (q *request) ran() {
	select {
	case <-q.applied:
	default:
		close(q.applied)
	}
}

// run makes transactions until Close, and then writes what is queued.
func (w *writer) run() {
	defer close(w.stopped)
	defer w.disconnect()
	for {
		select {
		case q := <-w.queue:
			w.process(w.drain(q))
		case batch := <-w.batches:
			w.process(batch)
		case <-w.look:
			w.lookForOthers()
		case <-w.quit:
			for len(w.queue) > 0 {
				w.process(w.drain(<-w.queue))
			}
			return
		}
	}
}

// othersSeenWithin is the longest time for which a change by another program may go
// unnoticed. No program should write to the file, but people use database shells.
const othersSeenWithin = time.Second

// sawOthers reports whether the last check for changes by other programs is recent
// enough; if not, it asks run for another.
func (w *writer) sawOthers() bool {
	if at := w.looked.Load(); at != 0 && time.Since(w.began)-time.Duration(at) < othersSeenWithin {
		return true
	}
	select {
	case w.look <- struct{}{}:
	default: // already asked
	}
	return false
}

// lookForOthers empties the cache if another program has written to the file.
func (w *writer) lookForOthers() {
	at := time.Since(w.began)
	if w.conn == nil || w.doubt != nil {
		return // after a failure nothing is read from memory until the next transaction succeeds
	}
	var version int64 // changes with commits of other connections, not of this one
	if err := w.conn.version.QueryRow().Scan(&version); err != nil {
		if !w.blind {
			w.blind = true
			w.log.Warn("changes by other programs cannot be looked for", "err", explain(w.path, err))
		}
		return
	}
	w.blind = false
	if version != w.conn.others {
		w.log.Warn("another program has written to the database", "file", w.path)
		w.cache.empty()
		w.conn.others = version
	}
	w.looked.Store(int64(at))
}

// drain returns first and the requests that are queued, up to a full batch.
func (w *writer) drain(first *request) []*request {
	batch := []*request{first}
	for len(batch) < maxBatch {
		select {
		case q := <-w.queue:
			batch = append(batch, q)
		default:
			return batch
		}
	}
	return batch
}

// process makes one transaction of a batch and returns the result to every caller.
func (w *writer) process(batch []*request) {
	began := w.now()
	w.recorder.Queued(len(batch) + len(w.queue))
	defer func() { w.recorder.Queued(len(w.queue)) }()

	t := &transaction{writer: w, changed: make(map[auth.Name]*auth.Account)}
	err := t.make(batch)
	switch {
	case err == nil:
		t.settle(true)
	case !t.committing:
		w.disconnect()
		t.settle(false)
	default:
		w.disconnect()
		w.doubt = t
		if failed := w.connect(); failed != nil {
			err = fmt.Errorf("it is not known whether the changes were made: %w", err)
		} else if t.made {
			err = nil
		}
	}
	if err == nil {
		if t.writes {
			w.recorder.Committed(t.changes, w.now().Sub(began))
		}
		if w.failed.Swap(nil) != nil {
			w.log.Info("the database can be written again", "file", w.path)
		}
	} else {
		if lost := w.files.check(); lost != nil {
			err = lost
		}
		err = fmt.Errorf("write: %w", explain(w.path, err))
		if w.failed.Swap(&err) == nil {
			// Log it once, not for every batch.
			w.log.Error("the database cannot be written", "file", w.path, "err", err)
		}
	}
	for _, q := range batch {
		if q.state.CompareAndSwap(waiting, running) || q.state.Load() == running {
			q.finish(err)
		}
	}
}

// connect makes sure that there is a connection; a new one shows whether a transaction
// in doubt was committed.
func (w *writer) connect() error {
	if w.conn != nil {
		return nil
	}
	if err := w.files.check(); err != nil {
		return err // a new connection might open another file
	}
	if err := w.wanted().connect; err != nil {
		return err
	}
	conn, err := newConnection(w.path)
	if err != nil {
		return err
	}
	w.conn = conn
	w.cache.empty() // a new connection cannot see what others have written before it
	if t := w.doubt; t != nil {
		w.doubt = nil
		t.settle(conn.head.commits == t.next.commits)
		w.log.Warn("a commit was in doubt", "made", t.made)
	}
	return nil
}

// disconnect closes the connection, which ends any transaction.
func (w *writer) disconnect() {
	if w.conn == nil {
		return
	}
	if err := w.conn.close(); err != nil {
		w.log.Warn("the database did not close well", "err", err)
	}
	w.conn = nil
}
