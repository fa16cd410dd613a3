package config

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"congthu/auth"
)

// nodeSpan returns the place of a node; for a mapping that is its first key.
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

// describe says in words what a node is.
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

// scalar returns the text of a plain value. quoted reports whether YAML treats it as
// text rather than as a number or a truth value.
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

// shorthand is implemented by groups of fields that can also be written as a single
// text.
type shorthand interface{ shorthand(text string) }

func (u *Upstream) shorthand(text string) { u.Address = text }

// decode reads a node into dst, and records mistakes and places. Null keeps the
// default. It reports whether dst now has the file's value.
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

// secretive reports whether a text at a path may be or contain a secret and must not be
// repeated.
func secretive(path, text string) bool {
	return strings.HasPrefix(path, "admin.tokens") || strings.HasPrefix(path, "store") && likeDSN(text)
}

// likeDSN reports whether a text may be a connection string, or part of one.
func likeDSN(text string) bool { return strings.ContainsAny(text, "@:/=") }

func (s *source) mistyped(path string, n ast.Node, want, fix string) bool {
	found := describe(n)
	if text, quoted, ok := scalar(n); ok && quoted && len(text) < 40 && !secretive(path, text) {
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
	case netip.Prefix, KnownNetwork:
		return "a network"
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
		if text, quoted, ok := scalar(n); ok && quoted && len(text) < 80 && !secretive(path, text) {
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
		// Kept even if it is wrong, so that indexes match the file.
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
		// Kept even if it is wrong, as far as it could be read: the rest may contain
		// further mistakes. Of two equal names the first counts.
		if !m.MapIndex(reflect.ValueOf(name)).IsValid() {
			m.SetMapIndex(reflect.ValueOf(name), item)
		}
		return string(name)
	})
	dst.Set(m)
	return good
}

// entries calls each for every entry of a mapping. each returns the name that no other
// entry may have, or "" if it could not be read.
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

// unknown records an unknown field with the best guess at the intended one.
func (s *source) unknown(path, key string, at span, in reflect.Type) {
	names := fieldNames(in)
	if strings.HasPrefix(path, "store") && likeDSN(key) {
		key = "..." // part of a connection string without quotes
	}
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

// shorten limits the length of a word of the file in a message.
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

// fieldsLike returns the paths of all fields that a word probably means.
func fieldsLike(word string) (paths []string) {
	places := make(map[string][]string)
	eachField(reflect.TypeFor[Config](), "", func(path string) {
		name := path[strings.LastIndexByte(path, '.')+1:]
		places[name] = append(places[name], path)
	})
	return places[nearest(word, slices.Sorted(maps.Keys(places)))]
}

// eachField calls f with the path of every field of a group and of its subgroups.
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
