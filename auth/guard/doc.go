// Package guard is the engine: it decides each login by the rules of package auth,
// and carries out the acts of administrators and the jobs that time brings about.
//
// [Guard.Attempt] admits an attempt, lets the mail server verify it, and settles the
// account with the answer. [Guard.Begin] and [Ticket.Settle] are the same in two steps,
// for callers that do not get the mail server's answer from a function.
// The files are
//
//   - guard.go: the settings of a guard and the policy; attempt.go: one attempt from
//     beginning to end; ticket.go: an attempt in two steps, and what happens if the
//     second step does not come;
//   - admission.go: everything before the mail server is asked: the throttle, the
//     queue (queue.go), a slot of the store, or a password that is known to be good
//     (knownpassword.go);
//   - settle.go: the consequences of a verdict. How a verdict changes an account is in
//     package auth ([auth.Rules.Reject], [auth.Rules.Accept]);
//   - deferred.go: settlements that the store has not accepted yet, which [Guard.Run]
//     writes; fingerprint.go: fingerprints that are computed after the login;
//   - repeats.go: wrong passwords that a mail program repeats by itself;
//     sharedcounter.go: names for which there is no room among the unknown ones;
//     strays.go: rows under names that now mean another account;
//   - actions.go, allow.go, import.go, merge.go: the acts of administrators; sweep.go
//     and stats.go: jobs that read all accounts; clock.go: a clock that is wrong;
//   - memory.go: what a process remembers of accounts beside the store, and what ends
//     it; refusal.go and lately.go: the part of it that support staff look at;
//   - replicas.go: acts of other gateways on the same store; forgive.go: an unlock, at
//     this gateway or at another.
//
// A guard sees no socket and knows no protocol: [auth.Attempt].Verify is the function
// that asks the mail server. It decides by what the store holds, and keeps in memory
// only what may be lost with the process.
package guard
