package admin

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"congthu/auth"
)

// The possible columns of a list.
const (
	columnAddress  = "address"
	columnUnit     = "unit"
	columnSince    = "registered"
	columnLogin    = "last_login"
	columnPassword = "password_changed"
)

// separatorNames are the separators as error messages name them.
var separatorNames = map[rune]string{',': ",", ';': ";", '\t': "a tab"}

var listColumns = []string{columnAddress, columnUnit, columnSince, columnLogin, columnPassword}

// maxListErrors is the number of errors after which reading stops.
const maxListErrors = 10_000

// maxUnit limits the name of a unit, in characters.
const maxUnit = 200

// oldest is the earliest credible date: earlier dates mean "never" (1970-01-01,
// 1899-12-30) in the program that wrote the list.
var oldest = time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)

// readList reads a list of accounts and reports all its mistakes. The list is CSV (RFC
// 4180), separated by commas, by tabs, or by semicolons, which Excel uses where the
// comma is the decimal sign; in UTF-8 with or without a byte order mark, or UTF-16 with
// one. Empty rows are skipped. Fields missing at the end of a row count as empty. aside
// is the number of non-empty cells that were ignored because their column has no name.
func readList(data []byte, own func(string) (auth.Name, error), zone *time.Location, now time.Time) (list []auth.Imported, aside int, wrong []ListError) {
	l := &lister{own: own, zone: zone, now: now, seen: make(map[auth.Name]int)}
	l.read(data)
	if len(l.wrong) > 0 {
		return nil, 0, l.wrong
	}
	return l.list, l.aside, nil
}

type lister struct {
	own  func(string) (auth.Name, error)
	zone *time.Location
	now  time.Time

	csv    *csv.Reader
	header []string // empty where a column has no name
	rows   int
	aside  int
	seen   map[auth.Name]int // the line of each account
	list   []auth.Imported
	wrong  []ListError
}

// bad records a mistake in a field of the current row.
func (l *lister) bad(at int, message string, args ...any) {
	line, column := l.csv.FieldPos(at)
	name := ""
	if at < len(l.header) {
		name = l.header[at]
	}
	l.wrongAt(line, column, name, field("", message, args...))
}

func (l *lister) wrongAt(line, column int, name string, what *problemField) {
	location := fmt.Sprintf("line %d, column %d", line, column)
	if name != "" {
		location += " (" + name + ")"
	}
	l.wrong = append(l.wrong, ListError{Location: location, Message: what.Message, MessageVI: what.MessageVI, Line: line, Column: column, Field: name})
}

func (l *lister) read(data []byte) {
	text, err := textOf(data)
	if err != nil {
		l.wrongAt(1, 1, "", field("", `is UTF-16 that is damaged: save it as "CSV UTF-8"`))
		return
	}
	separator, text := separatorOf(text)
	l.csv = csv.NewReader(bytes.NewReader(text))
	l.csv.FieldsPerRecord = -1 // counted here, so that every row is read
	l.csv.ReuseRecord = true
	l.csv.Comma = separator
	header, ok := l.next()
	for ok && header != nil && isEmptyRow(header) {
		header, ok = l.next()
	}
	if !ok {
		if len(l.wrong) == 0 {
			l.wrongAt(1, 1, "", field("", "is empty: the first row names the columns: %s", strings.Join(listColumns, ", ")))
		}
		return
	}
	if !l.readHeader(header) {
		return
	}
	for {
		row, ok := l.next()
		if !ok {
			break
		}
		if row == nil {
			if len(l.wrong) > maxListErrors {
				return
			}
			continue
		}
		if isEmptyRow(row) {
			continue
		}
		switch l.rows++; {
		case l.rows > maxImportRows:
			l.bad(0, "is one more than the %d accounts that a list may have: divide it", maxImportRows)
			return
		case len(l.wrong) > maxListErrors:
			l.bad(0, "is as far as the list was read: there are more than %d errors before it", maxListErrors)
			return
		}
		l.readRow(row)
	}
	if l.rows == 0 && len(l.wrong) == 0 {
		l.wrongAt(1, 1, "", field("", "has no accounts, only the names of the columns"))
	}
}

func isEmptyRow(row []string) bool {
	return !slices.ContainsFunc(row, func(cell string) bool { return strings.TrimSpace(cell) != "" })
}

// next returns the next row, or nil for a row that cannot be read. ok is false after
// the last row.
func (l *lister) next() (row []string, ok bool) {
	row, err := l.csv.Read()
	var malformed *csv.ParseError
	switch {
	case err == nil:
		return row, true
	case errors.Is(err, io.EOF):
		return nil, false
	case errors.As(err, &malformed):
		message := "cannot be read"
		switch {
		case errors.Is(err, csv.ErrBareQuote):
			message = `has a " within a field: put the field in "..." and write "" for each " in it`
		case errors.Is(err, csv.ErrQuote):
			l.wrongAt(malformed.Line, malformed.Column, "", field("", `has a quoted field, begun in line %d, that does not end as it must: write "" for each " in it`, malformed.StartLine))
			return nil, true
		}
		l.wrongAt(malformed.Line, malformed.Column, "", plain("", message))
		return nil, true
	}
	l.wrongAt(1, 1, "", field("", "cannot be read"))
	return nil, false
}

