package admin

import (
	"context"
	"errors"
	"sync/atomic"

	"congthu/auth"
	"congthu/auth/audit"
)

type eventsInput struct {
	Account string   `query:"account" maxLength:"320" doc:"Only events of this account; any spelling of its address."`
	Kind    []string `query:"kind" maxItems:"20" doc:"Only events of these kinds, joined by commas."`
	Source  string   `query:"source" maxLength:"64" doc:"Only events from this IPv4 or IPv6 address or network, and those that tell of it; an IPv6 address stands for its /64."`
	Limit   int      `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"At most this many."`
	Before  int64    `query:"before" minimum:"1" doc:"Only events with a smaller seq: next of the page before."`
}

type eventsOutput struct{ Body EventList }

func (s *Server) listEvents(ctx context.Context, in *eventsInput) (*eventsOutput, error) {
	f := auth.EventFilter{Before: in.Before, Limit: in.Limit}
	if in.Account != "" {
		name, err := s.canonical("query.account", in.Account)
		if err != nil {
			return nil, err
		}
		f.Account = name
	}
	for _, kind := range in.Kind {
		f.Kinds = append(f.Kinds, auth.EventKind(kind))
	}
	if in.Source != "" {
		network, err := ParseNetwork(in.Source)
		if err != nil {
			return nil, invalidSource("query.source", err)
		}
		events, next, err := audit.EventsFrom(ctx, s.Accounts, network, f)
		if err != nil {
			return nil, s.storeFailed("read events", err)
		}
		return &eventsOutput{EventList{Events: eventsOf(events), Next: next}}, nil
	}
	f.Limit++
	events, err := s.Accounts.Events(ctx, f)
	if err != nil {
		return nil, s.storeFailed("read events", err)
	}
	body := EventList{}
	if len(events) > in.Limit {
		events = events[:in.Limit]
		body.Next = events[in.Limit-1].Seq
	}
	body.Events = eventsOf(events)
	return &eventsOutput{body}, nil
}

type verifyOutput struct{ Body ChainReport }

func (s *Server) verifyAudit(ctx context.Context, _ *struct{}) (*verifyOutput, error) {
	if !s.verifying.TryLock() {
		return nil, unavailable("another verification is running")
	}
	defer s.verifying.Unlock()
	var checked atomic.Int64
	head, err := s.Accounts.Verify(ctx, func(n, _ int64) { checked.Store(n) })
	broken := (*audit.BrokenChain)(nil)
	var removed *Removed
	if err == nil || errors.As(err, &broken) {
		gone, err := s.Accounts.Removed(ctx)
		if err != nil {
			return nil, s.storeFailed("verify the audit log", err)
		}
		if gone.Seq > 0 {
			removed = &Removed{Seq: gone.Seq, Hash: gone.Hash, At: gone.At.UTC()}
		}
	}
	switch {
	case errors.As(err, &broken):
		s.log().Error("the audit log is broken", "seq", broken.Seq, "why", broken.Why)
		return &verifyOutput{ChainReport{Checked: checked.Load(), Removed: removed, Broken: broken.Seq, Why: broken.Why}}, nil
	case err != nil && ctx.Err() != nil:
		return nil, unavailable("the verification was ended before it was complete")
	case err != nil:
		return nil, s.storeFailed("verify the audit log", err)
	}
	return &verifyOutput{ChainReport{
		OK: true, Removed: removed, Checked: checked.Load(), Seq: head.Seq, Hash: head.Hash, At: head.At.UTC(),
	}}, nil
}
