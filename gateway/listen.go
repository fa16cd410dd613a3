package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"reflect"
	"syscall"

	"congthu/auth"
	"congthu/gateway/admin"
	"congthu/gateway/config"
	"congthu/gateway/upstream"
)

// ListenError names the setting with an address on which the gateway cannot listen.
type ListenError struct {
	// Setting is its path in the configuration, such as imap.listen[0].address.
	Setting string
	Address string
	Err     error
}

// Error implements error.
func (e *ListenError) Error() string {
	why := e.Err.Error()
	switch {
	case errors.Is(e.Err, syscall.EADDRINUSE):
		why = "another program has that address"
	case errors.Is(e.Err, os.ErrPermission):
		why = "not permitted (ports below 1024 need congthu.socket or CAP_NET_BIND_SERVICE)"
	case errors.Is(e.Err, syscall.EADDRNOTAVAIL):
		why = "this machine has no such address"
	}
	return fmt.Sprintf("cannot listen on %s (%s): %s", e.Address, e.Setting, why)
}

// Unwrap returns the operating system's error.
func (e *ListenError) Unwrap() error { return e.Err }

// listeners are all open listeners of a gateway.
type listeners struct {
	mail  []mailListener
	admin []adminListener
	// passed is set if another process opened the mail listeners and keeps them open:
	// new clients then wait for the next process, and so for the end of this one.
	passed bool
}

type mailListener struct {
	net.Listener
	protocol auth.Protocol
	implicit bool
}

type adminListener struct {
	net.Listener
	handler func(*admin.Server) http.Handler
}

// listen opens all listeners or none; its error reports every address that failed.
//
// If mail sockets are passed, all mail listeners must be passed: one that the gateway
// opened itself would refuse connections during a restart, and the operator would not
// notice before that day. Listeners for administrators may be passed, and are opened
// here otherwise.
func listen(c *config.Config, sockets []Socket) (*listeners, error) {
	ls := new(listeners)
	given := passed(sockets)
	var failed []error
	// No TCP keep-alive: before login every client has a deadline, and the relay
	// detects dead peers itself. Go's keep-alive, every 15 s, would cost four system
	// calls for each connection.
	listenConfig := net.ListenConfig{KeepAlive: -1}
	tcp := func(setting, address string) []net.Listener {
		l, err := listenConfig.Listen(context.Background(), "tcp", address)
		if err != nil {
			failed = append(failed, &ListenError{setting, address, err})
			return nil
		}
		return []net.Listener{l}
	}
	if c.Admin.Listen != "" {
		found := given.take(socketAdmin, c.Admin.Listen, !given.hasUnix())
		if len(found) == 0 {
			found = tcp("admin.listen", c.Admin.Listen)
		}
		for _, l := range found {
			if cert := c.AdminCertificate(); cert != nil {
				l = tls.NewListener(l, cert.TLSConfig())
			}
			ls.admin = append(ls.admin, adminListener{l, (*admin.Server).Handler})
		}
	}
	if c.Metrics.Listen != "" {
		found := given.take(socketMetrics, c.Metrics.Listen, true)
		if len(found) == 0 {
			found = tcp("metrics.listen", c.Metrics.Listen)
		}
		for _, l := range found {
			ls.admin = append(ls.admin, adminListener{l, (*admin.Server).MetricsHandler})
		}
	}
	if c.Admin.Socket != "" {
		found := given.take(socketAdmin, c.Admin.Socket, false)
		if len(found) == 0 {
			if l, err := admin.ListenSocket(c.Admin.Socket, c.Admin.SocketGroup); err != nil {
				failed = append(failed, &ListenError{"admin.socket", c.Admin.Socket, err})
			} else {
				found = append(found, l)
			}
		}
		for _, l := range found {
			ls.admin = append(ls.admin, adminListener{l, (*admin.Server).SocketHandler})
		}
	}
	if len(given) > 0 {
		ls.passed = true
		for _, s := range services {
			found, missing := given.mailListeners(s, c.Mail(s.Protocol).Listen)
			ls.mail = append(ls.mail, found...)
			failed = append(failed, missing...)
		}
		failed = append(failed, given.unused()...)
	} else {
		eachMailAddress(c, func(s service, setting string, w config.Listener) {
			for _, l := range tcp(setting, w.Address) {
				ls.mail = append(ls.mail, mailListener{l, s.Protocol, w.TLS == upstream.Implicit})
			}
		})
	}
	if len(failed) > 0 {
		ls.close()
		given.close()
		return nil, errors.Join(failed...)
	}
	return ls, nil
}

