package realtest

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// tolerant is a submission server that accepts everything and records it. It parses its
// input in the loose ways of some servers.
type tolerant struct {
	name                       string
	chunking, pipelining, utf8 bool
	// endings says which octets end a line: "CRLF", "LF" (with or without CR before it) or
	// "any" (CR, LF or CRLF). A line with only a dot ends a message.
	endings string
	// anyBase parses numbers like C: 010 is 8, 0x10 is 16.
	anyBase bool
	// normalising is normalise_newlines of the gateway in front of it.
	normalising bool

	port     int
	mu       sync.Mutex
	messages []tolerated
	// verbs are the verbs of all commands after a login.
	verbs map[string]bool
}

// tolerated is an accepted message, with the user who was logged in and all MAIL commands.
type tolerated struct{ user, mail, octets string }

func (s *tolerant) start(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.port, s.verbs = l.Addr().(*net.TCPAddr).Port, make(map[string]bool)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				s.serve(conn)
			})
		}
	})
	t.Cleanup(func() { l.Close() })
}

// lineReader reads lines with one of the three endings.
type lineReader struct {
	*bufio.Reader
	endings string
	afterCR bool // the last line ended with CR: a following LF belongs to it
}

func (r *lineReader) line() (string, error) {
	var line []byte
	for {
		c, err := r.ReadByte()
		if err != nil {
			return "", err
		}
		if r.afterCR {
			r.afterCR = false
			if c == '\n' {
				continue
			}
		}
		line = append(line, c)
		switch {
		case r.endings == "CRLF" && strings.HasSuffix(string(line), "\r\n"):
			return string(line[:len(line)-2]), nil
		case r.endings == "LF" && c == '\n':
			return strings.TrimRight(string(line), "\r\n"), nil
		case r.endings == "any" && (c == '\n' || c == '\r'):
			r.afterCR = c == '\r'
			return string(line[:len(line)-1]), nil
		}
	}
}

func (s *tolerant) serve(conn net.Conn) {
	conn.SetDeadline(time.Now().Add(patience))
	r := &lineReader{Reader: bufio.NewReader(conn), endings: s.endings}
	say := func(format string, args ...any) { fmt.Fprintf(conn, format+"\r\n", args...) }
	var mail, user string
	var begun, loggedIn bool
	var recipients int
	var chunks strings.Builder
	reset := func() {
		mail, begun, recipients = "", false, 0
		chunks.Reset()
	}
	accept := func(octets string) {
		s.mu.Lock()
		s.messages = append(s.messages, tolerated{user, mail, octets})
		s.mu.Unlock()
		say("250 2.0.0 Ok: queued as 4Q1")
		reset()
	}
	say("220 tolerant.test ESMTP")
	for {
		line, err := r.line()
		if err != nil {
			return
		}
		verb, args, _ := strings.Cut(strings.TrimLeft(line, " \t\x00"), " ")
		verb = strings.ToUpper(verb)
		if loggedIn {
			s.mu.Lock()
			s.verbs[verb] = true
			s.mu.Unlock()
		}
		switch verb {
		case "EHLO", "HELO":
			reset()
			text := "250-tolerant.test\r\n250-SIZE 1000000\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250-XCLIENT NAME ADDR LOGIN\r\n"
			for offer, offered := range map[string]bool{"CHUNKING": s.chunking, "BINARYMIME": s.chunking, "PIPELINING": s.pipelining, "SMTPUTF8": s.utf8} {
				if offered {
					text += "250-" + offer + "\r\n"
				}
			}
			say("%s250 AUTH PLAIN", text)
		case "AUTH":
			loggedIn = true
			_, initial, given := strings.Cut(args, " ")
			if !given {
				say("334 ")
				if initial, err = r.line(); err != nil {
					return
				}
			}
			credentials, _ := base64.StdEncoding.DecodeString(initial) // any are accepted
			if parts := strings.Split(string(credentials), "\x00"); len(parts) == 3 {
				user = parts[1]
			}
			say("235 2.7.0 Ok")
		case "MAIL", "SEND", "SOML", "SAML":
			mail, begun = mail+line, true
			say("250 2.1.0 Ok")
		case "RCPT":
			recipients++
			say("250 2.1.5 Ok")
		case "DATA":
			if !begun || recipients == 0 {
				say("503 5.5.1 Not now")
				continue
			}
			say("354 Go ahead")
			var octets strings.Builder
			for {
				line, err := r.line()
				if err != nil {
					return
				}
				if line == "." {
					break
				}
				octets.WriteString(strings.TrimPrefix(line, ".") + "\r\n")
			}
			accept(octets.String())
		case "BDAT":
			if !s.chunking {
				say("502 5.5.1 No") // and parse the chunk as commands
				continue
			}
			size, last, _ := strings.Cut(strings.TrimSpace(args), " ")
			base := 10
			if s.anyBase {
				base = 0
			}
			n, err := strconv.ParseUint(strings.TrimPrefix(size, "+"), base, 63)
			if err != nil || n > 1<<20 {
				say("501 5.5.4 What?")
				continue
			}
			chunk := make([]byte, n)
			if r.afterCR {
				r.afterCR = false
				if next, err := r.Peek(1); err == nil && next[0] == '\n' {
					r.Discard(1)
				}
			}
			if _, err := io.ReadFull(r, chunk); err != nil {
				return
			}
			chunks.Write(chunk)
			switch {
			case !begun || recipients == 0:
				say("503 5.5.1 Not now")
			case strings.HasPrefix(strings.ToUpper(last), "LAST"):
				accept(chunks.String())
			default:
				say("250 2.0.0 Ok")
			}
		case "RSET":
			reset()
			say("250 2.0.0 Ok")
		case "NOOP", "VRFY", "EXPN", "HELP", "ETRN", "XCLIENT", "XFORWARD", "BURL":
			say("250 2.0.0 Ok")
		case "QUIT":
			say("221 2.0.0 Bye")
			return
		default:
			say("500 5.5.2 What?")
		}
	}
}

