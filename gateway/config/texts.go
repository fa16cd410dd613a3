package config

import (
	"regexp"
	"strconv"
	"strings"

	"congthu/auth"
)

// Texts are the texts for users: one line of ASCII each, since replies of SMTP (RFC
// 5321 section 4.2) and of IMAP4rev1 (RFC 3501 section 9) permit nothing else. A word
// in braces stands for a value: {helpdesk}, {change}, {days}, {tolerated},
// {password_months}, {idle_months}.
type Texts struct {
	// Helpdesk is the contact for help: {helpdesk} in the other texts.
	Helpdesk string `yaml:"helpdesk"`
	// Wrong is the one text for a wrong password, an unknown account, a stale device
	// and a foreign domain: the reply must not distinguish them.
	Wrong         string `yaml:"wrong"`
	Refused       string `yaml:"refused"`
	Locked        string `yaml:"locked"`
	Revoked       string `yaml:"revoked"`
	Expired       string `yaml:"expired"`
	OtherIdentity string `yaml:"other_identity"`
	Cleartext     string `yaml:"cleartext"`
	// Unavailable is for every temporary refusal.
	Unavailable string `yaml:"unavailable"`
	// Alert warns of a password that expires in {days}, AlertToday of one that expires
	// today.
	Alert      string `yaml:"alert"`
	AlertToday string `yaml:"alert_today"`
}

// Text returns the text for users for an outcome.
func (c *Config) Text(o auth.Outcome) string {
	switch o {
	case auth.Accepted:
		return "Logged in"
	case auth.WrongPassword, auth.PreviousPassword, auth.RepeatedPassword, auth.NoSuchDomain, auth.Malformed:
		return c.expand(c.Texts.Wrong, 0)
	case auth.Refused:
		return c.expand(c.Texts.Refused, 0)
	case auth.Locked:
		return c.expand(c.Texts.Locked, 0)
	case auth.Revoked:
		return c.expand(c.Texts.Revoked, 0)
	case auth.Expired:
		return c.expand(c.Texts.Expired, 0)
	case auth.OtherIdentity:
		return c.expand(c.Texts.OtherIdentity, 0)
	case auth.Cleartext:
		return c.expand(c.Texts.Cleartext, 0)
	}
	return c.expand(c.Texts.Unavailable, 0)
}

// AlertText returns the text for a user whose password expires in some days; 0 means
// today.
func (c *Config) AlertText(days int) string {
	if days <= 0 {
		return c.expand(c.Texts.AlertToday, 0)
	}
	return c.expand(c.Texts.Alert, days)
}

// placeholders are the permitted words in braces.
var placeholders = []string{"helpdesk", "change", "days", "tolerated", "password_months", "idle_months"}

var placeholder = regexp.MustCompile(`\{[^{}]*\}?`)

// expand replaces the placeholders by their values.
func (c *Config) expand(text string, days int) string {
	password := c.Regulation.Password
	change := strings.TrimSpace(password.ChangeText + " " + password.ChangeURL)
	expanded := strings.NewReplacer(
		"{helpdesk}", c.Texts.Helpdesk,
		"{change}", change,
		"{days}", strconv.Itoa(days),
		"{tolerated}", strconv.Itoa(c.Regulation.Lockout.Tolerated),
		"{password_months}", strconv.Itoa(password.Months),
		"{idle_months}", strconv.Itoa(c.Regulation.Dormancy.Months),
	).Replace(text)
	return strings.TrimSpace(expanded)
}

// longestText leaves room for the codes in an SMTP reply line of 512 octets
// (RFC 5321 section 4.5.3.1.5).
const longestText = 400

// checkTexts checks for one line of printable ASCII, known placeholders and the length.
func (k *checker) checkTexts() {
	for _, t := range k.c.Texts.all() {
		path := "texts." + t.name
		switch {
		case t.text == "":
			if k.given(path) {
				k.wrong(path, "write a sentence, or remove the line to have the profile's own", "`%s` is empty: users would be told nothing", path)
			}
			continue
		case !k.plainLine(path, t.text):
			continue
		case strings.HasPrefix(t.text, "["):
			k.wrong(path, "begin with a word", "`%s` begins with [, which mail clients read as a code", path)
			continue
		}
		known := true
		for _, found := range placeholder.FindAllString(t.text, -1) {
			word := strings.Trim(found, "{}")
			allowed := placeholders
			if t.name == "helpdesk" {
				allowed = nil
			}
			if err := oneOf(word, allowed); err != nil || !strings.HasSuffix(found, "}") {
				known = false
				fix := "the words are {" + strings.Join(placeholders, "}, {") + "}"
				if near := nearest(word, allowed); err == nil {
					fix = "close the brace: {" + word + "}"
				} else if near != "" {
					fix = "did you mean {" + near + "}?"
				} else if allowed == nil {
					fix = "write it without braces"
				}
				k.wrong(path, fix, "`%s`: nothing is known of %s", path, found)
			}
		}
		if n := len(k.c.expand(t.text, 999)); known && n > longestText {
			k.wrong(path, "shorten it, or what is put in for the words in braces", "`%s` is %d characters long with its values put in; %d is the most", path, n, longestText)
		}
	}
}

type namedText struct{ name, text string }

// all returns the texts with their names.
func (t Texts) all() []namedText {
	return []namedText{
		{"helpdesk", t.Helpdesk}, {"wrong", t.Wrong}, {"refused", t.Refused}, {"locked", t.Locked},
		{"revoked", t.Revoked}, {"expired", t.Expired}, {"other_identity", t.OtherIdentity},
		{"cleartext", t.Cleartext}, {"unavailable", t.Unavailable}, {"alert", t.Alert}, {"alert_today", t.AlertToday},
	}
}

// plainLine reports whether text is one line of printable ASCII; otherwise it records
// the reason.
func (k *checker) plainLine(path, text string) bool {
	for i, r := range []rune(text) {
		switch {
		case r == '\n' || r == '\r':
			k.wrong(path, "write it on one line, in quotes", "`%s` has a line break: a reply is one line", path)
			return false
		case r < ' ' || r == 0x7f:
			k.wrong(path, "remove it", "`%s` has a control character at position %d", path, i+1)
			return false
		case r > 0x7f:
			k.wrong(path, "write Vietnamese without diacritics; mail clients show replies in ASCII only", "`%s` has %q at position %d, which is not ASCII", path, r, i+1)
			return false
		}
	}
	if strings.TrimSpace(text) == "" {
		k.wrong(path, "write a sentence", "`%s` is blank", path)
		return false
	}
	return true
}
