package cli

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"congthu/auth"
	"congthu/auth/throttle"
	"congthu/gateway/config"
	"congthu/gateway/upstream"
)

func newCheckCommand() *cobra.Command {
	var file, account, passwordFile string
	cmd := &cobra.Command{
		Use:   "check -c FILE",
		Short: "Check the configuration, the mail servers and the database behind it",
		Long: `Check the whole configuration, connect to the mail servers and to the database, if
there is one, and say what was found; also which names in the store mean other
accounts now, and which have letters that names.unicode does not allow.
Nothing is changed. Each address to listen on is tried for a moment.

With --account one right and one wrong password are tried at each mail server,
and how its replies are understood is printed: do this once for every new mail
server, since whether a reply counts as a wrong password decides who is locked.`,
		Example: "  congthu check -c /etc/congthu/congthu.yaml\n  congthu check -c /etc/congthu/congthu.yaml --account lan@example.gov.vn",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(file)
			if err != nil {
				return badConfig(err)
			}
			k := &check{out: cmd.OutOrStdout(), config: c}
			k.say("ok", "configuration", trf("%s: domain %s, profile %s", c.File, c.Domain, c.Profile))
			for _, w := range c.Warnings {
				if spoken() == vietnamese {
					w = w.InVietnamese()
				}
				k.say("warning", w.Path, w.Message)
			}
			k.certificate(tr("certificate"), c.Certificate())
			if cert := c.AdminCertificate(); cert != nil {
				k.certificate(tr("admin cert."), cert)
			}
			k.knownNetworks()
			k.directories()
			k.addresses()
			k.store(cmd.Context())
			k.names(cmd.Context())
			for _, p := range auth.Protocols() {
				k.mailServer(cmd.Context(), p)
			}
			if account != "" {
				password, err := readPassword(cmd, account, passwordFile)
				if err != nil {
					return err
				}
				if err := k.judge(cmd.Context(), account, password); err != nil {
					return err
				}
			}
			if k.failed {
				return errorf("not everything is in order: see the lines marked failed")
			}
			return nil
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&account, "account", "", "try a right and a wrong password of this `ADDRESS` at the mail servers")
	cmd.Flags().StringVar(&passwordFile, "password-file", "", "read the right password from this `FILE` instead of asking for it")
	return cmd
}

// check prints its findings, one line each.
type check struct {
	out    io.Writer
	config *config.Config
	failed bool
	// away holds the servers that cannot be used; check tries no password there.
	away map[auth.Protocol]bool
	// silence replaces the constant in tests.
	silence time.Duration
}

func (k *check) say(result, what, found string) {
	k.failed = k.failed || result == "failed"
	fmt.Fprintf(k.out, "%-8s %-14s %s\n", tr(result), tr(what), quotingTheDatabase(tr(found)))
}

// certificate reports a certificate that clients refuse. The gateway starts with it all
// the same.
func (k *check) certificate(what string, cert *config.Certificate) {
	if err := cert.Valid(time.Now()); err != nil {
		k.say("failed", what, err.Error())
		return
	}
	k.say("ok", what, trf("runs out on %s", day(cert.NotAfter().Local())))
}

// knownNetworks prints the networks that are configured as offices, and how their
// limits differ.
func (k *check) knownNetworks() {
	known := k.config.Throttle.Known()
	if len(known) == 0 {
		return
	}
	var networks []string
	for _, n := range known {
		networks = append(networks, n.String())
	}
	without, with := k.config.Rules().Lockout.WithoutGrant()
	more := tr("what locks it, and how many accounts a source can lock, is the same")
	if k.config.Rules().Lockout.Mode != auth.Enforce {
		more = trf("while rules.lockout does not lock, a source has %d times the room", throttle.KnownNetworkTimes)
	}
	k.say("ok", "known networks", trf("%s: an account that was not logged in to from there may have %d wrong passwords before a source there needs room for it, elsewhere %d; %s",
		strings.Join(networks, ", "), with, without, more))
}

