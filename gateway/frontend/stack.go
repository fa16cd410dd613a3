package frontend

import "runtime/debug"

// onFreshStack runs f in a goroutine of its own and waits for it. A stack that a
// handshake or a login has grown ends with that goroutine; the connection's would
// keep it, for minutes. A panic of f is that of the caller.
func onFreshStack(f func()) {
	done := make(chan any)
	go func() {
		defer func() {
			p := recover()
			if p != nil {
				p = panicElsewhere{p, debug.Stack()}
			}
			done <- p
		}()
		f()
	}()
	if p := <-done; p != nil {
		panic(p)
	}
}

// panicElsewhere is a panic that is passed on to another goroutine.
type panicElsewhere struct {
	value any
	stack []byte
}