var author = regexp.MustCompile(`(?i)^[ \t\x00]*(from|sender|resent-from|resent-sender)[ \t\x00]*:`)

// forged returns the part of a message that names the boss as its sender: in the envelope,
// or in the header as read with any of the three line endings.
func (m tolerated) forged() string {
	boss := func(text string) bool { return strings.Contains(strings.ToLower(text), "boss") }
	if boss(m.mail) {
		return m.mail
	}
	for _, endings := range []string{"CRLF", "LF", "any"} {
		r := &lineReader{Reader: bufio.NewReader(strings.NewReader(m.octets + "\r\n\r\n")), endings: endings}
		var field string
		for {
			line, err := r.line()
			if err == nil && line != "" && strings.ContainsAny(line[:1], " \t") {
				field += line
				continue
			}
			if author.MatchString(field) && boss(field) {
				return field
			}
			if err != nil || line == "" {
				break
			}
			field = line
		}
	}
	return ""
}

// forger generates what a client sends after its login in order to appear as somebody else.
type forger struct{ dialogist }

var (
	forgedPaths = []string{"<{me}>", "<>", "<{boss}>", "<boss>", "<{me}>{boss}", "<{boss}>{me}", "<@{boss}:{me}>", "<{me}:{boss}>", "<{me}> AUTH=<{boss}>", "<{me}> AUTH={boss}", "<{me}> SIZE=1 AUTH=boss+40congthu.test",
		"<{me}>\rMAIL FROM:<{boss}>", "<{me}>\nMAIL FROM:<{boss}>", "<{me}>\x00<{boss}>", "<\"boss\"@congthu.test>", "<BOSS@CONGTHU.TEST>", "<{boss}.>", "<{me},{boss}>", "<{boss}<{me}>>", "{boss} <{me}>", "({boss})<{me}>", "<{me}>({boss})",
		"<{me}> <{boss}>", "<({boss}){me}>", "<{me} {boss}>", "<{boss}> FROM:<{me}>", "\"<{me}>\"<{boss}>", "<\"{me}\\\"{boss}>", "<\"<{me}>\" {boss}>", "<{me}>\tFROM:<{boss}>"}
	forgedHeads = []string{"From: <{me}>\r\n", "From: <{boss}>\r\n", "From: <{me}>\r\nFrom: <{boss}>\r\n", "From: <{me}>\nFrom: <{boss}>\r\n", "From: <{me}>\rFrom: <{boss}>\r\n", "From : <{boss}>\r\n", " From: <{boss}>\r\n",
		"X: y\n\nFrom: <{boss}>\r\n", "Sender: <{boss}>\r\n", "Resent-From: <{boss}>\r\n", "From\x00: <{boss}>\r\n", "From:\r\n <{boss}>\r\n", "fRoM: <{boss}>\r\n", "junk\r\nFrom: <{boss}>\r\n", "From: <{me}>, <{boss}>\r\n", "From: <{me}>\r\n\x00From: <{boss}>\r\n",
		"From: <{me}>\r\r\nFrom: <{boss}>\r\n", "From: <{me}>\n\rFrom: <{boss}>\r\n", "X: " + strings.Repeat("x", 3000) + "\r\nFrom: <{boss}>\r\n", ".From: <{boss}>\r\n", "..From: <{boss}>\r\n", ".\rFrom: <{boss}>\r\n"}
	endings = []string{"\r\n.\r\n", "\n.\n", "\r.\r", "\r\n.\n", "\n.\r\n", "\r\n.\r", "\r.\r\n", "\r\n\x00.\r\n", "\r\n.\x00\r\n", "\r\n. \r\n", "\r\n..\r\n", "\r\r\n.\r\n", "\r\n.\r\r\n", "\n\n.\r\n", ".\r\n", ""}
	sizes   = []string{"%d LAST", "%d", "+%d LAST", "0%d LAST", "0x%x LAST", "%d\x00 LAST", " %d LAST", "%d  LAST", "%d LAST x", "%dLAST", "%d.0 LAST", "-%d LAST", "1844674407370955161%d LAST", "%d\tLAST", "%d last", "%d LAST ", "%d LASTLY", "%d_0 LAST", "%d,0"}
)

