package realtest

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Manager does for a gateway what systemd does with congthu.socket and congthu.service:
// it keeps the sockets open, passes them to successive processes, and receives their
// notifications.
type Manager struct {
	gateway *Gateway
	sockets []*os.File
	notify  string // path of the socket for notifications

	mu   sync.Mutex
	said []string
}

// Managed opens the listeners of a gateway that has not started yet.
func Managed(t testing.TB, g *Gateway) *Manager {
	t.Helper()
	m := &Manager{gateway: g, notify: filepath.Join(g.Dir, "notify")}
	for _, port := range []int{g.IMAP, g.IMAPS, g.Submission, g.Submissions, g.POP3, g.POP3S} {
		l, err := net.Listen("tcp", addr(port))
		if err != nil {
			t.Fatal(err)
		}
		file, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		l.Close() // file still holds the socket
		t.Cleanup(func() { file.Close() })
		m.sockets = append(m.sockets, file)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.notify, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		for buf := make([]byte, 4096); ; {
			n, err := conn.Read(buf)
			if err != nil {
				return // closed
			}
			m.mu.Lock()
			m.said = append(m.said, string(buf[:n]))
			m.mu.Unlock()
		}
	}()
	return m
}

// Start starts the gateway on the sockets and waits until it reports that it is ready.
// All sockets have one name, like those of one unit. More environment is such as
// "WATCHDOG_USEC=1000000".
func (m *Manager) Start(t testing.TB, environment ...string) {
	t.Helper()
	g, from := m.gateway, len(m.Said())
	argv := append([]string{"env", "NOTIFY_SOCKET=" + m.notify, fmt.Sprint("LISTEN_FDS=", len(m.sockets)),
		"LISTEN_FDNAMES=" + strings.TrimSuffix(strings.Repeat("congthu.socket:", len(m.sockets)), ":")}, environment...)
	// LISTEN_PID must be the number of the process, which a shell knows and keeps
	// across exec (sd_listen_fds(3)).
	argv = append(argv, "sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, Binary(t), "serve", "-c", g.Config)
	g.Process = startPassing(t, m.sockets, "congthu", g.Log, argv...)
	t.Cleanup(g.Process.Kill)
	Eventually(t, "congthu to say that it is ready", func() bool {
		if code, ended := g.Process.Exited(); ended {
			t.Fatalf("congthu ended with code %d:\n%s", code, readFrom(g.Log, 0))
		}
		return m.Heard(from, "READY=1")
	})
	Eventually(t, "the mail servers to be found", func() bool {
		code, _ := Get(t, g.URL("/readyz"))
		return code == http.StatusOK
	})
}

// Await waits until all of the notifications have arrived, not counting the given
// number of first ones: a notification may be read some time after its process has
// ended.
func (m *Manager) Await(t testing.TB, from int, whats ...string) {
	t.Helper()
	for _, what := range whats {
		Eventually(t, "systemd to be told "+what, func() bool { return m.Heard(from, what) })
	}
}

// Said returns the notifications so far.
func (m *Manager) Said() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.said...)
}

// Heard reports whether there is a notification with such a line, not counting the
// given number of first ones; a text that ends with "=" is the beginning of a line.
func (m *Manager) Heard(from int, what string) bool {
	for _, said := range m.Said()[from:] {
		for line := range strings.Lines(said) {
			line = strings.TrimRight(line, "\n")
			if line == what || strings.HasSuffix(what, "=") && strings.HasPrefix(line, what) {
				return true
			}
		}
	}
	return false
}
