//go:build !linux

package relay

import "errors"

// idlePoller parks nothing: epoll exists on Linux only, so each direction keeps its
// goroutine.
type idlePoller struct{}

var poller idlePoller

type registration struct{}

func (*idlePoller) enter() error       { return errors.ErrUnsupported }
func (*idlePoller) leave()             {}
func (*idlePoller) park(*socket) error { return errors.ErrUnsupported }
func (*idlePoller) remove(*socket)     {}
