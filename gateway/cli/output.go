package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// output is the output format: for people, or the gateway's JSON.
type output string

const (
	outputTable output = "table"
	outputJSON  output = "json"
)

// String implements pflag.Value.
func (o *output) String() string { return string(*o) }

// Set implements pflag.Value.
func (o *output) Set(s string) error {
	switch output(s) {
	case outputTable, outputJSON:
		*o = output(s)
		return nil
	}
	return sentence("write table or json")
}

// Type implements pflag.Value.
func (o *output) Type() string { return "FORMAT" }

func outputFlag(cmd *cobra.Command, flags *pflag.FlagSet, o *output) {
	*o = outputTable
	flags.VarP(o, "output", "o", "table, for people, or json")
	must(cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp)))
}

// printJSON prints an answer of the gateway, indented and otherwise unchanged.
func printJSON(w io.Writer, answer json.RawMessage) error {
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(answer), "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err := w.Write(b.Bytes())
	return err
}

// table prints rows in aligned columns, each line indented.
func table(w io.Writer, indent string, rows [][]string) {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = clean(cell)
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	t.Flush()
	for line := range strings.Lines(b.String()) {
		fmt.Fprintln(w, strings.TrimRight(indent+line, " \n"))
	}
}

// clean makes text from outside safe for a terminal and for a table.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || r == '\n' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// Formats of instants in Vietnamese, in the time zone of Vietnam and in another.
const (
	instantVietnamese   = "15:04 ngày 02/01/2006"
	elsewhereVietnamese = "15:04 -07 ngày 02/01/2006"
)

// when formats an instant in the time zone of the regulation; a dash means never.
// Midnight is printed as a date: lists of accounts contain only dates, and a password
// expires at midnight. In Vietnamese the format is that of the gateway's sentences, and
// the zone is printed unless it is that of Vietnam.
func when(t time.Time, zone *time.Location) string {
	if t.IsZero() {
		return "-"
	}
	t = t.In(zone)
	if t.Equal(time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, zone)) {
		return day(t)
	}
	if spoken() == english {
		return t.Format("2006-01-02 15:04 -07")
	}
	if _, offset := t.Zone(); offset != 7*60*60 {
		return t.Format(elsewhereVietnamese)
	}
	return t.Format(instantVietnamese)
}

// day formats a date.
func day(t time.Time) string {
	if spoken() == english {
		return t.Format(time.DateOnly)
	}
	return t.Format("02/01/2006")
}

// plural returns "1 account", "2 accounts". A Vietnamese noun has no plural form.
func plural(n int, one string) string {
	if n == 1 || spoken() == vietnamese {
		return fmt.Sprintf("%d %s", n, tr(one))
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// heading returns the first row of a table.
func heading(words ...string) []string {
	for i, word := range words {
		words[i] = tr(word)
	}
	return words
}

// orDash returns a dash for an empty string.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
