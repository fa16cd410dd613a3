package realtest

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// PostfixServer is a running Postfix that accepts submissions from the accounts of a
// Dovecot and delivers to them.
type PostfixServer struct {
	Submission, Submissions int // ports on 127.0.0.1: STARTTLS, implicit TLS
	Proxied, ProxiedS       int // the same, behind a PROXY header
	Log                     string
	Dir                     string

	process *Process
}

var sharedPostfix struct {
	sync.Mutex
	server *PostfixServer
}

// Postfix returns the Postfix that all tests of the run share, in front of the
// shared Dovecot.
func Postfix(t testing.TB) *PostfixServer {
	t.Helper()
	d := Dovecot(t)
	sharedPostfix.Lock()
	defer sharedPostfix.Unlock()
	if sharedPostfix.server == nil {
		p := startPostfix(t, d, "")
		atEnd(p.Stop)
		sharedPostfix.server = p
	}
	tailOnFailure(t, sharedPostfix.server.Log)
	return sharedPostfix.server
}

// OwnPostfix starts a Postfix for one test, which may stop it.
func OwnPostfix(t testing.TB, d *DovecotServer) *PostfixServer {
	t.Helper()
	return OwnPostfixWith(t, d, "")
}

// OwnPostfixWith is OwnPostfix with further lines of main.cf.
func OwnPostfixWith(t testing.TB, d *DovecotServer, settings string) *PostfixServer {
	t.Helper()
	p := startPostfix(t, d, settings)
	t.Cleanup(p.Stop)
	tailOnFailure(t, p.Log)
	return p
}

// masterCf is Debian's file without chroot, with the two submission services that
// Debian's file proposes, on ports of our own; and both again behind a PROXY header,
// which these ports accept from every client. Only the last of them accepts IPv6
// clients.
const masterCf = `
127.0.0.1:%[1]d inet n - n - - smtpd
  -o syslog_name=postfix/submission
  -o smtpd_tls_security_level=encrypt
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_tls_auth_only=yes
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
127.0.0.1:%[2]d inet n - n - - smtpd
  -o syslog_name=postfix/submissions
  -o smtpd_tls_wrappermode=yes
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
127.0.0.1:%[3]d inet n - n - - smtpd
  -o syslog_name=postfix/submission
  -o smtpd_upstream_proxy_protocol=haproxy
  -o smtpd_tls_security_level=encrypt
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_tls_auth_only=yes
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
127.0.0.1:%[4]d inet n - n - - smtpd
  -o syslog_name=postfix/submissions
  -o inet_protocols=all
  -o smtpd_upstream_proxy_protocol=haproxy
  -o smtpd_tls_wrappermode=yes
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
pickup    unix  n       -       n       60      1       pickup
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
tlsmgr    unix  -       -       n       1000?   1       tlsmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
verify    unix  -       -       n       -       1       verify
flush     unix  n       -       n       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
showq     unix  n       -       n       -       -       showq
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
lmtp      unix  -       -       n       -       -       lmtp
anvil     unix  -       -       n       -       1       anvil
scache    unix  -       -       n       -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
`

