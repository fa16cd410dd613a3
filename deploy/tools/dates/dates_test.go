package main

import (
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestTheClockOfThisVersionOfGoCanBeSet(t *testing.T) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go"))
	if err != nil {
		t.Fatal(err)
	}
	changed, err := shift(string(source))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.ParseFile(token.NewFileSet(), "time.go", changed, 0); err != nil {
		t.Error(err)
	}
	if !strings.Contains(changed, "sec += shiftedBy") || !strings.Contains(changed, `Getenv("CONGTHU_TEST_CLOCK")`) {
		t.Error("the clock is not changed")
	}
	if _, err := shift("package time\n"); err == nil {
		t.Error("another source is no error")
	}
}

func TestTheDatesAreDates(t *testing.T) {
	for _, m := range moments {
		if _, err := time.Parse(time.RFC3339, m.at); err != nil {
			t.Error(err)
		}
		if _, err := time.LoadLocation(m.zone); err != nil {
			t.Error(err)
		}
	}
}

// A test that was renamed would no longer be run at other dates.
func TestEachTestWithRealServersThatIsChosenIsThere(t *testing.T) {
	files, err := filepath.Glob("../../../gateway/realtest/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(source)
	}
	for name := range strings.SplitSeq(strings.Trim(real, "^()"), "|") {
		if !regexp.MustCompile(`(?m)^func ` + name).MatchString(text.String()) {
			t.Errorf("no test is named %s", name)
		}
	}
}
