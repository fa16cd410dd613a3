package admin

import (
	"net/netip"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"congthu/auth"
)

// The JSON of the API. Times are UTC (RFC 3339); a time that is not set is left out.
// Clients must tolerate new fields.

// Account is one account, as GET /accounts/{address} and every act return it.
type Account struct {
	Summary
	Why    []Why   `json:"why" nullable:"false" doc:"Why it cannot log in, since when, and what to tell the user; what matters most comes first, and there is always at least one."`
	Events []Event `json:"events" nullable:"false" doc:"The latest events, newest first, at most 20."`
	NoteEN string  `json:"note_en,omitempty" doc:"What the act has done where it found nothing to do here, in English."`
	NoteVI string  `json:"note_vi,omitempty" doc:"The same in Vietnamese."`
	// The following fields describe the result of an act; they are left out where an
	// account is only shown.
	DoneEN string `json:"done_en,omitempty" doc:"What an act has made true, in English: for the one who did it."`
	DoneVI string `json:"done_vi,omitempty" doc:"The same in Vietnamese."`
	TellEN string `json:"tell_en,omitempty" doc:"What to tell the user after an act, in English."`
	TellVI string `json:"tell_vi,omitempty" doc:"The same in Vietnamese."`

	LastLoginFrom *Origin     `json:"last_login_from,omitempty" doc:"Where the last login through this gateway came from; left out when this process has seen none."`
	LoggedInFrom  []Network   `json:"logged_in_from,omitempty" doc:"Where logins through any gateway came from, noted once a day, at most 8: an IPv4 address or an IPv6 /64."`
	OpenSessions  []Origin    `json:"open_sessions,omitempty" doc:"The live sessions at this gateway, the oldest first, at most 20; left out when there are none."`
	Tried         []TriedFrom `json:"tried,omitempty" doc:"Which wrong passwords came to this gateway from where, within a day and since the last unlock, at most 8."`
	// ThisGatewayOnly is left out by a gateway with a store of its own.
	ThisGatewayOnly bool     `json:"this_gateway_only,omitempty" doc:"Other gateways use the same store: sessions, open_sessions, last_login_from and tried are of this one only."`
	Similar         []string `json:"similar,omitempty" doc:"Accounts with a similar address, where nobody has ever logged in with this one; at most 5, the nearest first."`

	// OtherNames is left out if there are none.
	OtherNames []OtherName `json:"other_names,omitempty" doc:"What the store has of the account under names that are not its own any more; left out when there is nothing. See /merge."`
}

// Summary is one account in a list.
type Summary struct {
	Address         string      `json:"address" doc:"The canonical name."`
	Unit            string      `json:"unit,omitempty" doc:"The agency that it belongs to, as it was imported; left out when that is not known."`
	State           string      `json:"state" doc:"What stands in the way first; unknown is a name that nobody has ever logged in with and that was not imported."`
	Registered      time.Time   `json:"registered,omitzero" doc:"When it became an account: imported, or first logged in to."`
	FirstLogin      time.Time   `json:"first_login,omitzero"`
	LastLogin       time.Time   `json:"last_login,omitzero" doc:"May lag by store.last_login_window, an hour unless it is set."`
	Failures        int         `json:"failures" doc:"Wrong passwords since the last login or unlock."`
	Locked          *Lock       `json:"locked" doc:"null when it is not locked."`
	Revoked         *Revocation `json:"revoked" doc:"null when it is not marked as revoked."`
	Restored        time.Time   `json:"restored,omitzero" doc:"When an admin last gave it back."`
	PasswordSince   time.Time   `json:"password_since,omitzero" doc:"When the newest password was first accepted: its age counts from then. An earlier one that still works at the mail server has its own age."`
	PasswordExpires time.Time   `json:"password_expires,omitzero" doc:"When the newest password is too old, grace not counted."`
	GraceUntil      time.Time   `json:"grace_until,omitzero" doc:"Until when an expired password may go on."`
	Sessions        int         `json:"sessions" doc:"Live sessions."`
	Mistakes        []Mistake   `json:"mistakes" nullable:"false" doc:"The latest wrong passwords, oldest first, at most 8."`
	Stale           *Mistake    `json:"stale" doc:"The latest try with a password from before a change; null when there was none."`
}

