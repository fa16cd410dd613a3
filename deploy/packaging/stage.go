package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// stage fills dir with everything that is packed, with the modes and the times
// that it shall have:
//
//	congthu             the program
//	congthu.yaml        the configuration to start from
//	man/ completion/    generated from the commands
//	systemd/            the unit, the socket, and the user (sysusers.d)
//	doc/                what there is to read, and the licences
func (r *release) stage(dir, arch string) error {
	if err := r.build(filepath.Join(dir, "congthu"), arch); err != nil {
		return err
	}
	example, err := os.ReadFile(filepath.Join(r.root, "deploy/examples/congthu.yaml"))
	if err != nil {
		return err
	}
	files, err := manual(r.version, r.time, string(example))
	if err != nil {
		return err
	}
	licences, err := r.licences(arch)
	if err != nil {
		return err
	}
	files["doc/licences.txt"] = licences
	for from, to := range map[string]string{
		"deploy/packaging/congthu.yaml":     "congthu.yaml",
		"deploy/packaging/congthu.sysusers": "systemd/congthu.sysusers",
		"deploy/packaging/lintian":          "lintian",
		"deploy/packaging/copyright":        "doc/copyright",
		"deploy/systemd/congthu.service":    "systemd/congthu.service",
		"deploy/systemd/congthu.socket":     "systemd/congthu.socket",
		"LICENSE":                           "doc/LICENSE",
		"README.md":                         "doc/README.md",
		"README.vi.md":                      "doc/README.vi.md",
		"SECURITY.md":                       "doc/SECURITY.md",
		"CHANGELOG.md":                      "doc/changelog",
	} {
		if files[to], err = os.ReadFile(filepath.Join(r.root, from)); err != nil {
			return err
		}
	}
	for _, tree := range []string{"guide", "examples", "prometheus", "grafana"} {
		root := os.DirFS(filepath.Join(r.root, "deploy"))
		err := fs.WalkDir(root, tree, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(name, ".go") {
				return err
			}
			files["doc/"+name], err = fs.ReadFile(root, name)
			return err
		})
		if err != nil {
			return err
		}
	}
	for name, content := range files {
		if strings.HasSuffix(name, ".md") {
			files[name] = relinked(content)
		}
	}
	// The Debian changelog of the package; CHANGELOG.md has the changes of congthu.
	files["doc/changelog.Debian"] = fmt.Appendf(nil, "congthu (%s) stable; urgency=medium\n\n  * What changed is in changelog.gz.\n\n -- %s  %s\n",
		r.debianVersion(), r.maintainer, r.time.Format("Mon, 02 Jan 2006 15:04:05 +0000"))
	for _, name := range slices.Collect(maps.Keys(files)) {
		// Debian Policy 12.1, 12.7: these files must be compressed.
		if strings.HasPrefix(name, "man/") || slices.Contains([]string{"doc/changelog", "doc/changelog.Debian", "doc/licences.txt"}, name) {
			if files[name+".gz"], err = gzipped(files[name]); err != nil {
				return err
			}
			delete(files, name)
		}
	}
	for name, content := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, content, 0o644); err != nil {
			return err
		}
	}
	return r.settle(dir)
}

// Targets in the package for links in the repository's pages.
var (
	deployLink = regexp.MustCompile(`\]\(deploy/`)
	aboveLink  = regexp.MustCompile(`\]\(\.\./\.\./`)
	// The package contains no sources; only the link's text stays.
	sourceLink = regexp.MustCompile(`\[([^\]]*)\]\((?:auth|gateway|metrics)/[^)]*\)`)
	logLink    = regexp.MustCompile(`\]\(CHANGELOG\.md\)`)
	termsLink  = regexp.MustCompile(`\]\(LICENSE\)`)
)

// relinked returns a page with links to files in the package.
func relinked(page []byte) []byte {
	page = deployLink.ReplaceAll(page, []byte("]("))
	page = aboveLink.ReplaceAll(page, []byte("](../"))
	page = sourceLink.ReplaceAll(page, []byte("$1"))
	page = termsLink.ReplaceAll(page, []byte("](copyright)"))
	return logLink.ReplaceAll(page, []byte("](changelog.gz)"))
}

