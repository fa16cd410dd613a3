package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"congthu/gateway/support"
)

func newSupportBundleCommand() *cobra.Command {
	var at connection
	var file string
	var names bool
	cmd := &cobra.Command{
		Use:   "support-bundle [--file FILE]",
		Short: "Write a file for those who help, without secrets",
		Long: `Write a tar.gz that tells how the gateway is: version, configuration without
secrets, health, metrics, sizes of the store, the machine, and what the process is
doing. Only you may read the file; look into it before you send it.

Passwords, tokens, keys, accounts and the audit log are not in it. Holders of tokens
and addresses are pseudonyms, and aliases and delegations are only counted, unless
you say --with-names. The log is not in it either: it has accounts and addresses of
clients. The gateway must be running: its admin socket is used.`,
		Example: "  congthu support-bundle\n  congthu support-bundle --file /root/congthu.tar.gz\n  tar -xzOf congthu-support-*.tar.gz congthu-support/config.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := at.client()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 2*patience)
			defer cancel()
			query := "/debug/bundle"
			if names {
				query += "?names=true"
			}
			// The answer is not JSON.
			r, err := newRequest(ctx, http.MethodGet, query, nil)
			if err != nil {
				return err
			}
			bundle, err := c.answer(r)
			if err != nil {
				return err
			}
			manifest, err := readManifest(bundle)
			if err != nil {
				return errorf("%s does not answer like congthu: %w", c.socket, err)
			}
			if file == "" {
				file = "congthu-support-" + time.Now().UTC().Format("20060102-150405") + ".tar.gz"
			}
			if err := writeNew(file, bundle); err != nil {
				return err
			}
			printManifest(cmd.OutOrStdout(), file, manifest)
			return nil
		},
	}
	at.addFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&file, "file", "", "write to this new `FILE` (default congthu-support-TIME.tar.gz in this directory)")
	f.BoolVar(&names, "with-names", false, "names of people in clear, and the lists of aliases and delegations")
	return cmd
}

// writeNew writes a new file that only its owner can read. It fails if the file exists.
func writeNew(name string, content []byte) (err error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return errorf("write bundle: %w; say where else with --file", err)
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(name) // an incomplete bundle is useless
		return errorf("write bundle: %w; say where else with --file", err)
	}
	return nil
}

// readManifest reads the first file of a bundle.
func readManifest(bundle []byte) (m support.Manifest, err error) {
	z, err := gzip.NewReader(bytes.NewReader(bundle))
	if err != nil {
		return m, errorf("read bundle: %w", err)
	}
	t := tar.NewReader(z)
	first, err := t.Next()
	if err != nil {
		return m, errorf("read bundle: %w", err)
	}
	if path.Base(first.Name) != support.ManifestName {
		return m, errorf("read bundle: it does not begin with a manifest")
	}
	if err := json.NewDecoder(t).Decode(&m); err != nil {
		return m, errorf("read manifest: %w", err)
	}
	return m, nil
}

func printManifest(w io.Writer, file string, m support.Manifest) {
	say(w, "Written to %s, for you only. In it:\n", clean(file))
	rows := [][]string{{support.ManifestName, "", tr("what is in it")}}
	for _, f := range m.Files {
		size := fmt.Sprint(f.Octets)
		if f.Error != "" {
			size, f.What = tr("missing"), tr(f.What)+": "+f.Error
		}
		rows = append(rows, []string{f.Name, size, tr(f.What)})
	}
	table(w, "  ", rows)
	if m.Names == "clear" {
		say(w, "Names of people are in clear.\n")
	} else {
		say(w, "Names of people are pseudonyms, which nobody can turn back.\n")
	}
	say(w, "Not in it:\n")
	for _, what := range m.Missing {
		fmt.Fprintln(w, "  "+clean(tr(strings.TrimSpace(what))))
	}
}
