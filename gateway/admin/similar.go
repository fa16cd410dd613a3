package admin

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"congthu/auth"
)

// Somebody on the telephone says an address that there is not. The accounts are in the
// order of their names, so those that are near can be found without reading all: what a
// name begins with tells whether any name that begins like it can be near, and if not
// they are skipped together (as Lucene's fuzzy queries do).

const (
	// maxSimilar is how many are suggested.
	maxSimilar = 5
	// similarReads bounds the pages that are read for it, similarPage the accounts of
	// one, and similarTime how long it takes.
	similarReads = 2000
	similarPage  = 10
	similarTime  = 2 * time.Second
)

// behindAll follows every letter that a name may have.
const behindAll = "\U0010FFFF"

// similar returns the accounts whose addresses are near to one that is none, the nearest
// first. It is a help: where the store fails, or it takes too long, it finds less.
func (s *Server) similar(ctx context.Context, address string) []string {
	ctx, cancel := context.WithTimeout(ctx, similarTime)
	defer cancel()
	domains := s.Guard.Domains()
	local, domain, qualified := strings.Cut(strings.TrimSpace(address), "@")
	local, domain = withoutAccents(local), strings.Trim(withoutAccents(domain), ".")
	if local == "" || len(local) > 64 || len(domain) > 255 || len(domains) == 0 {
		return nil
	}
	if !qualified {
		domain = domains[0]
	}
	slices.SortStableFunc(domains, func(a, b string) int { return cmp.Compare(distance(domain, a), distance(domain, b)) })

	found := make(map[string]int) // and how far each is
	// The same name in another domain is one suggestion, however different it is.
	for _, d := range domains[:min(len(domains), 20)] {
		name, err := s.Canonical(local + "@" + d)
		if err != nil {
			continue
		}
		if a, err := s.Accounts.Account(ctx, name); err == nil && a.Known() {
			found[string(name)] = 0
		}
	}
	most := 1
	if len(local) > 4 {
		most = 2 // of a short name that is another one
	}
	reads := similarReads
	for far := 1; far <= most && len(found) < maxSimilar; far++ {
		for _, d := range domains[:min(len(domains), 3)] {
			s.near(ctx, local+"@"+d, far, &reads, found)
		}
	}
	names := make([]string, 0, len(found))
	for name := range found {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(found[a], found[b]), strings.Compare(a, b)) })
	return names[:min(len(names), maxSimilar)]
}

// near finds the accounts that are at most so far from an address.
func (s *Server) near(ctx context.Context, address string, far int, reads *int, found map[string]int) {
	target := []rune(address)
	want := auth.Filter{Limit: similarPage}
	for ; *reads > 0; *reads-- {
		page, err := s.Accounts.List(ctx, want)
		if err != nil {
			return
		}
		for _, a := range page {
			if a.Name <= want.After {
				continue // it begins like one that was too far
			}
			want.After = a.Name
			d, dead := within([]rune(string(a.Name)), target, far)
			switch {
			case dead > 0:
				want.After = auth.Name(string([]rune(string(a.Name))[:dead]) + behindAll)
			case d <= far:
				if _, known := found[string(a.Name)]; !known {
					found[string(a.Name)] = d
				}
			}
		}
		if len(page) < want.Limit {
			return
		}
	}
}

// within returns how far a name is from a target: how many letters are to be put in, left
// out, replaced or exchanged with their neighbours (optimal string alignment). When it is
// further than that, whatever follows its first letters, dead is the number of these.
func within(name, target []rune, far int) (d, dead int) {
	before, last, row := make([]int, len(target)+1), make([]int, len(target)+1), make([]int, len(target)+1)
	for j := range last {
		last[j] = j
	}
	for i, r := range name {
		row[0] = i + 1
		least := row[0]
		for j, t := range target {
			differs := 1
			if r == t {
				differs = 0
			}
			row[j+1] = min(row[j]+1, last[j+1]+1, last[j]+differs)
			if i > 0 && j > 0 && r == target[j-1] && name[i-1] == t {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
			least = min(least, row[j+1])
		}
		if least > far {
			return least, i + 1
		}
		before, last, row = last, row, before
	}
	return last[len(target)], 0
}

// distance is how far two texts are from each other.
func distance(a, b string) int {
	d, _ := within([]rune(a), []rune(b), max(len(a), len(b)))
	return d
}

// withoutAccents writes a name as mailboxes are named: in small letters, without
// diacritics and blanks. Đ has no decomposition in Unicode.
func withoutAccents(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.Is(unicode.Mn, r), unicode.IsSpace(r), unicode.IsControl(r):
			return -1
		case r == 'đ', r == 'ð', r == 'ɖ':
			return 'd'
		}
		return r
	}, norm.NFD.String(strings.ToLower(text)))
}

// suggest adds the accounts that may be meant to a problem with the address.
func (s *Server) suggest(ctx context.Context, err error, address string) error {
	var m *problemModel
	if !errors.As(err, &m) {
		return err
	}
	similar := s.similar(ctx, address)
	if len(similar) == 0 || len(m.Errors) != 1 {
		return err
	}
	m.Errors[0].Message += "; did you mean " + strings.Join(similar, " or ") + "?"
	return m.vi(m.Errors[0].MessageVI + "; có phải ý quý vị là " + strings.Join(similar, " hoặc ") + "?")
}
