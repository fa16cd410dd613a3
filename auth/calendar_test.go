package auth

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func day(t testing.TB, s string) time.Time {
	t.Helper()
	at, err := time.Parse("2006-01-02", s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestMonthsAreClampedToTheEndOfTheMonth(t *testing.T) {
	for _, c := range []struct {
		from   string
		months int
		want   string
	}{
		{"2025-11-30", 3, "2026-02-28"},
		{"2027-11-30", 3, "2028-02-29"},
		{"2026-01-31", 1, "2026-02-28"},
		{"2026-03-31", 3, "2026-06-30"},
		{"2024-02-29", 12, "2025-02-28"},
		{"2024-02-29", 48, "2028-02-29"},
		{"2026-10-15", 3, "2027-01-15"},
		{"2026-12-31", 12, "2027-12-31"},
		{"2026-05-31", -3, "2026-02-28"},
	} {
		if got := AddMonths(day(t, c.from), c.months); !got.Equal(day(t, c.want)) {
			t.Errorf("%s + %d months = %s, want %s", c.from, c.months, got.Format(time.DateOnly), c.want)
		}
	}
}

func TestMonthsNeverSkipAMonth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from := time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "from"), 0).UTC()
		n := rapid.IntRange(0, 240).Draw(t, "months")
		got := AddMonths(from, n)
		want := from.Year()*12 + int(from.Month()) + n
		if have := got.Year()*12 + int(got.Month()); have != want {
			t.Fatalf("%s + %d months = %s: month %d, want %d", from, n, got, have, want)
		}
		if got.Day() > from.Day() {
			t.Fatalf("%s + %d months = %s: a later day of the month", from, n, got)
		}
		if got.Sub(got.Truncate(24*time.Hour)) != from.Sub(from.Truncate(24*time.Hour)) {
			t.Fatalf("%s + %d months = %s: another time of day", from, n, got)
		}
	})
}
