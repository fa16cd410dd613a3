// Package systemd speaks with the service manager that has started this program:
// it takes over the sockets that systemd listens on (sd_listen_fds(3)), and tells
// systemd how the program is (sd_notify(3)). Started in any other way, there are
// no sockets and nobody is told.
package systemd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// Socket is one that systemd has opened.
type Socket struct {
	// Name is FileDescriptorName= of its unit; without one, the unit's own name.
	Name string
	net.Listener
}

// Sockets takes over the sockets that were passed to this process, once: they are
// no longer in the environment then. Closing one does not close it for systemd:
// connections wait in it for the next process.
func Sockets() ([]Socket, error) {
	var sockets []Socket
	var failed []error
	for _, file := range activation.Files(true) {
		l, err := listener(file)
		if err != nil {
			failed = append(failed, fmt.Errorf("the socket %s that systemd passes: %w", file.Name(), err))
			continue
		}
		sockets = append(sockets, Socket{file.Name(), l})
	}
	if len(failed) > 0 {
		for _, s := range sockets {
			s.Close()
		}
		return nil, errors.Join(failed...)
	}
	return sockets, nil
}

func listener(file *os.File) (net.Listener, error) {
	defer file.Close() // net.FileListener duplicates it
	listening, err := unix.GetsockoptInt(int(file.Fd()), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: write ListenStream= in its unit", err)
	case listening == 0:
		return nil, errors.New("nobody can connect to it: write ListenStream= in its unit, and not Accept=yes")
	}
	l, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("%w: write ListenStream= in its unit", err)
	}
	return l, nil
}

// Ready says that everything listens, or that a reload is over.
func Ready(status string) error { return tell(daemon.SdNotifyReady, "STATUS="+status) }

// Reloading says that the configuration is being read again, until Ready. With
// the time of the monotonic clock it serves Type=notify-reload too.
func Reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("tell systemd of a reload: %w", err)
	}
	return tell(daemon.SdNotifyReloading, fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000))
}

// Stopping says that a shutdown has begun.
func Stopping(status string) error { return tell(daemon.SdNotifyStopping, "STATUS="+status) }

// Status is one line for `systemctl status`.
func Status(status string) error { return tell("STATUS=" + status) }

func tell(state ...string) error {
	if _, err := daemon.SdNotify(false, strings.Join(state, "\n")); err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	return nil
}

// Watchdog sends signs of life half as often as systemd wants them at least, as
// long as alive returns nil, until ctx ends. It returns at once when the unit has
// no WatchdogSec=. told is called with what alive returns when that changes, and
// with an error of the telling.
func Watchdog(ctx context.Context, alive func(context.Context) error, told func(error)) {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		told(fmt.Errorf("the watchdog of systemd: %w", err))
		return
	}
	if limit == 0 {
		return
	}
	ticker := time.NewTicker(limit / 2)
	defer ticker.Stop()
	for dead := false; ; {
		// An answer that takes longer than the next one is due is none.
		err := answer(ctx, limit/2, alive)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			if err := tell(daemon.SdNotifyWatchdog); err != nil {
				told(err)
			}
		}
		if (err != nil) != dead {
			dead = err != nil
			told(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

var errSilent = errors.New("no answer in time")

// answer asks alive, and does not wait for one that has forgotten its context.
func answer(ctx context.Context, limit time.Duration, alive func(context.Context) error) error {
	// The first half is for the asked, the second for those who come back late.
	asked, cancel := context.WithTimeout(ctx, limit/2)
	defer cancel()
	answered := make(chan error, 1)
	go func() { answered <- alive(asked) }()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-answered:
		return err
	case <-timer.C:
		return errSilent
	case <-ctx.Done():
		return ctx.Err()
	}
}
