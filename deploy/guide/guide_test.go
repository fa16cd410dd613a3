// Package guide holds no program: these tests keep the guides from rotting.
package guide

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// guides are the English ones, without the index.
func guides(t *testing.T) (names []string) {
	t.Helper()
	files, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !strings.HasSuffix(file, ".vi.md") && file != "README.md" {
			names = append(names, file)
		}
	}
	if len(names) < 5 {
		t.Fatalf("only %d guides: %v", len(names), names)
	}
	return names
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// parts are the levels of the headings and the code blocks of a guide, in order.
func parts(text string) (headings []string, blocks []string) {
	heading := regexp.MustCompile(`^#+ `)
	var block *strings.Builder
	for line := range strings.Lines(text) {
		fence := strings.HasPrefix(strings.TrimSpace(line), "```")
		switch {
		case fence && block == nil:
			block = new(strings.Builder)
		case fence:
			blocks = append(blocks, block.String())
			block = nil
		case block != nil:
			block.WriteString(line)
		default:
			if level := heading.FindString(line); level != "" {
				headings = append(headings, strings.TrimSpace(level))
			}
		}
	}
	if block != nil {
		blocks = append(blocks, "(not closed)")
	}
	return headings, blocks
}

func TestEveryGuideHasATwinWithTheSameHeadingsAndCodeBlocks(t *testing.T) {
	for _, english := range append(guides(t), "README.md") {
		vietnamese := strings.TrimSuffix(english, ".md") + ".vi.md"
		headings, blocks := parts(read(t, english))
		theirHeadings, theirBlocks := parts(read(t, vietnamese))
		if !slices.Equal(headings, theirHeadings) {
			t.Errorf("%s has the headings %v, %s has %v", english, headings, vietnamese, theirHeadings)
		}
		if len(blocks) != len(theirBlocks) {
			t.Errorf("%s has %d code blocks, %s has %d", english, len(blocks), vietnamese, len(theirBlocks))
		}
	}
	for _, file := range glob(t, "*.vi.md") {
		if _, err := os.Stat(strings.TrimSuffix(file, ".vi.md") + ".md"); err != nil {
			t.Errorf("%s has no English twin: %v", file, err)
		}
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func TestEveryLinkWithinTheProjectLeadsSomewhere(t *testing.T) {
	files := append(glob(t, "*.md"), filepath.Join(root, "README.md"), filepath.Join(root, "README.vi.md"))
	for _, file := range files {
		for _, m := range link.FindAllStringSubmatch(read(t, file), -1) {
			target, fragment, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			path := file
			if target != "" {
				path = filepath.Join(filepath.Dir(file), target)
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s links to %s: %v", file, m[1], err)
				continue
			}
			if fragment != "" && strings.HasSuffix(path, ".md") && !slices.Contains(anchors(read(t, path)), fragment) {
				t.Errorf("%s links to %s, but there is no such heading there", file, m[1])
			}
		}
	}
}

// anchors are the names of the headings, as the usual renderers make them.
func anchors(text string) (names []string) {
	notInNames := regexp.MustCompile(`[^\p{L}\p{M}\p{N}\- _]`)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(text, -1) {
		names = append(names, strings.ReplaceAll(notInNames.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	for _, m := range regexp.MustCompile(`<a (?:id|name)="([^"]+)"`).FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	return names
}

func TestTheIndexListsEveryGuide(t *testing.T) {
	for _, guide := range guides(t) {
		if !strings.Contains(read(t, "README.md"), "]("+guide+")") {
			t.Errorf("README.md does not list %s", guide)
		}
		if twin := strings.TrimSuffix(guide, ".md") + ".vi.md"; !strings.Contains(read(t, "README.vi.md"), "]("+twin+")") {
			t.Errorf("README.vi.md does not list %s", twin)
		}
	}
}

// cited is a name of the code in a guide, such as `gateway/frontend.Client.serve`.
var cited = regexp.MustCompile("`((?:auth|gateway)(?:/[a-z]+)*)\\.([A-Za-z]+(?:\\.[A-Za-z]+)?)`")

func TestWhatTheLifeOfALoginCitesIsInTheCode(t *testing.T) {
	for _, file := range []string{"login.md", "login.vi.md"} {
		citations := cited.FindAllStringSubmatch(read(t, file), -1)
		if len(citations) < 20 {
			t.Errorf("%s cites %d names only", file, len(citations))
		}
		for _, m := range citations {
			if !slices.Contains(declared(t, m[1]), m[2]) {
				t.Errorf("%s cites %s.%s, which is not there", file, m[1], m[2])
			}
		}
	}
}

var packages = map[string][]string{}

// declared are the functions, types and variables of a package, and Type.method
// and Type.Field.
func declared(t *testing.T, path string) []string {
	t.Helper()
	if names, ok := packages[path]; ok {
		return names
	}
	var names []string
	for _, file := range glob(t, filepath.Join(root, path, "*.go")) {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				name := d.Name.Name
				if d.Recv != nil {
					name = receiver(d.Recv.List[0].Type) + "." + name
				}
				names = append(names, name)
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch spec := spec.(type) {
					case *ast.ValueSpec:
						for _, n := range spec.Names {
							names = append(names, n.Name)
						}
					case *ast.TypeSpec:
						names = append(names, spec.Name.Name)
						for _, f := range members(spec.Type) {
							for _, n := range f.Names {
								names = append(names, spec.Name.Name+"."+n.Name)
							}
						}
					}
				}
			}
		}
	}
	packages[path] = names
	return names
}

// members are the fields of a struct, or the methods of an interface.
func members(e ast.Expr) []*ast.Field {
	switch e := e.(type) {
	case *ast.StructType:
		return e.Fields.List
	case *ast.InterfaceType:
		return e.Methods.List
	}
	return nil
}

func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr: // of a generic type
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return "?"
}
