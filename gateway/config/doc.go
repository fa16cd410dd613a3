// Package config reads the configuration file of the gateway.
//
// A configuration is judged before anything starts, and whoever wrote it is
// told everything at once: each mistake with its place in the file, the line
// with a caret under it, what is wrong in a plain sentence, and the fix. A
// file with one mistake never starts half a gateway, and a reload with a bad
// file changes nothing.
//
// The way of a file through this package:
//
//	YAML  -> goccy/go-yaml's syntax tree, which knows lines and columns
//	tree  -> Config, by decoder: strict, no unknown or repeated field, no
//	         silent conversion. The library's own strict decoding stops at
//	         the first mistake, so the walk over the tree is ours.
//	Config-> complete: what was left out follows from what was given
//	Config-> checker: ranges, files, and what must fit together
//
// Below the file lies a profile: a fragment of the same YAML, built in, with the
// time zone and words of one regulation, and those of its figures that are not
// the ones of [auth.DefaultRules]. Everything in it can be overruled by the file. Outside profiles/ no authority's domain, address or
// telephone number is known, only which profile is the default.
//
// Reading a configuration reads the files it names and changes nothing:
// no directory is made, no name resolved, no port opened.
//
// The file is given to few people, but mistakes in it end up on terminals and
// in journals: a line that holds a token is shown with the token masked.
package config
