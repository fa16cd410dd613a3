// Package testenv provides what tests need from the machine: programs that may be
// missing, and directories for sockets and servers. A test skips itself only by the
// functions of this package.
package testenv

import (
	"os"
	"testing"
)

// All is the environment variable that says that every test has to run: a test whose
// needs the machine does not meet then fails. "make test" sets it. Without it such a
// test is skipped, so that "go test ./..." runs what it can run.
const All = "CONGTHU_TEST_ALL"

// SoakVariable is the environment variable that says for how long tests with random
// steps or timing run, such as "10m", and that tests which measure time run at all.
// "make soak" sets it.
const SoakVariable = "CONGTHU_SOAK"

// Missing skips a test because something is missing, or fails it if [All] is set. why is
// one line: what is missing, and how to install it, such as "PostgreSQL is missing:
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

// NeedRealClock skips a test if the clock is not the machine's (make dates), where the
// test says nothing, for the reason given.
func NeedRealClock(t testing.TB, why string) {
	t.Helper()
	if ClockShift() != "" {
		t.Skip(why)
	}
}

// NotApplicable skips a test of a contract that does not apply to the store or server
// under test, for the reason given: no machine changes that.
func NotApplicable(t testing.TB, why string) {
	t.Helper()
	t.Skip(why)
}
