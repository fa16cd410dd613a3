package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"congthu/auth/postgres"
	"congthu/auth/sqlite"
	"congthu/gateway/config"
)

func newStoreCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Move the memory of the gateway",
	}
	cmd.AddCommand(newStoreCopyCommand())
	return cmd
}

// storeCopy holds the flags of the command that copies an SQLite file into PostgreSQL.
type storeCopy struct {
	file string // the configuration file
	from string
	to   string
}

func newStoreCopyCommand() *cobra.Command {
	s := &storeCopy{}
	cmd := &cobra.Command{
		Use:   "copy -c FILE --to-postgres DSN|FILE",
		Short: "Copy the SQLite file into a PostgreSQL database",
		Long: `Copy everything that the gateway remembers from its SQLite file into an empty
PostgreSQL database: accounts, failures and locks, names nobody has logged in
with, and the audit log with its numbers and hashes.

Stop the gateway first: it owns the file. The command may be interrupted and run
again, and goes on; no gateway opens the database before the copy is whole. It
is done when every account was compared and the audit log was verified in the
database; it says so then, and not before.

--to-postgres is a connection string (postgres://congthu@db.internal/congthu?sslmode=verify-full)
or a file that holds one: keep a password in a file.`,
		Example: "  congthu store copy -c /etc/congthu/congthu.yaml --to-postgres /etc/congthu/dsn",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if s.to == "" {
				return usage(cmd, "say into which database: %s -c FILE --to-postgres /etc/congthu/dsn", calling(cmd))
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return s.run(ctx, cmd)
		},
	}
	configFlag(cmd, &s.file)
	f := cmd.Flags()
	f.StringVar(&s.from, "from", "", "the SQLite `FILE` (default: store.path of the configuration)")
	f.StringVar(&s.to, "to-postgres", "", "the database: a connection string, or a `FILE` that holds one")
	must(cmd.MarkFlagFilename("from"))
	must(cmd.MarkFlagFilename("to-postgres"))
	return cmd
}

func (s *storeCopy) run(ctx context.Context, cmd *cobra.Command) (err error) {
	c, err := config.Peek(s.file)
	if err != nil {
		return badConfig(err)
	}
	path := s.from
	if path == "" {
		path = c.Store.Path
	}
	dsn, err := readDSN(s.to)
	if err != nil {
		return err
	}
	// Opening would create the file.
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return errorf("there is no SQLite file %s: say where it is with --from FILE", path)
	}
	from, err := sqlite.Open(ctx, sqlite.Options{Path: path})
	if errors.Is(err, sqlite.ErrInUse) {
		return errorf("%w\nA copy must be of a file that nobody writes: systemctl stop congthu", err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()

	show := newSteps(cmd.ErrOrStderr())
	done, err := postgres.Copy(ctx, from, postgres.Options{DSN: dsn}, show.progress)
	show.end()
	switch {
	case err != nil && ctx.Err() != nil:
		return errorf("interrupted: run the same command again to go on (%w)", err)
	case err != nil:
		return err
	}
	w := cmd.OutOrStdout()
	what := tr("Copied")
	if done.Already {
		what = tr("Nothing to do: the database is this copy already")
	}
	say(w, "%s: %s (%d of them names that nobody ever logged in with), %s.\n",
		what, plural(int(done.Accounts), "account"), done.Unknown, plural(int(done.Head.Seq), "event"))
	say(w, "Compared: every account is equal. Verified: the audit log of the database is whole and has the same head.\n")
	if done.Head.Seq > 0 {
		say(w, "Head: %d:%s\n", done.Head.Seq, done.Head.Hash)
	}
	say(w, "\nThe key of the password fingerprints stays in a file. Give every gateway that uses the\ndatabase the same one, %s: with another, every password looks like a new one.\n", c.Store.PepperFile)
	say(w, "Then start the gateways on the database, and none on %s any more.\n", path)
	return nil
}

// readDSN returns the connection string, or the first line of the file named in its
// place.
func readDSN(to string) (string, error) {
	if strings.Contains(to, "=") || strings.Contains(to, "://") {
		return to, nil
	}
	data, err := os.ReadFile(to)
	if err != nil {
		return "", fmt.Errorf("--to-postgres: %w", err)
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	if line = bytes.TrimSpace(line); len(line) == 0 {
		return "", errorf("--to-postgres: the first line of %s is empty: it must be the connection string", to)
	}
	return string(line), nil
}

// steps shows successive steps: one bar each on a terminal, one line each elsewhere.
type steps struct {
	w    io.Writer
	step postgres.CopyStep
	bar  interface {
		Set(int) error
		Finish() error
	}
}

func newSteps(w io.Writer) *steps { return &steps{w: w} }

func (s *steps) progress(step postgres.CopyStep, done, total int64) {
	if step != s.step {
		s.end()
		s.step = step
		if isTerminal(s.w) {
			s.bar = newBar(s.w, int(max(1, total)), tr(string(step)))
		} else {
			fmt.Fprintf(s.w, "%s (%d) ...\n", tr(string(step)), total)
		}
	}
	if s.bar != nil {
		s.bar.Set(int(min(done, max(0, total-1)))) // a full bar would end
	}
}

func (s *steps) end() {
	if s.bar != nil {
		s.bar.Finish()
		s.bar = nil
	}
}
