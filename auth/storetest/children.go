package storetest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"

	"congthu/auth"
)

// Children are processes that tests kill, limit, or take privileges from. Each is the
// test binary itself; an environment variable says which role it has.
type Children struct {
	// Variable is the environment variable that holds the role.
	Variable string
	// Roles maps each role to what the child does. It gets one argument, such as the
	// path of a database, and writes lines to its standard output.
	Roles map[string]func(argument string)
}

// Be runs the role of this process, if the variable names one, and then exits; otherwise
// it returns. It is for TestMain.
func (c Children) Be() {
	role := os.Getenv(c.Variable)
	if role == "" {
		return
	}
	c.Roles[role](os.Args[1])
	os.Exit(0)
}

// Start starts a child and returns it with the lines that it writes. The child is killed
// when the test ends.
func (c Children) Start(t *testing.T, role, argument string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, argument)
	cmd.Env = append(os.Environ(), c.Variable+"="+role)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd, bufio.NewScanner(out)
}

// Line returns the next line of a child.
func Line(t *testing.T, from *bufio.Scanner) string {
	t.Helper()
	if !from.Scan() {
		t.Fatalf("the child ended before its next line: %v", from.Err())
	}
	return from.Text()
}

// Say writes one line of a child without a buffer, so that a line written before a
// SIGKILL reaches the test.
func Say(format string, args ...any) {
	fmt.Fprintf(os.Stdout, format+"\n", args...)
}

// Must ends the child if err is not nil.
func Must(err error) {
	if err != nil {
		Say("unexpected %v", err)
		os.Exit(3)
	}
}

// Guess is a child that enters wrong passwords until it is killed. It writes "try NAME"
// before each, and "did NAME" when it is durable. Half of them have a reservation.
func Guess(s Store) {
	ctx := context.Background()
	var wg sync.WaitGroup
	for i := range 8 {
		name := auth.Name(fmt.Sprintf("n%d@congthu.test", i%5))
		wg.Go(func() {
			for n := 0; ; n++ {
				var r auth.Reservation
				var err error
				if n%2 == 0 {
					_, r, err = s.Reserve(ctx, name, allow(100))
					Must(err)
				}
				Say("try %s", name)
				_, err = s.Update(ctx, name, r, fail)
				Must(err)
				Say("did %s", name)
			}
		})
	}
	wg.Wait()
}
