package imap

import (
	"errors"
	"strings"
	"testing"
)

func TestACommandOfManyEmptyLiteralsEndsTheConnection(t *testing.T) {
	in := newInput(strings.NewReader("a LOGIN "+strings.Repeat("{0+}\r\n", 42000)), maxTalk)
	c, err := in.command(func(command, announced) error { return nil })
	if !errors.Is(err, errTalkTooLong) || len(c.args) > maxPieces+2 {
		t.Errorf("%d pieces, %v; want an end after %d", len(c.args), err, maxPieces)
	}
}
