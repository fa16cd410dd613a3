package wire

import (
	"bytes"
	"errors"
	"iter"
	"strings"
)

// MaxReply bounds a reply with all its lines, in octets.
const MaxReply = 64 << 10

// ErrReply is something that is no reply.
var ErrReply = errors.New("not an SMTP reply")

// ReadReply reads the reply that b begins with (RFC 5321 section 4.2.1), and says how
// many octets it has; 0: its end is still to come.
func ReadReply(b []byte) (code, n int, err error) {
	for {
		end := bytes.IndexByte(b[n:], '\n') + 1
		switch {
		case n+end > MaxReply || end == 0 && len(b) > MaxReply:
			return 0, 0, ErrReply
		case end == 0:
			return 0, 0, nil
		}
		line := bytes.TrimRight(b[n:n+end], "\r\n")
		n += end
		this, more, ok := status(line)
		if !ok || code != 0 && this != code {
			return 0, 0, ErrReply
		}
		if code = this; !more {
			return code, n, nil
		}
	}
}

// status reads the code of a line.
func status(line []byte) (code int, more, ok bool) {
	if len(line) < 3 || len(line) > 3 && line[3] != ' ' && line[3] != '-' {
		return 0, false, false
	}
	for _, c := range line[:3] {
		if c < '0' || c > '9' {
			return 0, false, false
		}
		code = 10*code + int(c-'0')
	}
	return code, len(line) > 3 && line[3] == '-', 200 <= code && code <= 599
}

// lines are those of a reply, without code and end.
func lines(reply []byte) iter.Seq[string] {
	return func(yield func(string) bool) {
		for line := range bytes.Lines(reply) {
			line = bytes.TrimRight(line, "\r\n")
			if !yield(string(line[min(4, len(line)):])) {
				return
			}
		}
	}
}

// Text is what a reply says, line by line, without codes.
func Text(reply []byte) string {
	var all []string
	for line := range lines(reply) {
		all = append(all, line)
	}
	return strings.Join(all, "\n")
}

// Extensions are the keywords of a reply to EHLO, in upper case, each with its line.
func Extensions(reply []byte) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		first := true
		for line := range lines(reply) {
			if first { // the server's name
				first = false
				continue
			}
			keyword := line
			if end := strings.IndexAny(line, " ="); end >= 0 { // "AUTH=" is an old way to write "AUTH "
				keyword = line[:end]
			}
			if !yield(strings.ToUpper(keyword), line) {
				return
			}
		}
	}
}

// Hidden reports whether an extension of a mail server is none for a client that is
// logged in through the gateway: it is done already, is for proxies, or leads past what
// is checked.
func Hidden(keyword string) bool {
	switch keyword {
	case "AUTH", "STARTTLS", "XCLIENT", "XFORWARD", "BURL", "BINARYMIME":
		return true
	}
	return false
}

// FilterHello makes a reply to EHLO or HELO fit for a client: it begins with name, has no
// hidden extension, and has more behind the others.
func FilterHello(reply []byte, name string, more ...string) []byte {
	first := ""
	for first = range lines(reply) {
		break
	}
	if _, words, said := strings.Cut(first, " "); said {
		name += " " + words
	}
	shown := []string{name}
	for keyword, line := range Extensions(reply) {
		if !Hidden(keyword) {
			shown = append(shown, line)
		}
	}
	return []byte(Hello(append(shown, more...)...))
}

// Hello writes a reply with code 250.
func Hello(lines ...string) string {
	var b strings.Builder
	for i, line := range lines {
		between := "250-"
		if i == len(lines)-1 {
			between = "250 "
		}
		b.WriteString(between + line + "\r\n")
	}
	return b.String()
}
