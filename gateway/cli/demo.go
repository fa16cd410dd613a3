package cli

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"congthu/auth"
	"congthu/gateway"
	"congthu/gateway/config"
	"congthu/gateway/demo"
)

// demoToken is the admin token of the demo, and of nothing else.
const demoToken = "demo"

// demoSetup holds the values for the demo's configuration.
type demoSetup struct {
	Dir                                   string
	IMAP, IMAPS, Submission, Submissions  string
	POP3, POP3S                           string
	Admin                                 string
	UpstreamIMAP, UpstreamSMTP, TokenHash string
	UpstreamPOP3                          string
	Domain, Token, Password, Previous     string
	Command                               string
	// Temporary says that the demo deletes the directory when it ends.
	Temporary bool
}

func newDemoCommand() *cobra.Command {
	s := demoSetup{
		Domain: demo.Domain, Token: demoToken, Password: demo.Password, Previous: demo.PreviousPassword,
		TokenHash: fmt.Sprintf("%x", sha256.Sum256([]byte(demoToken))),
	}
	var dir string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the gateway at work, with a mail server of its own",
		Long: `Start a small mail server in memory, the gateway in front of it, and print what to
try. Everything listens on this machine only. Nothing but the program is needed.

With --dir the state is kept: certificate, accounts, failures and locks. The
mail server's messages are not. Without it nothing is left behind.`,
		Example: "  congthu demo\n  congthu demo --dir /tmp/congthu-demo --admin-address 127.0.0.1:8081",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.checkAddresses(); err != nil {
				return usage(cmd, "%w", err)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return runDemo(ctx, cmd.OutOrStdout(), cmd.ErrOrStderr(), s, dir, verbose)
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", "", "keep the state in this `DIRECTORY` (default: a temporary one, removed at the end)")
	for _, a := range s.addresses() {
		f.StringVar(a.address, a.flag, a.preset, a.what+" on this `HOST:PORT`")
	}
	must(cmd.MarkFlagDirname("dir"))
	f.BoolVarP(&verbose, "verbose", "v", false, "print the gateway's log as well")
	return cmd
}

// demoAddress is a flag that moves a listener.
type demoAddress struct {
	address                     *string
	flag, setting, preset, what string
}

// addresses returns all flags that move listeners.
func (s *demoSetup) addresses() []demoAddress {
	return []demoAddress{
		{&s.IMAP, "imap-address", "imap.listen[0].address", "127.0.0.1:1143", "IMAP with STARTTLS listens"},
		{&s.IMAPS, "imaps-address", "imap.listen[1].address", "127.0.0.1:1993", "IMAP over TLS listens"},
		{&s.Submission, "submission-address", "smtp.listen[0].address", "127.0.0.1:1587", "submission with STARTTLS listens"},
		{&s.Submissions, "submissions-address", "smtp.listen[1].address", "127.0.0.1:1465", "submission over TLS listens"},
		{&s.POP3, "pop3-address", "pop3.listen[0].address", "127.0.0.1:1110", "POP3 with STLS listens"},
		{&s.POP3S, "pop3s-address", "pop3.listen[1].address", "127.0.0.1:1995", "POP3 over TLS listens"},
		{&s.Admin, "admin-address", "admin.listen", "127.0.0.1:8080", "the admin API and /metrics listen"},
	}
}

// checkAddresses checks these flags before a configuration is written from them: the
// user wrote a flag and no file, so the error must name the flag. The manual contains
// the demo's passwords and its token, so the demo must be unreachable from other
// machines.
func (s *demoSetup) checkAddresses() error {
	var mistakes []error
	wrong := func(a demoAddress, format string, args ...any) {
		mistakes = append(mistakes, fmt.Errorf("--%s %q: %s", a.flag, *a.address, fmt.Sprintf(tr(format), args...)))
	}
	taken := make(map[netip.AddrPort]string)
	for _, a := range s.addresses() {
		host, service, err := net.SplitHostPort(*a.address)
		if err != nil {
			wrong(a, "write HOST:PORT, such as %s", a.preset)
			continue
		}
		port, err := strconv.ParseUint(service, 10, 16)
		if err != nil || port == 0 {
			wrong(a, "write a port from 1 to 65535, as in %s", a.preset)
			continue
		}
		if host == "localhost" {
			host = "127.0.0.1"
		}
		ip, err := netip.ParseAddr(host)
		if err != nil || !ip.Unmap().IsLoopback() {
			wrong(a, "the passwords of the demo are published, so it listens on this machine only: write 127.0.0.1:%d", port)
			continue
		}
		at := netip.AddrPortFrom(ip.Unmap(), uint16(port))
		if other, again := taken[at]; again {
			wrong(a, "--%s has the same address: give one of them another port", other)
			continue
		}
		taken[at] = a.flag
	}
	return errors.Join(mistakes...)
}

func runDemo(ctx context.Context, out, errOut io.Writer, s demoSetup, dir string, verbose bool) (err error) {
	if dir == "" {
		if dir, err = os.MkdirTemp("", "congthu-demo-"); err != nil {
			return err
		}
		// The directory contains a private key.
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		s.Temporary = true
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return errorf("make the demo's directory: %w", err)
	}
	s.Dir, s.Command = dir, ownName
	if err := demoCertificate(dir); err != nil {
		return errorf("make the demo's certificate: %w", err)
	}

	log := slog.New(slog.DiscardHandler)
	if verbose {
		log = slog.New(slog.NewTextHandler(errOut, nil))
	}
	mail := &demo.MailServer{Passwords: make(map[string]string), Log: log}
	for _, address := range demo.Addresses() {
		mail.Passwords[address] = demo.Password
	}
	imapListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	smtpListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		imapListener.Close()
		return err
	}
	pop3Listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		imapListener.Close()
		smtpListener.Close()
		return err
	}
	s.UpstreamPOP3 = pop3Listener.Addr().String()
	s.UpstreamIMAP, s.UpstreamSMTP = imapListener.Addr().String(), smtpListener.Addr().String()

	guide := template.Must(template.New("guide").Parse(demoGuideIn(spoken())))
	group, ctx := errgroup.WithContext(ctx)
	ctx, cancel := context.WithCancel(ctx)
	group.Go(func() error { return mail.Serve(ctx, imapListener, smtpListener) })
	group.Go(func() error { return mail.ServePOP3(ctx, pop3Listener, s.UpstreamIMAP) })
	group.Go(func() error {
		defer cancel()
		file, c, err := demoConfig(dir, s)
		if err != nil {
			return err
		}
		gate := &server{
			log:  log,
			load: func() (*config.Config, error) { return config.Load(file) },
			prepare: func(ctx context.Context, store auth.Store, f auth.Fingerprinter) error {
				return demo.Seed(ctx, store, f, time.Now().UTC())
			},
			ready: func() { guide.Execute(out, s) },
		}
		return s.movable(gate.run(ctx, c))
	})
	return group.Wait()
}

