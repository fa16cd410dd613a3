package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"congthu/auth"
)

// source is a file being judged: its text, where each field stands in it, and
// what is wrong with it so far.
type source struct {
	file     string
	lines    []string
	at       map[string]place
	problems []Problem
	warnings []Problem
}

// place is where a field stands.
type place struct{ key, value span }

// span is one token; the zero span is none.
type span struct{ line, column, width int }

func newSource(file string, data []byte) *source {
	return &source{file: file, lines: strings.Split(string(data), "\n"), at: make(map[string]place)}
}

// given reports whether the file says anything about the field.
func (s *source) given(path string) bool {
	_, ok := s.at[path]
	return ok
}

// locate finds what to point at for a field: its value, its key, or the
// nearest part of the file around it.
func (s *source) locate(path string) span {
	p, ok := s.at[path]
	if ok && p.value.line > 0 {
		return p.value
	}
	for !ok {
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return span{}
		}
		path = path[:i]
		p, ok = s.at[path]
	}
	if p.key.line > 0 {
		return p.key
	}
	return p.value
}

// problem makes a Problem that points at a place.
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

// refused reports whether a mistake in the field, or around it, is recorded
// already: a second complaint about it would only confuse.
func (s *source) refused(path string) bool {
	return slices.ContainsFunc(s.problems, func(p Problem) bool {
		return p.Path == path || p.Path != "" && (strings.HasPrefix(path, p.Path+".") || strings.HasPrefix(path, p.Path+"["))
	})
}

// maxFile bounds a configuration file and each file that it names.
const maxFile = 1 << 20

// tree parses the YAML. It returns nil for a file that is empty or not YAML;
// the mistake is recorded.
func (s *source) tree(data []byte) (root ast.Node) {
	defer func() {
		// The parser is not ours; a file that upsets it is a mistake like any other.
		if r := recover(); r != nil {
			root = nil
			s.wrongAt(span{}, "", "this is not YAML", "compare it with the example")
		}
	}()
	if depth(data) > 100 {
		s.wrongAt(span{}, "", "brackets are nested more than 100 deep", "compare it with the example")
		return nil
	}
	// Repeated keys are found by mapping, with both places.
	file, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
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

// depth is how deep brackets are nested, strings and comments not excepted.
func depth(data []byte) int {
	deepest, now := 0, 0
	for _, c := range data {
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

// spanOf is the place of a token.
func spanOf(tk *token.Token) span {
	if tk == nil || tk.Position == nil || tk.Position.Line < 1 {
		return span{}
	}
	text, _, _ := strings.Cut(strings.TrimSpace(tk.Origin), "\n")
	return span{tk.Position.Line, max(1, tk.Position.Column), max(1, len([]rune(text)))}
}

// nodeSpan is the place of a node, which for a mapping is its first key.
func nodeSpan(n ast.Node) span {
	if n == nil {
		return span{}
	}
	if entries := entriesOf(n); len(entries) > 0 && n.GetToken().Type == token.MappingValueType {
		return spanOf(entries[0].Key.GetToken())
	}
	return spanOf(n.GetToken())
}

func entriesOf(n ast.Node) []*ast.MappingValueNode {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	return nil
}

// describe says what a node is, for people.
func describe(n ast.Node) string {
	switch n := n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a group of fields"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode, *ast.LiteralNode:
		return "text"
	case *ast.IntegerNode, *ast.FloatNode:
		return "the number " + n.GetToken().Value
	case *ast.BoolNode:
		return n.GetToken().Value
	case *ast.InfinityNode, *ast.NanNode:
		return "a number"
	}
	return "something else"
}

// scalar returns the text of a plain value. quoted is whether it is text in
// YAML's eyes too, rather than a number or a truth value.
func scalar(n ast.Node) (text string, quoted, ok bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true, true
	case *ast.LiteralNode:
		return n.Value.Value, true, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, false, true
	}
	return "", false, false
}

// shorthand is implemented by groups of fields that can also be written as one
// text.
type shorthand interface{ shorthand(text string) }

func (u *Upstream) shorthand(text string) { u.Address = text }

// decode reads a node into dst, recording mistakes and places. Null leaves the
// default. It reports whether dst holds what the file says.
func (s *source) decode(path string, n ast.Node, dst reflect.Value) bool {
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return true
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		s.wrongAt(nodeSpan(n), path, fmt.Sprintf("`%s`: anchors, aliases and tags are not used in this file", path), "write the value itself")
		return false
	}
	_, known, _ := readText(dst.Interface(), "")
	switch {
	case known, dst.Kind() == reflect.String:
		return s.decodeText(path, n, dst, known)
	case dst.Kind() == reflect.Struct:
		if short, ok := dst.Addr().Interface().(shorthand); ok {
			if text, quoted, ok := scalar(n); ok && quoted {
				short.shorthand(text)
				return true
			}
		}
		return s.decodeStruct(path, n, dst)
	case dst.Kind() == reflect.Slice:
		return s.decodeList(path, n, dst)
	case dst.Kind() == reflect.Map:
		return s.decodeMap(path, n, dst)
	case dst.Kind() == reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			fix := "write true or false"
			if text, _, ok := scalar(n); ok {
				switch strings.ToLower(text) {
				case "yes", "on", "1", "y":
					fix = "write true"
				case "no", "off", "0", "n":
					fix = "write false"
				}
			}
			return s.mistyped(path, n, "true or false", fix)
		}
		dst.SetBool(b.Value)
		return true
	case dst.Kind() == reflect.Int:
		_, isInt := n.(*ast.IntegerNode)
		i, err := strconv.Atoi(n.GetToken().Value)
		if !isInt || err != nil {
			return s.mistyped(path, n, "a whole number", "write digits only, such as 5")
		}
		dst.SetInt(int64(i))
		return true
	}
	panic("config: no way to read a " + dst.Type().String())
}

