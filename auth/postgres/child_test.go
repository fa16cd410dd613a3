package postgres

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

// Some tests need a process to kill: the test binary itself, told by this
// variable what to be.
const childVariable = "CONGTHU_POSTGRES_TEST_CHILD"

// children are what it can be; each is given a connection string, and writes
// lines to its standard output.
var children = map[string]func(dsn string){
	"hold":   hold,
	"guess":  guess,
	"attack": attack,
	"import": importOn,
	"copy":   copyOn,
	"prune":  pruneOn,
}

// child starts one of them.
func child(t *testing.T, role, dsn string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, dsn)
	cmd.Env = append(os.Environ(), childVariable+"="+role)
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

// say writes one line at once: what is said before a SIGKILL is heard.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stdout, format+"\n", args...)
}

func must(err error) {
	if err != nil {
		say("unexpected %v", err)
		os.Exit(3)
	}
}

// hold takes three slots and settles one of them.
func hold(dsn string) {
	ctx := context.Background()
	s, err := Open(ctx, Options{DSN: dsn, Lease: shortLease})
	must(err)
	for i := range 3 {
		_, r, err := s.Reserve(ctx, victim, allow(6))
		must(err)
		if i == 0 {
			_, err = s.Update(ctx, victim, r, fail)
			must(err)
		}
	}
	say("held")
	select {}
}

// guess makes wrong passwords until it is killed: "try NAME" before each, "did
// NAME" when it is durable. Half of them by reservation.
func guess(dsn string) {
	ctx := context.Background()
	s, err := Open(ctx, Options{DSN: dsn, Lease: shortLease})
	must(err)
	var wg sync.WaitGroup
	for i := range 8 {
		name := numbered(i % 5)
		wg.Go(func() {
			for n := 0; ; n++ {
				var r auth.Reservation
				var err error
				if n%2 == 0 {
					_, r, err = s.Reserve(ctx, name, allow(100))
					must(err)
				}
				say("try %s", name)
				_, err = s.Update(ctx, name, r, fail)
				must(err)
				say("did %s", name)
			}
		})
	}
	wg.Wait()
}

// beChild makes the test binary one of the children, where it is to be one.
func beChild() {
	role := os.Getenv(childVariable)
	if role == "" {
		return
	}
	children[role](os.Args[1])
	os.Exit(0)
}

// line returns the next line of a child.
func line(t *testing.T, from *bufio.Scanner) string {
	t.Helper()
	if !from.Scan() {
		t.Fatalf("the child said no more: %v", from.Err())
	}
	return from.Text()
}
