package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// source is a file under check: its text, the place of each field, and the mistakes
// found so far.
type source struct {
	file     string
	text     string
	lines    []string
	at       places
	problems []Problem
	warnings []Problem
}

// place is the place of a field.
type place struct{ key, value span }

// span is the place of one token; the zero span means none.
type span struct{ line, column, width int }

// newSource returns a source for the text of a file, with all line ends converted to
// \n, so that the parser and the reader count the same lines.
func newSource(file string, data []byte) *source {
	text := strings.TrimPrefix(string(data), "\ufeff") // a byte order mark
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
	return &source{file: file, text: text, lines: strings.Split(text, "\n"), at: make(places)}
}

// given reports whether the file contains the field.
func (s *source) given(path string) bool {
	_, ok := s.at[path]
	return ok
}

func (s *source) locate(path string) span { return s.at.locate(path) }

// places maps paths of fields to their places in the file.
type places map[string]place

// locate returns the place to show for a field: its value, its key, or the nearest part
// of the file around it.
func (all places) locate(path string) span {
	p, ok := all[path]
	if ok && p.value.line > 0 {
		return p.value
	}
	for !ok {
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return span{}
		}
		path = path[:i]
		p, ok = all[path]
	}
	if p.key.line > 0 {
		return p.key
	}
	return p.value
}

// problem returns a Problem that points at a place.
func (s *source) problem(at span, path, message, fix string) Problem {
	p := Problem{File: s.file, Line: at.line, Column: at.column, Path: oneLine(path), Message: oneLine(message), Fix: oneLine(fix), width: at.width}
	if at.line > 0 && at.line <= len(s.lines) {
		p.source = presentable(s.lines[at.line-1])
		p.width = min(at.width, max(1, len([]rune(p.source))-at.column+1))
	}
	return p
}

func (s *source) wrongAt(at span, path, message, fix string) {
	s.problems = append(s.problems, s.problem(at, path, message, fix))
}

// wrong records a mistake in a field.
func (s *source) wrong(path, fix, format string, args ...any) {
	s.wrongAt(s.locate(path), path, fmt.Sprintf(format, args...), fix)
}

// wrongKey records a mistake in the name of a field.
func (s *source) wrongKey(path, fix, format string, args ...any) {
	at := s.locate(path)
	if p := s.at[path]; p.key.line > 0 {
		at = p.key
	}
	s.wrongAt(at, path, fmt.Sprintf(format, args...), fix)
}

// doubt records a warning about a field.
func (s *source) doubt(path, fix, format string, args ...any) {
	s.warnings = append(s.warnings, s.problem(s.locate(path), path, fmt.Sprintf(format, args...), fix))
}

// mistaken records an error of one of the read functions.
func (s *source) mistaken(path string, err error) {
	var m *mistake
	if errors.As(err, &m) {
		if _, item, ok := strings.Cut(path, ".pin_sha256"); ok && item != "" {
			m.fix = "take the sum of the public key: openssl x509 -in cert.pem -noout -pubkey | openssl pkey -pubin -outform der | sha256sum"
		}
		s.wrong(path, m.fix, "`%s`: %s", path, m.message)
		return
	}
	s.wrong(path, "", "`%s`: %v", path, err)
}

// refused reports whether a mistake in the field, or in a group around it, is already
// recorded: a second report would only confuse.
func (s *source) refused(path string) bool {
	return slices.ContainsFunc(s.problems, func(p Problem) bool {
		return p.Path == path || p.Path != "" && (strings.HasPrefix(path, p.Path+".") || strings.HasPrefix(path, p.Path+"["))
	})
}

// maxFile limits the size of a configuration file and of each file that it names.
const maxFile = 1 << 20

// tree parses the YAML. For a file that is empty or not YAML it records the mistake and
// returns nil.
func (s *source) tree() (root ast.Node) {
	defer func() {
		// The parser is not ours; a file that makes it panic counts as a mistake.
		if r := recover(); r != nil {
			root = nil
			s.wrongAt(span{}, "", "this is not YAML", "compare it with the example")
		}
	}()
	for i, line := range s.lines {
		if !utf8.ValidString(line) {
			s.wrongAt(span{i + 1, 1, 1}, "", "this line is not UTF-8", "save the file as UTF-8")
			return nil
		}
	}
	if depth(s.text) > 100 {
		s.wrongAt(span{}, "", "brackets are nested more than 100 deep", "compare it with the example")
		return nil
	}
	// Repeated keys are found in mapping, with both places.
	file, err := parser.ParseBytes([]byte(s.text), 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var at span
		message, fix := "this is not YAML: "+err.Error(), ""
		var syntax *yaml.SyntaxError
		if errors.As(err, &syntax) {
			at = spanOf(syntax.Token)
			message = "this is not YAML: " + syntax.Message
		}
		if at.line > 0 && at.line <= len(s.lines) && strings.HasPrefix(strings.TrimLeft(s.lines[at.line-1], " "), "\t") {
			fix = "indent with spaces; YAML allows no tabs there"
		} else {
			fix = "check the indentation, the colons and the quotes on this line and the one above"
		}
		s.wrongAt(at, "", message, fix)
		return nil
	}
	var bodies []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil {
			bodies = append(bodies, doc.Body)
		}
	}
	switch len(bodies) {
	case 0:
		return nil
	case 1:
		return bodies[0]
	}
	s.wrongAt(nodeSpan(bodies[1]), "", "a second document begins here", "keep one document in the file: remove the line ---")
	return bodies[0]
}

// depth returns the nesting depth of brackets, including those in strings and comments.
func depth(text string) int {
	deepest, now := 0, 0
	for _, c := range text {
		switch c {
		case '[', '{':
			now++
			deepest = max(deepest, now)
		case ']', '}':
			now--
		}
	}
	return deepest
}

// spanOf returns the place of a token.
func spanOf(tk *token.Token) span {
	if tk == nil || tk.Position == nil || tk.Position.Line < 1 {
		return span{}
	}
	text, _, _ := strings.Cut(strings.TrimSpace(tk.Origin), "\n")
	return span{tk.Position.Line, max(1, tk.Position.Column), max(1, len([]rune(text)))}
}
