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
			// lapsed waits until no slot has a dead holder.
			lapsed := func() {
				for other := range living {
					other.leases.wake()
					eventually(t, "its slots have expired", func() (none bool) {
						err := other.pool.QueryRow(context.Background(),
							`SELECT NOT EXISTS (SELECT FROM reservations r WHERE lapsed IS NULL AND NOT `+holderLives+`)`).Scan(&none)
						return err == nil && none
					})
				}
			}
			open := func() storetest.Member {
				s := open(t, Options{DSN: dsn, Lease: shortLease, ReservationExpired: storetest.InDoubt, MaxConns: 4})
				living[s] = true
				do := func(statement string, args ...any) {
					if _, err := s.pool.Exec(context.Background(), statement, args...); err != nil {
						t.Error(err)
					}
				}
				return storetest.Member{
					Store: s, Now: s.Now,
					Kill: func(map[auth.Reservation]auth.Name) func() {
						s.Close()
						delete(living, s)
						return lapsed
					},
					TakeForDead: func() func() {
						do(`UPDATE holders SET gone = clock_timestamp() WHERE id = $1`, s.identity.Load().holder)
						for other := range living {
							other.leases.wake()
						}
						return lapsed
					},
					LoseSlots: func() { do(`DELETE FROM reservations`) },
				}
			}
			return open, func() {
				for s := range living {
					s.Close()
				}
			}
		},
	})
}
