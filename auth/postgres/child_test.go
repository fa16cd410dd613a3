package postgres

import (
	"bufio"
	"context"
	"os/exec"
	"testing"

	"congthu/auth/storetest"
)

// children are the processes that tests kill; each gets a connection string.
var children = storetest.Children{Variable: "CONGTHU_POSTGRES_TEST_CHILD", Roles: map[string]func(dsn string){
	"hold":   hold,
	"guess":  guess,
	"attack": attack,
	"import": importOn,
	"copy":   copyOn,
	"prune":  pruneOn,
}}

func child(t *testing.T, role, dsn string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	return children.Start(t, role, dsn)
}

var say, must, line = storetest.Say, storetest.Must, storetest.Line

// guess enters wrong passwords until it is killed.
func guess(dsn string) {
	s, err := Open(context.Background(), Options{DSN: dsn, Lease: shortLease})
	must(err)
	storetest.Guess(s)
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
