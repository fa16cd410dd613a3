package smtp

import (
	"bytes"
	"errors"
	"io"
)

var errBareNewline = errors.New("a CR without LF, or an LF without CR")

// lineReader passes on a message whose lines end in CRLF. A CR or LF that stands
// alone is an error (RFC 5321 section 2.3.8): somewhere behind us it could be
// taken for the end of a line, and what follows for the end of the message
// (CVE-2023-51764). With normalise it becomes CRLF instead.
type lineReader struct {
	r         io.Reader
	normalise bool

	cr      bool // the last octet read was a CR
	octets  int64
	waiting []byte // normalised, not handed out yet
	err     error
}

func (l *lineReader) Read(b []byte) (n int, err error) {
	if l.normalise {
		return l.readNormalised(b)
	}
	n, err = l.r.Read(b)
	if !l.ends(b[:n]) {
		return 0, errBareNewline
	}
	if err == io.EOF && l.cr {
		return n, errBareNewline
	}
	l.octets += int64(n)
	return n, err
}

// ends reports whether each line in b ends in CRLF, if it ends.
func (l *lineReader) ends(b []byte) bool {
	for len(b) > 0 {
		if l.cr != (b[0] == '\n') {
			return false
		}
		if l.cr {
			l.cr, b = false, b[1:]
			continue
		}
		end := bytes.IndexByte(b, '\n')
		cr := bytes.IndexByte(b[:max(end, 0)], '\r')
		switch {
		case end < 0:
			cr = bytes.IndexByte(b, '\r')
			l.cr = cr >= 0
			return cr < 0 || cr == len(b)-1
		case cr != end-1:
			return false
		}
		b = b[end+1:]
	}
	return true
}

func (l *lineReader) readNormalised(b []byte) (int, error) {
	for len(l.waiting) == 0 && l.err == nil {
		var n int
		n, l.err = l.r.Read(b)
		l.waiting = l.waiting[:0]
		for _, c := range b[:n] {
			if l.cr && c != '\n' || c == '\n' {
				l.waiting = append(l.waiting, "\r\n"...)
			}
			if l.cr = c == '\r'; !l.cr && c != '\n' {
				l.waiting = append(l.waiting, c)
			}
		}
		if l.err == io.EOF && l.cr {
			l.waiting, l.cr = append(l.waiting, "\r\n"...), false
		}
	}
	n := copy(b, l.waiting)
	l.waiting = l.waiting[n:]
	l.octets += int64(n)
	if len(l.waiting) > 0 {
		return n, nil
	}
	return n, l.err
}
