package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"congthu/auth/storetest/testenv"
)

// overSocket starts the socket's server and returns a client for it.
func (f *fixture) overSocket(t *testing.T) *http.Client {
	t.Helper()
	path := filepath.Join(testenv.Dir(t), "admin.sock")
	listener, err := ListenSocket(path, "")
	if err != nil {
		t.Fatal(err)
	}
	server := f.HTTPServer(f.SocketHandler())
	done := make(chan error)
	go func() { done <- server.Serve(listener) }()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket is left behind: %v", err)
		}
	})
	return &http.Client{Transport: transport}
}

func TestTheKernelIdentifiesThePeerOfTheSocket(t *testing.T) {
	f := newFixture(t)
	client := f.overSocket(t)
	answer, err := client.Post("http://admin"+base+"/accounts/an@x.vn/lock", "application/json", strings.NewReader(`{"reason":"nghỉ việc"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var a Account
	if err := json.NewDecoder(answer.Body).Decode(&a); err != nil || answer.StatusCode != 200 {
		t.Fatalf("%d %v", answer.StatusCode, err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	actor := fmt.Sprintf("uid:%s (%s)", me.Uid, me.Username)
	if len(a.Events) != 1 || a.Events[0].Actor != actor || a.Events[0].Source != "" {
		t.Errorf("%+v, want actor %s", a.Events, actor)
	}
	if !strings.Contains(f.log.String(), fmt.Sprintf("%q", actor)) {
		t.Errorf("%s", f.log)
	}
	// A token has no effect there: the identity from the kernel counts.
	r, _ := http.NewRequestWithContext(t.Context(), "GET", "http://admin"+base+"/events", nil)
	r.Header.Set("Authorization", "Bearer "+reader)
	other, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	other.Body.Close()
	if other.StatusCode != 200 {
		t.Errorf("status %d", other.StatusCode)
	}
}

func TestTheSocketsHandlerRefusesAnUnidentifiedPeer(t *testing.T) {
	f := newFixture(t)
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", base+"/accounts", nil)
	r.Header.Set("Authorization", "Bearer "+master)
	f.SocketHandler().ServeHTTP(w, r)
	decode[Problem](t, w, 401)
}

func TestAUserWithoutANameIsStillANumber(t *testing.T) {
	if got := actorOf(4294967294 - 7); got != "uid:4294967287 (unknown)" {
		t.Errorf("%s", got)
	}
}

func TestTheSocketIsOpenToItsOwnerAndGroupOnly(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	group, err := user.LookupGroupId(strconv.Itoa(os.Getgid()))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", group.Name, group.Gid} {
		path := filepath.Join(testenv.Dir(t), "admin.sock")
		listener, err := ListenSocket(path, name)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != fs.ModeSocket|0o660 {
			t.Errorf("%v %v", info.Mode(), err)
		}
		if gid := info.Sys().(*syscall.Stat_t).Gid; int(gid) != os.Getgid() {
			t.Errorf("group %d", gid)
		}
		listener.Close()
	}
	if _, err := ListenSocket(filepath.Join(testenv.Dir(t), "admin.sock"), "no-such-group-here"); err == nil {
		t.Error("an unknown group is taken")
	}
}

func TestOnlyASocketWithoutAListenerIsReplaced(t *testing.T) {
	dir := testenv.Dir(t)
	path := filepath.Join(dir, "admin.sock")

	first, err := ListenSocket(path, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ListenSocket(path, ""); err == nil || !strings.Contains(err.Error(), "another process listens there") {
		t.Errorf("in use: %v", err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("the first was harmed: %v", err)
	}
	conn.Close()

	// A socket as a dead process leaves it.
	first.(*net.UnixListener).SetUnlinkOnClose(false)
	first.Close()
	second, err := ListenSocket(path, "")
	if err != nil {
		t.Fatalf("left behind: %v", err)
	}
	second.Close()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after closing: %v", err)
	}

	for name, make := range map[string]func(path string) error{
		"file":    func(path string) error { return os.WriteFile(path, []byte("precious"), 0o600) },
		"dir":     func(path string) error { return os.Mkdir(path, 0o700) },
		"symlink": func(path string) error { return os.Symlink(filepath.Join(dir, "file"), path) },
	} {
		path := filepath.Join(dir, name)
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		if _, err := ListenSocket(path, ""); err == nil || !strings.Contains(err.Error(), "no socket") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}

	if _, err := ListenSocket(filepath.Join(dir, "missing", "admin.sock"), ""); err == nil {
		t.Error("a directory that does not exist")
	}
	if _, err := ListenSocket(filepath.Join(dir, strings.Repeat("x", 120)), ""); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("%v", err)
	}
}
