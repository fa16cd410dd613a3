package imap

import (
	"strings"

	"github.com/emersion/go-imap/v2"

	"congthu/auth"
	"congthu/gateway/frontend"
)

// reply is the tagged NO for an outcome.
type reply struct {
	// code is the response code.
	code imap.ResponseCode
	// like is the outcome whose words are used: outcomes that must not be told
	// apart share them.
	like auth.Outcome
}

// replies is the whole of what a refused client learns. Sections are of
// RFC 5530, unless they say otherwise.
var replies = map[auth.Outcome]reply{
	// Before the mail server has taken the password, nobody learns whether the
	// account exists, or whether the password was right once: one code, the same
	// words for all of these.
	auth.WrongPassword:    {imap.ResponseCodeAuthenticationFailed, auth.WrongPassword}, // s.3
	auth.PreviousPassword: {imap.ResponseCodeAuthenticationFailed, auth.WrongPassword},
	auth.RepeatedPassword: {imap.ResponseCodeAuthenticationFailed, auth.WrongPassword},
	auth.NoSuchDomain:     {imap.ResponseCodeAuthenticationFailed, auth.WrongPassword},
	auth.Malformed:        {imap.ResponseCodeAuthenticationFailed, auth.WrongPassword},

	// The mail server's own code takes the place of this one.
	auth.Refused: {"", auth.Refused},

	// Somebody has to act: the helpdesk, the user, or whoever set up the client.
	auth.Locked:        {imap.ResponseCodeContactAdmin, auth.Locked},               // s.3
	auth.Revoked:       {imap.ResponseCodeContactAdmin, auth.Revoked},              // s.3
	auth.Expired:       {imap.ResponseCodeExpired, auth.Expired},                   // s.3
	auth.OtherIdentity: {imap.ResponseCodeAuthorizationFailed, auth.OtherIdentity}, // s.3
	auth.Cleartext:     {imap.ResponseCodePrivacyRequired, auth.Cleartext},         // s.3

	// Later it may work: clients must not ask their users for a new password.
	auth.Throttled:        {imap.ResponseCodeUnavailable, auth.Throttled}, // s.3
	auth.Busy:             {imap.ResponseCodeUnavailable, auth.Busy},
	auth.Unavailable:      {imap.ResponseCodeUnavailable, auth.Unavailable},
	auth.StoreUnavailable: {imap.ResponseCodeUnavailable, auth.StoreUnavailable},
}

// refusal is the reply to an attempt that was not accepted, without the tag.
func (s *Server) refusal(v auth.Verdict) string {
	r, ok := replies[v.Outcome]
	if !ok {
		// Accepted by the guard, but there is no connection: nobody's fault.
		r = replies[auth.Unavailable]
	}
	code := r.code
	if v.Outcome == auth.Refused {
		code = imap.ResponseCode(atom(v.Code))
	}
	if code == "" {
		return "NO " + s.Words(r.like)
	}
	return "NO [" + string(code) + "] " + s.Words(r.like)
}

// alert is the line before a refusal that somebody must act on (RFC 9051 section 7.1):
// Thunderbird shows its user nothing of a tagged NO, but this. Each of these outcomes
// is told only to those who may know it, as the refusal is.
func (s *Server) alert(v auth.Verdict) string {
	switch v.Outcome {
	case auth.Locked, auth.Revoked, auth.Expired:
		return "* NO [ALERT] " + s.Words(v.Outcome) + "\r\n"
	}
	return ""
}

// bye is the line for a farewell (RFC 9051 section 7.1.5).
func bye(f frontend.Farewell) string {
	if f == frontend.Crowded { // RFC 5530 section 3: another time it may be let in
		return "* BYE [UNAVAILABLE] " + string(f)
	}
	return "* BYE " + string(f)
}

// atom returns a response code if it is nothing but that.
func atom(code string) string {
	for _, r := range code {
		if r <= ' ' || r > '~' || strings.ContainsRune(`(){%*"\[]`, r) {
			return ""
		}
	}
	return code
}
