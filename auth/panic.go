package auth

import (
	"fmt"
	"runtime"
)

// PanicText returns what may be reported of a panic value: the text of a runtime error,
// which contains only types and numbers, and the type of any other value. Such a value
// may contain a secret, for example a password.
func PanicText(p any) string {
	if err, ok := p.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("a value of type %T", p)
}
