package mailtest

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Stage is where a dialogue is played.
type Stage struct {
	// Dial connects to the server under test.
	Dial func() (net.Conn, error)
	// TLS is for the clients' handshakes.
	TLS *tls.Config
	// Set does what a line "name: value" says, or checks it; its error fails the
	// test.
	Set func(name, value string) error
}

// Play plays a dialogue file. Its lines are
//
//	# a comment
//	name: value       for Stage.Set: what the scene is, or how it must have ended
//	c -> a1 NOOP      the client says a line
//	c => "a1 N\x00"   the client says exactly these octets, a Go string
//	c <- a1 OK ...    the client reads this line; ... is anything
//	c <~ a1 (OK|NO)   the client reads a line that matches a regular expression
//	c tls             the client makes a TLS handshake
//	c closed          the client reads the end of the connection
//	c close           the client hangs up
//
// "c" may be any word; each has a connection of its own, made at first use.
func Play(t testing.TB, file string, stage Stage) {
	t.Helper()
	script, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p := &player{stage: stage, clients: make(map[string]*playing)}
	defer p.close()
	for i, line := range strings.Split(string(script), "\n") {
		if err := p.play(strings.TrimRight(line, "\r")); err != nil {
			t.Fatalf("%s:%d: %s\n%v", filepath.Base(file), i+1, line, err)
		}
	}
}

// patience is how long a line may take to come: only a failing test waits.
const patience = time.Minute

type player struct {
	stage   Stage
	clients map[string]*playing
}

type playing struct {
	conn net.Conn
	r    *bufio.Reader
}

func (p *player) close() {
	for _, c := range p.clients {
		c.conn.Close()
	}
}

func (p *player) play(line string) error {
	if line == "" || strings.HasPrefix(line, "#") {
		return nil
	}
	who, rest, _ := strings.Cut(line, " ")
	if name, ok := strings.CutSuffix(who, ":"); ok {
		return p.stage.Set(name, strings.TrimSpace(rest))
	}
	c := p.clients[who]
	if c == nil {
		conn, err := p.stage.Dial()
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		c = &playing{conn, bufio.NewReader(conn)}
		p.clients[who] = c
	}
	c.conn.SetDeadline(time.Now().Add(patience))
	verb, arg, _ := strings.Cut(rest, " ")
	return c.do(verb, arg, p.stage)
}

func (c *playing) do(verb, arg string, stage Stage) error {
	switch verb {
	case "->":
		_, err := io.WriteString(c.conn, arg+"\r\n")
		return err
	case "=>":
		octets, err := strconv.Unquote(arg)
		if err != nil {
			return fmt.Errorf("not a Go string: %w", err)
		}
		_, err = io.WriteString(c.conn, octets)
		return err
	case "<-":
		parts := strings.Split(arg, "...")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		return c.expect(strings.Join(parts, ".*"))
	case "<~":
		return c.expect(arg)
	case "tls":
		secured := tls.Client(c.conn, stage.TLS)
		if err := secured.Handshake(); err != nil {
			return err
		}
		c.conn, c.r = secured, bufio.NewReader(secured)
		return nil
	case "closed":
		line, err := c.r.ReadString('\n')
		var timeout net.Error
		switch {
		case line != "":
			return fmt.Errorf("got %q", line)
		case err == nil, errors.As(err, &timeout) && timeout.Timeout():
			return errors.New("still open")
		}
		return nil
	case "close":
		return c.conn.Close()
	}
	return fmt.Errorf("no such verb: %q", verb)
}

func (c *playing) expect(pattern string) error {
	want, err := regexp.Compile("^(?:" + pattern + ")$")
	if err != nil {
		return err
	}
	line, err := c.r.ReadString('\n')
	if err != nil {
		return fmt.Errorf("got %q, then %w", line, err)
	}
	if line, crlf := strings.CutSuffix(line, "\r\n"); !crlf || !want.MatchString(line) {
		return fmt.Errorf("got %q", line)
	}
	return nil
}
