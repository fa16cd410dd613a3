package support

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"congthu/auth"
	"congthu/gateway/config"
)

// hidden replaces a secret, and a file path that contains a person's name.
const hidden = "***"

// pseudonyms are names for people that distinguish them within one bundle.
type pseudonyms struct {
	key   []byte
	clear bool
}

func newPseudonyms(clear bool) *pseudonyms {
	key := make([]byte, 32)
	rand.Read(key) // never fails (crypto/rand)
	return &pseudonyms{key, clear}
}

func (p *pseudonyms) of(name string) string {
	if p.clear || name == "" {
		return name
	}
	mac := hmac.New(sha256.New, p.key)
	mac.Write([]byte(strings.ToLower(name)))
	return "name-" + hex.EncodeToString(mac.Sum(nil)[:8])
}

// address matches what may be a person's address in a text.
var address = regexp.MustCompile(`[^\s<>"'(),;:/\\]+@[^\s<>"'(),;:/\\]+`)

// text replaces addresses by pseudonyms in a text from outside.
func (p *pseudonyms) text(s string) string { return address.ReplaceAllStringFunc(s, p.of) }

// redacted returns a configuration as plain data, by the names of its settings. A field
// of a type that this package does not know is shown by its String method; for a secret
// that is ***.
func redacted(c *config.Config, p *pseudonyms) any { return plain(reflect.ValueOf(c).Elem(), p) }

func plain(v reflect.Value, p *pseudonyms) any {
	switch known := v.Interface().(type) {
	case auth.Secret:
		if known.IsZero() {
			return ""
		}
		return hidden
	case config.Token:
		t := map[string]any{"name": p.of(known.Name), "sha256": hidden, "token_file": known.TokenFile, "scopes": known.Scopes}
		if known.TokenFile != "" && !p.clear {
			t["token_file"] = hidden
		}
		return t
	case fmt.Stringer:
		if v.Kind() == reflect.Pointer && v.IsNil() {
			return nil
		}
		return p.text(known.String())
	}
	switch v.Kind() {
	case reflect.Struct:
		out := make(map[string]any)
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
			if name != "" && name != "-" {
				out[name] = plain(v.Field(i), p)
			}
		}
		return out
	case reflect.Slice:
		out := make([]any, 0, v.Len())
		for i := range v.Len() {
			out = append(out, plain(v.Index(i), p))
		}
		return out
	case reflect.Map: // from accounts: aliases, delegations
		if !p.clear {
			return fmt.Sprintf("%d, not listed", v.Len())
		}
		out := make(map[string]any)
		for it := v.MapRange(); it.Next(); {
			out[fmt.Sprint(it.Key().Interface())] = plain(it.Value(), p)
		}
		return out
	case reflect.String:
		return p.text(v.String())
	case reflect.Bool, reflect.Int, reflect.Uint8, reflect.Int64:
		return v.Interface()
	}
	return hidden // a kind that no setting has so far
}
