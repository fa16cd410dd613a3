package auth

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// Attempt is one try to log in: complete credentials and their origin.
type Attempt struct {
	// Session names the connection in logs.
	Session   string
	Protocol  Protocol
	Mechanism Mechanism
	// Source is the client's address and port, for the throttle and the log.
	Source netip.AddrPort
	// Login is the name as the client wrote it (the SASL authentication
	// identity).
	Login string
	// Authorize is the SASL authorization identity; empty, or the same account
	// as Login (Art. 13.8).
	Authorize string
	Password  Secret
	// SSO marks a single sign-on token in place of a password: exempt from the
	// password's age, and never counted as a wrong password.
	SSO bool
	// Rejected holds the passwords rejected on this connection; nil: none are kept.
	Rejected *RejectedPasswords
	// Program is the name of the mail program as the client sent it; empty: not sent.
	Program string
	// Connected is when the client's connection was opened: see [RepeatWindow]. Zero:
	// when the attempt begins.
	Connected time.Time
	// Verify asks the mail server. It is called once for each attempt, and once more
	// after an answer with Again. It is not used for attempts in two steps, with a
	// ticket.
	Verify Verify
}

// MaxPassword is the longest password, in octets, about which the mail server is asked.
// Some servers close the connection for longer ones instead of answering, and then every
// try would be in doubt.
const MaxPassword = 1024

// ErrMalformedPassword: an empty password, or one longer than MaxPassword. It is
// answered like a wrong one and not counted.
var ErrMalformedPassword = errors.New("empty or too long password")

// Verify asks the mail server to judge the password for the account, under its canonical
// name. The protocol packages implement it and keep the authenticated connection when it
// succeeds; the guard never sees a socket. It must return when ctx ends.
type Verify func(ctx context.Context, name Name) Answer

// Answer is the mail server's answer.
type Answer struct {
	Judgement Judgement
	// Code is the response code of a refusal, such as LIMIT or CONTACTADMIN
	// (RFC 9051 section 7.1), without brackets; empty when there was none.
	Code string
	// Again is set if InDoubt may be due to the connection, which was an old one: the
	// mail server may be asked once more. It may have judged the password, so the
	// first answer stays in doubt, with its slot, and the second needs one of its own.
	Again bool
	// Err is for the operator, with every judgement except JudgedRight.
	Err error
}

// Judgement is the meaning of an answer.
type Judgement uint8

const (
	// Unreached: the credentials were not judged: no connection, a temporary
	// failure, a protocol error. Nothing is counted.
	Unreached Judgement = iota
	// JudgedRight: the mail server logged the user in.
	JudgedRight
	// JudgedWrong: the mail server itself said that the credentials are wrong.
	JudgedWrong
	// RefusedOtherwise: the mail server refused for a reason of its own.
	RefusedOtherwise
	// InDoubt: the credentials were sent and no answer came. The slot stays
	// taken until its lease ends and then counts as a failure, which never by
	// itself locks.
	InDoubt
)

// Verdict is the result of an attempt: what the protocol needs for its reply, and what
// the operator needs to understand it.
type Verdict struct {
	Outcome Outcome
	// Name is the canonical name; empty when the login is not a name served here.
	Name Name
	// Known is set when the name is an account. A name that is not an account may be
	// a mistyped password and must not be logged.
	Known bool
	// Shared is set when the attempt was counted, or refused as locked, by the counter
	// that its name shares with other names that have never had an accepted login.
	Shared bool
	// Code is the mail server's response code when Outcome is Refused.
	Code string
	// Would is the outcome with which an accepted login would have been refused if the
	// rules in mode warn were enforced; Accepted if no rule objects.
	Would Outcome
	// Alert is set when the user should be warned now that the password expires in
	// ExpiresIn days (0 is today): at most once per account, day and
	// mail program, as far as this process remembers it.
	Alert     bool
	ExpiresIn int
	// Err is for the operator: what failed, or what the mail server said.
	Err error
	// Admission, Upstream and Settlement are the durations of the three steps.
	Admission, Upstream, Settlement time.Duration
	// KnownGood is set when no slot was needed: this process had seen the same
	// password accepted.
	KnownGood bool
}

// Recorder receives every attempt and every change, for metrics and logs. Its methods
// must not block, and so must not use a store: the arguments have all they need.
type Recorder interface {
	// RecordAttempt is called once for each attempt, when its verdict is known.
	RecordAttempt(Attempt, Verdict)
	// RecordEvent is called for each event that was written. known is
	// [Account.Known] of Event.Account after the change: a name that is not an account
	// may be a mistyped password and must not be logged.
	RecordEvent(e Event, known bool)
}

// Fingerprinter makes fingerprints, which show whether two passwords of an account are
// equal and are expensive to search through (auth/password).
type Fingerprinter interface {
	// Fingerprint returns the same octets for the same salt and password. The
	// only errors are those of ctx.
	Fingerprint(ctx context.Context, salt []byte, password Secret) ([]byte, error)
}
