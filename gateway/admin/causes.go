package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"congthu/auth"
	"congthu/auth/incident"
	"congthu/gateway/scope"
)

// Cause is what several locks by wrong passwords have in common; see
// [incident.Incident].
type Cause struct {
	ID        string    `json:"id" doc:"Names the cause as long as the first of its accounts is locked."`
	First     time.Time `json:"first" doc:"When the first of its accounts was locked."`
	Last      time.Time `json:"last" doc:"When the last of them was."`
	Suspected bool      `json:"suspected_attack" doc:"Many accounts were locked within minutes, or several within an hour from one source: this looks like an attack, not like people who mistype."`
	Ended     bool      `json:"ended" doc:"It has locked nothing for a day: nothing is added to it any more. What it has locked stays locked."`
	Sources   []string  `json:"sources" nullable:"false" doc:"Where the wrong passwords came from, the source that most accounts have first: IPv4 addresses and IPv6 /64 networks."`
	Accounts  []string  `json:"accounts" nullable:"false" doc:"The locked accounts, in the order in which they were locked."`
	// Only callers who may unlock receive Unknown, since a name may be a mistyped
	// password.
	Unknown []string `json:"unknown_names,omitempty" doc:"Names that nobody ever logged in with and that the same has locked; they may be mistyped passwords. Only for the scope unlock; left out when there are none."`
	EN      string   `json:"en" doc:"The same in a sentence, in English."`
	VI      string   `json:"vi" doc:"The same in a sentence, in Vietnamese."`
}

// CauseList contains all causes, the latest first.
type CauseList struct {
	Causes []Cause `json:"causes" nullable:"false"`
}

// CauseUnlocked is the result of unlocking the accounts of a cause.
type CauseUnlocked struct {
	Cause    Cause     `json:"cause" doc:"As it was before."`
	DryRun   bool      `json:"dry_run"`
	Unlocked []string  `json:"unlocked" nullable:"false" doc:"Accounts that were unlocked, or would be."`
	Freed    []string  `json:"unlocked_unknown,omitempty" doc:"Names that nobody ever logged in with that were unlocked, or would be; left out when there are none."`
	Failed   []Failure `json:"failed" nullable:"false" doc:"Accounts and names that were not, and why."`
}

// Failure is an account for which an act failed.
type Failure struct {
	Address string `json:"address"`
	Why     string `json:"why"`
	WhyVI   string `json:"why_vi,omitempty" doc:"The same in Vietnamese."`
}

// failure returns a Failure with a text of [problemTexts].
func failure(name auth.Name, why string) Failure {
	return Failure{string(name), why, inVietnamese(why)}
}

type causesOutput struct{ Body CauseList }

func (s *Server) listCauses(ctx context.Context, _ *struct{}) (*causesOutput, error) {
	find := incident.Find
	if slices.Contains(callerOf(ctx).scopes, scope.Unlock) {
		find = incident.FindWithNames
	}
	causes, err := find(ctx, s.Accounts)
	if err != nil {
		return nil, s.storeFailed("list locked accounts", err)
	}
	body := CauseList{Causes: make([]Cause, 0, len(causes))}
	for _, c := range causes {
		shown := causeOf(c, s.Guard.Rules())
		shown.Ended = c.Ended(s.now())
		body.Causes = append(body.Causes, shown)
	}
	return &causesOutput{body}, nil
}

type unlockCauseInput struct {
	ID   string `path:"id" maxLength:"64" doc:"The id of the cause."`
	Body struct {
		Reason string `json:"reason" minLength:"3" maxLength:"500" doc:"Why; an auditor will read it. One line of 3 to 500 characters."`
		DryRun bool   `json:"dry_run,omitempty" doc:"Only say which accounts would be unlocked."`
	}
}

type unlockCauseOutput struct{ Body CauseUnlocked }

func (s *Server) unlockCause(ctx context.Context, in *unlockCauseInput) (*unlockCauseOutput, error) {
	reason, ok := tidyReason(in.Body.Reason)
	if !ok {
		return nil, badReason()
	}
	causes, err := incident.FindWithNames(ctx, s.Accounts)
	if err != nil {
		return nil, s.storeFailed("list locked accounts", err)
	}
	who := callerOf(ctx)
	for _, c := range causes {
		if c.ID != in.ID {
			continue
		}
		out := CauseUnlocked{Cause: causeOf(c, s.Guard.Rules()), DryRun: in.Body.DryRun, Unlocked: make([]string, 0), Failed: make([]Failure, 0)}
		out.Cause.Ended = c.Ended(s.now())
		// An act that has begun is finished, as for one account.
		ctx := context.WithoutCancel(ctx)
		of := fmt.Sprintf("cause %s, %s", c.ID, fmt.Sprintf("%d accounts", len(c.Accounts)))
		if n := len(c.Unknown); n > 0 {
			of += ", " + count(n, "unknown name")
		}
		act := auth.Act{Actor: who.actor, Source: who.source, Reason: fmt.Sprintf("%s (%s)", reason, of)}
		unlock := func(names []auth.Name, done *[]string) {
			for _, name := range names {
				if in.Body.DryRun {
					*done = append(*done, string(name))
					continue
				}
				_, err := s.Guard.Unlock(ctx, name, act)
				switch {
				case err == nil:
					*done = append(*done, string(name))
				case errors.Is(err, auth.ErrNothingToDo), errors.Is(err, auth.ErrUnknownAccount):
					out.Failed = append(out.Failed, failure(name, "it is no longer locked"))
				default:
					s.log().Error("admin request failed", "doing", "unlock cause", "err", err)
					out.Failed = append(out.Failed, failure(name, "the gateway's store is not available; try again"))
				}
			}
		}
		unlock(c.Accounts, &out.Unlocked)
		unlock(c.Unknown, &out.Freed)
		return &unlockCauseOutput{out}, nil
	}
	return nil, problem(http.StatusNotFound, "no such cause: its first account may have been unlocked meanwhile; list the causes again")
}

