package main

import (
	"bufio"
	"crypto/tls"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTheDoNothingServerUnderstandsEveryWayToLogIn(t *testing.T) {
	for name, said := range map[string]string{
		"quoted":                        "a LOGIN \"an\" \"secret\"\r\n",
		"literals":                      "a LOGIN {2}\r\nan {6}\r\nsecret\r\n",
		"non-synchronising literals":    "a LOGIN {2+}\r\nan {6+}\r\nsecret\r\n",
		"SASL with an initial response": "a AUTHENTICATE PLAIN AGFuAHNlY3JldA==\r\n",
		"SASL without":                  "a AUTHENTICATE PLAIN\r\nAGFuAHNlY3JldA==\r\n",
		"a command between, and IDLE":   "x CAPABILITY\r\na LOGIN an secret\r\ni IDLE\r\nDONE\r\n",
		"ID before, NOOP after":         "x ID NIL\r\na LOGIN an secret\r\nn NOOP\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			client, server := net.Pipe()
			go doNothing(server)
			defer client.Close()
			client.SetDeadline(time.Now().Add(patience))
			go client.Write([]byte(said + "z LOGOUT\r\n"))
			r := bufio.NewReader(client)
			var tagged []string
			asked := 0
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					break
				}
				if strings.HasPrefix(line, "+ OK") {
					asked++
				} else if !strings.HasPrefix(line, "*") && !strings.HasPrefix(line, "+") {
					tagged = append(tagged, strings.TrimSpace(line))
				}
			}
			if len(tagged) < 2 || !strings.HasPrefix(tagged[len(tagged)-1], "z OK") {
				t.Fatalf("tagged replies: %q", tagged)
			}
			if want := strings.Count(said, "}") - strings.Count(said, "+}"); asked != want {
				t.Errorf("it asked for %d literals, want %d", asked, want)
			}
			for _, line := range tagged {
				if tag, rest, _ := strings.Cut(line, " "); len(tag) != 1 || !strings.HasPrefix(rest, "OK") {
					t.Errorf("reply %q", line)
				}
			}
		})
	}
}

// tlsPort serves the do-nothing server with TLS for a test.
func tlsPort(t *testing.T, handle func(net.Conn)) int {
	t.Helper()
	cert, key, err := selfSigned()
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go serve(l, handle)
	return l.Addr().(*net.TCPAddr).Port
}

func TestTheLoadCountsOnlyLoginsThatSucceed(t *testing.T) {
	port := tlsPort(t, doNothing)
	if n, _, err := loginsFor(port, 3, time.Nanosecond); err != nil {
		t.Errorf("%d logins, %v", n, err)
	}
	if times, err := loginTimes(port, 5); err != nil || len(times) != 5 {
		t.Errorf("%d times, %v", len(times), err)
	}
	if speed, err := fetchSpeed(port, 1); err != nil || speed <= 0 {
		t.Errorf("FETCH: %v MB/s, %v", speed, err)
	}
	refusing := tlsPort(t, func(conn net.Conn) {
		defer conn.Close()
		r := bufio.NewReader(conn)
		conn.Write([]byte("* OK ready\r\n"))
		r.ReadString('\n')
		conn.Write([]byte("a NO wrong\r\n"))
		r.ReadString('\n')
	})
	if _, _, err := loginsFor(refusing, 1, time.Minute); err == nil || !strings.Contains(err.Error(), "NO wrong") {
		t.Errorf("refused logins are no error but %v", err)
	}
}

func TestGuessesThatAreAcceptedAreAnError(t *testing.T) {
	if err := guess(tlsPort(t, doNothing), "an", 3); err == nil || !strings.Contains(err.Error(), "3 wrong passwords were accepted") {
		t.Error(err)
	}
}

func TestRatiosAreOfTheSameRound(t *testing.T) {
	// A disturbed round disturbs both, so the ratio stays.
	if r, ok := ratios([]float64{2, 30, 10}, []float64{1, 15, 2}); !ok || !slices.Equal(r, []float64{2, 2, 5}) {
		t.Error(r, ok)
	}
	if _, ok := ratios([]float64{1, 2}, []float64{1}); ok {
		t.Error("a ratio of different rounds")
	}
	if m := median([]float64{4, 1, 2, 9}); m != 3 {
		t.Error("median", m)
	}
}

func TestTheTableHasMedianSpreadAndRatio(t *testing.T) {
	r := make(results)
	for _, v := range []float64{3, 1, 2} {
		r.add("x", haproxy, v)
		r.add("x", ours, 2*v)
	}
	r.add("n", ours, 6)
	r.add("n", haproxy, 100)
	var b strings.Builder
	r.table(&b, []measure{{title: "x", format: "%.1f"}, {title: "none", format: "%.0f"}, {title: "n", format: "%.0f", count: true}}, []string{haproxy, ours, direct})
	const want = "| | x | n |\n|---|---|---|\n" +
		"| HAProxy | 2.0 (1.0-3.0) | 100 |\n" +
		"| congthu | 4.0 (2.0-6.0), x2.00 | 6 |\n" +
		"| direct | - | - |\n"
	if b.String() != want {
		t.Errorf("%s\nwant\n%s", b.String(), want)
	}
}

func TestTheProgramBesideHasARatioOfItsOwn(t *testing.T) {
	r := make(results)
	for _, v := range []float64{1, 4, 2} {
		r.add("x", beside, v)
		r.add("x", ours, 3*v)
	}
	r.add("x", ours, 8)
	r.add("x", beside, 2)
	r.add("n", beside, 2)
	r.add("n", ours, 1)
	var b strings.Builder
	r.table(&b, []measure{{title: "x", format: "%.1f"}, {title: "n", format: "%.0f", count: true}}, []string{ours, beside})
	const want = "| | x | n |\n|---|---|---|\n" +
		"| congthu | 7.0 (3.0-12.0), x3.00 (x3.00-x4.00) of beside | 1 |\n" +
		"| congthu beside | 2.0 (1.0-4.0) | 2 |\n"
	if b.String() != want {
		t.Errorf("%s\nwant\n%s", b.String(), want)
	}
}

func TestEachPeerComesBeforeAndAfterEachOther(t *testing.T) {
	for peers := 1; peers <= len(allPeers); peers++ {
		before := make(map[[2]int]bool)
		for round := range 2 {
			turns := order(peers, round)
			for n, i := range turns {
				for _, j := range turns[n+1:] {
					before[[2]int{i, j}] = true
				}
			}
		}
		if want := peers * (peers - 1); len(before) != want {
			t.Errorf("%d peers: %d pairs of one before another, want %d", peers, len(before), want)
		}
	}
}

func TestAPeerIsTheProgramThatIsNamed(t *testing.T) {
	r := rig{congthu: "/new", beside: "/old"}
	for peer, want := range map[string]string{ours: "/new", oursWriting: "/new", beside: "/old"} {
		if got := r.program(peer); got != want {
			t.Errorf("%s is %s, want %s", peer, got, want)
		}
	}
}

func TestProcessorTimeIncludesEndedChildren(t *testing.T) {
	p, err := launch(t.TempDir(), "sh", "/bin/sh", "-c", `sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; echo done; exec sleep 60`)
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		out, err := exec.Command("cat", p.log).Output()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(out), "done") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the loop has not ended")
		}
	}
	if used, err := p.cpu(); err != nil || used < tick {
		t.Errorf("%s, %v", used, err)
	}
	if kib, err := p.pss(); err != nil || kib <= 0 {
		t.Errorf("%d KiB, %v", kib, err)
	}
}
