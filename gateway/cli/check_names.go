package cli

import (
	"context"
	"strings"

	"congthu/auth"
	"congthu/auth/postgres"
	"congthu/auth/sqlite"
	"congthu/gateway/config"
)

// shownNames is the number of names of each kind that are listed; for the others only
// the number is printed.
const shownNames = 20

// names looks for rows of the store that the configuration does not treat as accounts
// of their own, and for accounts that are accepted only because they are older than the
// rule.
func (k *check) names(ctx context.Context) {
	names := k.config.Namer()
	var strays, accented []string
	held, pairs := 0, 0
	look := func(row auth.KeptName) error {
		account, stray := names.Stray(row.Name)
		switch {
		case stray:
			against := ""
			if row.Locked || row.Revoked {
				held++
				against = trf(", and it is %s", strings.Join(states(row), tr(" and ")))
			}
			other := string(row.Name)
			if !row.Known {
				other = tr("a name that nobody ever logged in with") // perhaps a password
			}
			if pairs++; len(strays) < shownNames {
				strays = append(strays, trf("%s is another name of %s%s", other, account, against))
			}
		case row.Known && names.OnlyExisting(row.Name):
			accented = append(accented, string(row.Name))
		}
		return nil
	}
	var err error
	if k.config.Store.Driver == config.StorePostgres {
		err = postgres.EachName(ctx, postgresOptions(k.config), look)
	} else {
		err = sqlite.EachName(ctx, k.config.Store.Path, look)
	}
	if err != nil {
		k.say("failed", "names", strings.Join(strings.Fields(err.Error()), " "))
		return
	}
	for _, line := range strays {
		k.say("warning", "names", line)
	}
	if pairs > 0 {
		k.say("warning", "names", trf("%s under another name of an account, %d of them locked or revoked, which holds for the account. "+
			"Look at them with: congthu account merge --all --dry-run; and make one of both: congthu account merge --all --reason TEXT", plural(pairs, "row"), held))
	}
	if n := len(accented); n > 0 {
		shown, more := accented[:min(n, shownNames)], ""
		if n > shownNames {
			more = trf(" and %d more", n-shownNames)
		}
		k.say("failed", "names", trf("%s with letters beyond ASCII before the @, while names.unicode is false: they go on, but as other names of a mailbox where the mail server does not tell accents apart. "+
			"If it does, set names.unicode: true; otherwise give them names in ASCII there (deploy/guide/dovecot-postfix.md): %s%s", plural(n, "account"), strings.Join(shown, ", "), more))
	}
}

func states(row auth.KeptName) (states []string) {
	if row.Locked {
		states = append(states, tr("locked"))
	}
	if row.Revoked {
		states = append(states, tr("revoked"))
	}
	return states
}
