//go:build !linux

package relay

import "errors"

// lot is where directions would wait that nobody carries: epoll is Linux's, so
// each keeps its goroutine elsewhere.
type lot struct{}

var parking lot

type spot struct{}

func (*lot) enter() error    { return errors.ErrUnsupported }
func (*lot) leave()          {}
func (*lot) park(*way) error { return errors.ErrUnsupported }
func (*lot) remove(*way)     {}
