// Command packaging builds the release files for each architecture: a .tar.gz and a
// .deb, and the checksums of all.
//
//	go run ./deploy/packaging -out dist
//
// The files depend only on the commit, the version and Go's version, so that anyone
// can build them again and compare: times are those of the commit, modes are set here
// and not taken from the checkout, and the linker leaves out the paths of the sources.
// nfpm, in a module of its own (deploy/tools/release), builds the .deb from nfpm.yaml.
package main

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	r := release{}
	flag.StringVar(&r.version, "version", "", "the version, such as v1.2.3 (default: the tag of the commit, or v0.0.0-dev.TIME.COMMIT)")
	flag.StringVar(&r.out, "out", "dist", "the directory to write to")
	flag.StringVar(&r.maintainer, "maintainer", "congthu <root@localhost>", "who hands the packages out and answers for them")
	archs := flag.String("arch", "amd64,arm64", "architectures, as Go names them")
	flag.Parse()
	r.archs = strings.Split(*archs, ",")
	err := r.describe()
	if err == nil {
		err = r.make()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "packaging: %v\n", err)
		os.Exit(1)
	}
}

// release describes the result and its sources.
type release struct {
	root    string // of the sources
	out     string
	archs   []string
	version string // v1.2.3
	commit  string
	time    time.Time // of the commit
	// The maintainer's name and address, as in SECURITY.md.
	maintainer string
}

// describe asks git for values that the flags did not set.
func (r *release) describe() error {
	gomod, err := output("", "go", "env", "GOMOD")
	if err != nil {
		return err
	}
	if r.root = filepath.Dir(gomod); gomod == os.DevNull || gomod == "" {
		return errors.New("run this inside the sources of congthu")
	}
	if r.commit, err = output(r.root, "git", "rev-parse", "HEAD"); err != nil {
		return fmt.Errorf("a release is made from a commit: %w", err)
	}
	seconds, err := output(r.root, "git", "show", "--no-patch", "--format=%ct", "HEAD")
	if err != nil {
		return err
	}
	unix, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return fmt.Errorf("time of the commit: %w", err)
	}
	r.time = time.Unix(unix, 0).UTC()
	changes, err := output(r.root, "git", "status", "--porcelain")
	if err != nil {
		return err
	}
	if r.version == "" {
		// A missing tag is not an error; the version then sorts before every release.
		r.version, err = output(r.root, "git", "describe", "--tags", "--exact-match", "--match", "v[0-9]*", "HEAD")
		if err != nil {
			r.version = fmt.Sprintf("v0.0.0-dev.%s.g%.9s", r.time.Format("20060102150405"), r.commit)
		} else if changes != "" {
			return fmt.Errorf("the files differ from %s: commit or stash the changes, or say -version", r.version)
		}
	}
	if !strings.HasPrefix(r.version, "v") {
		return fmt.Errorf("write the version as v%s", r.version)
	}
	if changes != "" {
		r.commit += "+changes"
		fmt.Fprintln(os.Stderr, "packaging: the files differ from the commit: nobody can make this again")
	}
	return nil
}

// make builds everything. It fills the directory stage with the contents of the
// packages, and removes it again.
func (r *release) make() (err error) {
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	stage, err := os.MkdirTemp("", "congthu-release-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(stage)) }()
	nfpm, err := output(filepath.Join(r.root, "deploy/tools/release"), "go", "tool", "-n", "nfpm")
	if err != nil {
		return fmt.Errorf("build nfpm: %w", err)
	}
	var made []string
	for _, arch := range r.archs {
		dir := filepath.Join(stage, arch)
		if err := r.stage(dir, arch); err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
		archive, err := r.archive(dir, arch)
		if err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
		deb, err := r.deb(nfpm, dir, arch)
		if err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
		made = append(made, archive, deb)
	}
	return r.sums(made)
}

// deb builds the Debian package; nfpm reads the times from the environment.
func (r *release) deb(nfpm, stage, arch string) (string, error) {
	out, err := filepath.Abs(r.out)
	if err != nil {
		return "", err
	}
	// Debian sorts 1.2.3-dev before 1.2.3 if it is written 1.2.3~dev.
	name := fmt.Sprintf("congthu_%s_%s.deb", r.debianVersion(), arch)
	cmd := exec.Command(nfpm, "package", "--config", "deploy/packaging/nfpm.yaml", "--packager", "deb", "--target", filepath.Join(out, name))
	cmd.Dir = r.root
	cmd.Env = append(os.Environ(), "STAGE="+stage, "ARCH="+arch, "VERSION="+r.version, "MAINTAINER="+r.maintainer, fmt.Sprintf("SOURCE_DATE_EPOCH=%d", r.time.Unix()))
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("nfpm: %w: %s", err, said)
	}
	return name, nil
}

// debianVersion returns the version in the package; nfpm also turns the first hyphen
// into a tilde.
func (r *release) debianVersion() string {
	return strings.Replace(strings.TrimPrefix(r.version, "v"), "-", "~", 1)
}

// sums writes SHA256SUMS for sha256sum --check.
func (r *release) sums(names []string) error {
	slices.Sort(names)
	var lines strings.Builder
	for _, name := range names {
		f, err := os.Open(filepath.Join(r.out, name))
		if err != nil {
			return err
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		f.Close()
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		fmt.Fprintf(&lines, "%x  %s\n", h.Sum(nil), name)
	}
	return os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), []byte(lines.String()), 0o644)
}

// output returns the output of a command, without the final line end.
func output(dir, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(failed.Stderr)))
	}
	return strings.TrimSpace(string(out)), err
}
