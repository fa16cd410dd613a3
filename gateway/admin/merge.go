package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
)

// OtherName is what the store holds for an account under a name that no longer counts
// as an account of its own.
type OtherName struct {
	Address string      `json:"address" doc:"The other name; empty when nobody ever logged in under it, since it may be a mistyped password."`
	Locked  *Lock       `json:"locked,omitempty"`
	Revoked *Revocation `json:"revoked,omitempty"`
	// Failures count against that name only.
	Failures int `json:"failures" doc:"Wrong passwords that were counted under it."`
}

// otherNames shows the rows under other names.
func otherNames(rows []auth.Account) []OtherName {
	names := make([]OtherName, 0, len(rows))
	for _, a := range rows {
		v := OtherName{Address: shownName(a), Failures: a.Failures}
		if a.Lock.Cause != auth.NotLocked {
			v.Locked = &Lock{At: a.Lock.At.UTC(), By: a.Lock.By, Cause: a.Lock.Cause.String(), Reason: a.Lock.Reason}
		}
		if !a.Revocation.IsZero() {
			v.Revoked = &Revocation{At: a.Revocation.At.UTC(), By: a.Revocation.By, Reason: a.Revocation.Reason}
		}
		names = append(names, v)
	}
	return names
}

// shownName returns the name of a row, unless it may be a password.
func shownName(a auth.Account) string {
	if !a.Known() {
		return ""
	}
	return string(a.Name)
}

// elsewhere explains refusals that come from the other names of an account.
func elsewhere(rows []auth.Account, r auth.Rules, now time.Time) (reasons []Why) {
	for _, a := range rows {
		e := explainer{a, r, Lately{}, now, ""}
		var w Why
		switch r.Elsewhere([]auth.Account{a}, now) {
		case auth.Locked:
			if w = e.lockedByPasswords(); a.Lock.Cause == auth.ByAdmin {
				w = e.lockedByAdmin()
			}
		case auth.Revoked:
			w = e.revoked()
		default:
			continue
		}
		nameEN, nameVI := "another name of the account", "một tên khác của tài khoản"
		if name := shownName(a); name != "" {
			nameEN, nameVI = "its other name "+name, "tên khác là "+name
		}
		w.EN = fmt.Sprintf("Under %s: %s That holds for this account until the two are merged, and then ended.", nameEN, w.EN)
		w.VI = fmt.Sprintf("Theo %s: %s Điều đó có hiệu lực với tài khoản này cho đến khi hai tên được hợp nhất rồi gỡ bỏ.", nameVI, w.VI)
		reasons = append(reasons, w)
	}
	return reasons
}

type mergeInput struct {
	Body struct {
		Address string `json:"address,omitempty" maxLength:"320" doc:"One account, by any of its names. Either this or all."`
		All     bool   `json:"all,omitempty" doc:"Every account that has other names in the store."`
		DryRun  bool   `json:"dry_run,omitempty" doc:"Only say what would be done."`
		Reason  string `json:"reason,omitempty" maxLength:"500" doc:"Why; required but for a dry run. An auditor will read it. One line of 3 to 500 characters."`
	}
}

// MergeReport is what was merged, or would be.
type MergeReport struct {
	DryRun bool            `json:"dry_run"`
	Merged []MergedAccount `json:"merged" nullable:"false" doc:"The accounts that had other names, in the order of their names."`
}

// MergedAccount is an account after the merge of its other names.
type MergedAccount struct {
	Summary
	From []OtherName `json:"from" nullable:"false" doc:"The other names, as they were."`
}

type mergeOutput struct{ Body MergeReport }

func (s *Server) merge(ctx context.Context, in *mergeInput) (*mergeOutput, error) {
	if (in.Body.Address == "") == !in.Body.All {
		return nil, invalid("body.address", "give the address of one account, or set all")
	}
	reason, ok := tidyReason(in.Body.Reason)
	if !ok && !in.Body.DryRun {
		return nil, badReason()
	}
	who := callerOf(ctx)
	act := auth.Act{Actor: who.actor, Source: who.source, Reason: reason}
	// An act that has begun is finished.
	ctx = context.WithoutCancel(ctx)
	var merged []guard.Merged
	var err error
	if in.Body.All {
		merged, err = s.Guard.MergeAll(ctx, s.Accounts, act, in.Body.DryRun)
	} else {
		var name auth.Name
		if name, err = s.canonical("body.address", in.Body.Address); err != nil {
			return nil, err
		}
		var one guard.Merged
		one, err = s.Guard.Merge(ctx, name, act, in.Body.DryRun)
		merged = []guard.Merged{one}
	}
	switch {
	case errors.Is(err, auth.ErrNothingToDo):
		return nil, problem(http.StatusConflict, "nothing to do: the account has no other name in the store")
	case err != nil && len(merged) > 0 && in.Body.All:
		s.log().Error("admin request failed", "doing", "merge accounts", "err", err)
		return nil, storeFailedAfter(len(merged))
	case err != nil:
		return nil, s.storeFailed("merge accounts", err)
	}
	rules, now := s.Guard.Rules(), s.now()
	out := MergeReport{DryRun: in.Body.DryRun, Merged: make([]MergedAccount, 0, len(merged))}
	for _, m := range merged {
		out.Merged = append(out.Merged, MergedAccount{Summary: s.summary(m.Account, rules, now), From: otherNames(m.From)})
	}
	return &mergeOutput{out}, nil
}

// storeFailedAfter is the problem of a store that failed after some accounts were
// merged.
func storeFailedAfter(merged int) error {
	const text = "the gateway's store failed after %s; merge again: what is merged stays so"
	return comeBack(problemf(http.StatusServiceUnavailable, text, count(merged, "account")).vi(inVietnamese(text, fmt.Sprintf("%d tài khoản", merged))))
}
