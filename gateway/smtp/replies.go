package smtp

import (
	"fmt"
	"strings"

	gosmtp "github.com/emersion/go-smtp"

	"congthu/auth"
	"congthu/gateway/frontend"
)

// code is a reply code with its enhanced code (RFC 5321 section 4.2, RFC 3463).
type code struct {
	basic    int
	enhanced gosmtp.EnhancedCode
}

func (c code) says(text string) *gosmtp.SMTPError {
	return &gosmtp.SMTPError{Code: c.basic, EnhancedCode: c.enhanced, Message: frontend.OneLine(text)}
}

// line is a reply as it stands on the wire.
func line(reply *gosmtp.SMTPError) string {
	e := reply.EnhancedCode
	return fmt.Sprintf("%d %d.%d.%d %s\r\n", reply.Code, e[0], e[1], e[2], reply.Message)
}

// The replies to AUTH but 235, which is the mail server's own. "RFC 4954" is its
// section 6, "RFC 5248" section 2.4.
var (
	badCredentials  = code{535, gosmtp.EnhancedCode{5, 7, 8}}  // RFC 4954
	disabled        = code{525, gosmtp.EnhancedCode{5, 7, 13}} // RFC 5248
	needsEncryption = code{538, gosmtp.EnhancedCode{5, 7, 11}} // RFC 4954
	temporary       = code{454, gosmtp.EnhancedCode{4, 7, 0}}  // RFC 4954
	tooLong         = code{500, gosmtp.EnhancedCode{5, 5, 6}}  // RFC 4954 section 4
	badResponse     = code{501, gosmtp.EnhancedCode{5, 5, 2}}  // RFC 4954 section 4
	badMechanism    = code{504, gosmtp.EnhancedCode{5, 5, 4}}  // RFC 4954 section 4
)

// refusals are the replies to an attempt. SMTP has no better code for a password
// that is too old than 535: 5.7.12 asks for another mechanism.
var refusals = map[auth.Outcome]code{
	auth.WrongPassword:    badCredentials,
	auth.PreviousPassword: badCredentials,
	auth.RepeatedPassword: badCredentials,
	auth.NoSuchDomain:     badCredentials,
	auth.Malformed:        badCredentials,
	auth.Refused:          badCredentials,
	auth.Locked:           disabled,
	auth.Revoked:          disabled,
	auth.Expired:          badCredentials,
	auth.OtherIdentity:    badCredentials,
	auth.Cleartext:        needsEncryption,
	auth.Throttled:        temporary,
	auth.Busy:             temporary,
	auth.Unavailable:      temporary,
	auth.StoreUnavailable: temporary,
}

// refusal is the reply to an attempt that was not accepted.
func (s *Server) refusal(v auth.Verdict) string {
	o := v.Outcome
	c, ok := refusals[o]
	if !ok {
		// Accepted by the guard, but there is no connection: nobody's fault.
		o, c = auth.Unavailable, temporary
	}
	switch o { // what must look alike has the same text
	case auth.PreviousPassword, auth.RepeatedPassword, auth.NoSuchDomain, auth.Malformed:
		o = auth.WrongPassword
	}
	return line(c.says(s.Words(o)))
}

// bye is the line for a farewell (RFC 5321 section 3.8).
func bye(f frontend.Farewell) string {
	c := code{421, gosmtp.EnhancedCode{4, 7, 0}}
	switch f {
	case frontend.MuchData:
		c = badData
	case frontend.TooSlow:
		c = timedOut
	case frontend.ShuttingDown:
		c = ended
	}
	return strings.TrimSuffix(line(c.says(string(f))), "\r\n")
}

// The replies to everything else.
var (
	loginFirst    = code{530, gosmtp.EnhancedCode{5, 7, 0}} // RFC 4954 section 6
	wrongOrder    = code{503, gosmtp.EnhancedCode{5, 5, 1}} // RFC 5321 section 4.1.4
	unknown       = code{502, gosmtp.EnhancedCode{5, 5, 1}} // RFC 5321 section 4.2.4
	notHere       = code{502, gosmtp.EnhancedCode{5, 5, 2}} // RFC 5321 section 4.2.4
	badArgument   = code{501, gosmtp.EnhancedCode{5, 5, 4}} // RFC 5321 section 4.2.4
	badSender     = code{501, gosmtp.EnhancedCode{5, 1, 7}} // RFC 3463 section 3.2
	senderRefused = code{553, gosmtp.EnhancedCode{5, 7, 1}} // RFC 6409 section 6.1
	headerRefused = code{550, gosmtp.EnhancedCode{5, 7, 1}} // RFC 6409 section 6.1
	manyRcpts     = code{452, gosmtp.EnhancedCode{4, 5, 3}} // RFC 5321 section 4.5.3.1.10
	badData       = code{500, gosmtp.EnhancedCode{5, 5, 2}} // RFC 5321 section 2.3.8
	notNow        = code{451, gosmtp.EnhancedCode{4, 4, 2}} // RFC 3463 section 3.5
	serverGone    = code{421, gosmtp.EnhancedCode{4, 4, 2}} // RFC 5321 section 3.8
	timedOut      = code{421, gosmtp.EnhancedCode{4, 4, 2}} // RFC 5321 section 3.8
	away          = code{421, gosmtp.EnhancedCode{4, 3, 2}} // RFC 5321 section 3.1
	ended         = code{421, gosmtp.EnhancedCode{4, 3, 2}} // RFC 5321 section 3.8
	strangeReply  = code{451, gosmtp.EnhancedCode{4, 3, 0}} // RFC 3463 section 3.4
)
