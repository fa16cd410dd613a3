package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"congthu/auth"
)

// Check is one condition for serving users.
type Check struct {
	// Name appears in the answer: "store", "imap upstream".
	Name string
	// Run returns the reason if the check fails. It must return when ctx ends, at the
	// latest after 5 s, and it must be cheap, since anyone may request /readyz. Answers
	// are kept for one second.
	Run func(ctx context.Context) error
	// Address returns the address of the server that is checked. Nil: it has none.
	Address func() string
}

// Readiness is the answer of /readyz.
type Readiness struct {
	Ready  bool                 `json:"ready"`
	Checks map[string]Condition `json:"checks"`
}

// Condition is the result of one check.
type Condition struct {
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
	// Address is that of a server that does not answer.
	Address string `json:"address,omitempty"`
	// Warning is a condition that needs attention although users can log in.
	Warning string `json:"warning,omitempty"`
	// unprobed says that the check has no result yet, so no fault is known.
	unprobed bool
}

// ErrNotProbed is the error of a check without a result, in the first moments after a
// start: the gateway is not ready, but no server is known to be down.
var ErrNotProbed = errors.New("not probed yet")

// unnamedRoutes need no authentication and are requested every few seconds.
var unnamedRoutes = map[string]struct{}{"GET /healthz": {}, "GET /readyz": {}, "GET /metrics": {}}

func (s *Server) handleHealth(mux *http.ServeMux) {
	// Alive: the process answers. A supervisor restarts a process that does not.
	mux.HandleFunc("GET /healthz", s.here(func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, map[string]bool{"ok": true})
	}))
	// Ready: users can log in. If not, a load balancer chooses another gateway.
	mux.HandleFunc("GET /readyz", s.here(func(w http.ResponseWriter, r *http.Request) {
		ready := leaving
		if !s.draining.Load() {
			ready = s.ready(r.Context())
		}
		status := http.StatusOK
		if !ready.Ready {
			status = http.StatusServiceUnavailable
		}
		writeJSON(w, status, ready)
	}))
	if s.Metrics != nil {
		mux.HandleFunc("GET /metrics", s.here(s.Metrics.ServeHTTP))
	}
}

// ready runs the checks, or returns their results if these are younger than a second.
func (s *Server) ready(ctx context.Context) Readiness {
	return s.readiness.get(ctx, s.Checks, s.Warnings, s.now, func(p any) {
		s.log().Error("a readiness check panicked", "panic", auth.PanicText(p), "stack", string(debug.Stack()))
		if s.Panicked != nil {
			s.Panicked()
		}
	})
}

// storeCheck is the name of the store's check; upstreamCheck ends those of the mail
// server's, after the protocol.
const (
	storeCheck    = "store"
	upstreamCheck = " upstream"
)

// leaving is the answer of a gateway that is shutting down. It waits neither for the
// checks nor for a cached answer to become old.
var leaving = Readiness{Checks: map[string]Condition{"gateway": {Error: "shutting down: no new connections are accepted"}}}

// Drain makes /readyz report that this gateway accepts no new users. It cannot be
// undone. /healthz still reports success: otherwise a supervisor would end sessions
// that may still finish.
func (s *Server) Drain() { s.draining.Store(true) }

// readiness runs the checks at most once a second, however many callers there are.
type readiness struct {
	mu    sync.Mutex
	at    time.Time
	known Readiness
}

func (c *readiness) get(ctx context.Context, checks, warnings []Check, now func() time.Time, panicked func(any)) Readiness {
	c.mu.Lock()
	defer c.mu.Unlock()
	if age := now().Sub(c.at); !c.at.IsZero() && age >= 0 && age < time.Second {
		return c.known
	}
	// All callers share the answer, so this caller's context must not end it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	all := slices.Concat(checks, warnings)
	conditions := make([]Condition, len(all))
	var wg sync.WaitGroup
	for i, check := range all {
		wg.Go(func() { conditions[i] = check.run(ctx, panicked) })
	}
	wg.Wait()
	c.known = Readiness{Ready: true, Checks: make(map[string]Condition)}
	for i, check := range all {
		if condition := &conditions[i]; i >= len(checks) && !condition.OK {
			*condition = Condition{OK: true, Warning: condition.Error}
		}
		c.known.Checks[check.Name] = conditions[i]
		c.known.Ready = c.known.Ready && conditions[i].OK
	}
	c.at = now()
	return c.known
}

// run runs the check and passes a panic of it to panicked.
func (c Check) run(ctx context.Context, panicked func(any)) (condition Condition) {
	defer func() {
		if p := recover(); p != nil {
			panicked(p)
			condition = Condition{Error: "the check itself failed"}
		}
	}()
	if err := c.Run(ctx); err != nil {
		condition := Condition{Error: oneLine(err), unprobed: errors.Is(err, ErrNotProbed)}
		if c.Address != nil {
			condition.Address = c.Address()
		}
		return condition
	}
	return Condition{OK: true}
}

// oneLine returns the text of an error on one line of limited length: it may quote a
// mail server.
func oneLine(err error) string {
	line := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, err.Error())
	if runes := []rune(line); len(runes) > 300 {
		return fmt.Sprintf("%s...", string(runes[:300]))
	}
	return line
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	encoded, err := json.Marshal(body)
	if err != nil {
		panic(err) // plain data
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(encoded, '\n'))
}
