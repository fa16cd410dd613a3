package auth

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/secure/precis"
)

// Name is the canonical name of an account, local@domain. Only [Namer.Canonical]
// makes one from what a client wrote, so that all spellings of a mailbox share
// one counter, and the mail server is asked with one spelling only.
type Name string

// Local returns the part before the @.
func (n Name) Local() string { local, _, _ := cutLast(string(n)); return local }

// Domain returns the part after the @, in ASCII.
func (n Name) Domain() string { _, domain, _ := cutLast(string(n)); return domain }

// Namer turns login names into account names.
type Namer struct {
	// Default is the domain of a name without one.
	Default string
	// Domains are the domains served here, canonical. Default need not be in it.
	Domains map[string]bool
	// LocalNames says that the mail server is asked with the part before the @
	// only, so that it treats all domains as one: an account then has one name,
	// that in Default, whatever domain a client writes.
	LocalNames bool
	// Aliases are other names of accounts, canonical on both sides. With
	// LocalNames an alias in Default holds in every domain, one in another domain in
	// that only; its target is treated as the name in Default.
	Aliases map[Name]Name
	// MasterSeparators are the characters of master-user syntax
	// (owner*master), which are refused in any position. Empty: "*%".
	MasterSeparators string
	// Unicode permits letters beyond ASCII in the part before the @. Only for a mail
	// server that distinguishes them: one that compares without accents would treat
	// many names, each with a counter and a lock of its own, as one mailbox.
	Unicode bool
	// FoldSubaddress treats user+detail as user (RFC 5233); otherwise such a
	// name is refused.
	FoldSubaddress bool
}

// The reasons why a login name cannot be the name of an account.
var (
	ErrMalformedName = errors.New("malformed name")
	ErrForeignDomain = errors.New("domain not served here")
	ErrMasterUser    = errors.New("master-user syntax")
	// ErrNotASCII is a malformed name that [Namer].Unicode would permit.
	ErrNotASCII = fmt.Errorf("%w: letters beyond ASCII before the @, and names.unicode is false", ErrMalformedName)
)

// maxLoginName is the longest address: 64 octets, an @ and 255 octets
// (RFC 5321 section 4.5.3.1).
const maxLoginName = 320

// Canonical returns the account that login means. The local part follows
// PRECIS UsernameCaseMapped (RFC 8265 section 3.3) as far as that is an address
// without quotes or slashes, and ASCII unless Unicode is set; the domain IDNA lookup
// (RFC 5891 section 5). The error is ErrMalformedName (ErrNotASCII is one),
// ErrForeignDomain or ErrMasterUser and does not repeat the name, which may be a
// mistyped password.
func (n *Namer) Canonical(login string) (Name, error) {
	name, err := n.address(login)
	if err != nil {
		return "", err
	}
	return n.account(name), nil
}

// Existing is Canonical, but it also accepts letters beyond ASCII if Unicode is unset:
// the account may be from before.
func (n *Namer) Existing(login string) (Name, error) {
	return n.withUnicode().Canonical(login)
}

func (n *Namer) withUnicode() *Namer {
	m := *n
	m.Unicode = true
	return &m
}

// isASCII reports whether a text is ASCII only.
func isASCII(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxASCII })
}

// account returns the account that an address means. An account means itself: the
// configuration has no alias of an alias, in any domain.
func (n *Namer) account(address Name) Name {
	account, alias := n.Aliases[address]
	if !alias {
		address = n.inDefault(address)
		if account, alias = n.Aliases[address]; !alias {
			return address
		}
	}
	return n.inDefault(account)
}

// inDefault returns the name in Default that stands for an address in any of the domains
// that the mail server treats as one.
func (n *Namer) inDefault(address Name) Name {
	if !n.LocalNames || n.Default == "" {
		return address
	}
	return Name(address.Local() + "@" + n.Default)
}

// SameAccount reports whether two canonical addresses are one for the mail server and
// mean the same account here. An alias and its account are two addresses.
func (n *Namer) SameAccount(one, other Name) bool {
	return n.inDefault(one) == n.inDefault(other) && n.account(one) == n.account(other)
}

// SameAddress reports whether two login names are spellings of one address;
// an alias and its account are two.
func (n *Namer) SameAddress(one, other string) bool {
	n = n.withUnicode()
	a, err := n.address(one)
	if err != nil {
		return false
	}
	b, err := n.address(other)
	return err == nil && n.inDefault(a) == n.inDefault(b)
}

