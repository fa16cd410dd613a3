package config

import (
	"log/slog"
	"net/netip"
	"regexp"
	"time"
	_ "time/tzdata" // so that the regulation's days end on time also on a machine without zone files

	"congthu/auth"
	"congthu/gateway/scope"
	"congthu/gateway/upstream"
)

// Config is a complete, checked configuration: defaults are set, paths are resolved
// against the file's directory, names are canonical. [Load] and [Parse] return one; the
// zero Config is not usable.
type Config struct {
	// Profile names the built-in figures and texts on which the file builds; see
	// [Profiles].
	Profile string `yaml:"profile"`
	// Domain completes names without one. Required.
	Domain string `yaml:"domain"`
	// Domains are further served domains.
	Domains []string `yaml:"domains"`
	// Hostname appears in greetings and in EHLO. Default: the machine's name.
	Hostname string `yaml:"hostname"`
	// DataDir holds the store, the pepper and the admin socket, unless these have other
	// paths.
	DataDir string `yaml:"data_dir"`
	// TLS is the certificate that mail clients see. Required.
	TLS KeyPair `yaml:"tls"`

	IMAP IMAP `yaml:"imap"`
	SMTP SMTP `yaml:"smtp"`
	POP3 POP3 `yaml:"pop3"`

	ProxyProtocol ProxyProtocol `yaml:"proxy_protocol"`
	// TrustedForwarders are the networks of machines that log in for users, such as a
	// webmail server. The gateway trusts the client address that they send.
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
	// DrainTimeout limits how long a shutdown waits for live sessions to end; see
	// [Config.Drain].
	DrainTimeout time.Duration `yaml:"drain_timeout"`

	// File is the path of the configuration file.
	File string `yaml:"-"`
	// Warnings are possible mistakes that do not stop the gateway.
	Warnings []Problem `yaml:"-"`

	mail, admin *Certificate
	drainGiven  bool
	places      places
}

// Where returns the place of a field in the file, such as congthu.yaml:7:3, or that of
// its group; if the file contains neither, only the file's name.
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

// IMAP are the settings for reading mail.
type IMAP struct {
	// Listen is empty if the gateway does not serve IMAP.
	Listen   []Listener `yaml:"listen"`
	Upstream Upstream   `yaml:"upstream"`
}

// SMTP are the settings for sending mail.
type SMTP struct {
	// Listen is empty if the gateway does not serve SMTP.
	Listen   []Listener `yaml:"listen"`
	Upstream Upstream   `yaml:"upstream"`
	// NormaliseNewlines turns a bare CR or LF in a message into CRLF; otherwise
	// such a message is refused.
	NormaliseNewlines bool `yaml:"normalise_newlines"`
	// MaxRecipients limits the recipients of one message.
	MaxRecipients int `yaml:"max_recipients"`
}

// POP3 are the settings of the other protocol for reading mail. It is off until
// Upstream is set.
type POP3 struct {
	// Listen is empty if the gateway does not serve POP3. Default, with an upstream:
	// ports 110 with STLS and 995.
	Listen   []Listener `yaml:"listen"`
	Upstream Upstream   `yaml:"upstream"`
}