// TryAddresses listens on each TCP address of a configuration for a moment, as Run
// would, and returns those that fail. It ignores sockets of systemd.
func TryAddresses(c *config.Config) (failed []*ListenError) {
	try := func(setting, address string) {
		l, err := net.Listen("tcp", address)
		if err != nil {
			failed = append(failed, &ListenError{setting, address, err})
			return
		}
		l.Close()
	}
	eachMailAddress(c, func(_ service, setting string, w config.Listener) { try(setting, w.Address) })
	if c.Admin.Listen != "" {
		try("admin.listen", c.Admin.Listen)
	}
	if c.Metrics.Listen != "" {
		try("metrics.listen", c.Metrics.Listen)
	}
	return failed
}

// eachMailAddress calls do for each address of the services, with its setting.
func eachMailAddress(c *config.Config, do func(s service, setting string, w config.Listener)) {
	for _, s := range services {
		for i, w := range c.Mail(s.Protocol).Listen {
			do(s, fmt.Sprintf("%s[%d].address", s.listen(), i), w)
		}
	}
}

func (ls *listeners) all() (all []net.Listener) {
	for _, l := range ls.mail {
		all = append(all, l)
	}
	for _, l := range ls.admin {
		all = append(all, l)
	}
	return all
}

func (ls *listeners) close() {
	for _, l := range ls.all() {
		l.Close()
	}
}

func (ls *listeners) addresses() (addresses []string) {
	for _, l := range ls.all() {
		addresses = append(addresses, l.Addr().String())
	}
	return addresses
}

// needRestart names the changed settings that a reload cannot put into force.
func needRestart(old, c *config.Config) (settings []string) {
	// These belong to the policy, which a reload replaces.
	store, throttle := old.Store, old.Throttle
	store.ForgetUnknownAfter, throttle.StrangersAfter = c.Store.ForgetUnknownAfter, c.Throttle.StrangersAfter
	throttle.KnownNetworks = c.Throttle.KnownNetworks
	type pair struct {
		name     string
		old, new any
	}
	pairs := []pair{{"hostname", old.Hostname, c.Hostname}}
	for _, s := range services {
		pairs = append(pairs, pair{s.listen(), old.Mail(s.Protocol).Listen, c.Mail(s.Protocol).Listen})
		if s.fixed != nil {
			was := s.fixed(old)
			for i, now := range s.fixed(c) {
				pairs = append(pairs, pair{now.name, was[i].value, now.value})
			}
		}
	}
	pairs = append(pairs, []pair{
		{"store", store, c.Store},
		{"throttle", throttle, c.Throttle},
		{"limits", old.Limits, c.Limits},
		{"admin.listen", old.Admin.Listen, c.Admin.Listen},
		{"admin.tls", old.Admin.TLS.IsZero(), c.Admin.TLS.IsZero()},
		{"admin.socket", old.Admin.Socket, c.Admin.Socket},
		{"admin.socket_group", old.Admin.SocketGroup, c.Admin.SocketGroup},
		{"metrics.listen", old.Metrics.Listen, c.Metrics.Listen},
		{"log", old.Log, c.Log},
		{"drain_timeout", old.DrainTimeout, c.DrainTimeout},
	}...)
	for _, s := range pairs {
		if !reflect.DeepEqual(s.old, s.new) {
			settings = append(settings, s.name)
		}
	}
	return settings
}
