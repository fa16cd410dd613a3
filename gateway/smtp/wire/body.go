package wire

import "bytes"

// Body follows the octets of a message. After DATA they are as on the wire, with dots
// stuffed (RFC 5321 section 4.5.2), and only CRLF.CRLF ends them (section 4.1.1.4,
// CVE-2023-51764). After BDAT they are the message itself; their number ends them.
//
// The zero Body stands at the beginning of a message after DATA.
type Body struct {
	// Chunked is a message after BDAT.
	Chunked bool
	// Bare is set at a CR without LF, or an LF without CR (section 2.3.8): somewhere
	// behind us it could be taken for the end of a line.
	Bare bool

	at place
}

// place is where in a line the last octet stood.
type place uint8

const (
	lineStart place = iota
	softStart       // of a line behind a bare CR or LF that was normalised
	dot             // the line is "."
	dotCR           // the line is ".", and a CR came
	inLine
	atCR // within a line, a CR came
)

// Scan follows b up to the end of the message, and says how many octets belong to it,
// its end included.
func (m *Body) Scan(b []byte) (n int, end bool) {
	for n < len(b) {
		c := b[n]
		switch {
		case m.at == dotCR && c == '\n':
			m.at = lineStart
			return n + 1, true
		case m.at == dotCR || m.at == atCR:
			if c == '\n' {
				m.at = lineStart
			} else {
				m.Bare = true
				m.step(c)
			}
		case m.at == dot && c == '\r':
			m.at = dotCR
		case m.at == lineStart && c == '.' && !m.Chunked:
			m.at = dot
		case m.at == inLine && c != '\r' && c != '\n':
			// Nearly all octets are of this kind.
			rest := b[n:]
			if cr := bytes.IndexByte(rest, '\r'); cr >= 0 {
				rest = rest[:cr]
			}
			if lf := bytes.IndexByte(rest, '\n'); lf >= 0 {
				rest = rest[:lf]
			}
			n += len(rest)
			continue
		default:
			m.step(c)
		}
		n++
	}
	return n, false
}

// step takes an octet to which the place gives no meaning.
func (m *Body) step(c byte) {
	switch c {
	case '\r':
		m.at = atCR
	case '\n':
		m.Bare, m.at = true, inLine
	default:
		m.at = inLine
	}
}

// Finish is the end of a message after BDAT: a CR may stand there alone.
func (m *Body) Finish() { m.Bare = m.Bare || m.at == atCR }

// Normalise is Scan with each bare CR or LF made CRLF. It appends the octets of the
// message to dst. A line that begins behind one of these is not the client's "line": a
// dot there is text, and is stuffed.
func (m *Body) Normalise(dst, b []byte) (out []byte, n int, end bool) {
	for n < len(b) {
		c := b[n]
		switch m.at {
		case dotCR:
			if c == '\n' {
				m.at = lineStart
				return append(dst, ".\r\n"...), n + 1, true
			}
			// A dot that was stuffed, and a bare CR behind it.
			dst, m.at = append(dst, "\r\n"...), softStart
			continue
		case atCR:
			dst, m.at = append(dst, "\r\n"...), softStart
			if c != '\n' {
				continue
			}
			m.at = lineStart
		case dot:
			switch c {
			case '\r':
				m.at = dotCR
			case '\n':
				dst, m.at = append(dst, "\r\n"...), softStart
			default:
				dst, m.at = append(dst, '.', c), inLine
			}
		default:
			switch {
			case c == '\r':
				m.at = atCR
			case c == '\n':
				dst, m.at = append(dst, "\r\n"...), softStart
			case c == '.' && m.at == lineStart && !m.Chunked:
				m.at = dot
			case c == '.' && m.at == softStart && !m.Chunked:
				dst, m.at = append(dst, ".."...), inLine
			default:
				dst, m.at = append(dst, c), inLine
			}
		}
		n++
	}
	return dst, n, false
}

// FinishNormalised is Finish with what is still to be appended.
func (m *Body) FinishNormalised(dst []byte) []byte {
	if m.at == atCR {
		m.at = softStart
		return append(dst, "\r\n"...)
	}
	return dst
}

// Unstuff takes out the dots that were put before others at the beginning of a line.
func Unstuff(b []byte) []byte {
	if !bytes.HasPrefix(b, []byte(".")) && !bytes.Contains(b, []byte("\n.")) {
		return b
	}
	return bytes.TrimPrefix(bytes.ReplaceAll(b, []byte("\n."), []byte("\n")), []byte("."))
}
