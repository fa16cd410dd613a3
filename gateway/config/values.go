package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"congthu/auth"
	"congthu/auth/throttle"
	"congthu/gateway/scope"
	"congthu/gateway/upstream"
)

// SHA256 is a SHA-256 hash, written as 64 hexadecimal digits.
type SHA256 [sha256.Size]byte

// String returns the hexadecimal form.
func (s SHA256) String() string { return hex.EncodeToString(s[:]) }

// IsZero reports whether there is no hash.
func (s SHA256) IsZero() bool { return s == SHA256{} }

// LoginName is the form of login names that a mail server expects.
type LoginName string

const (
	LoginAddress LoginName = "address" // local@domain
	LoginLocal   LoginName = "local"   // the part before the @
)

// StoreDriver is the kind of store.
type StoreDriver string

const (
	StoreSQLite   StoreDriver = "sqlite"
	StorePostgres StoreDriver = "postgres"
)

// Subaddress is the meaning of a login name with a detail (user+detail).
type Subaddress string

const (
	RefuseSubaddress Subaddress = "refuse"
	FoldSubaddress   Subaddress = "fold"
)

// LogFormat is the format of log lines.
type LogFormat string

const (
	LogJSON LogFormat = "json"
	LogText LogFormat = "text"
)

// TimeOfDay is a wall-clock time, in the time zone of the rules.
type TimeOfDay struct{ Hour, Minute int }

// String returns HH:MM.
func (t TimeOfDay) String() string { return fmt.Sprintf("%02d:%02d", t.Hour, t.Minute) }

// Next returns the first instant after now at which the clocks of loc show t.
func (t TimeOfDay) Next(now time.Time, loc *time.Location) time.Time {
	y, m, d := now.In(loc).Date()
	next := time.Date(y, m, d, t.Hour, t.Minute, 0, 0, loc)
	if !next.After(now) {
		next = time.Date(y, m, d+1, t.Hour, t.Minute, 0, 0, loc)
	}
	return next
}

// mistake is an error with its fix.
type mistake struct{ message, fix string }

func (m *mistake) Error() string { return m.message }

// choice reads one of several words.
func choice[T any](text string, names []string, values []T) (T, error) {
	if i := slices.Index(names, text); i >= 0 {
		return values[i], nil
	}
	fix := "write " + orList(names)
	if near := nearest(text, names); near != "" {
		fix = "did you mean `" + near + "`?"
	}
	var zero T
	return zero, &mistake{fmt.Sprintf("%q is not one of %s", text, strings.Join(names, ", ")), fix}
}

func words[T ~string](values ...T) []string {
	names := make([]string, len(values))
	for i, v := range values {
		names[i] = string(v)
	}
	return names
}

func chooseWord[T ~string](text string, values ...T) (any, error) {
	return anyOf(choice(text, words(values...), values))
}

// chooseNamed is chooseWord for values whose text is their String.
func chooseNamed[T fmt.Stringer](text string, values ...T) (any, error) {
	names := make([]string, len(values))
	for i, v := range values {
		names[i] = v.String()
	}
	return anyOf(choice(text, names, values))
}

func anyOf[T any](v T, err error) (any, error) { return v, err }

// readText reads a scalar of type dst. Types that it does not list are read by the kind
// of their values.
func readText(dst any, text string) (value any, known bool, err error) {
	switch dst.(type) {
	case time.Duration:
		value, err = readDuration(text)
	case auth.RepeatWindow:
		value, err = anyOf(readRepeatWindow(text))
	case *time.Location:
		value, err = readZone(text)
	case *regexp.Regexp:
		value, err = readPattern(text)
	case TimeOfDay:
		value, err = readTimeOfDay(text)
	case SHA256:
		value, err = readSHA256(text)
	case netip.Prefix:
		value, err = readNetwork(text)
	case KnownNetwork:
		value, err = anyOf(readKnownNetwork(text))
	case auth.Name:
		value, err = readName(text)
	case auth.Mode:
		value, err = anyOf(choice(text, []string{"enforce", "warn", "off"}, []auth.Mode{auth.Enforce, auth.Warn, auth.Off}))
	case upstream.TLSMode:
		value, err = chooseNamed(text, upstream.Plain, upstream.StartTLS, upstream.Implicit)
	case slog.Level:
		value, err = anyOf(choice(text, []string{"debug", "info", "warn", "error"},
			[]slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}))
	case LoginName:
		value, err = chooseWord(text, LoginAddress, LoginLocal)
	case upstream.PassClient:
		value, err = chooseNamed(text, upstream.PassNone, upstream.PassID, upstream.PassXCLIENT, upstream.PassPROXY)
	case auth.Secret:
		value = auth.NewSecret(text)
	case StoreDriver:
		value, err = readStoreDriver(text)
	case Subaddress:
		value, err = chooseWord(text, RefuseSubaddress, FoldSubaddress)
	case scope.Scope:
		value, err = chooseWord(text, scope.All()...)
	case LogFormat:
		value, err = chooseWord(text, LogJSON, LogText)
	default:
		return nil, false, nil
	}
	return value, true, err
}

