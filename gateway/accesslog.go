package gateway

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/time/rate"

	"congthu/auth"
	"congthu/auth/guard"
)

// accessLog writes one line for every decision and every change. It receives no
// password. A name without an account may be a mistyped password, so it is written as a
// keyed hash, which stays the same for the same name as long as the process lives.
type accessLog struct {
	log *slog.Logger
	key []byte

	// Refusals that never reach the mail server arrive as fast as an attacker sends
	// them. This limit keeps them from filling the log.
	refusals   *rate.Limiter
	suppressed atomic.Int64 // refusals without a line since the last one with one

	mu     sync.Mutex
	warned map[netip.Prefix]time.Time // when a refused source was last logged
}

// warnAgainAfter is the time after which the log mentions a refused source again;
// maxWarned is the number of sources remembered for that.
const (
	warnAgainAfter = 10 * time.Minute
	maxWarned      = 4096
)

// Limits of lines about refusals: per second, and in a burst.
const (
	refusalLines = 20
	refusalBurst = 500
)

func newAccessLog(log *slog.Logger) *accessLog {
	key := make([]byte, 32)
	rand.Read(key) // never fails (crypto/rand)
	return &accessLog{log: log, key: key, refusals: rate.NewLimiter(refusalLines, refusalBurst)}
}

// RecordAttempt implements [auth.Recorder].
func (l *accessLog) RecordAttempt(a auth.Attempt, v auth.Verdict) {
	if v.Outcome == auth.Throttled && !errors.Is(v.Err, guard.ErrUnfamiliar) {
		l.warnRefusedSource(a.Source)
	}
	switch v.Outcome {
	case auth.Locked, auth.Throttled, auth.Busy, auth.NoSuchDomain, auth.Malformed, auth.OtherIdentity, auth.Cleartext, auth.RepeatedPassword:
		if !l.refusals.Allow() {
			l.suppressed.Add(1)
			return
		}
		if n := l.suppressed.Swap(0); n > 0 {
			l.log.Warn("too many refusals for the log: some are only in the metrics", "left_out", n)
		}
	}
	level := slog.LevelInfo
	if v.Outcome == auth.Unavailable || v.Outcome == auth.StoreUnavailable {
		level = slog.LevelWarn
	}
	attrs := []slog.Attr{
		slog.String("session", a.Session),
		slog.String("outcome", v.Outcome.String()),
		slog.String("protocol", a.Protocol.String()),
		slog.String("mechanism", a.Mechanism.String()),
		slog.String("source", a.Source.String()),
	}
	switch {
	case v.Known:
		attrs = append(attrs, slog.String("account", string(v.Name)))
	case v.Name != "":
		attrs = append(attrs, slog.String("login_hash", l.hash(string(v.Name))))
	case a.Login != "":
		attrs = append(attrs, slog.String("login_hash", l.hash(a.Login)))
	}
	attrs = append(attrs,
		slog.Float64("admission_ms", milliseconds(v.Admission)),
		slog.Float64("upstream_ms", milliseconds(v.Upstream)),
		slog.Float64("settlement_ms", milliseconds(v.Settlement)),
	)
	if v.Would != auth.Accepted {
		attrs = append(attrs, slog.String("would_be", v.Would.String()))
	}
	if v.Code != "" {
		attrs = append(attrs, slog.String("code", v.Code))
	}
	if v.Err != nil {
		why := v.Err.Error()
		if !v.Known { // the mail server's text may repeat the name
			why = redact(why, string(v.Name), a.Login, v.Name.Local())
		}
		attrs = append(attrs, slog.String("err", why))
	}
	l.log.LogAttrs(context.Background(), level, "login", attrs...)
}

