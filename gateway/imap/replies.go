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
	// like is the outcome whose text is used: outcomes that a client must not
	// distinguish share it.
	like auth.Outcome
}

// replies is everything that a refused client learns. Sections are of RFC 5530, unless
// stated otherwise.
var replies = map[auth.Outcome]reply{
	// Before the mail server has accepted the password, a client must not learn whether
	// the account exists, or whether the password was right earlier: one code and one
	// text for all of these.
	auth.WrongPassword:    {imap.ResponseCodeAuthenticationFailed, auth.WrongPassword}, // s.3
	auth.PreviousPassword: {imap.ResponseCodeAuthenticationFailed, auth.WrongPassword},
	auth.RepeatedPassword: {imap.ResponseCodeAuthenticationFailed, auth.WrongPassword},
	auth.NoSuchDomain:     {imap.ResponseCodeAuthenticationFailed, auth.WrongPassword},
	auth.Malformed:        {imap.ResponseCodeAuthenticationFailed, auth.WrongPassword},

	// The mail server's own code replaces this one.
	auth.Refused: {"", auth.Refused},

	// A person has to act: the helpdesk, the user, or the administrator of the client.
	auth.Locked:        {imap.ResponseCodeContactAdmin, auth.Locked},               // s.3
	auth.Revoked:       {imap.ResponseCodeContactAdmin, auth.Revoked},              // s.3
	auth.Expired:       {imap.ResponseCodeExpired, auth.Expired},                   // s.3
	auth.OtherIdentity: {imap.ResponseCodeAuthorizationFailed, auth.OtherIdentity}, // s.3
	auth.Cleartext:     {imap.ResponseCodePrivacyRequired, auth.Cleartext},         // s.3

	// A later attempt may succeed: clients must not ask their users for a new password.
	auth.Throttled:        {imap.ResponseCodeUnavailable, auth.Throttled}, // s.3
	auth.Busy:             {imap.ResponseCodeUnavailable, auth.Busy},
	auth.Unavailable:      {imap.ResponseCodeUnavailable, auth.Unavailable},
	auth.StoreUnavailable: {imap.ResponseCodeUnavailable, auth.StoreUnavailable},
}

// refusal returns the reply to a refused attempt, without the tag.
func (s *Server) refusal(v auth.Verdict) string {
	r, ok := replies[v.Outcome]
	if !ok {
		// The guard accepted, but there is no connection: an internal fault.
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

// alert returns the line before a refusal on which a person must act (RFC 9051 section
// 7.1): Thunderbird does not show a tagged NO to its user, but shows this. It reveals
// each outcome only where the refusal does.
func (s *Server) alert(v auth.Verdict) string {
	switch v.Outcome {
	case auth.Locked, auth.Revoked, auth.Expired:
		return "* NO [ALERT] " + s.Words(v.Outcome) + "\r\n"
	}
	return ""
}

// bye returns the line for a farewell (RFC 9051 section 7.1.5).
func bye(f frontend.Farewell) string {
	if f == frontend.Crowded { // RFC 5530 section 3: a later attempt may be accepted
		return "* BYE [UNAVAILABLE] " + string(f)
	}
	return "* BYE " + string(f)
}

// atom returns a response code if the text is exactly one atom.
func atom(code string) string {
	for _, r := range code {
		if r <= ' ' || r > '~' || strings.ContainsRune(`(){%*"\[]`, r) {
			return ""
		}
	}
	return code
}