// settle sets the mode and the time of everything in dir, independent of the machine's
// umask and clock.
func (r *release) settle(dir string) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if d.IsDir() || name == filepath.Join(dir, "congthu") {
			mode = 0o755
		}
		return errors.Join(os.Chmod(name, mode), os.Chtimes(name, r.time, r.time))
	})
}

// build builds the program. The result must not depend on the machine: neither on its
// paths nor on its environment.
func (r *release) build(file, arch string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", file,
		"-ldflags", fmt.Sprintf("-s -w -buildid= -X congthu/gateway/cli.release=%s -X congthu/gateway/cli.commit=%s", r.version, r.commit), ".")
	cmd.Dir = r.root
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0", "GOFLAGS=", "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, said)
	}
	return nil
}

// archive creates the .tar.gz, for systems without .deb.
func (r *release) archive(stage, arch string) (name string, err error) {
	base := fmt.Sprintf("congthu-%s-linux-%s", strings.TrimPrefix(r.version, "v"), arch)
	name = base + ".tar.gz"
	file, err := os.Create(filepath.Join(r.out, name))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	zipped, err := gzip.NewWriterLevel(file, gzip.BestCompression)
	if err != nil {
		return "", err
	}
	packed := tar.NewWriter(zipped)
	// WalkDir sorts by name, and so does every archive.
	err = filepath.WalkDir(stage, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(stage, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		header := &tar.Header{Typeflag: tar.TypeDir, Name: base + "/", Mode: int64(info.Mode().Perm()), ModTime: r.time, Uname: "root", Gname: "root", Format: tar.FormatPAX}
		if relative != "." {
			header.Name += filepath.ToSlash(relative)
		}
		if d.IsDir() {
			if relative != "." {
				header.Name += "/"
			}
			return packed.WriteHeader(header)
		}
		header.Typeflag, header.Size = tar.TypeReg, info.Size()
		if err := packed.WriteHeader(header); err != nil {
			return err
		}
		content, err := os.Open(path)
		if err != nil {
			return err
		}
		defer content.Close()
		_, err = io.Copy(packed, content)
		return err
	})
	return name, errors.Join(err, packed.Close(), zipped.Close())
}

// gzipped compresses without a name and a time.
func gzipped(content []byte) ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(content); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// licences collects the licences of all modules in the program in one text: most of
// them must be passed on with it.
func (r *release) licences(arch string) ([]byte, error) {
	cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}\t{{.Dir}}{{end}}{{end}}", ".")
	cmd.Dir = r.root
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0", "GOFLAGS=")
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list the modules: %w", err)
	}
	modules := strings.Fields(strings.ReplaceAll(string(out), " ", "@"))
	// Fields come in pairs: name and directory.
	var pairs []string
	for i := 0; i+1 < len(modules); i += 2 {
		pairs = append(pairs, modules[i]+"\t"+modules[i+1])
	}
	slices.Sort(pairs)
	goroot, err := output(r.root, "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	pairs = append([]string{"Go, its runtime and standard library\t" + goroot}, slices.Compact(pairs)...)
	var text bytes.Buffer
	fmt.Fprintf(&text, "The licences of what is in the program congthu besides congthu itself.\n")
	for _, pair := range pairs {
		name, dir, _ := strings.Cut(pair, "\t")
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		found := false
		for _, e := range entries {
			upper := strings.ToUpper(e.Name())
			if e.IsDir() || !strings.HasPrefix(upper, "LICENSE") && !strings.HasPrefix(upper, "LICENCE") && !strings.HasPrefix(upper, "COPYING") && !strings.HasPrefix(upper, "NOTICE") {
				continue
			}
			content, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, err
			}
			found = true
			fmt.Fprintf(&text, "\n%s\n%s: %s\n%[1]s\n\n%s\n", strings.Repeat("=", 72), name, e.Name(), bytes.TrimSpace(content))
		}
		if !found {
			return nil, fmt.Errorf("%s has no licence that could be passed on with the program", name)
		}
	}
	return text.Bytes(), nil
}