// warnRefusedSource logs that a source is refused at present: it may be the address of a
// whole office.
func (l *accessLog) warnRefusedSource(addr netip.AddrPort) {
	source, now := auth.Source(addr.Addr()), time.Now()
	l.mu.Lock()
	worth := now.Sub(l.warned[source]) >= warnAgainAfter
	if worth {
		if l.warned == nil || len(l.warned) >= maxWarned {
			l.warned = make(map[netip.Prefix]time.Time)
		}
		l.warned[source] = now
	}
	l.mu.Unlock()
	if worth {
		l.log.Warn("attempts of a source are refused for now: too many wrong passwords; find out who guesses there: block an attacker at the firewall; congthu account unlock lets one account go on, congthu source allow an office",
			"source", addr.Addr())
	}
}

// RecordEvent implements [auth.Recorder].
func (l *accessLog) RecordEvent(e auth.Event, known bool) {
	switch e.Kind {
	case auth.PasswordWrong:
		return // the login's own line contains it
	case auth.AccountImported:
		return // a list may have 100,000: one line has their number, the audit log has each
	}
	account := slog.String("account", string(e.Account)) // empty for an event of the whole gateway
	if !known && e.Account != "" {
		account = slog.String("login_hash", l.hash(string(e.Account)))
	}
	attrs := []slog.Attr{slog.String("kind", string(e.Kind)), account, slog.String("actor", e.Actor)}
	if e.Source.IsValid() {
		attrs = append(attrs, slog.String("source", e.Source.String()))
	}
	for _, a := range []slog.Attr{slog.String("before", e.Before), slog.String("after", e.After), slog.String("reason", e.Reason)} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	l.log.LogAttrs(context.Background(), slog.LevelInfo, "event", attrs...)
}

func (l *accessLog) hash(name string) string {
	mac := hmac.New(sha256.New, l.key)
	mac.Write([]byte(name))
	return hex.EncodeToString(mac.Sum(nil)[:8])
}

// redact replaces names in a text by ***, in any case and also where the text is
// quoted. Names come from clients and can contain any octets.
func redact(text string, names ...string) string {
	for _, name := range names {
		quoted := strconv.QuoteToASCII(name)
		text = replaceFold(text, name)
		if quoted = quoted[1 : len(quoted)-1]; quoted != name {
			text = replaceFold(text, quoted)
		}
	}
	return text
}

// replaceFold replaces each occurrence of a name by ***. Names of less than three
// octets stay: they are no passwords and occur within many words.
func replaceFold(text, name string) string {
	if len(name) < 3 {
		return text
	}
	var b strings.Builder // allocated only if there is something to replace
	kept := 0             // the octets of text before it are in b
	for at := 0; at < len(text); {
		n, found := prefixFold(text[at:], name)
		if !found {
			_, size := utf8.DecodeRuneInString(text[at:])
			at += size
			continue
		}
		b.WriteString(text[kept:at])
		b.WriteString("***")
		at += n
		kept = at
	}
	if kept == 0 {
		return text
	}
	b.WriteString(text[kept:])
	return b.String()
}

// prefixFold reports whether text begins with a name under Unicode case folding, and
// the number of octets that match: letters of different case may have different
// lengths. All octets that are not UTF-8 count as equal.
func prefixFold(text, name string) (n int, ok bool) {
	for len(name) > 0 {
		if n == len(text) {
			return 0, false
		}
		_, want := utf8.DecodeRuneInString(name)
		_, have := utf8.DecodeRuneInString(text[n:])
		if !strings.EqualFold(text[n:n+have], name[:want]) {
			return 0, false
		}
		name, n = name[want:], n+have
	}
	return n, true
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// recorders passes each call to several recorders.
type recorders []auth.Recorder

// RecordAttempt implements [auth.Recorder].
func (rs recorders) RecordAttempt(a auth.Attempt, v auth.Verdict) {
	for _, r := range rs {
		r.RecordAttempt(a, v)
	}
}

// RecordEvent implements [auth.Recorder].
func (rs recorders) RecordEvent(e auth.Event, known bool) {
	for _, r := range rs {
		r.RecordEvent(e, known)
	}
}
