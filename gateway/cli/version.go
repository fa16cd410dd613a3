package cli

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// The version of a release and the commit that it was built from, set by the
// linker:
//
//	go build -ldflags "-X congthu/gateway/cli.release=v1.2.3 -X congthu/gateway/cli.commit=$(git rev-parse HEAD)"
var release, commit string

// version returns the version of this program: that of the release, that of the module,
// or "devel".
func version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

// revision returns the commit that the program was built from, with "+changes" if the
// files differed from it, or "unknown" if the build did not record it.
func revision() string {
	if commit != "" {
		return commit
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	noted, changed := "", false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			noted = s.Value
		case "vcs.modified":
			changed = s.Value == "true"
		}
	}
	switch {
	case noted == "":
		return "unknown"
	case changed:
		return noted + "+changes"
	}
	return noted
}

// versionLine is the version as people see it.
func versionLine() string {
	return fmt.Sprintf("congthu %s, revision %s, %s %s/%s", version(), revision(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func newVersionCommand() *cobra.Command {
	var output output
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  congthu version\n  congthu version --output json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output == outputJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(map[string]string{
					"version": version(), "revision": revision(), "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH,
				})
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), versionLine())
			return err
		},
	}
	outputFlag(cmd, cmd.Flags(), &output)
	return cmd
}
