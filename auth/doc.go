// Package auth is the rules of the official-mail regulation and what must be
// remembered to keep them. It knows no socket, no metric and no database.
//
// # The rooms
//
// This package is data and pure functions: it keeps nothing, waits for nothing and
// imports nothing of this program. Its files are named for what is in them: rules.go
// has the thresholds and what follows from them (a lock, the 12 months, the age of a
// password), transitions.go what an answer of the mail server changes (the sixth wrong
// password locks in [Rules.Reject]), calendar.go the months, name.go the names, store.go
// what a store must do. Beside it are
//
//   - auth/guard, the engine: it decides each login by these rules, and has the queue,
//     the memory of a process and what could not be written yet;
//   - auth/throttle, which slows down one source that guesses at many accounts;
//   - auth/audit, the audit log as a chain, its verification and its retention;
//   - auth/incident, which finds locks that belong together;
//   - auth/password, the fingerprints of passwords;
//   - auth/sqlite and auth/postgres, the stores; auth/storetest, what each store must do.
//
// Not built yet, and not to be built into one of these, are
//
//   - auth/passwordage: what is known of when a password was set, from whom, and which
//     evidence counts (Art. 9);
//   - auth/sso: tokens of a single sign-on in place of passwords;
//   - auth/directory: the holder of a mailbox, the position and the unit. It is read
//     seldom and has tables of its own, so that the row of an account, which each login
//     reads, does not grow;
//   - auth/requests: requests to create, change or revoke mailboxes, and when they are due
//     (Art. 5.2, 5.3); auth/workdays: the working days by which that is counted;
//   - auth/naming: how the address of a mailbox is formed (Art. 4.1).
//
// Imports run one way, towards this package, and a test keeps it so.
//
// # The rules
//
// A mailbox locks when a wrong password is entered more than 5 times, until an
// admin unlocks it (Art. 6.2.d, [Lockout]). An account not logged in to for more
// than 12 months is revoked, until an admin restores it (Art. 5.3.c,
// [Dormancy]). A password older than 3 months is refused until it is changed,
// unless the user signs on through the national identity (Art. 9,
// [PasswordAge]). The passwords that were accepted are remembered as fingerprints, each
// with an age of its own ([Password]): none becomes younger when another one that
// works beside it is used. Nobody acts as somebody else (Art. 13.8). The figures are
// settings; [DefaultRules] are the regulation's.
//
// [Rules] holds the decisions as pure functions of an [Account] and an instant.
// Months are calendar months in the regulation's time zone, clamped to the end
// of the month ([AddMonths]), and "more than 3 months" begins when the day three
// months on has ended.
//
// # Vocabulary
//
// An attempt is one try to log in with complete credentials ([Attempt]). The
// mail server's [Answer] carries a [Judgement]: right, wrong, refused for
// another reason, not reached, or in doubt. The guard's [Verdict] carries an
// [Outcome], which is metric label, log value and key of the reply table at
// once. A failure is a wrong password that counts. A slot is the right to ask
// the mail server about an account; it is held by a [Reservation]. A name is an
// account once somebody has logged in with it or it was imported; other names
// have failures and locks alike, but are shown to those who unlock only, under a heading
// of their own, since a name may be a mistyped password.
//
// # One login
//
// guard.Guard.Attempt does three things. Callers that cannot pass a function which
// asks the mail server do the first with guard.Guard.Begin, which returns a ticket, and
// the third with its Settle.
//
// Admit: make the name canonical, so that all spellings share one counter;
// answer from memory what this connection has offered before; slow down sources
// that guess at many accounts; refuse a locked account without asking the mail
// server; take a slot, or wait for one. There are as many slots as could all
// turn out wrong: tolerated + 1 less the failures so far. A password that this
// process has seen accepted needs no slot.
//
// Verify: the protocol's function asks the mail server.
//
// Settle: one change of the account in one transaction of the [Store], with its
// audit events, which also frees the slot. A wrong password adds a failure and
// may lock; a password from before a change (a phone that was not told of it) is
// refunded, and so is one that a mail program repeats by itself ([RepeatWindow]); a right one is checked against the account as it is now, and only
// then forgives the failures and becomes a login.
//
// # Strangers
//
// The lock of the regulation is a gift to whoever wants to lock people out, and a
// login forgives what a stranger has guessed before it. Four things stand against
// that. throttle.Throttle bounds what one source can do, and one network: each locks few
// accounts a day, and cannot spray many; the colleagues behind the same address, who
// are known by their earlier logins from there ([Account].Seen), go on. Sources
// together lock no more than the sum of what each could alone, 5 a day at the
// defaults, since the third wrong password of an account and those after it need one
// of the few grants of a source, whoever entered the first two; and each account has
// its own lock. Guessing slowly between the owner's
// logins ends after 30 wrong passwords a day ([Lockout].DailyFailureCap), for
// sources that the account was not logged in to from. And what an attack has
// locked is found and unlocked together (package incident). An unlock forgives one account,
// at every source and every gateway, and gives no source anything back; an office
// is let go on by an act of its own (guard.Guard.AllowSource).
//
// Names that nobody ever logged in with are treated and answered like accounts,
// in bounded room that no newcomer can take from another name; they are forgotten
// after a month ([Lockout].ForgetUnknown), unless they are locked. One source takes
// a share of the room a day, and so does a network. Beyond the room, or the share,
// names share 65536 counters, by a keyed hash: a counter is as exact and as durable
// as an account, refuses like a locked one when it is full, locks nothing, and is
// emptied a day after its first failure. A right password makes an account of the
// name, which needs no room. So nobody is refused for want of room, and an attack
// that fills one counter in a hundred keeps out one newcomer in a hundred, for a day.
//
// # The clock
//
// Three of four rules count months. A clock that disagrees with what else tells the
// time is suspect, and while it is nothing happens that only time brings about: see
// guard.Guard.WatchClock and guard.Guard.AcceptClock.
//
// # The five invariants
//
// I1, never too many: between two resets (an accepted login, an unlock) the mail
// server judges at most tolerated + 1 wrong passwords that count of an account,
// however many connections guess at once. The same wrong password counts again
// within 3 minutes only ([RepeatWindow]): whoever repeats it learns nothing. What has
// been counted is remembered in this process, of 65536 passwords: another gateway, a
// restart, or that many newer ones, cost one more entry. The slots see to it;
// checking before and counting after would not. A try without an answer, and a ticket that
// is not settled, keep their slot until the lease ends and then count, but never lock by
// themselves, so that an outage locks nobody. Excepted are formerly correct passwords,
// which do not count either, and what faults can cost.
//
// I2, no collateral: an attempt that finds no free slot waits, first come first
// served, and is not refused.
//
// I3, nothing lost: what a client was told has been on disk before. A failure
// that cannot be written is answered "try again later", keeps its slot, and is
// written as soon as the store allows.
//
// I4, only wrong passwords count: of all judgements only [JudgedWrong] is
// counted at once. Outages, policies and protocol errors are not.
//
// I5, a lock is a lock: a login that the mail server accepted after the account
// was locked is refused. An admin's lock and a revocation end live sessions; a
// lock made by guessing does not, or anybody could disconnect anybody.
//
// # What a fault can cost
//
// In wrong passwords of one account that are judged beyond tolerated + 1 (I1):
//
//   - a process that ends, where reservations are in its memory: those in flight, at
//     most tolerated + 1;
//   - one of several that ends, or is cut off from the store or stands still for
//     longer than its lease, with attempts in flight: one, since its slots become
//     failures in doubt, of which none locks. It is one until the process has written
//     what it heard, however often its link comes and goes: a verdict that is not
//     written yet holds the account (guard.Guard.Run writes it);
//   - reservations that a store has lost, by a fail-over or because somebody deleted
//     them: those in flight once more. Their absence is no receipt: what was told is
//     counted (I3);
//   - a store that has lost what it confirmed, such as an asynchronous standby that
//     takes over: as many as it has lost;
//   - a caller that settles its tickets after their lease (guard.Guard.Begin): each wrong
//     password beyond tolerated, since what is in doubt never locks.
//
// In logins that a lock should have refused (I5): with guard.Guard.StoreGrace, those of
// passwords known good while the store is away, unless this process has made, read or
// heard of a lock or revocation (guard.Guard.OnRemoteEvent).
//
// In locked-out owners (I2): a process that begins anew has forgotten what sources
// did (throttle.Throttle), and each process counts it for itself.
//
// In time: a clock that is wrong and suspect costs nothing but waiting; one that
// nothing disagrees with ages passwords and accounts early.
//
// SECURITY.md tells the same to those who run it.
package auth