// mostly returns the first of the list, which is honest, in three of four cases.
func (f *forger) mostly(of []string) string {
	if f.IntN(4) > 0 {
		return of[0]
	}
	return pick(&f.dialogist, of)
}

func (f *forger) text() string {
	text := f.mostly(forgedHeads)
	for f.oneIn(8) {
		text += pick(&f.dialogist, forgedHeads)
	}
	text += f.mostly([]string{"\r\n", "\n", "\r", "", " \r\n", "\x00\r\n"})
	return text + f.mostly([]string{"text\r\n", "", "From: <{boss}>\r\n", strings.Repeat("y", 5000)})
}

func (f *forger) octets(names *strings.Replacer) string {
	var b strings.Builder
	for range 1 + f.IntN(3) {
		for f.oneIn(6) {
			b.WriteString(pick(&f.dialogist, forbidden) + "\r\n")
		}
		b.WriteString("MAIL FROM:" + f.mostly(forgedPaths) + f.mostly([]string{"\r\n", " \r\n", "\n", "\r", " BODY=8BITMIME\r\n", " BODY=BINARYMIME\r\n", " SMTPUTF8\r\n"}))
		b.WriteString("RCPT TO:<{me}>\r\n")
		for f.oneIn(6) {
			b.WriteString(pick(&f.dialogist, []string{"RSET\r\n", "EHLO x\r\n", "MAIL FROM:<{boss}>\r\n", "NOOP\r\n", "RCPT TO:<{boss}>\r\n", "MAIL FROM:<{me}>\r\nRCPT TO:<{me}>\r\n"}))
		}
		text := f.text()
		if f.oneIn(2) {
			b.WriteString("DATA" + f.mostly([]string{"", " ", "\t", "\x00", " x"}) + "\r\n" + text + f.mostly(endings))
			continue
		}
		for f.oneIn(2) && text != "" {
			at := beginning(text, f.IntN(len(text)))
			f.chunk(&b, names.Replace(text[:at]), "%d")
			text = text[at:]
			if f.oneIn(8) {
				b.WriteString(pick(&f.dialogist, []string{"RSET\r\n", "NOOP\r\n", "EHLO x\r\n", "MAIL FROM:<{boss}>\r\n", "DATA\r\n", "RSET\r\nMAIL FROM:<{me}>\r\nRCPT TO:<{me}>\r\n"}))
			}
		}
		f.chunk(&b, names.Replace(text), f.mostly(sizes))
	}
	octets := []byte(names.Replace(b.String()))
	// Replace, insert or delete some octets.
	for f.oneIn(5) {
		at := f.IntN(len(octets))
		switch f.IntN(3) {
		case 0:
			octets[at] = pick(&f.dialogist, []byte("\r\n\x00 .:<>\t\xff"))
		case 1:
			octets = slices.Insert(octets, at, pick(&f.dialogist, []byte("\r\n\x00 .:<>\t\xff")))
		case 2:
			octets = slices.Delete(octets, at, at+1)
		}
	}
	return string(octets)
}

// chunk writes a BDAT command with its chunk; the size is sometimes wrong.
func (f *forger) chunk(b *strings.Builder, chunk, size string) {
	n := len(chunk)
	if f.oneIn(10) {
		n = max(0, n+f.IntN(40)-20)
	}
	fmt.Fprintf(b, "BDAT "+size+"\r\n%s", n, chunk)
	if f.oneIn(8) {
		b.WriteString("MAIL FROM:<{boss}>\r\nRCPT TO:<{me}>\r\nDATA\r\nFrom: <{boss}>\r\n\r\n.\r\n")
	}
}