// causes finds the causes of the locks that are in force now.
func (s *Server) causes(ctx context.Context) ([]incident.Incident, error) {
	return incident.Find(ctx, s.Accounts)
}

// causeOf shows a cause.
func causeOf(c incident.Incident, rules auth.Rules) Cause {
	v := Cause{
		ID: c.ID, First: c.First.UTC(), Last: c.Last.UTC(), Suspected: c.Suspected,
		Sources: make([]string, 0, len(c.Sources)), Accounts: make([]string, 0, len(c.Accounts)),
	}
	for _, p := range c.Sources {
		v.Sources = append(v.Sources, sourceName(p))
	}
	for _, n := range c.Accounts {
		v.Accounts = append(v.Accounts, string(n))
	}
	for _, n := range c.Unknown {
		v.Unknown = append(v.Unknown, string(n))
	}
	e := explainer{rules: rules}
	fromEN, fromVI := sourcesText(c.Sources)
	whenEN, whenVI := "at "+e.en(c.First), "lúc "+e.vi(c.First)
	if e.en(c.First) != e.en(c.Last) {
		// The text avoids "from ... to": the accounts are still locked.
		whenEN = fmt.Sprintf("between %s and %s", e.en(c.First), e.en(c.Last))
		whenVI = fmt.Sprintf("trong khoảng %s – %s", e.vi(c.First), e.vi(c.Last))
	}
	whatEN, whatVI := count(len(c.Accounts), "account"), fmt.Sprintf("%d tài khoản", len(c.Accounts))
	if n := len(c.Unknown); n > 0 {
		namesEN := counted(n, "name", "names") + " that nobody ever logged in with"
		namesVI := fmt.Sprintf("%d tên chưa từng đăng nhập", n)
		if len(c.Accounts) == 0 {
			whatEN, whatVI = namesEN, namesVI
		} else {
			whatEN, whatVI = whatEN+" and "+namesEN, whatVI+" và "+namesVI
		}
	}
	v.EN = fmt.Sprintf("%s locked %s by wrong passwords from %s.", whatEN, whenEN, fromEN)
	v.VI = fmt.Sprintf("%s bị khóa %s do nhập sai mật khẩu từ %s.", whatVI, whenVI, fromVI)
	if c.Suspected {
		v.EN += " This looks like an attack."
		v.VI += " Nghi là tấn công."
	}
	return v
}

// sourceName formats a source; a single IPv4 address is written without a prefix
// length.
func sourceName(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// sourcesText names a few sources and the number of all.
func sourcesText(sources []netip.Prefix) (en, vi string) {
	switch len(sources) {
	case 0:
		return "an unknown address", "địa chỉ không rõ"
	case 1:
		return sourceName(sources[0]), sourceName(sources[0])
	}
	return fmt.Sprintf("%d addresses, most from %s", len(sources), sourceName(sources[0])),
		fmt.Sprintf("%d địa chỉ, nhiều nhất từ %s", len(sources), sourceName(sources[0]))
}

// alongside adds to the reason of a lock what else the same cause has locked: support
// staff must know first whether one user mistyped or an attacker guesses.
func alongside(w *Why, name auth.Name, causes []incident.Incident) (id string) {
	for _, c := range causes {
		for _, n := range c.Accounts {
			if n != name {
				continue
			}
			if others := len(c.Accounts) - 1; others > 0 {
				fromEN, fromVI := sourcesText(c.Sources)
				w.EN += fmt.Sprintf(" So %s more, by the same cause %s: wrong passwords from %s.", areLocked(others), c.ID, fromEN)
				w.VI += fmt.Sprintf(" Cùng nguyên nhân %s còn %d tài khoản khác: nhập sai mật khẩu từ %s.", c.ID, others, fromVI)
			}
			if c.Suspected {
				w.EN += " This looks like an attack, not like a user who mistypes."
				w.VI += " Nghi là tấn công, không phải người dùng nhập nhầm."
			}
			return c.ID
		}
	}
	return ""
}

func areLocked(n int) string {
	if n == 1 {
		return "is 1 account"
	}
	return fmt.Sprintf("are %d accounts", n)
}
