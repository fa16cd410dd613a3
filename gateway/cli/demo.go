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
	"os"
	"os/signal"
	"path/filepath"
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

// demoSetup is what the demo's configuration is written from.
type demoSetup struct {
	Dir                                   string
	IMAP, IMAPS, Submission, Submissions  string
	Admin                                 string
	UpstreamIMAP, UpstreamSMTP, TokenHash string
	Domain, Token, Password, Previous     string
	Command                               string
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
		Short: "Show the gateway at work, with a mail server of its own (chạy thử)",
		Long: `Start a small mail server in memory, the gateway in front of it, and print what to
try. Everything listens on this machine only. Nothing but the program is needed.

With --dir the state is kept: certificate, accounts, failures and locks. The
mail server's messages are not.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return runDemo(ctx, cmd.OutOrStdout(), cmd.ErrOrStderr(), s, dir, verbose)
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", "", "keep the state in this `directory` (default: a new temporary one)")
	f.StringVar(&s.IMAP, "imap-address", "127.0.0.1:1143", "IMAP with STARTTLS listens on this `address`")
	f.StringVar(&s.IMAPS, "imaps-address", "127.0.0.1:1993", "IMAP over TLS listens on this `address`")
	f.StringVar(&s.Submission, "submission-address", "127.0.0.1:1587", "submission with STARTTLS listens on this `address`")
	f.StringVar(&s.Submissions, "submissions-address", "127.0.0.1:1465", "submission over TLS listens on this `address`")
	f.StringVar(&s.Admin, "admin-address", "127.0.0.1:8080", "the admin API and /metrics listen on this `address`")
	f.BoolVarP(&verbose, "verbose", "v", false, "print the gateway's log as well")
	return cmd
}

// demoFlags are the flags that move the listeners, by their settings.
var demoFlags = map[string]string{
	"imap.listen[0].address": "--imap-address",
	"imap.listen[1].address": "--imaps-address",
	"smtp.listen[0].address": "--submission-address",
	"smtp.listen[1].address": "--submissions-address",
	"admin.listen":           "--admin-address",
}

func runDemo(ctx context.Context, out, errOut io.Writer, s demoSetup, dir string, verbose bool) error {
	if dir == "" {
		temporary, err := os.MkdirTemp("", "congthu-demo-")
		if err != nil {
			return err
		}
		dir = temporary
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the demo's directory: %w", err)
	}
	s.Dir, s.Command = dir, "congthu"
	if self, err := os.Executable(); err == nil && strings.Contains(self, "go-build") {
		s.Command = "go run ."
	}
	if err := demoCertificate(dir); err != nil {
		return fmt.Errorf("make the demo's certificate: %w", err)
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
	s.UpstreamIMAP, s.UpstreamSMTP = imapListener.Addr().String(), smtpListener.Addr().String()

	group, ctx := errgroup.WithContext(ctx)
	ctx, cancel := context.WithCancel(ctx)
	group.Go(func() error { return mail.Serve(ctx, imapListener, smtpListener) })
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
			ready: func() { demoGuide.Execute(out, s) },
		}
		return movable(gate.run(ctx, c))
	})
	return group.Wait()
}

// movable adds the flag that moves a listener whose address is taken.
func movable(err error) error {
	var taken *gateway.ListenError
	if errors.As(err, &taken) && demoFlags[taken.Setting] != "" {
		return fmt.Errorf("%w\nmove it with %s HOST:PORT, or stop the other program", err, demoFlags[taken.Setting])
	}
	return err
}

// demoConfig writes the configuration of the demo, which is also an example of
// one, and reads it.
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

var demoYAML = template.Must(template.New("congthu.yaml").Parse(`# Written by "congthu demo" at each start: changes are lost.
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
rules:
  password: { change_text: "Doi mat khau tai https://matkhau.{{.Domain}} / Change it at https://matkhau.{{.Domain}}" }
# Everybody comes from one address here.
throttle: { enabled: false }
admin:
  listen: "{{.Admin}}"
  tokens:
    - { name: demo, sha256: "{{.TokenHash}}", scopes: [read, unlock, lock, restore, grace, sweep, audit] }
drain_timeout: 2s
`))

var demoGuide = template.Must(template.New("guide").Parse(`
congthu demo: a mail server in memory, and the gateway in front of it
               (máy chủ thư thử nghiệm, và cổng thư đứng trước nó)

  IMAP        {{.IMAP}} (STARTTLS)   {{.IMAPS}} (TLS)
  submission  {{.Submission}} (STARTTLS)   {{.Submissions}} (TLS)
  admin       http://{{.Admin}}   token: {{.Token}}
  state       {{.Dir}}

Accounts, all with the password {{.Password}}  (các tài khoản, cùng một mật khẩu)
  active@{{.Domain}}    can log in
  expiring@{{.Domain}}  is told that the password runs out
  expired@{{.Domain}}   password older than 3 months (Art. 9)
  dormant@{{.Domain}}   not logged in to for 13 months (Art. 5.3.c)
  locked@{{.Domain}}    6 wrong passwords (Art. 6.2.d)
  stale@{{.Domain}}     had the password {{.Previous}} before: a phone still tries it

Try, in another terminal  (thử, ở một cửa sổ khác):

  # log in and list folders
  curl -sS --cacert {{.Dir}}/cert.pem imaps://{{.IMAPS}}/ -u active@{{.Domain}}:{{.Password}}

  # send a mail, and read it back
  printf 'From: <active@{{.Domain}}>\r\nTo: <stale@{{.Domain}}>\r\nSubject: Xin chao\r\n\r\nChao ban.\r\n' |
    curl -sS --cacert {{.Dir}}/cert.pem smtps://{{.Submissions}} -u active@{{.Domain}}:{{.Password}} --mail-from active@{{.Domain}} --mail-rcpt stale@{{.Domain}} -T -
  curl -sS --cacert {{.Dir}}/cert.pem 'imaps://{{.IMAPS}}/INBOX;MAILINDEX=2' -u stale@{{.Domain}}:{{.Password}}

  # seven wrong passwords: the sixth locks, the seventh is told so
  for i in 1 2 3 4 5 6 7; do curl -sv --cacert {{.Dir}}/cert.pem imaps://{{.IMAPS}}/ -u active@{{.Domain}}:wrong$i 2>&1 | grep '^< A00.* NO'; done

  # why can somebody not log in?
  curl -sS -H 'Authorization: Bearer {{.Token}}' http://{{.Admin}}/api/v1/accounts/active@{{.Domain}}

  # unlock
  curl -sS -H 'Authorization: Bearer {{.Token}}' -H 'Content-Type: application/json' -d '{"reason":"called, identity checked"}' http://{{.Admin}}/api/v1/accounts/active@{{.Domain}}/unlock

  # the same on the command line
  {{.Command}} account show locked@{{.Domain}} --socket {{.Dir}}/admin.sock

  # what Prometheus sees
  curl -s http://{{.Admin}}/metrics | grep congthu_login_attempts_total | grep -v ' 0$'

Stop with Ctrl-C.
ready
`))

// demoCertificate makes cert.pem and key.pem, unless they are there and good for
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
