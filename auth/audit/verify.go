package audit

import (
	"fmt"

	"congthu/auth"
)

// BrokenChain is the error of a verification that found the audit log changed.
type BrokenChain struct {
	Seq int64  // the first event that breaks the chain
	Why string // one sentence
}

// Error implements error.
func (e *BrokenChain) Error() string {
	return fmt.Sprintf("audit chain broken at event %d: %s", e.Seq, e.Why)
}

// Bounds is what a store notes about its chain beside the events, and which
// events it has, all at one moment.
type Bounds struct {
	// Removed is the last event that was removed because of its age; zero for
	// none. The chain continues from it.
	Removed Head
	// Head is the head that was noted when the newest event was written.
	Head Head
	// Oldest and Newest are the least and the greatest number; 0 without events.
	Oldest, Newest int64
}

// Reader reads the chain that is to be verified from a store.
type Reader struct {
	// Bounds reads the bounds as they are now.
	Bounds func() (Bounds, error)
	// Read returns the events after a number, at most n, in their order.
	Read func(after, n int64) ([]auth.Event, error)
	// Progress is called with the number of checked events and of all; nil: not called.
	Progress func(checked, total int64)
}

// Verify checks a chain from its beginning up to the newest event, and compares it with
// the head that was noted when that event was written. It begins after the events that
// were removed because of their age ([Prune]), if an event of the chain announces their
// removal. Events may be removed meanwhile. A [*BrokenChain] says at which event the log
// was tampered with.
func Verify(r Reader) (at Head, err error) {
	const page = 500
	b, err := r.Bounds()
	if err != nil {
		return at, err
	}
	at = b.Removed
	var told Head // how far events were removed, by the announcements
	for checked := int64(0); at.Seq < b.Newest; {
		events, err := r.Read(at.Seq, min(page, b.Newest-at.Seq))
		if err != nil {
			return at, err
		}
		if len(events) == 0 || events[0].Seq != at.Seq+1 {
			// They may have been removed while the log was read.
			now, err := r.Bounds()
			switch {
			case err != nil:
				return at, err
			case now.Removed.Seq > at.Seq:
				b, at = now, now.Removed
				continue
			case len(events) == 0:
				return at, &BrokenChain{Seq: at.Seq + 1, Why: "the event was removed while the log was read"}
			}
		}
		for _, e := range events {
			hash, err := chain(at.Hash, e)
			switch {
			case e.Seq != at.Seq+1:
				return at, &BrokenChain{Seq: at.Seq + 1, Why: "the event is missing"}
			case err != nil: // no gateway can have written it
				return at, &BrokenChain{Seq: e.Seq, Why: "the event was changed: " + err.Error()}
			case e.Hash != hash:
				return at, &BrokenChain{Seq: e.Seq, Why: "the event, or one before it, was changed"}
			}
			at = Head{Seq: e.Seq, Hash: e.Hash, At: e.At}
			if upto, ok := parseHead(e.After); ok && e.Kind == auth.AuditPruned && upto.Seq >= told.Seq {
				told = upto
			}
		}
		checked += int64(len(events))
		if r.Progress != nil {
			r.Progress(checked, checked+b.Newest-at.Seq)
		}
	}
	newest := max(b.Newest, b.Removed.Seq)
	switch {
	case b.Head.Seq > newest:
		return at, &BrokenChain{Seq: newest + 1, Why: fmt.Sprintf("the events up to %d are missing", b.Head.Seq)}
	case b.Head.Seq < newest:
		return at, &BrokenChain{Seq: b.Head.Seq + 1, Why: "the events from here on were not written by the gateway"}
	case b.Head.Hash != at.Hash:
		return at, &BrokenChain{Seq: at.Seq, Why: "its hash is not the one noted when it was written: the log was rewritten"}
	case b.Removed.Seq > told.Seq, b.Removed.Seq == told.Seq && b.Removed.Hash != told.Hash:
		return at, &BrokenChain{Seq: b.Removed.Seq, Why: "the events up to here were removed, and no event of the log tells of it"}
	case b.Oldest > 0 && b.Oldest <= b.Removed.Seq:
		return at, &BrokenChain{Seq: b.Oldest, Why: "the event was removed because of its age, and is there all the same"}
	}
	return at, nil
}
