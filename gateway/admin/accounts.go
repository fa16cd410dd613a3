package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"congthu/auth"
	"congthu/auth/guard"
	"congthu/auth/incident"
	"congthu/gateway/scope"
)

// latestEvents is the number of events shown with an account.
const latestEvents = 20

// AddressInput is the input of every operation on an account. It is exported because
// huma does not fill embedded structs of unexported types.
type AddressInput struct {
	Address string `path:"address" maxLength:"320" doc:"The address, or the name without its domain, percent-encoded; any spelling of it, and aliases."`
}

type accountOutput struct{ Body Account }

func (s *Server) getAccount(ctx context.Context, in *AddressInput) (*accountOutput, error) {
	name, err := s.canonical("path.address", in.Address)
	if err != nil {
		return nil, s.suggest(ctx, err, in.Address)
	}
	a, err := s.Accounts.Account(ctx, name)
	if err != nil {
		return nil, s.storeFailed("read account", err)
	}
	events, err := s.Accounts.Events(ctx, auth.EventFilter{Account: name, Limit: latestEvents})
	if err != nil {
		return nil, s.storeFailed("read events", err)
	}
	rows, err := s.Guard.OtherNames(ctx, name)
	if err != nil {
		return nil, s.storeFailed("read account", err)
	}
	beside, err := s.lately(ctx, a, events)
	if err != nil {
		return nil, s.storeFailed("read events", err)
	}
	shown := s.account(a, rows, events, beside)
	s.showLately(&shown, a)
	if !a.Known() && len(rows) == 0 {
		shown.Similar = s.similar(ctx, in.Address)
	}
	if !a.Known() {
		until, err := s.Guard.SharedFull(ctx, name)
		if err != nil {
			return nil, s.storeFailed("read shared counter", err)
		}
		if !until.IsZero() {
			shown.Why = slices.Insert(shown.Why, 0, sharedFull(until, s.Guard.Rules()))
		}
	}
	if shown.Locked != nil && a.Lock.Cause == auth.ByWrongPasswords && a.Known() && shown.Why[0].Outcome == auth.Locked.String() {
		causes, err := s.causes(ctx)
		if err != nil {
			return nil, s.storeFailed("list locked accounts", err)
		}
		shown.Locked.CauseID = alongside(&shown.Why[0], name, causes)
	}
	for i := range shown.Why {
		if shown.Why[i].AllowSource != "" {
			causes, err := s.causes(ctx)
			if err != nil {
				return nil, s.storeFailed("list locked accounts", err)
			}
			cautious(&shown.Why[i], causes)
		}
	}
	s.showTroubles(ctx, &shown)
	return &accountOutput{shown}, nil
}

// lately collects what is known of an account beside its row; events are its latest
// events.
func (s *Server) lately(ctx context.Context, a auth.Account, events []auth.Event) (Lately, error) {
	l := Lately{
		Refused: s.Guard.LatelyRefused(a.Name), Unanswered: s.Guard.LatelyUnanswered(a.Name),
		Tried: s.Guard.LatelyTried(a.Name), Sessions: s.sessions(a.Name),
	}
	for _, want := range []struct {
		kind  auth.EventKind
		needs bool
		event *auth.Event
	}{
		{auth.AccountUnlocked, a.Lock.Cause == auth.ByWrongPasswords, &l.Unlocked},
		{auth.AccountRestored, !a.Restored.IsZero() && !a.LastLogin.After(a.Restored), &l.Restored},
	} {
		if !want.needs {
			continue
		}
		some := events
		if len(events) == latestEvents && !slices.ContainsFunc(events, func(e auth.Event) bool { return e.Kind == want.kind }) {
			var err error
			some, err = s.Accounts.Events(ctx, auth.EventFilter{Account: a.Name, Kinds: []auth.EventKind{want.kind}, Limit: 1})
			if err != nil {
				return l, err
			}
		}
		for _, e := range some {
			if e.Kind == want.kind {
				*want.event = e
				break
			}
		}
	}
	return l, nil
}

// cautious withdraws the advice to allow a source if that source is suspected of an
// attack.
func cautious(w *Why, causes []incident.Incident) {
	addr, err := ParseSource(w.AllowSource)
	if err != nil || !suspected(causes, auth.Source(addr)) {
		return
	}
	w.AllowSource = ""
	w.EN += " Accounts were locked from there that look like an attack: do not allow that address; unlock this account if its user is known to be there."
	w.VI += " Từ đó có tài khoản bị khóa nghi do tấn công: không cho phép địa chỉ này; chỉ mở khóa tài khoản này nếu biết chắc người dùng đang ở đó."
}

