package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"congthu/auth"
)

// Head is the newest event of a chain. An auditor who has written it down can prove
// later that nothing up to that event was changed or removed.
type Head struct {
	Seq  int64     `json:"seq"`
	Hash string    `json:"hash"`
	At   time.Time `json:"at"`
}

// Chain returns the hash that an event must carry when the event before it in
// the chain carries prev (the empty string before the first): SHA-256 over
// prev, a newline and the event's JSON without its hash.
func Chain(prev string, e auth.Event) string {
	hash, err := chain(prev, e)
	if err != nil {
		// An event that [Head.Append] has written marshals.
		panic(fmt.Sprintf("audit: event does not marshal: %v", err))
	}
	return hash
}

// chain is Chain for an event whose time may not be possible in JSON, which has the
// years 0 to 9999 (RFC 3339 section 1).
func chain(prev string, e auth.Event) (hash string, err error) {
	e.Hash = ""
	e.At = e.At.UTC()
	encoded, err := json.Marshal(e)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(append([]byte(prev+"\n"), encoded...))
	return hex.EncodeToString(sum[:]), nil
}

// Append normalizes events, gives them numbers and hashes as the next ones of a chain,
// and returns the new head. An event that cannot be written is an error, and the chain
// stays as it was.
func (h Head) Append(events []auth.Event) (next Head, err error) {
	next = h
	for i, e := range events {
		e = e.Normalized()
		e.Seq = next.Seq + 1
		if e.Hash, err = chain(next.Hash, e); err != nil {
			return h, fmt.Errorf("chain event: %w", err)
		}
		events[i] = e
		next = Head{Seq: e.Seq, Hash: e.Hash, At: e.At}
	}
	return next, nil
}

// String returns SEQ:HASH, the form that an auditor writes down.
func (h Head) String() string { return fmt.Sprintf("%d:%s", h.Seq, h.Hash) }

// parseHead parses the text of String.
func parseHead(text string) (h Head, ok bool) {
	seq, hash, found := strings.Cut(text, ":")
	n, err := strconv.ParseInt(seq, 10, 64)
	return Head{Seq: n, Hash: hash}, found && err == nil
}
