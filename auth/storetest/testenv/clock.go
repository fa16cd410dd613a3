package testenv

import (
	"os"
	"path/filepath"
	"strings"
)

// ClockVariable is the variable of the environment by which a test build sets its
// clock: so many seconds ahead of the machine's (see deploy/tools/dates). No other
// build looks at it.
const ClockVariable = "CONGTHU_TEST_CLOCK"

// ClockShift is the seconds by which the clock is set, as written in the
// environment; "" is the real clock.
func ClockShift() string { return os.Getenv(ClockVariable) }

// ClockEnvironment is what a program needs in its environment to have the clock of
// the tests: the variable for one of this tree, libfaketime (Debian package faketime)
// for another one that is linked dynamically. ok is false when that is missing.
// Timers are by the monotonic clock, which is nobody's to set.
//
// libfaketime (0.9.10) shows the real time to a signal handler that interrupts a call
// which it wraps to wait, such as epoll_wait. PostgreSQL looks at the time in the
// handler of its timeouts: with a clock that is ahead none of deadlock_timeout,
// lock_timeout and statement_timeout ever ends while a backend waits.
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
		seconds = "+" + seconds // a distance, not a date
	}
	return append(environment, "LD_PRELOAD="+found[0], "FAKETIME="+seconds, "FAKETIME_DONT_FAKE_MONOTONIC=1"), true
}