// account shows one account in full; rows are those that the store has for it under
// other names.
func (s *Server) account(a auth.Account, rows []auth.Account, events []auth.Event, beside Lately) Account {
	rules, now := s.Guard.Rules(), s.now()
	why := Explain(a, rules, beside, now, s.changePassword())
	s.tellKnownNetworks(why, a)
	if more := elsewhere(rows, rules, now); len(more) > 0 {
		why = slices.DeleteFunc(why, func(w Why) bool { return w.Outcome == auth.Accepted.String() })
		at := 0
		if rules.Locked(a, now) {
			at = 1 // its own lock comes first
		}
		why = slices.Insert(why, at, more...)
	}
	return Account{
		Summary: s.summary(a, rules, now), Why: why, Events: eventsOf(events), OtherNames: otherNames(rows),
	}
}

// tellKnownNetworks adds to reasons about wrong passwords or refusals which of their
// addresses lie in offices of the organisation.
func (s *Server) tellKnownNetworks(why []Why, a auth.Account) {
	for i := range why {
		var sources []netip.AddrPort
		switch why[i].Outcome {
		case auth.Locked.String(), auth.WrongPassword.String():
			for _, m := range a.Mistakes {
				sources = append(sources, m.Source)
			}
		case auth.Throttled.String(), auth.Busy.String():
			sources = append(sources, s.Guard.LatelyRefused(a.Name).Source)
		}
		told := make(map[netip.Addr]bool)
		for _, source := range sources {
			addr := source.Addr().Unmap()
			network := s.Guard.KnownNetwork(addr)
			if !network.IsValid() || told[addr] {
				continue
			}
			told[addr] = true
			why[i].EN += fmt.Sprintf(" %s is in an office of yours (known network %s).", addr, network)
			why[i].VI += fmt.Sprintf(" %s là địa chỉ của cơ quan quý vị (mạng đã khai báo %s).", addr, network)
		}
	}
}

// canonical returns the account that an address means, or a problem that names the
// field with the address.
func (s *Server) canonical(location, address string) (auth.Name, error) {
	name, err := s.Canonical(address)
	switch {
	case err == nil:
		return name, nil
	case errors.Is(err, auth.ErrForeignDomain):
		return "", invalid(location, "is of a domain that is not served here")
	case errors.Is(err, auth.ErrMasterUser):
		return "", invalid(location, "has a character that separates master users")
	}
	return "", invalid(location, "is no address: want local@domain")
}

// storeFailed logs the error and asks the caller to try again later.
func (s *Server) storeFailed(doing string, err error) error {
	s.log().Error("admin request failed", "doing", doing, "err", err)
	return comeBack(&advice{
		problem(http.StatusServiceUnavailable, "the gateway's store is not available; try again"),
		adviceMembers{TellEN: tellStoreEN, TellVI: tellStoreVI},
	})
}

type actInput struct {
	AddressInput
	Body struct {
		Reason string `json:"reason" minLength:"3" maxLength:"500" doc:"Why; an auditor will read it. One line of 3 to 500 characters."`
	}
}

type graceInput struct {
	AddressInput
	Body struct {
		Reason string `json:"reason" minLength:"3" maxLength:"500" doc:"Why; an auditor will read it. One line of 3 to 500 characters."`
		Days   int    `json:"days" minimum:"1" maximum:"366" doc:"How many days from now: 1 to 7, and no more than rules.password.max_grace_days."`
	}
}

func (s *Server) unlock(ctx context.Context, in *actInput) (*accountOutput, error) {
	var before auth.Account
	var beside Lately
	out, err := s.act(ctx, in.Address, in.Body.Reason, func(ctx context.Context, name auth.Name, act auth.Act) (auth.Account, error) {
		var err error
		if before, err = s.Accounts.Account(ctx, name); err != nil {
			return before, err
		}
		beside = Lately{Refused: s.Guard.LatelyRefused(name), Tried: s.Guard.LatelyTried(name)}
		return s.Guard.Unlock(ctx, name, act)
	})
	if err == nil {
		explainer{before, s.Guard.Rules(), beside, s.now(), ""}.unlocked(&out.Body)
	}
	if err == nil && len(out.Body.Events) > 0 && out.Body.Events[0].After == guard.ForgivenEverywhere {
		out.Body.NoteEN = "It was not locked, and nothing was held against it here. The other gateways forget what they hold against it."
		out.Body.NoteVI = "Tài khoản không bị khóa và cổng thư này không chặn. Các cổng thư khác bỏ những gì đang chặn tài khoản này."
	}
	return out, err
}

