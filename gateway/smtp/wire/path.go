package wire

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// Path is an address of an envelope (RFC 5321 section 4.1.2). The zero Path is that of
// nobody, as bounces have it.
type Path struct {
	Local  string // without quotes
	Domain string // empty: not said
}

// Errors of the arguments of MAIL.
var (
	ErrMail   = errors.New("syntax: MAIL FROM:<address>")
	ErrPath   = errors.New("bad address syntax")
	ErrOption = errors.New("bad parameter syntax")
)

// ParseMail reads the arguments of MAIL. A source route is left out (RFC 5321 appendix
// C), and brackets may be missing, as Postfix takes it. Parameters stay as written.
func ParseMail(args string) (p Path, parameters []string, err error) {
	const from = "FROM:"
	if len(args) < len(from) || !strings.EqualFold(args[:len(from)], from) {
		return p, nil, ErrMail
	}
	rest := strings.TrimLeft(args[len(from):], " \t")
	inner, bracketed := strings.CutPrefix(rest, "<")
	if !bracketed {
		end := strings.IndexAny(rest, " \t")
		if end < 0 {
			end = len(rest)
		}
		inner, rest = rest[:end], rest[end:]
		if inner == "" {
			return p, nil, ErrMail
		}
		if p, inner, err = readPath(inner); err != nil || inner != "" {
			return Path{}, nil, ErrPath
		}
	} else {
		if p, inner, err = readPath(inner); err != nil {
			return Path{}, nil, err
		}
		if rest, bracketed = strings.CutPrefix(inner, ">"); !bracketed {
			return Path{}, nil, ErrPath
		}
	}
	if rest != "" && rest[0] != ' ' && rest[0] != '\t' {
		return Path{}, nil, ErrPath
	}
	parameters = strings.FieldsFunc(rest, func(r rune) bool { return r == ' ' || r == '\t' })
	for _, parameter := range parameters {
		keyword, _, _ := strings.Cut(parameter, "=")
		if !validKeyword(keyword) {
			return Path{}, nil, ErrOption
		}
	}
	return p, parameters, nil
}

// validKeyword is RFC 5321 section 4.1.2, esmtp-keyword.
func validKeyword(s string) bool {
	for i, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' && i > 0) {
			return false
		}
	}
	return s != ""
}

// readPath reads a path without its brackets from the beginning of s.
func readPath(s string) (p Path, rest string, err error) {
	if strings.HasPrefix(s, "@") { // a source route
		colon := strings.IndexByte(s, ':')
		if colon < 0 {
			return p, s, ErrPath
		}
		for hop := range strings.SplitSeq(s[:colon], ",") {
			domain, ok := strings.CutPrefix(hop, "@")
			if !ok || !validDomain(domain) {
				return p, s, ErrPath
			}
		}
		if s = s[colon+1:]; s == "" || s[0] == '>' {
			return p, s, ErrPath
		}
	}
	if s == "" || s[0] == '>' {
		return p, s, nil
	}
	if s[0] == '"' {
		p.Local, s, err = readQuoted(s[1:])
	} else {
		end := strings.IndexFunc(s, special)
		if end < 0 {
			end = len(s)
		}
		p.Local, s = s[:end], s[end:]
	}
	if err != nil || p.Local == "" || !utf8.ValidString(p.Local) {
		return Path{}, s, ErrPath
	}
	domain, ok := strings.CutPrefix(s, "@")
	if !ok {
		return p, s, nil
	}
	end := strings.IndexAny(domain, "> \t")
	if end < 0 {
		end = len(domain)
	}
	p.Domain, s = domain[:end], domain[end:]
	if !validDomain(p.Domain) || !utf8.ValidString(p.Domain) {
		return Path{}, s, ErrPath
	}
	return p, s, nil
}

// special reports whether a character ends a local part without quotes, or is none of it.
func special(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`"(),:;<>@[\]`, r) }

// readQuoted reads a quoted string behind its first quote.
func readQuoted(s string) (text, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], nil
		case c < ' ' || c == 0x7f:
			return "", s, ErrPath
		case c == '\\':
			if i++; i == len(s) || s[i] < ' ' || s[i] == 0x7f {
				return "", s, ErrPath
			}
		}
		b.WriteByte(s[i])
	}
	return "", s, ErrPath
}

// Address is the path without quotes; empty for nobody's.
func (p Path) Address() string {
	if p == (Path{}) {
		return ""
	}
	return p.Local + "@" + p.Domain
}

// String writes a path that was read, with its domain, as it has to stand on the wire.
// Without quotes `"b> NOTIFY=NEVER "@example.com` would be an address and a parameter.
func (p Path) String() string {
	if p == (Path{}) {
		return "<>"
	}
	local := p.Local
	if strings.ContainsFunc(local, special) || strings.HasPrefix(local, ".") || strings.HasSuffix(local, ".") || strings.Contains(local, "..") {
		local = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local) + `"`
	}
	return "<" + local + "@" + p.Domain + ">"
}

// validDomain allows a domain or an address literal and nothing that could end
// it early.
func validDomain(domain string) bool {
	if domain == "" || len(domain) > 255 { // RFC 5321 section 4.5.3.1.2
		return false
	}
	if inner, ok := strings.CutPrefix(domain, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		return ok && inner != "" && strings.Trim(inner, "0123456789abcdefABCDEFIPv:.") == ""
	}
	for _, r := range domain {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '.', r == '_', r >= utf8.RuneSelf:
		default:
			return false
		}
	}
	return true
}
