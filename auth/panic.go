package auth

import (
	"fmt"
	"runtime"
)

// PanicText is what may be told of the value of a panic: the text of a runtime
// error, which has types and numbers in it, and of anything else only the type.
// Whoever panics with a text may have put into it what was at hand, a password
// among it.
func PanicText(p any) string {
	if err, ok := p.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("a value of type %T", p)
}
