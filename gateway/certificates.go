package gateway

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"congthu/gateway/config"
)

// renewalsEvery is the interval of checks of the certificate files. Reading the dates
// of four files costs nothing, and a renewal comes weeks before expiry. Polling also
// works where notifications do not: on network file systems, and with symbolic links
// that change their target (certbot, Kubernetes).
const renewalsEvery = 10 * time.Second

// renewals puts changed certificate files into force.
type renewals struct {
	every time.Duration // 0: renewalsEvery

	mu   sync.Mutex
	mail renewal
	own  renewal // of the admin interface; its held is nil with plain HTTP
}

// renewal is one certificate with its files.
type renewal struct {
	setting string
	held    *config.Certificate
	pair    config.KeyPair

	read  stamp // of the files when last loaded
	last  stamp // of the files at the last check
	wrong error // why they are not in force
}

// stamp identifies a version of the certificate's files without reading them.
type stamp [2]struct {
	modified time.Time
	size     int64
	inode    uint64
	missing  bool
}

func stampOf(pair config.KeyPair) (s stamp) {
	for i, file := range []string{pair.Certificate, pair.Key} {
		info, err := os.Stat(file)
		if err != nil {
			s[i].missing = true
			continue
		}
		s[i].modified, s[i].size, s[i].inode = info.ModTime(), info.Size(), inode(info)
	}
	return s
}

func inode(info fs.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Ino
	}
	return 0
}

// begin records the certificates with which the gateway starts. Their files were read a
// moment ago and may have changed since, so the first check reads them again.
func (r *renewals) begin(g *Gateway, c *config.Config) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mail = renewal{setting: "tls", held: g.mailCert, pair: c.TLS}
	r.own = renewal{setting: "admin.tls", held: g.adminCert, pair: c.Admin.TLS}
	r.tell(g)
}

// reloaded puts the certificates of a new configuration into force.
func (r *renewals) reloaded(g *Gateway, c *config.Config) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, next := range []struct {
		of   *renewal
		pair config.KeyPair
		cert *config.Certificate
	}{{&r.mail, c.TLS, c.Certificate()}, {&r.own, c.Admin.TLS, c.AdminCertificate()}} {
		if next.of.held == nil || next.cert == nil {
			continue // a listener that begins or stops to use TLS needs a restart
		}
		next.of.pair, next.of.read = next.pair, stamp{}
		next.of.replace(g, next.cert)
	}
	r.tell(g)
}

// look puts certificates into force whose files have changed and then stayed unchanged
// from one check to the next: a renewal writes one file after the other.
func (r *renewals) look(g *Gateway) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range []*renewal{&r.mail, &r.own} {
		if one.held == nil {
			continue
		}
		now := stampOf(one.pair)
		settled := now == one.last
		one.last = now
		if now == one.read || !settled {
			continue
		}
		one.read = now
		next, err := config.ReadCertificate(one.setting, one.pair)
		if err != nil {
			one.wrong = err
			g.Log.Error("the files of the certificate have changed and cannot be used: the one from before stays in force",
				"setting", one.setting, "certificate", one.pair.Certificate, "key", one.pair.Key, "err", err)
		} else if !one.held.Same(next) || one.wrong != nil {
			one.replace(g, next)
			if one.wrong == nil {
				g.Log.Info("the certificate of the files is in force", "setting", one.setting, "certificate", one.pair.Certificate, "not_after", next.NotAfter().UTC())
			}
		}
	}
	r.tell(g)
}

// replace puts a certificate into force, except one that clients refuse in place of one
// that they accept.
func (r *renewal) replace(g *Gateway, next *config.Certificate) {
	now := time.Now()
	if err := next.Valid(now); err != nil && r.held.Valid(now) == nil {
		r.wrong = fmt.Errorf("`%s.certificate` %w", r.setting, err)
		g.Log.Error("the certificate from before stays in force, the new one would be refused by clients", "setting", r.setting+".certificate", "err", err)
		return
	}
	r.held.Replace(next)
	r.wrong = nil
}

// tell sets the metrics: when the certificates in force expire, and whether they are
// those in the files.
func (r *renewals) tell(g *Gateway) {
	var expires time.Time
	if r.own.held != nil {
		expires = r.own.held.NotAfter()
	}
	g.Metrics.CertificatesExpire(r.mail.held.NotAfter(), expires)
	g.Metrics.CertificatesRead(r.mail.wrong, r.own.wrong)
}

// watchCertificates checks the certificate files until ctx ends.
func (g *Gateway) watchCertificates(ctx context.Context) error {
	ticker := time.NewTicker(cmp.Or(g.renewals.every, renewalsEvery))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			g.renewals.look(g)
		}
	}
}
