package cli

import (
	"go/ast"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/text/unicode/norm"
)

// inBothLanguages runs a test in English and in Vietnamese. The Vietnamese golden file
// has .vi in its name.
func inBothLanguages(t *testing.T, test func(*testing.T)) {
	t.Helper()
	for name, locale := range map[string]string{"en": "C.UTF-8", "vi": "vi_VN.UTF-8"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("LC_ALL", locale)
			test(t)
		})
	}
}

func TestTheLanguageIsThatOfTheLocale(t *testing.T) {
	for _, c := range []struct {
		all, messages, lang string
		want                language
	}{
		{"", "", "", english},
		{"", "", "vi_VN.UTF-8", vietnamese},
		{"", "", "vi_VN", vietnamese},
		{"", "", "vi", vietnamese},
		{"", "", "vi_VN.utf8@dict", vietnamese},
		{"", "", "VI_VN.UTF8", vietnamese},
		{"", "", "vi_VN.TCVN", english},
		{"", "", "visayan", english},
		{"", "", "en_US.UTF-8", english},
		{"", "vi_VN.UTF-8", "en_US.UTF-8", vietnamese},
		{"", "en_US.UTF-8", "vi_VN.UTF-8", english},
		{"C", "vi_VN.UTF-8", "vi_VN.UTF-8", english},
		{"vi_VN.UTF-8", "C", "C", vietnamese},
		{"POSIX", "", "vi", english},
	} {
		set := map[string]string{"LC_ALL": c.all, "LC_MESSAGES": c.messages, "LANG": c.lang, "LANGUAGE": "vi:en"}
		if got := languageOf(func(name string) string { return set[name] }); got != c.want {
			t.Errorf("%+v: language %d", c, got)
		}
	}
}

// verbs returns the verbs of package fmt in a text, each with the number of its
// argument.
func verbs(format string) []string {
	var found []string
	next := 1
	for _, m := range regexp.MustCompile(`%([-+# 0]*)(?:\[(\d+)\])?(\d*(?:\.\d+)?[a-zA-Z%])`).FindAllStringSubmatch(format, -1) {
		if m[3] == "%" {
			continue
		}
		if m[2] != "" {
			next, _ = strconv.Atoi(m[2])
		}
		found = append(found, strconv.Itoa(next)+":"+m[3])
		next++
	}
	slices.Sort(found)
	return slices.Compact(found)
}

var (
	backquoted = regexp.MustCompile("`[^`]*`")
	longWord   = regexp.MustCompile(`\pL{2}`)
	twoWords   = regexp.MustCompile(`[\pL\d]{2}[,.:;]? [(]?\pL{2}`)
	plainWord  = regexp.MustCompile(`^[\pL ]{2,}[:?]?$`)
	flagWord   = regexp.MustCompile(`--[a-z-]+`)
	anyVerb    = regexp.MustCompile(`%[-+# 0]*(?:\[\d+\])?\d*(?:\.\d+)?[a-zA-Z]`)
)

func TestEachTextHasBothLanguagesWithTheSameArguments(t *testing.T) {
	seen := map[string]string{}
	for _, some := range allTexts() {
		for _, text := range some {
			switch {
			case text.en == "" || text.vi == "":
				t.Errorf("a language is missing: %q", text)
			case strings.TrimSpace(text.en) != text.en || strings.TrimSpace(text.vi) != text.vi:
				t.Errorf("white space around: %q", text)
			case !norm.NFC.IsNormalString(text.vi):
				t.Errorf("not composed letters (NFC): %q", text.vi)
			}
			if diff := cmp.Diff(verbs(text.en), verbs(text.vi)); diff != "" {
				t.Errorf("%q: the arguments differ (-en +vi):\n%s", text.en, diff)
			}
			quoted := backquoted.FindAllString(text.en, -1)
			for _, q := range quoted {
				if !strings.Contains(text.vi, q) {
					t.Errorf("%q: the Vietnamese has no %s", text.en, q)
				}
			}
			if _, again := seen[text.en]; again {
				t.Errorf("twice in the catalogue: %q", text.en)
			}
			seen[text.en] = text.vi
		}
	}
}

// translating lists the functions whose texts go through the catalogue, with the
// position of their first text argument.
var translating = map[string]int{
	"tr": 0, "trf": 0, "say": 1, "errorf": 0, "down": 0, "usage": 1, "sentence": 0, "progress": 1, "plural": 1, "heading": 0, "wrong": 1, "instant": 0,
}

// notForPeople lists texts that are not translated, each with the reason.
var notForPeople = map[string]string{
	demoYAMLText: "a configuration file",
	"LANG":       "a variable",
	"write in":   "an operation, as the operating system names them",
	"%.2f ms":    "a unit",
	"psql DATABASE -c \"DELETE FROM agreed WHERE what = 'pepper'\"": "a command",
	"go run .":                    "a command",
	printedCommand.String():       "a pattern",
	"unknown command":             "what cobra begins an error with",
	"congthu: one pepper for all": "what a fingerprint is made of",
	"dry run":                     "the API wants a reason; it goes nowhere",
	"fsync %s, full_page_writes %s, synchronous_commit %s": "settings of PostgreSQL",
	`congthu account %s %s%s%s --reason "..."`:             "a command",
	"congthu account show %s%s":                            "a command",
	`"attack blocked, ticket 17"`:                          "an example of a reason",
}