// forwarded are the commands that the gateway passes on to the mail server.
var forwarded = strings.Fields("MAIL RCPT DATA BDAT RSET NOOP QUIT HELP VRFY EXPN ETRN EHLO HELO")

// Whatever a client sends after its login, the mail server accepts no message from another
// sender, in the envelope or in the header. The servers are with and without CHUNKING,
// PIPELINING and SMTPUTF8; some end lines at a bare LF or CR or parse numbers like C.
func TestNoServerRecordsAnotherSender(t *testing.T) {
	t.Parallel()
	seed, until := uint64(1), time.Time{}
	if long := soak(t); long > 0 {
		seed, until = uint64(time.Now().UnixNano()), time.Now().Add(long)
		t.Logf("seed %d", seed)
	}
	for n, s := range []*tolerant{
		{name: "CRLF, everything", endings: "CRLF", chunking: true, pipelining: true, utf8: true},
		{name: "LF, nothing", endings: "LF"},
		{name: "any ending, everything, any base", endings: "any", chunking: true, pipelining: true, utf8: true, anyBase: true},
		{name: "LF, CHUNKING, normalised", endings: "LF", chunking: true, normalising: true},
		{name: "CRLF, PIPELINING, normalised", endings: "CRLF", pipelining: true, normalising: true},
		{name: "any ending, SMTPUTF8, normalised", endings: "any", utf8: true, normalising: true},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			// Directly at the server most forgeries succeed; otherwise the test proves nothing.
			straight := &tolerant{chunking: s.chunking, pipelining: s.pipelining, utf8: s.utf8, endings: s.endings, anyBase: s.anyBase}
			straight.start(t)
			s.start(t)
			g := Configured(t, Setup{})
			upstream := regexp.MustCompile(`upstream: \{ address: "[^"]*", tls: starttls, [^}]*pass_client: xclient \}`)
			config := readFrom(g.Config, 0)
			if !upstream.MatchString(config) {
				t.Fatal(config)
			}
			writeFile(t, g.Config, upstream.ReplaceAllString(config,
				fmt.Sprintf("upstream: { address: %q, tls: none, pass_client: none }\n  normalise_newlines: %t", addr(s.port), s.normalising)), 0o600)
			g.Start(t)
			t.Cleanup(func() { g.Process.Kill() })
			const sessions = 120
			each(3, func(worker int) {
				me := accountName(1 + worker)
				names := strings.NewReplacer(substitutes(me, me)...)
				for i := worker; i < sessions || time.Now().Before(until); i += 3 {
					f := &forger{dialogist{Rand: rand.New(rand.NewPCG(seed+uint64(n), uint64(i))), number: i}}
					octets := f.octets(names)
					cuts := []int{}
					for f.oneIn(2) {
						cuts = append(cuts, f.IntN(len(octets)))
					}
					slices.Sort(cuts)
					if i < sessions {
						d := Dial(t, straight.port, "")
						d.Say("EHLO x\r\nAUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+me+"\x00x")) + "\r\n" + octets + "\r\n.\r\nQUIT\r\n")
						d.TCP.CloseWrite()
						d.Rest()
						d.Close()
					}
					before := s.count()
					c := &submission{d: loggedIn(t, g.Door(), me), names: names, patience: 2 * time.Second}
					c.write(octets+"\r\n.\r\nQUIT\r\n", cuts)
					for !c.closed && c.read().code != "silent" {
					}
					c.d.Close()
					for _, m := range s.since(before) {
						if what := m.forged(); what != "" && m.user == me {
							t.Errorf("seed %d, session %d: recorded %.200q\n%.1500q", seed, i, what, octets)
						}
					}
				}
			})
			forged := 0
			for _, m := range straight.since(0) {
				if m.forged() != "" {
					forged++
				}
			}
			honest := s.count()
			t.Logf("directly %d of %d messages are forged; %d messages came through the gateway", forged, straight.count(), honest)
			if forged < sessions/4 || honest < sessions/10 {
				t.Errorf("%d messages were forged directly, and %d messages came through the gateway: too few for a proof", forged, honest)
			}
			for verb := range s.verbs {
				if !slices.Contains(forwarded, verb) {
					t.Errorf("the server received the command %q after the login", verb)
				}
			}
		})
	}
}

func (s *tolerant) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.messages)
}

func (s *tolerant) since(n int) []tolerated {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.messages[n:])
}
