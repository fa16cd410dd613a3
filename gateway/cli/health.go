package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"congthu/gateway/admin"
)

// healthPatience is shorter than what supervisors grant: they should hear why.
const healthPatience = 8 * time.Second

func newHealthCommand() *cobra.Command {
	var at connection
	var ready bool
	cmd := &cobra.Command{
		Use:   "health [--ready]",
		Short: "Ask the running gateway whether it is well (hỏi cổng thư có đang hoạt động không)",
		Long: `Ask the gateway that is running whether it answers (/healthz), and end with 0 if it
does: for whoever restarts one that does not, such as the health check of a
container.

With --ready ask whether users can log in (/readyz): that also needs the mail
servers and the store. Restarting the gateway mends neither.`,
		Example: "  congthu health\n  congthu health --ready -c /etc/congthu/congthu.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := at.client()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), healthPatience)
			defer cancel()
			if !ready {
				if status, _, err := c.probe(ctx, "/healthz"); err != nil {
					return err
				} else if status != http.StatusOK {
					return fmt.Errorf("the gateway answers %d %s", status, http.StatusText(status))
				}
				fmt.Fprintln(cmd.OutOrStdout(), "The gateway answers.")
				return nil
			}
			status, body, err := c.probe(ctx, "/readyz")
			if err != nil {
				return err
			}
			var found admin.Readiness
			if err := json.Unmarshal(body, &found); err != nil {
				return fmt.Errorf("%s answers %d, and not like congthu: %w", c.socket, status, err)
			}
			for _, name := range slices.Sorted(maps.Keys(found.Checks)) {
				line := "ok       " + clean(name)
				if check := found.Checks[name]; check.Warning != "" {
					line = fmt.Sprintf("warning  %-14s %s", clean(name), clean(check.Warning))
				}
				if check := found.Checks[name]; !check.OK {
					line = fmt.Sprintf("failed   %-14s %s", clean(name), clean(check.Error))
				}
				fmt.Fprintln(cmd.OutOrStdout(), line)
			}
			if !found.Ready {
				return errors.New("the gateway is not ready: users cannot log in, or not all of them")
			}
			return nil
		},
	}
	at.addFlags(cmd)
	cmd.Flags().BoolVar(&ready, "ready", false, "ask whether users can log in, too")
	return cmd
}

// probe asks for one of the pages that are outside of the API.
func (c *client) probe(ctx context.Context, path string) (status int, body []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://congthu"+path, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("make request: %w", err)
	}
	return c.ask(r)
}
