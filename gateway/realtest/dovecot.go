package realtest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Domain is the domain of all accounts.
const Domain = "congthu.test"

// Password is the password of all accounts.
const Password = "Mat-khau-1"

// accounts is the number of accounts; each test uses new ones.
const accounts = 500

// mailUID owns the mailboxes. It needs no entry in /etc/passwd, and must not be
// below Dovecot's first_valid_uid (500).
const mailUID = 5900

// DovecotServer is a running Dovecot: IMAP for the accounts, LMTP for Postfix
// to deliver to, and the authentication socket that Postfix asks.
type DovecotServer struct {
	IMAP, IMAPS, LMTP int    // ports on 127.0.0.1; IMAP has STARTTLS
	POP3, POP3S       int    // POP3 has STLS
	Proxied, ProxiedS int    // like IMAP and IMAPS, behind a PROXY header
	AuthSocket        string // Dovecot's authentication protocol, for Postfix
	Log               string
	Dir               string

	editing sync.Mutex // of the users file
	next    atomic.Int64
	process *Process
}

var sharedDovecot struct {
	sync.Mutex
	server *DovecotServer
}

// Dovecot returns the Dovecot that all tests of the run share. The first call starts
// it.
func Dovecot(t testing.TB) *DovecotServer {
	t.Helper()
	sharedDovecot.Lock()
	defer sharedDovecot.Unlock()
	if sharedDovecot.server == nil {
		d := startDovecot(t)
		atEnd(d.Stop)
		sharedDovecot.server = d
	}
	tailOnFailure(t, sharedDovecot.server.Log)
	return sharedDovecot.server
}

// OwnDovecot starts a Dovecot for one test, which may stop it.
func OwnDovecot(t testing.TB) *DovecotServer {
	t.Helper()
	d := startDovecot(t)
	t.Cleanup(d.Stop)
	tailOnFailure(t, d.Log)
	return d
}

