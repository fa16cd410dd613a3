package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// packages are the Debian packages that a run needs, each with a file that shows that it
// is installed.
var packages = []struct{ name, file string }{
	{"dovecot-imapd", "/usr/lib/dovecot/imap"},
	{"dovecot-submissiond", "/usr/lib/dovecot/submission-login"},
	{"haproxy", "/usr/sbin/haproxy"},
	{"nginx", "/usr/sbin/nginx"},
	{"libnginx-mod-mail", "/usr/lib/nginx/modules/ngx_mail_module.so"},
}

// The peers, in the order of the table.
const (
	direct       = "direct"
	haproxy      = "HAProxy"
	nginx        = "nginx mail"
	dovecotProxy = "Dovecot proxy"
	bareRelay    = "bare Go relay"
	ours         = "congthu"
	oursWriting  = "congthu, a write each login"
	beside       = "congthu beside" // the program of -beside
)

var allPeers = []string{direct, haproxy, nginx, dovecotProxy, bareRelay, ours, oursWriting, beside}

// protocol is the protocol of a proxy; a server answers at once and does nothing, in
// each.
type protocol string

const (
	imap protocol = "imap"
	smtp protocol = "smtp"
)

// instance is a proxy in front of one mail server.
type instance struct {
	peer string
	port int // TLS
	// process is nil for direct. helper is a process that the proxy needs and that is not
	// part of it.
	process, helper *process
}

func (i *instance) stop() {
	for _, p := range []*process{i.process, i.helper} {
		if p != nil {
			p.stop()
		}
	}
}

// rig is the data that all instances share.
type rig struct {
	dir             string
	self            string // the programs
	congthu, beside string
	cert, key, both string // the files of the certificate
	started         int
}

// program returns the congthu program of a peer.
func (r *rig) program(peer string) string {
	if peer == beside {
		return r.beside
	}
	return r.congthu
}

func write(path, text string) error { return os.WriteFile(path, []byte(text), 0o644) }

// start starts a peer in front of the plain port of a mail server; tlsPort is the
// server's own port with TLS.
func (r *rig) start(peer string, speaks protocol, plainPort, tlsPort int) (*instance, error) {
	if peer == direct {
		return &instance{peer: peer, port: tlsPort}, nil
	}
	r.started++
	dir := filepath.Join(r.dir, strconv.Itoa(r.started))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	i := &instance{peer: peer, port: freePort()}
	var argv []string
	config := filepath.Join(dir, "config")
	var text string
	switch peer {
	case haproxy:
		text = fmt.Sprintf(haproxyConfig, i.port, r.both, plainPort)
		argv = []string{"/usr/sbin/haproxy", "-db", "-f", config}
	case nginx:
		responder := freePort()
		var err error
		if i.helper, err = launch(dir, "responder", r.self, "responder", strconv.Itoa(responder)); err == nil {
			err = i.helper.awaitPort(responder)
		}
		if err != nil {
			return i, err
		}
		text = fmt.Sprintf(nginxConfig, dir, r.cert, r.key, i.port, responder, plainPort, speaks)
		argv = []string{"/usr/sbin/nginx", "-c", config, "-p", dir, "-e", filepath.Join(dir, "error.log")}
	case dovecotProxy:
		text = fmt.Sprintf(dovecotCommon, dir, filepath.Join(dir, "dovecot.log"), r.cert, r.key, dovecotName(speaks)) +
			fmt.Sprintf(dovecotProxyConfig, plainPort, i.port, dovecotName(speaks))
		argv = []string{"/usr/sbin/dovecot", "-F", "-c", config}
	case bareRelay:
		argv = []string{r.self, "relay", r.cert, r.key, strconv.Itoa(i.port), strconv.Itoa(plainPort)}
	case ours, oursWriting, beside:
		window := "1h"
		if peer == oursWriting {
			window = "0s"
		}
		doors := map[protocol]string{imap: congthuIMAP, smtp: congthuSMTP}[speaks]
		text = fmt.Sprintf(congthuConfig, domain, dir, r.cert, r.key, fmt.Sprintf(doors, i.port, plainPort), window)
		argv = []string{r.program(peer), "serve", "-c", config}
	default:
		return nil, fmt.Errorf("there is no peer %q", peer)
	}
	if err := write(config, text); err != nil {
		return i, err
	}
	var err error
	if i.process, err = launch(dir, "proxy", argv...); err != nil {
		return i, err
	}
	return i, i.process.awaitPort(i.port)
}

// The peers are configured to carry what a run needs, and for speed where there is a
// choice. All write a line for each session or login to a log, as they do in production.

