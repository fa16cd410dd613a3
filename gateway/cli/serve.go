package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"congthu/auth"
	"congthu/gateway"
	"congthu/gateway/config"
	"congthu/gateway/heap"
	"congthu/gateway/smtp"
	"congthu/gateway/systemd"
	"congthu/metrics"
)

func newServeCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "serve -c FILE",
		Short: "Run the gateway",
		Long: `Run the gateway until SIGTERM or SIGINT: then it accepts nobody any more, lets
live sessions go on for drain_timeout, and ends.

SIGHUP reads the configuration again. A file with a mistake changes nothing.

Sockets that systemd passes (congthu.socket) are used in place of its own: new
clients then wait while the gateway is restarted, and are not refused.`,
		Example: "  congthu serve -c /etc/congthu/congthu.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(file)
			if err != nil {
				return badConfig(err)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			go heap.Default.Run(ctx)
			sockets, err := systemd.Sockets()
			if err != nil {
				return badConfig(err)
			}
			s := &server{
				log:       newLogger(cmd.ErrOrStderr(), c.Log),
				load:      func() (*config.Config, error) { return config.Load(file) },
				supervise: true,
			}
			for _, socket := range sockets {
				s.sockets = append(s.sockets, gateway.Socket(socket))
			}
			return s.run(ctx, c)
		},
	}
	configFlag(cmd, &file)
	return cmd
}

// server is a gateway in this process, with everything it needs.
type server struct {
	log  *slog.Logger
	load func() (*config.Config, error)
	// run calls prepare with the open store before anything listens.
	prepare func(ctx context.Context, store auth.Store, fingerprints auth.Fingerprinter) error
	// run calls ready when everything listens.
	ready func()
	// sockets are those that systemd has opened.
	sockets []gateway.Socket
	// gateway is the gateway that run serves. It is set when ready is called.
	gateway *gateway.Gateway
	// supervise turns on the notifications to systemd, if systemd started this process.
	supervise bool
}

// run opens the store and serves until ctx ends.
func (s *server) run(ctx context.Context, c *config.Config) (err error) {
	// An unhandled signal would end the process. One that arrives during the start is
	// kept for the gateway.
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	for _, w := range c.Warnings {
		s.log.Warn("configuration", "path", w.Path, "warning", w.Message, "fix", w.Fix)
	}
	ready := make(chan struct{})
	g := &gateway.Gateway{Log: s.log, Version: version(), Load: s.load, Sockets: s.sockets, Ready: func() {
		if s.ready != nil {
			s.ready()
		}
		close(ready)
	}}
	s.gateway = g
	for _, path := range []string{c.DataDir, filepath.Dir(c.Store.Path), filepath.Dir(c.Store.PepperFile)} {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return errorf("make the data directory: %w", err)
		}
	}
	registry := prometheus.NewRegistry()
	counts := observer{metrics.New(registry, metrics.Build{Version: version(), Revision: revision()}), registry}
	g.Metrics = counts
	closeStore, err := openStore(ctx, c, g, counts)
	if err != nil {
		return errorf("open the store: %w", err)
	}
	defer func() { err = errors.Join(err, closeStore()) }()
	if s.prepare != nil {
		if err := s.prepare(ctx, g.Store, g.Fingerprints); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	notify := supervision{s, g}
	supervised, unsupervise := context.WithCancel(context.WithoutCancel(ctx))
	defer unsupervise()
	done := make(chan struct{})
	if s.supervise {
		go notify.run(supervised, ctx.Done(), ready)
	}
	go func() {
		defer close(done)
		select {
		case <-ctx.Done():
			return
		case <-ready:
		}
		for {
			select {
			case <-ctx.Done():
				return
			case <-reload:
				notify.reloading()
				if err := g.Reload(); err != nil {
					tellMistakes(s.log, err)
				}
				notify.reloaded()
			}
		}
	}()
	err = g.Run(ctx, c)
	cancel()
	<-done
	return err
}

// tellMistakes logs one line for each mistake in a configuration that was to be
// reloaded. With one mistake at a time, the administrator would have to reload once for
// each.
func tellMistakes(log *slog.Logger, err error) {
	log.Error("configuration", "err", err)
	var mistakes *config.Error
	if !errors.As(err, &mistakes) {
		return
	}
	for i, p := range mistakes.Problems {
		log.Error("configuration", "mistake", fmt.Sprintf("%d of %d", i+1, len(mistakes.Problems)),
			"place", p.Place(), "path", p.Path, "err", p.Message, "fix", p.Fix)
	}
}

// newLogger returns the log as configured.
func newLogger(w io.Writer, l config.Log) *slog.Logger {
	options := &slog.HandlerOptions{Level: l.Level}
	if l.Format == config.LogText {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// observer adapts the metrics to the interfaces of the gateway and its parts.
type observer struct {
	*metrics.Metrics
	registry *prometheus.Registry
}

var _ gateway.Metrics = observer{}

// submissions maps the results of package smtp to those of package metrics.
var submissions = map[smtp.Result]metrics.Submission{
	smtp.Accepted:    metrics.SubmissionAccepted,
	smtp.Refused:     metrics.SubmissionRefused,
	smtp.NotYours:    metrics.SubmissionSenderRefused,
	smtp.WouldRefuse: metrics.SubmissionWouldRefuse,
	smtp.Malformed:   metrics.SubmissionRefused,
	smtp.TooLarge:    metrics.SubmissionRefused,
	smtp.Abandoned:   metrics.SubmissionAborted,
	smtp.ServerLost:  metrics.SubmissionFailed,
}

// Submitted implements smtp.Recorder.
func (o observer) Submitted(r smtp.Result) { o.Metrics.Submitted(submissions[r]) }

// AdminPanicked implements gateway.Metrics.
func (o observer) AdminPanicked() { o.Metrics.Panicked(metrics.ComponentAdmin) }

// Panicked implements imap.Recorder and smtp.Recorder.
func (o observer) Panicked(p auth.Protocol) {
	o.Metrics.Panicked(metrics.ComponentOf(p))
}

// CertificatesExpire implements gateway.Metrics.
func (o observer) CertificatesExpire(clients, admin time.Time) {
	o.CertificateExpires(metrics.CertificateClients, clients)
	if !admin.IsZero() {
		o.CertificateExpires(metrics.CertificateAdmin, admin)
	}
}

// CertificatesRead implements gateway.Metrics.
func (o observer) CertificatesRead(clients, admin error) {
	o.CertificateRead(metrics.CertificateClients, clients)
	o.CertificateRead(metrics.CertificateAdmin, admin)
}

// Watch implements gateway.Metrics.
func (o observer) Watch(waiting, sessions func() int) {
	o.SlotsWaiting(waiting)
	o.Sessions(sessions)
}

// Handler implements gateway.Metrics.
func (o observer) Handler() http.Handler {
	return promhttp.HandlerFor(o.registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
}
