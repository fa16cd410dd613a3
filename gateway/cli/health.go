package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"congthu/gateway/admin"
)

// healthPatience is shorter than the time limits of supervisors, so that they receive
// the reason.
const healthPatience = 8 * time.Second

func newHealthCommand() *cobra.Command {
	var at connection
	var ready bool
	cmd := &cobra.Command{
		Use:   "health [--ready]",
		Short: "Ask the running gateway whether it is well",
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
					return errorf("the gateway answers %d %s", status, http.StatusText(status))
				}
				say(cmd.OutOrStdout(), "The gateway answers.\n")
				return nil
			}
			status, body, err := c.probe(ctx, "/readyz")
			if err != nil {
				return err
			}
			var found admin.Readiness
			if err := json.Unmarshal(body, &found); err != nil {
				return errorf("%s answers %d, and not like congthu: %w", c.socket, status, err)
			}
			for _, name := range slices.Sorted(maps.Keys(found.Checks)) {
				line := fmt.Sprintf("%-8s %s", tr("ok"), clean(tr(name)))
				if check := found.Checks[name]; check.Warning != "" {
					line = fmt.Sprintf("%-8s %-14s %s", tr("warning"), clean(tr(name)), faultInWords(clean(check.Warning)))
				}
				if check := found.Checks[name]; !check.OK {
					line = fmt.Sprintf("%-8s %-14s %s", tr("failed"), clean(tr(name)), faultInWords(clean(check.Error)))
				}
				fmt.Fprintln(cmd.OutOrStdout(), line)
			}
			if !found.Ready {
				return notReady(found)
			}
			return nil
		},
	}
	at.addFlags(cmd)
	cmd.Flags().BoolVar(&ready, "ready", false, "ask whether users can log in, too")
	return cmd
}

// notReady says what has the fault, and whom to call about it.
func notReady(found admin.Readiness) error {
	fault := found.Fault()
	next := plainly(clean(either(fault.NextEN, fault.NextVI)))
	switch {
	case fault.Store && fault.MailServer:
		return errorf("the gateway's store and the mail server do not work: users cannot log in, or not all of them\nNext: %s", next)
	case fault.Store:
		return errorf("the gateway's store does not work: users cannot log in, or not all of them\nNext: %s", next)
	case fault.MailServer:
		return errorf("the mail server does not answer: users cannot log in, or not all of them\nNext: %s", next)
	}
	return errorf("the gateway is not ready: users cannot log in, or not all of them")
}

// probe requests one of the pages outside the API.
func (c *client) probe(ctx context.Context, path string) (status int, body []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://congthu"+path, nil)
	if err != nil {
		return 0, nil, errorf("make request: %w", err)
	}
	return c.ask(r)
}
