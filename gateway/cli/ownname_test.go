package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"congthu/gateway/admin"
)

// The name alone is printed only if the shell finds this very program by it.
func TestPrintedCommandsCallTheProgramAsItsUserDid(t *testing.T) {
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	installed, other := t.TempDir(), t.TempDir()
	if err := os.Symlink(own, filepath.Join(installed, rootName)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, rootName), []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, called, want string }{
		{installed, "/opt/congthu", "congthu"},
		{other, "/opt/congthu", "/opt/congthu"},
		{t.TempDir(), "./congthu", "./congthu"},
		{t.TempDir(), "/home/an/tai ve/congthu", "'/home/an/tai ve/congthu'"},
		{installed, "/home/an/.cache/go-build/1a/congthu", "go run ."},
	} {
		t.Setenv("PATH", c.path)
		if got := nameFor(c.called); got != c.want {
			t.Errorf("with PATH %s, called as %s: %s, want %s", c.path, c.called, got, c.want)
		}
	}
}

// Every command on the screen can be copied, whatever the program is called.
func TestPrintedCommandsAreThoseOfTheProgramThatPrintsThem(t *testing.T) {
	inBothLanguages(t, func(t *testing.T) {
		ownName = "./100%/congthu"
		t.Cleanup(func() { ownName = rootName })
		f := newFake(t)
		c := &client{flags: " --socket " + f.socket}
		var screen strings.Builder
		say(&screen, "Is it an office of yours? To let it go on: congthu source allow %s --hours 4%s --reason \"...\"\n", "192.0.2.1", "")
		screen.WriteString(c.command("unlock", "an@x.vn", "") + "\n")
		c.printAdvice(&screen, admin.Account{Similar: []string{"an@x.vn"}})
		c.printLockUnknown(&screen, "an@x.vn", true)
		c.printLockUnknown(&screen, "an@x.vn", false)
		screen.WriteString(trf("see what is down: congthu health --ready%s", c.flags) + "\n")
		screen.WriteString(addresses(New(), nil).Error() + "\n")
		for line := range strings.Lines(screen.String()) {
			if strings.Count(line, "congthu ") != strings.Count(line, "./100%/congthu ") || strings.Contains(line, "%!") {
				t.Error(line)
			}
		}
		if n := strings.Count(screen.String(), "./100%/congthu "); n != 10 {
			t.Errorf("%d commands: %s", n, screen.String())
		}
		// The names of units of systemd and of the running service are no commands.
		if text := trf(nextStatus); text != tr(nextStatus) {
			t.Error(text)
		}
	})
}

// Every command that a text may tell a user to run is printed so that it runs. The others
// stand in prose only, where "congthu" is the name of the program.
func TestEveryCommandIsPrintedSoThatItCanBeRun(t *testing.T) {
	ownName = "./congthu"
	t.Cleanup(func() { ownName = rootName })
	prose := []string{"completion", "demo", "help", "man", "serve", "version"}
	for _, cmd := range New().Commands() {
		got := runnable("congthu " + cmd.Name() + " x")
		if known := strings.HasPrefix(got, "./congthu "); known == slices.Contains(prose, cmd.Name()) {
			t.Errorf("%s is printed as %q", cmd.Name(), got)
		}
	}
}
