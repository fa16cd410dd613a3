package admin

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"

	"congthu/auth"
	"congthu/auth/guard"
)

// utf16Of is text as a spreadsheet saves it in UTF-16, after a byte order mark.
func utf16Of(order binary.AppendByteOrder, text string) string {
	var b []byte
	for _, unit := range utf16.Encode([]rune("\ufeff" + text)) {
		b = order.AppendUint16(b, unit)
	}
	return string(b)
}

// readHere reads a list on 24 November 2026, where the regulation is in force.
func readHere(t *testing.T, list string) (shown string, aside int, wrong []ListError) {
	t.Helper()
	zone := time.FixedZone("", 7*60*60)
	names := &auth.Namer{Default: "x.vn"}
	g := &guard.Guard{}
	g.SetPolicy(guard.Policy{Rules: auth.DefaultRules(), Names: names})
	accounts, aside, wrong := readList([]byte(list), g.Own, zone, time.Date(2026, 11, 24, 12, 0, 0, 0, zone))
	var b strings.Builder
	day := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return t.In(zone).Format("2006-01-02 15:04:05.999")
	}
	for _, a := range accounts {
		fmt.Fprintf(&b, "%s|%s|%s|%s|%s\n", a.Name, a.Unit, day(a.Registered), day(a.LastLogin), day(a.PasswordChanged))
	}
	return b.String(), aside, wrong
}

func TestAListIsReadAsSpreadsheetsWriteIt(t *testing.T) {
	const (
		an   = "an@x.vn|Sở Y tế|2020-01-15 00:00:00|2025-06-01 00:00:00|-\n"
		binh = "binh@x.vn|Sở Nội vụ|-|-|-\n"
		both = an + binh
	)
	rows := func(separator, end string, rows ...string) string {
		return strings.ReplaceAll(strings.Join(rows, end)+end, "|", separator)
	}
	head := "address|unit|registered|last_login|password_changed"
	whole := []string{head, "an@x.vn|Sở Y tế|15/1/2020|01/06/2025|", "binh@x.vn|Sở Nội vụ|||"}
	short := []string{head, "an@x.vn|Sở Y tế|15/1/2020|01/06/2025", "binh@x.vn|Sở Nội vụ"}
	for name, c := range map[string]struct {
		list, want string
		aside      int
	}{
		"Excel, CSV UTF-8, Vietnamese locale":            {"\ufeff" + rows(";", "\r\n", whole...), both, 0},
		"Excel, CSV UTF-8, English locale":               {"\ufeff" + rows(",", "\r\n", whole...), both, 0},
		"Excel, Unicode Text":                            {utf16Of(binary.LittleEndian, rows("\t", "\r\n", whole...)), both, 0},
		"Excel, Unicode Text, last empty fields missing": {utf16Of(binary.LittleEndian, rows("\t", "\r\n", short...)), both, 0},
		"Excel, Unicode Text of a Mac":                   {utf16Of(binary.BigEndian, rows("\t", "\r\n", whole...)), both, 0},
		"Excel, CSV of a Mac":                            {rows(";", "\r", whole...), both, 0},
		"Excel, a line that names the separator":         {"\ufeffsep=;\r\n" + rows(";", "\r\n", whole...), both, 0},
		"the same with a tab":                            {"SEP=\t\r\n" + rows("\t", "\r\n", whole...), both, 0},
		"the same, written out to all columns":           {"\"sep=;\";;;;\r\n" + rows(";", "\r\n", whole...), both, 0},
		"Excel, last empty fields missing":               {"\ufeff" + rows(";", "\r\n", short...), both, 0},
		"Excel, empty cells that were once in use":       {"\ufeff" + rows(";", "\r\n", head+"||", whole[1]+"||", whole[2]+"|", "||||||"), both, 0},
		"Excel, an empty row on top":                     {"\ufeff" + rows(";", "\r\n", append([]string{"||||"}, whole...)...), both, 0},
		"Excel, empty cells beyond the columns":          {rows(";", "\r\n", head, whole[1]+"||", whole[2]), both, 0},
		"LibreOffice":                                    {rows(",", "\n", whole...), both, 0},
		"LibreOffice, semicolons, every text quoted": {
			"\"address\";\"unit\";\"registered\";\"last_login\";\"password_changed\"\n\"an@x.vn\";\"Sở Y tế\";15/01/2020;01/06/2025;\n\"binh@x.vn\";\"Sở Nội vụ\";;;\n", both, 0},
		"LibreOffice, tabs":    {rows("\t", "\n", whole...), both, 0},
		"LibreOffice, UTF-16":  {utf16Of(binary.LittleEndian, rows(",", "\n", whole...)), both, 0},
		"without a last break": {strings.TrimSuffix(rows(";", "\r\n", whole...), "\r\n"), both, 0},
		"separators in quoted fields": {"address;\"unit\"\r\nan@x.vn;\"Sở Y tế, phòng \"\"A;B\"\"\"\r\n",
			"an@x.vn|Sở Y tế, phòng \"A;B\"|-|-|-\n", 0},
		"a column without a name": {rows(";", "\r\n", "|address||unit", "1|an@x.vn||Sở Y tế", "2|binh@x.vn|ghi chú|Sở Nội vụ"),
			"an@x.vn|Sở Y tế|-|-|-\nbinh@x.vn|Sở Nội vụ|-|-|-\n", 3},
		"letters with accents apart": {"address;unit\nan@x.vn;So\u031b\u0309 Y te\u0302\u0301\n", "an@x.vn|Sở Y tế|-|-|-\n", 0},
		"letters beyond 16 bits":     {utf16Of(binary.LittleEndian, "address\tunit\r\nan@x.vn\tUBND 𠀀\r\n"), "an@x.vn|UBND 𠀀|-|-|-\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, aside, wrong := readHere(t, c.list)
			if diff := cmp.Diff(c.want, got); diff != "" || aside != c.aside || len(wrong) > 0 {
				t.Errorf("%d left aside, want %d; wrong %+v; (-want +got):\n%s", aside, c.aside, wrong, diff)
			}
		})
	}
}

