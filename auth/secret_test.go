package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
)

func TestASecretIsNeverPrinted(t *testing.T) {
	const canary = "Mat-khau-canary"
	secret := NewSecret(canary)
	holder := struct {
		Password Secret
		Pointer  *Secret
	}{secret, &secret}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+" "+verb+"\n", secret, holder)
	}
	fmt.Fprintln(&out, secret, &secret, holder)
	encoded, err := json.Marshal(map[string]any{"a": secret, "b": holder})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(encoded)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "secret", secret, "holder", holder)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "secret", secret, "holder", holder)
	if text := out.String(); strings.Contains(text, canary) || strings.Contains(text, fmt.Sprintf("%x", canary)) {
		t.Errorf("the secret was printed:\n%s", text)
	}
	if !strings.Contains(out.String(), "***") || secret.Reveal() != canary {
		t.Error("a secret reads as *** and reveals its octets")
	}
}

func TestThePanicTextContainsNoSecret(t *testing.T) {
	const canary = "Mat-khau-canary"
	for _, value := range []any{canary, []byte(canary), errors.New(canary), fmt.Errorf("in %w", errors.New(canary)), struct{ s string }{canary}, nil} {
		if text := PanicText(value); strings.Contains(text, canary) || !strings.HasPrefix(text, "a value of type ") {
			t.Errorf("%T: %s", value, text)
		}
	}
	defer func() {
		if text := PanicText(recover()); text != "runtime error: index out of range [1] with length 1" {
			t.Error(text)
		}
	}()
	_ = os.Args[:1][len(os.Args[:1])]
}
