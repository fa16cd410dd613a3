package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"congthu/gateway/admin"
	"congthu/gateway/config"
)

// socketVariable names the environment variable with the path of the admin socket.
const socketVariable = "CONGTHU_SOCKET"

// usualSockets are the default paths: in the directory that systemd creates, as the
// package's configuration has it, and in the data directory.
var usualSockets = []string{"/run/congthu/admin.sock", "/var/lib/congthu/admin.sock"}

// socketUsage is the help text of --socket.
var socketUsage = "the gateway's admin `SOCKET` (default $" + socketVariable + ", or " + strings.Join(usualSockets, ", or ") + ")"

// usualSocket returns the first candidate that exists or that this user may not look
// at: connecting then reports the missing permission. If none exists, it is the
// package's path.
func usualSocket(candidates []string) string {
	for _, name := range candidates {
		if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			return name
		}
	}
	return candidates[0]
}

// defaultZone is the time zone when no configuration names one.
const defaultZone = "Asia/Ho_Chi_Minh"

// patience is the time limit for an answer of the gateway.
const patience = 40 * time.Second

// hungAfter is how long a request waits before the gateway is asked whether it is
// alive, and how long it has to say so.
const hungAfter = 5 * time.Second

// maxAnswer limits the size of one answer.
const maxAnswer = 64 << 20

// client calls the running gateway through its admin socket.
type client struct {
	socket string
	// flags are the flags that selected the socket. Commands suggested to the user
	// repeat them.
	flags string
	// zone is the time zone in which times are printed.
	zone *time.Location
	http http.Client
}

// connection holds the flags of a command that say where the gateway is.
type connection struct{ socket, file string }

func (c *connection) addFlags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&c.socket, "socket", "", socketUsage)
	f.StringVarP(&c.file, "config", "c", "", "find the socket and the time zone in this configuration `FILE`")
	must(cmd.MarkPersistentFlagFilename("config", "yaml", "yml"))
}

// client selects the socket: --socket, -c, the environment variable, the default.
func (c *connection) client() (*client, error) {
	cl := &client{socket: usualSocket(usualSockets)}
	zone, err := time.LoadLocation(defaultZone)
	if err != nil {
		zone = time.FixedZone("+07", 7*60*60)
	}
	cl.zone = zone
	switch {
	case c.socket != "" && c.file != "":
		return nil, &exitError{exitUsage, sentence("write --socket or -c, not both: each says where the gateway is")}
	case c.socket != "":
		cl.socket, cl.flags = c.socket, " --socket "+quote(c.socket)
	case c.file != "":
		found, err := config.Peek(c.file)
		if err != nil {
			return nil, badConfig(err)
		}
		cl.socket, cl.zone, cl.flags = found.Admin.Socket, found.Regulation.TimeZone, " -c "+quote(c.file)
	case os.Getenv(socketVariable) != "":
		cl.socket = os.Getenv(socketVariable)
	}
	cl.http.Transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", cl.socket)
		},
		DisableKeepAlives: true,
	}
	return cl, nil
}

// quote quotes a word for a shell if necessary.
func quote(word string) string {
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool {
		return !(r == '/' || r == '.' || r == '-' || r == '_' || r == '@' || r == '+' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	}) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

func (c *client) get(ctx context.Context, path string, query url.Values, into any) (json.RawMessage, error) {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.do(ctx, http.MethodGet, path, nil, into)
}

func (c *client) post(ctx context.Context, path string, body, into any) (json.RawMessage, error) {
	return c.do(ctx, http.MethodPost, path, body, into)
}

// do makes one request and decodes the answer. It also returns the answer unchanged,
// for --output json.
func (c *client) do(ctx context.Context, method, path string, body, into any) (json.RawMessage, error) {
	var content io.Reader
	kind := ""
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, errorf("encode request: %w", err)
		}
		content, kind = bytes.NewReader(encoded), "application/json"
	}
	return c.send(ctx, method, path, kind, content, into)
}

// send is do with a body of any content type.
func (c *client) send(ctx context.Context, method, path, kind string, content io.Reader, into any) (json.RawMessage, error) {
	r, err := newRequest(ctx, method, path, content)
	if err != nil {
		return nil, err
	}
	if content != nil {
		r.Header.Set("Content-Type", kind)
	}
	data, err := c.answer(r)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return nil, errorf("%s does not answer like congthu: %w", c.socket, err)
	}
	return data, nil
}

// answer makes a request and returns the body of the answer. A status other than 200 is
// an error.
func (c *client) answer(r *http.Request) ([]byte, error) {
	status, data, err := c.ask(r)
	if err == nil && status != http.StatusOK {
		err = refused(status, data)
	}
	return data, err
}

// ask makes a request and returns the answer with any status.
func (c *client) ask(r *http.Request) (status int, data []byte, err error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	watched := time.AfterFunc(hungAfter, func() {
		if c.hangs(ctx) {
			cancel(context.DeadlineExceeded)
		}
	})
	defer watched.Stop()
	answer, err := c.http.Do(r.WithContext(ctx))
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, context.DeadlineExceeded) {
			err = cause
		}
		return 0, nil, c.unreached(err)
	}
	defer answer.Body.Close()
	if data, err = io.ReadAll(io.LimitReader(answer.Body, maxAnswer)); err != nil {
		return 0, nil, errorf("read answer of the gateway: %w", err)
	}
	return answer.StatusCode, data, nil
}

