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
	// Line and Column count from 1, in characters. Both are 0 when there is
	// nothing in the file to point at, as with a field that is missing.
	Line, Column int
	// Path is the field: imap.listen[0].address.
	Path string
	// Message says what is wrong.
	Message string
	// Fix says what to do about it.
	Fix string

	source string // the line, fit for a terminal
	width  int    // of what the caret points at
	// vietnamese is set where Message and Fix are.
	vietnamese bool
}

// Place returns file:line:column, without the parts that are not known.
func (p Problem) Place() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// String returns the problem as people are shown it: place and message, the
// line with a caret, the fix.
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

// Error is what [Load] and [Parse] return for a file with mistakes: all of
// them, in the order of the file; those that have no place in it come last.
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

// Report returns everything, for people.
func (e *Error) Report() string {
	count := "1 mistake"
	if n := len(e.Problems); n != 1 {
		count = fmt.Sprintf("%d mistakes", n)
	}
	return Render(e.Problems) + "\n" + e.File + ": " + count + ", nothing was started\n"
}

// Render writes problems or warnings one below the other.
func Render(problems []Problem) string {
	all := make([]string, len(problems))
	for i, p := range problems {
		all[i] = p.String()
	}
	return strings.Join(all, "\n")
}

// inOrder sorts by place. What has none comes last: a field that is missing is
// often there, under a name that is not quite right.
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

// indent returns as much white space as the first n characters of line take.
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

// oneLine makes a message fit for one line of a terminal or a journal, whatever
// words of the file it repeats.
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

// What may be a credential written into the file: a reader of the journal must
// not learn it from a typing mistake. In a line of its own the value ends with
// the line, in braces with a comma.
var (
	secretLine  = regexp.MustCompile(`(?i)^([\s-]*["']?(?:sha256|token|password|secret|bearer)["']?\s*:\s*)([^\s\[{].*)$`)
	secretEntry = regexp.MustCompile(`(?i)((?:sha256|token|password|secret|bearer)["']?\s*:\s*)("[^"]*"?|'[^']*'?|[^\s\[{"'#][^,}#]*)`)
	// A connection string, wherever it stands: all behind its field, its scheme
	// or the word password, to the end of the line, whatever its quotes.
	secretDSN   = regexp.MustCompile(`(?i)(\bdsn["']?\s*:\s*)(\S.*)$`)
	secretURL   = regexp.MustCompile(`(?i)(postgres(?:ql)?:?/+)(.+)$`)
	secretParam = regexp.MustCompile(`(?i)(password\s*=)(.+)$`)
	secretList  = regexp.MustCompile(`(?i)^(\s*["']?tokens["']?\s*:\s*)([^\s\[{].*)$`)
)

// longestLine is how much of a line is shown.
const longestLine = 400

// presentable makes a line of the file fit for a terminal and a journal,
// keeping every character in its column.
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
