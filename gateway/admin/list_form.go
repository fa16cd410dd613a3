package admin

import (
	"bytes"
	"encoding/binary"
	"errors"
	"regexp"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// utf16Orders are the byte order marks of UTF-16, in which Excel saves "Unicode Text".
var utf16Orders = []struct {
	mark  string
	order binary.ByteOrder
}{
	{"\xff\xfe", binary.LittleEndian},
	{"\xfe\xff", binary.BigEndian},
}

var errDamagedUTF16 = errors.New("damaged UTF-16")

// textOf returns a list in UTF-8, without a byte order mark and with \n as line end:
// old Mac programs write \r alone.
func textOf(data []byte) ([]byte, error) {
	data, err := decodeUTF16(data)
	if err != nil {
		return nil, err
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if !bytes.ContainsRune(data, '\n') {
		data = bytes.ReplaceAll(data, []byte("\r"), []byte("\n"))
	}
	return data, nil
}

// decodeUTF16 decodes text that begins with a byte order mark of UTF-16, and returns
// all other text unchanged. It replaces nothing: half a character is an error.
func decodeUTF16(data []byte) ([]byte, error) {
	for _, o := range utf16Orders {
		units, found := bytes.CutPrefix(data, []byte(o.mark))
		if !found {
			continue
		}
		if len(units)%2 != 0 {
			return nil, errDamagedUTF16
		}
		text := make([]byte, 0, len(units))
		for ; len(units) > 0; units = units[2:] {
			r := rune(o.order.Uint16(units))
			if utf16.IsSurrogate(r) {
				if len(units) < 4 {
					return nil, errDamagedUTF16
				}
				units = units[2:]
				if r = utf16.DecodeRune(r, rune(o.order.Uint16(units))); r == utf8.RuneError {
					return nil, errDamagedUTF16
				}
			}
			text = utf8.AppendRune(text, r)
		}
		return text, nil
	}
	return data, nil
}

// namedSeparator matches a first line that tells Excel the separator: sep=; alone, in
// quotes, or followed by the empty cells of the other columns.
var namedSeparator = regexp.MustCompile(`(?i)^"?sep=([,;\t])"?[,;\t]*\r?\n`)

// separatorOf returns the separator of a list, and the list without the line that names
// it (an empty line replaces it, so that line numbers stay right). Without such a line
// the separator is the one most frequent outside quotes in the first row: names of
// columns contain none.
func separatorOf(text []byte) (rune, []byte) {
	if m := namedSeparator.FindSubmatch(text); m != nil {
		return rune(m[1][0]), text[len(m[0])-1:]
	}
	count := map[byte]int{}
	isQuoted := false
	for line := range bytes.Lines(text) {
		for _, b := range line {
			switch {
			case b == '"':
				isQuoted = !isQuoted
			case !isQuoted && (b == ',' || b == ';' || b == '\t'):
				count[b]++
			}
		}
		if len(bytes.Trim(line, ",;\t\" \r\n")) > 0 {
			break // the rows before were empty
		}
	}
	best := byte(',')
	for _, b := range []byte{';', '\t'} {
		if count[b] > count[best] {
			best = b
		}
	}
	return rune(best), text
}

// spoiled are values that a spreadsheet shows in place of the real ones.
var spoiled = []struct {
	pattern *regexp.Regexp
	message string
	date    bool // only in a column with dates
}{
	{regexp.MustCompile(`^#+$`), "is cut: make the column wider in the spreadsheet, and save again", false},
	{regexp.MustCompile(`^(#[A-Z0-9_/]+[!?]?|Err:\d+)$`), "is an error of the spreadsheet: correct the formula of the cell", false},
	{regexp.MustCompile(`^\d{5}([.,]\d+)?$`), "is a number of days, as a spreadsheet keeps a date: give the column the format dd/mm/yyyy, and save again", true},
	{regexp.MustCompile(`^\d{1,2}[/.-]\d{1,2}[/.-]\d{2}( .*)?$`), "has a year of two digits: give the column the format dd/mm/yyyy, and save again", true},
}

// spoiledCell describes the damage that a spreadsheet did to a cell; empty if there is
// none.
func spoiledCell(cell string, isDate bool) string {
	for _, s := range spoiled {
		if (isDate || !s.date) && s.pattern.MatchString(cell) {
			return s.message
		}
	}
	return ""
}

// listLayouts are the permitted dates: ISO 8601, with or without a time of day, and the
// form of spreadsheets in a Vietnamese locale, with the day first.
var listLayouts = []string{
	time.DateOnly, "2/1/2006", "2-1-2006", time.RFC3339,
	"2006-01-02 15:04", time.DateTime, "2/1/2006 15:04", "2/1/2006 15:04:05", "2/1/2006 3:04PM", "2/1/2006 3:04:05PM",
}

// halves are the halves of a day (buổi sáng, chiều) as a Vietnamese locale writes them
// after the time, and as Go parses them.
var halves = []struct{ suffix, layout string }{{"SA", "AM"}, {"CH", "PM"}, {"AM", "AM"}, {"PM", "PM"}}

// parseListTime reads a date or an instant; ok is false if the cell is neither.
func parseListTime(cell string, zone *time.Location) (t time.Time, ok bool) {
	for _, h := range halves {
		if before, found := strings.CutSuffix(cell, h.suffix); found {
			cell = strings.TrimSpace(before) + h.layout
			break
		}
	}
	for _, layout := range listLayouts {
		if t, err := time.ParseInLocation(layout, cell, zone); err == nil {
			return t, true
		}
	}
	return parseGeneralizedTime(cell)
}

// generalizedTime is the LDAP syntax Generalized Time (RFC 4517 section 3.3.13), as in
// OpenLDAP's pwdChangedTime and Active Directory's whenCreated. The zone is required
// there.
var generalizedTime = regexp.MustCompile(`^(\d{10})(\d\d)?(\d\d)?([.,]\d+)?(Z|[+-](?:[01]\d|2[0-3])(?:[0-5]\d)?)$`)

func parseGeneralizedTime(cell string) (t time.Time, ok bool) {
	m := generalizedTime.FindStringSubmatch(cell)
	if m == nil || m[2] == "" && m[3] != "" {
		return time.Time{}, false
	}
	hour, minute, second, fraction, zone := m[1], m[2], m[3], m[4], m[5]
	unit := time.Second
	switch {
	case minute == "":
		unit = time.Hour
	case second == "":
		unit = time.Minute
	}
	// A leap second counts as the first second of the next minute.
	var leap time.Duration
	if second == "60" {
		second, leap = "59", time.Second
	}
	if len(zone) == 3 {
		zone += "00"
	}
	t, err := time.Parse("20060102150405Z0700", hour+pad(minute)+pad(second)+zone)
	if err != nil {
		return time.Time{}, false
	}
	if fraction != "" {
		part, err := time.ParseDuration("0." + fraction[1:] + "s")
		if err != nil {
			return time.Time{}, false
		}
		t = t.Add(part * (unit / time.Second))
	}
	return t.Add(leap), true
}

// pad returns the two digits of a minute or second, "00" if it was left out.
func pad(digits string) string {
	if digits == "" {
		return "00"
	}
	return digits
}
