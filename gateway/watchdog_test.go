package gateway

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"congthu/gateway/proxyproto"
)

// sick is a store that cannot be used.
type sick struct {
	*memory
	health func(context.Context) error
}

func (s *sick) Health(ctx context.Context) error { return s.health(ctx) }

func TestAGatewayIsAliveWhenWhatItNeedsIsDown(t *testing.T) {
	o := newOffice(t)
	store := &sick{o.store, func(context.Context) error { return errors.New("disk full") }}
	o.gateway.Store = store
	o.imap.Close()
	o.smtp.Close()
	o.open()
	if err := o.gateway.Alive(t.Context()); err != nil {
		t.Errorf("with mail servers and a store that are down: %v", err)
	}
}

func TestAGatewayWithADoorThatHangsIsNotAlive(t *testing.T) {
	o := newOffice(t)
	o.open()
	o.phone()
	o.sender()
	if err := o.gateway.Alive(t.Context()); err != nil {
		t.Errorf("with doors that were used: %v", err)
	}
	door := o.gateway.loops[1]
	door.busy.Store(new(time.Now().Add(-time.Minute)))
	if err := o.gateway.Alive(t.Context()); err == nil {
		t.Error("with a door that was not looked at for a minute: nothing is wrong")
	}
	// In a shutdown the doors are closed, which is as it should be.
	o.stop()
	if err := <-o.done; err != nil {
		t.Error(err)
	}
	close(o.done)
	door.busy.Store(new(time.Now().Add(-time.Minute)))
	if err := o.gateway.Alive(t.Context()); err != nil {
		t.Errorf("in a shutdown: %v", err)
	}
}

// The loop itself says that it waits: its door is not found busy for ever.
func TestADoorThatWaitsIsNotBusy(t *testing.T) {
	o := newOffice(t)
	o.open()
	for range 3 {
		o.phone()
	}
	for _, d := range o.gateway.loops {
		eventually(t, "the door to wait for the next connection", func() bool { return d.busy.Load() == nil })
	}
}

// A clock that is set ahead by a minute must not look like a door that hangs: what
// is compared has the monotonic clock in it.
func TestTheWatchdogMeasuresByTheMonotonicClock(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &watchedListener{Listener: &proxyproto.Listener{Listener: l}}
	defer d.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := d.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// Documented in package time: m=±seconds stands for it.
	if since := d.busy.Load(); since == nil || !strings.Contains(since.String(), " m=") {
		t.Errorf("busy since %v", since)
	}
}