// TransformSchema implements huma.SchemaTransformer: it documents the fields that may
// be null.
func (Summary) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	for _, name := range []string{"locked", "revoked", "stale"} {
		p := s.Properties[name]
		s.Properties[name] = &huma.Schema{
			AnyOf:       []*huma.Schema{{Ref: p.Ref}, {Type: "null"}},
			Description: p.Description,
		}
	}
	s.Properties["state"].Enum = append(anyOf(auth.States()), stateUnknown)
	return s
}

// stateUnknown is the state of a name that is not an account; package auth has none for
// it.
const stateUnknown = "unknown"

// Lock says when an account was locked, by whom and why.
type Lock struct {
	At     time.Time `json:"at"`
	By     string    `json:"by"`
	Cause  string    `json:"cause"`
	Reason string    `json:"reason"`
	// CauseID is set only where one account is shown.
	CauseID string `json:"cause_id,omitempty" doc:"What has locked it by wrong passwords, perhaps with others: see /causes. Left out in lists."`
}

// TransformSchema implements huma.SchemaTransformer.
func (Lock) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Properties["cause"].Enum = anyOf(auth.LockCauses())
	return s
}

// Revocation says when an account was revoked, by whom and why.
type Revocation struct {
	At     time.Time `json:"at"`
	By     string    `json:"by"`
	Reason string    `json:"reason"`
}

// Mistake is one wrong password and its origin.
type Mistake struct {
	At     time.Time `json:"at"`
	Source string    `json:"source" doc:"Address and port; empty when not known."`
}

// Origin is the origin of a login.
type Origin struct {
	At       time.Time `json:"at"`
	Source   string    `json:"source" doc:"Address and port."`
	Protocol string    `json:"protocol"`
	Program  string    `json:"program,omitempty" doc:"The mail program's name as it gave it (IMAP ID); left out when it did not."`
}

// TransformSchema implements huma.SchemaTransformer.
func (Origin) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Properties["protocol"].Enum = anyOf(auth.Protocols())
	return s
}

func originOf(o auth.Origin) Origin {
	return Origin{At: o.At.UTC(), Source: sourceText(o.Source), Protocol: o.Protocol.String(), Program: o.Program}
}

// Network is a network from which the account was logged in to.
type Network struct {
	At     time.Time `json:"at" doc:"When that was noted: the login may have been up to a day later."`
	Source string    `json:"source"`
}

// TriedFrom is one wrong password from one address.
type TriedFrom struct {
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Times    int       `json:"times" doc:"How often, with the times that do not count because a program repeats it."`
	Source   string    `json:"source"`
	Protocol string    `json:"protocol"`
	Program  string    `json:"program,omitempty" doc:"The mail program's name as it gave it (IMAP ID); left out when it did not."`
	Password int       `json:"password" doc:"Equal numbers are equal passwords; nothing else is known of them."`
}

// TransformSchema implements huma.SchemaTransformer.
func (TriedFrom) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Properties["protocol"].Enum = anyOf(auth.Protocols())
	return s
}

// maxOpen is the number of live sessions that are shown.
const maxOpen = 20

// showLately adds what is known of the account's logins, its sessions and recent wrong
// passwords.
func (s *Server) showLately(v *Account, a auth.Account) {
	if last := s.Guard.LastLogin(a.Name); !last.At.IsZero() {
		o := originOf(last)
		v.LastLoginFrom = &o
	}
	for _, seen := range a.Seen {
		v.LoggedInFrom = append(v.LoggedInFrom, Network{seen.At.UTC(), sourceName(seen.Source)})
	}
	if s.Sessions != nil {
		for _, o := range s.Sessions.Of(a.Name) {
			if len(v.OpenSessions) < maxOpen {
				v.OpenSessions = append(v.OpenSessions, originOf(o))
			}
		}
	}
	for _, t := range s.Guard.LatelyTried(a.Name) {
		v.Tried = append(v.Tried, TriedFrom{
			First: t.First.UTC(), Last: t.Last.UTC(), Times: t.Times, Source: t.Source.String(),
			Protocol: t.Protocol.String(), Program: t.Program, Password: t.Password,
		})
	}
	v.ThisGatewayOnly = s.Shared
}

// AccountList is one page of accounts.
type AccountList struct {
	Accounts []Summary `json:"accounts" nullable:"false"`
	Next     string    `json:"next,omitempty" doc:"The cursor of the next page; left out on the last. A page may be short, even empty, and have a next one."`
}

