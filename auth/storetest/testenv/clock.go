package testenv

import (
	"os"
	"path/filepath"
	"strings"
)

// ClockVariable is the environment variable by which a test build sets its clock: the
// number of seconds ahead of the machine's clock (see deploy/tools/dates). No other
// build reads it.
const ClockVariable = "CONGTHU_TEST_CLOCK"

// ClockShift is the number of seconds by which the clock is set, as written in the
// environment; "" is the real clock.
func ClockShift() string { return os.Getenv(ClockVariable) }

// ClockEnvironment is the environment that gives a program the clock of the tests: the
// variable for a program of this tree, libfaketime (Debian package faketime) for any
// other program that is linked dynamically. ok is false if libfaketime is missing.
// Timers use the monotonic clock, which nothing can set.
//
// libfaketime (0.9.10) shows the real time to a signal handler that interrupts a call
// which it wraps to wait, such as epoll_wait. PostgreSQL looks at the time in the
// handler of its timeouts: with a clock that is ahead, deadlock_timeout, lock_timeout
// and statement_timeout never end while a backend waits.
func ClockEnvironment() (environment []string, ok bool) {
	seconds := ClockShift()
	if seconds == "" {
		return nil, true
	}
	environment = []string{ClockVariable + "=" + seconds}
	found, _ := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1")
	if len(found) == 0 {
		return environment, false
	}
	if !strings.HasPrefix(seconds, "-") {
		seconds = "+" + seconds // relative, not a date
	}
	return append(environment, "LD_PRELOAD="+found[0], "FAKETIME="+seconds, "FAKETIME_DONT_FAKE_MONOTONIC=1"), true
}
