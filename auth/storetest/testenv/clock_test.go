package testenv

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// The kernel, which dates files, uses the machine's clock.
func TestTheClockIsTheMachinesUnlessATestBuildSetsIt(t *testing.T) {
	shift := 0
	if text := ClockShift(); text != "" {
		var err error
		if shift, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "now")
	before := time.Now()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	after := time.Now()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	kernel := info.ModTime().Add(time.Duration(shift) * time.Second)
	// The dates of files have the resolution of the kernel's tick.
	if kernel.Before(before.Add(-time.Second)) || kernel.After(after.Add(time.Second)) {
		t.Errorf("the time is between %v and %v; the machine's clock + %d s is %v", before, after, shift, kernel)
	}
	if took := after.Sub(before); took < 0 || took > time.Hour {
		t.Errorf("the monotonic clock has gone on by %v", took)
	}
}