func TestADateOfAListIsReadAsProgramsWriteIt(t *testing.T) {
	for cell, want := range map[string]string{
		"2026-01-31":                "2026-01-31 00:00:00",
		"31/01/2026":                "2026-01-31 00:00:00",
		"1/2/2026":                  "2026-02-01 00:00:00",
		"31-01-2026":                "2026-01-31 00:00:00",
		"2026-01-31T08:00:00+07:00": "2026-01-31 08:00:00",
		"2026-01-31T01:00:00Z":      "2026-01-31 08:00:00",
		// Cells with a time of day.
		"31/01/2026 8:05":       "2026-01-31 08:05:00",
		"31/01/2026 08:05:09":   "2026-01-31 08:05:09",
		"31/1/2026 8:05 SA":     "2026-01-31 08:05:00",
		"31/1/2026 8:05:09 CH":  "2026-01-31 20:05:09",
		"31/01/2026 12:05 SA":   "2026-01-31 00:05:00",
		"31/01/2026 12:05:00CH": "2026-01-31 12:05:00",
		"31/01/2026 08:05 PM":   "2026-01-31 20:05:00",
		"2026-01-31 08:05":      "2026-01-31 08:05:00",
		"2026-01-31 08:05:09":   "2026-01-31 08:05:09",
		// LDAP's generalized time, RFC 4517 section 3.3.13.
		"20260131080000Z":      "2026-01-31 15:00:00",
		"20260131080000.0Z":    "2026-01-31 15:00:00",
		"20260131080000.25Z":   "2026-01-31 15:00:00.25",
		"20260131080000,5Z":    "2026-01-31 15:00:00.5",
		"202601310800Z":        "2026-01-31 15:00:00",
		"2026013108Z":          "2026-01-31 15:00:00",
		"2026013108.5Z":        "2026-01-31 15:30:00",
		"202601310800.5Z":      "2026-01-31 15:00:30",
		"20260131080000+0700":  "2026-01-31 08:00:00",
		"20260131080000+07":    "2026-01-31 08:00:00",
		"20260131080000-0330":  "2026-01-31 18:30:00",
		"20251231235960Z":      "2026-01-01 07:00:00",
		"20260131080000.123Z ": "2026-01-31 15:00:00.123",
	} {
		got, _, wrong := readHere(t, "address;last_login\nan@x.vn;"+quoted(cell)+"\n")
		if full := "an@x.vn||-|" + want + "|-\n"; got != full || len(wrong) > 0 {
			t.Errorf("%q: %q, %+v; want %s", cell, got, wrong, want)
		}
	}
}

func quoted(cell string) string { return `"` + strings.ReplaceAll(cell, `"`, `""`) + `"` }

