package guard_test

import (
	"context"
	"testing"
	"testing/synctest"

	"congthu/auth"
	"congthu/auth/storetest"
)

func TestEveryHistoryKeepsTheInvariants(t *testing.T) {
	synctest.Test(t, func(*testing.T) {
		storetest.Gateways(t, storetest.Cluster{
			Most: 3, PerCrash: 1, Settle: synctest.Wait,
			Begin: func() (func() storetest.Member, func()) {
				model := new(storetest.Model)
				open := func() storetest.Member {
					return storetest.Member{Store: model, Kill: func(held map[auth.Reservation]auth.Name) func() {
						return func() {
							for r, name := range held {
								if _, err := model.Update(context.Background(), name, r, storetest.InDoubt); err != nil {
									t.Fatal(err)
								}
							}
						}
					}}
				}
				return open, func() {}
			},
		})
	})
}
