// Package cli is the congthu command. Every subcommand has its own file.
//
// The commands that show or change accounts contain no rules and open no store. They
// call the running gateway through the Unix socket of its admin interface: so there is
// one memory and one audit log, and the kernel vouches for the identity of the caller.
//
// Exit codes: 0 success, 1 failure, 64 wrong usage, 78 invalid configuration (the
// numbers of sysexits.h).
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"congthu/gateway/config"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 64 // EX_USAGE
	exitConfig = 78 // EX_CONFIG
)

// New returns the root command, with its texts in English.
func New() *cobra.Command {
	root := &cobra.Command{
		Use:   "congthu",
		Short: "A gateway that enforces the official-mail regulation in front of a mail server",
		Long: `congthu stands in front of a mail server. Mail clients connect to it as if it were
the mail server; it lets the mail server check the password and enforces the
regulation: wrong passwords lock, unused accounts are revoked, old passwords
are refused.`,
		Example: `  congthu demo
  congthu check -c /etc/congthu/congthu.yaml
  congthu serve -c /etc/congthu/congthu.yaml
  congthu account show an@example.org`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       versionLine(),
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.Flags().Bool("version", false, "print the version")
	commands := []*cobra.Command{
		newDemoCommand(),
		newServeCommand(),
		newCheckCommand(),
		newHealthCommand(),
		newAccountCommand(),
		newSourceCommand(),
		newSweepCommand(),
		newClockCommand(),
		newRulesCommand(),
		newAuditCommand(),
		newImportCommand(),
		newStoreCommand(),
		newSupportBundleCommand(),
		newVersionCommand(),
	}
	root.AddCommand(commands...)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, "%w", flagError(err)) })
	finish(root)
	return root
}

// Run runs the command with its arguments and returns the exit code.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := New()
	translate(root, spoken())
	root.SetArgs(append([]string{}, args...)) // nil would mean os.Args
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var mistakes *config.Error
	if errors.As(err, &mistakes) {
		report := mistakes.Report()
		if spoken() == vietnamese {
			report = mistakes.ReportInVietnamese()
		}
		fmt.Fprint(stderr, report)
		return exitConfig
	}
	each := []error{err}
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		each = several.Unwrap()
	}
	for _, one := range each {
		for line := range strings.Lines(fmt.Sprintf("congthu: %s", quotingTheDatabase(one.Error()))) {
			complaint(stderr, strings.TrimSuffix(line, "\n"))
		}
	}
	var coded *exitError
	if errors.As(err, &coded) {
		return coded.code
	}
	return exitFailed
}

// exitError is an error with its own exit code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// badConfig marks an error as one of the configuration. If there are several mistakes,
// all are shown.
func badConfig(err error) error {
	var file *fs.PathError
	if errors.As(err, &file) {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			err = errorf("there is no configuration file %s: correct the name behind -c", file.Path)
		case errors.Is(err, fs.ErrPermission):
			err = errorf("the configuration %s may not be read: run it with sudo", file.Path)
		}
	}
	return &exitError{exitConfig, err}
}

// usage returns the error for a command that was called in a wrong way.
func usage(cmd *cobra.Command, format string, args ...any) error {
	err := errorf(format, args...)
	return &exitError{exitUsage, errorf("%w\nsee %s --help", err, calling(cmd))}
}

// configFlag adds the required flag -c FILE.
func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "config", "c", "", "the configuration `FILE`")
	must(cmd.MarkFlagFilename("config", "yaml", "yml"))
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if *file == "" {
			return usage(cmd, "say which configuration: %s -c /etc/congthu/congthu.yaml", calling(cmd))
		}
		return nil
	}
}

// flagError returns an error of package pflag in the user's language. The English text
// is the package's own.
func flagError(err error) error {
	var unknown *pflag.NotExistError
	var empty *pflag.ValueRequiredError
	var wrong *pflag.InvalidValueError
	switch {
	case spoken() == english:
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() != "":
		return errorf("unknown flag: -%s", unknown.GetSpecifiedName())
	case errors.As(err, &unknown):
		return errorf("unknown flag: --%s", unknown.GetSpecifiedName())
	case errors.As(err, &empty):
		return errorf("--%s needs a value", empty.GetFlag().Name)
	case errors.As(err, &wrong):
		cause := errors.Unwrap(wrong)
		if errors.Is(cause, strconv.ErrSyntax) || errors.Is(cause, strconv.ErrRange) {
			cause = sentence("it is no number")
		}
		return errorf("%q is no value of --%s: %v", wrong.GetValue(), wrong.GetFlag().Name, cause)
	}
	return err
}

// finish makes wrong arguments a usage error in every command. A command that only
// groups others reports one when it is called alone.
func finish(cmd *cobra.Command) {
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			hint := ""
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				hint = trf("; did you mean %s?", strings.Join(near, tr(" or ")))
			}
			return usage(cmd, "%s has no command %q%s", calling(cmd), args[0], hint)
		}
		cmd.SuggestionsMinimumDistance = 2
	} else if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			var coded *exitError
			if err == nil || errors.As(err, &coded) {
				return err
			}
			if len(args) > 0 && strings.HasPrefix(err.Error(), "unknown command") {
				return usage(cmd, "%s takes no argument, and there is %q", calling(cmd), args[0])
			}
			return usage(cmd, "%w", err)
		}
	}
	for _, sub := range cmd.Commands() {
		finish(sub)
	}
}

// must panics on an error that only a mistake in this package can cause.
func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("cli: %v", err))
	}
}
