// Package admin is the door for the people who run the gateway: a JSON API to
// find out why somebody cannot log in and to do something about it, the audit
// log, health, and the metrics.
//
// # Who may come in
//
// There are two ways in, and both name a person, since every act goes into the
// audit log under that name. Over TCP it is a bearer token (RFC 6750): one
// token, one person, with the scopes that the configuration grants. Over the
// Unix socket it is the owner of the process at the other end, as the kernel
// tells it (SO_PEERCRED); the permissions of the socket's file say who may
// connect at all, and whoever can has every scope.
//
// /healthz, /readyz, /metrics and the OpenAPI document need no name. They tell
// nothing of any account. Over the loopback interface the first three answer only
// to names of this machine, so that no page in a browser can read them by pointing
// its own name there (DNS rebinding); the API needs a token, which no page has.
//
// # What an answer may contain
//
// A password may turn up anywhere: typed into the field for the address, sent as
// a query parameter by a script gone wrong. So nothing that was refused is
// repeated, neither in the answer nor in the log. Answers to bad input say which
// field is wrong and what is wanted instead (RFC 9457).
//
// # What goes through
//
// Profiles of the process ([runtime/pprof]) and the support bundle need a scope of
// their own and are at the listeners for admins only; net/http/pprof, which would
// put itself into http.DefaultServeMux, is not used.
//
// Reading goes to [Accounts], which a store satisfies; every change goes through
// [Guard], which makes it together with its audit event. This package decides
// nothing; it explains ([Explain]) and it asks for a reason.
package admin

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"congthu/auth"
	"congthu/auth/audit"
	"congthu/auth/guard"
	"congthu/auth/throttle"
)

// Server answers the requests of admins. The fields must not change once one of
// its handlers is in use, but for the tokens ([Server.SetTokens]).
type Server struct {
	// Accounts is where accounts and events are read. Required.
	Accounts Accounts
	// Guard makes the changes and knows the rules. Required.
	Guard Guard
	// Canonical turns an address, however it is spelt, into the name of the
	// account: [guard.Guard.Canonical]. Required.
	Canonical func(address string) (auth.Name, error)
	// Own returns the account that has this very address, and no alias of one:
	// [guard.Guard.Own]. Required for Import.
	Own func(address string) (auth.Name, error)
	// Import takes over a list of accounts, in batches:
	// [guard.Guard.Import] into the store; nil: none can be.
	Import func(context.Context, []auth.Imported, auth.Act, guard.ImportOptions) (guard.Importation, error)
	// Sessions knows the live sessions; nil: none are shown.
	Sessions Sessions
	// Shared is set when other gateways use the same store: live sessions, and what
	// came lately, are of this gateway only.
	Shared bool
	// Tokens open the API over TCP; none: nothing does. A token that is not valid
	// ([Token.Validate]) opens nothing and is reported in the log.
	Tokens []Token
	// Metrics answers /metrics; nil: 404.
	Metrics http.Handler
	// Checks decide about /readyz; none: always ready.
	Checks []Check
	// Warnings are shown by /readyz and do not decide: users can log in all the
	// same, and a load balancer that looks elsewhere would not help.
	Warnings []Check
	// ChangePassword tells a user how to change the password: one sentence or the
	// address of a page. Nil, or empty: "ask the helpdesk".
	ChangePassword func() string
	// Bundle makes a support bundle, a tar.gz, with the names of people in clear or
	// not; nil: there is none.
	Bundle func(ctx context.Context, names bool) ([]byte, error)
	// ShowRules tells which settings the gateways on the store have agreed on. Required
	// with AdoptRules, which makes those of this gateway's configuration file the agreed
	// ones: an error is [ErrConfiguration], [auth.ErrNothingToDo], or the store's. nil:
	// there are none, and whoever asks gets 409.
	ShowRules  func(ctx context.Context) (Rules, error)
	AdoptRules func(ctx context.Context, act auth.Act) (Rules, error)
	// Log is told of every request and of what fails; nil: nobody is.
	Log *slog.Logger
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Panicked is called for every panic that was caught, to count it; nil: not.
	Panicked func()
	// Hostname is the name of this machine that /metrics, /healthz and /readyz answer
	// to over the loopback interface, besides IP addresses, localhost and the name that
	// the system has for it; empty: no other.
	Hostname string
	// Version of the program, for the OpenAPI document; empty: "unknown".
	Version string

	once      sync.Once
	mux       *http.ServeMux
	tokens    atomic.Pointer[[]Token]
	verifying sync.Mutex // held by the one verification of the audit log that may run
	importing sync.Mutex // held by the one import that may run
	imported  importProgress
	readiness readiness
	draining  atomic.Bool
}

