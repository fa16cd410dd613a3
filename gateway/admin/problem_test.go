package admin

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"
)

// Without a Vietnamese text, users of Vietnamese would see a problem in English.
func TestEveryProblemTextHasBothLanguages(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	// The functions that take such texts, with the position of the text.
	takes := map[string]int{"problem": 1, "problemf": 1, "invalid": 1, "field": 1, "plain": 1, "unavailable": 0, "writeProblem": 2, "bad": 1, "explained": 0, "failure": 1, "inVietnamese": 0}
	used := map[string]bool{"": true}
	var all strings.Builder // all source code
	set := token.NewFileSet()
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") || name == "problem_vi.go" {
			continue
		}
		file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
				text, err := strconv.Unquote(l.Value)
				if err != nil {
					t.Fatal(err)
				}
				all.WriteString(text + "\x00")
			}
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			name := ""
			switch f := call.Fun.(type) {
			case *ast.Ident:
				name = f.Name
			case *ast.SelectorExpr:
				name = f.Sel.Name
			}
			at, ok := takes[name]
			if !ok || at >= len(call.Args) {
				return true
			}
			if l, ok := call.Args[at].(*ast.BasicLit); ok {
				text, err := strconv.Unquote(l.Value)
				if err != nil {
					t.Fatal(err)
				}
				used[text] = true
				if problemTexts[text] == "" && text != "" {
					t.Errorf("%s: no Vietnamese in problemTexts: %q", set.Position(l.Pos()), text)
				}
			}
			return true
		})
	}
	verb := regexp.MustCompile(`%[a-z]`)
	elsewhere := []string{ // of package auth
		"two clocks differ", "the clock is suspect", "too many accounts at once would be revoked",
		"the settings that were agreed on are of a newer version: run the version of the other gateways",
	}
	for en, vi := range problemTexts {
		if !slices.Equal(verb.FindAllString(en, -1), verb.FindAllString(vi, -1)) {
			t.Errorf("other arguments: %q, %q", en, vi)
		}
		if !norm.NFC.IsNormalString(vi) {
			t.Errorf("not composed letters (NFC): %q", vi)
		}
		if !used[en] && !strings.Contains(all.String(), en+"\x00") && !slices.Contains(elsewhere, en) {
			t.Errorf("nowhere used: %q", en)
		}
	}
}

func TestAProblemHasBothLanguages(t *testing.T) {
	p := invalid("body.days", "must be 1 to %d", 14)
	body, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(body), `{"title":"Unprocessable Entity","status":422,"detail":"validation failed","detail_vi":"yêu cầu không hợp lệ",`+
		`"errors":[{"message":"must be 1 to 14","location":"body.days","message_vi":"phải từ 1 đến 14"}]}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
