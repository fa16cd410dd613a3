package cli

import (
	"errors"
	"io/fs"
	"testing"
)

// Where no setting says which socket is the gateway's, a missing one says nothing
// about the gateway: users must not hear that it has a fault.
func TestASocketThatWasGuessedSaysNothingOfTheGateway(t *testing.T) {
	for usual, want := range map[bool]bool{true: false, false: true} {
		var d downError
		if got := errors.As((&client{socket: "/nowhere/admin.sock", usual: usual}).unreached(fs.ErrNotExist), &d); got != want {
			t.Errorf("guessed %t: the gateway is said to be down: %t", usual, got)
		}
	}
}
