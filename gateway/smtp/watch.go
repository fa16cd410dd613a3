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

// dotWatch notices a CR that go-smtp's reader of DATA swallows without a trace: it
// takes "dot, CR" at the beginning of a line for the beginning of the end, and
// when no LF follows it has forgotten both. Every other bare CR or LF reaches
// the session.
type dotWatch struct {
	tail [3]byte
	// seen stays set: where in the stream a message begins cannot be told from
	// here. Whoever sends such a thing has to connect again.
	seen bool
}

var lfDotCR = []byte("\n.\r")

// see looks for LF, dot, CR and then something else than LF.
func (w *dotWatch) see(b []byte) {
	if w.seen {
		return
	}
	// Where two pieces meet, octet by octet; inside, as fast as can be.
	for _, c := range b[:min(len(b), len(w.tail))] {
		if c != '\n' && string(w.tail[:]) == string(lfDotCR) {
			w.seen = true
		}
		w.push(c)
	}
	for rest := b; ; {
		i := bytes.Index(rest, lfDotCR)
		if i < 0 || i+len(lfDotCR) >= len(rest) {
			break
		}
		if rest[i+len(lfDotCR)] != '\n' {
			w.seen = true
		}
		rest = rest[i+1:]
	}
	if len(b) > len(w.tail) {
		copy(w.tail[:], b[len(b)-len(w.tail):])
	}
}

func (w *dotWatch) push(c byte) {
	copy(w.tail[:], w.tail[1:])
	w.tail[len(w.tail)-1] = c
}