// movable adds to the error the flags that move the listeners whose addresses are
// taken.
func (s *demoSetup) movable(err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if ok {
		var all []error
		for _, e := range joined.Unwrap() {
			all = append(all, s.movable(e))
		}
		return errors.Join(all...)
	}
	var taken *gateway.ListenError
	if errors.As(err, &taken) {
		for _, a := range s.addresses() {
			if a.setting == taken.Setting {
				return errorf("%w; move it with --%s HOST:PORT, or stop the other program", listening(err), a.flag)
			}
		}
	}
	return err
}

// demoConfig writes the configuration of the demo, which also serves as an example, and
// reads it.
func demoConfig(dir string, s demoSetup) (file string, c *config.Config, err error) {
	var text strings.Builder
	if err := demoYAML.Execute(&text, s); err != nil {
		return "", nil, err
	}
	file = filepath.Join(dir, "congthu.yaml")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		return "", nil, err
	}
	c, err = config.Load(file)
	return file, c, err
}

var demoYAML = template.Must(template.New("congthu.yaml").Parse(demoYAMLText))

const demoYAMLText = `# Written by "congthu demo" at each start: changes are lost.
domain: {{.Domain}}
hostname: localhost
data_dir: {{printf "%q" .Dir}}
tls: { certificate: cert.pem, key: key.pem }
imap:
  listen:
    - { address: "{{.IMAP}}", tls: starttls }
    - { address: "{{.IMAPS}}", tls: implicit }
  upstream: { address: "{{.UpstreamIMAP}}", tls: none }
smtp:
  listen:
    - { address: "{{.Submission}}", tls: starttls }
    - { address: "{{.Submissions}}", tls: implicit }
  upstream: { address: "{{.UpstreamSMTP}}", tls: none }
pop3:
  listen:
    - { address: "{{.POP3}}", tls: starttls }
    - { address: "{{.POP3S}}", tls: implicit }
  upstream: { address: "{{.UpstreamPOP3}}", tls: none }
rules:
  password: { change_url: "https://matkhau.{{.Domain}}" }
# Everybody comes from one address here.
throttle: { enabled: false }
admin:
  listen: "{{.Admin}}"
  tokens:
    - { name: demo, sha256: "{{.TokenHash}}", scopes: [read, unlock, lock, restore, grace, sweep, audit] }
drain_timeout: 2s
`