func (s *Server) lock(ctx context.Context, in *actInput) (*accountOutput, error) {
	open := 0
	out, err := s.act(ctx, in.Address, in.Body.Reason, func(ctx context.Context, name auth.Name, act auth.Act) (auth.Account, error) {
		open = s.sessions(name)
		return s.Guard.Lock(ctx, name, act)
	})
	if unknown := (*problemModel)(nil); errors.As(err, &unknown) && unknown.Status == http.StatusNotFound {
		const text = "To lock a mailbox that has not been logged in to here yet, import it first (congthu import accounts)."
		return nil, unknown.and(text)
	}
	if err == nil {
		lockDone(&out.Body, open, s.Shared)
	}
	return out, err
}

func (s *Server) restore(ctx context.Context, in *actInput) (*accountOutput, error) {
	out, err := s.act(ctx, in.Address, in.Body.Reason, s.Guard.Restore)
	if err == nil {
		restoreDone(&out.Body)
	}
	return out, err
}

func (s *Server) grace(ctx context.Context, in *graceInput) (*accountOutput, error) {
	var after auth.Account
	var nothing error
	out, err := s.act(ctx, in.Address, in.Body.Reason, func(ctx context.Context, name auth.Name, act auth.Act) (auth.Account, error) {
		a, err := s.Guard.Grace(ctx, name, in.Body.Days, act)
		if errors.Is(err, auth.ErrNothingToDo) {
			nothing = s.noGrace(ctx, name, in.Body.Days)
		}
		after = a
		return a, err
	})
	if nothing != nil {
		return nil, nothing
	}
	if err == nil {
		explainer{after, s.Guard.Rules(), Lately{}, s.now(), s.changePassword()}.graceGranted(&out.Body, in.Body.Days)
	}
	return out, err
}

// noGrace explains why a number of days of grace would have no effect; nil if that is
// unknown.
func (s *Server) noGrace(ctx context.Context, name auth.Name, days int) error {
	a, err := s.Accounts.Account(ctx, name)
	if err != nil {
		s.log().Error("admin request failed", "doing", "read account", "err", err)
		return nil
	}
	rules, now := s.Guard.Rules(), s.now()
	e, at := explainer{rules: rules}, rules.PasswordExpiry(a)
	switch {
	case at.After(now.Add(time.Duration(days) * 24 * time.Hour)):
		const text = "nothing to do: the password expires by itself at %s, which is later than %s from now"
		return problem(http.StatusConflict, fmt.Sprintf(text, e.dateEN(at), count(days, "day"))).vi(inVietnamese(text, e.dateVI(at), fmt.Sprintf("%d ngày", days)))
	case a.GraceUntil.After(now):
		const text = "nothing to do: grace until %s is granted already"
		return problem(http.StatusConflict, fmt.Sprintf(text, e.dateEN(a.GraceUntil))).vi(inVietnamese(text, e.dateVI(a.GraceUntil)))
	}
	return nil
}

// changePassword is the sentence that tells a user how to change the password; empty if
// none is configured.
func (s *Server) changePassword() string {
	if s.ChangePassword == nil {
		return ""
	}
	return s.ChangePassword()
}

