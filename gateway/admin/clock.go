package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
)

// Clock describes the gateway's clock.
type Clock struct {
	Now     time.Time  `json:"now" doc:"What the clock shows."`
	Suspect bool       `json:"suspect" doc:"Whether it disagrees with something. Then nothing is revoked and nothing runs out."`
	Why     string     `json:"why,omitempty" doc:"What disagrees."`
	Since   *time.Time `json:"since,omitempty" doc:"What the clock showed when that was noticed."`
}

func (s *Server) clock() Clock {
	clock := Clock{Now: s.now()}
	if found := s.Guard.Suspicion(); !found.IsZero() {
		clock.Suspect, clock.Why, clock.Since = true, found.Why, &found.Since
	}
	return clock
}

type clockOutput struct{ Body Clock }

func (s *Server) showClock(context.Context, *struct{}) (*clockOutput, error) {
	return &clockOutput{s.clock()}, nil
}

type acceptClockInput struct {
	Body struct {
		Reason string `json:"reason,omitempty" maxLength:"500" doc:"Why; required but for a dry run. An auditor will read it. One line of 3 to 500 characters."`
		DryRun bool   `json:"dry_run,omitempty" doc:"Only say what would be done."`
	}
}

// ClockReport is the result of accepting a clock.
type ClockReport struct {
	DryRun  bool     `json:"dry_run"`
	Clock   Clock    `json:"clock" doc:"The clock, as it was before."`
	Redated []string `json:"redated" nullable:"false" doc:"Accounts of which something was in the future, and happened now."`
}

type acceptClockOutput struct{ Body ClockReport }

func (s *Server) acceptClock(ctx context.Context, in *acceptClockInput) (*acceptClockOutput, error) {
	who := callerOf(ctx)
	reason, ok := tidyReason(in.Body.Reason)
	if !ok && !in.Body.DryRun {
		return nil, badReason()
	}
	out := ClockReport{DryRun: in.Body.DryRun, Clock: s.clock(), Redated: make([]string, 0)}
	// An act that has begun is finished.
	done, err := s.Guard.AcceptClock(context.WithoutCancel(ctx), s.Accounts,
		auth.Act{Actor: who.actor, Source: who.source, Reason: reason}, in.Body.DryRun)
	switch {
	case errors.Is(err, guard.ErrClocksDiffer):
		return nil, problem(http.StatusConflict, err.Error()).vi(inVietnamese(guard.ErrClocksDiffer.Error()))
	case err != nil:
		return nil, s.storeFailed("accept clock", err)
	}
	for _, n := range done.Redated {
		out.Redated = append(out.Redated, string(n))
	}
	return &acceptClockOutput{out}, nil
}
