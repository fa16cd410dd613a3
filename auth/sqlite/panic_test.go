package sqlite

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"congthu/auth"
)

// A panic value may contain a name or a reason: neither the error nor the log repeats
// it.
func TestThePanicOfAChangeRepeatsNothing(t *testing.T) {
	var log bytes.Buffer
	s, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "congthu.db"), Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = s.Update(t.Context(), "lan@example.vn", 0, func(*auth.Account) ([]auth.Event, bool) { panic("spilt milk") })
	if err == nil || !strings.Contains(err.Error(), "change panicked: a value of type string") {
		t.Errorf("error %v, want one that names the panic", err)
	}
	if got := log.String(); strings.Contains(got, "spilt milk") || !strings.Contains(got, `panic="a value of type string" stack=`) {
		t.Errorf("the log: %s", got)
	}
}
