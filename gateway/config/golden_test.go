package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"congthu/auth/storetest/testenv"
)

var update = flag.Bool("update", false, "write the golden files")

// now is when the tests take place: the certificates in testdata are dated
// around it.
var now = time.Date(2026, 11, 20, 3, 2, 0, 0, time.UTC)

// inTestdata runs the test in a copy of testdata in which keys have the
// permissions that a checkout does not keep.
func inTestdata(t testing.TB) (golden string) {
	t.Helper()
	golden, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	dir := testenv.Dir(t)
	files, err := filepath.Glob("testdata/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // a directory: the corpus of the fuzz target
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	return golden
}

func compare(t *testing.T, golden, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatalf("%v (go test ./gateway/config -update writes it)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("differs from %s (-want +got):\n%s", filepath.Base(golden), diff)
	}
}

// One file for each rule, with the messages to its author beside it.
func TestEveryMistakeIsToldWithItsPlaceAndItsFix(t *testing.T) {
	golden := inTestdata(t)
	files, err := filepath.Glob("invalid-*.yaml")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(file, ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, err := parse(file, data, now)
			var problems *Error
			if !errors.As(err, &problems) || c != nil {
				t.Fatalf("got %v, %v; want an *Error and no configuration", c, err)
			}
			for _, p := range problems.Problems {
				if p.Message == "" || p.Fix == "" {
					t.Errorf("a problem without a message or a fix: %+v", p)
				}
				if strings.Contains(p.String(), "hunter2") {
					t.Errorf("a secret is shown: %s", p)
				}
			}
			compare(t, filepath.Join(golden, strings.TrimSuffix(file, ".yaml")+".txt"), problems.Report())
		})
	}
}

func TestWarningsDoNotStopTheGateway(t *testing.T) {
	golden := inTestdata(t)
	if err := os.Chmod("dsn-for-everybody", 0o644); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("warnings*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(file, ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, err := parse(file, data, now)
			if err != nil {
				t.Fatal(err)
			}
			if c.Certificate() == nil {
				t.Error("no certificate to show")
			}
			compare(t, filepath.Join(golden, strings.TrimSuffix(file, ".yaml")+".txt"), Render(c.Warnings))
		})
	}
}
