package auth

import (
	"fmt"
	"log/slog"
	"runtime"
)

// Secret is a password or a token. Whatever prints, logs or encodes it gets
// "***"; only [Secret.Reveal] gives the octets, so a search for Reveal finds
// every place that a credential leaves the program.
type Secret struct{ octets string }

// redacted is what a Secret looks like to everything but Reveal.
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

// PanicText is what may be told of the value of a panic: the text of a runtime
// error, which has types and numbers in it, and of anything else only the type.
// Whoever panics with a text may have put into it what was at hand, a password
// among it.
func PanicText(p any) string {
	if err, ok := p.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("a value of type %T", p)
}
