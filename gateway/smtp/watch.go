package smtp

import (
	"bytes"
	"strings"
)

// httpWatch recognises HTTP by the first words of a line.
type httpWatch struct {
	line [16]byte // the beginning of the current line
	n    int
}

// A request or one of its header fields. No command of SMTP and no base64 begins
// like this.
var httpWords = []string{
	"GET ", "POST ", "PUT ", "HEAD ", "DELETE ", "OPTIONS ", "PATCH ", "TRACE ", "CONNECT ", "PRI * ",
	"HOST:", "USER-AGENT:", "CONTENT-LENGTH:",
}

// see reports whether there was HTTP in what came so far.
func (w *httpWatch) see(b []byte) bool {
	for _, c := range b {
		if c == '\n' {
			w.n = 0
			continue
		}
		if w.n == len(w.line) {
			continue
		}
		w.line[w.n] = c
		w.n++
		if c != ' ' && c != ':' {
			continue
		}
		line := strings.ToUpper(string(w.line[:w.n]))
		for _, word := range httpWords {
			if line == word {
				return true
			}
		}
	}
	return false
}

// dotWatch follows the dots at the beginning of lines where go-smtp's reader of
// DATA loses its way, which happens around a bare CR only.
type dotWatch struct {
	// last are the last four octets.
	last uint32
	// swallowed is set when there was a CR that the reader hides from the session:
	// it takes "dot, CR" at the beginning of a line for the beginning of the end,
	// and when no LF follows it has forgotten both. It stays set: where in the
	// stream a message begins cannot be told from here. Whoever sends such a thing
	// has to connect again.
	swallowed bool
	// ends counts CRLF.CRLF (RFC 5321 section 4.1.1.4). The reader does not see the
	// one in "CR CR LF . CR LF", and waits for another.
	ends int
}

const (
	lfDotCR   = '\n'<<16 | '.'<<8 | '\r'
	crlfDotCR = '\r'<<24 | lfDotCR
)

func (w *dotWatch) see(b []byte) {
	for len(b) > 0 {
		// Only the three octets after a dot matter; last has the octets before.
		if w.last&0xffffff != lfDotCR && w.last&0xffff != '\n'<<8|'.' && w.last&0xff != '\n' {
			dot := bytes.IndexByte(b, '.')
			if dot < 0 {
				dot = len(b)
			}
			for _, c := range b[max(0, dot-4):dot] {
				w.last = w.last<<8 | uint32(c)
			}
			if b = b[dot:]; len(b) == 0 {
				return
			}
		}
		c := b[0]
		b = b[1:]
		if w.last&0xffffff == lfDotCR {
			if c != '\n' {
				w.swallowed = true
			} else if w.last == crlfDotCR {
				w.ends++
			}
		}
		w.last = w.last<<8 | uint32(c)
	}
}
