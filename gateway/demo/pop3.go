package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// ServePOP3 answers POP3 (RFC 1939) until ctx ends, from the INBOXes of the mail server
// at imapAddress; it closes the listener. Each POP3 session uses an IMAP session.
func (m *MailServer) ServePOP3(ctx context.Context, l net.Listener, imapAddress string) error {
	var sessions sync.WaitGroup
	defer sessions.Wait()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		conn, err := l.Accept()
		if err != nil {
			return ignoreClosed(ctx, err)
		}
		sessions.Go(func() {
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			defer conn.Close()
			p := &maildrop{conn: conn, r: bufio.NewReader(conn), imapAddress: imapAddress}
			defer p.end()
			p.serve()
		})
	}
}

// maildrop is one client's session.
type maildrop struct {
	conn        net.Conn
	r           *bufio.Reader
	imapAddress string

	user    string
	imap    *imapclient.Client // after the login
	letters []letter
}

// letter is a message as it was when the session began.
type letter struct {
	uid     imap.UID
	octets  []byte
	deleted bool
}

func (p *maildrop) end() {
	if p.imap != nil {
		p.imap.Close()
	}
}

func (p *maildrop) say(format string, args ...any) { fmt.Fprintf(p.conn, format+"\r\n", args...) }

func (p *maildrop) serve() {
	p.say("+OK mailserver.demo ready")
	for {
		line, err := p.r.ReadString('\n')
		if err != nil || len(line) > 4<<10 {
			return
		}
		keyword, argument, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		if keyword = strings.ToUpper(keyword); keyword == "QUIT" {
			p.quit()
			return
		}
		if keyword == "CAPA" {
			p.say("+OK\r\nUSER\r\nSASL PLAIN\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nUIDL\r\nTOP\r\n.")
			continue
		}
		if p.imap == nil {
			p.before(keyword, argument)
		} else {
			p.after(keyword, argument)
		}
	}
}

// before executes a command before login.
func (p *maildrop) before(keyword, argument string) {
	switch keyword {
	case "USER":
		p.user = argument
		p.say("+OK")
	case "PASS":
		p.login(p.user, argument)
	case "AUTH":
		_, response, initial := strings.Cut(argument, " ")
		if !initial {
			p.say("+ ")
			line, err := p.r.ReadString('\n')
			if err != nil {
				return
			}
			response = strings.TrimRight(line, "\r\n")
		}
		decoded, err := base64.StdEncoding.DecodeString(response)
		parts := strings.Split(string(decoded), "\x00")
		if err != nil || len(parts) != 3 {
			p.say("-ERR malformed")
			return
		}
		p.login(parts[1], parts[2])
	default:
		p.say("-ERR not before login")
	}
}

// login reads the messages of the INBOX.
func (p *maildrop) login(name, password string) {
	client, err := imapclient.DialInsecure(p.imapAddress, nil)
	if err != nil {
		p.say("-ERR [SYS/TEMP] no maildrop now")
		return
	}
	if client.Login(name, password).Wait() != nil {
		client.Close()
		p.say("-ERR [AUTH] wrong name or password")
		return
	}
	if err := p.open(client); err != nil {
		client.Close()
		p.say("-ERR [SYS/TEMP] no maildrop now")
		return
	}
	p.imap = client
	p.say("+OK %d messages", len(p.letters))
}

func (p *maildrop) open(client *imapclient.Client) error {
	box, err := client.Select("INBOX", nil).Wait()
	if err != nil || box.NumMessages == 0 {
		return err
	}
	var all imap.SeqSet
	all.AddRange(1, box.NumMessages)
	body := &imap.FetchItemBodySection{Peek: true}
	messages, err := client.Fetch(all, &imap.FetchOptions{UID: true, BodySection: []*imap.FetchItemBodySection{body}}).Collect()
	for _, message := range messages {
		p.letters = append(p.letters, letter{uid: message.UID, octets: message.FindBodySection(body)})
	}
	return err
}

// after executes a command after login.
func (p *maildrop) after(keyword, argument string) {
	words := strings.Fields(argument)
	switch keyword {
	case "NOOP":
		p.say("+OK")
	case "RSET":
		for i := range p.letters {
			p.letters[i].deleted = false
		}
		p.say("+OK")
	case "STAT":
		n, size := 0, 0
		for _, l := range p.letters {
			if !l.deleted {
				n, size = n+1, size+len(l.octets)
			}
		}
		p.say("+OK %d %d", n, size)
	case "LIST", "UIDL":
		p.list(words, func(l letter) string {
			if keyword == "UIDL" {
				return fmt.Sprintf("demo-%d", l.uid)
			}
			return strconv.Itoa(len(l.octets))
		})
	case "RETR", "TOP", "DELE":
		l := p.letter(words)
		switch {
		case l == nil:
			p.say("-ERR no such message")
		case keyword == "DELE":
			l.deleted = true
			p.say("+OK")
		default:
			lines := -1
			if keyword == "TOP" && len(words) == 2 {
				lines, _ = strconv.Atoi(words[1]) // 0 if it is no number: the header only
			}
			p.send(l.octets, lines)
		}
	default:
		p.say("-ERR unknown")
	}
}

// letter returns the message that a command names; nil if there is none.
func (p *maildrop) letter(words []string) *letter {
	if len(words) == 0 {
		return nil
	}
	n, err := strconv.Atoi(words[0])
	if err != nil || n < 1 || n > len(p.letters) || p.letters[n-1].deleted {
		return nil
	}
	return &p.letters[n-1]
}

func (p *maildrop) list(words []string, what func(letter) string) {
	if len(words) > 0 {
		if l := p.letter(words); l != nil {
			p.say("+OK %s %s", words[0], what(*l))
		} else {
			p.say("-ERR no such message")
		}
		return
	}
	p.say("+OK")
	for i, l := range p.letters {
		if !l.deleted {
			p.say("%d %s", i+1, what(l))
		}
	}
	p.say(".")
}

// send writes a message with the given number of lines of its body; -1 means all.
func (p *maildrop) send(message []byte, lines int) {
	header, body, _ := bytes.Cut(message, []byte("\r\n\r\n"))
	p.say("+OK")
	text := string(header) + "\r\n\r\n"
	for line := range strings.Lines(string(body)) {
		if lines == 0 {
			break
		}
		lines--
		text += line
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, ".") { // RFC 1939 section 3
			line = "." + line
		}
		p.say("%s", strings.TrimRight(line, "\r\n"))
	}
	p.say(".")
}

// quit removes the marked messages (RFC 1939 section 6).
func (p *maildrop) quit() {
	var gone imap.UIDSet
	for _, l := range p.letters {
		if l.deleted {
			gone.AddNum(l.uid)
		}
	}
	if len(gone) > 0 {
		err := p.imap.Store(gone, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}, Silent: true}, nil).Close()
		if err == nil {
			err = p.imap.Expunge().Close()
		}
		if err != nil {
			p.say("-ERR [SYS/TEMP] not all messages were removed")
			return
		}
	}
	p.say("+OK bye")
}
