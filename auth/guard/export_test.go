package guard

import (
	"context"

	"congthu/auth"
)

// SharedCounter returns the counter that a name shares.
func (g *Guard) SharedCounter(ctx context.Context, name auth.Name) (auth.Name, error) {
	g.init()
	return g.sharedCounter(ctx, name)
}
