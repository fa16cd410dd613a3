package smtp

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"congthu/auth"
	"congthu/gateway/upstream"
)

// failure is why a message was not submitted.
type failure struct {
	result Result
	reply  *gosmtp.SMTPError
	// err is for the operator.
	err error
	// address is the sender that is not the account's, if that is why.
	address string
}

// Data implements [gosmtp.Session] for DATA and BDAT.
func (s *session) Data(r io.Reader) error {
	began := time.Now()
	s.data.Lock()
	defer s.data.Unlock()
	_, chunked := r.(*io.PipeReader) // so it is with BDAT only
	s.conn.data(chunked)
	if err := s.ready(); err != nil {
		return err
	}
	if !chunked {
		r = s.conn.body(r, s.longest)
	}
	lines := &lineReader{r: r, normalise: s.server.NormaliseNewlines}
	reply, f := s.transfer(lines)
	if f != nil {
		s.submitted(f.result)
		log := s.log
		if f.address != "" {
			log = log.With("address", tried(f.address))
		}
		log.Info("message not submitted", "result", f.result, "code", f.reply.Code, "octets", lines.octets, "recipients", s.recipients,
			"took_ms", milliseconds(time.Since(began)), "err", withoutAddresses(printable(f.err.Error())))
		return f.reply
	}
	// The mail server has no transaction any more.
	s.open = false
	s.messages++
	s.submitted(Accepted)
	s.log.Info("message submitted", "queue_id", queuedAs(reply.Message), "recipients", s.recipients, "octets", lines.octets,
		"took_ms", milliseconds(time.Since(began)), "reply", withoutAddresses(reply.Message))
	return reply
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// transfer takes a message, and delivers it or not: all of it, or nothing.
func (s *session) transfer(lines *lineReader) (*gosmtp.SMTPError, *failure) {
	piece := pieces.Get().(*[pieceSize]byte)
	defer pieces.Put(piece)
	header, complete, f := s.readHeader(lines, piece[:])
	if f != nil {
		return nil, f
	}
	if complete {
		// There is no body; all has to be well before DATA.
		if f := s.atEnd(); f != nil {
			return nil, f
		}
	}
	up := s.up.Load()
	message, err := up.Data()
	if err != nil {
		return nil, s.refusedByServer("DATA", err)
	}
	if f := s.pour(message, header, lines, piece[:], complete); f != nil {
		s.abort()
		return nil, f
	}
	reply, err := message.Finish()
	if err != nil {
		return nil, s.refusedByServer("final dot", err)
	}
	reply.Message = printable(reply.Message)
	return reply, nil
}

// readHeader reads as far as the header must be known, into buffer if there is
// room, and checks it. complete means that there was nothing more.
func (s *session) readHeader(lines *lineReader, buffer []byte) (read []byte, complete bool, f *failure) {
	policy := s.server.sender()
	if policy.Mode == auth.Off {
		return nil, false, nil
	}
	read = buffer[:0]
	end := -1 // of the header, in read
	for end < 0 {
		if cap(read)-len(read) < maxLine/16 {
			read = slices.Grow(read, cap(read)) // twice as much
		}
		n, err := lines.Read(read[len(read):cap(read)])
		if err != nil && err != io.EOF {
			return nil, false, s.cutShort(err)
		}
		complete = err == io.EOF
		from := max(0, len(read)-len(endOfHeader)+1)
		read = read[:len(read)+n]
		switch at := bytes.Index(read[from:], endOfHeader); {
		case bytes.HasPrefix(read, endOfHeader[2:]):
			end = 0
		case at >= 0:
			end = from + at + 2
		case complete:
			end = len(read) // a message without a body (RFC 5322 section 2.1)
		case len(read) > maxHeader:
			return read, false, s.headerRefused(policy.Mode, errors.New("no end of the header within 256 KiB"))
		}
	}
	err := checkHeader(read[:end], func(address string) bool { return policy.Owns(s.account, address) })
	// The sender of the envelope, which was checked, is all that names the author then.
	// A submission server may add a Sender:, a Date: or a Message-ID: (RFC 6409
	// sections 8.1 to 8.3), but not an author: that is left to the mail server.
	if err == errNoFrom && !s.bounce && len(read) > 0 {
		err = nil
	}
	if err != nil {
		return read, complete, s.headerRefused(policy.Mode, err)
	}
	return read, complete, nil
}

var endOfHeader = []byte("\r\n\r\n")

// headerRefused is a failure, unless the rule only warns.
func (s *session) headerRefused(mode auth.Mode, why error) *failure {
	address := ""
	if other := new(notMine); errors.As(why, &other) {
		address = other.address
	}
	if other := new(otherTitle); errors.As(why, &other) {
		address = other.address
	}
	if mode == auth.Warn {
		s.would(why.Error(), address)
		return nil
	}
	return &failure{result: NotYours, reply: headerRefused.says("Message refused: " + why.Error()), err: why, address: address}
}

// pour passes on the message up to its end, which it does not send.
func (s *session) pour(message *upstream.SMTPMessage, header []byte, lines *lineReader, buffer []byte, complete bool) *failure {
	if _, err := message.Write(header); err != nil {
		return s.refusedByServer("message", err)
	}
	if complete {
		return nil
	}
	for {
		n, err := lines.Read(buffer)
		if n > 0 && (err == nil || err == io.EOF) {
			if _, err := message.Write(buffer[:n]); err != nil {
				return s.refusedByServer("message", err)
			}
		}
		switch {
		case err == io.EOF:
			return s.atEnd()
		case err != nil:
			return s.cutShort(err)
		}
	}
}

// atEnd looks whether what go-smtp calls the end of the message is one.
func (s *session) atEnd() *failure {
	switch {
	case s.conn.chunked.Load() && s.conn.over.Load():
		// go-smtp takes a chunk that was cut short for a whole one.
		return s.cutShort(io.ErrUnexpectedEOF)
	case s.conn.kicked.Load():
		return s.cutShort(errEndedByUs)
	case !s.conn.chunked.Load() && s.conn.swallowed():
		return s.cutShort(errBareNewline)
	}
	return nil
}

var errEndedByUs = errors.New("session ended")

// cutShort is a failure to read the message.
func (s *session) cutShort(err error) *failure {
	var reply *gosmtp.SMTPError
	switch {
	case errors.Is(err, errBareNewline), isTimeout(err) && s.conn.missedEnd():
		return &failure{result: Malformed, reply: badData.says("A bare CR or LF is not allowed"), err: err}
	case errors.Is(err, gosmtp.ErrTooLongLine):
		return &failure{result: Malformed, reply: badData.says("Line too long"), err: err}
	case errors.As(err, &reply) && reply.Code == gosmtp.ErrDataTooLarge.Code:
		return &failure{result: TooLarge, reply: gosmtp.ErrDataTooLarge, err: err} // RFC 1870 section 6.3
	case isTimeout(err), errors.Is(err, errEndedByUs), errors.As(err, &reply):
		s.conn.hangUp()
		return &failure{result: Abandoned, reply: timedOut(), err: err}
	}
	// RSET, or nobody there to read the reply.
	return &failure{result: Abandoned, reply: notNow.says("Message incomplete"), err: err}
}

// refusedByServer is a failure of the mail server. A connection that is lost is
// no reason for a permanent error, nor to close the client's at once.
func (s *session) refusedByServer(step string, err error) *failure {
	var reply *gosmtp.SMTPError
	if errors.As(err, &reply) {
		return &failure{result: Refused, reply: s.passOn(step, err), err: err}
	}
	s.gone.Store(true)
	s.abort()
	return &failure{result: ServerLost, reply: notNow.says("Connection to the mail server lost; try again later"), err: err}
}
