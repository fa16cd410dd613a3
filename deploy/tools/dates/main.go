// Command dates runs the tests at other dates than today's: at the ends of months
// and years, and around midnight.
//
//	go run ./deploy/tools/dates [-at DATE] [-run REGEXP] [PACKAGE ...]
//
// The clock is set by the build alone. The package time of the Go installation is
// compiled with a [time.Now] that adds the seconds in the environment variable
// CONGTHU_TEST_CLOCK (go build -overlay), into the tests and into the programs that
// the tests build. What is released has no such setting. Monotonic readings, timers
// and the bubbles of testing/synctest are as they were. Programs that are no Go
// programs of this tree keep the real clock, but for PostgreSQL, whose clock is its
// store's: it runs under libfaketime (Debian package faketime).
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"congthu/auth/storetest/testenv"
)

// moment is when a run of the tests begins, in which time zone of the machine, and
// whether the tests with real stores and servers are run too, which take minutes.
type moment struct {
	at, zone string
	real     bool
}

// moments are the dates on which calendars go wrong. A day begins and ends in
// Asia/Ho_Chi_Minh (UTC+7), whatever the zone of the machine; the runs before
// midnight go on after it.
var moments = []moment{
	{"2028-02-29T12:00:00+07:00", "UTC", false},
	{"2027-08-31T12:00:00+07:00", "Asia/Ho_Chi_Minh", false},
	{"2027-11-30T18:30:00Z", "UTC", false}, // 1 December in Asia/Ho_Chi_Minh
	{"2026-12-31T23:59:58+07:00", "America/Los_Angeles", false},
	{"2027-01-01T00:00:00+07:00", "UTC", false},
	{"2028-02-29T23:59:58+07:00", "Asia/Ho_Chi_Minh", true},
}

// left out are the packages that no date can matter to, or whose programs have
// clocks of their own.
var leftOut = map[string]bool{
	"congthu/deploy/bench": true, "congthu/deploy/packaging": true, // build and measure
	"congthu/deploy/prometheus": true, // promtool's dates are those of its test files
	"congthu/gateway/realtest":  true, // some of its tests are run: see real
}

// slow are the packages that are run at the moments with real stores and servers.
var slow = map[string]bool{
	"congthu/auth/sqlite": true, "congthu/auth/postgres": true, "congthu/auth/postgres/pgtest": true, "congthu/gateway/realtest": true,
}

// real are the tests with real servers that depend on the date.
const real = `^(TestTheDailySweep|TestAnAccountCanBeUnused|TestSystemdIsTold|TestTheDemoKeeps|TestTheDemoAnnounces|TestTheLoginThatFinds|` +
	`TestACertificateOutOfDate|TestCheckTellsWhatItFound|TestTheDeviceWithThePrevious|TestAHundredParallel|TestSixtyRight|TestCheckTellsOfTheDatabase|` +
	`TestPythonImaplib|TestCurlReads)`

func main() {
	at := flag.String("at", "", "the one `date` to run at, such as 2028-02-29T12:00:00+07:00; without it, each of the list")
	zone := flag.String("zone", "UTC", "time zone of the machine, with -at")
	run := flag.String("run", "", "regular expression of the tests to run")
	flag.Parse()
	list := moments
	if *at != "" {
		list = []moment{{*at, *zone, true}}
	}
	if err := runAll(list, *run, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "dates:", err)
		os.Exit(1)
	}
}

// job is a package's tests.
type job struct{ pkg, dir, binary, run string }

