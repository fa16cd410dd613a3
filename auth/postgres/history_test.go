package postgres

import (
	"context"
	"testing"

	"congthu/auth"
	"congthu/auth/storetest"
)

func TestEveryHistoryKeepsTheInvariantsOverReplicas(t *testing.T) {
	t.Parallel()
	storetest.Gateways(t, storetest.Cluster{
		Most: 3, PerCrash: 1, Real: true, Settle: func() {},
		Begin: func() (func() storetest.Member, func()) {
			dsn := database(t)
			living := make(map[*Store]bool)
			open := func() storetest.Member {
				s := open(t, Options{DSN: dsn, Lease: shortLease, Expired: storetest.InDoubt, MaxConns: 4})
				living[s] = true
				return storetest.Member{Store: s, Now: s.Now, Kill: func(map[auth.Reservation]auth.Name) func() {
					s.Close()
					delete(living, s)
					return func() {
						for other := range living {
							other.keeper.kick()
							eventually(t, "its slots have lapsed", func() (none bool) {
								err := other.pool.QueryRow(context.Background(),
									`SELECT NOT EXISTS (SELECT FROM reservations r WHERE lapsed IS NULL AND NOT `+holderLives+`)`).Scan(&none)
								return err == nil && none
							})
						}
					}
				}}
			}
			return open, func() {
				for s := range living {
					s.Close()
				}
			}
		},
	})
}
