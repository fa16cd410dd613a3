package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"congthu/auth"
)

func (k *checker) checkNames() {
	const path = "names.master_separators"
	for _, r := range k.c.Names.MasterSeparators {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("@.+-_", r) {
			k.wrong(path, `list only characters that no mailbox has, such as "*%"`, "`%s` has %q, which mailbox names need", path, r)
			return
		}
	}
	if k.c.Names.MasterSeparators == "" && k.given(path) && !k.refused(path) {
		k.doubt(path, `leave it out, or list the characters`, `%s is empty, which means the usual "*%%"`, "`"+path+"`")
	}
}

// checkLoginNames refuses several domains if one mail server receives the domain and
// another does not: two accounts would then be one mailbox for one protocol and two for
// the other, and no counter would be right for both.
func (k *checker) checkLoginNames() {
	if k.anyRefused("domain", "domains") {
		return // the cause may be another mistake
	}
	domains := k.c.served()
	if len(domains) < 2 {
		return
	}
	first, name := "", LoginName("")
	for _, p := range auth.Protocols() {
		path := p.String() + ".upstream.login_name"
		m := k.c.Mail(p)
		switch {
		case k.anyRefused(p.String(), path):
			return
		case len(m.Listen) == 0:
		case first == "":
			first, name = path, m.Upstream.LoginName
		case m.Upstream.LoginName != name:
			k.wrong(path, "write the same in both, as the mail server behind knows its accounts; or serve one domain only",
				"`%s` is %s and `%s` is %s, with %d domains: mailboxes of the same name in %s would be one behind one door and several behind the other, so that neither wrong passwords nor locks could be kept right",
				first, name, path, m.Upstream.LoginName, len(domains), strings.Join(domains, " and "))
			return
		}
	}
}

// ownName reports whether a login can lead to a canonical address; if not, it passes
// the reason to wrong.
func (k *checker) ownName(path string, name auth.Name, wrong func(path, fix, format string, args ...any)) bool {
	if k.c.Domain == "" || k.anyRefused("domain", "domains", "names.master_separators") {
		return true // the cause would be another mistake
	}
	namer := k.c.addresses()
	canonical, err := namer.Canonical(string(name))
	switch {
	case errors.Is(err, auth.ErrForeignDomain):
		fix := "add it to `domains`, or correct it"
		if near := nearest(name.Domain(), append([]string{k.c.Domain}, k.c.Domains...)); near != "" {
			fix = "did you mean " + name.Local() + "@" + near + "?"
		}
		wrong(path, fix, "`%s`: the domain of %s is not served here", path, name)
	case errors.Is(err, auth.ErrNotASCII):
		wrong(path, "write it without accents; or, if the mail server tells names with accents apart from those without, set names.unicode: true",
			"`%s`: %s has letters beyond ASCII before the @, which many mail servers take for plain ones", path, name)
	case errors.Is(err, auth.ErrMasterUser):
		wrong(path, "correct it, or change `names.master_separators`", "`%s`: %s has a character of master-user syntax, which is never let in", path, name)
	case err != nil || canonical != name:
		wrong(path, "write the name without + and what follows it", "`%s`: %s is not the name of a mailbox", path, name)
	default:
		return true
	}
	return false
}

// checkAliases checks that each alias leads to an account in one step.
func (k *checker) checkAliases() {
	for _, alias := range slices.Sorted(maps.Keys(k.c.Aliases)) {
		account := k.c.Aliases[alias]
		path := join("aliases", string(alias))
		own := k.ownName(path, alias, k.wrongKey)
		if k.refused(path) && own || !k.ownName(path, account, k.wrong) || !own {
			continue
		}
		next, chained := k.c.Aliases[account]
		if !chained && k.c.localNames() {
			// An account is looked up by its name in the default domain.
			account = auth.Name(account.Local() + "@" + k.c.Domain)
			if next, chained = k.c.Aliases[account]; chained {
				next = auth.Name(next.Local() + "@" + k.c.Domain)
			}
		}
		switch {
		case alias == account && k.c.Aliases[alias] != account:
			k.redundant(path, alias, k.c.Aliases[alias])
		case alias == account:
			k.wrong(path, "remove it", "`%s` is an alias of itself", path)
		case k.c.localNames() && alias.Local() == account.Local():
			k.redundant(path, alias, account)
		case chained && next == alias:
			k.wrong(path, "keep the one whose right side is the account", "`%s` and `aliases.%s` lead to each other", path, account)
		case chained && next == account:
		case chained:
			k.wrong(path, fmt.Sprintf("write %s: %s", alias, next), "`%s` leads to %s, which is an alias itself", path, account)
		}
	}
}

// redundant warns of an alias or a delegation between names that the mail server treats
// as one.
func (k *checker) redundant(path string, one, other auth.Name) {
	k.doubt(path, "remove it", "`%s` is not needed: with login_name: local %s and %s are one account", path, one, other)
}

// checkDelegations checks the accounts that may send as an address.
func (k *checker) checkDelegations() {
	for _, address := range slices.Sorted(maps.Keys(k.c.Delegations)) {
		path := join("delegations", string(address))
		if k.refused(path) {
			continue
		}
		k.ownName(path, address, k.wrongKey)
		accounts := k.c.Delegations[address]
		if len(accounts) == 0 {
			k.wrong(path, "list the accounts that may send as it, or remove it", "`%s` is empty", path)
		}
		for i, account := range accounts {
			at := fmt.Sprintf("%s[%d]", path, i)
			if k.refused(at) || !k.ownName(at, account, k.wrong) {
				continue
			}
			target, alias := k.c.Aliases[account]
			twin := func(n auth.Name) bool {
				return k.c.localNames() && n != account && n.Local() == account.Local() && k.c.Namer().SameAccount(n, account)
			}
			switch {
			case twin(address):
				k.redundant(at, account, address)
			case slices.ContainsFunc(accounts[:i], twin):
				k.redundant(at, account, accounts[slices.IndexFunc(accounts[:i], twin)])
			case account == address || k.c.Aliases[address] == account:
				k.wrong(at, "remove it", "`%s`: %s may send as %s anyway", at, account, address)
			case alias:
				k.wrong(at, "write "+string(target), "`%s`: %s is an alias; only accounts log in", at, account)
			case slices.Contains(accounts[:i], account):
				k.wrong(at, "keep one of them", "`%s`: %s is there twice", at, account)
			}
		}
	}
}
