package auth

import (
	"fmt"
	"log/slog"
)

// Secret is a password or a token. Printing, logging or encoding it gives "***"; only
// [Secret.Reveal] returns the octets, so a search for Reveal finds every place where a
// credential leaves the program.
type Secret struct{ octets string }

// redacted is the text of a Secret for everything except Reveal.
const redacted = "***"

// NewSecret wraps the octets of a credential, which stay as they are: a
// password is never normalised.
func NewSecret(octets string) Secret { return Secret{octets} }

// Reveal returns the octets.
func (s Secret) Reveal() string { return s.octets }

// IsZero reports whether there is no credential at all.
func (s Secret) IsZero() bool { return s.octets == "" }

// String implements [fmt.Stringer].
func (s Secret) String() string { return redacted }

// Format implements [fmt.Formatter] for every verb, %#v and %x included.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON implements json.Marshaler.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText implements encoding.TextMarshaler.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