const demoGuideText = `
congthu demo: a mail server in memory, and the gateway in front of it

  IMAP        {{.IMAP}} (STARTTLS)   {{.IMAPS}} (TLS)
  submission  {{.Submission}} (STARTTLS)   {{.Submissions}} (TLS)
  POP3        {{.POP3}} (STLS)   {{.POP3S}} (TLS)
  admin       http://{{.Admin}}   token: {{.Token}}
  state       {{.Dir}}{{if .Temporary}}
              removed at the end; --dir DIRECTORY keeps it{{end}}

Accounts, all with the password {{.Password}}
  active@{{.Domain}}    can log in
  expiring@{{.Domain}}  is told that the password runs out
  expired@{{.Domain}}   password older than 3 months (Art. 9)
  dormant@{{.Domain}}   not logged in to for 13 months (Art. 5.3.c)
  locked@{{.Domain}}    6 wrong passwords (Art. 6.2.d)
  stale@{{.Domain}}     had the password {{.Previous}} before: a phone still tries it

Try, in another terminal:

  # log in and list folders
  curl -sS --cacert {{.Dir}}/cert.pem imaps://{{.IMAPS}}/ -u active@{{.Domain}}:{{.Password}}

  # send a mail, and read it back
  printf 'From: <active@{{.Domain}}>\r\nTo: <stale@{{.Domain}}>\r\nSubject: Xin chao\r\n\r\nXin chao quy vi.\r\n' |
    curl -sS --cacert {{.Dir}}/cert.pem smtps://{{.Submissions}} -u active@{{.Domain}}:{{.Password}} --mail-from active@{{.Domain}} --mail-rcpt stale@{{.Domain}} -T -
  curl -sS --cacert {{.Dir}}/cert.pem 'imaps://{{.IMAPS}}/INBOX;MAILINDEX=2' -u stale@{{.Domain}}:{{.Password}}

  # read it over POP3
  curl -sS --cacert {{.Dir}}/cert.pem pop3s://{{.POP3S}}/2 -u stale@{{.Domain}}:{{.Password}}

  # seven wrong passwords: the sixth locks, the seventh is told so
  for i in 1 2 3 4 5 6 7; do curl -sv --cacert {{.Dir}}/cert.pem imaps://{{.IMAPS}}/ -u active@{{.Domain}}:wrong$i 2>&1 | grep '^< A00.* NO'; done

  # why can somebody not log in?
  curl -sS -H 'Authorization: Bearer {{.Token}}' http://{{.Admin}}/api/v1/accounts/active@{{.Domain}}

  # unlock
  curl -sS -H 'Authorization: Bearer {{.Token}}' -H 'Content-Type: application/json' -d '{"reason":"called, identity checked"}' http://{{.Admin}}/api/v1/accounts/active@{{.Domain}}/unlock

  # the same on the command line
  {{.Command}} account show locked@{{.Domain}} --socket {{.Dir}}/admin.sock

  # a device with the password from before a change; an account not used for 12 months
  {{.Command}} account show stale@{{.Domain}} dormant@{{.Domain}} --socket {{.Dir}}/admin.sock

  # what Prometheus sees
  curl -s http://{{.Admin}}/metrics | grep congthu_login_attempts_total | grep -v ' 0$'

Ready. Stop with Ctrl-C.
ready
`

// demoCertificate creates cert.pem and key.pem, unless they exist and are valid for
// another day.
func demoCertificate(dir string) error {
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	switch {
	case err == nil && time.Until(pair.Leaf.NotAfter) > 24*time.Hour:
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	cert, key, err := demo.Certificate(time.Now())
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(keyFile, key, 0o600), os.WriteFile(certFile, cert, 0o644))
}
