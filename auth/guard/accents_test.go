package guard_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"

	"golang.org/x/text/runes"
	"golang.org/x/text/transform"
	"golang.org/x/text/unicode/norm"

	"congthu/auth"
	"congthu/auth/guard"
)

// deaf is a mail server that compares names without accents, as MySQL does with a
// collation that ends in _ci and Active Directory does with every attribute.
type deaf struct {
	password map[string]string
	wrong    map[string]int
	right    int
}

func (d *deaf) verify(password string) auth.Verify {
	return func(_ context.Context, name auth.Name) auth.Answer {
		heard, _, err := transform.String(transform.Chain(norm.NFD, runes.Remove(runes.In(unicode.Mn)), norm.NFC), string(name))
		if err != nil {
			panic(err)
		}
		if d.password[heard] == password {
			d.right++
			return auth.Answer{Judgement: auth.JudgedRight}
		}
		d.wrong[heard]++
		return auth.Answer{Judgement: auth.JudgedWrong, Err: errors.New("535")}
	}
}

// spellings are spellings of ev that such a server treats as one.
var spellings = []string{"ev", "EV", "év", "èv", "ế\u0076", "e\u0301v", "ëṿ", "Ĕv̂"}

// inDeaf runs a test with a guard in front of such a server.
func inDeaf(t *testing.T, names *auth.Namer, test func(b *bench, server *deaf, try func(login, password string) auth.Verdict)) {
	inBubble(t, func(g *guard.Guard, r *auth.Rules) { r.Lockout.DailyFailureCap = 0 }, func(b *bench) {
		rules := b.guard.Rules()
		b.guard.SetPolicy(guard.Policy{Names: names, Rules: rules})
		server := &deaf{map[string]string{"ev@example.vn": good}, make(map[string]int), 0}
		test(b, server, func(login, password string) auth.Verdict {
			return b.guard.Attempt(context.Background(), auth.Attempt{
				Login: login, Password: auth.NewSecret(password), Source: office, Verify: server.verify(password),
			})
		})
	})
}

func TestSpellingsThatDifferInAccentsGiveAGuesserNothing(t *testing.T) {
	inDeaf(t, &auth.Namer{Default: "example.vn"}, func(b *bench, server *deaf, try func(login, password string) auth.Verdict) {
		b.want(try("ev", good), auth.Accepted)
		for i, login := range spellings {
			for n := range 8 {
				try(login+"@example.vn", fmt.Sprintf("guess %d %d", i, n))
			}
		}
		if n := server.wrong["ev@example.vn"]; n != 6 {
			t.Errorf("the mail server judged %d wrong passwords of one mailbox, want 6", n)
		}
	})
}

func TestALockedAccountDoesNotGetInWithAnAccent(t *testing.T) {
	inDeaf(t, &auth.Namer{Default: "example.vn"}, func(b *bench, server *deaf, try func(login, password string) auth.Verdict) {
		b.want(try("ev", good), auth.Accepted)
		if _, err := b.guard.Lock(context.Background(), "ev@example.vn", clerk); err != nil {
			t.Fatal(err)
		}
		for _, login := range spellings {
			if v := try(login, good); v.Outcome != auth.Locked && v.Outcome != auth.Malformed {
				t.Errorf("a locked account as %s: %v", login, v.Outcome)
			}
		}
		if server.right != 1 {
			t.Errorf("the mail server judged %d right passwords, want the one before the lock", server.right)
		}
	})
}

// An account that existed before the rule still works: an upgrade must not cause replies
// "wrong password". Admins can still act on it.
func TestAKnownAccountWithAnAccentStillWorks(t *testing.T) {
	const lân = auth.Name("lân@example.vn")
	inDeaf(t, &auth.Namer{Default: "example.vn"}, func(b *bench, server *deaf, try func(login, password string) auth.Verdict) {
		server.password["lan@example.vn"] = good
		b.want(try("lân", good), auth.Malformed)
		// Guessed at, and without a login.
		put(t, b.store, auth.Account{Name: lân, Failures: 1, Mistakes: []auth.Mistake{{At: lastYear}}})
		b.want(try("lân", good), auth.Malformed)
		if n := b.learn().NotASCII; n != 0 {
			t.Errorf("%d known accounts with accents, want none", n)
		}
		put(t, b.store, known(lân, nil))
		for _, login := range []string{"lân", "LÂN@example.vn", "la\u0302n"} {
			b.want(try(login, good), auth.Accepted)
		}
		if n := b.learn().NotASCII; n != 1 {
			t.Errorf("%d known accounts with accents, want 1", n)
		}
		if name, err := b.guard.Canonical("Lân"); name != lân || err != nil {
			t.Errorf("an admin's LÂN is %q, %v", name, err)
		}
		if _, err := b.guard.Lock(context.Background(), lân, clerk); err != nil {
			t.Fatal(err)
		}
		b.want(try("lân", good), auth.Locked)
		v := b.guard.Attempt(context.Background(), auth.Attempt{
			Login: "lân", Authorize: "LÂN@example.vn", Password: auth.NewSecret(good), Source: office, Verify: server.verify(good),
		})
		b.want(v, auth.Locked)
		// Without the store it is not known whether the account exists: that is not a wrong password.
		b.broken.Store(unreachable)
		b.want(try("bình", good), auth.StoreUnavailable)
		b.broken.Store(nil)
	})
}

func TestAKnownPasswordOfAnAccountWithAnAccentWorksWithoutTheStore(t *testing.T) {
	inDeaf(t, &auth.Namer{Default: "example.vn"}, func(b *bench, server *deaf, try func(login, password string) auth.Verdict) {
		b.guard.StoreGrace = time.Hour
		server.password["lan@example.vn"] = good
		put(t, b.store, known("lân@example.vn", nil))
		b.want(try("lân", good), auth.Accepted)
		b.broken.Store(unreachable)
		b.want(try("lân", good), auth.Accepted)
		b.broken.Store(nil)
	})
}

func TestAccentsAreLettersIfTheMailServerDistinguishesThem(t *testing.T) {
	names := &auth.Namer{Default: "example.vn", Unicode: true}
	for login, want := range map[string]auth.Name{"Nguyễn": "nguyễn@example.vn", "nguye\u0302\u0303n": "nguyễn@example.vn"} {
		if name, err := names.Canonical(login); name != want || err != nil {
			t.Errorf("%s is %q, %v; want %q", login, name, err, want)
		}
	}
	names.Unicode = false
	for _, login := range []string{"nguyễn", "ß", "ı", "đ", "é@example.vn", "Ａé"} {
		if name, err := names.Canonical(login); !errors.Is(err, auth.ErrNotASCII) || !errors.Is(err, auth.ErrMalformedName) || name != "" {
			t.Errorf("%s is %q, %v; want %v", login, name, err, auth.ErrNotASCII)
		}
		if name, err := names.Own(login + "@example.vn"); !strings.Contains(login, "@") && (!errors.Is(err, auth.ErrNotASCII) || name != "") {
			t.Errorf("in a list %s is %q, %v; want %v", login, name, err, auth.ErrNotASCII)
		}
	}
	// Full-width ASCII is still ASCII, and domains are as before.
	names.Domains = map[string]bool{"xn--th-e0a.vn": true}
	for login, want := range map[string]auth.Name{"ｌａｎ": "lan@example.vn", "\u212aim": "kim@example.vn", "lan@thư.vn": "lan@xn--th-e0a.vn"} {
		if name, err := names.Canonical(login); name != want || err != nil {
			t.Errorf("%s is %q, %v; want %q", login, name, err, want)
		}
	}
}
