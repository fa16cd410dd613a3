package admin

import (
	"context"
	"errors"
	"net/http"

	"congthu/auth"
	"congthu/auth/guard"
)

type sweepInput struct {
	Body struct {
		Reason string `json:"reason,omitempty" maxLength:"500" doc:"Why; required with force. An auditor will read it. One line of 3 to 500 characters."`
		DryRun bool   `json:"dry_run,omitempty" doc:"Only say which accounts would be revoked."`
		Force  bool   `json:"force,omitempty" doc:"Revoke however many there are: the daily sweep stops at more than 20 that are more than one in ten."`
	}
}

// SweepReport is what a sweep for dormant accounts found and did.
type SweepReport struct {
	DryRun  bool     `json:"dry_run"`
	Dormant []string `json:"dormant" nullable:"false" doc:"Accounts that were not used for too long and have no mark of it yet."`
	Revoked int      `json:"revoked" doc:"How many of them were revoked."`
}

type sweepOutput struct{ Body SweepReport }

func (s *Server) sweep(ctx context.Context, in *sweepInput) (*sweepOutput, error) {
	who := callerOf(ctx)
	var swept guard.Swept
	var err error
	switch reason, ok := tidyReason(in.Body.Reason); {
	case in.Body.DryRun:
		swept, err = s.Guard.Dormant(ctx, s.Accounts)
	case in.Body.Force && !ok:
		return nil, badReason()
	case in.Body.Force:
		// An act that has begun is finished.
		swept, err = s.Guard.ForceSweep(context.WithoutCancel(ctx), s.Accounts, auth.Act{Actor: who.actor, Source: who.source, Reason: reason})
	default:
		swept, err = s.Guard.Sweep(context.WithoutCancel(ctx), s.Accounts)
	}
	switch {
	case errors.Is(err, guard.ErrManyDormant):
		return nil, problem(http.StatusConflict, err.Error()).vi(inVietnamese(guard.ErrManyDormant.Error()))
	case errors.Is(err, guard.ErrClockSuspect):
		return nil, problem(http.StatusConflict, err.Error()).vi(inVietnamese(guard.ErrClockSuspect.Error()))
	case err != nil:
		return nil, s.storeFailed("sweep", err)
	}
	out := SweepReport{DryRun: in.Body.DryRun, Dormant: make([]string, 0, len(swept.Dormant)), Revoked: swept.Revoked}
	for _, n := range swept.Dormant {
		out.Dormant = append(out.Dormant, string(n))
	}
	return &sweepOutput{out}, nil
}
