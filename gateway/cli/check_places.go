package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"congthu/gateway"
	"congthu/gateway/config"
)

// directories checks that serve can create its directories or use the existing ones. It
// creates none itself.
func (k *check) directories() {
	c := k.config
	seen := make(map[string]bool)
	for _, d := range []struct{ setting, path string }{
		{"data_dir", c.DataDir},
		{"store.path", filepath.Dir(c.Store.Path)},
		{"store.pepper_file", filepath.Dir(c.Store.PepperFile)},
		{"admin.socket", filepath.Dir(c.Admin.Socket)},
	} {
		if seen[d.path] || d.setting == "admin.socket" && c.Admin.Socket == "" || d.setting == "store.path" && c.Store.Driver != config.StoreSQLite {
			continue
		}
		seen[d.path] = true
		err := usable(d.path)
		if err == nil {
			k.room(d.setting, d.path)
			continue
		}
		k.say("failed", "directory", trf("%s cannot be used: %v (%s, %s). Fix: name a directory that the gateway's user may write in, or make it: install -d -o congthu -g congthu -m 0700 %s",
			d.path, err, d.setting, c.Where(d.setting), quote(d.path)))
	}
}

// Free space that the disk should have. Below noRoom the gateway will soon be unable to
// write, and then only users whose password is known can log in. The second figure is
// the audit log of a large gateway for one day.
const (
	noRoom     = 1 << 20
	littleRoom = 100 << 20
)

// room checks the free space on the disk of a directory.
func (k *check) room(setting, path string) {
	at, err := nearest(path)
	var disk unix.Statfs_t
	if err == nil {
		err = unix.Statfs(at, &disk)
	}
	if err != nil {
		k.say("warning", "directory", trf("%s: how much room is left cannot be seen: %v", path, err))
		return
	}
	switch left := disk.Bavail * uint64(disk.Bsize); {
	case left < noRoom:
		k.say("failed", "directory", trf("%s: the disk is full, %d KiB are left (%s, %s). Fix: make room there, or name a directory on another disk", path, left>>10, setting, k.config.Where(setting)))
	case left < littleRoom:
		k.say("warning", "directory", trf("%s: %d MiB are left on the disk (%s, %s): make room there before it is full", path, left>>20, setting, k.config.Where(setting)))
	}
}

// nearest returns the path itself if it exists, otherwise the nearest existing
// directory above it.
func nearest(path string) (at string, err error) {
	for at = path; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at):
			continue
		case err != nil:
			return "", err
		case !info.IsDir():
			return "", &fs.PathError{Op: "use", Path: at, Err: syscall.ENOTDIR}
		}
		return at, nil
	}
}

// usable reports why files cannot be created in a directory, or in the nearest existing
// directory above it.
func usable(path string) error {
	at, err := nearest(path)
	if err != nil {
		return err
	}
	if err := unix.Access(at, unix.W_OK|unix.X_OK); err != nil {
		return &fs.PathError{Op: "write in", Path: at, Err: err}
	}
	return nil
}

// addresses checks that serve can listen. A running gateway with this configuration
// already holds its addresses, and systemd may hold them for it.
func (k *check) addresses() {
	running := runningAt(k.config.Admin.Socket)
	for _, failed := range gateway.TryAddresses(k.config) {
		var fix string
		switch {
		case errors.Is(failed, syscall.EADDRINUSE):
			pid, program := holder(failed.Address)
			switch {
			case pid == 0 && running != 0, pid != 0 && pid == running:
				k.say("ok", "listen", trf("%s (%s): the gateway that runs has it", failed.Address, failed.Setting))
				continue
			case pid == 1 && program == "systemd":
				k.say("ok", "listen", trf("%s (%s): systemd has it, which should be for congthu.socket (systemctl list-sockets)", failed.Address, failed.Setting))
				continue
			case pid != 0:
				fix = trf("stop %s (process %d) or move it to another address", program, pid)
			default:
				fix = tr("stop that program or move it to another address; root is told which it is")
			}
		case errors.Is(failed, os.ErrPermission):
			// The service may have permissions that this user lacks.
			k.say("warning", "listen", fmt.Sprintf("%v (%s)", listening(failed), k.config.Where(failed.Setting)))
			continue
		default:
			fix = tr("write an address of this machine")
		}
		k.say("failed", "listen", trf("%v (%s). Fix: %s", listening(failed), k.config.Where(failed.Setting), fix))
	}
}

// runningAt returns the id of the process that listens on an admin socket; 0 if there
// is none.
func runningAt(socket string) int {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return 0
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	if err := raw.Control(func(fd uintptr) {
		if peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(peer.Pid)
		}
	}); err != nil {
		return 0
	}
	return pid
}

// holder finds the process that listens on a TCP port, as far as this user may see it:
// proc(5), /proc/net/tcp and /proc/PID/fd. 0 means unknown.
func holder(address string) (pid int, program string) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0, ""
	}
	number, err := net.LookupPort("tcp", port)
	if err != nil {
		return 0, ""
	}
	sockets := make(map[string]bool)
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			continue // a machine without IPv6 or without /proc
		}
		const listening = "0A"
		for line := range strings.Lines(string(text)) {
			// sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode
			f := strings.Fields(line)
			if len(f) > 9 && f[3] == listening && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", number)) {
				sockets["socket:["+f[9]+"]"] = true
			}
		}
	}
	files, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return 0, ""
	}
	for _, file := range files {
		if target, err := os.Readlink(file); err != nil || !sockets[target] {
			continue // closed meanwhile, of another process, or not a socket
		}
		process := filepath.Dir(filepath.Dir(file))
		name, err := os.ReadFile(filepath.Join(process, "comm"))
		if err != nil {
			continue
		}
		if _, err := fmt.Sscanf(filepath.Base(process), "%d", &pid); err != nil {
			continue
		}
		return pid, strings.TrimSpace(string(name))
	}
	return 0, ""
}
