package auth_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"congthu/auth"
)

// Gateways of earlier versions know the latest two passwords.
func TestTheMemoryOfTwoPasswordsCompletesThatOfAll(t *testing.T) {
	day := func(n int) time.Time { return lastYear.AddDate(0, 0, n) }
	many := make([]auth.KnownPassword, auth.MaxPasswords)
	for i := range many {
		many[i] = password(fmt.Sprint(i), day(i))
	}
	for name, c := range map[string]struct {
		known          []auth.KnownPassword
		latest, before string
		since          int
		want           []auth.KnownPassword
	}{
		"nothing":                    {since: 5},
		"one":                        {latest: "A", since: 5, want: []auth.KnownPassword{password("A", day(5))}},
		"two":                        {latest: "B", before: "A", since: 5, want: []auth.KnownPassword{password("A", day(5)), password("B", day(5))}},
		"all known":                  {known: many[:3], latest: "2", before: "1", since: 2, want: many[:3]},
		"a new one":                  {known: many[:1], latest: "B", before: "0", since: 9, want: []auth.KnownPassword{many[0], password("B", day(9))}},
		"one that came back":         {known: many[:3], latest: "0", before: "2", since: 9, want: many[:3]},
		"a date that was set right":  {known: many[:3], latest: "2", before: "1", since: 1, want: []auth.KnownPassword{many[0], many[1], password("2", day(1))}},
		"a new one where no room is": {known: many, latest: "B", before: "15", since: 30, want: many},
	} {
		p := auth.Password{Known: slices.Clone(c.known), Since: day(c.since)}
		p.Recall([]byte(c.latest), []byte(c.before))
		since := day(c.since)
		if n := len(c.want); n > 0 {
			since = c.want[n-1].Since
		}
		if !reflect.DeepEqual(p.Known, c.want) || !p.Since.Equal(since) {
			t.Errorf("%s: %+v since %s, want %+v since %s", name, p.Known, p.Since, c.want, since)
		}
	}
}