const haproxyConfig = `global
  maxconn 8000
  nbthread 2
  log stdout format raw local0
defaults
  mode tcp
  log global
  option tcplog
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen mail
  bind 127.0.0.1:%d ssl crt %s ssl-min-ver TLSv1.2
  server mail 127.0.0.1:%d
`

const nginxConfig = `load_module /usr/lib/nginx/modules/ngx_mail_module.so;
daemon off;
user www-data;
worker_processes 2;
worker_rlimit_nofile 20000;
pid %[1]s/nginx.pid;
error_log %[1]s/error.log info;
events {
  worker_connections 16000;
}
mail {
  ssl_certificate %[2]s;
  ssl_certificate_key %[3]s;
  ssl_protocols TLSv1.2 TLSv1.3;
  proxy_timeout 1h;
  imap_auth login plain;
  imap_capabilities IMAP4rev1 LITERAL+ IDLE ID;
  smtp_auth login plain;
  smtp_capabilities PIPELINING 8BITMIME "SIZE 50000000";
  proxy_smtp_auth on;
  xclient off;
  server_name localhost;
  server {
    listen 127.0.0.1:%[4]d ssl;
    protocol %[7]s;
    auth_http 127.0.0.1:%[5]d/%[6]d;
  }
}
`

// dovecotCommon is the configuration of both Dovecots, the proxy and the mail server.
const dovecotCommon = `base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = %[2]s
auth_verbose = yes
protocols = %[5]s
hostname = localhost
listen = 127.0.0.1
ssl = yes
ssl_cert = <%[3]s
ssl_key = <%[4]s
auth_mechanisms = plain login
mail_max_userip_connections = 0
default_client_limit = 20000
default_process_limit = 1000
# A login does not wait because of earlier guesses.
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
`

// The proxy runs in the high-performance mode of its manual.
const dovecotProxyConfig = `default_vsz_limit = 1G
passdb {
  driver = static
  args = proxy=y nopassword=y host=127.0.0.1 port=%[1]d
}
userdb {
  driver = static
  args = uid=5900 gid=5900 home=/nonexistent
}
service %[3]s-login {
  service_count = 0
  process_min_avail = 2
  client_limit = 16000
  inet_listener %[3]s {
    port = 0
  }
  inet_listener %[3]ss {
    port = %[2]d
    ssl = yes
  }
}
`

// dovecotName is Dovecot's name of a protocol.
func dovecotName(p protocol) string {
	if p == smtp {
		return "submission"
	}
	return string(p)
}

// The mail server: any account, one password. The first login creates the mailbox.
const dovecotServerConfig = `passdb {
  driver = static
  args = password=%[1]s
}
userdb {
  driver = static
  args = uid=5900 gid=5900 home=%[2]s/mail/%%u
}
mail_location = maildir:~/Maildir
namespace inbox {
  inbox = yes
}
service imap-login {
  inet_listener imap {
    port = %[3]d
  }
  inet_listener imaps {
    port = %[4]d
    ssl = yes
  }
}
`

const congthuConfig = `domain: %s
data_dir: %s/data
tls: { certificate: %s, key: %s }
%s
rules:
  password: { change_url: "https://matkhau.congthu.test/" }
store: { last_login_window: %s }
limits: { connections_per_source: 20000 }
drain_timeout: 1s
`

// The listeners of congthu; a run uses one of them.
const (
	congthuIMAP = `imap:
  listen: [ { address: "127.0.0.1:%d", tls: implicit } ]
  upstream: { address: "127.0.0.1:%d" }
smtp:
  listen: []
  upstream: { address: "127.0.0.1:9" }`
	congthuSMTP = `smtp:
  listen: [ { address: "127.0.0.1:%d", tls: implicit } ]
  upstream: { address: "127.0.0.1:%d" }
imap:
  listen: []
  upstream: { address: "127.0.0.1:9" }`
)

// mailServer starts the real Dovecot.
func (r *rig) mailServer() (p *process, plainPort, tlsPort int, log string, err error) {
	dir := filepath.Join(r.dir, "dovecot")
	plainPort, tlsPort, log = freePort(), freePort(), filepath.Join(dir, "dovecot.log")
	config, mail := filepath.Join(dir, "config"), filepath.Join(dir, "mail")
	if err = os.MkdirAll(mail, 0o755); err == nil {
		err = os.Chown(mail, 5900, 5900)
	}
	if err == nil {
		err = write(config, fmt.Sprintf(dovecotCommon, dir, log, r.cert, r.key, imap)+
			fmt.Sprintf(dovecotServerConfig, password, dir, plainPort, tlsPort))
	}
	if err == nil {
		p, err = launch(dir, "dovecot", "/usr/sbin/dovecot", "-F", "-c", config)
	}
	if err == nil {
		err = p.awaitPort(tlsPort)
	}
	return p, plainPort, tlsPort, log, err
}
