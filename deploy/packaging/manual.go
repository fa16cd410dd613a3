package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra/doc"

	"congthu/gateway/cli"
)

// manual makes the man pages and the completion of shells from the commands
// themselves, and congthu.yaml(5) from the complete configuration, by name.
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

// encoding tells man what the page is written in: there is Vietnamese in it.
const encoding = "'\\\" -*- coding: UTF-8 -*-\n"

// configurationPage is the example as it stands: it is the reference, and tested
// to be complete.
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
