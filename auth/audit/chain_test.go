package audit_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/audit"
)

// TestEventsMayBeRemovedWhileTheChainIsVerified: if events are removed at the place that
// a verification has reached, it continues after them, and still requires an event that
// announces the removal.
func TestEventsMayBeRemovedWhileTheChainIsVerified(t *testing.T) {
	for name, c := range map[string]struct {
		tells  bool  // an event announces the removal
		note   bool  // the store notes what is removed
		broken int64 // 0: none
	}{
		"told and noted":  {true, true, 0},
		"noted, not told": {false, true, 700},
		"told, not noted": {true, false, 501},
	} {
		t.Run(name, func(t *testing.T) {
			var head, gone audit.Head
			events := make([]auth.Event, 1200)
			var err error
			for i := range events {
				events[i] = auth.Event{Kind: auth.PasswordWrong}
				if i == 1100 && c.tells {
					events[i] = auth.Event{Kind: auth.AuditPruned, After: audit.Head{Seq: 700, Hash: events[699].Hash}.String()}
				}
				if head, err = head.Append(events[i : i+1]); err != nil {
					t.Fatal(err)
				}
			}
			reads := 0
			at, err := audit.Verify(audit.Reader{
				Bounds: func() (audit.Bounds, error) {
					return audit.Bounds{Removed: gone, Head: head, Oldest: events[0].Seq, Newest: head.Seq}, nil
				},
				Read: func(after, n int64) ([]auth.Event, error) {
					if reads++; reads == 2 {
						if c.note {
							gone = audit.Head{Seq: 700, Hash: events[699].Hash}
						}
						events = events[700:]
					}
					var found []auth.Event
					for _, e := range events {
						if e.Seq > after && int64(len(found)) < n {
							found = append(found, e)
						}
					}
					return found, nil
				},
			})
			found, _ := errors.AsType[*audit.BrokenChain](err)
			switch {
			case c.broken == 0 && (err != nil || at != head):
				t.Fatalf("verify: %+v, %v; want %+v", at, err, head)
			case c.broken != 0 && (found == nil || found.Seq != c.broken):
				t.Fatalf("verify: %v, want a break at %d", err, c.broken)
			}
		})
	}
}

// An event that cannot be written leaves the chain as it was; the error says why.
func TestAnEventThatCannotBeWrittenLeavesTheChain(t *testing.T) {
	head := audit.Head{Seq: 7, Hash: "aa"}
	events := []auth.Event{{Kind: auth.FirstLogin}, {Kind: auth.FirstLogin, At: time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)}}
	next, err := head.Append(events)
	if err == nil || !strings.Contains(err.Error(), "year outside of range") || next != head {
		t.Errorf("head %v, error %v; want %v and one that names the year", next, err, head)
	}
}

// An event that was changed into one that no gateway can have written breaks the chain
// like any other change.
func TestAnEventThatCannotHaveBeenWrittenBreaksTheChain(t *testing.T) {
	events := []auth.Event{{Kind: auth.FirstLogin}, {Kind: auth.FirstLogin}}
	head, err := audit.Head{}.Append(events)
	if err != nil {
		t.Fatal(err)
	}
	events[1].At = time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)
	_, err = audit.Verify(audit.Reader{
		Bounds: func() (audit.Bounds, error) {
			return audit.Bounds{Head: head, Oldest: 1, Newest: 2}, nil
		},
		Read: func(after, n int64) ([]auth.Event, error) { return events[after:min(after+n, 2)], nil },
	})
	if broken, ok := errors.AsType[*audit.BrokenChain](err); !ok || broken.Seq != 2 {
		t.Errorf("%v, want a break at 2", err)
	}
}