// source is a text in the source code, with its position.
type source struct {
	text  string
	place string
	// through is set if the text goes through the catalogue.
	through bool
	// exempt is set if people do not read the text in this form, or if it is the same
	// in every language.
	exempt bool
	// label is set for a word in a row of a table.
	label bool
}

// textsInSources reads the sources of this package.
func textsInSources(t *testing.T) []source {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	// Other packages are not read: only constants of this package matter.
	check := types.Config{Error: func(error) {}, Importer: importer.ForCompiler(set, "none", nil), FakeImportC: true}
	check.Check("cli", set, files, info)

	var found []source
	for _, file := range files {
		if strings.HasPrefix(filepath.Base(set.Position(file.Pos()).Filename), "texts") {
			continue
		}
		var stack []ast.Node
		ast.Inspect(file, func(n ast.Node) bool {
			if n == nil {
				stack = stack[:len(stack)-1]
				return true
			}
			if e, ok := n.(ast.Expr); ok {
				if _, literal := e.(*ast.BasicLit); literal || isSum(e) {
					if text, ok := constantText(info, e); ok {
						s := place(stack, e)
						s.text, s.place = text, set.Position(e.Pos()).String()
						found = append(found, s)
						return false
					}
				}
				if id, ok := e.(*ast.Ident); ok { // a constant that is used
					if v := info.Types[e].Value; v != nil && v.Kind() == constant.String {
						if s := place(stack, id); s.through {
							s.text, s.place = constant.StringVal(v), set.Position(e.Pos()).String()
							found = append(found, s)
						}
					}
				}
			}
			stack = append(stack, n)
			return true
		})
	}
	return found
}

// constantText returns the value of a text. The checker does not load the types of
// other packages, to save time.
func constantText(info *types.Info, e ast.Expr) (string, bool) {
	if v := info.Types[e].Value; v != nil && v.Kind() == constant.String {
		return constant.StringVal(v), true
	}
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			text, err := strconv.Unquote(e.Value)
			return text, err == nil
		}
	case *ast.BinaryExpr:
		x, okX := constantText(info, e.X)
		y, okY := constantText(info, e.Y)
		return x + y, e.Op == token.ADD && okX && okY
	}
	return "", false
}

func isSum(e ast.Expr) bool {
	b, ok := e.(*ast.BinaryExpr)
	return ok && b.Op == token.ADD
}

// place decides about a text by the code around it.
func place(stack []ast.Node, at ast.Expr) (s source) {
	inner := ast.Node(at)
	for _, n := range slices.Backward(stack) {
		switch n := n.(type) {
		case *ast.CallExpr:
			name, on := "", ""
			switch f := n.Fun.(type) {
			case *ast.Ident:
				name = f.Name
			case *ast.SelectorExpr:
				name = f.Sel.Name
				switch x := f.X.(type) {
				case *ast.Ident:
					on = x.Name
				case *ast.SelectorExpr:
					on = x.Sel.Name
				}
			}
			index := slices.IndexFunc(n.Args, func(a ast.Expr) bool { return a == inner })
			from, through := translating[name]
			switch {
			case through && (on == "" || on == "k") && index >= from, on == "k" && name == "say":
				// Arguments that fill a text are not texts themselves, unless each is
				// one.
				s.through = s.through || index == from || name == "heading" || on == "k" && index <= 2
			case slices.Contains([]string{"act", "checkReason", "reasonFlag"}, name):
				s.exempt = true // examples, and texts of commands
			case on == "log" || name == "panic" || on == "cobra":
				s.exempt = true
			case slices.Contains([]string{"StringVar", "StringVarP", "BoolVar", "BoolVarP", "IntVar", "Int64Var", "StringSliceVar", "VarP", "Bool"}, name):
				s.exempt = true // the test of the commands covers them
			}
			if on != "fmt" || name != "Sprintf" {
				return s
			}
		case *ast.KeyValueExpr:
			if n.Key == inner {
				s.exempt = true // of a map
				return s
			}
			if key, ok := n.Key.(*ast.Ident); ok && slices.Contains([]string{"Use", "Example", "Short", "Long", "Aliases"}, key.Name) {
				s.exempt = true
				return s
			}
		case *ast.CompositeLit:
			if id, ok := n.Type.(*ast.Ident); ok {
				index := slices.IndexFunc(n.Elts, func(e ast.Expr) bool { return e == inner })
				s.through = s.through || id.Name == "advice" && index > 0
			}
			if list, ok := n.Type.(*ast.ArrayType); ok {
				if id, ok := list.Elt.(*ast.Ident); ok && id.Name == "demoAddress" {
					s.exempt = true // flags
				}
			}
			if list, ok := n.Type.(*ast.ArrayType); n.Type == nil || ok && isString(list.Elt) {
				s.label = true
			}
		case *ast.ImportSpec:
			s.exempt = true
			return s
		case *ast.Field: // its tag
			s.exempt = true
			return s
		case *ast.ValueSpec:
			s.exempt = s.exempt || len(stack) > 0 && isConstant(stack)
			if len(n.Names) == 1 && strings.HasSuffix(n.Names[0].Name, "Usage") {
				s.exempt = true // the test of the commands covers it
			}
			return s
		case *ast.AssignStmt:
			if to, ok := n.Lhs[0].(*ast.SelectorExpr); ok && slices.Contains([]string{"Use", "Example"}, to.Sel.Name) {
				s.exempt = true
			}
			return s
		case *ast.BlockStmt:
			return s
		}
		inner = n
	}
	return s
}

