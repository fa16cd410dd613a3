package auth

import "time"

// AddMonths returns the instant n calendar months after t, in t's location,
// clamped to the end of the month: 30 November + 3 months is 28 or 29
// February. [time.Time.AddDate] would give 1 or 2 March.
func AddMonths(t time.Time, n int) time.Time {
	year, month, day := t.Date()
	first := time.Date(year, month+time.Month(n), 1, 0, 0, 0, 0, t.Location())
	last := first.AddDate(0, 1, -1).Day()
	day = min(day, last)
	h, m, s := t.Clock()
	return time.Date(first.Year(), first.Month(), day, h, m, s, t.Nanosecond(), t.Location())
}

// endOfDay returns the first instant after the calendar day of t in loc.
func endOfDay(t time.Time, loc *time.Location) time.Time {
	y, m, d := t.In(loc).Date()
	return time.Date(y, m, d+1, 0, 0, 0, 0, loc)
}

// after returns the first instant at which "more than n months" have passed since t:
// nothing happens during the day that is n months after t, only when it has ended.
func after(t time.Time, n int, loc *time.Location) time.Time {
	return endOfDay(AddMonths(t.In(loc), n), loc)
}

// earlier returns the earlier of two instants; a zero instant is ignored.
func earlier(s, t time.Time) time.Time {
	if s.IsZero() || !t.IsZero() && t.Before(s) {
		return t
	}
	return s
}

// NotAfter returns t, or now if that is earlier.
func NotAfter(t, now time.Time) time.Time {
	if now.Before(t) {
		return now
	}
	return t
}
