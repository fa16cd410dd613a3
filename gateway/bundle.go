package gateway

import (
	"context"
	"time"

	"congthu/gateway/support"
)

// bundle makes a support bundle of this gateway's present state.
func (g *Gateway) bundle(ctx context.Context, names bool) ([]byte, error) {
	checks := make(map[string]func(context.Context) error)
	for _, c := range g.admin.Checks {
		checks[c.Name] = c.Run
	}
	return support.Source{
		Version: g.Version, Started: g.since, Config: g.live.config(), Metrics: g.Metrics.Handler(), Checks: checks,
		Store: g.Store, Sessions: g.sessions.Len(""), Names: names,
	}.Bundle(ctx, time.Now())
}
