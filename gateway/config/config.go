package config

import (
	"log/slog"
	"net/netip"
	"regexp"
	"time"
	_ "time/tzdata" // the regulation's days end on time on a machine without zone files too

	"congthu/auth"
	"congthu/gateway/scope"
	"congthu/gateway/upstream"
)

// Config is a complete, checked configuration: defaults are filled in, paths
// are resolved against the directory of the file, names are canonical.
// [Load] and [Parse] make one; the zero Config is of no use.
type Config struct {
	// Profile names the built-in figures and texts that the file starts from;
	// see [Profiles].
	Profile string `yaml:"profile"`
	// Domain completes names without one. Required.
	Domain string `yaml:"domain"`
	// Domains are further domains served.
	Domains []string `yaml:"domains"`
	// Hostname is said in the greetings and in EHLO. Default: the machine's.
	Hostname string `yaml:"hostname"`
	// DataDir holds the store, the pepper and the admin socket, unless moved.
	DataDir string `yaml:"data_dir"`
	// TLS is the certificate that mail clients see. Required.
	TLS KeyPair `yaml:"tls"`

	IMAP IMAP `yaml:"imap"`
	SMTP SMTP `yaml:"smtp"`
	POP3 POP3 `yaml:"pop3"`

	ProxyProtocol ProxyProtocol `yaml:"proxy_protocol"`
	// TrustedForwarders are the networks of those who log in for others, as a
	// webmail does, and are believed when they say for whom.
	TrustedForwarders []netip.Prefix `yaml:"trusted_forwarders"`

	Names Names `yaml:"names"`
	// Aliases are other names of accounts: alias to account.
	Aliases map[auth.Name]auth.Name `yaml:"aliases"`
	// Delegations are the accounts that may send as an address (Art. 13.8).
	Delegations map[auth.Name][]auth.Name `yaml:"delegations"`

	Regulation Regulation `yaml:"rules"`
	Store      Store      `yaml:"store"`
	Audit      Audit      `yaml:"audit"`
	Throttle   Throttle   `yaml:"throttle"`
	Limits     Limits     `yaml:"limits"`
	Admin      Admin      `yaml:"admin"`
	Metrics    Metrics    `yaml:"metrics"`
	Texts      Texts      `yaml:"texts"`
	Log        Log        `yaml:"log"`
	// DrainTimeout is how long a shutdown waits for live sessions to end; see
	// [Config.Drain].
	DrainTimeout time.Duration `yaml:"drain_timeout"`

	// File is where the configuration was read from.
	File string `yaml:"-"`
	// Warnings are doubts that do not stop the gateway.
	Warnings []Problem `yaml:"-"`

	mail, admin *Certificate
	drainGiven  bool
	places      places
}

// Where is the place of a field in the file, such as congthu.yaml:7:3, or of the
// group that it belongs in; only the file's name where the file says nothing of
// either.
func (c *Config) Where(path string) string {
	at := c.places.locate(path)
	return Problem{File: c.File, Line: at.line, Column: at.column}.Place()
}