// hangs reports whether the gateway does not even answer that it is alive. One that is
// only slow, as with many accounts or a busy database, does.
func (c *client) hangs(ctx context.Context) bool {
	limited, cancel := context.WithTimeout(ctx, hungAfter)
	defer cancel()
	r, err := http.NewRequestWithContext(limited, http.MethodGet, "http://congthu/healthz", nil)
	if err != nil {
		return false
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return ctx.Err() == nil && limited.Err() != nil
	}
	answer.Body.Close()
	return false
}

// newRequest returns a request to the API. The host name has no meaning on a Unix
// socket.
func newRequest(ctx context.Context, method, path string, content io.Reader) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://congthu/api/v1"+path, content)
	if err != nil {
		return nil, errorf("make request: %w", err)
	}
	if name := os.Getenv("SUDO_USER"); name != "" {
		r.Header.Set(admin.SudoHeader, name) // for the audit: the administrator who used sudo
	}
	return r, nil
}

// downError reports a gateway that does not run or does not answer.
type downError struct{ error }

func (e downError) Unwrap() error { return e.error }

func down(format string, args ...any) error { return downError{errorf(format, args...)} }

// unseenError reports a socket that is not there. Only its path may be wrong, so it
// proves no fault of the gateway.
type unseenError struct{ error }

func (e unseenError) Unwrap() error { return e.error }

// nextStatus is what support staff do about a gateway that does not answer.
const nextStatus = "Next: systemctl status congthu; if it is not running, call the gateway's administrator."

// unreached says what to do about a gateway that cannot be reached.
func (c *client) unreached(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist): // the gateway may run with its socket at another path
		return unseenError{errorf("there is no socket %s: is congthu serve running?\nSay where its socket is with --socket PATH, or -c FILE to find it in the configuration\n%s", c.socket, tr(nextStatus))}
	case errors.Is(err, syscall.ECONNREFUSED):
		return down("nobody listens on %s: congthu serve has ended, or its socket is elsewhere (--socket PATH)\n%s", c.socket, tr(nextStatus))
	case errors.Is(err, fs.ErrPermission):
		return errorf("you may not use %s: %s", c.socket, whoMay(c.socket))
	case errors.Is(err, context.DeadlineExceeded):
		return down("the gateway does not answer; call the administrator of the gateway\n%s", tr(nextStatus))
	}
	return errorf("reach the gateway at %s: %w", c.socket, err)
}

// whoMay says which users may use a socket, as far as this user may know.
func whoMay(socket string) string {
	owner, group := tr("the user that the gateway runs as"), ""
	if info, err := os.Stat(socket); err == nil {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			owner = trf("user %s", userName(stat.Uid))
			if stat.Gid != 0 { // no user should join the group root for this
				group = groupName(stat.Gid)
			}
		}
	}
	if group == "" {
		return trf("run it as root or as %s, with sudo\nFor others set `admin.socket_group` in the configuration, put them into that group, and let it enter the directory", owner)
	}
	return trf("it is for %s and the group %s\nRun it with sudo, or have an administrator add you: usermod -aG %s %s; then log in again", owner, group, quote(group), currentUser())
}

func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

func groupName(gid uint32) string {
	id := strconv.FormatUint(uint64(gid), 10)
	if g, err := user.LookupGroupId(id); err == nil {
		return g.Name
	}
	return id
}

func currentUser() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "$USER"
}

// refusal is the gateway's reason for refusing a request (RFC 9457).
type refusal struct {
	status int
	answer json.RawMessage
	Title  string `json:"title"`
	Detail string `json:"detail"`
	// What to tell the user in the meantime; see admin.Account.
	TellEN string `json:"tell_en"`
	TellVI string `json:"tell_vi"`
	// An older gateway has no Vietnamese text.
	DetailVI string `json:"detail_vi"`
	// Stopped is set for an import that stopped before its end; see admin.Server.
	Stopped bool `json:"stopped"`
	Errors  []struct {
		Location  string `json:"location"`
		Message   string `json:"message"`
		MessageVI string `json:"message_vi"`
		// Set for a list of accounts; see admin.ListError.
		Line   int    `json:"line"`
		Column int    `json:"column"`
		Field  string `json:"field"`
	} `json:"errors"`
}

func (r *refusal) Error() string {
	text := either(r.Detail, r.DetailVI)
	if text == "" {
		text = r.Title
	}
	if text == "" {
		text = http.StatusText(r.status)
	}
	if len(r.Errors) > 0 {
		var fields []string
		for _, e := range r.Errors {
			name, what := e.Location[strings.LastIndexByte(e.Location, '.')+1:], either(e.Message, e.MessageVI)
			if what != e.Message {
				name = tr(name)
			}
			if m := tooShort.FindStringSubmatch(e.Message); m != nil {
				fields = append(fields, trf("the %s must have at least %s characters", tr(name), m[1]))
				continue
			}
			fields = append(fields, clean(name+" "+what))
		}
		text = strings.Join(fields, "; ")
	}
	return clean(text)
}

func refused(status int, data []byte) error {
	r := &refusal{}
	if err := json.Unmarshal(data, r); err != nil || r.Title == "" && r.Detail == "" {
		return errorf("the gateway answers %d %s", status, http.StatusText(status))
	}
	r.status, r.answer = status, data
	return r
}
