package pop3

import (
	"slices"

	"congthu/auth"
	"congthu/gateway/frontend"
)

// Response codes (RFC 2449 section 8; RFC 3206 has the registry).
const (
	codeAuth  = "AUTH"     // RFC 3206 section 4: the credentials
	codeTemp  = "SYS/TEMP" // RFC 3206 section 3: a later attempt may succeed
	codePerm  = "SYS/PERM" // RFC 3206 section 3: a person has to act
	codeInUse = "IN-USE"   // RFC 2449 section 8.1.2
	codeDelay = "LOGIN-DELAY"
)

// reply is the -ERR for an outcome.
type reply struct {
	code string
	// like is the outcome whose text is used: outcomes that a client must not
	// distinguish share it.
	like auth.Outcome
}

// replies is everything that a refused client learns.
var replies = map[auth.Outcome]reply{
	// Before the mail server has accepted the password, a client must not learn whether
	// the account exists, or whether the password was right earlier.
	auth.WrongPassword:    {codeAuth, auth.WrongPassword},
	auth.PreviousPassword: {codeAuth, auth.WrongPassword},
	auth.RepeatedPassword: {codeAuth, auth.WrongPassword},
	auth.NoSuchDomain:     {codeAuth, auth.WrongPassword},
	auth.Malformed:        {codeAuth, auth.WrongPassword},

	// The mail server's own code replaces this one.
	auth.Refused: {"", auth.Refused},

	// The helpdesk, the user, or the administrator of the program has to act: asking
	// for the password again would not help.
	auth.Locked:        {codePerm, auth.Locked},
	auth.Revoked:       {codePerm, auth.Revoked},
	auth.Expired:       {codePerm, auth.Expired},
	auth.OtherIdentity: {codePerm, auth.OtherIdentity},
	auth.Cleartext:     {codePerm, auth.Cleartext},

	// A later attempt may succeed: clients must not ask their users for a new password.
	auth.Throttled:        {codeTemp, auth.Throttled},
	auth.Busy:             {codeTemp, auth.Busy},
	auth.Unavailable:      {codeTemp, auth.Unavailable},
	auth.StoreUnavailable: {codeTemp, auth.StoreUnavailable},
}

// passedOn are the mail server's codes that are passed on unchanged.
var passedOn = []string{codeTemp, codePerm, codeInUse, codeDelay}

// refusal returns the line for a refused attempt.
func (s *Server) refusal(v auth.Verdict) string {
	r, ok := replies[v.Outcome]
	if !ok {
		// The guard accepted, but there is no connection.
		r = replies[auth.Unavailable]
	}
	code := r.code
	if v.Outcome == auth.Refused && slices.Contains(passedOn, v.Code) {
		code = v.Code
	}
	if code == "" {
		return "-ERR " + s.Words(r.like) + "\r\n"
	}
	return "-ERR [" + code + "] " + s.Words(r.like) + "\r\n"
}

// bye returns the line for a farewell.
func bye(f frontend.Farewell) string {
	switch f {
	case frontend.Crowded, frontend.ShuttingDown: // a later attempt may be accepted
		return "-ERR [" + codeTemp + "] " + string(f)
	}
	return "-ERR " + string(f)
}
