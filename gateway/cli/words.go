package cli

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"congthu/auth"
	"congthu/gateway/admin"
)

// Texts that the gateway wrote into events are translated here, when they are shown:
// the events themselves stay unchanged, because hashes cover them. Texts that people
// wrote are not translated.

// pattern matches a text with its arguments filled in.
type pattern struct {
	text
	form *regexp.Regexp
}

// patternsOf returns patterns for the texts, in the same order.
func patternsOf(texts []text, argument string) []pattern {
	found := make([]pattern, len(texts))
	for i, t := range texts {
		form := strings.ReplaceAll(regexp.QuoteMeta(t.en), "%s", argument)
		found[i] = pattern{t, regexp.MustCompile(`^` + form + `$`)}
	}
	return found
}

// eventPatterns are the patterns of eventTexts. An argument contains no comma: commas
// join texts.
var eventPatterns = sync.OnceValue(func() []pattern { return patternsOf(eventTexts, `([^,]+?)`) })

var listenPatterns = sync.OnceValue(func() []pattern { return patternsOf(listenTexts, `(.+?)`) })

// inWords returns what the gateway wrote into an event, in the user's language, with
// instants in the time zone of the regulation.
func inWords(own string, zone *time.Location) string {
	if own == "" {
		return ""
	}
	if words, ok := oneText(own, zone); ok {
		return words
	}
	parts := strings.Split(own, ", ")
	inUnit := false
	for i, part := range parts {
		// The name of a unit may contain commas; the part after one is not the
		// gateway's text.
		if inUnit && !importedField.MatchString(part) {
			continue
		}
		inUnit = strings.HasPrefix(part, unitText)
		parts[i], _ = oneText(part, zone)
	}
	return strings.Join(parts, ", ")
}

// oneText translates one text of the gateway. If it is not a text of the gateway, ok is
// false and the text is returned unchanged.
func oneText(own string, zone *time.Location) (words string, ok bool) {
	for _, p := range eventPatterns() {
		found := p.form.FindStringSubmatch(own)
		if found == nil {
			continue
		}
		words := make([]any, len(found)-1)
		for i, word := range found[1:] {
			switch {
			case strings.HasPrefix(p.en, unitText):
				words[i] = word
			case strings.HasPrefix(p.en, mergedText):
				words[i] = inWords(word, zone)
			default:
				words[i] = argumentInWords(word, zone)
			}
		}
		return clockBeforeDay.ReplaceAllString(fmt.Sprintf(either(p.en, p.vi), words...), clockOfDay), true
	}
	return own, false
}

// argumentInWords formats an instant, a date or an address like the rest of the screen.
func argumentInWords(word string, zone *time.Location) string {
	for _, layout := range []string{"2006-01-02 15:04 -07:00", time.RFC3339} {
		if t, err := time.Parse(layout, word); err == nil {
			return when(t, zone)
		}
	}
	if t, err := time.ParseInLocation(time.DateOnly, word, zone); err == nil {
		return day(t)
	}
	for _, whole := range []string{"/32", "/128"} {
		if address := strings.TrimSuffix(word, whole); address != word {
			return address
		}
	}
	return actor(word)
}

// reasonInWords returns the reason of an event or of a mark: the gateway's own reason
// in the user's language, a person's as it was written.
func reasonInWords(reason, by string, zone *time.Location) string {
	if m := ownReason.FindStringSubmatch(reason); m != nil {
		words := inWords(unusedText+m[1], zone)
		if m[2] != "" {
			words += ": " + m[2]
		}
		return words
	}
	if by == auth.ByGateway || by == auth.ByUser {
		return inWords(reason, zone)
	}
	return reason
}

// whatHappened describes an event.
func whatHappened(e admin.Event, zone *time.Location) string {
	what := reasonInWords(e.Reason, e.Actor, zone)
	if e.Before != "" || e.After != "" {
		change := strings.TrimPrefix(inWords(e.Before, zone)+" -> "+inWords(e.After, zone), " -> ")
		if what != "" {
			change += ": " + what
		}
		return change
	}
	return what
}

var systemUser = regexp.MustCompile(`^uid:\d+ \((.+)\)$`)

// actor names who did something: in Vietnamese the gateway and the user have names of
// their own, and a user of the system is called an administrator.
func actor(by string) string {
	if spoken() != vietnamese {
		return by
	}
	switch by {
	case auth.ByGateway:
		return tr("gateway")
	case auth.ByUser:
		return tr("user")
	}
	if m := systemUser.FindStringSubmatch(by); m != nil {
		return trf("administrator %s", m[1])
	}
	return by
}

var failurePatterns = sync.OnceValue(func() []*regexp.Regexp {
	var found []*regexp.Regexp
	for _, f := range failureTexts {
		found = append(found, regexp.MustCompile(f.found))
	}
	return found
})