func (k *check) imap(ctx context.Context, server *upstream.Server) {
	var caps imap.CapSet
	probe := func(ctx context.Context, to *upstream.Server) error {
		found, err := to.ProbeIMAP(ctx)
		if to == server {
			caps = found
		}
		return err
	}
	if err := k.ask(ctx, server, probe); err != nil {
		k.unusable(ctx, auth.IMAP, k.config.IMAP.Upstream, server, err, probe)
		return
	}
	names := slices.Sorted(maps.Keys(caps))
	k.say("ok", "imap", trf("%s answers: %s", server.Address, strings.Trim(fmt.Sprint(names), "[]")))
	if server.PassClient == upstream.PassNone {
		k.say("warning", "imap", "the mail server sees one address for everybody: Dovecot allows 10 connections per user and address, and slows addresses down after wrong passwords. "+
			"Set login_trusted_networks there to this machine and imap.upstream.pass_client: id here")
	} else if server.PassClient == upstream.PassID && !caps.Has(imap.CapID) {
		k.say("warning", "imap", "pass_client is id, but the mail server does not offer ID: it will see one address for everybody")
	} else if likeDovecot(caps) {
		// check cannot see from here whether the setting is on; it is on by default.
		knows := tr("which is told the clients' addresses; whether it believes them cannot be seen from here: log in once, and where rip= in its log is this machine add that to login_trusted_networks. When it does,")
		if server.PassClient == upstream.PassPROXY {
			knows = tr("which knows the clients' addresses from the PROXY header:")
		}
		k.say("warning", "imap", trf("this looks like Dovecot, %s after wrong passwords it delays every login from such an address by up to 15 s, "+
			"the right ones too, so that colleagues behind one office's address wait for one who mistypes, and Postfix, which asks Dovecot, gives up after 10 s with 454. "+
			"The gateway's throttle does that work: switch it off there, unless you have, with: "+
			"service anvil { unix_listener anvil-auth-penalty { mode = 0 } } (see deploy/guide/dovecot-postfix.md)", knows))
	}
}

// header tries a server that failed the other way: with a PROXY header if it was probed
// without one, and the reverse. It returns what to do, or "". The caller must not use
// the server afterwards.
func (k *check) header(ctx context.Context, p auth.Protocol, server *upstream.Server, why error, probe probe) string {
	var failed *net.OpError
	if errors.As(why, &failed) && failed.Op == "dial" {
		return "" // nothing listens there
	}
	setting, own, setup := p.String()+".upstream.pass_client", protocolChecks[p].own, protocolChecks[p].header()
	if server.PassClient == upstream.PassPROXY {
		server.PassClient = upstream.PassNone
		if probe(ctx, server) == nil {
			return trf(". Without a PROXY header it answers: it does not expect one at this port. Set it up to (%s), or write %s: %s", setup, setting, own)
		}
		return trf(". It does not answer without a PROXY header either: see whether it takes one from here (%s)", setup)
	}
	server.PassClient = upstream.PassPROXY
	if probe(ctx, server) == nil {
		return trf(". With a PROXY header it answers: it expects one at this port. Write %s: proxy, or the address of a port without", setting)
	}
	return ""
}

// likeDovecot guesses from a capability (RFC 2221) that Dovecot offers before login and
// hardly any other server offers. The greeting and the ID reply are no evidence: both
// are configurable.
func likeDovecot(caps imap.CapSet) bool { return caps.Has("LOGIN-REFERRALS") }

func (k *check) smtp(ctx context.Context, server *upstream.Server) {
	var ext upstream.Extensions
	probe := func(ctx context.Context, to *upstream.Server) error {
		found, err := to.ProbeSMTP(ctx)
		if to == server {
			ext = found
		}
		return err
	}
	if err := k.ask(ctx, server, probe); err != nil {
		k.unusable(ctx, auth.SMTP, k.config.SMTP.Upstream, server, err, probe)
		return
	}
	var names []string
	for name, parameters := range ext {
		names = append(names, strings.TrimSpace(name+" "+parameters))
	}
	slices.Sort(names)
	k.say("ok", "smtp", trf("%s answers: %s", server.Address, strings.Join(names, ", ")))
	if server.PassClient == upstream.PassPROXY {
		if _, err := server.ProbeSMTPFor(ctx, anIPv6Client); err != nil {
			k.say("warning", "smtp", trf("the mail server turns clients with an IPv6 address away, of whom it learns from the PROXY header: set inet_protocols = all there (%v)", err))
		}
	} else if server.PassClient == upstream.PassNone {
		k.say("warning", "smtp", "the mail server sees one address for everybody: Postfix allows 50 connections per client. "+
			"Set smtpd_authorized_xclient_hosts there to this machine and smtp.upstream.pass_client: xclient here")
	} else if !ext.Has("XCLIENT") {
		k.say("warning", "smtp", "pass_client is xclient, but the mail server does not offer XCLIENT to this machine: it will see one address for everybody. "+
			"Set smtpd_authorized_xclient_hosts there to this machine")
	}
}

