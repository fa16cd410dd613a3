package gateway

import (
	"bytes"
	"log/slog"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"congthu/auth"
)

func TestAnEventTellsOnlyWhatThereIsToTell(t *testing.T) {
	var out bytes.Buffer
	l := newAccessLog(slog.New(slog.NewTextHandler(&out, nil)))
	l.RecordEvent(auth.Event{Kind: auth.FirstLogin, Account: lan, Actor: auth.ByUser, Before: "unknown", After: "active"}, true)
	if got := out.String(); strings.Contains(got, "reason") || !strings.Contains(got, "before=unknown after=active\n") {
		t.Error(got)
	}
	out.Reset()
	l.RecordEvent(auth.Event{Kind: auth.GraceGranted, Account: lan, Actor: "A", Reason: "travelling"}, true)
	if got := out.String(); strings.Contains(got, "before") || strings.Contains(got, "after") || !strings.Contains(got, "reason=travelling") {
		t.Error(got)
	}
}

// Refusals can be as frequent as a stranger's requests. Lines about them must not hide
// what matters to an operator.
func TestAFloodOfRefusalsLeavesTheLogReadable(t *testing.T) {
	var out bytes.Buffer
	l := newAccessLog(slog.New(slog.NewTextHandler(&out, nil)))
	for range 20_000 {
		l.RecordAttempt(auth.Attempt{}, auth.Verdict{Outcome: auth.Locked, Name: "lan@example.vn", Known: true})
	}
	lines := strings.Count(out.String(), "\n")
	if lines < refusalBurst || lines > refusalBurst+200 { // and some for the time it took
		t.Errorf("%d lines for 20000 refusals", lines)
	}
	refused := out.String() // some lines tell of others already, if it has taken long
	out.Reset()
	for range 1000 {
		l.RecordAttempt(auth.Attempt{}, auth.Verdict{Outcome: auth.WrongPassword, Name: "lan@example.vn", Known: true})
	}
	if n := strings.Count(out.String(), "outcome=wrong_password"); n != 1000 {
		t.Errorf("%d of 1000 wrong passwords are in the log", n)
	}
	l.refusals.SetLimit(1e9)
	out.Reset()
	for !strings.Contains(out.String(), "outcome=locked") {
		l.RecordAttempt(auth.Attempt{}, auth.Verdict{Outcome: auth.Locked, Name: "lan@example.vn", Known: true})
	}
	told := strings.Count(refused, "outcome=locked")
	for _, m := range regexp.MustCompile(`left_out=(\d+)`).FindAllStringSubmatch(refused+out.String(), -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		told += n
	}
	if told != 20_000 {
		t.Errorf("the log tells of %d of 20000 refusals", told)
	}
}

func TestTheLogWarnsOncePerSourceThatIsRefused(t *testing.T) {
	var out bytes.Buffer
	l := newAccessLog(slog.New(slog.NewTextHandler(&out, nil)))
	for i := range 100 {
		for _, source := range []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"} {
			from := netip.AddrPortFrom(netip.MustParseAddr(source), uint16(1000+i))
			l.RecordAttempt(auth.Attempt{Source: from}, auth.Verdict{Outcome: auth.Throttled, Name: "lan@example.vn", Known: true})
		}
	}
	if n := strings.Count(out.String(), "level=WARN"); n != 3 {
		t.Errorf("%d warnings of three sources", n)
	}
}
