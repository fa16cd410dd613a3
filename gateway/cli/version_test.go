package cli

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

// People try --version before they look for a command with that name.
func TestVersionIsAFlagAsWell(t *testing.T) {
	run := func(args ...string) string {
		t.Helper()
		var out, errOut bytes.Buffer
		if code := Run(context.Background(), args, strings.NewReader(""), &out, &errOut); code != exitOK || errOut.Len() > 0 {
			t.Errorf("%v: exit code %d: %s", args, code, errOut.String())
		}
		return out.String()
	}
	want := run("version")
	if got := run("--version"); got != want || !strings.HasPrefix(got, "congthu ") {
		t.Errorf("--version prints %q, version prints %q", got, want)
	}
}