// anIPv6Client is a documentation address (RFC 3849): no real client has it.
var anIPv6Client = upstream.Client{Address: netip.MustParseAddrPort("[2001:db8::1]:40000")}

// judge tries one right and one wrong password on each mail server.
func (k *check) judge(ctx context.Context, account string, password auth.Secret) error {
	name, err := k.config.Namer().Canonical(account)
	if err != nil {
		return fmt.Errorf("--account: %w", err)
	}
	// This is no user's password, and no word list contains it.
	wrong := auth.NewSecret("congthu-check-" + rand.Text())
	for _, try := range []struct {
		what     string
		password auth.Secret
		want     auth.Judgement
	}{{tr("right password"), password, auth.JudgedRight}, {tr("wrong password"), wrong, auth.JudgedWrong}} {
		for _, p := range auth.Protocols() {
			answer, served := k.login(ctx, p, name, try.password)
			if !served {
				continue // or cannot be used, which is reported already
			}
			result, found := "ok", trf("%s: understood as %q", try.what, judged(answer.Judgement))
			if answer.Err != nil {
				found += fmt.Sprintf(" (%v)", answer.Err)
			}
			if answer.Judgement != try.want {
				result = "failed"
				found += "; " + k.mistaken(p, name, try.want, answer.Judgement)
			}
			k.say(result, p.String(), found)
		}
	}
	return nil
}

// mistaken says what to look at when a password was not judged as expected, the
// likeliest cause first. It suggests patterns only where they help: a server that
// cannot verify passwords needs none.
func (k *check) mistaken(p auth.Protocol, name auth.Name, want, got auth.Judgement) string {
	patterns := trf("see %s.upstream.wrong and not_wrong (%s)", p, k.config.Where(p.String()+".upstream"))
	expected := trf("expected %q", judged(want))
	switch {
	case got == auth.Unreached || got == auth.InDoubt:
		return trf("%s: try again, and see whether the mail server and what it asks for passwords are in order; if it always answers so, %s", expected, patterns)
	case want == auth.JudgedRight:
		login := string(name)
		if k.config.Mail(p).Upstream.LoginName == config.LoginLocal {
			login = name.Local()
		}
		return trf("%s: the password may be mistyped, so enter it again, or try it at the mail server; the name was given to it as %s (%s.upstream.login_name), and the account must be one that may log in there",
			expected, login, p)
	}
	return expected + ": " + patterns
}

// judged returns the meaning of a judgement in words.
func judged(j auth.Judgement) string {
	return map[auth.Judgement]string{
		auth.Unreached:        tr("no verdict, not counted"),
		auth.JudgedRight:      tr("right"),
		auth.JudgedWrong:      tr("wrong, counted"),
		auth.RefusedOtherwise: tr("refused for another reason, not counted"),
		auth.InDoubt:          tr("no answer after the password was sent"),
	}[j]
}

// readPassword asks for a password without showing it.
func readPassword(cmd *cobra.Command, account, file string) (auth.Secret, error) {
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return auth.Secret{}, fmt.Errorf("--password-file: %w", err)
		}
		return auth.NewSecret(strings.TrimRight(string(text), "\r\n")), nil
	}
	if stdin, ok := cmd.InOrStdin().(*os.File); ok && term.IsTerminal(int(stdin.Fd())) {
		say(cmd.ErrOrStderr(), "Password of %s: ", account)
		text, err := term.ReadPassword(int(stdin.Fd()))
		fmt.Fprintln(cmd.ErrOrStderr())
		return auth.NewSecret(string(text)), err
	}
	line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return auth.Secret{}, errorf("read the password: %w", err)
	}
	return auth.NewSecret(strings.TrimRight(line, "\r\n")), nil
}
