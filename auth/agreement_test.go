package auth

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestAnAgreementIsReadAsItWasWritten(t *testing.T) {
	a := Agreement{"rules.lockout.tolerated": "5", "domains": `["a.test","b.test"]`, "domain": "a.test", "empty": ""}
	const want = "v1\ndomain a.test\ndomains [\"a.test\",\"b.test\"]\nempty \nrules.lockout.tolerated 5\n"
	if got := a.String(); got != want {
		t.Errorf("written as %q, want %q", got, want)
	}
	b, err := ParseAgreement(want)
	if err != nil || b.String() != want {
		t.Errorf("read as %q, error %v", b, err)
	}
	if none, err := ParseAgreement(""); err != nil || len(none) != 0 {
		t.Errorf("the empty text is %v, error %v", none, err)
	}
	if _, err := ParseAgreement("v2\nx 1\n"); !errors.Is(err, ErrAgreementVersion) {
		t.Errorf("another version: %v", err)
	}
}

func TestWhichSettingsAGatewayMayWorkBy(t *testing.T) {
	now := time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)
	agreed := Agreement{"tolerated": "5", "aliases": `["x=y","z=y"]`, "old": "1"}
	for name, c := range map[string]struct {
		mine   Agreement
		others int
		want   string // the agreed settings afterwards, or what the error says
		event  string
	}{
		"the same":                              {Agreement{"tolerated": "5"}, 3, "v1 aliases [\"x=y\",\"z=y\"] old 1 tolerated 5", ""},
		"a setting that others do not have":     {Agreement{"tolerated": "5", "new": "2"}, 3, "v1 aliases [\"x=y\",\"z=y\"] new 2 old 1 tolerated 5", ""},
		"another value beside others":           {Agreement{"tolerated": "50"}, 1, "tolerated is 50 here, agreed is 5", ""},
		"another list beside others":            {Agreement{"aliases": `["x=y"]`}, 1, "aliases is without here, agreed is z=y", ""},
		"another value alone":                   {Agreement{"tolerated": "50"}, 0, "v1 aliases [\"x=y\",\"z=y\"] old 1 tolerated 50", "tolerated 5 -> tolerated 50"},
		"of several differences all are named":  {Agreement{"tolerated": "50", "old": "2"}, 1, "old is 2 here, agreed is 1; tolerated is 50 here, agreed is 5", ""},
		"how to go on is said":                  {Agreement{"tolerated": "50"}, 1, "congthu rules adopt --reason", ""},
		"a setting that is missing is not told": {Agreement{}, 1, "v1 aliases", ""},
	} {
		next, events, err := c.mine.Join(agreed, c.others, now)
		got := strings.Join(strings.Fields(next.String()), " ")
		if err != nil {
			got = err.Error()
			if !errors.Is(err, ErrDisagreement) {
				t.Errorf("%s: error %v is no disagreement", name, err)
			}
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		event := ""
		for _, e := range events {
			event = e.Before + " -> " + e.After
			if e.Kind != RulesAdopted || e.Actor != ByGateway || e.Reason == "" || e.At != now {
				t.Errorf("%s: event %+v", name, e)
			}
		}
		if event != c.event {
			t.Errorf("%s: event %q, want %q", name, event, c.event)
		}
	}
	first, events, err := Agreement{"tolerated": "5"}.Join(nil, 3, now)
	if err != nil || first["tolerated"] != "5" || len(events) > 0 {
		t.Errorf("the first gateway: %v, %v, error %v", first, events, err)
	}
}

func TestAdoptingNeedsAReasonAndADifference(t *testing.T) {
	agreed, act := Agreement{"tolerated": "5"}, Act{Actor: "lan", Reason: "ordered"}
	if _, _, err := (Agreement{"tolerated": "5"}).Adopt(agreed, act, time.Now()); !errors.Is(err, ErrNothingToDo) {
		t.Errorf("the same: %v", err)
	}
	if _, _, err := (Agreement{"tolerated": "6"}).Adopt(agreed, Act{Actor: "lan"}, time.Now()); !errors.Is(err, ErrReasonMissing) {
		t.Errorf("without a reason: %v", err)
	}
	mine := Agreement{"tolerated": "6"}
	for i := range 30 {
		agreed[fmt.Sprintf("s%02d", i)], mine[fmt.Sprintf("s%02d", i)] = "0", "1"
	}
	next, events, err := mine.Adopt(agreed, act, time.Now())
	if err != nil || next["tolerated"] != "6" || len(events) != 1 || events[0].Actor != "lan" || events[0].Reason != "ordered" ||
		!strings.HasSuffix(events[0].After, "; 11 more") {
		t.Errorf("%v, %+v, error %v", next, events, err)
	}
}
