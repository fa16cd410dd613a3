// Package config reads the configuration file of the gateway.
//
// A configuration is checked before anything starts, and its author learns all
// mistakes at once: each with its place in the file, the line with a caret
// under it, the mistake in a plain sentence, and the fix. A file with a mistake
// never starts part of a gateway, and a reload with such a file changes nothing.
//
// The way of a file through this package:
//
//	YAML  -> goccy/go-yaml's syntax tree, which knows lines and columns
//	tree  -> Config, by decoder: strict, no unknown or repeated field, no
//	         silent conversion. The library's own strict decoding stops at
//	         the first mistake, so the walk over the tree is ours.
//	Config-> complete: sets the fields that follow from others
//	Config-> checker: ranges, files, and fields that must match
//
// The file builds on a profile: a built-in fragment of the same YAML with the
// time zone and texts of one regulation, and with its figures where they differ
// from [auth.DefaultRules]. The file can override everything in it. Outside
// profiles/ the program contains no authority's domain, address or telephone
// number, only the name of the default profile.
//
// Reading a configuration reads the files it names and changes nothing:
// it creates no directory, resolves no name, opens no port.
//
// Few people may read the file, but mistakes in it appear on terminals and
// in journals: a line that holds a token is shown with the token masked.
package config
