package auth

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// ChainHead is the newest event of a chain. Whoever writes it down can prove
// later that nothing up to there was changed or removed.
type ChainHead struct {
	Seq  int64     `json:"seq"`
	Hash string    `json:"hash"`
	At   time.Time `json:"at"`
}

// BrokenChain is the error of a verification that found the audit log changed.
type BrokenChain struct {
	Seq int64  // the first event that does not fit
	Why string // in one sentence
}

// Error implements error.
func (e *BrokenChain) Error() string {
	return fmt.Sprintf("audit chain broken at event %d: %s", e.Seq, e.Why)
}

// Chain returns the hash that an event must carry when the event before it in
// the chain carries prev (the empty string before the first): SHA-256 over
// prev, a newline and the event's JSON without its hash.
func Chain(prev string, e Event) string {
	e.Hash = ""
	e.At = e.At.UTC()
	encoded, err := json.Marshal(e)
	if err != nil {
		// Every field marshals; a field that does not is a mistake in this file.
		panic(fmt.Sprintf("auth: event does not marshal: %v", err))
	}
	sum := sha256.Sum256(append([]byte(prev+"\n"), encoded...))
	return hex.EncodeToString(sum[:])
}

// Append gives events their normal form, numbers and hashes, as the next ones of
// a chain, and returns its new head. An event that cannot be written is an error
// and leaves the chain as it was.
func (h ChainHead) Append(events []Event) (next ChainHead, err error) {
	defer func() {
		if p := recover(); p != nil {
			next, err = h, fmt.Errorf("chain event: %v", p)
		}
	}()
	next = h
	for i, e := range events {
		e = e.Normal()
		e.Seq = next.Seq + 1
		e.Hash = Chain(next.Hash, e)
		events[i] = e
		next = ChainHead{Seq: e.Seq, Hash: e.Hash, At: e.At}
	}
	return next, nil
}

// VerifyChain walks a chain from its first event up to newest and compares it
// with the head that was noted when the newest event was written. read returns the
// events behind one, at most n, in their order; progress may be nil. A
// [*BrokenChain] says where somebody tampered with the log.
func VerifyChain(noted ChainHead, newest int64, read func(after, n int64) ([]Event, error), progress func(checked, total int64)) (at ChainHead, err error) {
	const page = 500
	for at.Seq < newest {
		events, err := read(at.Seq, min(page, newest-at.Seq))
		if err != nil {
			return at, err
		}
		for _, e := range events {
			switch {
			case e.Seq != at.Seq+1:
				return at, &BrokenChain{Seq: at.Seq + 1, Why: "the event is missing"}
			case e.Hash != Chain(at.Hash, e):
				return at, &BrokenChain{Seq: e.Seq, Why: "the event, or one before it, was changed"}
			}
			at = ChainHead{Seq: e.Seq, Hash: e.Hash, At: e.At}
		}
		if len(events) == 0 {
			return at, &BrokenChain{Seq: at.Seq + 1, Why: "the event was removed while the log was read"}
		}
		if progress != nil {
			progress(at.Seq, newest)
		}
	}
	switch {
	case noted.Seq > newest:
		return at, &BrokenChain{Seq: newest + 1, Why: fmt.Sprintf("the events up to %d are missing", noted.Seq)}
	case noted.Seq < newest:
		return at, &BrokenChain{Seq: noted.Seq + 1, Why: "the events from here on were not written by the gateway"}
	case noted.Hash != at.Hash:
		return at, &BrokenChain{Seq: at.Seq, Why: "its hash is not the one noted when it was written: the log was rewritten"}
	}
	return at, nil
}
