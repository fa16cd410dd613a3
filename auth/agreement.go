package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Gateways that share a store must decide alike: a lock of one that tolerates 5
// wrong passwords is not a lock at another that tolerates 50, and an alias that only
// one knows is an account of its own at the others. So the settings that must be equal
// are written into the store, by name, so that people can compare them. They contain no
// secret.

// ErrDisagreement: a setting of this process that must be equal differs from the
// processes that use the store or have used it.
var ErrDisagreement = errors.New("this gateway differs from what was agreed on in the store")

// ErrAgreementVersion: the settings in the store have a format that this version does
// not know.
var ErrAgreementVersion = errors.New("the settings that were agreed on are of a newer version: run the version of the other gateways")

// agreementVersion is the first line of the text of an [Agreement]. It changes when the
// meaning of a setting changes, not when settings are added.
const agreementVersion = "v1"

// Agreement has the settings that gateways on one store have in common, by their
// paths in the configuration, with their values in canonical form: a scalar, or a
// JSON array of strings in their order.
//
// A setting that one side does not have is not a difference: a gateway of another
// version does not know it, or does not serve its protocol.
type Agreement map[string]string

// String returns the text that is stored: the version, then one line for each setting in
// the order of their names.
func (a Agreement) String() string {
	if len(a) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString(agreementVersion + "\n")
	for _, name := range slices.Sorted(maps.Keys(a)) {
		fmt.Fprintf(&b, "%s %s\n", name, strings.ReplaceAll(a[name], "\n", " "))
	}
	return b.String()
}

// ParseAgreement parses a text that String has written; the empty text is an Agreement
// without settings.
func ParseAgreement(text string) (Agreement, error) {
	a := make(Agreement)
	if text == "" {
		return a, nil
	}
	version, rest, _ := strings.Cut(text, "\n")
	if version != agreementVersion {
		return nil, fmt.Errorf("%w (%.20q)", ErrAgreementVersion, version)
	}
	for line := range strings.Lines(rest) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		a[name] = value
	}
	return a, nil
}

// Difference is a setting with different values in two sets.
type Difference struct {
	Setting string `json:"setting"`
	// Here is the value of this gateway, Agreed the one that was agreed on. For
	// lists each has only what the other does not have.
	Here   string `json:"here"`
	Agreed string `json:"agreed"`
}

// String returns both values, for people.
func (d Difference) String() string {
	return fmt.Sprintf("%s is %s here, agreed is %s", d.Setting, d.Here, d.Agreed)
}

// Differences returns the settings whose values in a and in agreed differ, sorted by
// name.
func (a Agreement) Differences(agreed Agreement) (differences []Difference) {
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if value, both := agreed[name]; both && value != a[name] {
			here, there := apart(a[name], value)
			differences = append(differences, Difference{name, here, there})
		}
	}
	return differences
}

// apart removes from two lists the elements that both have. Long values are shortened:
// they appear in an error and in an event of the audit log.
func apart(a, b string) (string, string) {
	const most = 200
	cut := func(text string) string {
		if runes := []rune(text); len(runes) > most {
			return string(runes[:most]) + "..."
		}
		return text
	}
	var one, other []string
	if json.Unmarshal([]byte(a), &one) != nil || json.Unmarshal([]byte(b), &other) != nil {
		return cut(a), cut(b)
	}
	without := func(list, others []string) string {
		left := slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(others, s) })
		if len(left) == 0 {
			return "without"
		}
		return cut(strings.Join(left, ", "))
	}
	return without(one, other), without(other, one)
}

// With returns the settings of a, with the values of b where b has them.
func (a Agreement) With(b Agreement) Agreement {
	joined := maps.Clone(a)
	maps.Copy(joined, b)
	return joined
}

// Join decides whether a gateway that starts, or reads its settings again, may work by
// the settings mine while this number of other gateways works by the agreed ones. It
// returns the settings that are agreed on from now on, with the event that records a
// changed value. If there are others, a difference is an ErrDisagreement; a gateway
// that is alone makes its own settings the agreed ones. Settings that only this gateway
// has are added.
func (mine Agreement) Join(agreed Agreement, others int, now time.Time) (Agreement, []Event, error) {
	differences := mine.Differences(agreed)
	if len(differences) == 0 {
		return mine.With(agreed), nil, nil
	}
	if others > 0 {
		return nil, nil, &Disagreement{differences}
	}
	return mine.adopt(agreed, differences, Event{
		At: now, Actor: ByGateway, Reason: "the configuration has changed, and no other gateway runs",
	})
}

// Adopt makes the settings mine the agreed ones, by an act of an admin.
func (mine Agreement) Adopt(agreed Agreement, act Act, now time.Time) (Agreement, []Event, error) {
	if strings.TrimSpace(act.Reason) == "" {
		return nil, nil, ErrReasonMissing
	}
	differences := mine.Differences(agreed)
	if len(differences) == 0 {
		return nil, nil, fmt.Errorf("%w: the settings of this gateway's file are the agreed ones", ErrNothingToDo)
	}
	return mine.adopt(agreed, differences, Event{At: now, Actor: act.Actor, Source: act.Source, Reason: act.Reason})
}

func (mine Agreement) adopt(agreed Agreement, differences []Difference, e Event) (Agreement, []Event, error) {
	const most = 20 // settings in one event
	e.Kind = RulesAdopted
	var before, after []string
	for i, d := range differences {
		if i == most {
			more := fmt.Sprintf("%d more", len(differences)-most)
			before, after = append(before, more), append(after, more)
			break
		}
		before, after = append(before, d.Setting+" "+d.Agreed), append(after, d.Setting+" "+d.Here)
	}
	e.Before, e.After = strings.Join(before, "; "), strings.Join(after, "; ")
	return agreed.With(mine), []Event{e}, nil
}

// Disagreement is the [ErrDisagreement] of a gateway whose settings differ.
type Disagreement struct{ Differences []Difference }

// Error says which settings differ, and what to do.
func (d *Disagreement) Error() string {
	const most = 10
	var lines []string
	for i, difference := range d.Differences {
		if i == most {
			lines = append(lines, fmt.Sprintf("and %d more", len(d.Differences)-most))
			break
		}
		lines = append(lines, difference.String())
	}
	return fmt.Sprintf("this gateway would work by other rules than those that run on the same database: %s. "+
		"Make the configuration files equal, or, when this is what all shall have, put it into the file of a gateway that runs and use there: congthu rules adopt --reason TEXT",
		strings.Join(lines, "; "))
}

// Is reports that a Disagreement is an ErrDisagreement.
func (d *Disagreement) Is(target error) bool { return target == ErrDisagreement }
