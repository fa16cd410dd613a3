package frontend

import "runtime/debug"

// OnFreshStack runs f in a goroutine of its own and waits for it. A stack that a
// handshake or a login has grown ends with that goroutine; the connection's goroutine
// would keep it as long as the session lasts. A panic of f continues in the caller,
// which reads it with [OpenPanic].
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

// panicElsewhere is a panic that continues in another goroutine.
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
