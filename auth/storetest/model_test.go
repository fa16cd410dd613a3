package storetest_test

import (
	"errors"
	"net/netip"
	"reflect"
	"testing"
	"time"

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
				if op == auth.OpUpdate {
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

func TestAFullAccountHasEveryField(t *testing.T) {
	var look func(path string, v reflect.Value)
	look = func(path string, v reflect.Value) {
		if v.IsZero() {
			t.Errorf("%s is not set", path)
		}
		switch v.Interface().(type) {
		case time.Time, netip.AddrPort, netip.Prefix:
			return
		}
		if v.Kind() == reflect.Struct {
			for i := range v.NumField() {
				look(path+"."+v.Type().Field(i).Name, v.Field(i))
			}
		}
	}
	look("Account", reflect.ValueOf(storetest.Full("an@congthu.test")))
}

func BenchmarkAttempt(b *testing.B) { storetest.Attempts(b, new(storetest.Model), nil, nil) }
