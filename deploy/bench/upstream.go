package main

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// The helpers that run as processes of their own, so that their memory and time are
// measured for no other process.

const (
	domain   = "congthu.test"
	password = "Mat-khau-1"

	// greeted is the list of capabilities of the do-nothing server: enough for every
	// proxy to log in by its preferred way.
	greeted  = "IMAP4rev1 SASL-IR AUTH=PLAIN LITERAL+ IDLE ID"
	loggedIn = "IMAP4rev1 LITERAL+ IDLE ID"
)

// messageSize is the size of the message that FETCH returns.
const messageSize = 10_000_000

// smallSize is the size of the second message, which has an attachment of a few pages.
const smallSize = 100_000

// message is that message.
var message = sync.OnceValue(func() []byte {
	line := strings.Repeat("x", 74) + "\r\n"
	return []byte(strings.Repeat(line, messageSize/len(line)+1)[:messageSize])
})

// doNothing is an IMAP server that answers every command at once: every password is
// right, and every folder is empty except for one message.
func doNothing(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 512)
	say := func(format string, args ...any) { fmt.Fprintf(conn, format, args...) }
	say("* OK [CAPABILITY %s] ready\r\n", greeted)
	for {
		line, err := command(r, conn)
		if err != nil {
			return
		}
		tag, rest, _ := strings.Cut(line, " ")
		verb, args, _ := strings.Cut(rest, " ")
		switch strings.ToUpper(verb) {
		case "AUTHENTICATE":
			if _, initial, _ := strings.Cut(args, " "); initial == "" {
				say("+ \r\n")
				if _, err := r.ReadString('\n'); err != nil {
					return
				}
			} else if _, err := base64.StdEncoding.DecodeString(initial); err != nil {
				say("%s BAD base64\r\n", tag)
				continue
			}
			say("%s OK [CAPABILITY %s] Logged in\r\n", tag, loggedIn)
		case "LOGIN":
			say("%s OK [CAPABILITY %s] Logged in\r\n", tag, loggedIn)
		case "CAPABILITY":
			say("* CAPABILITY %s\r\n%s OK done\r\n", loggedIn, tag)
		case "ID":
			say("* ID NIL\r\n%s OK done\r\n", tag)
		case "IDLE":
			say("+ idling\r\n")
			if _, err := r.ReadString('\n'); err != nil {
				return
			}
			say("%s OK done\r\n", tag)
		case "FETCH":
			n := messageSize
			if strings.HasPrefix(args, "2 ") {
				n = smallSize
			}
			say("* 1 FETCH (BODY[] {%d}\r\n", n)
			if _, err := conn.Write(message()[:n]); err != nil {
				return
			}
			say(")\r\n%s OK done\r\n", tag)
		case "LOGOUT":
			say("* BYE bye\r\n%s OK done\r\n", tag)
			return
		default:
			say("%s OK done\r\n", tag)
		}
	}
}

// command reads one command, with its literals inserted.
func command(r *bufio.Reader, w io.Writer) (string, error) {
	var whole strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", err
		}
		line = strings.TrimRight(line, "\r\n")
		open := strings.LastIndexByte(line, '{')
		if open < 0 || !strings.HasSuffix(line, "}") {
			whole.WriteString(line)
			return whole.String(), nil
		}
		size, synchronising := strings.CutSuffix(line[open+1:len(line)-1], "+")
		n, err := strconv.Atoi(size)
		if err != nil || n < 0 || n > 4096 {
			return "", fmt.Errorf("literal of %q", size)
		}
		if !synchronising {
			if _, err := io.WriteString(w, "+ OK\r\n"); err != nil {
				return "", err
			}
		}
		literal := make([]byte, n)
		if _, err := io.ReadFull(r, literal); err != nil {
			return "", err
		}
		whole.WriteString(line[:open])
		whole.Write(literal)
	}
}

// serve gives each connection of a listener a goroutine.
func serve(l net.Listener, handle func(net.Conn)) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go handle(conn)
	}
}

// runUpstream is the process of a do-nothing server: the first port has TLS, the others
// are plain.
func runUpstream(certificate tls.Certificate, speaks protocol, ports []string) error {
	message()
	handle := doNothing
	if speaks == smtp {
		handle = new(mailbag).doNothing
	}
	failed := make(chan error)
	for i, port := range ports {
		l, err := net.Listen("tcp", loopback(port))
		if err != nil {
			return err
		}
		if i == 0 {
			l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{certificate}})
		}
		go func() { failed <- serve(l, handle) }()
	}
	return <-failed
}

// runRelay is the process of the bare relay: the cost of a proxy in Go that has no rules
// at all.
func runRelay(certificate tls.Certificate, listen, upstream string) error {
	l, err := tls.Listen("tcp", loopback(listen), &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		return err
	}
	return serve(l, func(client net.Conn) {
		defer client.Close()
		server, err := net.Dial("tcp", loopback(upstream))
		if err != nil {
			return
		}
		defer server.Close()
		go func() {
			io.Copy(server, client)
			server.Close()
		}()
		io.Copy(client, server)
	})
}

// runResponder is the process that nginx asks where to connect and whether a login is
// allowed: always, and to the port in the path.
func runResponder(listen string) error {
	return http.ListenAndServe(loopback(listen), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Auth-Status", "OK")
		w.Header().Set("Auth-Server", "127.0.0.1")
		w.Header().Set("Auth-Port", strings.TrimPrefix(r.URL.Path, "/"))
	}))
}

func loopback(port string) string { return "127.0.0.1:" + port }
