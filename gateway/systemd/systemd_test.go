package systemd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"congthu/auth/storetest/testenv"
)

// The environment of this test's own process when it plays the started program.
const played = "SYSTEMD_TEST_PLAYED"

func TestMain(m *testing.M) {
	if os.Getenv(played) != "" {
		sockets, err := Sockets()
		for _, s := range sockets {
			fmt.Println(s.Name, s.Addr())
		}
		again, _ := Sockets()
		fmt.Println("again", len(again), os.Getenv("LISTEN_FDS"))
		if err != nil {
			fmt.Println("error", err)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// play starts this program as systemd would, with files from descriptor 3 on.
func play(t *testing.T, pid, names string, files ...*os.File) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", `LISTEN_PID=`+pid+` exec "$0"`, os.Args[0])
	cmd.ExtraFiles = files
	cmd.Env = append(os.Environ(), played+"=1", fmt.Sprint("LISTEN_FDS=", len(files)), "LISTEN_FDNAMES="+names)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// file is a socket of some network as it is passed.
func file(t *testing.T, l any) *os.File {
	t.Helper()
	f, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestSocketsComeWithTheirNames(t *testing.T) {
	tcp, unix := listen(t, "tcp", "127.0.0.1:0"), listen(t, "unix", filepath.Join(testenv.Dir(t), "s"))
	got := play(t, "$$", "imaps:admin", file(t, tcp), file(t, unix))
	want := fmt.Sprintf("imaps %s\nadmin %s\nagain 0 \n", tcp.Addr(), unix.Addr())
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := play(t, "1", "imaps", file(t, tcp)); got != "again 0 \n" {
		t.Errorf("sockets for another process: %q", got)
	}
}

func TestASocketThatCannotBeServedIsAnError(t *testing.T) {
	tcp := listen(t, "tcp", "127.0.0.1:0")
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	conn, err := net.Dial("tcp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, wrong := range []any{udp, conn} {
		got := play(t, "$$", "good:wrong", file(t, tcp), file(t, wrong))
		if !strings.Contains(got, "error the socket wrong that systemd passes: ") || !strings.Contains(got, "ListenStream=") || strings.Contains(got, "good 127") {
			t.Errorf("%T: %q", wrong, got)
		}
	}
}

func TestNotificationsAreWhatSystemdReads(t *testing.T) {
	if err := Ready("nobody listens"); err != nil {
		t.Errorf("not started by systemd: %v", err)
	}
	path := filepath.Join(testenv.Dir(t), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	for want, tell := range map[string]func() error{
		"READY=1\nSTATUS=3 sessions":             func() error { return Ready("3 sessions") },
		"RELOADING=1\nMONOTONIC_USEC=":           Reloading,
		"STOPPING=1\nSTATUS=draining, 1 session": func() error { return Stopping("draining, 1 session") },
		"STATUS=0 sessions":                      func() error { return Status("0 sessions") },
	} {
		if err := tell(); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1000)
		n, err := conn.Read(buf)
		if got := string(buf[:n]); err != nil || !strings.HasPrefix(got, want) {
			t.Errorf("told %q (%v), want %q", got, err, want)
		}
	}
	conn.Close()
	os.Remove(path)
	if err := Status("gone"); err == nil {
		t.Error("nobody is there, and that is no error")
	}
}

func TestOnlyAnAnswerInTimeIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := errors.New("a door hangs")
		deaf := make(chan struct{})
		for name, c := range map[string]struct {
			alive func(context.Context) error
			want  error
		}{
			"at once":         {func(context.Context) error { return nil }, nil},
			"when asked to":   {func(ctx context.Context) error { <-ctx.Done(); return nil }, nil},
			"something wrong": {func(context.Context) error { return failed }, failed},
			"none, ever":      {func(context.Context) error { <-deaf; return nil }, errSilent},
			"after its time":  {func(context.Context) error { time.Sleep(11 * time.Second); return nil }, errSilent},
			"only just":       {func(context.Context) error { time.Sleep(9 * time.Second); return nil }, nil},
		} {
			if err := answer(t.Context(), 10*time.Second, c.alive); err != c.want {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
		}
		close(deaf)
		time.Sleep(time.Minute)
	})
}

func TestWithoutAWatchdogNobodyIsAsked(t *testing.T) {
	for _, usec := range []string{"", "soon"} {
		t.Setenv("WATCHDOG_USEC", usec)
		var told []error
		Watchdog(t.Context(), func(context.Context) error { t.Error("asked"); return nil }, func(err error) { told = append(told, err) })
		if (usec != "") != (len(told) == 1) {
			t.Errorf("WATCHDOG_USEC=%s: told %v", usec, told)
		}
	}
}

// A process that does not answer sends no sign of life, and says so once; it goes
// on sending when it answers again.
func TestSignsOfLifeStopWithTheAnswers(t *testing.T) {
	path := filepath.Join(testenv.Dir(t), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "200000")
	ctx, cancel := context.WithCancel(t.Context())
	failed := errors.New("a door hangs")
	var wrong atomic.Bool
	asked, told := make(chan struct{}, 1000), make(chan error, 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		Watchdog(ctx, func(context.Context) error {
			asked <- struct{}{}
			if wrong.Load() {
				return failed
			}
			return nil
		}, func(err error) { told <- err })
	}()
	// sign reports whether a sign of life comes within a time.
	sign := func(within time.Duration) bool {
		t.Helper()
		conn.SetReadDeadline(time.Now().Add(within))
		buf := make([]byte, 100)
		n, err := conn.Read(buf)
		if err == nil && string(buf[:n]) != "WATCHDOG=1" {
			t.Fatalf("read %q", buf[:n])
		}
		return err == nil
	}
	for range 3 {
		if !sign(time.Minute) {
			t.Fatal("no sign of life")
		}
	}
	wrong.Store(true)
	if err := <-told; err != failed {
		t.Errorf("told %v", err)
	}
	for sign(time.Millisecond) { // from before
	}
	for len(asked) > 0 {
		<-asked
	}
	<-asked
	<-asked
	if sign(time.Millisecond) {
		t.Error("a sign of life of a process that does not answer")
	}
	wrong.Store(false)
	if err := <-told; err != nil {
		t.Errorf("told %v", err)
	}
	if !sign(time.Minute) {
		t.Error("no sign of life after it answered again")
	}
	cancel()
	<-done
	if len(told) != 0 {
		t.Errorf("told more: %v", <-told)
	}
}