var (
	bareNumber = regexp.MustCompile(`^[0-9]+$`)
	longUnit   = regexp.MustCompile(`^([0-9]{1,5}) ?(d|days?|w|weeks?|min|minutes?|sec|seconds?|hours?)$`)
)

func readDuration(text string) (any, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return d, nil
	}
	fix := "write a number with a unit, such as 30s, 10m or 1h30m"
	if bareNumber.MatchString(text) {
		fix = fmt.Sprintf("write the unit: %ss, %sm or %sh", text, text, text)
	} else if m := longUnit.FindStringSubmatch(strings.ToLower(text)); m != nil {
		var n int
		fmt.Sscan(m[1], &n)
		switch m[2][0] {
		case 'd':
			fix = fmt.Sprintf("write it in hours: %dh", 24*n)
		case 'w':
			fix = fmt.Sprintf("write it in hours: %dh", 7*24*n)
		default:
			fix = fmt.Sprintf("write %d%c", n, m[2][0])
		}
	}
	return time.Duration(0), &mistake{fmt.Sprintf("%q is not a duration", text), fix}
}

// readRepeatWindow also reads the truth values that the setting had in earlier
// versions.
func readRepeatWindow(text string) (auth.RepeatWindow, error) {
	switch strings.ToLower(text) {
	case "always", "true":
		return auth.AlwaysCountRepeats, nil
	case "never", "false":
		return auth.NeverCountRepeats, nil
	}
	const fix = "write always, never, or for how long the same wrong password counts again, up to 24h, such as 3m"
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, &mistake{fmt.Sprintf("%q is none of always, never and a duration", text), fix}
	case d < 0 || d > 24*time.Hour:
		return 0, &mistake{fmt.Sprintf("%s is out of range", short(d)), fix}
	}
	return auth.RepeatWindow(d), nil
}

func readZone(text string) (any, error) {
	fix := "write a name of the IANA list, such as Asia/Ho_Chi_Minh"
	if text == "" || text == "Local" {
		return (*time.Location)(nil), &mistake{fmt.Sprintf("%q is not a time zone: days would end differently on each machine", text), fix}
	}
	loc, err := time.LoadLocation(text)
	if err != nil {
		return (*time.Location)(nil), &mistake{fmt.Sprintf("%q is not a time zone", text), fix}
	}
	return loc, nil
}

func readPattern(text string) (any, error) {
	if text == "" {
		return (*regexp.Regexp)(nil), &mistake{"an empty pattern fits every reply", "write a regular expression, or leave it out"}
	}
	re, err := regexp.Compile(text)
	if err != nil {
		why := strings.TrimPrefix(err.Error(), "error parsing regexp: ")
		return re, &mistake{fmt.Sprintf("%q is not a regular expression: %s", text, why),
			"see https://pkg.go.dev/regexp/syntax; in single quotes a backslash stands for itself"}
	}
	return re, nil
}

// readStoreDriver does not repeat a connection string that was written in the wrong
// place.
func readStoreDriver(text string) (any, error) {
	if likeDSN(text) {
		return StoreDriver(""), &mistake{"a connection string is no driver", "write driver: postgres, and the connection string in `store.postgres.dsn_file`"}
	}
	return chooseWord(text, StoreSQLite, StorePostgres)
}

var timeOfDay = regexp.MustCompile(`^([01][0-9]|2[0-3]):([0-5][0-9])$`)