func startDovecot(t testing.TB) *DovecotServer {
	t.Helper()
	need(t)
	dir := newDir(t, "d")
	d := &DovecotServer{
		IMAP: freePort(t), IMAPS: freePort(t), LMTP: freePort(t), POP3: freePort(t), POP3S: freePort(t), Proxied: freePort(t), ProxiedS: freePort(t),
		AuthSocket: filepath.Join(dir, "auth"), Log: filepath.Join(dir, "dovecot.log"), Dir: dir,
	}
	var users strings.Builder
	for i := range accounts {
		fmt.Fprintf(&users, "%s:{PLAIN}%s::::::\n", accountName(i), Password)
	}
	writeFile(t, filepath.Join(dir, "users"), users.String(), 0o644)
	mail := filepath.Join(dir, "mail")
	if err := os.Mkdir(mail, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(mail, mailUID, mailUID); err != nil {
		t.Fatal(err)
	}
	cert, key := TheAuthority(t).Issue(t, filepath.Base(dir))
	writeFile(t, filepath.Join(dir, "dovecot.conf"), fmt.Sprintf(`
base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = %[2]s
auth_verbose = yes
auth_debug = yes
protocols = imap pop3 lmtp
listen = 127.0.0.1
ssl = yes
ssl_cert = <%[3]s
ssl_key = <%[4]s
auth_mechanisms = plain login

# Trust the gateway to say who the client is (ID x-originating-ip).
login_trusted_networks = 127.0.0.0/8
# And, at the ports for it, in a PROXY header.
haproxy_trusted_networks = 127.0.0.0/8

passdb {
  driver = passwd-file
  args = username_format=%%u %[1]s/users
}
userdb {
  driver = static
  args = uid=%[5]d gid=%[5]d home=%[1]s/mail/%%u
}
mail_location = maildir:~/Maildir
mail_plugins = zlib
protocol imap {
  mail_plugins = zlib imap_zlib
}
namespace inbox {
  inbox = yes
}
service imap-login {
  inet_listener imap {
    port = %[6]d
  }
  inet_listener imaps {
    port = %[7]d
    ssl = yes
  }
  inet_listener imap-proxied {
    port = %[10]d
    haproxy = yes
  }
  inet_listener imaps-proxied {
    port = %[11]d
    ssl = yes
    haproxy = yes
  }
}
service pop3-login {
  inet_listener pop3 {
    port = %[12]d
  }
  inet_listener pop3s {
    port = %[13]d
    ssl = yes
  }
}
service lmtp {
  inet_listener lmtp {
    port = %[8]d
  }
}
service auth {
  unix_listener %[9]s {
    mode = 0666
  }
}
`, dir, d.Log, cert, key, mailUID, d.IMAP, d.IMAPS, d.LMTP, d.AuthSocket, d.Proxied, d.ProxiedS, d.POP3, d.POP3S), 0o644)
	d.Start(t)
	return d
}

// Start starts the server again after a Stop, with the same mail and the same ports.
func (d *DovecotServer) Start(t testing.TB) {
	t.Helper()
	d.process = start(t, "dovecot", d.Log, "/usr/sbin/dovecot", "-F", "-c", filepath.Join(d.Dir, "dovecot.conf"))
	awaitListener(t, d.process, d.IMAP)
	awaitListener(t, d.process, d.IMAPS)
	awaitListener(t, d.process, d.LMTP)
	awaitListener(t, d.process, d.POP3)
	awaitListener(t, d.process, d.POP3S)
	awaitListener(t, d.process, d.Proxied)
	awaitListener(t, d.process, d.ProxiedS)
}

// Stop stops the server.
func (d *DovecotServer) Stop() { d.process.Stop() }

// accountName returns the name of the i-th account.
func accountName(i int) string { return fmt.Sprintf("u%03d@%s", i, Domain) }

// Account returns the address of an account that no other test uses.
func (d *DovecotServer) Account(t testing.TB) string {
	t.Helper()
	i := d.next.Add(1)
	if i >= accounts {
		t.Fatalf("all %d accounts are in use: raise the constant", accounts)
	}
	return accountName(int(i))
}

var judged = regexp.MustCompile(`auth: (?:Info: )?[a-z-]+\(([^,)]*)[^)]*\): (Password mismatch|unknown user)`)

// Verdicts returns how many times Dovecot judged the credentials of user to be wrong,
// by its log; "" means all users.
func (d *DovecotServer) Verdicts(user string) (wrong int) {
	for _, m := range judged.FindAllStringSubmatch(readFrom(d.Log, 0), -1) {
		if user == "" || m[1] == user {
			wrong++
		}
	}
	return wrong
}

// Judged returns how many times Dovecot looked the user up to judge a password, right
// or wrong.
func (d *DovecotServer) Judged(user string) int {
	return strings.Count(readFrom(d.Log, 0), "passwd-file("+user+",")
}

// LogHas reports whether a line of the log has all the parts.
func (d *DovecotServer) LogHas(parts ...string) bool { return lineHas(readFrom(d.Log, 0), parts...) }

func lineHas(text string, parts ...string) bool {
lines:
	for line := range strings.Lines(text) {
		for _, part := range parts {
			if !strings.Contains(line, part) {
				continue lines
			}
		}
		return true
	}
	return false
}

// Delivered returns the messages in the INBOX of user, in the order of their file
// names, as read from the disk.
func (d *DovecotServer) Delivered(t testing.TB, user string) (messages []string) {
	t.Helper()
	for _, sub := range []string{"new", "cur"} {
		files, err := filepath.Glob(filepath.Join(d.Dir, "mail", user, "Maildir", sub, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			messages = append(messages, string(text))
		}
	}
	return messages
}

// SetPassword changes the password of an account, as a password portal would.
func (d *DovecotServer) SetPassword(t testing.TB, user, password string) {
	t.Helper()
	d.editing.Lock()
	defer d.editing.Unlock()
	path := filepath.Join(d.Dir, "users")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(user) + `:.*$`)
	text := line.ReplaceAllLiteralString(string(old), user+":{PLAIN}"+password+"::::::")
	writeFile(t, path+".new", text, 0o644)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	// Dovecot checks for a changed file once a second at most.
	time.Sleep(1100 * time.Millisecond)
}
