package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzParse: whatever the file, there is either a configuration or a list of
// problems that can be shown, each inside the file and with a fix.
func FuzzParse(f *testing.F) {
	seeds, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range append(seeds, "../../deploy/examples/congthu.yaml", "../../deploy/examples/minimal.yaml") {
		data, err := os.ReadFile(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(five))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		c, err := parse("testdata/fuzz.yaml", data, now)
		if err == nil {
			if c == nil || c.Rules().Location == nil || c.Namer() == nil || c.Certificate() == nil || c.AlertText(1) == "" {
				t.Fatal("a configuration that is of no use")
			}
			if _, err := c.IMAPUpstream(); err != nil {
				t.Fatal(err)
			}
			Render(c.Warnings)
			return
		}
		var mistakes *Error
		if !errors.As(err, &mistakes) || c != nil || len(mistakes.Problems) == 0 {
			t.Fatalf("%v, %v", c, err)
		}
		lines := newSource("", data).lines
		for _, p := range mistakes.Problems {
			if p.Line < 0 || p.Line > len(lines) || (p.Line == 0) != (p.Column == 0) {
				t.Errorf("outside the file: %d:%d %s", p.Line, p.Column, p.Message)
			}
			if p.Message == "" || p.Fix == "" {
				t.Errorf("without a message or a fix: %+v", p)
			}
		}
		if report := mistakes.Report(); strings.ContainsAny(report, "\x1b\x00\r") {
			t.Errorf("not fit for a terminal: %q", report)
		}
	})
}
