package cli

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
)

// ownName is how the commands that are printed call this program, ready for a shell.
var ownName = rootName

const rootName = "congthu"

// Main runs the program as its user called it, and returns the exit code.
func Main() int {
	ownName = nameFor(os.Args[0])
	return Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// nameFor returns how a user runs this program again, who called it by the given word.
// The name alone is enough if the shell finds this very program by it.
func nameFor(called string) string {
	if strings.Contains(called, "go-build") {
		return "go run ."
	}
	if found, err := exec.LookPath(rootName); err == nil {
		if own, err := os.Executable(); err == nil && same(found, own) {
			return rootName
		}
	}
	return quote(called)
}

// same reports whether two names are of one file.
func same(a, b string) bool {
	first, err := os.Stat(a)
	if err != nil {
		return false
	}
	second, err := os.Stat(b)
	return err == nil && os.SameFile(first, second)
}

// printedCommand matches the beginning of a command in a text. What is said about a
// running `congthu serve` is no command.
var printedCommand = regexp.MustCompile(`\bcongthu (account|audit|check|clock|health|import|rules|source|store|support-bundle|sweep) `)

// runnable writes the commands in a format so that the user can run them.
func runnable(format string) string {
	if ownName == rootName {
		return format
	}
	return printedCommand.ReplaceAllString(format, strings.NewReplacer("%", "%%", "$", "$$").Replace(ownName)+" $1 ")
}

// calling returns how the user calls a command.
func calling(cmd *cobra.Command) string {
	return ownName + strings.TrimPrefix(cmd.CommandPath(), rootName)
}
