package testenv

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// root is the directory of the module, relative to this package.
const root = "../../.."

// TestOnlyThisPackageSkipsTests: a skip elsewhere would not be noticed where every test
// has to run.
func TestOnlyThisPackageSkipsTests(t *testing.T) {
	files := token.NewFileSet()
	helpers := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, call := range skips(file) {
			if filepath.Dir(path) == filepath.Join(root, "auth/storetest/testenv") {
				helpers++
			} else {
				t.Errorf("%s skips a test directly: use testenv.Missing, or another function of package testenv", files.Position(call.Pos()))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if helpers != 4 {
		t.Errorf("this test finds %d skips in this package, want 4", helpers)
	}
}

func TestSkipsAreFound(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "x.go", `package x
		func TestA(t *testing.T) {
			t.Skip("found")
			if t.Skipped() {
				return
			}
			t.Run("sub", func(sub *testing.T) { sub.SkipNow() })
			rapid.Check(t, func(t *rapid.T) {
				t.Skip("a draw")
				func() { t.Skipf("a draw") }()
			})
			t.Repeat(map[string]func(*rapid.T){"act": func(r *rapid.T) { r.Skip("a draw") }})
		}
		func need(tb testing.TB) { tb.Skipf("found") }
		func (s *scene) need() { s.t.Skip("found") }
		var skip = testing.TB.Skip
	`, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	if found := skips(file); len(found) != 5 {
		t.Errorf("%d skips were found, want 5", len(found))
	}
}

// skips finds the calls that skip a test, and such functions used as a value. The Skip
// of a *rapid.T leaves out one draw of many; it is recognized by the type of the
// parameter.
func skips(file *ast.File) (found []*ast.SelectorExpr) {
	var look func(n ast.Node, draws []string)
	look = func(n ast.Node, draws []string) {
		inside := func(of *ast.FuncType, body *ast.BlockStmt) {
			if body == nil {
				return
			}
			draws := slices.Clone(draws)
			for _, p := range of.Params.List {
				for _, name := range p.Names {
					draws = slices.DeleteFunc(draws, func(s string) bool { return s == name.Name })
					if isRapid(p.Type) {
						draws = append(draws, name.Name)
					}
				}
			}
			look(body, draws)
		}
		ast.Inspect(n, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				inside(n.Type, n.Body)
				return false
			case *ast.FuncLit:
				inside(n.Type, n.Body)
				return false
			case *ast.SelectorExpr:
				x, plain := n.X.(*ast.Ident)
				if slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, n.Sel.Name) && !(plain && slices.Contains(draws, x.Name)) {
					found = append(found, n)
				}
			}
			return true
		})
	}
	look(file, nil)
	return found
}

// isRapid reports whether a type is *rapid.T.
func isRapid(e ast.Expr) bool {
	star, ok := e.(*ast.StarExpr)
	if !ok {
		return false
	}
	of, ok := star.X.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := of.X.(*ast.Ident)
	return ok && pkg.Name == "rapid" && of.Sel.Name == "T"
}

// what records what Missing does to a test. It goes on where [testing.TB.Fatal] would
// not.
type what struct {
	testing.TB
	failed, skipped string
}

func (w *what) Helper()           {}
func (w *what) Fatal(args ...any) { w.failed = args[0].(string) }
func (w *what) Skip(args ...any)  { w.skipped = args[0].(string) }

func TestMissingNeedsFailIfEveryTestHasToRun(t *testing.T) {
	const why = "a thing is missing: apt-get install thing"
	t.Setenv(All, "")
	w := &what{TB: t}
	if Missing(w, why); w.failed != "" || !strings.HasPrefix(w.skipped, why) || !strings.Contains(w.skipped, "make test") || strings.Contains(w.skipped, "\n") {
		t.Errorf("%q and %q", w.failed, w.skipped)
	}
	t.Setenv(All, "1")
	w = &what{TB: t}
	if Missing(w, why); w.failed != why {
		t.Errorf("failed with %q", w.failed)
	}
}

func TestTheMakefileSetsTheSwitch(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\nexport " + All + " = 1\n", "\n\t" + SoakVariable + "=$(SOAK) "} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the Makefile has no %q", want)
		}
	}
}