// faultInWords returns a fault as a whole in the user's language. One that the table
// does not know, or only in part, is quoted in Vietnamese.
func faultInWords(said string) string {
	if spoken() != vietnamese {
		return plainly(said)
	}
	quoted := trf("in the original words: «%s»", said)
	for i, p := range failurePatterns() {
		at := p.FindStringSubmatchIndex(said)
		if at == nil {
			continue
		}
		words := string(p.ExpandString(nil, failureTexts[i].vi, said, at))
		if strings.Trim(beforeFault.ReplaceAllString(said[:at[0]], "")+said[at[1]:], " .:") == "" {
			return words
		}
		return words + " (" + quoted + ")"
	}
	return quoted
}

// beforeFault matches what a step of the gateway writes before the fault itself.
var beforeFault = regexp.MustCompile(`^(?:[A-Za-z]+(?: [a-z]+){0,2}: )+$`)

// plainly translates failures reported by the operating system and by libraries.
func plainly(said string) string {
	said = marked.ReplaceAllStringFunc(said, func(quoted string) string {
		fault := marked.FindStringSubmatch(quoted)[1]
		if words := faultInWords(fault); words != fault {
			return words
		}
		return quoted
	})
	for i, p := range failurePatterns() {
		said = p.ReplaceAllString(said, either(failureTexts[i].en, failureTexts[i].vi))
	}
	return said
}

// quotingTheDatabase says, in an error of this program itself, which words are those of
// PostgreSQL. Other failures in it stay as they are.
func quotingTheDatabase(said string) string {
	for i, f := range failureTexts {
		if f.found == databaseSays {
			said = failurePatterns()[i].ReplaceAllString(said, either(f.en, f.vi))
		}
	}
	return said
}

// listening returns the reason why the gateway cannot listen on an address, in the
// user's language.
func listening(err error) error {
	for _, p := range listenPatterns() {
		if found := p.form.FindStringSubmatch(err.Error()); found != nil && spoken() == vietnamese {
			words := make([]any, len(found)-1)
			for i, word := range found[1:] {
				words[i] = word
			}
			return &exitAs{error: err, words: fmt.Sprintf(p.vi, words...)}
		}
	}
	return err
}

// exitAs is an error with another text.
type exitAs struct {
	error
	words string
}

func (e *exitAs) Error() string { return e.words }
func (e *exitAs) Unwrap() error { return e.error }

// columns returns the width of a terminal, or 0 for anything else; lines are not
// wrapped then.
func columns(w io.Writer) int {
	switch w := w.(type) {
	case interface{ Columns() int }:
		return w.Columns()
	case *os.File:
		if n, _, err := term.GetSize(int(w.Fd())); err == nil {
			return n
		}
	}
	return 0
}

// wrap breaks a text at spaces into lines of at most width letters. A longer word gets
// a line of its own.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	return append(lines, line)
}

// paragraph prints a text, wrapped to the width of a terminal.
func paragraph(w io.Writer, text string) {
	width := columns(w)
	if width < narrowest {
		fmt.Fprintln(w, text)
		return
	}
	for i, line := range wrap(text, width-2) {
		if i > 0 {
			line = "  " + line
		}
		fmt.Fprintln(w, line)
	}
}

// complaint prints a line of an error like a paragraph. A command stays on one line, so
// that it can be copied.
func complaint(w io.Writer, line string) {
	if strings.HasPrefix(line, " ") || strings.Contains(line, ownName+" ") && strings.Contains(line, " --") {
		fmt.Fprintln(w, line)
		return
	}
	paragraph(w, line)
}

// narrowest is the smallest width of a terminal at which lines are wrapped.
const narrowest = 40

// wrapRows wraps the second cell of each row on a terminal. A command stays on one
// line, so that it can be copied.
func wrapRows(w io.Writer, rows [][]string) [][]string {
	width := columns(w)
	if width < narrowest {
		return rows
	}
	label := 0
	for _, row := range rows {
		label = max(label, utf8.RuneCountInString(row[0]))
	}
	var wrapped [][]string
	for _, row := range rows {
		if strings.Contains(row[1], ownName+" ") {
			wrapped = append(wrapped, row)
			continue
		}
		for i, line := range wrap(row[1], width-label-4) {
			if i == 0 {
				wrapped = append(wrapped, []string{row[0], line})
			} else {
				wrapped = append(wrapped, []string{"", line})
			}
		}
	}
	return wrapped
}

// stateInWords returns a state for people; --state and JSON use its code.
func stateInWords(state string) string { return strings.ReplaceAll(tr(state), "_", " ") }

// otherName says that the caller asked for an account under another name, such as an
// alias; it is empty otherwise.
func otherName(asked, address string) string {
	local, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(asked)), "@")
	local, _, _ = strings.Cut(local, "+")
	own, _, _ := strings.Cut(address, "@")
	if local == own || own == "" {
		return ""
	}
	return trf("%s is another name of %s.", asked, address)
}
