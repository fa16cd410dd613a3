package cli

import (
	"context"
	"fmt"
	"time"

	"congthu/gateway"
	"congthu/gateway/systemd"
)

// supervision reports the state of a gateway to systemd, if systemd has started it.
type supervision struct {
	server  *server
	gateway *gateway.Gateway
}

// statusEvery is the interval between new status lines for `systemctl status`.
const statusEvery = 10 * time.Second

// run notifies systemd until ctx ends: that the gateway is ready, the number of its
// sessions, that it stops, and that it is alive.
func (s supervision) run(ctx context.Context, stopping, ready <-chan struct{}) {
	select {
	case <-ctx.Done():
		return
	case <-ready:
	}
	s.told(systemd.Ready(s.status()))
	go systemd.Watchdog(ctx, s.gateway.Alive, s.watched)
	ticker := time.NewTicker(statusEvery)
	defer ticker.Stop()
	status := s.status
	for {
		select {
		case <-ctx.Done():
			return
		case <-stopping:
			stopping = nil
			status = func() string { return "draining, " + s.status() }
			s.told(systemd.Stopping(status()))
		case <-ticker.C:
			s.told(systemd.Status(status()))
		}
	}
}

func (s supervision) status() string {
	if n := s.gateway.Sessions(); n != 1 {
		return fmt.Sprintf("%d sessions", n)
	}
	return "1 session"
}

func (s supervision) reloading() {
	if s.server.supervise {
		s.told(systemd.Reloading())
	}
}

func (s supervision) reloaded() {
	if s.server.supervise {
		s.told(systemd.Ready(s.status()))
	}
}

func (s supervision) told(err error) {
	if err != nil {
		s.server.log.Warn("systemd could not be told how the gateway is", "err", err)
	}
}

func (s supervision) watched(err error) {
	if err != nil {
		s.server.log.Error("no sign of life is sent to systemd, which will restart the gateway (WatchdogSec)", "err", err)
		return
	}
	s.server.log.Info("signs of life are sent to systemd again")
}
