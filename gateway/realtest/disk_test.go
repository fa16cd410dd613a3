package realtest

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// smallDisk makes a directory a file system of its own, of so many octets, until
// the test ends.
func smallDisk(t *testing.T, dir string, size int) {
	t.Helper()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", size))
	if errors.Is(err, syscall.EPERM) {
		t.Fatal("not permitted to mount a file system: give the container CAP_SYS_ADMIN, or run make unit")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// fillUp leaves no room in a directory and returns what makes room again.
func fillUp(t *testing.T, dir string) (clear func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// A client reads "wrong" only when that is on disk. While the disk is full, no client
// reads it, no account is locked, sessions continue, and the health page and the log
// show the reason; with free space again everything continues by itself.
func TestAFullDiskIsToldAndHeals(t *testing.T) {
	t.Parallel()
	g, d := Configured(t, Setup{Limits: "  patience: 1s"}), Dovecot(t)
	data := filepath.Join(g.Dir, "data")
	smallDisk(t, data, 4<<20)
	g.Start(t)
	t.Cleanup(func() { g.Process.Kill() })
	door, user, guessed, newcomer := g.Door(), d.Account(t), d.Account(t), d.Account(t)
	home := FreshAddress()
	for _, name := range []string{user, guessed} {
		if got := tryIMAP(t, door, home, name, Password); !accepted(got) {
			t.Fatal(got)
		}
		awaitPasswordSeen(t, g, name)
	}
	failedWrites := regexp.MustCompile(`(?m)^congthu_store_operations_total\{operation="update",result="failed"\} ([0-9.e+]+)$`)
	failed := func() string {
		_, metrics := Get(t, g.URL("/metrics"))
		if m := failedWrites.FindStringSubmatch(metrics); m != nil {
			return m[1]
		}
		return "no metric"
	}
	if got := failed(); got != "0" {
		t.Errorf("failed writes before: %s", got)
	}

	clear := fillUp(t, data)
	if got := tryIMAP(t, door, home, user, Password); !accepted(got) {
		t.Errorf("a device that was in before: %s", got)
	}
	if o := Command(t, "", nil, Binary(t), "check", "-c", g.Config); o.Code == 0 || !regexp.MustCompile(`(?m)^failed +directory .*: the disk is full, 0 KiB are left \(data_dir, `).MatchString(o.Stdout) {
		t.Errorf("check sees no full disk: %s", o.All())
	}
	if got := tryIMAP(t, door, "", user, "sai"); got != imapLater {
		t.Errorf("a wrong password, IMAP: %s", got)
	}
	if got := trySMTP(t, door, "", user, "sai hai"); got != smtpLater {
		t.Errorf("a wrong password, submission: %s", got)
	}
	if got := tryIMAP(t, door, "", newcomer, Password); got != imapLater {
		t.Errorf("a first login, which cannot be written down: %s", got)
	}
	if got := g.Failures(t, user); got != 0 {
		t.Errorf("%d failures are counted", got)
	}
	// A full disk does not permit guessing: a judged password keeps its slot.
	each(12, func(i int) {
		try, want := tryIMAP, imapLater
		if i%2 == 1 {
			try, want = trySMTP, smtpLater
		}
		if got := try(t, door, "", guessed, fmt.Sprint("guess ", i)); got != want {
			t.Errorf("guess %d: %s", i+1, got)
		}
	})
	if n := d.Verdicts(guessed); n > 6 {
		t.Errorf("Dovecot judged %d wrong passwords of an account, want 6 at most", n)
	}
	if code, body := Get(t, g.URL("/readyz")); code != http.StatusServiceUnavailable || !strings.Contains(body, "no space left") {
		t.Errorf("/readyz: %d %s", code, body)
	}
	if code, _ := Get(t, g.URL("/healthz")); code != http.StatusOK {
		t.Errorf("/healthz: %d", code)
	}
	if got := failed(); got == "0" || got == "no metric" {
		t.Errorf("failed writes: %s", got)
	}
	said := func(what string) int { return strings.Count(g.LogText(), `"msg":"`+what+`"`) }
	if n := said("the database cannot be written"); n != 1 || !lineHas(g.LogText(), `"ERROR"`, "the database cannot be written", "no space left", "free some") {
		t.Errorf("the log says %d times that the database cannot be written", n)
	}

	clear()
	Eventually(t, "the gateway to be ready again", func() bool {
		code, _ := Get(t, g.URL("/readyz"))
		return code == http.StatusOK
	})
	if n := said("the database can be written again"); n != 1 {
		t.Errorf("the log says %d times that the database can be written again", n)
	}
	// The passwords that the mail server judged are counted now, and no others: it did
	// not see the second wrong password while the first could not be written.
	Eventually(t, "the failures to be written", func() bool { return g.Failures(t, user) == 1 })
	if n := d.Verdicts(user); n != 1 {
		t.Errorf("Dovecot judged %d wrong passwords while none could be written, want 1", n)
	}
	if got := tryIMAP(t, door, "", user, "sai ba"); got != imapWrong {
		t.Errorf("a wrong password: %s", got)
	}
	if got := g.Failures(t, user); got != 2 {
		t.Errorf("%d failures are counted, want 2", got)
	}
	for _, name := range []string{user, newcomer} {
		if got := tryIMAP(t, door, "", name, Password); !accepted(got) {
			t.Errorf("the right password of %s: %s", name, got)
		}
		if got := trySMTP(t, door, "", name, Password); got != smtpAccepted {
			t.Errorf("the right password of %s, submission: %s", name, got)
		}
	}
	Eventually(t, "the guesses to be written", func() bool { return g.Failures(t, guessed) == d.Verdicts(guessed) })
	if o := g.Run(t, "audit", "verify"); o.Code != 0 {
		t.Errorf("audit verify: exit code %d: %s", o.Code, o.All())
	}
	if code, ended := g.Process.Exited(); ended {
		t.Errorf("congthu ended with code %d", code)
	}
}
