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

	"congthu/auth"
	"congthu/auth/guard"
	"congthu/auth/incident"
	"congthu/auth/throttle"
)

// SourceList is the sources that are exempted from the throttle and those that are
// refused.
type SourceList struct {
	Allowed []AllowedSource `json:"allowed" nullable:"false" doc:"Sources that an administrator lets go on, at every gateway; the one whose time ends first comes first."`
	Refused []RefusedSource `json:"refused" nullable:"false" doc:"Sources and networks that this gateway refuses now, the latest first. Other gateways on the same store may refuse others."`
}

// AllowedSource is a source that an administrator has exempted; see
// [auth.AllowedSource].
type AllowedSource struct {
	Source string    `json:"source" doc:"An IPv4 address or an IPv6 /64 network."`
	Since  time.Time `json:"since" doc:"When it was allowed, or when that was ended."`
	Until  time.Time `json:"until,omitzero" doc:"When it ends by itself; left out when it was ended."`
	By     string    `json:"by" doc:"Who allowed or ended it."`
	Reason string    `json:"reason"`
	Known  string    `json:"known_network,omitempty" doc:"The network of throttle.known_networks that it lies in: an office of the organisation. Left out for none."`
	EN     string    `json:"en" doc:"The same in a sentence, in English."`
	VI     string    `json:"vi" doc:"The same in a sentence, in Vietnamese."`
}

// RefusedSource is a source, or a network of sources, that is refused at present; see
// [throttle.RefusedSource].
type RefusedSource struct {
	Source    string    `json:"source" doc:"An IPv4 address, an IPv6 /64, or a network above one."`
	Since     time.Time `json:"since"`
	Accounts  int       `json:"accounts" doc:"Accounts with wrong passwords from there lately (throttle.window), of those who have not logged in from there."`
	Failures  int       `json:"failures" doc:"Wrong passwords on those accounts."`
	NearLock  int       `json:"near_lock" doc:"Accounts that it has brought near their lock within a day, unlocked since or not."`
	LoggedIn  int       `json:"logged_in" doc:"Accounts logged in to from there within a day: with some, it is probably an office or a provider. See the alert CongthuOfficeThrottled."`
	Guessing  bool      `json:"guessing" doc:"true: everybody is refused there who has not logged in from there lately. false: only further tries at accounts with several wrong passwords are."`
	Known     string    `json:"known_network,omitempty" doc:"The network of throttle.known_networks that it lies in: an office of the organisation. Left out for none."`
	Suspected bool      `json:"suspected_attack" doc:"Accounts were locked from there that look like an attack: see /causes. Block it, do not allow it."`
	EN        string    `json:"en" doc:"The same in a sentence, in English."`
	VI        string    `json:"vi" doc:"The same in a sentence, in Vietnamese."`
}

type sourcesOutput struct{ Body SourceList }

func (s *Server) listSources(ctx context.Context, _ *struct{}) (*sourcesOutput, error) {
	causes, err := s.causes(ctx)
	if err != nil {
		return nil, s.storeFailed("list locked accounts", err)
	}
	list := SourceList{Allowed: make([]AllowedSource, 0), Refused: make([]RefusedSource, 0)}
	rules := s.Guard.Rules()
	for _, a := range s.Guard.AllowedSources() {
		list.Allowed = append(list.Allowed, s.allowedSource(a, rules))
	}
	for _, r := range s.Guard.RefusedSources() {
		list.Refused = append(list.Refused, refusedSource(r, suspected(causes, r.Source), rules))
	}
	return &sourcesOutput{list}, nil
}

// SourceInput is the input of every operation on a source.
type SourceInput struct {
	Address string `path:"address" maxLength:"64" doc:"An IPv4 or IPv6 address, percent-encoded. An IPv6 address stands for its /64. Networks are refused."`
}

type allowInput struct {
	SourceInput
	Body struct {
		Reason string `json:"reason" minLength:"3" maxLength:"500" doc:"Why; an auditor will read it. One line of 3 to 500 characters."`
		Hours  int    `json:"hours" minimum:"1" maximum:"168" doc:"How many hours from now: 1 to 168, which is 7 days."`
	}
}

type endAllowedInput struct {
	SourceInput
	Body struct {
		Reason string `json:"reason" minLength:"3" maxLength:"500" doc:"Why; an auditor will read it. One line of 3 to 500 characters."`
	}
}

type allowedOutput struct{ Body AllowedSource }

