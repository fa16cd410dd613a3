package admin

import (
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
)

// here answers with h, except to a request over the loopback interface for a name that
// is not this machine's. Otherwise a web page in a browser on this machine could point
// its own name at 127.0.0.1 (DNS rebinding) and read what needs no token. An attacker
// cannot redirect an IP address or localhost (RFC 6761 section 6.3).
func (s *Server) here(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if overLoopback(r) && !s.isOurs(r.Host) {
			// RFC 9110 section 15.5.20
			writeProblem(w, http.StatusMisdirectedRequest,
				"over the loopback interface only the names of this machine are answered: ask for an IP address, localhost, or the name in the setting hostname")
			return
		}
		h(w, r)
	}
}

// overLoopback reports whether a request can only come from this machine, whatever
// address the listener has. A Unix socket does not count: browsers cannot connect to
// one.
func overLoopback(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.IP.IsLoopback()
}

// isOurs reports whether a Host field names this machine. It may be missing (HTTP/1.0,
// as in health checks of load balancers); browsers always send it.
func (s *Server) isOurs(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if _, err := netip.ParseAddr(host); err == nil || host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	if s.Hostname != "" && strings.EqualFold(host, s.Hostname) {
		return true
	}
	name, err := os.Hostname()
	return err == nil && strings.EqualFold(host, name)
}