// Event is one entry of the audit log.
type Event struct {
	Seq     int64     `json:"seq"`
	At      time.Time `json:"at"`
	Kind    string    `json:"kind"`
	Account string    `json:"account,omitempty"`
	Actor   string    `json:"actor" doc:"user, gateway, or the person who did it."`
	Source  string    `json:"source,omitempty" doc:"Address and port."`
	Before  string    `json:"before,omitempty"`
	After   string    `json:"after,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Hash    string    `json:"hash"`
}

// EventList is one page of events, newest first.
type EventList struct {
	Events []Event `json:"events" nullable:"false"`
	Next   int64   `json:"next,omitzero" doc:"Give it as before for the next page; left out on the last. A page of one source may be short, even empty, and have a next one."`
}

// ChainReport is the result of a verification of the audit log.
type ChainReport struct {
	OK      bool      `json:"ok" doc:"false: an entry was changed, removed or added from outside."`
	Checked int64     `json:"checked" doc:"Events that were checked."`
	Seq     int64     `json:"seq,omitzero" doc:"The newest event, when ok. Whoever notes seq and hash elsewhere can prove later that nothing up to there was changed."`
	Hash    string    `json:"hash,omitempty" doc:"The hash of the newest event, when ok."`
	At      time.Time `json:"at,omitzero" doc:"When the newest event happened, when ok."`
	Removed *Removed  `json:"removed,omitempty" doc:"What was removed because of its age; left out when nothing was."`
	Broken  int64     `json:"broken_at,omitzero" doc:"The first event that does not fit, when not ok."`
	Why     string    `json:"why,omitempty" doc:"What does not fit, when not ok."`
}

// Removed is the last event that was removed from the audit log because of its age. An
// event of kind audit.pruned records the removal.
type Removed struct {
	Seq  int64     `json:"seq" doc:"The last event removed. As they are numbered from 1, so many were."`
	Hash string    `json:"hash" doc:"Its hash, from which the chain goes on."`
	At   time.Time `json:"at" doc:"When it happened."`
}

// summary shows the present state of an account.
func (s *Server) summary(a auth.Account, rules auth.Rules, now time.Time) Summary {
	v := Summary{
		Address:         string(a.Name),
		Unit:            a.Unit,
		State:           stateOf(a, rules, now),
		Registered:      a.Registered.UTC(),
		FirstLogin:      a.FirstLogin.UTC(),
		LastLogin:       a.LastLogin.UTC(),
		Failures:        a.Failures,
		Restored:        a.Restored.UTC(),
		PasswordSince:   a.Password.Since.UTC(),
		PasswordExpires: rules.PasswordExpiry(a).UTC(),
		GraceUntil:      a.GraceUntil.UTC(),
		Sessions:        s.sessions(a.Name),
		Mistakes:        make([]Mistake, 0, len(a.Mistakes)),
	}
	if a.Lock.Cause != auth.NotLocked {
		v.Locked = &Lock{At: a.Lock.At.UTC(), By: a.Lock.By, Cause: a.Lock.Cause.String(), Reason: a.Lock.Reason}
	}
	if !a.Revocation.IsZero() {
		v.Revoked = &Revocation{At: a.Revocation.At.UTC(), By: a.Revocation.By, Reason: a.Revocation.Reason}
	}
	for _, m := range a.Mistakes {
		v.Mistakes = append(v.Mistakes, mistake(m))
	}
	if !a.Stale.At.IsZero() {
		m := mistake(a.Stale)
		v.Stale = &m
	}
	return v
}

// stateOf returns the word for an account's state.
func stateOf(a auth.Account, rules auth.Rules, now time.Time) string {
	if !a.Known() && !rules.Locked(a, now) {
		return stateUnknown
	}
	return rules.State(a, now).String()
}

func mistake(m auth.Mistake) Mistake {
	return Mistake{At: m.At.UTC(), Source: sourceText(m.Source)}
}

func sourceText(addr netip.AddrPort) string {
	if !addr.IsValid() {
		return ""
	}
	return addr.String()
}

func eventsOf(events []auth.Event) []Event {
	shown := make([]Event, 0, len(events))
	for _, e := range events {
		shown = append(shown, Event{
			Seq: e.Seq, At: e.At.UTC(), Kind: string(e.Kind), Account: string(e.Account), Actor: e.Actor,
			Source: sourceText(e.Source), Before: e.Before, After: e.After, Reason: e.Reason, Hash: e.Hash,
		})
	}
	return shown
}
