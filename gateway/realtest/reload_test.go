package realtest

import (
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Dovecot is reloaded when its certificate is renewed. Its existing connections then
// stay open, but a login on them fails: their processes ask the previous authentication
// service, which accepts the password but is no longer trusted. The next login must
// succeed all the same.
func TestAReloadOfDovecotRefusesNobody(t *testing.T) {
	t.Parallel()
	for way, says := range map[string]string{"id": "NO [UNAVAILABLE]", "none": "nothing, and closes"} {
		t.Run("Dovecot says "+says, func(t *testing.T) {
			t.Parallel()
			d := OwnDovecot(t)
			g := Configured(t, Setup{Dovecot: d})
			config := readFrom(g.Config, 0)
			if strings.Count(config, "pass_client: id") != 1 {
				t.Fatal(config)
			}
			writeFile(t, g.Config, strings.Replace(config, "pass_client: id", "pass_client: "+way, 1), 0o600)
			g.Start(t)
			t.Cleanup(func() { g.Process.Kill() })
			var users []string
			for range 4 { // as many as there are spare connections
				users = append(users, d.Account(t))
			}
			for n := range 20 {
				for range 2 { // the first logins leave connections for the second
					var logins sync.WaitGroup
					for _, user := range users {
						logins.Go(func() {
							if got := tryIMAP(t, g.Door(), "", user, Password); !accepted(got) {
								t.Errorf("after %d reloads: %s", n, got)
							}
						})
					}
					logins.Wait()
				}
				d.process.Signal(syscall.SIGHUP)
				Eventually(t, "Dovecot to be reloaded", func() bool {
					return strings.Count(readFrom(d.Log, 0), "SIGHUP received") == n+1
				})
			}
			for _, user := range users {
				if n := g.Failures(t, user); n != 0 {
					t.Errorf("%d wrong passwords of %s were counted", n, user)
				}
			}
		})
	}
}
