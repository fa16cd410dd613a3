package main

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"time"
)

// counting runs the do-nothing SMTP server with TLS and without.
func counting(t *testing.T) (secure, plain int) {
	bag := new(mailbag)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go serve(l, bag.doNothing)
	return tlsPort(t, bag.doNothing), l.Addr().(*net.TCPAddr).Port
}

func TestEveryMailThatArrivesIsCounted(t *testing.T) {
	secure, plain := counting(t)
	if err := sendOnce(secure, account(7)); err != nil {
		t.Fatal(err)
	}
	clients, err := senders(secure, 3)
	if err != nil {
		t.Fatal(err)
	}
	n, _, err := repeat(3, time.Nanosecond, func(client, _ int) error { return clients[client].send() })
	for _, c := range clients {
		c.close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if whole, damaged, err := count(plain); err != nil || whole != n+1 || damaged != 0 {
		t.Errorf("%d whole, %d damaged, want %d, 0: %v", whole, damaged, n+1, err)
	}
}

func TestAnAlteredMailIsNotCounted(t *testing.T) {
	for name, change := range map[string]func(mail []byte) []byte{
		"an octet":    func(mail []byte) []byte { mail[5000]++; return mail },
		"no sender":   func(mail []byte) []byte { mail[0]++; return mail },
		"its end":     func(mail []byte) []byte { return append(mail[:len(mail)-3], "..\n"...) },
		"cut in half": func(mail []byte) []byte { return mail[:4096] },
	} {
		secure, plain := counting(t)
		c, err := dialSMTP(secure, account(1))
		if err != nil {
			t.Fatal(err)
		}
		c.mail = change(bytes.Clone(c.mail))
		if name == "cut in half" {
			for _, command := range append(c.envelope, "DATA\r\n") {
				if err := c.do(command, map[bool]string{true: "354", false: "250"}[command == "DATA\r\n"]); err != nil {
					t.Fatal(err)
				}
			}
			c.conn.Write(c.mail)
			c.conn.Close()
		} else if err := c.send(); err == nil || !strings.Contains(err.Error(), "554") {
			t.Errorf("%s: %v", name, err)
		}
		if whole, _, err := count(plain); err != nil || whole != 0 {
			t.Errorf("%s: %d mails, %v", name, whole, err)
		}
	}
}