// act performs one act on an account and answers with the account after it.
func (s *Server) act(ctx context.Context, address, reason string, do func(context.Context, auth.Name, auth.Act) (auth.Account, error)) (*accountOutput, error) {
	name, err := s.canonical("path.address", address)
	if err != nil {
		return nil, err
	}
	reason, ok := tidyReason(reason)
	if !ok {
		return nil, badReason()
	}
	who := callerOf(ctx)
	// An act that has begun is finished, whether or not the caller waits for it: the
	// administrator must not have to guess whether it happened.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	a, err := do(ctx, name, auth.Act{Actor: who.actor, Source: who.source, Reason: reason})
	if err != nil {
		return nil, s.actFailed(ctx, name, err)
	}
	events, err := s.Accounts.Events(ctx, auth.EventFilter{Account: name, Limit: latestEvents})
	if err != nil {
		// The act is done: an error here must not make it look failed.
		s.log().Error("admin request failed", "doing", "read events", "err", err)
	}
	rows, err := s.Guard.OtherNames(ctx, name)
	if err != nil {
		s.log().Error("admin request failed", "doing", "read account", "err", err)
	}
	beside, err := s.lately(ctx, a, events)
	if err != nil {
		s.log().Error("admin request failed", "doing", "read events", "err", err)
	}
	shown := s.account(a, rows, events, beside)
	// A caller who may act but not read gets the text for the user, but not where the
	// user logs in.
	if slices.Contains(who.scopes, scope.Read) {
		s.showLately(&shown, a)
	}
	s.showTroubles(ctx, &shown)
	return &accountOutput{shown}, nil
}

// actFailed explains why an act was not done.
func (s *Server) actFailed(ctx context.Context, name auth.Name, err error) error {
	switch {
	case errors.Is(err, guard.ErrSharedFull):
		until, err := s.Guard.SharedFull(ctx, name)
		if err != nil {
			return s.storeFailed("read shared counter", err)
		}
		if until.IsZero() { // the store was emptied in the meantime
			return problem(http.StatusConflict, "nothing to do")
		}
		full := sharedFull(until, s.Guard.Rules())
		return problem(http.StatusConflict, "nothing to do: "+full.EN).vi(inVietnamese("nothing to do") + ": " + full.VI)
	case errors.Is(err, auth.ErrUnknownAccount), errors.Is(err, auth.ErrNothingToDo):
		status, detail := http.StatusNotFound, "no such account"
		if errors.Is(err, auth.ErrNothingToDo) {
			status, detail = http.StatusConflict, "nothing to do"
		}
		if a, err := s.Accounts.Account(ctx, name); err == nil {
			reason := standing(a, s.Guard.Rules(), s.now())
			if rows, err := s.Guard.OtherNames(ctx, name); err == nil {
				if more := elsewhere(rows, s.Guard.Rules(), s.now()); len(more) > 0 {
					reason = more[0]
				}
			}
			if all := s.troubles(ctx); len(all) > 0 && reason.Outcome == auth.Accepted.String() {
				reason = all[0]
			}
			return problem(status, detail+": "+reason.EN).vi(inVietnamese(detail) + ": " + reason.VI)
		}
		return problem(status, detail)
	case errors.Is(err, auth.ErrOutOfRange):
		const text = "must be 1 to %d, until %s at the latest (rules.password.max_grace_days)"
		rules := s.Guard.Rules()
		most := int(rules.Password.MaxGrace / (24 * time.Hour))
		e, until := explainer{rules: rules}, s.now().Add(rules.Password.MaxGrace)
		return invalid("body.days", text, most, e.dateEN(until)).vi(inVietnamese(text, most, e.dateVI(until)))
	case errors.Is(err, auth.ErrReasonMissing):
		return invalid("body.reason", "is required")
	}
	failed := s.storeFailed("change account", err)
	// The account may still be readable, from a disk that is full.
	if a, err := s.Accounts.Account(ctx, name); err == nil && a.Lock.Cause == auth.ByAdmin {
		if told := (*advice)(nil); errors.As(failed, &told) {
			told.TellEN, told.TellVI = calmStoreEN, calmStoreVI
		}
	}
	return failed
}

// sayWhy is the problem of a reason that is not acceptable.
const sayWhy = "must say why in one line of 3 to 500 printable characters, since an auditor will read it"

func badReason() error {
	return invalid("body.reason", sayWhy)
}

// tidyReason returns the reason without leading and trailing spaces, and whether it is
// acceptable: an auditor must be able to read it on one line of a log. One without a
// letter or digit is the "..." of an example.
func tidyReason(reason string) (string, bool) {
	reason = strings.TrimSpace(reason)
	if n := utf8.RuneCountInString(reason); n < 3 || n > 500 || !utf8.ValidString(reason) {
		return "", false
	}
	if !strings.ContainsFunc(reason, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }) {
		return "", false
	}
	return reason, !strings.ContainsFunc(reason, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError })
}
