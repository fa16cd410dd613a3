package imap

import (
	"errors"
	"strings"
	"testing"

	"congthu/gateway/frontend"
)

func TestACommandOfManyEmptyLiteralsEndsTheConnection(t *testing.T) {
	in := frontend.NewInput(strings.NewReader("a LOGIN " + strings.Repeat("{0+}\r\n", 42000)))
	c, err := readCommand(in, func(command, announced) error { return nil })
	if !errors.Is(err, errManyPieces) || len(c.args) > maxPieces+2 {
		t.Errorf("%d pieces, %v; want an end after %d", len(c.args), err, maxPieces)
	}
}
