package storetest_test

import (
	"errors"
	"testing"

	"congthu/auth"
	"congthu/auth/storetest"
)

func TestModelKeepsTheContract(t *testing.T) {
	storetest.Run(t, storetest.Harness{
		Open: func(t *testing.T, o storetest.Options) storetest.Store {
			return &storetest.Model{MaxUnknown: o.MaxUnknown}
		},
		Break: func(t *testing.T, s storetest.Store, m storetest.Moment) func() {
			model := s.(*storetest.Model)
			broken := func(op auth.StoreOp) error {
				if op == auth.OpUpdate || op == auth.OpUpdateAll {
					return errors.New("broken")
				}
				return nil
			}
			if m == storetest.BeforeCommit {
				model.Fail = broken
			} else {
				model.FailAfter = broken
			}
			return func() { model.Fail, model.FailAfter = nil, nil }
		},
	})
}