func (s *Server) allowSource(ctx context.Context, in *allowInput) (*allowedOutput, error) {
	return s.onSource(ctx, in.Address, in.Body.Reason, func(ctx context.Context, addr netip.Addr, act auth.Act) (auth.AllowedSource, error) {
		return s.Guard.AllowSource(ctx, addr, time.Duration(in.Body.Hours)*time.Hour, act)
	})
}

func (s *Server) endAllowedSource(ctx context.Context, in *endAllowedInput) (*allowedOutput, error) {
	return s.onSource(ctx, in.Address, in.Body.Reason, s.Guard.EndAllowedSource)
}

// onSource performs one act on a source and answers with its exemption after it.
func (s *Server) onSource(ctx context.Context, address, reason string, do func(context.Context, netip.Addr, auth.Act) (auth.AllowedSource, error)) (*allowedOutput, error) {
	addr, err := ParseSource(address)
	if err != nil {
		return nil, invalidSource("path.address", err)
	}
	reason, ok := tidyReason(reason)
	if !ok {
		return nil, badReason()
	}
	who := callerOf(ctx)
	// An act that has begun is finished, as for an account.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	a, err := do(ctx, addr, auth.Act{Actor: who.actor, Source: who.source, Reason: reason})
	switch {
	case errors.Is(err, guard.ErrThrottleOff):
		return nil, problem(http.StatusConflict, "nothing to do: throttle.enabled is false, so that no source is refused")
	case errors.Is(err, auth.ErrNothingToDo):
		return nil, problemf(http.StatusConflict, "nothing to do: %s is not allowed now", sourceName(auth.Source(addr)))
	case errors.Is(err, auth.ErrOutOfRange):
		return nil, invalid("body.hours", "must be 1 to %d", int(auth.MaxAllowance.Hours()))
	case err != nil:
		return nil, s.storeFailed("change source", err)
	}
	shown := s.allowedSource(a, s.Guard.Rules())
	if !a.Until.IsZero() {
		causes, err := s.causes(ctx)
		if err != nil {
			// The act is done: an error here must not make it look failed.
			s.log().Error("admin request failed", "doing", "list locked accounts", "err", err)
		}
		if suspected(causes, a.Source) {
			shown.EN += " Accounts were locked from there that look like an attack: unless it is an office of yours, end this now and block it at the firewall."
			shown.VI += " Từ đó có tài khoản bị khóa nghi do tấn công: nếu không phải cơ quan của mình, hãy chấm dứt ngay và chặn ở tường lửa."
		}
	}
	return &allowedOutput{shown}, nil
}

// invalidSource is the problem of a source that [ParseSource] or [ParseNetwork]
// refuses.
func invalidSource(location string, err error) *problemModel {
	p := problem(http.StatusUnprocessableEntity, "validation failed", plain(location, err.Error()))
	var both *bothLanguages
	if errors.As(err, &both) {
		p.vi(both.vi)
	}
	return p
}

// ParseSource reads the address of a source. It refuses networks except the /64 of an
// IPv6 address and the /32 of an IPv4 address, the forms in which sources are listed.
// The error is a clause that says what to write.
func ParseSource(text string) (netip.Addr, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		if p == auth.Source(p.Addr()) {
			return p.Addr(), nil
		}
		return netip.Addr{}, explained("is a network: write one address; an IPv6 address stands for its /64")
	}
	addr, err := netip.ParseAddr(text)
	if err == nil && addr.Zone() == "" && !addr.IsUnspecified() && !addr.IsMulticast() {
		return addr.Unmap(), nil
	}
	if err == nil && addr.Zone() == "" {
		return netip.Addr{}, explained("is the address of no client")
	}
	if near := nearAddress(text); near.IsValid() {
		return netip.Addr{}, explained("is no address: did you mean %s?", near)
	}
	return netip.Addr{}, explained("is no address: write an IPv4 or IPv6 address, such as 203.0.113.7 or 2001:db8::7")
}

// ParseNetwork reads a network of sources, or a single source.
func ParseNetwork(text string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		if p == p.Masked() {
			return p, nil
		}
		return netip.Prefix{}, explained("is no network: did you mean %s?", p.Masked())
	}
	addr, err := ParseSource(text)
	return auth.Source(addr), err
}

