// Package systemd communicates with the service manager that started this program: it
// takes over the sockets on which systemd listens (sd_listen_fds(3)), and reports the
// program's state (sd_notify(3)). If systemd did not start the program, there are no
// sockets and no reports.
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

// Socket is a socket that systemd has opened.
type Socket struct {
	// Name is FileDescriptorName= of its unit; without one, the unit's own name.
	Name string
	net.Listener
}

// Sockets takes over the sockets that were passed to this process, once: it removes
// them from the environment. Closing one does not close it for systemd: new connections
// wait in it for the next process.
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

// Ready reports that all listeners are open, or that a reload has ended.
func Ready(status string) error { return tell(daemon.SdNotifyReady, "STATUS="+status) }

// Reloading reports that the configuration is being read again, until Ready. It
// includes the time of the monotonic clock, as Type=notify-reload requires.
func Reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("tell systemd of a reload: %w", err)
	}
	return tell(daemon.SdNotifyReloading, fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000))
}

// Stopping reports that a shutdown has begun.
func Stopping(status string) error { return tell(daemon.SdNotifyStopping, "STATUS="+status) }

// Status sets the line for `systemctl status`.
func Status(status string) error { return tell("STATUS=" + status) }

func tell(state ...string) error {
	if _, err := daemon.SdNotify(false, strings.Join(state, "\n")); err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	return nil
}

// Watchdog notifies systemd in intervals of half of WatchdogSec=, as long as alive
// returns nil, until ctx ends. It returns at once if the unit has no WatchdogSec=. It
// calls told with the result of alive when that changes, and with the error of a failed
// notification.
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
		// An answer that comes after the next one is due is late.
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

// answer calls alive, and does not wait for one that ignores its context.
func answer(ctx context.Context, limit time.Duration, alive func(context.Context) error) error {
	// The first half of the limit is for alive, the second for a late return.
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
