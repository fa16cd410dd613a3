// Package testenv is what tests need of the machine that they run on: programs
// that may be missing, and directories for sockets and servers.
package testenv

import (
	"os"
	"testing"
)

// All is the variable of the environment that says that every test has to run:
// what a test needs and the machine lacks then fails it. Without it such a test is
// skipped, so that "go test ./..." says what the machine can say.
const All = "CONGTHU_TEST_ALL"

// Missing skips a test for want of something, or fails it where [All] is set. why
// is one line: what is missing, and how to have it, such as "PostgreSQL is missing:
// apt-get install -y --no-install-recommends postgresql-15".
func Missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv(All) != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}
