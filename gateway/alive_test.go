package gateway

import (
	"context"
	"errors"
	"testing"
	"time"
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
	door.busy.Store(time.Now().Add(-time.Minute).UnixNano())
	if err := o.gateway.Alive(t.Context()); err == nil {
		t.Error("with a door that was not looked at for a minute: nothing is wrong")
	}
	// In a shutdown the doors are closed, which is as it should be.
	o.stop()
	if err := <-o.done; err != nil {
		t.Error(err)
	}
	close(o.done)
	door.busy.Store(time.Now().Add(-time.Minute).UnixNano())
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
		eventually(t, "the door to wait for the next connection", func() bool { return d.busy.Load() == 0 })
	}
}