func readTimeOfDay(text string) (any, error) {
	if !timeOfDay.MatchString(text) {
		return TimeOfDay{}, &mistake{fmt.Sprintf("%q is not a time of day", text), `write HH:MM between "00:00" and "23:59", such as "02:30"`}
	}
	var t TimeOfDay
	fmt.Sscanf(text, "%d:%d", &t.Hour, &t.Minute)
	return t, nil
}

// readSHA256 does not repeat the text: it may be the secret itself.
func readSHA256(text string) (any, error) {
	var s SHA256
	if raw, err := hex.DecodeString(text); err != nil || len(raw) != len(s) {
		return s, &mistake{fmt.Sprintf("not a SHA-256 sum: want 64 hexadecimal digits, found %d characters", len([]rune(text))),
			`take the sum of the token: printf %s "$TOKEN" | sha256sum`}
	} else {
		copy(s[:], raw)
	}
	return s, nil
}

// readNetwork reads a trusted network, or one address.
func readNetwork(text string) (any, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	network, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, &mistake{fmt.Sprintf("%q is not a network", text), "write an IP address, or a network such as 192.0.2.0/28 or 2001:db8:1::/64; a name cannot be used"}
	}
	if network.Addr().Is4In6() && network.Bits() >= 96 {
		// It would never match: client addresses are compared in their IPv4 form.
		return network, &mistake{fmt.Sprintf("%q is an IPv4 network written as IPv6", text),
			fmt.Sprintf("write it as IPv4: %s", netip.PrefixFrom(network.Addr().Unmap(), network.Bits()-96).Masked())}
	}
	if network.Bits() == 0 {
		return network, &mistake{fmt.Sprintf("%q is everybody: anybody could then claim any address", text), "list the addresses of your own machines only"}
	}
	if masked := network.Masked(); masked != network {
		return network, &mistake{fmt.Sprintf("%q is no network: there is something behind its first %d bits", text, network.Bits()),
			fmt.Sprintf("write %s for the network, or %s for the one address", masked, network.Addr())}
	}
	return network, nil
}

// readKnownNetwork reads the network of an office. The list is for networks of the
// organisation's own staff: the larger a network, the likelier it contains outsiders.
func readKnownNetwork(text string) (KnownNetwork, error) {
	if network, err := netip.ParsePrefix(text); err == nil && network.Bits() == 0 {
		return KnownNetwork{}, tooWide(network)
	}
	read, err := readNetwork(text)
	network := read.(netip.Prefix)
	source := auth.Source(network.Addr())
	switch {
	case err != nil:
		return KnownNetwork{}, err
	case network.Bits() > source.Bits():
		return KnownNetwork{}, &mistake{fmt.Sprintf("%q is a part of one source: an IPv6 /64 is what one customer is given", text),
			fmt.Sprintf("write the /64: %s", source)}
	case network.Addr().Is4() && network.Bits() < throttle.LargestKnownIPv4, network.Addr().Is6() && network.Bits() < throttle.LargestKnownIPv6:
		return KnownNetwork{}, tooWide(network)
	}
	return KnownNetwork(network), nil
}

func tooWide(network netip.Prefix) error {
	most := throttle.LargestKnownIPv4
	if network.Addr().Is6() {
		most = throttle.LargestKnownIPv6
	}
	return &mistake{fmt.Sprintf("%q is too wide for an office: strangers are in it, who would have the room of colleagues", network),
		fmt.Sprintf("list the networks or addresses that your offices come from, each of %d bits or more", most)}
}

func readName(text string) (any, error) {
	name, err := auth.ParseName(text)
	if err != nil {
		return name, &mistake{fmt.Sprintf("%q is not a mail address", text), "write local@domain"}
	}
	return name, nil
}

// splitAddress checks host:port.
func splitAddress(address string) (host string, port uint16, err error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, &mistake{fmt.Sprintf("%q is not an address with a port", address), "write host:port; an IPv6 address goes in brackets, [::1]:143"}
	}
	ap, err := netip.ParseAddrPort("127.0.0.1:" + service)
	if err != nil {
		return "", 0, &mistake{fmt.Sprintf("%q is not a port", service), "write a number from 1 to 65535"}
	}
	return host, ap.Port(), nil
}

// loopback reports whether host can mean only this machine.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

func webAddress(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil
}