func startPostfix(t testing.TB, d *DovecotServer, settings string) *PostfixServer {
	t.Helper()
	need(t)
	dir := newDir(t, "p")
	p := &PostfixServer{
		Submission: freePort(t), Submissions: freePort(t), Proxied: freePort(t), ProxiedS: freePort(t),
		Log: filepath.Join(dir, "mail.log"), Dir: dir,
	}
	cert, key := TheAuthority(t).Issue(t, filepath.Base(dir))
	var mailboxes strings.Builder
	for i := range accounts {
		fmt.Fprintf(&mailboxes, "%s x\n", accountName(i))
	}
	writeFile(t, filepath.Join(dir, "etc/mailboxes"), mailboxes.String(), 0o644)
	writeFile(t, filepath.Join(dir, "etc/master.cf"), fmt.Sprintf(masterCf, p.Submission, p.Submissions, p.Proxied, p.ProxiedS), 0o644)
	writeFile(t, filepath.Join(dir, "etc/main.cf"), fmt.Sprintf(`
compatibility_level = 3.6
queue_directory = %[1]s/spool
data_directory = %[1]s/data
maillog_file = %[2]s
maillog_file_prefixes = %[1]s
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mail.%[3]s
mydestination =
virtual_mailbox_domains = %[3]s
virtual_mailbox_maps = texthash:%[1]s/etc/mailboxes
virtual_transport = lmtp:inet:127.0.0.1:%[4]d
# Nothing leaves this machine.
default_transport = error:no mail leaves the test
relay_transport = error:no mail leaves the test
smtpd_tls_cert_file = %[5]s
smtpd_tls_key_file = %[6]s
smtpd_tls_security_level = may
smtpd_sasl_type = dovecot
smtpd_sasl_path = %[7]s

# Its smtpd does not start while Dovecot, whom it asks for passwords, is down.
# Then master waits, for a minute by default, before it tries another: nothing
# that a test wants to wait for.
service_throttle_time = 1s

# Trust the gateway to say who the client is.
smtpd_authorized_xclient_hosts = 127.0.0.0/8
%[8]s
`, dir, p.Log, Domain, d.LMTP, cert, key, d.AuthSocket, settings), 0o644)
	// Postfix looks for dynamicmaps.cf beside main.cf; its types are not used.
	writeFile(t, filepath.Join(dir, "etc/dynamicmaps.cf"), "", 0o644)
	makeQueue(t, dir)
	p.Start(t)
	return p
}

// makeQueue creates the queue and data directories like the postfix command, which this
// run does not use, because it checks the whole system.
func makeQueue(t testing.TB, dir string) {
	t.Helper()
	owner, err := user.Lookup("postfix")
	if err != nil {
		t.Fatal(err)
	}
	drop, err := user.LookupGroup("postdrop")
	if err != nil {
		t.Fatal(err)
	}
	uid, gid := id(t, owner.Uid), id(t, drop.Gid)
	mkdir := func(path string, mode os.FileMode, uid, gid int) {
		t.Helper()
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, uid, gid); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	mkdir("spool", 0o755, 0, 0)
	mkdir("spool/pid", 0o755, 0, 0)
	mkdir("data", 0o700, uid, 0)
	for _, queue := range []string{"active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace"} {
		mkdir("spool/"+queue, 0o700, uid, 0)
	}
	mkdir("spool/maildrop", 0o730|os.ModeSticky, uid, gid)
	mkdir("spool/public", 0o710|os.ModeSetgid, uid, gid)
}

func id(t testing.TB, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Start starts the server again after a Stop, with the same queue and the same ports.
func (p *PostfixServer) Start(t testing.TB) {
	t.Helper()
	p.process = start(t, "postfix", p.Log, "/usr/lib/postfix/sbin/master", "-c", filepath.Join(p.Dir, "etc"), "-d")
	awaitListener(t, p.process, p.Submission)
	awaitListener(t, p.process, p.Submissions)
	awaitListener(t, p.process, p.Proxied)
	awaitListener(t, p.process, p.ProxiedS)
}

// Stop stops the server.
func (p *PostfixServer) Stop() { p.process.Stop() }

// LogHas reports whether a line of the log has all the parts.
func (p *PostfixServer) LogHas(parts ...string) bool { return lineHas(readFrom(p.Log, 0), parts...) }

// Settle waits until no message is in transit: all messages that Postfix accepted are
// then delivered or bounced.
func (p *PostfixServer) Settle(t testing.TB) {
	t.Helper()
	var left []string
	t.Cleanup(func() {
		if t.Failed() && len(left) > 0 {
			t.Logf("left in Postfix's queue: %q", left)
		}
	})
	Eventually(t, "Postfix's queue to empty", func() bool {
		left = nil
		for _, queue := range []string{"incoming", "active", "maildrop", "deferred"} {
			entries, err := os.ReadDir(filepath.Join(p.Dir, "spool", queue))
			if err != nil {
				t.Fatal(err)
			}
			for _, entry := range entries {
				if entry.Type().IsRegular() {
					left = append(left, queue+"/"+entry.Name())
				}
			}
		}
		return len(left) == 0
	})
}
