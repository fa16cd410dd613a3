package admin

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
)

// A web page whose name points at the loopback interface gets nothing of what needs no
// token; a request for a name of this machine does.
func TestOverLoopbackOnlyTheNamesOfThisMachineAreAnswered(t *testing.T) {
	f := newFixture(t)
	f.Hostname = "mail.congthu.test"
	f.Metrics = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "metrics") })
	machine, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for name, handler := range map[string]http.Handler{"admin": f.Handler(), "metrics": f.MetricsHandler()} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := f.HTTPServer(handler)
		go server.Serve(l)
		defer server.Close()
		ask := func(path, host string) int {
			t.Helper()
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if host == "" {
				fmt.Fprintf(conn, "GET %s HTTP/1.0\r\n\r\n", path)
			} else {
				fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host)
			}
			answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			return answer.StatusCode
		}
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
			for _, host := range []string{
				"", "127.0.0.1", "127.0.0.1:" + port, "[::1]:" + port, "[::1]", "10.0.0.1", "localhost", "LOCALHOST.:" + port, "a.localhost",
				"mail.congthu.test", "Mail.Congthu.Test:" + port, machine,
			} {
				if status := ask(path, host); status != http.StatusOK {
					t.Errorf("%s: %s for %q: %d, want 200", name, path, host, status)
				}
			}
			for _, host := range []string{
				"rebound.example", "rebound.example:" + port, "127.0.0.1.rebound.example", "localhost.rebound.example", "notlocalhost", "congthu.test", "0x7f.1", "2130706433",
			} {
				if status := ask(path, host); status != http.StatusMisdirectedRequest {
					t.Errorf("%s: %s for %q: %d, want 421", name, path, host, status)
				}
			}
		}
		// Paths that need a token say so for every name: a proxy may stand in front.
		if name == "admin" {
			if status := ask("/api/v1/accounts", "rebound.example"); status != http.StatusUnauthorized {
				t.Errorf("the API for another name: %d, want 401", status)
			}
		}
	}
}
