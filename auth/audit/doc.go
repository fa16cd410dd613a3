// Package audit is the audit log as a chain of events. Each event carries the hash
// of the event before it and of itself, so that an event that was changed, removed
// or added later breaks every hash behind it. [Chain] is the hash, and [Head] what
// an auditor notes to prove later that nothing up to there was altered.
//
// [Verify] walks a chain from its beginning and says at which event it breaks
// ([BrokenChain]). [Prune] removes the events that are older than the operator keeps
// them; an event of the log announces each removal, so that a shorter log still
// verifies. [EventsFrom] searches the log for what came from one network.
//
// What an event is, and when one is made, is in package auth; stores append events
// ([Head.Append]) and read them.
package audit
