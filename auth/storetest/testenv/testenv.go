// Package testenv is what tests need of the machine that they run on: programs
// that may be missing, and directories for sockets and servers. A test skips itself
// with the functions of this package and in no other way.
package testenv

import (
	"os"
	"testing"
)

// All is the variable of the environment that says that every test has to run:
// what a test needs and the machine lacks then fails it. "make test" sets it. Without
// it such a test is skipped, so that "go test ./..." says what the machine can say.
const All = "CONGTHU_TEST_ALL"

// SoakVariable is the variable of the environment that says how long tests with
// random turns or timing go on, such as "10m", and that tests which measure time
// run at all. "make soak" sets it.
const SoakVariable = "CONGTHU_SOAK"

// Missing skips a test for want of something, or fails it where [All] is set. why
// is one line: what is missing, and how to have it, such as "PostgreSQL is missing:
// apt-get install -y --no-install-recommends postgresql-15".
func Missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv(All) != "" {
		t.Fatal(why)
	}
	t.Skip(why + " (make test fails without it)")
}

// NeedSoak skips a test that measures time, unless [SoakVariable] is set.
func NeedSoak(t testing.TB) {
	t.Helper()
	if os.Getenv(SoakVariable) == "" {
		t.Skip("only in make soak: it measures time")
	}
}

// NeedRealClock skips a test at another date than the machine's (make dates), where
// it says nothing for the reason given.
func NeedRealClock(t testing.TB, why string) {
	t.Helper()
	if ClockShift() != "" {
		t.Skip(why)
	}
}

// NotApplicable skips a test of a contract that says nothing about what is tested
// now, for the reason given: no machine changes that.
func NotApplicable(t testing.TB, why string) {
	t.Helper()
	t.Skip(why)
}
