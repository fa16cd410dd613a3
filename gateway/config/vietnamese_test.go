package config

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"
)

// Every mistake that the golden files have is said in Vietnamese; the report of each
// is in one golden file.
func TestEveryMistakeIsToldInVietnamese(t *testing.T) {
	golden := inTestdata(t)
	files, err := filepath.Glob("invalid-*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	warned, err := filepath.Glob("warnings*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, file := range append(files, warned...) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var problems []Problem
		c, err := parse(file, data, now)
		var mistakes *Error
		if errors.As(err, &mistakes) {
			problems = mistakes.Problems
			all.WriteString(mistakes.ReportInVietnamese() + "\n")
		} else {
			problems = c.Warnings
		}
		for _, p := range problems {
			vi := p.InVietnamese()
			if vi.Message == p.Message {
				t.Errorf("%s: no Vietnamese for %q", file, p.Message)
			}
			if vi.Fix == p.Fix && !strings.HasPrefix(p.Fix, "chmod ") {
				t.Errorf("%s: no Vietnamese for %q", file, p.Fix)
			}
		}
	}
	compare(t, filepath.Join(golden, "vietnamese.golden"), all.String())
}

// A text that has changed in the sources would go on in English alone.
func TestEverySayingIsStillSaid(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var sources strings.Builder
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") || name == "vietnamese.go" {
			continue
		}
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		sources.WriteString(strings.NewReplacer(`\"`, `"`, `%%`, `%`).Replace(string(data)))
	}
	// The longest piece without words of the file.
	pieces := regexp.MustCompile("%s|`[^`]*`|\"[^\"]*\"|[.:]")
	for _, s := range sayings {
		if strings.Count(s.en, "%s") != strings.Count(s.vi, "%s") {
			t.Errorf("other words in Vietnamese: %q", s.en)
		}
		if !norm.NFC.IsNormalString(s.vi) {
			t.Errorf("not composed letters (NFC): %q", s.vi)
		}
		longest := ""
		for _, piece := range pieces.Split(s.en, -1) {
			if len(piece) > len(longest) {
				longest = piece
			}
		}
		longest = strings.TrimSpace(longest)
		if longest != "no such file or directory" && longest != "permission denied" && longest != "is a directory" && !strings.Contains(sources.String(), longest) {
			t.Errorf("nowhere in the sources: %q of %q", longest, s.en)
		}
	}
}
