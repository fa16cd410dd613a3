package auth

import "errors"

// ErrDisagreement: this process differs, in what must be the same, from those that
// use the store or have used it.
var ErrDisagreement = errors.New("this gateway differs from what was agreed on in the store")
