package wire

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

// scanned is what Scan makes of a text that comes in these pieces: the message with its
// end, what is behind it, and whether it ended.
func scanned(m *Body, pieces ...string) (message, rest string, end bool) {
	for _, piece := range pieces {
		if end {
			rest += piece
			continue
		}
		var n int
		n, end = m.Scan([]byte(piece))
		message += piece[:n]
		rest += piece[n:]
	}
	return message, rest, end
}

// bodies are all texts of up to n octets of those that mean something.
func bodies(n int) []string {
	all := []string{""}
	for from, length := 0, 0; length < n; length++ {
		to := len(all)
		for _, body := range all[from:to] {
			for _, octet := range []string{"\r", "\n", ".", "x"} {
				all = append(all, body+octet)
			}
		}
		from = to
	}
	return all
}

var bare = regexp.MustCompile(`(^|[^\r])\n|\r([^\n]|$)`)

// Only CRLF.CRLF ends a message, wherever the pieces meet, and each bare CR or LF in it is
// seen. The oracle looks at the text as a whole.
func TestAMessageEndsAtItsEnd(t *testing.T) {
	for _, body := range bodies(6) {
		text := body + "\r\n.\r\nMAIL"
		at := strings.Index("\r\n"+text, "\r\n.\r\n") + 3
		wantBare := bare.MatchString(text[:at])
		for cut := range len(text) {
			var m Body
			message, rest, end := scanned(&m, text[:cut], text[cut:])
			if !end || message != text[:at] || rest != text[at:] || m.Bare != wantBare {
				t.Fatalf("%q | %q: %q and %q, ended %v, bare %v; want %q, bare %v", text[:cut], text[cut:], message, rest, end, m.Bare, text[:at], wantBare)
			}
		}
	}
}

func TestAChunkEndsNowhere(t *testing.T) {
	for _, body := range bodies(6) {
		m := Body{Chunked: true}
		message, _, end := scanned(&m, body[:len(body)/2], body[len(body)/2:])
		m.Finish()
		if end || message != body || m.Bare != bare.MatchString(body) {
			t.Fatalf("%q: %q, ended %v, bare %v", body, message, end, m.Bare)
		}
	}
}

// normalised is what Normalise makes of a text that comes in these pieces.
func normalised(m *Body, pieces ...string) (message, rest string, end bool) {
	var out []byte
	for _, piece := range pieces {
		if end {
			rest += piece
			continue
		}
		var n int
		out, n, end = m.Normalise(out, []byte(piece))
		rest += piece[n:]
	}
	if m.Chunked {
		out = m.FinishNormalised(out)
	}
	return string(out), rest, end
}

// A normalised message has no bare CR or LF, ends where the client's did and nowhere
// before, and is unchanged where there was nothing to normalise.
func TestANormalisedMessageEndsAtItsEnd(t *testing.T) {
	for _, body := range bodies(6) {
		text := body + "\r\n.\r\nMAIL"
		at := strings.Index("\r\n"+text, "\r\n.\r\n") + 3
		for cut := range len(text) {
			var m Body
			message, rest, end := normalised(&m, text[:cut], text[cut:])
			var again Body
			if n, ended := again.Scan([]byte(message)); !end || rest != text[at:] || !ended || n != len(message) || again.Bare {
				t.Fatalf("%q | %q: %q and %q, ended %v", text[:cut], text[cut:], message, rest, end)
			}
			if !bare.MatchString(text[:at]) && message != text[:at] {
				t.Fatalf("%q became %q", text[:at], message)
			}
		}
	}
}

func TestBareNewlinesAreMadeCRLF(t *testing.T) {
	for text, normal := range map[string]string{
		"":                   "",
		"a\r\nb\r\n":         "a\r\nb\r\n",
		"a":                  "a",
		"\r\n\r\n":           "\r\n\r\n",
		"a\nb":               "a\r\nb",
		"\n":                 "\r\n",
		"a\rb":               "a\r\nb",
		"a\r":                "a\r\n",
		"\r\r\n":             "\r\n\r\n",
		"\n\r\n":             "\r\n\r\n",
		"a\r\n\rb\n\n\r\r\r": "a\r\n\r\nb\r\n\r\n\r\n\r\n\r\n",
		"\n.\n":              "\r\n.\r\n",
	} {
		for cut := range len(text) + 1 {
			m := Body{Chunked: true}
			if got, _, _ := normalised(&m, text[:cut], text[cut:]); got != normal {
				t.Errorf("%q | %q: %q, want %q", text[:cut], text[cut:], got, normal)
			}
		}
	}
	// After DATA a dot behind a bare newline is text, and one behind CRLF is stuffed.
	for text, normal := range map[string]string{
		"a\n.\nb\r\n.\r\n":      "a\r\n..\r\nb\r\n.\r\n",
		"a\n.\r\nb\r\n.\r\n":    "a\r\n..\r\nb\r\n.\r\n",
		"a\r\n.\nb\r\n.\r\n":    "a\r\n\r\nb\r\n.\r\n",
		"a\r\n.\rb\r\n.\r\n":    "a\r\n\r\nb\r\n.\r\n",
		"a\r\n..b\r\n.\r\n":     "a\r\n..b\r\n.\r\n",
		"a\r.\r\r\n.b\r\n.\r\n": "a\r\n..\r\n\r\n.b\r\n.\r\n",
	} {
		if got, _, _ := normalised(new(Body), text); got != normal {
			t.Errorf("%q: %q, want %q", text, got, normal)
		}
	}
}

func TestUnstuff(t *testing.T) {
	for stuffed, want := range map[string]string{
		"": "", "a.b\r\n": "a.b\r\n", "..\r\n": ".\r\n", ".From: x\r\n": "From: x\r\n", "a\r\n.\r\n..b\r\n...\r\n": "a\r\n\r\n.b\r\n..\r\n",
	} {
		if got := string(Unstuff([]byte(stuffed))); got != want {
			t.Errorf("%q: %q, want %q", stuffed, got, want)
		}
	}
}

// FuzzBody gives a message in any pieces: where it ends does not depend on them, and what
// is passed on has one end and no bare newline.
func FuzzBody(f *testing.F) {
	f.Add([]byte("a: b\r\n\r\nx\r\n.\r\nQUIT\r\n"), 3, false, false)
	f.Add([]byte("\n.\r\n.\r\r\n.\r\n"), 5, true, false)
	f.Add([]byte("a\r"), 1, true, true)
	f.Fuzz(func(t *testing.T, text []byte, cut int, normalise, chunked bool) {
		cut = max(0, min(cut, len(text)))
		whole, parts := Body{Chunked: chunked}, Body{Chunked: chunked}
		read := scanned
		if normalise {
			read = normalised
		}
		m1, r1, e1 := read(&whole, string(text))
		m2, r2, e2 := read(&parts, string(text[:cut]), string(text[cut:]))
		if m1 != m2 || r1 != r2 || e1 != e2 || whole.Bare != parts.Bare {
			t.Errorf("%q at %d: %q %q %v, in two %q %q %v", text, cut, m1, r1, e1, m2, r2, e2)
		}
		passed := m1
		if whole.Bare {
			return
		}
		if !chunked && e1 {
			passed = passed[:len(passed)-len(".\r\n")]
			if bytes.Contains([]byte("\r\n"+passed), []byte("\r\n.\r\n")) {
				t.Errorf("%q: another end in %q", text, passed)
			}
		}
		if e1 && bare.MatchString(passed) {
			t.Errorf("%q: a bare newline in %q", text, passed)
		}
	})
}
