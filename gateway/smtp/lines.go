package smtp

import (
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
	for _, c := range b[:n] {
		if l.cr != (c == '\n') {
			return 0, errBareNewline
		}
		l.cr = c == '\r'
	}
	if err == io.EOF && l.cr {
		return n, errBareNewline
	}
	l.octets += int64(n)
	return n, err
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
