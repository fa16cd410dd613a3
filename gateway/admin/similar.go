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

// A caller on the telephone gives an address that does not exist. Accounts are sorted
// by name, so similar ones can be found without reading all: the first letters of a
// name show whether any name with the same beginning can be close enough, and if not,
// all of them are skipped together (as in Lucene's fuzzy queries).

const (
	// maxSimilar is the largest number of suggestions.
	maxSimilar = 5
	// similarReads limits the pages read for one search, similarPage the accounts in a
	// page, and similarTime the duration of the search.
	similarReads = 2000
	similarPage  = 10
	similarTime  = 2 * time.Second
)

// behindAll sorts after every letter that a name may contain.
const behindAll = "\U0010FFFF"

// similar returns the accounts with addresses similar to an unknown one, the nearest
// first. It is only a help: if the store fails or the time runs out, it returns fewer.
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

	found := make(map[string]int) // and the distance of each
	// The same name in another domain is a suggestion at any distance between the
	// domains.
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
		most = 2 // in a short name two changes make a different name
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

// near finds the accounts within a distance of an address.
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
				continue // skipped with those whose first letters are too different
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

// within returns the edit distance between a name and a target: the number of
// insertions, deletions, replacements and exchanges of neighbouring letters (optimal
// string alignment). If no name with the same first letters can be within far, dead is
// the number of those letters.
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

// distance returns the edit distance between two texts.
func distance(a, b string) int {
	d, _ := within([]rune(a), []rune(b), max(len(a), len(b)))
	return d
}

// withoutAccents writes a person's name like a mailbox name: in small letters, without
// diacritics and spaces. Đ has no decomposition in Unicode.
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

// suggest adds similar accounts to a problem about an address.
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