// address is Canonical without resolving aliases.
func (n *Namer) address(login string) (Name, error) {
	if len(login) == 0 || len(login) > maxLoginName || !utf8.ValidString(login) {
		return "", ErrMalformedName
	}
	if strings.IndexFunc(login, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) || r == '"' }) >= 0 {
		return "", ErrMalformedName
	}
	separators := n.MasterSeparators
	if separators == "" {
		separators = "*%"
	}
	if strings.ContainsAny(login, separators) {
		return "", ErrMasterUser
	}
	local, domain, qualified := cutLast(login)
	if !qualified {
		domain = n.Default
	}
	name, err := CanonicalAddress(local, domain)
	if err != nil {
		return "", err
	}
	// Full-width forms have become ASCII by now.
	if strings.ContainsAny(string(name), separators) {
		return "", ErrMasterUser
	}
	if d := name.Domain(); d != n.Default && !n.Domains[d] {
		return "", ErrForeignDomain
	}
	if !n.Unicode && !isASCII(name.Local()) {
		return "", ErrNotASCII
	}
	if user, _, tagged := strings.Cut(name.Local(), "+"); tagged {
		if !n.FoldSubaddress || !isDotString(user) {
			return "", ErrMalformedName
		}
		name = Name(user + "@" + name.Domain())
	}
	return name, nil
}

// isDotString reports whether a local part that PRECIS has accepted is an address
// without quotes (Dot-string of RFC 5321 section 4.1.2, with the letters of RFC 6531
// section 3.3). PRECIS does not require this: it allows all visible ASCII. The slash is
// refused as well, although an address may contain it: a mail server that keeps each
// mailbox in a directory of its name, or looks it up in another language, must not reach
// another mailbox. Dots at the start and end matter too: a file system that drops the
// last one would treat two names, each with its own counter, as one mailbox.
func isDotString(local string) bool {
	for atom := range strings.SplitSeq(local, ".") {
		if atom == "" {
			return false
		}
	}
	return !strings.ContainsAny(local, "/\\\"@()<>[]:;, \x00")
}

// maxUnread is the largest ratio of the octets of a spelling to those of its canonical
// form: four in UTF-8. Longer spellings are refused before they are processed, which
// takes time with the square of the length.
const maxUnread = 4

// CanonicalAddress converts an address of any domain into canonical form, as Canonical
// does with its two parts. The error is ErrMalformedName.
func CanonicalAddress(local, domain string) (Name, error) {
	if len(local) > maxUnread*64 {
		return "", ErrMalformedName
	}
	// The case mapping can yield characters that compose further; a name that
	// is not its own canonical form would have two counters.
	local, err := precis.UsernameCaseMapped.String(local)
	if err != nil {
		return "", ErrMalformedName
	}
	if again, err := precis.UsernameCaseMapped.String(local); err != nil || again != local {
		return "", ErrMalformedName
	}
	// Full-width forms have become ASCII by now.
	if !isDotString(local) {
		return "", ErrMalformedName
	}
	domain, err = CanonicalDomain(domain)
	if err != nil {
		return "", err
	}
	if len(local) > 64 || len(domain) > 255 {
		return "", ErrMalformedName
	}
	return Name(local + "@" + domain), nil
}

// CanonicalDomain returns the ASCII form of a domain, in lower case and without
// the final dot. The error is ErrMalformedName.
func CanonicalDomain(domain string) (string, error) {
	if len(domain) > maxUnread*255 {
		return "", ErrMalformedName
	}
	ascii, err := idna.Lookup.ToASCII(strings.TrimSuffix(domain, "."))
	if err != nil || ascii == "" || strings.HasSuffix(ascii, ".") || strings.Contains(ascii, "..") {
		return "", ErrMalformedName
	}
	return ascii, nil
}

// ParseName parses the canonical or any other spelling of a full address, for
// configuration files and admins; the error says what is wrong.
func ParseName(address string) (Name, error) {
	local, domain, ok := cutLast(address)
	if !ok {
		return "", fmt.Errorf("%q: want local@domain", address)
	}
	name, err := CanonicalAddress(local, domain)
	if err != nil {
		return "", fmt.Errorf("%q: %w", address, err)
	}
	return name, nil
}

func cutLast(address string) (local, domain string, ok bool) {
	i := strings.LastIndexByte(address, '@')
	if i < 0 {
		return address, "", false
	}
	return address[:i], address[i+1:], true
}

// ErrAlias: the address is another name of an account.
var ErrAlias = errors.New("alias")

// Own returns the account with exactly this address. Unlike [Namer.Canonical] it accepts
// neither a name without a domain nor a subaddress. For an alias the error is
// [ErrAlias], together with the account that it stands for. In a list of accounts each
// of these is a mistake. If the mail server does not distinguish domains, the account
// has its address in each of them.
func (n *Namer) Own(address string) (Name, error) {
	local, _, qualified := cutLast(address)
	if !qualified || strings.ContainsRune(local, '+') {
		return "", ErrMalformedName
	}
	name, err := n.address(address)
	if err != nil {
		return "", err
	}
	if account := n.account(name); account != n.inDefault(name) {
		return account, ErrAlias
	}
	return n.inDefault(name), nil
}
