package cli

import (
	"errors"
	"io/fs"
	"testing"
)

// If no setting names the socket of the gateway, a missing socket proves nothing about
// the gateway: users must not hear that it has a fault.
func TestADefaultSocketProvesNothingAboutTheGateway(t *testing.T) {
	for usual, want := range map[bool]bool{true: false, false: true} {
		var d downError
		if got := errors.As((&client{socket: "/nowhere/admin.sock", usual: usual}).unreached(fs.ErrNotExist), &d); got != want {
			t.Errorf("guessed %t: the gateway is said to be down: %t", usual, got)
		}
	}
}
