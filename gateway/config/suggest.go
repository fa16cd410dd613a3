package config

import (
	"strings"
)

// nearest returns the choice that a word probably means, or "".
func nearest(word string, choices []string) string {
	best, least := "", 1+max(1, min(3, len(word)/3))
	plain := plainly(word)
	for _, c := range choices {
		distance := edits(plain, plainly(c))
		// A shortened or extended word is likely as well: tls for tls_mode.
		if distance >= least && len(plain) >= 4 && (strings.HasPrefix(plainly(c), plain) || strings.HasPrefix(plain, plainly(c)) && len(c) >= 4) {
			distance = least - 1
		}
		if distance < least {
			best, least = c, distance
		}
	}
	return best
}

// plainly removes differences of spelling: timeZone, time-zone, TIME_ZONE.
func plainly(word string) string {
	return strings.NewReplacer("_", "", "-", "", " ", "").Replace(strings.ToLower(word))
}

// edits returns the number of insertions, deletions, replacements and swaps of
// neighbours that change a into b (optimal string alignment).
func edits(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	var two, one []int
	now := make([]int, len(b)+1)
	for j := range now {
		now[j] = j
	}
	for i := 1; i <= len(a); i++ {
		two, one, now = one, now, make([]int, len(b)+1)
		now[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			now[j] = min(one[j]+1, now[j-1]+1, one[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], two[j-2]+1)
			}
		}
	}
	return now[len(b)]
}

// orList formats "a, b or c".
func orList(items []string) string {
	if len(items) < 2 {
		return strings.Join(items, "")
	}
	return strings.Join(items[:len(items)-1], ", ") + " or " + items[len(items)-1]
}
