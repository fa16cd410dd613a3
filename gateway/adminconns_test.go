package gateway

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"congthu/gateway/frontend"
)

func TestConnectionsToAListenerForAdministratorsAreBounded(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	server.Config.ConnState = boundConns(&frontend.Limiter{Early: 8, PerSource: 4})
	server.Start()
	defer server.Close()
	ask := func() (conn net.Conn, answered bool) {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		_, err = http.ReadResponse(bufio.NewReader(conn), nil)
		return conn, err == nil
	}
	var held []net.Conn
	for i := range 10 {
		conn, answered := ask()
		if answered != (i < 4) {
			t.Errorf("connection %d answered: %v", i, answered)
		}
		held = append(held, conn)
	}
	held[0].Close()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, answered := ask(); answered {
			return
		} else if time.Now().After(deadline) {
			t.Fatal("no room after one has gone")
		}
	}
}

// Idle connections from several addresses do not block others: one of them is closed.
func TestIdleConnectionsKeepNobodyFromAListenerForAdministrators(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	server.Config.ConnState = boundConns(&frontend.Limiter{Early: 8, PerSource: 4})
	server.Start()
	defer server.Close()
	for i := range 3 { // addresses
		for range 4 {
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i))}}
			conn, err := dialer.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			conn.SetDeadline(time.Now().Add(time.Minute))
			fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
			if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
				t.Fatalf("a connection of address %d is not answered: %v", i, err)
			}
		}
	}
}
