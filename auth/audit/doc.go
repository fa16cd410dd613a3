// Package audit is the audit log as a chain of events. Each event carries a hash of
// itself and of the event before it, so that a later change, removal or addition of an
// event breaks every hash after it. [Chain] is the hash, and [Head] is what an auditor
// writes down to prove later that nothing up to there was altered.
//
// [Verify] checks a chain from its beginning and says at which event it breaks
// ([BrokenChain]). [Prune] removes the events that are older than the retention period;
// an event of the log announces each removal, so that a shorter log still verifies.
// [EventsFrom] searches the log for events from one network.
//
// Package auth defines what an event is, and when one is made; stores append events
// ([Head.Append]) and read them.
package audit
