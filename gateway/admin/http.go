package admin

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"path"
	"runtime/debug"
	"strings"
	"time"

	"congthu/auth"
)

// maxHeader limits the request line and header fields, in octets. Go's server allows
// some 4 KiB more.
const maxHeader = 16 << 10

// maxBody limits the body of a request, in octets.
const maxBody = 8 << 10

// HTTPServer returns a server for one of the handlers, with limits that make slow and
// greedy clients cheap. The caller sets TLSConfig for TLS, and serves and shuts the
// server down.
func (s *Server) HTTPServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second, // lifted for slow operations
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeader,
		ConnContext:       withPeer,
		ErrorLog:          slog.NewLogLogger(s.log().Handler(), slog.LevelDebug),
	}
}

// callerKey is the key of the caller in a request's context.
type callerKey struct{}

// identified is the caller of a request, or the reason why the caller is unknown.
type identified struct {
	caller
	err error
}

func callerOf(ctx context.Context) identified {
	id, ok := ctx.Value(callerKey{}).(identified)
	if !ok {
		return identified{err: errNoToken}
	}
	return id
}

// outer handles every request first: it identifies the caller, writes the log, catches
// panics, and answers unknown paths. It refuses no caller; each operation does that.
func (s *Server) outer(mux *http.ServeMux, identify identify) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		who, err := identify(r)
		r = r.WithContext(context.WithValue(r.Context(), callerKey{}, identified{who, err}))
		out := &response{ResponseWriter: w}
		header := out.Header()
		header.Set("Cache-Control", "no-store")
		header.Set("X-Content-Type-Options", "nosniff")
		defer func() {
			if p := recover(); p != nil {
				s.recovered(out, p)
			}
			s.logRequest(r, out, who, began)
			if out.abort {
				panic(http.ErrAbortHandler)
			}
		}()
		route(mux, out, r)
	})
}

// route serves r, or answers that its path does not exist. ServeMux would redirect to a
// cleaned path, and so repeat what the client sent.
func route(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	if escaped := r.URL.EscapedPath(); escaped == "" || path.Clean(escaped) != escaped {
		writeProblem(w, http.StatusNotFound, "there is nothing at this path")
		return
	}
	if _, pattern := mux.Handler(r); pattern != "" {
		mux.ServeHTTP(w, r)
		return
	}
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		other := *r
		other.Method = method
		if _, pattern := mux.Handler(&other); pattern != "" {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 {
		writeProblem(w, http.StatusNotFound, "there is nothing at this path")
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	const text = "this path takes %s only"
	write(w, problemf(http.StatusMethodNotAllowed, text, strings.Join(allowed, " and ")).vi(inVietnamese(text, strings.Join(allowed, ", "))))
}

// recovered answers a request that ended in a panic. It logs the text of runtime errors
// only: other values could contain anything.
func (s *Server) recovered(w *response, p any) {
	if p == http.ErrAbortHandler {
		w.abort = true
		return
	}
	s.log().Error("admin request panicked", "panic", auth.PanicText(p), "stack", string(debug.Stack()))
	if s.Panicked != nil {
		s.Panicked()
	}
	if w.status != 0 {
		// An incomplete answer must not look complete.
		w.abort = true
		return
	}
	writeProblem(w, http.StatusInternalServerError, "internal error; the log says more")
}

// logRequest logs the caller and the route. It does not log paths and queries: they
// contain names, or whatever was typed in their place.
func (s *Server) logRequest(r *http.Request, w *response, who caller, began time.Time) {
	route := r.Pattern
	if route == "" {
		route = "none"
	}
	level := slog.LevelInfo
	if _, unnamed := unnamedRoutes[route]; unnamed && w.status < 500 {
		level = slog.LevelDebug // probes and scrapes arrive every few seconds
	}
	attrs := []slog.Attr{
		slog.String("actor", who.actor), slog.String("route", route), slog.Int("status", w.status),
		slog.Float64("took_ms", float64(time.Since(began).Microseconds())/1000),
	}
	if from := source(r); from.IsValid() {
		attrs = append(attrs, slog.String("source", from.String()))
	}
	s.log().LogAttrs(r.Context(), level, "admin request", attrs...)
}

// response records the status of an answer.
type response struct {
	http.ResponseWriter
	status int
	abort  bool // end the connection
}

func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap gives http.ResponseController access to the inner writer.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// writeProblem answers with a problem (RFC 9457) outside an operation.
func writeProblem(w http.ResponseWriter, status int, format string, args ...any) {
	write(w, problemf(status, format, args...))
}

func write(w http.ResponseWriter, p *problemModel) {
	body, err := json.Marshal(p)
	if err != nil {
		panic(err) // three fields that always marshal
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	w.Write(append(body, '\n'))
}
