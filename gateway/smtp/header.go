package smtp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/mail"
	"strings"
	"unicode/utf8"
)

// maxHeader is how long a header may be to be checked.
const maxHeader = 256 << 10

// maxSenderField is how long one of the fields may be that name a sender.
const maxSenderField = 16 << 10

// checkHeader says why a message may not be sent with this header: the sender
// that its readers will see must be one for whom mine is true. header is all up
// to the empty line, which may be in it or not.
//
// It is stricter than any mail reader, because mail readers differ: where one
// ends the header, another goes on; where one takes the first From:, another
// takes the last. What could be read in two ways is refused.
func checkHeader(header []byte, mine func(address string) bool) error {
	fields, err := parseHeader(header)
	if err != nil {
		return err
	}
	count := make(map[string]int)
	for _, f := range fields {
		name := strings.ToLower(f.name)
		count[name]++
		switch name {
		// Both are lists of addresses (RFC 5322 sections 3.6.2, 3.6.6), and a message
		// can have been sent again more than once.
		case "from", "resent-from":
		case "sender", "resent-sender":
		default:
			continue
		}
		addresses, err := parseAddresses(f.value)
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		if strings.HasSuffix(name, "sender") && len(addresses) != 1 {
			return fmt.Errorf("%s: more than one address", f.name)
		}
		for _, address := range addresses {
			if !mine(address) {
				return &notMine{f.name, address}
			}
		}
	}
	switch {
	case count["from"] == 0:
		// A submission server may add a Sender:, a Date: or a Message-ID: (RFC 6409
		// sections 8.1 to 8.3), but not an author.
		return errors.New("no From: field, and RFC 5322 section 3.6 wants one")
	case count["from"] > 1:
		return errors.New("more than one From: field")
	case count["sender"] > 1:
		return errors.New("more than one Sender: field")
	}
	return nil
}

// notMine is the error for a sender that is somebody else. The client is told the
// field, the operator the address as well.
type notMine struct{ field, address string }

// Error implements error.
func (e *notMine) Error() string { return e.field + ": not an address of this account" }

// field is one field of a header, unfolded.
type field struct{ name, value string }

// parseHeader splits a header into its fields (RFC 5322 section 2.2). Everything
// in it must be a field: anything else would end the header for some readers.
func parseHeader(header []byte) ([]field, error) {
	if bytes.IndexByte(header, 0) >= 0 {
		return nil, errors.New("a NUL in the header")
	}
	var fields []field
	for rest := header; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte("\r\n"))
		rest = after
		switch {
		case bytes.ContainsAny(line, "\r\n"):
			return nil, errors.New("a bare CR or LF in the header")
		case len(line) == 0:
			if len(rest) > 0 || !ended {
				return nil, errors.New("the header ends early")
			}
			return fields, nil
		case line[0] == ' ' || line[0] == '\t':
			if len(fields) == 0 {
				return nil, errors.New("the header begins with a continuation")
			}
			// Some readers take such a line for the empty one (RFC 5322 section 3.2.2
			// forbids it).
			if len(bytes.Trim(line, " \t")) == 0 {
				return nil, errors.New("a blank line within a field")
			}
			last := &fields[len(fields)-1]
			if len(last.value)+len(line) <= maxSenderField {
				last.value += string(line)
			} else {
				last.value = tooLongField
			}
		default:
			name, value, ok := bytes.Cut(line, []byte(":"))
			if !ok || !validFieldName(name) {
				return nil, errors.New("a line in the header that is no field")
			}
			f := field{string(name), string(value)}
			if len(value) > maxSenderField {
				f.value = tooLongField
			}
			fields = append(fields, f)
		}
	}
	return fields, nil
}

// tooLongField stands for a value that is too long to be read: no list of
// addresses.
const tooLongField = ":"

// validFieldName is RFC 5322 section 2.2. A space before the colon, as the
// obsolete syntax has it (section 4.5), is not allowed: readers differ on it.
func validFieldName(name []byte) bool {
	for _, c := range name {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return len(name) > 0
}

// addressParser reads a list of addresses. A word in a character set that is not
// known is somebody's name; what it says is of no interest.
var addressParser = mail.AddressParser{WordDecoder: &mime.WordDecoder{
	CharsetReader: func(string, io.Reader) (io.Reader, error) { return strings.NewReader("?"), nil },
}}

// parseAddresses returns the addresses, at least one, of a list (RFC 5322 section
// 3.4), their local parts without quotes.
func parseAddresses(value string) ([]string, error) {
	if !utf8.ValidString(value) {
		return nil, errors.New("neither ASCII nor UTF-8")
	}
	for _, r := range value {
		if r < ' ' && r != '\t' || r == 0x7f {
			return nil, errors.New("a control character")
		}
	}
	plain, err := plainList(value)
	if err != nil {
		return nil, err
	}
	list, err := addressParser.ParseList(plain)
	if err != nil || len(list) == 0 {
		return nil, errors.New("cannot be read")
	}
	addresses := make([]string, len(list))
	for i, a := range list {
		addresses[i] = a.Address
	}
	return addresses, nil
}

// plainList takes out what net/mail does not know everywhere that it may stand:
// comments, and blanks at the ends of a local part or a domain (RFC 5322 sections
// 3.2.2 and 3.4.1). Blanks beside a dot stay, and so the list is refused: they
// are allowed as obsolete only (section 4.4), and whoever does not know that
// takes what is before them for somebody's name.
//
// It refuses what may be hidden around addresses: groups and source routes
// (sections 3.4 and 4.4), and quotes, comments and brackets that do not end or
// are not where they belong. A comment with a bracket in it would be an address
// to a reader that does not know comments.
func plainList(value string) (plain string, err error) {
	var p []byte
	trim := func() { p = bytes.TrimRight(p, " ") }
	comments, quoted, escaped, angle := 0, false, false, false
	for i := 0; i < len(value); i++ {
		c := value[i]
		switch {
		case comments > 0:
			switch {
			case c == '<' || c == '>': // escaped or not
				return "", errors.New("a bracket in a comment")
			case escaped:
				escaped = false
			case c == '\\':
				escaped = true
			case c == '(':
				comments++
			case c == ')':
				comments--
			}
			continue
		case quoted:
			switch {
			case escaped:
				escaped = false
			case c == '\\':
				escaped = true
			case c == '"':
				quoted = false
			}
			p = append(p, c)
			continue
		case c == '(':
			comments++
			c = ' ' // as good as a comment
		case c == '"':
			quoted = true
		case c == '<':
			if angle {
				return "", errors.New("an address within an address")
			}
			angle = true
		case c == '>':
			if !angle {
				return "", errors.New("an address that does not begin")
			}
			angle = false
			trim()
		case c == '@':
			trim()
		case c == '\t':
			c = ' '
		case c == ':' || c == ';':
			return "", errors.New("a group or a route")
		case c == '\\' || c == ')' || c == '[' || c == ']':
			return "", errors.New("unexpected " + string(c))
		}
		if c != ' ' || !bytes.HasSuffix(p, []byte("@")) {
			p = append(p, c)
		}
	}
	if comments > 0 || quoted || angle {
		return "", errors.New("ends in the middle")
	}
	return string(p), nil
}
