package auth

import "fmt"

// Outcome is the result of an attempt to log in. The same enum is the metric label, the
// log value and the key of the reply table of each protocol, so replies, graphs and logs
// always agree.
type Outcome uint8

const (
	// Accepted: the mail server accepted the password and no rule objects.
	Accepted Outcome = iota
	// WrongPassword: the mail server said the credentials are wrong. The only
	// outcome that can lock (Art. 6.2.d).
	WrongPassword
	// PreviousPassword: wrong, but it was the correct password before the
	// current one (a device that still has the old one). Not counted.
	PreviousPassword
	// RepeatedPassword: the same wrong password again on the same connection, or
	// on another one where it is not a new entry ([RepeatWindow]). Not counted.
	RepeatedPassword
	// NoSuchDomain: the name belongs to no domain served here. Answered like a wrong
	// password; the mail server is not asked.
	NoSuchDomain
	// Malformed: name or password is impossible, such as an empty password, one
	// longer than MaxPassword, or a name that is not UTF-8. Answered like a wrong
	// password; the mail server is not asked, and nothing is counted.
	Malformed
	// Refused: the mail server refused for another reason than the credentials.
	Refused
	// Locked: too many wrong passwords, or locked by an admin. The mail server
	// is not asked.
	Locked
	// Revoked: unused for more than 12 months (Art. 5.3.c). Returned only after a
	// correct password.
	Revoked
	// Expired: the password is correct but older than 3 months (Art. 9).
	Expired
	// OtherIdentity: the client asked to act as another user: an
	// authorization identity that differs, or master-user syntax (Art. 13.8).
	OtherIdentity
	// Cleartext: credentials offered without TLS. They are not used.
	Cleartext
	// Throttled: too many failures from this source. The mail server is not asked.
	Throttled
	// Busy: all slots of the account stayed taken for longer than the patience
	// of the guard.
	Busy
	// Unavailable: the mail server gave no verdict. Nothing is counted at once; if the
	// password was sent, the attempt counts as a failure in doubt when its lease ends.
	Unavailable
	// StoreUnavailable: the account could not be read or written.
	StoreUnavailable

	numOutcomes
)

var outcomeNames = [numOutcomes]string{
	"accepted", "wrong_password", "previous_password", "repeated_password", "no_such_domain", "malformed",
	"refused", "locked", "revoked", "expired", "other_identity", "cleartext", "throttled", "busy",
	"unavailable", "store_unavailable",
}

// String returns the name used in metrics, logs and JSON.
func (o Outcome) String() string { return enumName(o, outcomeNames[:]) }

// MarshalText implements encoding.TextMarshaler.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// Temporary reports whether the same credentials may be accepted later without any
// action: the client should try again and not ask its user.
func (o Outcome) Temporary() bool {
	switch o {
	case Throttled, Busy, Unavailable, StoreUnavailable:
		return true
	}
	return false
}

// Outcomes lists every outcome, for tables that must be complete.
func Outcomes() []Outcome { return enumValues[Outcome](int(numOutcomes)) }

// Protocol is the protocol of an attempt.
type Protocol uint8

const (
	IMAP Protocol = iota // RFC 9051, RFC 3501
	SMTP                 // submission, RFC 6409
	POP3                 // RFC 1939

	numProtocols
)

var protocolNames = [numProtocols]string{"imap", "smtp", "pop3"}

// String returns the name used in metrics, logs and JSON.
func (p Protocol) String() string { return enumName(p, protocolNames[:]) }

// MarshalText implements encoding.TextMarshaler.
func (p Protocol) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// Protocols lists every protocol.
func Protocols() []Protocol { return enumValues[Protocol](int(numProtocols)) }

// Mechanism is the way in which the credentials were sent.
type Mechanism uint8

const (
	LoginCommand Mechanism = iota // IMAP LOGIN, RFC 9051 section 6.2.3; POP3 USER and PASS, RFC 1939 section 7
	Plain                         // SASL PLAIN, RFC 4616
	Login                         // SASL LOGIN, draft-murchison-sasl-login

	numMechanisms
)

var mechanismNames = [numMechanisms]string{"login_command", "plain", "login"}

// String returns the name used in metrics, logs and JSON.
func (m Mechanism) String() string { return enumName(m, mechanismNames[:]) }

// MarshalText implements encoding.TextMarshaler.
func (m Mechanism) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// Mechanisms lists every mechanism.
func Mechanisms() []Mechanism { return enumValues[Mechanism](int(numMechanisms)) }

func enumName[E ~uint8](e E, names []string) string {
	if int(e) < len(names) {
		return names[e]
	}
	return fmt.Sprintf("%T(%d)", e, e)
}

func enumValues[E ~uint8](n int) []E {
	all := make([]E, n)
	for i := range all {
		all[i] = E(i)
	}
	return all
}
