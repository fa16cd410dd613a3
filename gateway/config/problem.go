package config

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Problem is one mistake in a configuration file, or one warning.
type Problem struct {
	// File is the name of the file.
	File string
	// Line and Column count from 1, in characters. Both are 0 if the file has no place
	// to point at, as for a missing field.
	Line, Column int
	// Path is the path of the field: imap.listen[0].address.
	Path string
	// Message says what is wrong.
	Message string
	// Fix says what to do.
	Fix string

	source string // the line, safe for a terminal
	width  int    // of the text under the caret
	// vietnamese is set if Message and Fix are Vietnamese.
	vietnamese bool
}

// Place returns file:line:column, without unknown parts.
func (p Problem) Place() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// String returns the problem for people: place and message, the line with a caret, the
// fix.
func (p Problem) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", p.Place(), p.Message)
	if p.Line > 0 && p.source != "" {
		number := fmt.Sprintf("%5d", p.Line)
		fmt.Fprintf(&b, "%s | %s\n", number, p.source)
		fmt.Fprintf(&b, "%s | %s%s\n", strings.Repeat(" ", len(number)), indent(p.source, p.Column-1), strings.Repeat("^", max(1, p.width)))
	}
	if p.Fix != "" {
		lead := "fix"
		if p.vietnamese {
			lead = "xử lý"
		}
		fmt.Fprintf(&b, "      %s: %s\n", lead, p.Fix)
	}
	return b.String()
}

// Error is the error of [Load] and [Parse] for a file with mistakes. It has all of them
// in the order of the file; those without a place come last.
type Error struct {
	File     string
	Problems []Problem
}

// Error returns one line, for logs.
func (e *Error) Error() string {
	first := e.Problems[0]
	line := first.Place() + ": " + first.Message
	switch n := len(e.Problems) - 1; n {
	case 0:
		return line
	case 1:
		return line + " (and 1 more mistake)"
	default:
		return fmt.Sprintf("%s (and %d more mistakes)", line, n)
	}
}

// Report returns all problems, for people.
func (e *Error) Report() string {
	count := "1 mistake"
	if n := len(e.Problems); n != 1 {
		count = fmt.Sprintf("%d mistakes", n)
	}
	return Render(e.Problems) + "\n" + e.File + ": " + count + ", nothing was started\n"
}

// Render writes problems or warnings one below another.
func Render(problems []Problem) string {
	all := make([]string, len(problems))
	for i, p := range problems {
		all[i] = p.String()
	}
	return strings.Join(all, "\n")
}

// inOrder sorts by place. Problems without a place come last: a missing field is often
// present under a name with a mistake.
func inOrder(problems []Problem) []Problem {
	nowhere := func(p Problem) int {
		if p.Line == 0 {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(nowhere(a), nowhere(b)), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return problems
}

// indent returns white space as wide as the first n characters of line.
func indent(line string, n int) string {
	var b strings.Builder
	for i, r := range []rune(line) {
		switch {
		case i >= n:
			return b.String()
		case r == '\t':
			b.WriteRune('\t')
		case unicode.Is(unicode.Mn, r): // a combining mark takes no room
		default:
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// oneLine makes a message safe for one line of a terminal or a journal, whatever words
// of the file it repeats.
func oneLine(text string) string {
	var b strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

// Possible credentials in the file: readers of the journal must not learn them because
// of a typing mistake. In block style the value ends with the line, in braces with a
// comma.
var (
	secretLine  = regexp.MustCompile(`(?i)^([\s-]*["']?(?:sha256|token|password|secret|bearer)["']?\s*:\s*)([^\s\[{].*)$`)
	secretEntry = regexp.MustCompile(`(?i)((?:sha256|token|password|secret|bearer)["']?\s*:\s*)("[^"]*"?|'[^']*'?|[^\s\[{"'#][^,}#]*)`)
	// A connection string anywhere: everything after its field, its scheme or the word
	// password, to the end of the line, whatever the quotes.
	secretDSN   = regexp.MustCompile(`(?i)(\bdsn["']?\s*:\s*)(\S.*)$`)
	secretURL   = regexp.MustCompile(`(?i)(postgres(?:ql)?:?/+)(.+)$`)
	secretParam = regexp.MustCompile(`(?i)(password\s*=)(.+)$`)
	secretList  = regexp.MustCompile(`(?i)^(\s*["']?tokens["']?\s*:\s*)([^\s\[{].*)$`)
)

// longestLine limits the shown part of a line.
const longestLine = 400

// presentable makes a line of the file safe for a terminal and a journal, and keeps
// every character in its column.
func presentable(line string) string {
	line = strings.TrimRight(line, "\r\n")
	for _, secret := range []*regexp.Regexp{secretLine, secretList, secretEntry, secretDSN, secretURL, secretParam} {
		line = secret.ReplaceAllStringFunc(line, func(found string) string {
			parts := secret.FindStringSubmatch(found)
			return parts[1] + strings.Repeat("*", len([]rune(parts[2])))
		})
	}
	runes := []rune(line)
	if len(runes) > longestLine {
		runes = append(runes[:longestLine], '…')
	}
	for i, r := range runes {
		if r != '\t' && !unicode.IsPrint(r) {
			runes[i] = '?'
		}
	}
	return string(runes)
}