// Mail are the settings that every mail protocol has.
type Mail struct {
	// Listen is empty if the protocol is not served.
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

// ProxyProtocol are the settings for load balancers that pass connections to the mail
// listeners.
type ProxyProtocol struct {
	// From are the networks of the balancers. A connection from them must begin with a
	// PROXY header that names the client; from other addresses the header is not
	// accepted.
	From []netip.Prefix `yaml:"from"`
	// Timeout limits the wait for the header.
	Timeout time.Duration `yaml:"timeout"`
}

// Upstream describes the mail server behind a protocol.
type Upstream struct {
	// Address is host:port.
	Address string `yaml:"address"`
	// TLS defaults to upstream.Plain for a loopback address and to upstream.StartTLS
	// for any other.
	TLS upstream.TLSMode `yaml:"tls"`
	// CAFile contains the PEM certificates that verify the server; empty: the machine's
	// own.
	CAFile string `yaml:"ca_file"`
	// ServerName is the name in the server's certificate. Default: the host of Address.
	ServerName string `yaml:"server_name"`
	// PinSHA256 are SHA-256 hashes of public keys (SubjectPublicKeyInfo). One of them
	// must be in the verified chain, in addition to the verification.
	PinSHA256 []SHA256 `yaml:"pin_sha256"`
	// LoginName is the form of login names that the server expects.
	LoginName LoginName `yaml:"login_name"`
	// PassClient says how the server receives the client's address.
	PassClient upstream.PassClient `yaml:"pass_client"`
	// Timeout limits each step of the dialogue with the server.
	Timeout time.Duration `yaml:"timeout"`
	// SpareConnections is the largest number of connections that are kept ready for the
	// next logins. 0: none.
	SpareConnections int `yaml:"spare_connections"`
	// Wrong matches further replies that mean a wrong password; NotWrong matches
	// replies that do not.
	Wrong    []*regexp.Regexp `yaml:"wrong"`
	NotWrong []*regexp.Regexp `yaml:"not_wrong"`
}

// Names says how login names are read.
type Names struct {
	Subaddress Subaddress `yaml:"subaddress"`
	// MasterSeparators are the characters of master-user syntax; names with one of them
	// are refused.
	MasterSeparators string `yaml:"master_separators"`
	// Unicode accepts letters beyond ASCII before the @: for a mail server that
	// distinguishes them.
	Unicode bool `yaml:"unicode"`
}

// Regulation contains the rules, article by article; [Config.Rules] converts them for
// the guard.
type Regulation struct {
	// TimeZone is the time zone in which days end.
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
	// CountRepeats also accepts the earlier values true (always) and false (never).
	CountRepeats auth.RepeatWindow `yaml:"count_repeats"`
}

// Dormancy is Art. 5.3.c; the fields are those of [auth.Dormancy].
type Dormancy struct {
	Mode          auth.Mode `yaml:"mode"`
	Months        int       `yaml:"months"`
	DoorsComplete bool      `yaml:"doors_complete"`
	// SweepAt is the time of the daily sweep for dormant accounts, in TimeZone.
	SweepAt TimeOfDay `yaml:"sweep_at"`
}

// Password is Art. 9; the fields are those of [auth.PasswordAge].
type Password struct {
	Mode         auth.Mode `yaml:"mode"`
	Months       int       `yaml:"months"`
	WarnDays     int       `yaml:"warn_days"`
	MaxGraceDays int       `yaml:"max_grace_days"`
	// ChangeURL and ChangeText tell the owner of an expired password how to change it,
	// which cannot be done through the gateway. Mode enforce requires one of them.
	ChangeURL  string `yaml:"change_url"`
	ChangeText string `yaml:"change_text"`
}

// Sender is Art. 13.8 for submitted mail.
type Sender struct {
	Mode auth.Mode `yaml:"mode"`
}

// Store are the settings of the gateway's memory of accounts.
type Store struct {
	// Driver selects a file that one gateway owns, or a database that several share.
	Driver StoreDriver `yaml:"driver"`
	// Postgres describes the database for that driver.
	Postgres Postgres `yaml:"postgres"`
	// Path is the SQLite file. Default: congthu.db in DataDir.
	Path string `yaml:"path"`
	// PepperFile contains the key for password fingerprints; it is created if it is
	// missing. Default: pepper.key in DataDir.
	PepperFile string `yaml:"pepper_file"`
	// Grace is the time for which known passwords are still accepted while the store is
	// down; 0: not at all.
	Grace time.Duration `yaml:"grace"`
	// LastLoginWindow is the largest delay of the stored last login.
	LastLoginWindow time.Duration `yaml:"last_login_window"`
	// MaxUnknownNames limits the stored names without any login; further names share
	// counters.
	MaxUnknownNames int `yaml:"max_unknown_names"`
	// ForgetUnknownAfter is [auth.Lockout].ForgetUnknown.
	ForgetUnknownAfter time.Duration `yaml:"forget_unknown_after"`
}

// Postgres describes the database and its use. Gateways on one database have equal
// settings except MaxConnections.
type Postgres struct {
	// DSN is the connection string as in libpq; it is also set from DSNFile. If it is
	// in the configuration itself, it must not contain a password.
	DSN auth.Secret `yaml:"dsn"`
	// DSNFile names the file with the connection string, in place of DSN.
	DSNFile string `yaml:"dsn_file"`
	// MaxConnections limits the connections for reading; the gateway uses five more.
	MaxConnections int `yaml:"max_connections"`
	// ConnectTimeout limits connecting, StatementTimeout each statement, LockTimeout
	// the wait for another gateway.
	ConnectTimeout   time.Duration `yaml:"connect_timeout"`
	StatementTimeout time.Duration `yaml:"statement_timeout"`
	LockTimeout      time.Duration `yaml:"lock_timeout"`
	// Lease is the time for which a silent gateway keeps the slots of its attempts in
	// progress.
	Lease time.Duration `yaml:"lease"`
	// Poll is the interval of checks for changes by other gateways, whether notified or
	// not.
	Poll time.Duration `yaml:"poll"`
}

// Audit are the settings of the audit log.
type Audit struct {
	// KeepDays is the number of days for which events are kept; 0: for ever.
	KeepDays int `yaml:"keep_days"`
}

// Keep returns KeepDays as a duration.
func (a Audit) Keep() time.Duration { return time.Duration(a.KeepDays) * 24 * time.Hour }

// Throttle limits the failures of one source; the fields are those of
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

// KnownNetwork is the network of an office: an IPv4 network of 16 bits or more, or an
// IPv6 network of 32 to 64 bits.
type KnownNetwork netip.Prefix

// String returns the network in CIDR notation.
func (n KnownNetwork) String() string { return netip.Prefix(n).String() }

// Known returns the known networks; none if the throttle is off.
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

// Limits limit the resources of clients, over all protocols together.
type Limits struct {
	Connections          int `yaml:"connections"`
	ConnectionsPerSource int `yaml:"connections_per_source"`
	// LoginTimeout limits each step before login, LoginTotal all of them together.
	LoginTimeout time.Duration `yaml:"login_timeout"`
	LoginTotal   time.Duration `yaml:"login_total"`
	// FailedLogins is the number of refused logins that ends the connection.
	FailedLogins int `yaml:"failed_logins"`
	// IdleTimeout ends an idle session after login; at least 30 minutes.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// Patience limits the time for which an attempt waits for a free slot of its
	// account.
	Patience time.Duration `yaml:"patience"`
}

// Admin are the settings of the admin interface.
type Admin struct {
	// Listen is a TCP address; empty: none.
	Listen string  `yaml:"listen"`
	TLS    KeyPair `yaml:"tls"`
	// Socket is the Unix socket. Default: admin.sock in DataDir.
	Socket string `yaml:"socket"`
	// SocketGroup is the group that may use the socket, besides its owner; a name or a
	// number.
	SocketGroup string  `yaml:"socket_group"`
	Tokens      []Token `yaml:"tokens"`
}

// Token gives one named person access to the admin interface over TCP.
type Token struct {
	// Name is the person's name, as it appears in the audit log.
	Name string `yaml:"name"`
	// SHA256 is the hash of the token; it is also set from TokenFile.
	SHA256 SHA256 `yaml:"sha256"`
	// TokenFile names the file with the token itself, in place of SHA256.
	TokenFile string        `yaml:"token_file"`
	Scopes    []scope.Scope `yaml:"scopes"`
}

// Metrics is the listener for a Prometheus server.
type Metrics struct {
	// Listen is a TCP address for plain HTTP; empty: none.
	Listen string `yaml:"listen"`
}

// Log are the settings of the log.
type Log struct {
	Level  slog.Level `yaml:"level"`
	Format LogFormat  `yaml:"format"`
}
