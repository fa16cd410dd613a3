package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"congthu/auth"
	"congthu/gateway/upstream"
)

// The counter, the lock and the revocation are the account's, and the mail server
// is asked about a mailbox: what the checker lets through must never make two of
// one.
func TestInEveryConfigurationThatIsAcceptedAnAccountIsOneMailboxBehindEachDoor(t *testing.T) {
	inTestdata(t)
	refused, accepted, folded := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		domains := []string{"congthu.test", "Other.test", "thư.test", "CONGTHU.test.", "third.test"}
		served := rapid.SliceOfNDistinct(rapid.SampledFrom(domains), 1, 3, rapid.ID[string]).Draw(t, "domains")
		locals := []string{"an", "AN", "ａｎ", "binh", "Office", "office", "front", "ân", "an+x"}
		address := rapid.Custom(func(t *rapid.T) string {
			return rapid.SampledFrom(locals).Draw(t, "local") + "@" + rapid.SampledFrom(append(served, "elsewhere.test")).Draw(t, "domain")
		})
		loginName := rapid.SampledFrom([]string{"address", "local"})
		var file strings.Builder
		fmt.Fprintf(&file, "domain: %q\ntls: { certificate: cert.pem, key: key.pem }\nrules: { password: { change_url: \"https://mail.congthu.test/password\" } }\n", served[0])
		fmt.Fprintf(&file, "domains: [%s]\n", strings.Join(served[1:], ", "))
		for door, port := range map[string]int{"imap": 10143, "smtp": 10587} {
			listen := rapid.SampledFrom([]string{"", "", ", listen: []"}).Draw(t, door)
			fmt.Fprintf(&file, "%s: { upstream: { address: 127.0.0.1:%d, login_name: %s }%s }\n", door, port, loginName.Draw(t, door), listen)
		}
		fmt.Fprintf(&file, "names: { subaddress: %s, master_separators: %q, unicode: %v }\n",
			rapid.SampledFrom([]string{"refuse", "fold"}).Draw(t, "subaddress"), rapid.SampledFrom([]string{"*%", "%"}).Draw(t, "separators"), rapid.Bool().Draw(t, "unicode"))
		file.WriteString("aliases:\n")
		for alias, account := range rapid.MapOfN(address, address, 0, 3).Draw(t, "aliases") {
			fmt.Fprintf(&file, "  %q: %q\n", alias, account)
		}
		c, err := parse("congthu.yaml", []byte(strings.TrimSuffix(file.String(), "aliases:\n")), now)
		if err != nil {
			if !errors.As(err, new(*Error)) {
				t.Fatal(err)
			}
			refused++
			return
		}
		accepted++
		names := c.Namer()
		if names.LocalNames && len(c.served()) > 1 {
			folded++
		}

		var doors []*upstream.Server
		if len(c.IMAP.Listen) > 0 {
			doors = append(doors, must(t, c.IMAPUpstream))
		}
		if len(c.SMTP.Listen) > 0 {
			doors = append(doors, must(t, c.SMTPUpstream))
		}
		accounts := make(map[auth.Name]bool)
		for _, local := range locals {
			logins := []string{local, local + "*x", local + "%x"}
			for _, d := range append(served, "elsewhere.test", "xn--th-e0a.test", "OTHER.TEST") {
				logins = append(logins, local+"@"+d, strings.ToUpper(local)+"@"+d+".", local+"＠"+d)
			}
			for _, login := range logins {
				if name, err := names.Canonical(login); err == nil {
					accounts[name] = true
				}
			}
		}
		for i, server := range doors {
			asked := make(map[string]auth.Name)
			for account := range accounts {
				if again, err := names.Canonical(string(account)); err != nil || again != account {
					t.Fatalf("%s is no name of itself: %s, %v\n%s", account, again, err, &file)
				}
				name := server.LoginName(account)
				if other, twice := asked[name]; twice {
					t.Fatalf("door %d: the mail server is asked about %s for %s and for %s\n%s", i, name, account, other, &file)
				}
				asked[name] = account
			}
		}
		// Art. 13.8: only accounts that can log in may send as an address.
		for _, account := range c.SenderAliases() {
			if again, err := names.Canonical(string(account)); err != nil || again != account {
				t.Fatalf("an alias leads to %s, which is %s, %v\n%s", account, again, err, &file)
			}
		}
	})
	if accepted == 0 || refused == 0 || folded == 0 {
		t.Errorf("%d configurations accepted, %d of them with domains taken for one, %d refused: want some of each", accepted, folded, refused)
	}
}

func must(t *rapid.T, server func() (*upstream.Server, error)) *upstream.Server {
	s, err := server()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTheAddressOfAnAccountIsItsOwnInEachDomainThatIsTakenForOne(t *testing.T) {
	inTestdata(t)
	text := strings.Replace(strings.Replace(five, "127.0.0.1:10143", "{ address: 127.0.0.1:10143, login_name: local }", 1),
		"127.0.0.1:10587", "{ address: 127.0.0.1:10587, login_name: local }", 1)
	c := mustParse(t, text+`
domains: [other.test]
aliases: { office@congthu.test: an@congthu.test, front@other.test: an@congthu.test, an@other.test: binh@other.test }
delegations: { desk@other.test: [an@congthu.test, binh@other.test], office@congthu.test: [chi@other.test] }
`)
	names := c.Namer()
	for login, want := range map[string]auth.Name{
		"an": "an@congthu.test", "binh@other.test": "binh@congthu.test",
		// An alias in the default domain holds in each, another one in its own only.
		"office": "an@congthu.test", "office@other.test": "an@congthu.test",
		"front@other.test": "an@congthu.test", "front@congthu.test": "front@congthu.test",
		"an@other.test": "binh@congthu.test",
	} {
		if got, err := names.Canonical(login); got != want || err != nil {
			t.Errorf("%s is %s, %v; want %s", login, got, err, want)
		}
	}
	for address, want := range map[auth.Name][]auth.Name{
		"desk@congthu.test": {"an@congthu.test", "binh@congthu.test"}, "desk@other.test": {"an@congthu.test", "binh@congthu.test"},
		"office@congthu.test": {"chi@congthu.test"}, "office@other.test": {"chi@congthu.test"},
		"an@congthu.test": nil,
	} {
		if got := c.SenderDelegations()[address]; !slices.Equal(got, want) {
			t.Errorf("as %s may send %v, want %v", address, got, want)
		}
	}
	for address, want := range map[string]auth.Name{"chi@other.test": "chi@congthu.test", "chi@congthu.test": "chi@congthu.test"} {
		if got, err := names.Own(address); got != want || err != nil {
			t.Errorf("in a list %s is %s, %v; want %s", address, got, err, want)
		}
	}
	if got, err := names.Own("office@other.test"); got != "an@congthu.test" || !errors.Is(err, auth.ErrAlias) {
		t.Errorf("in a list an alias is %s, %v", got, err)
	}
}
