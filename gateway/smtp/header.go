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
// to the empty line, which may be in it or not. The error is [errNoFrom] when
// nothing is wrong but that it names no author.
//
// Mail readers differ: where one ends the header, another goes on; where one takes
// the first From:, another takes the last. A header may be sent when every reader
// finds the same address of one's own, or none at all, wherever it begins and ends
// the header and whichever field it takes. What a reader could take for somebody
// else's is refused. testdata/from.txt has what readers find in many forms.
func checkHeader(header []byte, mine func(address string) bool) error {
	fields, err := parseHeader(header, mine)
	if err != nil {
		return err
	}
	count := make(map[string]int)
	first := make(map[string]string) // the first address of the fields of a name
	differ := make(map[string]bool)  // the fields of a name have different addresses
	for _, f := range fields {
		name := strings.ToLower(f.name)
		if !namesSender(name) {
			continue
		}
		count[name]++
		if f.split {
			return errors.New(f.name + ": a blank line within the field")
		}
		addresses, err := parseAddresses(f.value)
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		if strings.HasSuffix(name, "sender") && len(addresses) != 1 {
			return fmt.Errorf("%s: more than one address", f.name)
		}
		if count[name] == 1 {
			first[name] = addresses[0]
		}
		for _, address := range addresses {
			if !mine(address) {
				return &notMine{f.name, address}
			}
			differ[name] = differ[name] || !sameAddress(address, first[name])
		}
	}
	switch {
	case count["from"] == 0:
		return errNoFrom
	case count["from"] > 1 && differ["from"]:
		return errors.New("more than one From: field, with different addresses")
	case count["sender"] > 1 && differ["sender"]:
		return errors.New("more than one Sender: field, with different addresses")
	}
	return nil
}

// errNoFrom is the error for a header without a From: field. Its readers take
// nobody for the author, or the sender of the envelope, whom Postfix adds for the
// clients in local_header_rewrite_clients.
var errNoFrom = errors.New("no From: field, and RFC 5322 section 3.6 wants one")

// namesSender reports whether a field, in lower case, is one of those that say who
// a message is from. All of them are checked: From: and Resent-From: are lists of
// addresses (RFC 5322 sections 3.6.2, 3.6.6), and a message can have been sent
// again more than once.
func namesSender(name string) bool {
	switch name {
	case "from", "resent-from", "sender", "resent-sender":
		return true
	}
	return false
}

// sameAddress reports whether two addresses are the same to every reader: but for
// the case of ASCII letters, no octet differs.
func sameAddress(a, b string) bool {
	return asciiLower(a) == asciiLower(b)
}

func asciiLower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}

// notMine is the error for a sender that is somebody else. The client is told the
// field, the operator the address as well.
type notMine struct{ field, address string }

// Error implements error.
func (e *notMine) Error() string { return e.field + ": not an address of this account" }

// field is one field of a header, unfolded. split means that it goes on behind a
// line of blanks.
type field struct {
	name, value    string
	blankly, split bool
}

// parseHeader splits a header into its fields (RFC 5322 section 2.2).
//
// A line that ends the header for some readers, as one of blanks does, hides from
// these what follows, and nothing else: all sender fields are still checked. Any
// line that is neither a field nor known is refused.
func parseHeader(header []byte, mine func(address string) bool) ([]field, error) {
	if bytes.IndexByte(header, 0) >= 0 {
		return nil, errors.New("a NUL in the header")
	}
	var fields []field
	for rest := header; len(rest) > 0; {
		top := len(rest) == len(header)
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
			last := &fields[len(fields)-1]
			// Some readers take such a line for the empty one (RFC 5322 section 3.2.2
			// forbids it), and so take what is before it for all of the field.
			if len(bytes.Trim(line, " \t")) == 0 {
				last.blankly = true
				continue
			}
			last.split = last.split || last.blankly
			if len(last.value)+len(line) <= maxSenderField {
				last.value += string(line)
			} else {
				last.value = tooLongField
			}
		case top && isMboxLine(line):
			if err := checkMboxLine(line, mine); err != nil {
				return nil, err
			}
		default:
			name, value, ok := bytes.Cut(line, []byte(":"))
			// A blank before the colon is obsolete syntax (RFC 5322 section 4.5). Where it
			// ends the header for a reader, that one finds no sender in what follows.
			bare := bytes.TrimRight(name, " \t")
			if !ok || !validFieldName(bare) {
				return nil, errors.New("a line in the header that is no field")
			}
			// Postfix takes "From :" for an mbox line when it is the first, and for a
			// field when it is not.
			if len(bare) < len(name) && namesSender(strings.ToLower(string(bare))) {
				return nil, errors.New(string(bare) + ": a blank before the colon")
			}
			f := field{name: string(bare), value: string(value)}
			if len(value) > maxSenderField {
				f.value = tooLongField
			}
			fields = append(fields, f)
		}
	}
	return fields, nil
}