func (s *source) mistyped(path string, n ast.Node, want, fix string) bool {
	found := describe(n)
	if text, quoted, ok := scalar(n); ok && quoted && len(text) < 40 && !strings.HasPrefix(path, "admin.tokens") {
		found = fmt.Sprintf("the text %q", text)
	}
	s.wrongAt(nodeSpan(n), path, fmt.Sprintf("`%s`: want %s, found %s", path, want, found), fix)
	return false
}

func (s *source) decodeText(path string, n ast.Node, dst reflect.Value, known bool) bool {
	text, quoted, ok := scalar(n)
	if !ok {
		return s.mistyped(path, n, wanted(dst), "write it on the same line as the field, without brackets")
	}
	if !known {
		if !quoted {
			return s.mistyped(path, n, "text", fmt.Sprintf("put it in quotes: %q", text))
		}
		dst.SetString(text)
		return true
	}
	value, _, err := readText(dst.Interface(), text)
	if err != nil {
		s.mistaken(path, err)
		return false
	}
	dst.Set(reflect.ValueOf(value))
	return true
}

func wanted(dst reflect.Value) string {
	switch dst.Interface().(type) {
	case time.Duration:
		return "a duration"
	case auth.Name:
		return "a mail address"
	}
	return "text"
}

func (s *source) decodeStruct(path string, n ast.Node, dst reflect.Value) bool {
	if entriesOf(n) == nil && !isMapping(n) {
		return s.mistyped(path, n, "a group of fields", "write the fields below it, indented, or in { }")
	}
	good := true
	s.entries(path, n, func(key string, keyAt span, value ast.Node) string {
		field, ok := fieldByTag(dst, key)
		if !ok {
			good = false
			s.unknown(path, key, keyAt, dst.Type())
			return ""
		}
		at := join(path, key)
		s.at[at] = place{keyAt, nodeSpan(value)}
		if !s.decode(at, value, field) {
			good = false
		}
		return key
	})
	return good
}

func (s *source) decodeList(path string, n ast.Node, dst reflect.Value) bool {
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		fix := "write the items below it, each after a dash"
		if text, quoted, ok := scalar(n); ok && quoted && len(text) < 80 && !strings.HasPrefix(path, "admin.tokens") {
			fix = fmt.Sprintf("put it in brackets: [%q]", text)
		}
		return s.mistyped(path, n, "a list", fix)
	}
	good := true
	items := reflect.MakeSlice(dst.Type(), 0, len(list.Values))
	for i, v := range list.Values {
		at := fmt.Sprintf("%s[%d]", path, i)
		s.at[at] = place{nodeSpan(v), nodeSpan(v)}
		item := reflect.New(dst.Type().Elem()).Elem()
		if v == nil || v.Type() == ast.NullType {
			s.wrong(at, "remove the dash, or write something behind it", "`%s` is empty", at)
			good = false
		} else if !s.decode(at, v, item) {
			good = false
		}
		// Kept even when it is wrong, so that indexes stay those of the file.
		items = reflect.Append(items, item)
	}
	dst.Set(items)
	return good
}