func TestACellThatASpreadsheetHasSpoiledIsNamedAndRefused(t *testing.T) {
	const noDate = "is no date: want 2026-01-31,"
	for _, c := range []struct{ column, cell, want string }{
		{"last_login", "31/01/26", "has a year of two digits: give the column the format dd/mm/yyyy"},
		{"last_login", "31-01-26", "has a year of two digits"},
		{"last_login", "46053", "is a number of days, as a spreadsheet keeps a date: give the column the format dd/mm/yyyy"},
		{"last_login", "46053,3368", "is a number of days"},
		{"last_login", "46053.3368", "is a number of days"},
		{"last_login", "########", "is cut: make the column wider in the spreadsheet, and save again"},
		{"last_login", "#VALUE!", "is an error of the spreadsheet"},
		{"unit", "#N/A", "is an error of the spreadsheet"},
		{"unit", "Err:502", "is an error of the spreadsheet"},
		{"address", "#REF!", "is an error of the spreadsheet"},
		{"unit", "S? Y t?", `has a ?, which spreadsheets write for letters that a format lacks: save the list as "CSV UTF-8"`},
		{"last_login", "31 tháng 1 năm 2026", noDate},
		{"last_login", "1/31/2026", noDate},
		{"last_login", "31/01/2026 25:00", noDate},
		{"last_login", "20261301080000Z", noDate},
		{"last_login", "20260230080000Z", noDate},
		{"last_login", "20260131240000Z", noDate},
		{"last_login", "20260131086000Z", noDate},
		{"last_login", "20260131080061Z", noDate},
		{"last_login", "20260131Z", noDate},
		{"last_login", "20260131080000.Z", noDate},
		{"last_login", "20260131080000+2400", noDate},
		{"last_login", "20260131080000+07:00", noDate},
		// Without a zone it is local, and whose is not said (RFC 4517 requires one).
		{"last_login", "20260131080000", noDate},
		{"last_login", "133500000000000000", noDate},
		{"last_login", "19700101000000Z", "is before 1990"},
		{"last_login", "20261124050001Z", "is in the future"},
	} {
		cells := map[string]string{"address": "an@x.vn", c.column: c.cell}
		got, _, wrong := readHere(t, "address;unit;last_login\n"+quoted(cells["address"])+";"+quoted(cells["unit"])+";"+quoted(cells["last_login"])+"\n")
		if got != "" || len(wrong) != 1 || !strings.Contains(wrong[0].Message, c.want) || wrong[0].Field != c.column {
			t.Errorf("%q: %q, %+v; want %q in %s", c.cell, got, wrong, c.want, c.column)
		}
	}
	for _, field := range []string{"registered", "password_changed"} {
		if _, _, wrong := readHere(t, "address,"+field+"\nan@x.vn,46053\n"); len(wrong) != 1 || wrong[0].Field != field {
			t.Errorf("%s: %+v", field, wrong)
		}
	}
}

func TestErrorsOfAListHaveTheLinesOfTheSpreadsheet(t *testing.T) {
	for name, c := range map[string]struct{ list, want string }{
		"after a line that names the separator": {"sep=;\r\naddress;unit\r\nan@elsewhere.vn;A\r\n", "3:1 address is of a domain that is not served here\n"},
		"after an empty row":                    {";\r\n\r\naddress;unit\r\nan@elsewhere.vn;A\r\n", "4:1 address is of a domain that is not served here\n"},
		"of a Mac":                              {"address;unit\ran@elsewhere.vn;A\r", "2:1 address is of a domain that is not served here\n"},
		"in UTF-16":                             {utf16Of(binary.LittleEndian, "address\tunit\r\nan@elsewhere.vn\tA\r\n"), "2:1 address is of a domain that is not served here\n"},
		"half a letter of UTF-16":               {utf16Of(binary.LittleEndian, "address\n") + "a", "1:1  is UTF-16 that is damaged: save it as \"CSV UTF-8\"\n"},
		"half a pair of UTF-16":                 {utf16Of(binary.LittleEndian, "address\n") + "\x00\xd8a\x00", "1:1  is UTF-16 that is damaged: save it as \"CSV UTF-8\"\n"},
		"more fields than columns":              {"address;unit\nan@x.vn;Sở A;B;\n", "2:16  the row has 4 fields, and the first row names 2: put a field with ; in it in \"...\"\n"},
		"only a separator":                      {"sep=;\n", "1:1  is empty: the first row names the columns: address, unit, registered, last_login, password_changed\n"},
		"nothing but empty rows":                {";;\n;;\n", "1:1  is empty: the first row names the columns: address, unit, registered, last_login, password_changed\n"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, wrong := readHere(t, c.list)
			got := ""
			for _, e := range wrong {
				got += fmt.Sprintf("%d:%d %s %s\n", e.Line, e.Column, e.Field, e.Message)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