func (l *lister) readHeader(row []string) bool {
	for i, cell := range row {
		name := strings.ToLower(strings.TrimSpace(cell))
		switch {
		case name == "":
			// Such columns hold cells that were once in use, or row numbers.
		case !slices.Contains(listColumns, name):
			l.bad(i, "names a column that is not known: the known ones are %s, separated by , or ; or tabs", strings.Join(listColumns, ", "))
		case slices.Contains(l.header, name):
			l.bad(i, "names the column %s again", name)
		}
		l.header = append(l.header, name)
	}
	if len(l.wrong) == 0 && !slices.Contains(l.header, columnAddress) {
		l.bad(0, "names no column %s", columnAddress)
	}
	return len(l.wrong) == 0
}

func (l *lister) readRow(row []string) {
	for i, cell := range row[min(len(row), len(l.header)):] {
		if strings.TrimSpace(cell) != "" {
			// A separator within a field is more likely than a column without a name:
			// the cells after it are then in the wrong columns.
			line, column := l.csv.FieldPos(len(l.header) + i)
			l.wrongAt(line, column, "", field("",
				`the row has %d fields, and the first row names %d: put a field with %s in it in "..."`, len(row), len(l.header), separatorNames[l.csv.Comma]))
			return
		}
	}
	var a auth.Imported
	for i, cell := range row[:min(len(row), len(l.header))] {
		cell = strings.TrimSpace(cell)
		if l.header[i] == "" {
			if cell != "" {
				l.aside++
			}
			continue
		}
		if !utf8.ValidString(cell) {
			l.bad(i, `is not UTF-8: save the list as "CSV UTF-8"`)
			continue
		}
		isDate := l.header[i] != columnAddress && l.header[i] != columnUnit
		if message := spoiledCell(cell, isDate); message != "" {
			line, column := l.csv.FieldPos(i)
			l.wrongAt(line, column, l.header[i], plain("", message))
			continue
		}
		switch l.header[i] {
		case columnAddress:
			a.Name = l.readAddress(i, cell)
		case columnUnit:
			switch {
			case utf8.RuneCountInString(cell) > maxUnit:
				l.bad(i, "is longer than %d characters", maxUnit)
			case strings.ContainsFunc(cell, func(r rune) bool { return !unicode.IsPrint(r) }):
				l.bad(i, "has characters that cannot be printed, perhaps a line break")
			case strings.Contains(cell, "?"):
				// Excel's "CSV (Comma delimited)" turns "Sở Y tế" into "S? Y t?".
				l.bad(i, `has a ?, which spreadsheets write for letters that a format lacks: save the list as "CSV UTF-8"`)
			}
			// A letter and its combining accents are the same unit as the composed
			// letter.
			a.Unit = norm.NFC.String(cell)
		case columnSince:
			a.Registered = l.readTime(i, cell)
		case columnLogin:
			a.LastLogin = l.readTime(i, cell)
		case columnPassword:
			a.PasswordChanged = l.readTime(i, cell)
		}
	}
	l.list = append(l.list, a)
}

func (l *lister) readAddress(i int, cell string) auth.Name {
	if cell == "" {
		l.bad(i, "is empty")
		return ""
	}
	name, err := l.own(cell)
	switch {
	case errors.Is(err, auth.ErrAlias):
		l.bad(i, "is an alias of %s: write the account itself, once", name)
		return ""
	case errors.Is(err, auth.ErrForeignDomain):
		l.bad(i, "is of a domain that is not served here")
		return ""
	case errors.Is(err, auth.ErrNotASCII):
		l.bad(i, "has letters beyond ASCII before the @: write it without accents, or set names.unicode: true if the mail server tells them apart")
		return ""
	case errors.Is(err, auth.ErrMasterUser):
		l.bad(i, "has a character that separates master users")
		return ""
	case err != nil:
		l.bad(i, "is no address: want local@domain, without +detail")
		return ""
	}
	line, _ := l.csv.FieldPos(i)
	if first, twice := l.seen[name]; twice {
		l.bad(i, "is the account of line %d again: write it once", first)
		return ""
	}
	l.seen[name] = line
	return name
}

// readTime reads an instant, or a date, which means the beginning of that day in the
// zone of the regulation. An empty cell means never.
func (l *lister) readTime(i int, cell string) time.Time {
	if cell == "" {
		return time.Time{}
	}
	t, ok := parseListTime(cell, l.zone)
	switch {
	case !ok:
		l.bad(i, "is no date: want 2026-01-31, 31/01/2026, 2026-01-31T08:00:00+07:00 or 20260131010000Z")
	case t.After(l.now):
		l.bad(i, "is in the future")
	case t.Before(oldest):
		l.bad(i, "is before %d: leave it empty where it stands for never", oldest.Year())
	}
	return t
}
