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

	"congthu/auth"
)

// The columns that a list may have.
const (
	columnAddress  = "address"
	columnUnit     = "unit"
	columnSince    = "registered"
	columnLogin    = "last_login"
	columnPassword = "password_changed"
)

var listColumns = []string{columnAddress, columnUnit, columnSince, columnLogin, columnPassword}

// maxListErrors is after how many errors there is no point in more.
const maxListErrors = 10_000

// maxUnit bounds the name of a unit, in characters.
const maxUnit = 200

// oldest is the earliest date that is believed: before it a date stands for
// "never" (1970-01-01, 1899-12-30) in the program that it comes from.
var oldest = time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)

// readList reads a list of accounts and tells all that is wrong with it: CSV as
// RFC 4180 has it, separated by commas or, as Excel does it where the comma is
// the decimal sign, semicolons; UTF-8 with or without a byte order mark. Rows
// without anything in them are skipped.
func readList(data []byte, own func(string) (auth.Name, error), zone *time.Location, now time.Time) ([]auth.Imported, []ListError) {
	l := &lister{own: own, zone: zone, now: now, seen: make(map[auth.Name]int)}
	l.read(data)
	if len(l.wrong) > 0 {
		return nil, l.wrong
	}
	return l.list, nil
}

type lister struct {
	own  func(string) (auth.Name, error)
	zone *time.Location
	now  time.Time

	csv    *csv.Reader
	header []string
	rows   int
	seen   map[auth.Name]int // the line of each account
	list   []auth.Imported
	wrong  []ListError
}

// bad notes a mistake in a field of the current row.
func (l *lister) bad(field int, message string, args ...any) {
	line, column := l.csv.FieldPos(field)
	name := ""
	if field < len(l.header) {
		name = l.header[field]
	}
	l.wrongAt(line, column, name, fmt.Sprintf(message, args...))
}

func (l *lister) wrongAt(line, column int, field, message string) {
	location := fmt.Sprintf("line %d, column %d", line, column)
	if field != "" {
		location += " (" + field + ")"
	}
	l.wrong = append(l.wrong, ListError{Location: location, Message: message, Line: line, Column: column, Field: field})
}

func (l *lister) read(data []byte) {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		l.wrongAt(1, 1, "", `is UTF-16: save it as "CSV UTF-8"`)
		return
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	first, _, _ := bytes.Cut(data, []byte("\n"))
	l.csv = csv.NewReader(bytes.NewReader(data))
	l.csv.FieldsPerRecord = -1 // counted here, so that every row is read
	l.csv.ReuseRecord = true
	if bytes.ContainsRune(first, ';') && !bytes.ContainsRune(first, ',') {
		l.csv.Comma = ';'
	}
	header, ok := l.next()
	if !ok {
		if len(l.wrong) == 0 {
			l.wrongAt(1, 1, "", "is empty: the first row names the columns: "+strings.Join(listColumns, ", "))
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
		if !slices.ContainsFunc(row, func(cell string) bool { return strings.TrimSpace(cell) != "" }) {
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
		l.wrongAt(1, 1, "", "has no accounts, only the names of the columns")
	}
}

// next returns the next row; none of one that cannot be read. ok is false after
// the last.
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
			message = fmt.Sprintf(`has a quoted field, begun in line %d, that does not end as it must: write "" for each " in it`, malformed.StartLine)
		}
		l.wrongAt(malformed.Line, malformed.Column, "", message)
		return nil, true
	}
	l.wrongAt(1, 1, "", "cannot be read")
	return nil, false
}

func (l *lister) readHeader(row []string) bool {
	for i, cell := range row {
		name := strings.ToLower(strings.TrimSpace(cell))
		switch {
		case !slices.Contains(listColumns, name):
			l.bad(i, "names a column that is not known: the known ones are %s, separated by , or ;", strings.Join(listColumns, ", "))
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
	if len(row) != len(l.header) {
		l.bad(min(len(row), len(l.header))-1, "has %d fields, and the first row names %d", len(row), len(l.header))
		return
	}
	var a auth.Imported
	for i, cell := range row {
		cell = strings.TrimSpace(cell)
		if !utf8.ValidString(cell) {
			l.bad(i, `is not UTF-8: save the list as "CSV UTF-8"`)
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
			}
			a.Unit = cell
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

// readTime reads a date, which is the beginning of that day where the regulation
// is in force, or an instant. Nothing is never.
func (l *lister) readTime(i int, cell string) time.Time {
	if cell == "" {
		return time.Time{}
	}
	for _, layout := range []string{time.DateOnly, "2/1/2006", time.RFC3339} {
		t, err := time.ParseInLocation(layout, cell, l.zone)
		if err != nil {
			continue
		}
		switch {
		case t.After(l.now):
			l.bad(i, "is in the future")
		case t.Before(oldest):
			l.bad(i, "is before %d: leave it empty where it stands for never", oldest.Year())
		}
		return t
	}
	l.bad(i, "is no date: want 2026-01-31, 31/01/2026 or 2026-01-31T08:00:00+07:00")
	return time.Time{}
}