// nearAddress guesses the address that a text was meant to be: one with a port, in
// brackets, with leading zeros, with a comma for a dot, or with other characters around
// it.
func nearAddress(text string) netip.Addr {
	text = strings.Trim(strings.TrimSpace(text), `."'<>()`)
	for _, scheme := range []string{"http://", "https://"} {
		text = strings.Trim(strings.TrimPrefix(text, scheme), "/")
	}
	if p, err := netip.ParseAddrPort(text); err == nil {
		text = p.Addr().String()
	}
	text, _, _ = strings.Cut(strings.Trim(text, "[]"), "%")
	if addr, err := netip.ParseAddr(text); err == nil {
		return addr.Unmap()
	}
	octets := strings.FieldsFunc(text, func(r rune) bool { return r == '.' || r == ',' || r == ' ' || r == '-' || r == '_' })
	for i, o := range octets {
		if octets[i] = strings.TrimLeft(o, "0"); octets[i] == "" {
			octets[i] = "0"
		}
	}
	addr, err := netip.ParseAddr(strings.Join(octets, "."))
	if err != nil {
		return netip.Addr{}
	}
	return addr
}

// suspected reports whether a source, or a source within a network, is suspected of an
// attack.
func suspected(causes []incident.Incident, source netip.Prefix) bool {
	return slices.ContainsFunc(causes, func(c incident.Incident) bool {
		return c.Suspected && slices.ContainsFunc(c.Sources, source.Overlaps)
	})
}

// allowedSource shows an exempted source, or one whose exemption was ended.
func (s *Server) allowedSource(a auth.AllowedSource, rules auth.Rules) AllowedSource {
	v := allowedSource(a, rules)
	if network := s.Guard.KnownNetwork(a.Source.Addr()); network.IsValid() {
		v.Known = network.String()
		v.EN += knownEN(network)
		v.VI += knownVI(network)
	}
	return v
}

func knownEN(network netip.Prefix) string {
	return fmt.Sprintf(" It is in an office of yours (known network %s).", network)
}

func knownVI(network netip.Prefix) string {
	return fmt.Sprintf(" Đây là địa chỉ của cơ quan quý vị (mạng đã khai báo %s).", network)
}

func allowedSource(a auth.AllowedSource, rules auth.Rules) AllowedSource {
	v := AllowedSource{Source: sourceName(a.Source), Since: a.Since.UTC(), Until: a.Until.UTC(), By: a.By, Reason: a.Reason}
	if a.Until.IsZero() {
		v.Until = time.Time{}
		v.EN = fmt.Sprintf("%s is throttled again like any other source.", v.Source)
		v.VI = fmt.Sprintf("%s lại bị giới hạn như mọi nguồn khác.", v.Source)
		return v
	}
	e := explainer{rules: rules}
	v.EN = fmt.Sprintf("%s is allowed until %s by %s, at every gateway: %s. Locks and limits of accounts stay.", v.Source, e.en(a.Until), a.By, sentence(a.Reason))
	v.VI = fmt.Sprintf("%s được %s cho phép đến %s, tại mọi cổng thư; lý do: %s. Khóa và giới hạn của từng tài khoản vẫn giữ nguyên.", v.Source, actorVI(a.By), e.vi(a.Until), sentence(a.Reason))
	return v
}

// refusedSource shows a source that is refused at present.
func refusedSource(r throttle.RefusedSource, attack bool, rules auth.Rules) RefusedSource {
	v := RefusedSource{
		Source: sourceName(r.Source), Since: r.Since.UTC(),
		Accounts: r.Accounts, Failures: r.Failures, NearLock: r.NearLock, LoggedIn: r.LoggedIn, Guessing: r.Guessing, Suspected: attack,
	}
	e := explainer{rules: rules}
	if r.Guessing {
		v.EN = fmt.Sprintf("%s is refused since %s: %s on %s lately. Whoever has logged in from there before goes on.",
			v.Source, e.en(r.Since), count(r.Failures, "wrong password"), count(r.Accounts, "account"))
		v.VI = fmt.Sprintf("%s bị từ chối từ %s: gần đây có %d lần nhập sai vào %d tài khoản. Ai đã từng đăng nhập từ đó vẫn dùng được.",
			v.Source, e.vi(r.Since), r.Failures, r.Accounts)
	} else {
		v.EN = fmt.Sprintf("%s is refused since %s for accounts with several wrong passwords: it has brought %s near a lock within a day.",
			v.Source, e.en(r.Since), count(r.NearLock, "account"))
		v.VI = fmt.Sprintf("%s bị từ chối từ %s đối với tài khoản đã nhập sai nhiều lần: trong một ngày đã làm %d tài khoản gần bị khóa.",
			v.Source, e.vi(r.Since), r.NearLock)
	}
	if r.Known.IsValid() {
		v.Known = r.Known.String()
		v.EN += knownEN(r.Known)
		v.VI += knownVI(r.Known)
	}
	if attack {
		v.EN += " This looks like an attack: block it, do not allow it."
		v.VI += " Nghi là tấn công: hãy chặn, không cho phép."
	}
	return v
}
