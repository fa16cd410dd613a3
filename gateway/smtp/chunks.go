package smtp

import (
	"strconv"
	"time"

	"congthu/gateway/smtp/wire"
)

// bdat is BDAT (RFC 3030). Its octets are no commands, whatever becomes of it. A chunk is
// passed on in pieces that are chunks themselves, so that no chunk is ever open at the
// server.
func (s *session) bdat(args string) {
	size, last, err := wire.ParseBDAT(args)
	if err != nil {
		s.say(line(badArgument.says(err.Error())))
		s.bid(ended, "Where the octets of BDAT end is not known", err)
		s.state = chunk
		return
	}
	if s.message == nil {
		s.message = &message{began: time.Now(), scan: wire.Body{Chunked: true}}
	}
	m := s.message
	m.left, m.last = size, last
	switch {
	case m.opened || len(m.held) > 0 || m.failure != nil:
	case !s.chunking:
		m.dropped, m.answered = true, line(unknown.says("CHUNKING is not available"))
	case !s.ready():
		m.dropped, m.answered = true, line(wrongOrder.says("BDAT wants MAIL and RCPT first"))
	}
	s.state = chunk
}

// chunkOctets takes octets of a chunk.
func (s *session) chunkOctets() bool {
	m := s.message
	in := s.client.in()
	in = in[:min(int64(len(in)), m.left)]
	if len(in) == 0 && m.left > 0 {
		return false
	}
	piece, n := s.scan(in)
	s.client.use(n)
	m.left -= int64(n)
	m.octets += int64(n)
	done := m.left == 0
	if done && m.last {
		if s.server.NormaliseNewlines {
			piece = m.scan.FinishNormalised(piece)
		} else {
			m.scan.Finish()
		}
	}
	switch {
	case m.dropped:
		if m.lost += int64(n); m.lost > s.drainSize() {
			s.client.out = append(s.client.out, m.answered...)
			s.bid(ended, "Too much data", errTooMuch)
			return false
		}
	case m.scan.Bare:
		s.refuseChunk(malformed())
	case !m.checked:
		m.hold(piece)
		whole, f := s.checked(done && m.last)
		switch {
		case f != nil:
			s.refuseChunk(f)
		case whole:
			s.sendChunk(m.held, done)
			m.let()
		case done:
			m.answered = "250 2.0.0 Continue\r\n"
		}
	default:
		s.sendChunk(piece, done)
	}
	if !done {
		return true
	}
	s.state = commands
	if m.answered != "" {
		s.say(m.answered)
		m.answered = ""
	}
	if m.dropped {
		if m.failure != nil {
			s.fail(m.failure)
			s.transaction = transaction{}
		}
		s.message = nil
	}
	return true
}

// sendChunk passes on a piece of a chunk.
func (s *session) sendChunk(piece []byte, done bool) {
	m := s.message
	m.opened = true
	if len(piece) == 0 && !done {
		return
	}
	command := "BDAT " + strconv.Itoa(len(piece))
	e := expected{kind: toPiece, verb: "BDAT"}
	if done {
		if e.kind = toChunk; m.last {
			command += " LAST"
		}
	}
	s.tell(command, e)
	s.write(&s.mail, piece, blockTimeout)
}

// refuseChunk takes a message in chunks no further: what the server has of it is given up,
// and the rest of the chunk is swallowed.
func (s *session) refuseChunk(f *failure) {
	m := s.message
	m.failure, m.dropped, m.answered = f, true, f.reply
	s.tell("RSET", expected{kind: toNothing, verb: "RSET"})
}

// pieceReply is the server's reply to a piece of a chunk. After a refusal it is told no
// further piece: each would be one more error of the client's.
func (s *session) pieceReply(code int, raw string) {
	m := s.message
	switch {
	case m == nil || code < 400 || m.refused != "" || m.failure != nil:
	case s.state == chunk:
		s.refuseChunk(&failure{result: refusal(code), code: code, reply: raw, err: said(raw)})
	default:
		m.refused, m.refusedCode = raw, code
	}
}

// chunkReply is the server's reply to the last piece of a chunk: the client's, unless a
// piece was refused before.
func (s *session) chunkReply(code int, raw string) string {
	m := s.message
	if m == nil {
		return raw
	}
	if m.refused != "" {
		code, raw = m.refusedCode, m.refused
	}
	if code >= 400 || m.last {
		s.settle(code, raw)
		s.transaction = transaction{}
	}
	return raw
}
