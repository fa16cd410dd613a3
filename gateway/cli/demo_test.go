package cli

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"congthu/auth/storetest/testenv"
)

// newcomer runs the demo with temporary files in a directory of its own.
type newcomer struct {
	*testing.T
	temporary string
}

func newNewcomer(t *testing.T) *newcomer {
	dir := testenv.Dir(t)
	t.Setenv("TMPDIR", dir)
	return &newcomer{t, dir}
}

// take holds a free port of this machine until the test ends.
func (n *newcomer) take() (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		n.Fatal(err)
	}
	n.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// demo runs the demo until it ends by itself or has printed its guide.
func (n *newcomer) demo(flags ...string) (code int, said, failed string) {
	n.Helper()
	ctx, cancel := context.WithCancel(n.Context())
	defer cancel()
	read, write := io.Pipe()
	var out, errOut bytes.Buffer
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		for chunk := make([]byte, 4096); ; {
			k, err := read.Read(chunk)
			out.Write(chunk[:k])
			if strings.HasSuffix(out.String(), "ready\n") {
				cancel()
			}
			if err != nil {
				return
			}
		}
	}()
	ended := make(chan int, 1)
	go func() {
		ended <- Run(ctx, append([]string{"demo"}, flags...), strings.NewReader(""), write, &errOut)
		write.Close()
	}()
	select {
	case code = <-ended:
	case <-time.After(time.Minute):
		n.Fatal("the demo does not end")
	}
	<-copied
	return code, out.String(), errOut.String()
}

func (n *newcomer) nothingLeft() {
	n.Helper()
	left, err := os.ReadDir(n.temporary)
	if err != nil {
		n.Fatal(err)
	}
	for _, e := range left {
		n.Errorf("the demo has left %s behind", e.Name())
	}
}

// elsewhere moves every listener of the demo to a free port.
func elsewhere(n *newcomer) (flags []string) {
	n.Helper()
	s := new(demoSetup)
	for _, a := range s.addresses() {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			n.Fatal(err)
		}
		defer l.Close() // all at once, so that no two are equal
		flags = append(flags, "--"+a.flag, l.Addr().String())
	}
	return flags
}

func TestTheDemoLeavesNothingBehind(t *testing.T) {
	n := newNewcomer(t)
	code, said, failed := n.demo(elsewhere(n)...)
	if code != exitOK || !strings.Contains(said, "--dir DIRECTORY keeps it") {
		t.Errorf("exit code %d\n%s%s", code, said, failed)
	}
	n.nothingLeft()
}

func TestTheDemoKeepsTheDataItIsAskedToKeep(t *testing.T) {
	n := newNewcomer(t)
	dir, err := os.MkdirTemp(n.temporary, "kept")
	if err != nil {
		t.Fatal(err)
	}
	code, said, failed := n.demo(append(elsewhere(n), "--dir", dir)...)
	if code != exitOK || strings.Contains(said, "removed at the end") {
		t.Errorf("exit code %d\n%s%s", code, said, failed)
	}
	if _, err := os.Stat(dir + "/key.pem"); err != nil {
		t.Error(err)
	}
}

func TestTheDemoNamesTheFlagOfEachTakenPort(t *testing.T) {
	n := newNewcomer(t)
	imap, imaps, admin := n.take(), n.take(), n.take() // before the free ports, which the system may hand out again
	flags := elsewhere(n)
	flags[1], flags[3], flags[13] = imap, imaps, admin
	code, _, failed := n.demo(flags...)
	if code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	for flag, moves := range map[string]bool{
		"--imap-address": true, "--imaps-address": true, "--submission-address": false, "--submissions-address": false, "--pop3-address": false, "--pop3s-address": false, "--admin-address": true,
	} {
		if strings.Contains(failed, flag+" HOST:PORT") != moves {
			t.Errorf("%s is named: %v\n%s", flag, !moves, failed)
		}
	}
	n.nothingLeft()
}

func TestAMistakeInTheDemosFlagsNamesTheFlag(t *testing.T) {
	for flags, want := range map[string]string{
		"--admin-address 0.0.0.0:3081":                                            `--admin-address "0.0.0.0:3081": the passwords of the demo are published`,
		"--imap-address :1143":                                                    `--imap-address ":1143": the passwords of the demo are published`,
		"--imap-address [::]:1143":                                                `--imap-address "[::]:1143": the passwords of the demo are published`,
		"--imaps-address mail.example.org:1993":                                   `--imaps-address "mail.example.org:1993": the passwords of the demo are published`,
		"--submission-address 1587":                                               `--submission-address "1587": write HOST:PORT`,
		"--submission-address 127.0.0.1:0":                                        `--submission-address "127.0.0.1:0": write a port`,
		"--submissions-address 127.0.0.1:99999":                                   `--submissions-address "127.0.0.1:99999": write a port`,
		"--submissions-address localhost:1993":                                    `--submissions-address "localhost:1993": --imaps-address has the same address`,
		"--imap-address 10.0.0.1:1143 --admin-address [2001:db8::1]:8080":         `--admin-address "[2001:db8::1]:8080": the passwords`,
		"--imap-address [::1]:1 --imaps-address [::1]:1 --admin-address 127.1:80": `--imaps-address "[::1]:1": --imap-address has`,
	} {
		n := newNewcomer(t)
		code, _, failed := n.demo(strings.Fields(flags)...)
		if code != exitUsage || !strings.Contains(failed, want) || strings.Contains(failed, "congthu.yaml") {
			t.Errorf("%s: exit code %d\n%s", flags, code, failed)
		}
		n.nothingLeft()
	}
}

// The demo's guide is in the user's language to its end; the line "ready", for which
// programs wait, is the same in both. It has a line for each kind of call.
func TestTheDemosGuideIsInTheLanguageOfItsUser(t *testing.T) {
	for l, want := range map[language][]string{
		english:    {`{"reason":"called, identity checked"}`, "Ready. Stop with Ctrl-C.\nready\n"},
		vietnamese: {`{"reason":"đã gọi lại, xác minh danh tính"}`, "Đã sẵn sàng. Dừng bằng Ctrl-C.\nready\n"},
	} {
		guide := demoGuideIn(l)
		for _, text := range append(want, "account show stale@{{.Domain}} dormant@{{.Domain}} --socket") {
			if !strings.Contains(guide, text) {
				t.Errorf("%d: no %q in\n%s", l, text, guide)
			}
		}
	}
	if guide := demoGuideIn(vietnamese); strings.Contains(guide, "called") || !strings.HasSuffix(guide, "\nready\n") {
		t.Error(guide)
	}
}