// isMboxLine reports whether a line is the one that begins a message in a file of
// mailboxes, quoted or not (RFC 4155). Postfix makes X-Mailbox-Line: of it where it
// is the first.
func isMboxLine(line []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(line, ">"), []byte("From "))
}

// checkMboxLine says why a message may not begin with an mbox line: old mail
// readers show the name in it as the sender's. MAILER-DAEMON and - are what
// programs write that know none.
func checkMboxLine(line []byte, mine func(address string) bool) error {
	_, text, _ := strings.Cut(string(line), "From ")
	name, date, _ := strings.Cut(strings.TrimLeft(text, " "), " ")
	switch {
	case strings.ContainsAny(date, "@<>"):
		return errors.New("mbox line: cannot be read")
	case name == "-" || name == "MAILER-DAEMON" || mine(name):
		return nil
	}
	return &notMine{"mbox line", name}
}

// tooLongField stands for a value that is too long to be read: no list of
// addresses.
const tooLongField = ":"

// validFieldName is RFC 5322 section 2.2.
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

// quoteName is what whoever is refused for a character can do about it.
const quoteName = ": put the name in double quotes"

// parseAddresses returns the addresses, at least one, of a list (RFC 5322 section
// 3.4), their local parts without quotes. Readers find these and no others.
func parseAddresses(value string) ([]string, error) {
	for _, r := range value {
		if r < ' ' && r != '\t' || r == 0x7f {
			return nil, errors.New("a control character")
		}
	}
	if !utf8.ValidString(value) {
		// A name in another character set. Its octets say nothing here, and readers
		// agree where it ends: in every character set that is used in mail, quotes,
		// commas and <> are themselves. A backslash or a square bracket can be half of a
		// character (Shift_JIS, Big5, GBK).
		if strings.ContainsAny(value, `\[]`) {
			return nil, errors.New("neither ASCII nor UTF-8, with a backslash or a square bracket")
		}
		value = strings.ToValidUTF8(value, "\uFFFD") // which is in no address of an account
	}
	plain, err := plainList(value)
	if err != nil {
		return nil, err
	}
	list, err := addressParser.ParseList(plain.list)
	switch {
	case err != nil && strings.Contains(value, "<"):
		return nil, errors.New("cannot be read" + quoteName)
	case err != nil || len(list) == 0:
		return nil, errors.New("cannot be read")
	}
	addresses := make([]string, len(list))
	for i, a := range list {
		addresses[i] = a.Address
	}
	if plain.title != "" && !sameAddress(plain.title, addresses[0]) {
		return nil, &otherTitle{plain.title}
	}
	return addresses, nil
}

// otherTitle is the error for a name with an @ in it that is not the address
// behind it: some readers take it for the address. As with [notMine], the client is
// not told the address.
type otherTitle struct{ address string }

// Error implements error.
func (e *otherTitle) Error() string {
	return "an @ in a name that is not the address in the brackets" + quoteName
}

