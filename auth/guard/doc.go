// Package guard is the engine: it decides each login by the rules of package auth,
// and does what administrators and the clock ask of it.
//
// [Guard.Attempt] admits an attempt, has the mail server verify it, and settles the
// account with the answer. [Guard.Begin] and [Ticket.Settle] are the same in two steps,
// for callers to whom the mail server's answer comes by another way than a function.
// What a reader looks for stands in
//
//   - guard.go: the settings of a guard and the policy; attempt.go: one attempt from its
//     beginning to its end; ticket.go: one in two steps, and what becomes of it when
//     there is no second;
//   - admission.go: what comes before the mail server is asked: the throttle, the
//     queue (queue.go), a slot of the store, or a password that is known to be good
//     (knownpassword.go);
//   - settle.go: what a verdict changes. How it changes an account is in package auth
//     ([auth.Rules.Reject], [auth.Rules.Accept]);
//   - deferred.go: settlements that the store has not taken yet, which [Guard.Run]
//     makes; fingerprint.go: fingerprints that no login waits for;
//   - repeats.go: what a mail program repeats by itself; sharedcounter.go: names beyond
//     the room for unknown ones; strays.go: rows under names that now mean another
//     account; lately.go, refusal.go: what support staff see of the last attempts;
//   - actions.go, allow.go, import.go, merge.go: what administrators do; sweep.go and
//     stats.go: what is done with all accounts; clock.go: a clock that is wrong;
//   - memory.go: what a process remembers of accounts beside the store, and what ends
//     it; refusal.go and lately.go: what of it support staff look for, repeats.go: wrong
//     passwords that are repeated;
//   - replicas.go: what other gateways on the same store did; forgive.go: an unlock, here
//     or there.
//
// A guard sees no socket and knows no protocol: [auth.Attempt].Verify is the function
// that asks the mail server. It decides by what the store says and keeps in memory
// only what may be lost with the process.
package guard