func runAll(list []moment, run string, pkgs []string) (err error) {
	work, err := os.MkdirTemp("", "congthu-dates-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	overlay, err := writeOverlay(work)
	if err != nil {
		return err
	}
	environment := append(os.Environ(), "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -overlay="+overlay))
	jobs, err := build(work, environment, run, pkgs)
	if err != nil {
		return err
	}
	var failed []string
	for _, m := range list {
		for _, j := range jobs {
			if len(pkgs) == 0 && slow[j.pkg] && !m.real {
				continue
			}
			begun := time.Now()
			said, err := j.test(m, environment)
			took := time.Since(begun).Round(100 * time.Millisecond)
			if err != nil {
				failed = append(failed, m.at+" "+j.pkg)
				fmt.Printf("FAIL\t%s\t%s\t%s\t%s\n%s\n", m.at, m.zone, j.pkg, took, said)
				continue
			}
			fmt.Printf("ok\t%s\t%s\t%s\t%s\n", m.at, m.zone, j.pkg, took)
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("failed:\n\t%s", strings.Join(failed, "\n\t"))
	}
	return nil
}

// build compiles the tests once for all dates.
func build(work string, environment []string, run string, pkgs []string) (jobs []job, err error) {
	chosen := len(pkgs) > 0
	if !chosen {
		pkgs = []string{"./..."}
	}
	list := exec.Command("go", append([]string{"list", "-f", "{{.ImportPath}}\t{{.Dir}}\t{{len .TestGoFiles}}{{len .XTestGoFiles}}"}, pkgs...)...)
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		field := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		j := job{pkg: field[0], dir: field[1], run: run, binary: filepath.Join(work, fmt.Sprintf("%d.test", len(jobs)))}
		if field[2] == "00" || !chosen && leftOut[j.pkg] {
			continue
		}
		jobs = append(jobs, j)
	}
	if !chosen {
		i := slices.IndexFunc(jobs, func(j job) bool { return j.pkg == "congthu/gateway" })
		if i < 0 {
			return nil, errors.New("there is no package congthu/gateway here: run this in the tree of congthu")
		}
		jobs = append(jobs, job{pkg: "congthu/gateway/realtest", dir: filepath.Join(jobs[i].dir, "realtest"), run: real, binary: filepath.Join(work, "real.test")})
	}
	for _, j := range jobs {
		compile := exec.Command("go", "test", "-c", "-o", j.binary, j.pkg)
		compile.Env = environment
		if said, err := compile.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("compile %s: %w\n%s", j.pkg, err, said)
		}
	}
	return jobs, nil
}

// test runs a package's tests from the moment on, and returns what they said.
func (j job) test(m moment, environment []string) (said []byte, err error) {
	at, err := time.Parse(time.RFC3339, m.at)
	if err != nil {
		return nil, err
	}
	args := []string{"-test.timeout=10m", "-test.paniconexit0"}
	if j.run != "" {
		args = append(args, "-test.run="+j.run)
	}
	cmd := exec.Command(j.binary, args...)
	cmd.Dir = j.dir
	cmd.Env = append(slices.Clone(environment), "TZ="+m.zone, testenv.All+"=1", "PWD="+j.dir,
		fmt.Sprintf("%s=%d", testenv.ClockVariable, int64(time.Until(at)/time.Second)))
	return cmd.CombinedOutput()
}

// writeOverlay writes the changed source of package time and returns the file for
// -overlay.
func writeOverlay(work string) (file string, err error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	text, err := os.ReadFile(source)
	if err != nil {
		return "", err
	}
	changed, err := shift(string(text))
	if err != nil {
		return "", fmt.Errorf("%s: %w", source, err)
	}
	replacement := filepath.Join(work, "time.go")
	if err := os.WriteFile(replacement, []byte(changed), 0o644); err != nil {
		return "", err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{source: replacement}})
	if err != nil {
		return "", err
	}
	file = filepath.Join(work, "overlay.json")
	return file, os.WriteFile(file, overlay, 0o644)
}

// shift changes the source of package time so that Now adds the seconds of the
// environment variable. A time of a bubble has no monotonic reading (mono is 0) and
// stays as it is.
func shift(source string) (string, error) {
	const imports, reading = "import (\n", "\tsec, nsec, mono := runtimeNow()\n\tif mono == 0 {\n"
	if strings.Count(source, imports) != 1 || strings.Count(source, reading) != 1 {
		return "", errors.New("this version of Go reads the clock in another way: change shift in deploy/tools/dates")
	}
	source = strings.Replace(source, imports, imports+"\t\"syscall\"\n", 1)
	source = strings.Replace(source, reading, "\tsec, nsec, mono := runtimeNow()\n\tif mono != 0 {\n\t\tsec += shiftedBy\n\t}\n\tif mono == 0 {\n", 1)
	return source + fmt.Sprintf(shiftedBy, testenv.ClockVariable), nil
}

const shiftedBy = `
var shiftedBy = func() (seconds int64) {
	text, _ := syscall.Getenv(%q)
	digits := text
	if digits != "" && digits[0] == '-' {
		digits = digits[1:]
	}
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' || seconds > 1<<40 {
			panic("the clock cannot be set by " + text + ": want seconds")
		}
		seconds = seconds*10 + int64(c-'0')
	}
	if digits != text {
		return -seconds
	}
	return seconds
}()
`
