package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/user"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"congthu/gateway/scope"
)

// peerKey is the key of the peer in a connection's context.
type peerKey struct{}

// withPeer records the owner of the process at the other end of a Unix socket, at the
// time of the connection (unix(7), SO_PEERCRED).
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil || credErr != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, credential{cred.Uid, actorOf(cred.Uid)})
}

// credential identifies the process at the other end of the Unix socket.
type credential struct {
	uid   uint32
	actor string
}

// SudoHeader is the header in which a client on the Unix socket names the user who
// called it through sudo (SUDO_USER of sudo(8)). It is not verified, so the audit log
// names it after the user that the kernel verified. It is accepted only from root and
// from the gateway's own user, accounts that several people may use: others are already
// identified by their own user.
const SudoHeader = "Congthu-Sudo-User"

// forWhom adds to an actor the user who called the client through sudo.
func forWhom(c credential, header http.Header) string {
	said := header.Values(SudoHeader)
	if len(said) != 1 || c.uid != 0 && c.uid != uint32(os.Getuid()) || !userName.MatchString(said[0]) {
		return c.actor
	}
	return c.actor + ", sudo user " + said[0]
}

// userName matches user names of systems and directories.
var userName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._@\\-]{0,63}$`)

// actorOf names a user in the audit log: by the number, which the kernel verified, and
// by the name, for human readers.
func actorOf(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	name := "unknown"
	if u, err := user.LookupId(id); err == nil && !strings.ContainsFunc(u.Username, func(r rune) bool { return !unicode.IsPrint(r) }) {
		name = u.Username
	}
	return fmt.Sprintf("uid:%s (%s)", id, name)
}

// peer identifies the caller by the other end of the Unix socket. Every process that
// may open the socket's file has every scope.
func peer(r *http.Request) (caller, error) {
	c, ok := r.Context().Value(peerKey{}).(credential)
	if !ok {
		return caller{}, errors.New("the socket does not tell who is at the other end")
	}
	return caller{actor: forWhom(c, r.Header), scopes: scope.All()}, nil
}

// ListenSocket listens on a Unix socket at path that its owner and group may open
// (0660). The group is a name or a number; empty keeps the group of the process. It
// replaces a socket left behind by a dead process; a socket with a live listener, or a
// file that is not a socket, is an error. Closing the listener removes the file.
func ListenSocket(path, group string) (net.Listener, error) {
	gid, err := lookupGroup(group)
	if err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	file := os.NewFile(uintptr(fd), path)
	defer file.Close() // net.FileListener duplicates it
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		if errors.Is(err, unix.EINVAL) && len(path) > 100 {
			return nil, fmt.Errorf("admin socket %s: the path is too long for a socket (108 octets)", path)
		}
		return nil, fmt.Errorf("admin socket %s: bind: %w", path, err)
	}
	listener, err := openSocket(file, path, gid)
	if err != nil {
		os.Remove(path)
		return nil, fmt.Errorf("admin socket %s: %w", path, err)
	}
	return listener, nil
}

// openSocket sets the permissions before it listens: until then no process can connect,
// whatever the umask permits.
func openSocket(file *os.File, path string, gid int) (net.Listener, error) {
	if gid >= 0 {
		if err := os.Chown(path, -1, gid); err != nil {
			return nil, err
		}
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, err
	}
	if err := unix.Listen(int(file.Fd()), unix.SOMAXCONN); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	listener, err := net.FileListener(file)
	if err != nil {
		return nil, err
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(true)
	return listener, nil
}

// removeStale removes a socket without a listener.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("admin socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("admin socket %s: there is a file that is no socket", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		conn.Close()
		return fmt.Errorf("admin socket %s: another process listens there", path)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case !errors.Is(err, syscall.ECONNREFUSED):
		// The listener is alive but overloaded, or this process may not open the
		// socket: it must not be removed.
		return fmt.Errorf("admin socket %s: is it in use? %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("admin socket: %w", err)
	}
	return nil
}

// lookupGroup returns the number of a group; -1 for the empty name.
func lookupGroup(group string) (int, error) {
	if group == "" {
		return -1, nil
	}
	if gid, err := strconv.ParseUint(group, 10, 31); err == nil {
		return int(gid), nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, fmt.Errorf("admin socket: %w", err)
	}
	return strconv.Atoi(g.Gid)
}
