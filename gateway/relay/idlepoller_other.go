//go:build !linux

package relay

import "errors"

// idlePoller is where directions would wait that nobody carries: epoll is Linux's, so
// each keeps its goroutine elsewhere.
type idlePoller struct{}

var poller idlePoller

type registration struct{}

func (*idlePoller) enter() error          { return errors.ErrUnsupported }
func (*idlePoller) leave()                {}
func (*idlePoller) park(*direction) error { return errors.ErrUnsupported }
func (*idlePoller) remove(*direction)     {}
