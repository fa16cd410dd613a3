package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// measure is a column of the table.
type measure struct {
	title  string
	format string // of one figure
	count  bool   // neither a speed nor a size: it has no ratios
}

// results are figures by measure and peer, one a round.
type results map[string]map[string][]float64

func (r results) add(title, peer string, value float64) {
	if r[title] == nil {
		r[title] = make(map[string][]float64)
	}
	r[title][peer] = append(r[title][peer], value)
}

// median of some figures, of which there is at least one.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// ratios returns the ratio of each round: what disturbs a round disturbs all of it. ok
// is false if rounds are missing.
func ratios(values, base []float64) (rounds []float64, ok bool) {
	if len(values) == 0 || len(values) != len(base) || slices.Contains(base, 0) {
		return nil, false
	}
	rounds = make([]float64, len(values))
	for i := range values {
		rounds[i] = values[i] / base[i]
	}
	return rounds, true
}

// spread returns the median of some figures, with the least and the largest if there are
// several.
func spread(format string, values []float64) string {
	text := fmt.Sprintf(format, median(values))
	if len(values) > 1 {
		text += fmt.Sprintf(" ("+format+"-"+format+")", slices.Min(values), slices.Max(values))
	}
	return text
}

// cell returns a figure as the table shows it.
func (r results) cell(m measure, peer string) string {
	values := r[m.title][peer]
	if len(values) == 0 {
		return "-"
	}
	text := spread(m.format, values)
	if m.count {
		return text
	}
	if rounds, ok := ratios(values, r[m.title][haproxy]); ok && peer != haproxy {
		text += fmt.Sprintf(", x%.2f", median(rounds))
	}
	if rounds, ok := ratios(values, r[m.title][beside]); ok && peer == ours {
		text += ", " + spread("x%.2f", rounds) + " of beside"
	}
	return text
}

// table writes the results in Markdown: one row for each peer, one column for each
// measure.
func (r results) table(w io.Writer, measures []measure, peers []string) {
	measures = slices.DeleteFunc(slices.Clone(measures), func(m measure) bool { return len(r[m.title]) == 0 })
	fmt.Fprint(w, "| |")
	for _, m := range measures {
		fmt.Fprintf(w, " %s |", m.title)
	}
	fmt.Fprintf(w, "\n|---|%s\n", strings.Repeat("---|", len(measures)))
	for _, peer := range peers {
		fmt.Fprintf(w, "| %s |", peer)
		for _, m := range measures {
			fmt.Fprintf(w, " %s |", r.cell(m, peer))
		}
		fmt.Fprintln(w)
	}
}