func (s *source) decodeMap(path string, n ast.Node, dst reflect.Value) bool {
	if !isMapping(n) {
		return s.mistyped(path, n, "a group of fields", "write one name: value a line below it, indented")
	}
	good := true
	m := reflect.MakeMap(dst.Type())
	s.entries(path, n, func(key string, keyAt span, value ast.Node) string {
		name, err := auth.ParseName(key)
		if err != nil {
			good = false
			at := join(path, key)
			s.wrongAt(keyAt, at, fmt.Sprintf("`%s`: %q is not a mail address", path, key), "write local@domain")
			return ""
		}
		at := join(path, string(name))
		if !s.given(at) {
			s.at[at] = place{keyAt, nodeSpan(value)}
		}
		item := reflect.New(dst.Type().Elem()).Elem()
		if value == nil || value.Type() == ast.NullType {
			s.wrongAt(keyAt, at, fmt.Sprintf("`%s` has no value", at), "write one behind the colon, or remove the line")
			good = false
		} else if !s.decode(at, value, item) {
			good = false
		}
		// Kept even when it is wrong, as far as it goes: the rest of it may have
		// mistakes too. The first of two is the one that counts.
		if !m.MapIndex(reflect.ValueOf(name)).IsValid() {
			m.SetMapIndex(reflect.ValueOf(name), item)
		}
		return string(name)
	})
	dst.Set(m)
	return good
}

// entries calls each for every entry of a mapping. each returns the name that
// the entry must not share with another, or "" when it could not be read.
func (s *source) entries(path string, n ast.Node, each func(key string, at span, value ast.Node) string) {
	first := make(map[string]span)
	for _, entry := range entriesOf(n) {
		at := spanOf(entry.Key.GetToken())
		key := entry.Key.GetToken().Value
		if k, ok := entry.Key.(*ast.StringNode); ok {
			key = k.Value
		} else if _, ok := entry.Key.(*ast.MergeKeyNode); ok {
			s.wrongAt(at, path, "merge keys (<<) are not used in this file", "write the fields themselves")
			continue
		}
		if before, again := first[key]; again {
			s.wrongAt(at, join(path, key), fmt.Sprintf("`%s` is written twice; the first is in line %d", join(path, key), before.line), "keep one of them")
			continue
		}
		first[key] = at
		if name := each(key, at, entry.Value); name != "" && name != key {
			if before, again := first[name]; again {
				s.wrongAt(at, join(path, key), fmt.Sprintf("`%s` is the same name as in line %d", join(path, key), before.line), "keep one of them")
			}
			first[name] = at
		}
	}
}

// unknown records a field that there is none of, with the best guess at what
// was meant.
func (s *source) unknown(path, key string, at span, in reflect.Type) {
	names := fieldNames(in)
	var fix string
	if near := nearest(key, names); near != "" {
		fix = "did you mean `" + near + "`?"
	} else if elsewhere := fieldsLike(key); len(elsewhere) > 0 && len(elsewhere) < 4 {
		fix = "it belongs elsewhere: `" + strings.Join(elsewhere, "` or `") + "`"
	} else {
		where := "at the top"
		if path != "" {
			where = "in `" + path + "`"
		}
		fix = "the fields " + where + " are " + strings.Join(names, ", ")
	}
	s.wrongAt(at, join(path, key), fmt.Sprintf("unknown field `%s`", shorten(join(path, key))), fix)
}

func isMapping(n ast.Node) bool {
	return n.Type() == ast.MappingType || n.Type() == ast.MappingValueType
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// shorten bounds a word of the file that is shown in a message.
func shorten(word string) string {
	if r := []rune(word); len(r) > 60 {
		return string(r[:60]) + "…"
	}
	return word
}

func tagOf(f reflect.StructField) string {
	tag := f.Tag.Get("yaml")
	if tag == "-" {
		return ""
	}
	return tag
}

func fieldByTag(v reflect.Value, name string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if tag := tagOf(v.Type().Field(i)); tag != "" && tag == name {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func fieldNames(t reflect.Type) (names []string) {
	for i := range t.NumField() {
		if tag := tagOf(t.Field(i)); tag != "" {
			names = append(names, tag)
		}
	}
	return names
}

// fieldsLike returns the paths of all fields that word was probably meant to be.
func fieldsLike(word string) (paths []string) {
	places := make(map[string][]string)
	eachField(reflect.TypeFor[Config](), "", func(path string) {
		name := path[strings.LastIndexByte(path, '.')+1:]
		places[name] = append(places[name], path)
	})
	return places[nearest(word, slices.Sorted(maps.Keys(places)))]
}

// eachField calls f with the path of every field of a group, and of the groups
// in it.
func eachField(t reflect.Type, path string, f func(path string)) {
	for i := range t.NumField() {
		tag := tagOf(t.Field(i))
		if tag == "" {
			continue
		}
		at := join(path, tag)
		f(at)
		inner, list := t.Field(i).Type, ""
		if inner.Kind() == reflect.Slice {
			inner, list = inner.Elem(), "[]"
		}
		if inner.Kind() == reflect.Struct && len(fieldNames(inner)) > 0 {
			eachField(inner, at+list, f)
		}
	}
}
