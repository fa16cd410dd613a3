package smtp

import (
	"fmt"
	"strings"

	gosmtp "github.com/emersion/go-smtp"

	"congthu/auth"
)

// code is a reply code with its enhanced code (RFC 5321 section 4.2, RFC 3463).
type code struct {
	basic    int
	enhanced gosmtp.EnhancedCode
}

func (c code) says(text string) *gosmtp.SMTPError {
	return &gosmtp.SMTPError{Code: c.basic, EnhancedCode: c.enhanced, Message: printable(text)}
}

// The replies to AUTH but 235, which is go-smtp's own. "RFC 4954" is its
// section 6, "RFC 5248" section 2.4.
var (
	badCredentials  = code{535, gosmtp.EnhancedCode{5, 7, 8}}  // RFC 4954
	disabled        = code{525, gosmtp.EnhancedCode{5, 7, 13}} // RFC 5248
	needsEncryption = code{538, gosmtp.EnhancedCode{5, 7, 11}} // RFC 4954
	temporary       = code{454, gosmtp.EnhancedCode{4, 7, 0}}  // RFC 4954
	tooLong         = code{500, gosmtp.EnhancedCode{5, 5, 6}}  // RFC 4954 section 4
	badResponse     = code{501, gosmtp.EnhancedCode{5, 5, 2}}  // RFC 4954 section 4
	badMechanism    = code{504, gosmtp.EnhancedCode{5, 5, 4}}  // RFC 4954 section 4
	tooManyFailures = code{421, gosmtp.EnhancedCode{4, 7, 0}}  // RFC 5321 section 3.8
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

// plainTexts are said where the configuration says nothing.
var plainTexts = map[code]string{
	badCredentials:  "Authentication failed",
	disabled:        "This account is not available; ask your administrator",
	needsEncryption: "Use TLS first",
	temporary:       "Temporarily unavailable; try again later",
}

// awayGreeting is the greeting while the mail server does not answer: mail programs show its
// text and ask for no password, as they do after a 454 to AUTH.
func (s *Server) awayGreeting() string {
	reply := away.says(s.refusal(auth.Unavailable).Message)
	return fmt.Sprintf("%d %d.%d.%d %s", reply.Code, reply.EnhancedCode[0], reply.EnhancedCode[1], reply.EnhancedCode[2], reply.Message)
}

// refusal is the reply to an attempt that was not accepted.
func (s *Server) refusal(o auth.Outcome) *gosmtp.SMTPError {
	c, ok := refusals[o]
	if !ok {
		c = temporary
	}
	text := ""
	if s.Text != nil {
		// What must look alike has the same text, whatever the configuration does.
		switch o {
		case auth.PreviousPassword, auth.RepeatedPassword, auth.NoSuchDomain, auth.Malformed:
			o = auth.WrongPassword
		}
		text = s.Text(o)
	}
	if text == "" {
		text = plainTexts[c]
	}
	return c.says(text)
}

// The replies to everything else.
var (
	loginFirst    = code{530, gosmtp.EnhancedCode{5, 7, 0}} // RFC 4954 section 6
	tlsFirst      = code{530, gosmtp.EnhancedCode{5, 7, 0}} // RFC 3207 section 4
	wrongOrder    = code{503, gosmtp.EnhancedCode{5, 5, 1}} // RFC 5321 section 4.1.4
	senderRefused = code{553, gosmtp.EnhancedCode{5, 7, 1}} // RFC 6409 section 6.1
	headerRefused = code{550, gosmtp.EnhancedCode{5, 7, 1}} // RFC 6409 section 6.1
	needsUTF8     = code{553, gosmtp.EnhancedCode{5, 6, 7}} // RFC 6531 section 3.5
	badData       = code{500, gosmtp.EnhancedCode{5, 5, 2}} // RFC 5321 section 2.3.8
	notNow        = code{451, gosmtp.EnhancedCode{4, 4, 2}} // RFC 3463 section 3.5
	serverGone    = code{421, gosmtp.EnhancedCode{4, 4, 2}} // RFC 5321 section 3.8
	away          = code{421, gosmtp.EnhancedCode{4, 3, 2}} // RFC 5321 section 3.1
	ended         = code{421, gosmtp.EnhancedCode{4, 3, 2}} // RFC 5321 section 3.8
	strangeReply  = code{451, gosmtp.EnhancedCode{4, 3, 0}} // RFC 3463 section 3.4
)

// maxReplyText keeps a line, with its codes, under the 512 octets of RFC 5321
// section 4.5.3.1.5.
const maxReplyText = 480

// printable makes a text fit for a reply: lines of visible ASCII, or UTF-8 as the
// mail server may write it to a client that asked for it.
func printable(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		line = strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f || r == '\uFFFD' {
				return '?'
			}
			return r
		}, strings.TrimRight(line, "\r"))
		if len(line) > maxReplyText {
			line = strings.ToValidUTF8(line[:maxReplyText], "")
		}
		lines[i] = line
	}
	return strings.Join(lines, "\n")
}