// Accounts reads what the gateway remembers. A store satisfies it.
type Accounts interface {
	auth.Scanner
	// Account reads one account; a name never seen reads as one with only its
	// Name set.
	Account(ctx context.Context, name auth.Name) (auth.Account, error)
	// List returns known accounts in the order of the octets of their names.
	List(ctx context.Context, f auth.Filter) ([]auth.Account, error)
	// Events returns audit events, newest first.
	Events(ctx context.Context, f auth.EventFilter) ([]auth.Event, error)
	// Removed returns the last event that was removed because of its age; zero
	// for none.
	Removed(ctx context.Context) (audit.Head, error)
	// Verify walks the whole audit log; see [audit.BrokenChain].
	Verify(ctx context.Context, progress func(checked, total int64)) (audit.Head, error)
}

// Guard changes accounts, each change with its audit event. [*guard.Guard]
// satisfies it.
type Guard interface {
	Unlock(ctx context.Context, name auth.Name, act auth.Act) (auth.Account, error)
	Lock(ctx context.Context, name auth.Name, act auth.Act) (auth.Account, error)
	Restore(ctx context.Context, name auth.Name, act auth.Act) (auth.Account, error)
	Grace(ctx context.Context, name auth.Name, days int, act auth.Act) (auth.Account, error)
	Sweep(ctx context.Context, census auth.Scanner) (guard.Swept, error)
	Dormant(ctx context.Context, census auth.Scanner) (guard.Swept, error)
	ForceSweep(ctx context.Context, census auth.Scanner, act auth.Act) (guard.Swept, error)
	Suspicion() guard.Suspicion
	AcceptClock(ctx context.Context, store auth.DatedStore, act auth.Act, dry bool) (guard.ClockAcceptance, error)
	AllowSource(ctx context.Context, addr netip.Addr, d time.Duration, act auth.Act) (auth.AllowedSource, error)
	EndAllowedSource(ctx context.Context, addr netip.Addr, act auth.Act) (auth.AllowedSource, error)
	AllowedSources() []auth.AllowedSource
	RefusedSources() []throttle.RefusedSource
	KnownNetwork(addr netip.Addr) netip.Prefix
	OtherNames(ctx context.Context, account auth.Name) ([]auth.Account, error)
	Merge(ctx context.Context, account auth.Name, act auth.Act, dry bool) (guard.Merged, error)
	MergeAll(ctx context.Context, store auth.Lister, act auth.Act, dry bool) ([]guard.Merged, error)
	LatelyRefused(name auth.Name) guard.Refusal
	LatelyUnanswered(name auth.Name) guard.Refusal
	LatelyTried(name auth.Name) []guard.Tried
	LastLogin(name auth.Name) auth.Origin
	Domains() []string
	SharedFull(ctx context.Context, name auth.Name) (until time.Time, err error)
	Rules() auth.Rules
}

// Sessions knows the live sessions of an account.
type Sessions interface {
	Len(name auth.Name) int
	// Of returns where they came from, the oldest first.
	Of(name auth.Name) []auth.Origin
}

// Handler answers over TCP: /api/v1 to whoever has a token, health and metrics
// to everybody.
func (s *Server) Handler() http.Handler { return s.handler(s.bearer) }

// SocketHandler answers over the Unix socket. It must be served by
// [Server.HTTPServer], which asks the kernel who is at the other end.
func (s *Server) SocketHandler() http.Handler { return s.handler(peer) }

// MetricsHandler answers /metrics, /healthz and /readyz and nothing else, for a
// listener of their own.
func (s *Server) MetricsHandler() http.Handler {
	mux := http.NewServeMux()
	s.handleHealth(mux)
	return s.outer(mux, nobody)
}

func (s *Server) handler(identify identify) http.Handler {
	s.init()
	return s.outer(s.mux, identify)
}

// SetTokens replaces the tokens, as a reload of the configuration does. Requests
// under way go on.
func (s *Server) SetTokens(tokens []Token) {
	valid := make([]Token, 0, len(tokens))
	for _, t := range tokens {
		if err := t.Validate(); err != nil {
			s.log().Error("an admin token is not valid and opens nothing", "err", err)
			continue
		}
		valid = append(valid, t)
	}
	s.tokens.Store(&valid)
}

func (s *Server) init() {
	s.once.Do(func() {
		if s.tokens.Load() == nil {
			s.SetTokens(s.Tokens)
		}
		s.mux = http.NewServeMux()
		s.handleHealth(s.mux)
		s.handleAPI(s.mux)
	})
}

func (s *Server) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

func (s *Server) log() *slog.Logger {
	if s.Log != nil {
		return s.Log
	}
	return slog.New(slog.DiscardHandler)
}

func (s *Server) sessions(name auth.Name) int {
	if s.Sessions == nil {
		return 0
	}
	return s.Sessions.Len(name)
}
