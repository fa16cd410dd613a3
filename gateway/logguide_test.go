package gateway

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// logLine is a message that the program writes, with its own fields: those that
// its logger has from before (With) are not among them.
type logLine struct {
	Levels, Fields map[string]bool
}

// logLines reads the sources for every message that is logged, and for every field
// there is.
func logLines(t *testing.T) (lines map[string]*logLine, fields map[string]bool) {
	t.Helper()
	lines, fields = make(map[string]*logLine), map[string]bool{"time": true, "level": true, "msg": true}
	files := token.NewFileSet()
	for _, root := range []string{"../auth", "."} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && slices.Contains([]string{"testdata", "storetest", "pgtest", "mailtest", "realtest", "demo"}, d.Name()):
				return filepath.SkipDir // no part of the gateway that is served
			case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
				return nil
			}
			file, err := parser.ParseFile(files, path, nil, 0)
			if err != nil {
				return err
			}
			for _, decl := range file.Decls {
				if f, ok := decl.(*ast.FuncDecl); ok && f.Body != nil {
					collect(files, f.Body, lines, fields)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return lines, fields
}

// collect reads one function.
func collect(files *token.FileSet, body *ast.BlockStmt, lines map[string]*logLine, fields map[string]bool) {
	attrs := make(map[string]bool) // made with slog.String and the like
	var withAttrs []*logLine       // messages that have them
	ast.Inspect(body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		f, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		name := f.Sel.Name
		if pkg, ok := f.X.(*ast.Ident); ok && pkg.Name == "slog" {
			if key := literal(call.Args, 0); key != "" && slices.Contains([]string{"String", "Int", "Int64", "Float64", "Bool", "Any", "Time", "Duration"}, name) {
				attrs[key], fields[key] = true, true
			}
			return true
		}
		switch name {
		case "With":
			for i := 0; i < len(call.Args); i += 2 {
				if key := literal(call.Args, i); key != "" {
					fields[key] = true
				}
			}
		case "Debug", "Info", "Warn", "Error":
			message := literal(call.Args, 0)
			if message == "" {
				return true // not slog's
			}
			l := line(lines, message)
			l.Levels[strings.ToLower(name)] = true
			for i := 1; i < len(call.Args); i += 2 {
				key := literal(call.Args, i)
				if key == "" {
					panic(fmt.Sprintf("%s: a field of %q is no literal", files.Position(call.Pos()), message))
				}
				l.Fields[key], fields[key] = true, true
			}
		case "LogAttrs":
			l := line(lines, literal(call.Args, 2))
			withAttrs = append(withAttrs, l)
			if level, ok := call.Args[1].(*ast.SelectorExpr); ok {
				l.Levels[strings.ToLower(strings.TrimPrefix(level.Sel.Name, "Level"))] = true
			} else { // chosen in the function
				ast.Inspect(body, func(n ast.Node) bool {
					if s, ok := n.(*ast.SelectorExpr); ok && strings.HasPrefix(s.Sel.Name, "Level") {
						l.Levels[strings.ToLower(strings.TrimPrefix(s.Sel.Name, "Level"))] = true
					}
					return true
				})
			}
		}
		return true
	})
	for _, l := range withAttrs {
		maps.Copy(l.Fields, attrs)
	}
}

func line(lines map[string]*logLine, message string) *logLine {
	l := lines[message]
	if l == nil {
		l = &logLine{Levels: make(map[string]bool), Fields: make(map[string]bool)}
		lines[message] = l
	}
	return l
}

// literal is the string that an argument is, or "".
func literal(args []ast.Expr, i int) string {
	if i >= len(args) {
		return ""
	}
	l, ok := args[i].(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return ""
	}
	text, err := strconv.Unquote(l.Value)
	if err != nil {
		return ""
	}
	return text
}

var inCode = regexp.MustCompile("`([^`]+)`")

// The guide is what people search when a line in the log means nothing to them.
func TestTheGuideToTheLogHasEveryMessageAndEveryField(t *testing.T) {
	lines, fields := logLines(t)
	if len(lines) < 40 || len(fields) < 40 {
		t.Fatalf("only %d messages and %d fields were found in the sources", len(lines), len(fields))
	}
	want := make(map[string]string)
	for message, l := range lines {
		want[message] = fmt.Sprint(slices.Sorted(maps.Keys(l.Levels)), slices.Sorted(maps.Keys(l.Fields)))
	}
	for _, guide := range []string{"../deploy/guide/logs.md", "../deploy/guide/logs.vi.md"} {
		text, err := os.ReadFile(guide)
		if err != nil {
			t.Fatal(err)
		}
		messages, explained := make(map[string]string), make(map[string]bool)
		for row := range strings.Lines(string(text)) {
			cells := strings.Split(strings.Trim(strings.TrimSpace(row), "|"), "|")
			if !strings.HasPrefix(row, "| `") {
				continue
			}
			first := inCode.FindAllStringSubmatch(cells[0], -1)
			switch len(cells) {
			case 2: // field, meaning
				for _, f := range first {
					explained[f[1]] = true
				}
			case 4: // message, levels, fields, meaning
				var own []string
				for _, f := range inCode.FindAllStringSubmatch(cells[2], -1) {
					own = append(own, f[1])
				}
				slices.Sort(own)
				levels := strings.Split(strings.TrimSpace(cells[1]), ", ")
				slices.Sort(levels)
				messages[first[0][1]] = fmt.Sprint(levels, own)
			default:
				t.Errorf("%s: a row of %d cells: %s", guide, len(cells), row)
			}
		}
		if diff := cmp.Diff(want, messages); diff != "" {
			t.Errorf("%s: messages (-in the sources +in the guide):\n%s", guide, diff)
		}
		if diff := cmp.Diff(slices.Sorted(maps.Keys(fields)), slices.Sorted(maps.Keys(explained))); diff != "" {
			t.Errorf("%s: fields (-in the sources +in the guide):\n%s", guide, diff)
		}
	}
}
