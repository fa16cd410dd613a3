package testenv

import "os"

// ClockVariable is the variable of the environment by which a test build sets its
// clock: so many seconds ahead of the machine's (see deploy/tools/dates). No other
// build looks at it.
const ClockVariable = "CONGTHU_TEST_CLOCK"

// ClockShift is the seconds by which the clock is set, as written in the
// environment; "" is the real clock.
func ClockShift() string { return os.Getenv(ClockVariable) }

// ClockEnvironment is what a program needs in its environment to have the clock of
// the tests.
func ClockEnvironment() []string {
	if ClockShift() == "" {
		return nil
	}
	return []string{ClockVariable + "=" + ClockShift()}
}
