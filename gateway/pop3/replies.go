package pop3

import (
	"slices"

	"congthu/auth"
	"congthu/gateway/frontend"
)

// Response codes (RFC 2449 section 8; the registry is of RFC 3206).
const (
	codeAuth  = "AUTH"     // RFC 3206 section 4: the credentials
	codeTemp  = "SYS/TEMP" // RFC 3206 section 3: later it may work
	codePerm  = "SYS/PERM" // RFC 3206 section 3: a person has to act
	codeInUse = "IN-USE"   // RFC 2449 section 8.1.2
	codeDelay = "LOGIN-DELAY"
)

// reply is the -ERR for an outcome.
type reply struct {
	code string
	// like is the outcome whose words are used: outcomes that must not be told
	// apart share them.
	like auth.Outcome
}

// replies is the whole of what a refused client learns.
var replies = map[auth.Outcome]reply{
	// Before the mail server has taken the password, nobody learns whether the
	// account exists, or whether the password was right once.
	auth.WrongPassword:    {codeAuth, auth.WrongPassword},
	auth.PreviousPassword: {codeAuth, auth.WrongPassword},
	auth.RepeatedPassword: {codeAuth, auth.WrongPassword},
	auth.NoSuchDomain:     {codeAuth, auth.WrongPassword},
	auth.Malformed:        {codeAuth, auth.WrongPassword},

	// The mail server's own code takes the place of this one.
	auth.Refused: {"", auth.Refused},

	// The helpdesk has to act, the user, or whoever set up the program: asking for
	// the password again would be of no use.
	auth.Locked:        {codePerm, auth.Locked},
	auth.Revoked:       {codePerm, auth.Revoked},
	auth.Expired:       {codePerm, auth.Expired},
	auth.OtherIdentity: {codePerm, auth.OtherIdentity},
	auth.Cleartext:     {codePerm, auth.Cleartext},

	// Later it may work: clients must not ask their users for a new password.
	auth.Throttled:        {codeTemp, auth.Throttled},
	auth.Busy:             {codeTemp, auth.Busy},
	auth.Unavailable:      {codeTemp, auth.Unavailable},
	auth.StoreUnavailable: {codeTemp, auth.StoreUnavailable},
}

// passedOn are codes of the mail server that mean to a client what they mean there.
var passedOn = []string{codeTemp, codePerm, codeInUse, codeDelay}

// refusal is the line for an attempt that was not accepted.
func (s *Server) refusal(v auth.Verdict) string {
	r, ok := replies[v.Outcome]
	if !ok {
		// Accepted by the guard, but there is no connection.
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

// bye is the line for a farewell.
func bye(f frontend.Farewell) string {
	switch f {
	case frontend.Crowded, frontend.ShuttingDown: // another time it may be let in
		return "-ERR [" + codeTemp + "] " + string(f)
	}
	return "-ERR " + string(f)
}
