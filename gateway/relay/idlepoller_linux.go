package relay

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// idlePoller holds the sockets that no goroutine reads: one epoll set per process, and
// the goroutine that waits on it. Both exist while there are users: pairs, and [Quiet]s,
// that have parked at least once.
type idlePoller struct {
	mu    sync.Mutex
	users int
	set   *epollSet // nil without users
}

// poller is the idle poller of the process.
var poller idlePoller

// epollSet waits for many sockets at once. idlePoller.mu guards it, except the
// descriptors.
type epollSet struct {
	epoll, wakeFD int
	parked        map[uint64]*socket
	last          uint64
}

// registration identifies a parked socket.
type registration struct {
	set *epollSet // the set with the socket
	id  uint64    // of this parking: an event of an earlier one matches no socket
}

// wakeID is the id of the wake event. Ids of registrations begin with 1.
const wakeID = 0

// enter adds a user.
func (l *idlePoller) enter() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.set == nil {
		set, err := newEpollSet()
		if err != nil {
			return err
		}
		l.set = set
		go l.run(set)
	}
	l.users++
	return nil
}

// leave removes a user. Its sockets are closed, so the set no longer contains them.
func (l *idlePoller) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users--; l.users > 0 {
		return
	}
	unix.Write(l.set.wakeFD, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // the counter cannot be full: this is the only write
	l.set = nil
}

// park waits for a socket from now on. Data that has already arrived counts: the set
// checks the socket's present state.
func (l *idlePoller) park(w *socket) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	set := l.set
	set.last++
	op := unix.EPOLL_CTL_ADD
	if w.registration.set == set {
		op = unix.EPOLL_CTL_MOD
	}
	w.registration = registration{set, set.last}
	set.parked[w.registration.id] = w
	event := unix.EpollEvent{
		// One-shot: the goroutine that receives the event removes the socket.
		Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT,
		Fd:     int32(uint32(w.registration.id)), Pad: int32(uint32(w.registration.id >> 32)),
	}
	var failed error
	err := w.raw.Control(func(fd uintptr) { failed = unix.EpollCtl(set.epoll, op, int(fd), &event) })
	if err = errors.Join(err, failed); err != nil {
		delete(set.parked, w.registration.id)
		w.registration = registration{}
		return fmt.Errorf("park a connection: %w", err)
	}
	return nil
}

// remove removes a socket whose owner waits no longer.
func (l *idlePoller) remove(w *socket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(w.registration.set.parked, w.registration.id)
}

// take removes and returns the socket for an event; nil if it is no longer there.
func (l *idlePoller) take(set *epollSet, id uint64) *socket {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := set.parked[id]
	delete(set.parked, id)
	return w
}

func newEpollSet() (*epollSet, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll set: %w", err)
	}
	wakeFD, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, wakeFD, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: wakeID})
		if err != nil {
			unix.Close(wakeFD)
		}
	}
	if err != nil {
		unix.Close(epoll)
		return nil, fmt.Errorf("make the event descriptor of an epoll set: %w", err)
	}
	return &epollSet{epoll: epoll, wakeFD: wakeFD, parked: make(map[uint64]*socket)}, nil
}

// run resumes the owners of sockets that have an event, until the wake event arrives.
func (l *idlePoller) run(set *epollSet) {
	defer unix.Close(set.epoll)
	defer unix.Close(set.wakeFD)
	events := make([]unix.EpollEvent, 256)
	for {
		n, err := unix.EpollWait(set.epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			// The only possible cause is a wrong descriptor, a bug in this file.
			panic(fmt.Sprintf("relay: wait for the epoll set: %v", err))
		}
		for i := range max(n, 0) {
			id := uint64(uint32(events[i].Fd)) | uint64(uint32(events[i].Pad))<<32
			if id == wakeID {
				return
			}
			if w := l.take(set, id); w != nil {
				go w.owner.resume(w)
			}
		}
	}
}
