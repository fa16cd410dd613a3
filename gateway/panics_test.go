package gateway

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The value of a panic may contain a password. So the value that recover returns may
// only be compared, passed on, or shown by auth.PanicText; it must not be dropped
// either.
func TestTheValueOfAPanicIsNeitherShownNorDropped(t *testing.T) {
	// What may be given the value: these hand it on, or log it by PanicText.
	takers := []string{"PanicText", "panicked", "Panicked", "tellPanic", "recovered"}
	files := token.NewFileSet()
	uses := 0
	for _, root := range []string{"../auth", ".", "../metrics"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && d.Name() == "testdata":
				return filepath.SkipDir
			case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
				return nil
			}
			file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				f, ok := n.(*ast.FuncLit)
				if !ok {
					return true
				}
				value, calls := recovered(f.Body)
				uses += calls
				if calls > 0 && value == "" {
					t.Errorf("%s: the value of recover is dropped", files.Position(f.Pos()))
				}
				ast.Inspect(f.Body, func(n ast.Node) bool {
					call, ok := n.(*ast.CallExpr)
					if !ok || value == "" || slices.Contains(takers, called(call)) {
						return true
					}
					for _, arg := range call.Args {
						if name, ok := arg.(*ast.Ident); ok && name.Name == value {
							t.Errorf("%s: %s is given the value of a panic", files.Position(call.Pos()), called(call))
						}
					}
					return true
				})
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if uses < 10 {
		t.Errorf("only %d recovers were found", uses)
	}
}

// recovered returns the variable that has what recover returned in a function, and
// how many calls there are, those of functions within it left out.
func recovered(body *ast.BlockStmt) (value string, calls int) {
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.AssignStmt:
			if call, ok := n.Rhs[0].(*ast.CallExpr); ok && called(call) == "recover" {
				if name, ok := n.Lhs[0].(*ast.Ident); ok && name.Name != "_" {
					value = name.Name
				}
			}
		case *ast.CallExpr:
			if called(n) == "recover" {
				calls++
			}
		}
		return true
	})
	return value, calls
}

// called is the name of what is called.
func called(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}
