// Package support makes the support bundle: one file that shows an outsider the state
// of a gateway, and nothing about its users.
//
// A bundle leaves the organisation: it is sent by mail and kept by others. So it
// contains no password, token, hash of a token or connection string, and no list of
// accounts. People who must be distinguished, the holders of tokens, are pseudonyms
// made with a key that is forgotten with the bundle, so that two bundles cannot be
// compared by them.
//
// A bundle is made when something is wrong: the manifest notes the parts that could not
// be collected, and the bundle contains the others.
package support

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"congthu/auth"
	"congthu/gateway/config"
)

// Store is the part of the gateway's store that the bundle needs.
type Store interface {
	Events(ctx context.Context, f auth.EventFilter) ([]auth.Event, error)
	UnknownNames(ctx context.Context) (int, error)
	Health(ctx context.Context) error
}

// Source is the gateway that the bundle describes. All fields but Names are required.
type Source struct {
	// Version is the program's version.
	Version string
	// Started is the time of the start.
	Started time.Time
	// Config is the configuration in force.
	Config *config.Config
	// Metrics answers /metrics.
	Metrics http.Handler
	// Checks are the checks of /readyz, by name.
	Checks map[string]func(context.Context) error
	Store  Store
	// Sessions is the number of logged-in sessions.
	Sessions int
	// Names includes the names of people, and the aliases and delegations.
	Names bool
}

// Manifest is the first file of a bundle, manifest.json.
type Manifest struct {
	MadeAt  time.Time `json:"made_at"`
	Version string    `json:"version"`
	// Names is "pseudonyms" or "clear".
	Names   string   `json:"names"`
	Files   []File   `json:"files"`
	Missing []string `json:"not_in_it"`
}

// File is one file of a bundle.
type File struct {
	Name   string `json:"name"`
	What   string `json:"what"`
	Octets int    `json:"octets"`
	SHA256 string `json:"sha256,omitempty"`
	// Error is the reason if the file is missing.
	Error string `json:"error,omitempty"`
}

// ManifestName is the name of the manifest in the archive.
const ManifestName = "manifest.json"

// patience limits the time for each part.
const patience = 5 * time.Second

// Bundle makes a bundle, a tar.gz.
func (s Source) Bundle(ctx context.Context, now time.Time) ([]byte, error) {
	p := newPseudonyms(s.Names)
	m := Manifest{MadeAt: now.UTC(), Version: s.Version, Names: "pseudonyms", Missing: []string{
		"the log: it has accounts and addresses of clients; if it is asked for, add the part about the trouble, e.g. journalctl -u congthu --since -1h",
		"accounts, audit log, pepper, keys, tokens and passwords: never send them",
	}}
	if s.Names {
		m.Names = "clear"
	}
	contents := make(map[string][]byte)
	for _, part := range []struct {
		name, what string
		make       func(context.Context, *pseudonyms) ([]byte, error)
	}{
		{"version.json", "the program and how it was built", s.version},
		{"config.json", "the configuration in force, with defaults, without secrets", s.config},
		{"health.json", "what /readyz finds", s.health},
		{"metrics.txt", "what /metrics says", s.metrics},
		{"store.json", "the gateway's memory: sizes and counts", s.store},
		{"system.json", "the machine and the process", s.system},
		{"goroutines.txt", "what the process is doing: functions, no arguments", s.goroutines},
		{"heap.pb.gz", "what holds memory, for go tool pprof: functions, no contents", s.heap},
	} {
		f := File{Name: part.name, What: part.what}
		limited, cancel := context.WithTimeout(ctx, patience)
		content, err := part.make(limited, p)
		cancel()
		if err != nil {
			f.Error = p.text(err.Error())
		} else {
			sum := sha256.Sum256(content)
			f.Octets, f.SHA256 = len(content), hex.EncodeToString(sum[:])
			contents[part.name] = content
		}
		m.Files = append(m.Files, f)
	}
	manifest, err := indented(m)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	t := tar.NewWriter(z)
	add := func(name string, content []byte) error {
		err := t.WriteHeader(&tar.Header{Name: "congthu-support/" + name, Mode: 0o600, Size: int64(len(content)), ModTime: now, Format: tar.FormatPAX})
		if err == nil {
			_, err = t.Write(content)
		}
		return err
	}
	if err := add(ManifestName, manifest); err != nil {
		return nil, fmt.Errorf("write manifest: %w", err)
	}
	for _, f := range m.Files {
		if content, ok := contents[f.Name]; ok {
			if err := add(f.Name, content); err != nil {
				return nil, fmt.Errorf("write %s: %w", f.Name, err)
			}
		}
	}
	if err := t.Close(); err != nil {
		return nil, fmt.Errorf("end of archive: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("compress archive: %w", err)
	}
	return out.Bytes(), nil
}

func indented(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false) // for people, not for browsers
	err := e.Encode(v)
	return b.Bytes(), err
}

func (s Source) version(context.Context, *pseudonyms) ([]byte, error) {
	v := map[string]any{"version": s.Version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		v["main"] = info.Main.Version
		modules := make(map[string]string)
		for _, d := range info.Deps {
			modules[d.Path] = d.Version
		}
		settings := make(map[string]string)
		for _, b := range info.Settings {
			settings[b.Key] = b.Value
		}
		v["modules"], v["build"] = modules, settings
	}
	return indented(v)
}

