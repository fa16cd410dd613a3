package relay

import (
	"io"
	"net"
	"testing"
)

// ends are two connections and their other ends.
func ends(t *testing.T) (near, far [2]net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for i := range near {
		if far[i], err = net.Dial("tcp", l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		if near[i], err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { near[i].Close(); far[i].Close() })
	}
	return near, far
}

// quiet waits for two connections; woken receives which one has an event.
func quiet(t *testing.T, near [2]net.Conn) (q *Quiet, woken chan bool) {
	t.Helper()
	woken = make(chan bool, 10)
	q = NewQuiet(func(b bool) { woken <- b }, near[0], near[1])
	t.Cleanup(func() { near[0].Close(); near[1].Close(); q.Close() })
	return q, woken
}

func TestAnEventOfEitherConnectionWakesOnce(t *testing.T) {
	near, far := ends(t)
	q, woken := quiet(t, near)
	for round := range 20 {
		which := round % 2
		if !q.Park(true, true) {
			t.Fatal("not parked")
		}
		io.WriteString(far[which], "x")
		if got := <-woken; got != (which == 1) {
			t.Fatalf("round %d: the other connection is named", round)
		}
		if q.Take() {
			t.Fatalf("round %d: still parked after the event", round)
		}
		near[which].Read(make([]byte, 1))
	}
	// Data that came before counts; so does the end.
	io.WriteString(far[0], "x")
	q.Park(true, true)
	<-woken
	near[0].Read(make([]byte, 1))
	far[1].Close()
	q.Park(true, true)
	<-woken
	if len(woken) != 0 {
		t.Error("woken more than once")
	}
}

func TestAConnectionThatIsNotWaitedForDoesNotWake(t *testing.T) {
	near, far := ends(t)
	q, woken := quiet(t, near)
	io.WriteString(far[0], "x")
	if !q.Park(false, true) {
		t.Fatal("not parked")
	}
	io.WriteString(far[1], "x")
	if !<-woken {
		t.Error("the wrong connection wakes")
	}
}

// The owner after Park is the call of wake or the caller of Take, never both.
func TestATakenConnectionHasOneOwner(t *testing.T) {
	near, far := ends(t)
	q, woken := quiet(t, near)
	taken := 0
	const rounds = 2000
	for range rounds {
		if !q.Park(true, true) {
			t.Fatal("not parked")
		}
		go io.WriteString(far[1], "x")
		if q.Take() {
			taken++
		} else {
			<-woken
		}
		near[1].Read(make([]byte, 1))
	}
	if len(woken) != 0 {
		t.Errorf("%d wakes too many; %d of %d were taken", len(woken), taken, rounds)
	}
}

func TestWithoutSocketsNothingIsParked(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	q := NewQuiet(func(bool) { t.Error("woken") }, a, b)
	if q.Park(true, true) || q.Take() {
		t.Error("parked")
	}
	q.Close()
}
