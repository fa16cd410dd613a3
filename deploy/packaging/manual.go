package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra/doc"

	"congthu/gateway/cli"
)

// manual generates the man pages and the shell completion from the commands themselves,
// and returns congthu.yaml(5), made from the complete configuration, by name.
func manual(version string, at time.Time, example string) (map[string][]byte, error) {
	files := map[string][]byte{}
	dir, err := os.MkdirTemp("", "congthu-man-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	root := cli.New()
	root.DisableAutoGenTag = true
	header := &doc.GenManHeader{Section: "1", Date: &at, Source: "congthu " + version, Manual: "congthu"}
	if err := doc.GenManTree(root, header, dir); err != nil {
		return nil, fmt.Errorf("man pages: %w", err)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil {
		return nil, err
	}
	for _, page := range pages {
		content, err := os.ReadFile(page)
		if err != nil {
			return nil, err
		}
		if content, err = withSections(content, sections[filepath.Base(page)]); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(page), err)
		}
		files["man/"+filepath.Base(page)] = append([]byte(encoding), content...)
	}
	files["man/congthu.yaml.5"] = configurationPage(version, at, example)

	for name, write := range map[string]func(*bytes.Buffer) error{
		"completion/congthu.bash": func(b *bytes.Buffer) error { return root.GenBashCompletionV2(b, true) },
		"completion/_congthu":     func(b *bytes.Buffer) error { return root.GenZshCompletion(b) },
		"completion/congthu.fish": func(b *bytes.Buffer) error { return root.GenFishCompletion(b, true) },
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			return nil, fmt.Errorf("completion: %w", err)
		}
		files[name] = b.Bytes()
	}
	return files, nil
}

// sections are texts that the commands' own help has no space for (man-pages(7)), by
// page.
var sections = map[string]string{
	"congthu-serve.1": `.SH EXIT STATUS
.TP
0
The gateway has ended after SIGTERM or SIGINT.
.TP
1
It could not start or not go on: a port is taken, the data directory or the
database cannot be used, gateways on one database do not agree.
.TP
64
Wrong usage.
.TP
78
The configuration is not right; nothing was started.
.SH SIGNALS
.TP
SIGTERM, SIGINT
No new connections; live sessions go on for drain_timeout at most; then the end.
.TP
SIGHUP
Reads the configuration and the certificates again. A file with a mistake
changes nothing, and the log says where the mistake is.
.SH ENVIRONMENT
.TP
LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES
Sockets that systemd has opened, see
.BR sd_listen_fds (3).
.TP
NOTIFY_SOCKET, WATCHDOG_USEC
Where systemd is told the state, see
.BR sd_notify (3).
.TP
GOGC, GOMEMLIMIT
Settings of Go's memory. With GOGC the gateway leaves it as it is set.
.TP
PGHOST, PGUSER, ...
Those of libpq, where the connection string of PostgreSQL leaves something out.
` + filesSection,
	"congthu-check.1": `.SH EXIT STATUS
.TP
0
Nothing failed; there may be warnings.
.TP
1
Something failed: see the lines that begin with "failed".
.TP
64
Wrong usage.
.TP
78
The configuration is not right; nothing else was looked at.
.SH SIGNALS
.TP
SIGINT, SIGTERM
End the command at once; it has changed nothing.
.SH ENVIRONMENT
It reads no variables of its own. For PostgreSQL those of libpq (PGHOST and so on)
hold where the connection string leaves something out.
` + filesSection,
}

const filesSection = `.SH FILES
.TP
/etc/congthu/congthu.yaml
The configuration in packages, see
.BR congthu.yaml (5).
.TP
/var/lib/congthu
The default of data_dir: congthu.db (accounts and the audit log, with SQLite),
pepper.key (the key of the password fingerprints), admin.sock (for the commands).
`

// withSections inserts sections before the references at the end of a page.
func withSections(page []byte, sections string) ([]byte, error) {
	if sections == "" {
		return page, nil
	}
	before, after, found := bytes.Cut(page, []byte(".SH SEE ALSO"))
	if !found {
		return nil, errors.New("there is no section SEE ALSO")
	}
	return slices.Concat(before, []byte(sections), []byte(".SH SEE ALSO"), after), nil
}

// encoding declares the encoding of a page: it contains Vietnamese.
const encoding = "'\\\" -*- coding: UTF-8 -*-\n"

// configurationPage shows the example file unchanged: it is the reference, and a test
// checks that it is complete.
func configurationPage(version string, at time.Time, example string) []byte {
	var b bytes.Buffer
	b.WriteString(encoding)
	fmt.Fprintf(&b, ".TH CONGTHU.YAML 5 %q %q \"congthu\"\n", at.Format("Jan 2006"), "congthu "+version)
	b.WriteString(`.SH NAME
congthu.yaml \- configuration of the mail gateway congthu
.SH SYNOPSIS
/etc/congthu/congthu.yaml
.SH DESCRIPTION
All settings with their defaults, as one file that could be used as it is. Only
what is marked as required must be there;
.B congthu check \-c /etc/congthu/congthu.yaml
says what is missing or wrong, where, and how to mend it.
.SH SETTINGS
.nf
`)
	for line := range strings.Lines(example) {
		line = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`).Replace(line)
		if strings.HasPrefix(line, ".") {
			line = `\&` + line
		}
		b.WriteString(line)
	}
	b.WriteString(".fi\n.SH SEE ALSO\n.BR congthu (1),\n.BR congthu\\-check (1)\n")
	return b.Bytes()
}