// KeyPair names the files of a certificate chain and its private key, both PEM.
type KeyPair struct {
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

// IsZero reports whether neither file is named.
func (k KeyPair) IsZero() bool { return k == KeyPair{} }

// Listener is one address to listen on.
type Listener struct {
	// Address is host:port; without a host, all addresses of the machine.
	Address string `yaml:"address"`
	// TLS is upstream.StartTLS or upstream.Implicit.
	TLS upstream.TLSMode `yaml:"tls"`
}

// IMAP is the door for reading mail.
type IMAP struct {
	// Listen is empty when the gateway is not to speak IMAP.
	Listen   []Listener `yaml:"listen"`
	Upstream Upstream   `yaml:"upstream"`
}

// SMTP is the door for sending mail.
type SMTP struct {
	// Listen is empty when the gateway is not to speak SMTP.
	Listen   []Listener `yaml:"listen"`
	Upstream Upstream   `yaml:"upstream"`
	// NormaliseNewlines turns a bare CR or LF in a message into CRLF; otherwise
	// such a message is refused.
	NormaliseNewlines bool `yaml:"normalise_newlines"`
	// MaxRecipients bounds one message.
	MaxRecipients int `yaml:"max_recipients"`
}

// POP3 is the other protocol for reading mail. It is off until Upstream is set.
type POP3 struct {
	// Listen is empty when the gateway is not to speak POP3. Default, with an
	// upstream: ports 110 with STLS and 995.
	Listen   []Listener `yaml:"listen"`
	Upstream Upstream   `yaml:"upstream"`
}

// Mail is what is configured for every protocol for mail.
type Mail struct {
	// Listen is empty when the protocol is not served.
	Listen   []Listener
	Upstream Upstream
}

// Mail returns the settings of a protocol.
func (c *Config) Mail(p auth.Protocol) Mail {
	switch p {
	case auth.IMAP:
		return Mail{c.IMAP.Listen, c.IMAP.Upstream}
	case auth.SMTP:
		return Mail{c.SMTP.Listen, c.SMTP.Upstream}
	case auth.POP3:
		return Mail{c.POP3.Listen, c.POP3.Upstream}
	}
	return Mail{}
}

// ProxyProtocol is about load balancers that pass connections on to the mail
// listeners.
type ProxyProtocol struct {
	// From are the networks of the balancers: those must say in a PROXY header
	// whose a connection is, and nobody else can.
	From []netip.Prefix `yaml:"from"`
	// Timeout bounds the wait for the header.
	Timeout time.Duration `yaml:"timeout"`
}

// Upstream is the mail server behind a door.
type Upstream struct {
	// Address is host:port.
	Address string `yaml:"address"`
	// TLS is, when left out, upstream.Plain towards a loopback address and
	// upstream.StartTLS towards any other.
	TLS upstream.TLSMode `yaml:"tls"`
	// CAFile has the PEM certificates that the server is verified with; empty
	// for the machine's own.
	CAFile string `yaml:"ca_file"`
	// ServerName is the name in the server's certificate. Default: the host of
	// Address.
	ServerName string `yaml:"server_name"`
	// PinSHA256 are SHA-256 sums of public keys (SubjectPublicKeyInfo). One of
	// them must be in the verified chain, in addition to the verification.
	PinSHA256 []SHA256 `yaml:"pin_sha256"`
	// LoginName is how the server knows an account.
	LoginName LoginName `yaml:"login_name"`
	// PassClient tells the server the client's address.
	PassClient upstream.PassClient `yaml:"pass_client"`
	// Timeout bounds each step towards the server.
	Timeout time.Duration `yaml:"timeout"`
	// SpareConnections is how many connections are kept ready for the next
	// logins, at most. 0: none.
	SpareConnections int `yaml:"spare_connections"`
	// Wrong recognises further replies that mean a wrong password, NotWrong
	// replies that do not.
	Wrong    []*regexp.Regexp `yaml:"wrong"`
	NotWrong []*regexp.Regexp `yaml:"not_wrong"`
}

// Names is how login names are read.
type Names struct {
	Subaddress Subaddress `yaml:"subaddress"`
	// MasterSeparators are the characters of master-user syntax, refused
	// wherever they stand.
	MasterSeparators string `yaml:"master_separators"`
	// Unicode takes letters beyond ASCII before the @: for a mail server that tells
	// them apart.
	Unicode bool `yaml:"unicode"`
}

// Regulation are the rules, article by article; [Config.Rules] turns them into
// what the guard works with.
type Regulation struct {
	// TimeZone is where days end.
	TimeZone *time.Location `yaml:"time_zone"`
	Lockout  Lockout        `yaml:"lockout"`
	Dormancy Dormancy       `yaml:"dormancy"`
	Password Password       `yaml:"password"`
	Sender   Sender         `yaml:"sender"`
}

// Lockout is Art. 6.2.d; the fields are those of [auth.Lockout].
type Lockout struct {
	Mode                  auth.Mode     `yaml:"mode"`
	Tolerated             int           `yaml:"tolerated"`
	ForgetAfter           time.Duration `yaml:"forget_after"`
	UnlockAfter           time.Duration `yaml:"unlock_after"`
	CountPreviousPassword bool          `yaml:"count_previous_password"`
	// CountRepeats was true or false once: always and never.
	CountRepeats auth.RepeatWindow `yaml:"count_repeats"`
}

// Dormancy is Art. 5.3.c; the fields are those of [auth.Dormancy].
type Dormancy struct {
	Mode          auth.Mode `yaml:"mode"`
	Months        int       `yaml:"months"`
	DoorsComplete bool      `yaml:"doors_complete"`
	// SweepAt is when the daily sweep marks dormant accounts, in TimeZone.
	SweepAt TimeOfDay `yaml:"sweep_at"`
}

// Password is Art. 9; the fields are those of [auth.PasswordAge].
type Password struct {
	Mode         auth.Mode `yaml:"mode"`
	Months       int       `yaml:"months"`
	WarnDays     int       `yaml:"warn_days"`
	MaxGraceDays int       `yaml:"max_grace_days"`
	// ChangeURL and ChangeText tell the owner of an expired password the way
	// out, which cannot lead through the gateway. Enforcing needs one of them.
	ChangeURL  string `yaml:"change_url"`
	ChangeText string `yaml:"change_text"`
}

// Sender is Art. 13.8 for submitted mail.
type Sender struct {
	Mode auth.Mode `yaml:"mode"`
}

// Store is the memory of the rules.
type Store struct {
	// Driver is a file that one gateway owns, or a database that several share.
	Driver StoreDriver `yaml:"driver"`
	// Postgres is the database, when that is the driver.
	Postgres Postgres `yaml:"postgres"`
	// Path is the SQLite file. Default: congthu.db in DataDir.
	Path string `yaml:"path"`
	// PepperFile is the key that password fingerprints are made with, created
	// where it is missing. Default: pepper.key in DataDir.
	PepperFile string `yaml:"pepper_file"`
	// Grace is how long passwords known to be good go on when the store is
	// down; 0 for not at all.
	Grace time.Duration `yaml:"grace"`
	// LastLoginWindow is how far the stored last login may lag.
	LastLoginWindow time.Duration `yaml:"last_login_window"`
	// MaxUnknownNames bounds the memory for names nobody ever logged in with;
	// beyond it they share counters.
	MaxUnknownNames int `yaml:"max_unknown_names"`
	// ForgetUnknownAfter is [auth.Lockout].ForgetUnknown.
	ForgetUnknownAfter time.Duration `yaml:"forget_unknown_after"`
}

// Postgres is where the database is, and how it is used. Gateways that share one
// have the same of all but MaxConnections.
type Postgres struct {
	// DSN is the connection string, as libpq has it; it is filled in from DSNFile
	// as well. It has no password where it is in the configuration itself.
	DSN auth.Secret `yaml:"dsn"`
	// DSNFile holds the connection string, in place of DSN.
	DSNFile string `yaml:"dsn_file"`
	// MaxConnections bounds the connections for reading; five more are used.
	MaxConnections int `yaml:"max_connections"`
	// ConnectTimeout bounds the making of a connection, StatementTimeout each
	// statement, LockTimeout the wait for another gateway.
	ConnectTimeout   time.Duration `yaml:"connect_timeout"`
	StatementTimeout time.Duration `yaml:"statement_timeout"`
	LockTimeout      time.Duration `yaml:"lock_timeout"`
	// Lease is how long a gateway of which nothing is heard keeps the slots of
	// its attempts in flight.
	Lease time.Duration `yaml:"lease"`
	// Poll is how often changes by other gateways are looked for, notified or not.
	Poll time.Duration `yaml:"poll"`
}

// Audit is the log of who did what to which account.
type Audit struct {
	// KeepDays is how long events are kept; 0: for ever.
	KeepDays int `yaml:"keep_days"`
}

// Keep is KeepDays as a duration.
func (a Audit) Keep() time.Duration { return time.Duration(a.KeepDays) * 24 * time.Hour }

// Throttle bounds what one source may do wrong; the fields are those of
// [throttle.Throttle].
type Throttle struct {
	Enabled  bool          `yaml:"enabled"`
	Window   time.Duration `yaml:"window"`
	Accounts int           `yaml:"accounts"`
	Failures int           `yaml:"failures"`
	Locks    int           `yaml:"locks"`
	// StrangersAfter is [auth.Lockout].DailyFailureCap.
	StrangersAfter int `yaml:"strangers_after"`
	// KnownNetworks are the networks of the organisation's own offices.
	KnownNetworks []KnownNetwork `yaml:"known_networks"`
}

// KnownNetwork is a network of an office: an IPv4 network of 16 bits or more, an IPv6
// network of 32 to 64 bits.
type KnownNetwork netip.Prefix

// String returns the network in CIDR notation.
func (n KnownNetwork) String() string { return netip.Prefix(n).String() }

// Known returns the known networks, none while no source is throttled.
func (t Throttle) Known() (networks []netip.Prefix) {
	if t.Enabled {
		networks = prefixes(t.KnownNetworks)
	}
	return networks
}

func prefixes(known []KnownNetwork) (networks []netip.Prefix) {
	for _, n := range known {
		networks = append(networks, netip.Prefix(n))
	}
	return networks
}

// Limits bound what clients can take up, at all doors together.
type Limits struct {
	Connections          int `yaml:"connections"`
	ConnectionsPerSource int `yaml:"connections_per_source"`
	// LoginTimeout bounds each step before login, LoginTotal all of them.
	LoginTimeout time.Duration `yaml:"login_timeout"`
	LoginTotal   time.Duration `yaml:"login_total"`
	// FailedLogins ends the connection.
	FailedLogins int `yaml:"failed_logins"`
	// IdleTimeout ends a session after login, at least 30 minutes.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// Patience is how long an attempt waits for a free slot of its account.
	Patience time.Duration `yaml:"patience"`
}

// Admin is the door for administrators.
type Admin struct {
	// Listen is a TCP address; empty for none.
	Listen string  `yaml:"listen"`
	TLS    KeyPair `yaml:"tls"`
	// Socket is the Unix socket. Default: admin.sock in DataDir.
	Socket string `yaml:"socket"`
	// SocketGroup may use the socket, besides its owner; a name or a number.
	SocketGroup string  `yaml:"socket_group"`
	Tokens      []Token `yaml:"tokens"`
}

// Token lets one named person use the admin interface over TCP.
type Token struct {
	// Name is the person, as the audit log will show it.
	Name string `yaml:"name"`
	// SHA256 is the sum of the token; it is filled in from TokenFile as well.
	SHA256 SHA256 `yaml:"sha256"`
	// TokenFile holds the token itself, in place of SHA256.
	TokenFile string        `yaml:"token_file"`
	Scopes    []scope.Scope `yaml:"scopes"`
}

// Metrics is the listener for a Prometheus server.
type Metrics struct {
	// Listen is a TCP address for plain HTTP; empty for none.
	Listen string `yaml:"listen"`
}

// Log is where and how the gateway tells what it does.
type Log struct {
	Level  slog.Level `yaml:"level"`
	Format LogFormat  `yaml:"format"`
}
