package frontend

import "runtime/debug"

// OnFreshStack runs f in a goroutine of its own and waits for it. A stack that a
// handshake or a login has grown ends with that goroutine; the connection's would
// keep it, for as long as its session lasts. A panic of f is that of the caller,
// who opens it with [OpenPanic].
func OnFreshStack(f func()) {
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

// OpenPanic returns the value of a recovered panic and the stack on which it
// happened: stack, unless the panic came through [OnFreshStack].
func OpenPanic(p any, stack []byte) (any, []byte) {
	if e, ok := p.(panicElsewhere); ok {
		return e.value, e.stack
	}
	return p, stack
}
