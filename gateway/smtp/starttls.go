package smtp

import (
	"bufio"
	"errors"
	"fmt"
	"strings"
	"time"

	"congthu/auth"
)

// maxClearLine bounds a command before TLS (RFC 5321 section 4.5.3.1.4 asks for
// 512 octets).
const maxClearLine = 2048

// maxMistakes is how many commands may be wrong before TLS.
const maxMistakes = 3

var errEnded = errors.New("the client left before TLS")

// clear is the dialogue before TLS on the STARTTLS port: there is nothing to be
// had but STARTTLS. It returns nil when the handshake may begin.
func (s *session) clear() error {
	c := s.conn
	r := bufio.NewReaderSize(c, maxClearLine)
	say := func(format string, args ...any) error {
		_, err := fmt.Fprintf(c, format+"\r\n", args...)
		return err
	}
	if err := say("220 %s ESMTP Service Ready", s.server.hostname()); err != nil {
		return err
	}
	for mistakes := 0; mistakes <= maxMistakes; {
		c.SetReadDeadline(time.Time{}) // a command begins
		line, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			say("500 5.5.2 Line too long")
			return errEnded
		case isTimeout(err):
			say("421 4.4.2 Idle timeout, bye bye")
			return errEnded
		case err != nil:
			return errEnded
		}
		verb, argument, _ := strings.Cut(strings.TrimRight(string(line), "\r\n"), " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			err = say("250-%s\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250 STARTTLS", s.server.hostname())
		case "HELO":
			err = say("250 %s", s.server.hostname())
		case "NOOP", "RSET":
			err = say("250 2.0.0 Ok")
		case "QUIT":
			say("221 2.0.0 Bye")
			return errEnded
		case "STARTTLS":
			if strings.TrimSpace(argument) != "" {
				err = say("501 5.5.4 STARTTLS has no arguments") // RFC 3207 section 4
				mistakes++
				break
			}
			// Nobody honest sends anything before the reply, so the connection ends.
			if r.Buffered() > 0 || len(c.held) > 0 {
				say("421 4.7.0 Commands after STARTTLS, bye bye")
				return errEarly
			}
			return say("220 2.0.0 Ready to start TLS")
		case "AUTH":
			// What came with it is neither looked at nor counted.
			if s.server.Refused != nil {
				mechanism := auth.Plain
				if name, _, _ := strings.Cut(argument, " "); strings.EqualFold(name, "LOGIN") {
					mechanism = auth.Login
				}
				s.server.Refused(auth.Attempt{Session: s.id, Protocol: auth.SMTP, Mechanism: mechanism, Source: s.source}, auth.Cleartext)
			}
			reply := s.server.refusal(auth.Cleartext)
			err = say("%d %d.%d.%d %s", reply.Code, reply.EnhancedCode[0], reply.EnhancedCode[1], reply.EnhancedCode[2], reply.Message)
			mistakes++
		case "MAIL", "RCPT", "DATA", "BDAT", "VRFY", "EXPN", "HELP":
			err = say("%d 5.7.0 Must issue a STARTTLS command first", tlsFirst.basic) // RFC 3207 section 4
			mistakes++
		default:
			err = say("502 5.5.1 Command not implemented") // RFC 5321 section 4.2.4
			mistakes++
		}
		if err != nil {
			return err
		}
	}
	say("421 4.7.0 Too many errors, bye bye")
	return errEnded
}
