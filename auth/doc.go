// Package auth has the rules of the official-mail regulation and the data that must be
// remembered to apply them. It knows no socket, no metric and no database.
//
// # The rooms
//
// This package is data and pure functions: it stores nothing, waits for nothing and
// imports nothing of this program. Its files are named for their content: rules.go
// has the thresholds and what follows from them (a lock, the 12 months, the age of a
// password), transitions.go the changes that an answer of the mail server makes (the
// sixth wrong password locks in [Rules.Reject]), calendar.go the months, name.go the
// names, store.go what a store must do. The other packages are
//
//   - auth/guard, the engine: it decides each login by these rules, and has the queue,
//     the memory of a process and the writes that are still pending;
//   - auth/throttle, which slows down one source that guesses at many accounts;
//   - auth/audit, the audit log as a chain, its verification and its retention;
//   - auth/incident, which finds locks that belong together;
//   - auth/password, the fingerprints of passwords;
//   - auth/sqlite and auth/postgres, the stores; auth/storetest, what each store must do.
//
// The following packages are planned. They must not become a part of one of these:
//
//   - auth/passwordage: what is known of when a password was set, from which source, and
//     which evidence counts (Art. 9);
//   - auth/sso: tokens of a single sign-on in place of passwords;
//   - auth/directory: the holder of a mailbox, the position and the unit. It is read
//     rarely and has tables of its own, so that the row of an account, which each login
//     reads, does not grow;
//   - auth/requests: requests to create, change or revoke mailboxes, and their deadlines
//     (Art. 5.2, 5.3); auth/workdays: the working days by which deadlines are counted;
//   - auth/naming: how the address of a mailbox is formed (Art. 4.1).
//
// Imports run one way, towards this package; a test enforces this.
//
// # The rules
//
// A mailbox locks when a wrong password is entered more than 5 times, until an
// admin unlocks it (Art. 6.2.d, [Lockout]). An account without a login for more
// than 12 months is revoked, until an admin restores it (Art. 5.3.c,
// [Dormancy]). A password older than 3 months is refused until it is changed,
// unless the user signs on through the national identity (Art. 9,
// [PasswordAge]). The passwords that were accepted are remembered as fingerprints, each
// with an age of its own ([Password]): the use of one password does not make another
// one younger. No user acts as another user (Art. 13.8). The figures are settings;
// [DefaultRules] are the regulation's.
//
// [Rules] has the decisions as pure functions of an [Account] and an instant.
// Months are calendar months in the regulation's time zone, clamped to the end
// of the month ([AddMonths]), and "more than 3 months" begins when the day three
// months later has ended.
//
// # Vocabulary
//
// An attempt is one try to log in with complete credentials ([Attempt]). The
// mail server's [Answer] carries a [Judgement]: right, wrong, refused for
// another reason, not reached, or in doubt. The guard's [Verdict] carries an
// [Outcome], which is metric label, log value and key of the reply table at
// the same time. A failure is a wrong password that counts. A slot is the right to ask
// the mail server about an account; it is held by a [Reservation]. A name is an
// account after its first login or its import; other names have failures and locks
// alike, but only those who may unlock see them, under a heading of their own, since
// such a name may be a mistyped password.
//
// # One login
//
// guard.Guard.Attempt does three things. Callers that cannot pass a function which
// asks the mail server do the first with guard.Guard.Begin, which returns a ticket, and
// the third with the ticket's Settle.
//
// Admit: make the name canonical, so that all spellings share one counter;
// answer from memory what this connection has offered before; slow down sources
// that guess at many accounts; refuse a locked account without asking the mail
// server; take a slot, or wait for one. There are as many slots as attempts could all
// be wrong without exceeding the limit: tolerated + 1 minus the failures so far. A
// password that this process has seen accepted needs no slot.
//
// Verify: the protocol's function asks the mail server.
//
// Settle: one change of the account in one transaction of the [Store], with its
// audit events, which also frees the slot. A wrong password adds a failure and
// may lock. A password from before a change (a phone that still has the old one) does
// not count, nor does one that a mail program repeats by itself ([RepeatWindow]). A
// right password is checked against the account as it is now; only then it forgives
// the failures and becomes a login.
//
// # Guessers
//
// A person who wants to lock other people out can use the lock of the regulation for
// that, and a login of the owner forgives earlier guesses. Four measures limit both.
//
// First, throttle.Throttle limits what one source, and one network, can do: each
// locks few accounts a day, and cannot spray many. Colleagues behind the same address,
// who are known by their earlier logins from there ([Account].Seen), are not affected.
// Several sources together lock no more than the sum of what each could alone, 5 a day
// at the defaults, since the third wrong password of an account and those after it need
// one of the few grants of a source, even if another source entered the first two.
// Second, each account has its own lock. Third, guessing slowly between the owner's
// logins ends after 30 wrong passwords a day ([Lockout].DailyFailureCap), for
// sources from which the account had no login. Fourth, the locks of an attack are found
// and unlocked together (package incident). An unlock forgives one account, at every
// source and every gateway, and gives nothing back to any source; an office is exempted
// by an act of its own (guard.Guard.AllowSource).
//
// Names without a login are treated and answered like accounts. Their room is limited,
// and a new name never takes the place of another one. They are forgotten after a month
// ([Lockout].ForgetUnknown), unless they are locked. One source takes only a share of
// the room in a day, and so does a network. Names beyond the room, or beyond the share,
// use 65536 shared counters, selected by a keyed hash. A counter is as exact and as
// durable as an account; when it is full it refuses like a locked account, but locks
// nothing, and it is emptied a day after its first failure. A right password makes an
// account of the name, which needs no such room. So no user is refused because the room
// is full, and an attack that fills one counter in a hundred keeps out one newcomer in a
// hundred, for a day.
//
// # The clock
//
// Three of four rules count months. A clock that disagrees with other sources of time
// is suspect, and then nothing happens that only time brings about: see
// guard.Guard.WatchClock and guard.Guard.AcceptClock.
//
// # The five invariants
//
// I1, never too many: between two resets (an accepted login, an unlock) the mail
// server judges at most tolerated + 1 wrong passwords that count for an account,
// with any number of connections that guess at the same time. The same wrong password
// counts again only within 3 minutes ([RepeatWindow]): a repetition tells a guesser
// nothing. The process remembers which passwords were counted, 65536 of them: another
// gateway, a restart, or that many newer ones, cost one more failure. The slots ensure
// this; checking before and counting after would not. A try without an answer, and a
// ticket that is not settled, keep their slot until the lease ends and then count, but
// never lock by themselves, so that an outage locks no account. Exceptions are formerly
// correct passwords, which do not count, and the faults below.
//
// I2, no collateral: an attempt that finds no free slot waits, first come first
// served, and is not refused.
//
// I3, nothing lost: everything that a client has read was on disk before. A failure
// that cannot be written is answered "try again later", keeps its slot, and is
// written as soon as the store allows.
//
// I4, only wrong passwords count: of all judgements only [JudgedWrong] is
// counted at once. Outages, policies and protocol errors are not.
//
// I5, a lock is a lock: a login that the mail server accepted after the account
// was locked is refused. An admin's lock and a revocation end live sessions; a
// lock made by guessing does not, or any guesser could disconnect any user.
//
// # What a fault can cost
//
// In wrong passwords of one account that are judged beyond tolerated + 1 (I1):
//
//   - a process that ends, where reservations are in its memory: those in flight, at
//     most tolerated + 1;
//   - one of several processes that ends, or is cut off from the store or stands still
//     for longer than its lease, with attempts in flight: one, since its slots become
//     failures in doubt, which never lock. It is only one until the process has
//     written its verdicts, however often its link comes and goes: a verdict that is
//     not written yet holds the account (guard.Guard.Run writes it);
//   - reservations that a store has lost, by a fail-over or because they were deleted:
//     those in flight once more. A missing reservation is not treated as settled: its
//     failure is counted (I3);
//   - a store that has lost changes that it confirmed, such as an asynchronous standby
//     that takes over: as many as it has lost;
//   - a caller that settles its tickets after their lease (guard.Guard.Begin): each wrong
//     password beyond tolerated, since a failure in doubt never locks.
//
// In logins that a lock should have refused (I5): with guard.Guard.StoreGrace, those with
// passwords known to be good while the store is down, unless this process has made,
// read or received a lock or revocation (guard.Guard.OnRemoteEvent).
//
// In locked-out owners (I2): a process that starts has forgotten what sources did
// (throttle.Throttle), and each process counts it for itself.
//
// In time: a clock that is wrong and suspect only makes users wait; a wrong clock
// that no other clock contradicts makes passwords and accounts expire early.
//
// SECURITY.md says the same for operators.
package auth
