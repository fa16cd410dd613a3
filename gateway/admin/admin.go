// Package admin is the interface for the people who run the gateway: a JSON API that
// shows why a user cannot log in and offers the acts that help, the audit log, health,
// and the metrics.
//
// # Authentication
//
// There are two ways to authenticate, and both identify a person, since the audit log
// records every act under that name. Over TCP it is a bearer token (RFC 6750): one
// token for one person, with the scopes that the configuration grants. Over the Unix
// socket it is the owner of the process at the other end, as the kernel reports it
// (SO_PEERCRED); the permissions of the socket's file decide who may connect, and every
// process that can connect has every scope.
//
// /healthz, /readyz, /metrics and the OpenAPI document need no authentication. They
// contain nothing about any account. Over the loopback interface the first three answer
// only to names of this machine, so that no page in a browser can read them by pointing
// its own name there (DNS rebinding); the API needs a token, which no page has.
//
// # What an answer may contain
//
// A password can appear anywhere: typed into the field for the address, or sent as a
// query parameter by a faulty script. So refused input is repeated neither in the
// answer nor in the log. Answers to bad input say which field is wrong and what it
// should contain (RFC 9457).
//
// # Profiles, reads and changes
//
// Profiles of the process ([runtime/pprof]) and the support bundle need a scope of
// their own and are available at the listeners for administrators only; net/http/pprof
// is not used, since it would register itself in http.DefaultServeMux.
//
// Reads go to [Accounts], which a store satisfies; every change goes through [Guard],
// which makes it together with its audit event. This package decides nothing: it
// explains ([Explain]) and requires a reason.
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

// Server answers the requests of administrators. Its fields must not change once one of
// its handlers is in use; for the tokens use [Server.SetTokens].
type Server struct {
	// Accounts reads accounts and events. Required.
	Accounts Accounts
	// Guard makes the changes and knows the rules. Required.
	Guard Guard
	// Canonical returns the name of the account for any spelling of an address:
	// [guard.Guard.Canonical]. Required.
	Canonical func(address string) (auth.Name, error)
	// Own returns the account that has exactly this address; an alias is an error:
	// [guard.Guard.Own]. Required for Import.
	Own func(address string) (auth.Name, error)
	// Import imports a list of accounts in batches: [guard.Guard.Import] into the
	// store. nil: imports are not available.
	Import func(context.Context, []auth.Imported, auth.Act, guard.ImportOptions) (guard.Importation, error)
	// Sessions reports the live sessions; nil: none are shown.
	Sessions Sessions
	// Shared says that other gateways use the same store: live sessions and recent
	// attempts are then those of this gateway only.
	Shared bool
	// Tokens are the tokens of the API over TCP; without any, every request is refused.
	// An invalid token ([Token.Validate]) is ignored and reported in the log.
	Tokens []Token
	// Metrics answers /metrics; nil: 404.
	Metrics http.Handler
	// Checks decide the answer of /readyz; none: always ready.
	Checks []Check
	// Warnings appear in /readyz but do not change its result: users can still log in,
	// and sending them to another gateway would not help.
	Warnings []Check
	// ChangePassword returns how a user changes the password: one sentence or the
	// address of a page. Nil or empty means "ask the helpdesk".
	ChangePassword func() string
	// Bundle makes a support bundle (tar.gz). names says whether names of people are in
	// clear; otherwise they are pseudonyms. nil: bundles are not available.
	Bundle func(ctx context.Context, names bool) ([]byte, error)
	// ShowRules returns the settings that the gateways on the store have agreed on.
	// AdoptRules makes the settings of this gateway's configuration file the agreed
	// ones; its error is [ErrConfiguration], [auth.ErrNothingToDo], or one of the
	// store. AdoptRules requires ShowRules. nil: there are no agreed settings, and the
	// answer is 409.
	ShowRules  func(ctx context.Context) (Rules, error)
	AdoptRules func(ctx context.Context, act auth.Act) (Rules, error)
	// Log receives every request and every failure; nil: nothing is logged.
	Log *slog.Logger
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Panicked is called for every panic that was caught, to count it; nil: panics are
	// not counted.
	Panicked func()
	// Hostname is a further name of this machine to which /metrics, /healthz and
	// /readyz answer over the loopback interface, besides IP addresses, localhost and
	// the system's host name; empty: no further name.
	Hostname string
	// Version of the program, for the OpenAPI document; empty: "unknown".
	Version string

	once      sync.Once
	mux       *http.ServeMux
	tokens    atomic.Pointer[[]Token]
	verifying sync.Mutex // held by the only verification of the audit log that may run
	importing sync.Mutex // held by the only import that may run
	imported  importProgress
	readiness readiness
	draining  atomic.Bool
}

// Accounts reads the gateway's accounts and events. A store satisfies it.
type Accounts interface {
	auth.Scanner
	// Account reads one account. For an unknown name it returns an account with only
	// Name set.
	Account(ctx context.Context, name auth.Name) (auth.Account, error)
	// List returns known accounts in the order of the octets of their names.
	List(ctx context.Context, f auth.Filter) ([]auth.Account, error)
	// Events returns audit events, newest first.
	Events(ctx context.Context, f auth.EventFilter) ([]auth.Event, error)
	// Removed returns the last event that was removed because of its age, or zero if
	// there is none.
	Removed(ctx context.Context) (audit.Head, error)
	// Verify checks the whole audit log; see [audit.BrokenChain].
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
	// Of returns the origins of the sessions, the oldest first.
	Of(name auth.Name) []auth.Origin
}

// Handler answers over TCP: /api/v1 for callers with a token, health and metrics for
// everyone.
func (s *Server) Handler() http.Handler { return s.handler(s.bearer) }

// SocketHandler answers over the Unix socket. It must be served by [Server.HTTPServer],
// which asks the kernel for the identity of the peer.
func (s *Server) SocketHandler() http.Handler { return s.handler(peer) }

// MetricsHandler answers only /metrics, /healthz and /readyz, for a listener of their
// own.
func (s *Server) MetricsHandler() http.Handler {
	mux := http.NewServeMux()
	s.handleHealth(mux)
	return s.outer(mux, anonymous)
}

func (s *Server) handler(identify identify) http.Handler {
	s.init()
	return s.outer(s.mux, identify)
}

// SetTokens replaces the tokens, as a reload of the configuration does. Requests in
// progress continue.
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
