package frontend

import (
	"bytes"
	"encoding/base64"
	"errors"
	"testing"

	"congthu/auth"
)

// FuzzSASL decodes arbitrary lines as an exchange: complete credentials must be
// what was encoded, and nothing may panic.
func FuzzSASL(f *testing.F) {
	f.Add("PLAIN", "AGIAYw==", "", "")
	f.Add("PLAIN", "=", "AGIAYw==", "")
	f.Add("LOGIN", "", "Yg==", "Yw==")
	f.Add("LOGIN", "Yg==", "Yw==", "Yw==")
	f.Add("PLAIN", "AAAA", "*", "\r\n")
	f.Fuzz(func(t *testing.T, name, initial, second, third string) {
		mech, ok := Choose(name)
		if !ok {
			return
		}
		var response []byte
		var err error
		if initial != "" {
			if response, err = Decode(initial, true); err != nil {
				return
			}
		}
		rest := []string{second, third}
		var responses [][]byte
		for {
			if response != nil {
				responses = append(responses, response)
			}
			_, done, err := mech.next.Next(response)
			if err != nil {
				return
			}
			if done {
				break
			}
			if len(rest) == 0 {
				t.Fatal("asks for a fourth response")
			}
			if response, err = Decode(rest[0], false); err != nil {
				if !errors.Is(err, ErrNotBase64) {
					t.Fatal(err)
				}
				return
			}
			rest = rest[1:]
		}
		given := *mech.given
		want := string(bytes.Join(responses, []byte("\x00")))
		got := given.Login + "\x00" + given.Password.Reveal()
		if mech.Name == auth.Plain {
			got = given.Authorize + "\x00" + got
		}
		if got != want {
			t.Fatalf("understood %q of %q", got, want)
		}
		if again, err := Decode(base64.StdEncoding.EncodeToString([]byte(given.Login)), false); err != nil || string(again) != given.Login {
			t.Fatalf("%q does not survive: %v", given.Login, err)
		}
	})
}
