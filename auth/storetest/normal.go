package storetest

import (
	"strings"

	"golang.org/x/text/unicode/norm"
)

// Fold converts a part of a name into the form in which names are compared.
func Fold(part string) string { return norm.NFC.String(strings.ToLower(part)) }