// isConstant reports whether a declaration declares constants: these are checked where
// they are used.
func isConstant(stack []ast.Node) bool {
	for _, n := range slices.Backward(stack) {
		if d, ok := n.(*ast.GenDecl); ok {
			return d.Tok == token.CONST
		}
	}
	return false
}

func isString(e ast.Expr) bool {
	if list, ok := e.(*ast.ArrayType); ok {
		return isString(list.Elt)
	}
	id, ok := e.(*ast.Ident)
	return ok && id.Name == "string"
}

// commandTexts returns the texts of the commands and of their flags.
func commandTexts(cmd *cobra.Command, found map[string]string) {
	for _, text := range []string{cmd.Short, cmd.Long} {
		if text != "" {
			found[strings.TrimSpace(text)] = cmd.CommandPath()
		}
	}
	look := func(f *pflag.Flag) { found[f.Usage] = cmd.CommandPath() + " --" + f.Name }
	cmd.Flags().VisitAll(look)
	cmd.PersistentFlags().VisitAll(look)
	for _, sub := range cmd.Commands() {
		commandTexts(sub, found)
	}
}

func TestEachTextForPeopleGoesThroughTheCatalogue(t *testing.T) {
	used := map[string]bool{}
	missing := func(where, text string) {
		key := strings.TrimSpace(text)
		used[key] = true
		if !longWord.MatchString(flagWord.ReplaceAllString(anyVerb.ReplaceAllString(key, ""), "")) {
			return // nothing to translate
		}
		if _, there := catalogue()[key]; !there {
			t.Errorf("%s: no Vietnamese in the catalogue (texts_*.go): %q", where, key)
		}
	}
	for _, s := range textsInSources(t) {
		switch {
		case s.through:
			missing(s.place, s.text)
		case s.exempt || notForPeople[s.text] != "":
		case twoWords.MatchString(s.text), s.label && plainWord.MatchString(s.text):
			t.Errorf("%s: a text for people does not go through tr, trf, say or errorf: %q", s.place, s.text)
		}
	}
	commands := map[string]string{}
	root := New()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	commandTexts(root, commands)
	for text, where := range commands {
		missing(where, text)
	}
	for _, some := range allTexts() {
		for _, text := range some {
			if !used[text.en] && !slices.Contains(valueTexts, text) && !slices.Contains(protocolTexts, text) {
				t.Errorf("in the catalogue and nowhere used: %q", text.en)
			}
		}
	}
}

func TestTheWordsOfTheLibraryAreTranslated(t *testing.T) {
	template := New().UsageTemplate()
	for _, text := range usageTexts {
		if !strings.Contains(template, text.en) {
			t.Errorf("cobra has no %q any more", text.en)
		}
	}
	// Whatever else it says.
	for _, text := range usageTexts {
		template = strings.ReplaceAll(template, text.en, "")
	}
	plain := regexp.MustCompile(`\{\{[^}]*\}\}`).ReplaceAllString(template, "")
	if longWord.MatchString(plain) {
		t.Errorf("cobra says more: %q", strings.TrimSpace(plain))
	}
}

func TestTheGuideOfTheDemoIsTranslated(t *testing.T) {
	guide := demoGuideText
	for _, text := range demoTexts {
		if strings.Count(guide, text.en) != 1 {
			t.Errorf("not once in the guide: %q", text.en)
		}
		guide = strings.Replace(guide, text.en, "", 1)
	}
	for line := range strings.Lines(guide) {
		if strings.HasPrefix(line, "  # ") || twoWords.MatchString(line) && !strings.Contains(line, "{{") {
			t.Errorf("not translated: %q", line)
		}
	}
}

func TestTheReasonsInExamplesAreTranslated(t *testing.T) {
	quoted := regexp.MustCompile(`--reason ("[^"]+")`)
	var look func(cmd *cobra.Command)
	look = func(cmd *cobra.Command) {
		for _, m := range quoted.FindAllStringSubmatch(cmd.Example, -1) {
			if inReasons(m[1]) == m[1] {
				t.Errorf("%s: %s", cmd.CommandPath(), m[1])
			}
		}
		for _, sub := range cmd.Commands() {
			look(sub)
		}
	}
	t.Setenv("LC_ALL", "vi")
	look(New())
}