func (s Source) config(_ context.Context, p *pseudonyms) ([]byte, error) {
	c := redacted(s.Config, p).(map[string]any)
	c["file"] = p.text(s.Config.File)
	return indented(c)
}

func (s Source) health(ctx context.Context, p *pseudonyms) ([]byte, error) {
	found := make(map[string]string)
	for name, check := range s.Checks {
		found[name] = "ok"
		if err := check(ctx); err != nil {
			found[name] = p.text(err.Error())
		}
	}
	return indented(found)
}

// scrape records the answer of an HTTP handler.
type scrape struct {
	bytes.Buffer
	header http.Header
	status int
}

func (s *scrape) Header() http.Header    { return s.header }
func (s *scrape) WriteHeader(status int) { s.status = status }

func (s Source) metrics(ctx context.Context, _ *pseudonyms) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/metrics", nil)
	if err != nil {
		return nil, err
	}
	w := &scrape{header: make(http.Header), status: http.StatusOK}
	s.Metrics.ServeHTTP(w, r)
	if w.status != http.StatusOK {
		return nil, fmt.Errorf("/metrics answers %d", w.status)
	}
	return w.Bytes(), nil
}

func (s Source) store(ctx context.Context, p *pseudonyms) ([]byte, error) {
	c := s.Config.Store
	v := map[string]any{"driver": c.Driver, "sessions": s.Sessions, "health": "ok"}
	trouble := func(key string, err error) { v[key] = p.text(err.Error()) }
	if err := s.Store.Health(ctx); err != nil {
		trouble("health", err)
	}
	if n, err := s.Store.UnknownNames(ctx); err != nil {
		trouble("unknown_names_error", err)
	} else {
		v["unknown_names"] = n
	}
	switch newest, err := s.Store.Events(ctx, auth.EventFilter{Limit: 1}); {
	case err != nil:
		trouble("audit_error", err)
	case len(newest) > 0:
		v["audit_newest_seq"], v["audit_newest_at"] = newest[0].Seq, newest[0].At
	}
	if c.Driver == config.StoreSQLite {
		files := make(map[string]int64)
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if info, err := os.Stat(c.Path + suffix); err == nil {
				files[filepath.Base(c.Path)+suffix] = info.Size()
			}
		}
		v["files_octets"] = files
		var disk unix.Statfs_t
		if err := unix.Statfs(filepath.Dir(c.Path), &disk); err != nil {
			trouble("disk_error", err)
		} else {
			v["disk_free_octets"] = disk.Bavail * uint64(disk.Bsize)
			v["disk_octets"] = disk.Blocks * uint64(disk.Bsize)
		}
	}
	return indented(v)
}

// system describes the machine. It reads no environment and no command line: both may
// contain secrets.
func (s Source) system(context.Context, *pseudonyms) ([]byte, error) {
	v := map[string]any{
		"processors": runtime.NumCPU(), "gomaxprocs": runtime.GOMAXPROCS(0), "gomemlimit": debug.SetMemoryLimit(-1),
		"goroutines": runtime.NumGoroutine(), "started": s.Started.UTC(), "clock": time.Now().UTC(),
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err == nil {
		v["kernel"] = unix.ByteSliceToString(name.Release[:])
	}
	for key, wanted := range map[string][]string{
		"/etc/os-release":    {"PRETTY_NAME="},
		"/proc/meminfo":      {"MemTotal:", "MemAvailable:", "SwapFree:"},
		"/proc/self/status":  {"VmRSS:", "VmHWM:", "VmSwap:", "Threads:", "CapEff:", "NoNewPrivs:"},
		"/proc/self/limits":  {"Max open files", "Max processes", "Max locked memory"},
		"/proc/loadavg":      {""},
		"/proc/uptime":       {""},
		"/proc/pressure/cpu": {"some"}, "/proc/pressure/io": {"some", "full"}, "/proc/pressure/memory": {"some", "full"},
	} {
		if lines := linesOf(key, wanted); lines != nil {
			v[key] = lines
		}
	}
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		v["open_files"] = len(open)
	}
	return indented(v)
}

// linesOf returns the lines of a file that begin with one of the given words; nil if
// there are none, since not every system has every file.
func linesOf(file string, wanted []string) (lines []string) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(data)) {
		for _, w := range wanted {
			if strings.HasPrefix(line, w) {
				lines = append(lines, strings.Join(strings.Fields(line), " "))
			}
		}
	}
	return lines
}

func (s Source) goroutines(context.Context, *pseudonyms) ([]byte, error) {
	var b bytes.Buffer
	err := pprof.Lookup("goroutine").WriteTo(&b, 1) // 2 would print arguments
	return b.Bytes(), err
}

func (s Source) heap(context.Context, *pseudonyms) ([]byte, error) {
	var b bytes.Buffer
	runtime.GC() // the heap as it is now, and not at the latest collection
	err := pprof.Lookup("heap").WriteTo(&b, 0)
	return b.Bytes(), err
}
