package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"congthu/auth"
	"congthu/gateway/scope"
)

// Token gives one named person access. Only its hash is stored: a token is random and
// long, so a fast hash without salt is enough.
type Token struct {
	// Name is the person's name. It appears in the audit log.
	Name string
	// SHA256 is the hash of the token's octets.
	SHA256 [sha256.Size]byte
	Scopes []scope.Scope
}

// Validate describes the mistake in a token. The name must not look like an actor that
// the gateway itself writes into the audit log.
func (t Token) Validate() error {
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
	switch {
	case strings.TrimSpace(t.Name) == "":
		return errors.New("token without a name")
	case t.Name != strings.TrimSpace(t.Name) || strings.ContainsFunc(t.Name, unprintable):
		return errors.New("the name of a token has spaces around it or unprintable characters")
	case t.Name == auth.ByUser, t.Name == auth.ByGateway, strings.HasPrefix(t.Name, "uid:"):
		return fmt.Errorf("token %q: the name belongs to the gateway's own entries in the audit log", t.Name)
	case t.SHA256 == [sha256.Size]byte{}, t.SHA256 == sha256.Sum256(nil):
		return fmt.Errorf("token %q: the hash is of no token", t.Name)
	case len(t.Scopes) == 0:
		return fmt.Errorf("token %q: no scopes", t.Name)
	}
	for _, s := range t.Scopes {
		if !slices.Contains(scope.All(), s) {
			return fmt.Errorf("token %q: unknown scope %q", t.Name, s)
		}
	}
	return nil
}

// caller is the author of a request.
type caller struct {
	actor  string
	source netip.AddrPort // zero on the Unix socket
	scopes []scope.Scope
}

// identify returns the caller of a request. The error is sent to the caller, and
// repeats nothing of the request.
type identify func(r *http.Request) (caller, error)

var errNoToken = errors.New("a bearer token is required")

// anonymous identifies no caller.
func anonymous(*http.Request) (caller, error) { return caller{}, errNoToken }

// bearer identifies the caller by the token in the Authorization header (RFC 6750
// section 2.1).
func (s *Server) bearer(r *http.Request) (caller, error) {
	fields := r.Header.Values("Authorization")
	if len(fields) == 0 {
		return caller{}, errNoToken
	}
	// The scheme is case-insensitive (RFC 9110 section 11.1).
	scheme, token, _ := strings.Cut(fields[0], " ")
	if len(fields) > 1 || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return caller{}, errors.New("the Authorization header is no single bearer token")
	}
	sum := sha256.Sum256([]byte(token))
	var found *Token
	tokens := *s.tokens.Load()
	for i := range tokens {
		// All hashes are compared, so that the time does not reveal a near match.
		if subtle.ConstantTimeCompare(sum[:], tokens[i].SHA256[:]) == 1 && found == nil {
			found = &tokens[i]
		}
	}
	if found == nil {
		return caller{}, errors.New("the bearer token is not known")
	}
	return caller{actor: found.Name, source: source(r), scopes: found.Scopes}, nil
}

// source returns the address that a TCP request came from.
func source(r *http.Request) netip.AddrPort {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
}
