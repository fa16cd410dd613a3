package guard_test

import (
	"testing"
	"time"

	"congthu/auth"
)

// A guesser repeats one wrong password of one account, on a new connection each time: it
// locks no account, but each judgement and fingerprint has a cost.
func TestAGuesserWhoRepeatsOnePasswordIsStopped(t *testing.T) {
	inBubble(t, withThrottle, func(b *bench) {
		b.server.delay = 0
		b.want(b.from(office, "lan", good), auth.Accepted)
		outcomes := map[auth.Outcome]int{}
		try := func() {
			outcomes[b.attempt(auth.Attempt{Login: "lan", Password: auth.NewSecret("P"), Source: elsewhere, Connected: time.Now()}).Outcome]++
		}
		try()
		time.Sleep(4 * time.Minute)
		for range 1000 {
			try()
		}
		// 30, and the 100 failures in 10 minutes of the throttle.
		if n := outcomes[auth.RepeatedPassword]; n > 130 {
			t.Errorf("%v", outcomes)
		}
		b.want(b.from(office, "lan", good), auth.Accepted)
	})
}