// plainValue is a list of addresses as net/mail can read it.
type plainValue struct {
	list string
	// title is what stands before the brackets and has an @ without quotes: some
	// readers take it for the address, and what is in the brackets for nothing.
	title string
}

// plainList takes out what net/mail does not know everywhere that it may stand:
// comments, and blanks at the ends of a local part or a domain (RFC 5322 sections
// 3.2.2 and 3.4.1). Blanks beside a dot stay, and so the list is refused: they
// are allowed as obsolete only (section 4.4), and whoever does not know that
// takes what is before them for somebody's name.
//
// It also takes out what programs write although the syntax forbids it, and
// readers agree upon: words in square brackets in front of a name, an address as
// the name of itself, and a semicolon at the end.
//
// It refuses what may be hidden around addresses: groups and source routes
// (sections 3.4 and 4.4), and quotes, comments and brackets that do not end or
// are not where they belong. A comment with a bracket in it would be an address
// to a reader that does not know comments.
func plainList(value string) (plain plainValue, err error) {
	var p []byte
	trim := func() { p = bytes.TrimRight(p, " ") }
	comments, quoted, escaped, angle := 0, false, false, false
	start, begin := 0, 0 // of this place in the list, in p and in value
	tagged, brackets, commas := false, false, false
	lenient := false // something was taken out that is allowed beside no comma
	for i := 0; i < len(value); i++ {
		c := value[i]
		switch {
		case comments > 0:
			switch {
			case c == '<' || c == '>': // escaped or not
				return plain, errors.New("a bracket in a comment")
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
				return plain, errors.New("an address within an address")
			}
			angle, brackets = true, true
			if title := string(bytes.Trim(p[start:], " ")); strings.Contains(notInQuotes(title), "@") && !strings.Contains(title, "<") {
				// As it stands: not in quotes, nor with a comment within.
				if !strings.HasPrefix(strings.TrimLeft(value[begin:], " \t"), title) || plain.title != "" {
					return plain, &otherTitle{title}
				}
				plain.title, lenient = title, true
				p = p[:start]
			}
		case c == '>':
			if !angle {
				return plain, errors.New("an address that does not begin")
			}
			angle = false
			trim()
		case c == '@':
			trim()
		case c == '\t':
			c = ' '
		case c == ',':
			start, begin, commas = len(p)+1, i+1, true
		case c == '[' && !angle && len(bytes.Trim(p[start:], " ")) == 0:
			// Words in square brackets, in front of a name.
			end := strings.IndexAny(value[i+1:], `[]\"()<>,;:@`)
			if end < 0 || value[i+1+end] != ']' {
				return plain, errors.New("unexpected [" + quoteName)
			}
			i += 1 + end
			c = ' '
			tagged, lenient = true, true
		case c == ';' && !angle && len(strings.Trim(value[i+1:], " \t")) == 0:
			c = ' '
			lenient = true
		case c == ':' && len(p) >= len("mailto") && strings.EqualFold(string(p[len(p)-len("mailto"):]), "mailto"):
			return plain, errors.New("mailto: in front of the address")
		case c == ':' || c == ';':
			return plain, errors.New("a group or a route" + quoteName)
		case c == '\\' || c == ')' || c == '[' || c == ']':
			return plain, errors.New("unexpected " + string(c) + quoteName)
		}
		if c != ' ' || !bytes.HasSuffix(p, []byte("@")) {
			p = append(p, c)
		}
	}
	switch {
	case comments > 0 || quoted || angle:
		return plain, errors.New("ends in the middle")
	case tagged && !brackets:
		return plain, errors.New("unexpected [" + quoteName)
	case lenient && commas:
		// Postfix makes an address of what stands alone between commas.
		return plain, errors.New("a comma, beside a name that needs quotes" + quoteName)
	}
	plain.list = string(p)
	return plain, nil
}

// notInQuotes leaves out what stands in quotes.
func notInQuotes(s string) string {
	var plain []byte
	for i, quoted := 0, false; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case !quoted:
			plain = append(plain, s[i])
		}
	}
	return string(plain)
}
