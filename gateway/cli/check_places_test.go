package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"congthu/auth/storetest/testenv"
)

// lines returns the lines of check with a result and a subject.
func (s *site) lines(result, what string) (found []string) {
	s.t.Helper()
	code, out := s.command("check", "-c", s.file)
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == result && f[1] == what {
			found = append(found, line)
		}
	}
	if result == "failed" && len(found) > 0 && code != exitFailed {
		s.t.Errorf("exit code %d: %s", code, out)
	}
	return found
}

func TestCheckFailsForAnAddressThatAnotherProgramHas(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := newSite(t, fmt.Sprintf("metrics: { listen: %q }\n", l.Addr()))
	s.wantRefused("metrics.listen", "another program has that address")
	found := s.lines("failed", "listen")
	if len(found) != 1 {
		t.Fatalf("%q", found)
	}
	for _, want := range []string{"cannot listen on " + l.Addr().String(), "metrics.listen", s.file + ":10:", "Fix: stop ", fmt.Sprintf("(process %d)", os.Getpid())} {
		if !strings.Contains(found[0], want) {
			t.Errorf("does not say %q: %s", want, found[0])
		}
	}
}

func TestCheckDoesNotMindTheAddressesOfTheGatewayThatRuns(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, fmt.Sprintf("metrics: { listen: %q }\n", l.Addr()))
	l.Close()
	s.run()
	if failed, ok := s.lines("failed", "listen"), s.lines("ok", "listen"); len(failed) != 0 || len(ok) != 1 || !strings.Contains(ok[0], "the gateway that runs has it") {
		t.Errorf("failed: %q, ok: %q", failed, ok)
	}
}

func TestCheckFailsForADataDirectoryThatCannotBeUsed(t *testing.T) {
	s := newSite(t, "")
	if err := os.WriteFile(s.path("file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		dir, why string
	}{{"file", "not a directory"}, {"file/below", "not a directory"}, {"new/below", ""}} {
		text, err := os.ReadFile(s.file)
		if err != nil {
			t.Fatal(err)
		}
		s.write(strings.Replace(string(text), "data_dir: .\n", "data_dir: "+test.dir+"\n", 1))
		found := s.lines("failed", "directory")
		switch {
		case test.why == "" && (len(found) != 0 || s.has("new")):
			t.Errorf("%s, which can be made: %q, made: %v", test.dir, found, s.has("new"))
		case test.why != "" && (len(found) != 1 || !strings.Contains(found[0], test.why) || !strings.Contains(found[0], "(data_dir, "+s.file+":3:") || !strings.Contains(found[0], "Fix: ")):
			t.Errorf("%s: %q", test.dir, found)
		}
		if test.why != "" {
			s.wantRefused("data directory", test.why)
		}
		s.configure("")
	}
}

func TestADirectoryThatMayNotBeWrittenInIsNotUsable(t *testing.T) {
	theirs := filepath.Join(testenv.Dir(t), "theirs")
	if err := os.Mkdir(theirs, 0o555); err != nil {
		t.Fatal(err)
	}
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		if os.Geteuid() == 0 { // root may write everywhere
			const nobody = 65534
			runtime.LockOSThread() // the thread has this user from now on, and ends with this goroutine
			if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
				err = fmt.Errorf("setresuid: %w", errno)
				return
			}
		}
		err = usable(filepath.Join(theirs, "data"))
	}()
	<-done
	if found, ok := errors.AsType[*fs.PathError](err); !ok || found.Op != "write in" || found.Path != theirs || !errors.Is(err, syscall.EACCES) {
		t.Errorf("%v, want that it may not be written in", err)
	}
}

// write writes the configuration exactly as given.
func (s *site) write(text string) {
	s.t.Helper()
	if err := os.WriteFile(s.file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}
