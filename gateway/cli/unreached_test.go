package cli

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"
)

// A missing socket proves nothing about the gateway, whether its path is a default or
// was given: users must not hear that the gateway has a fault. Whatever the reason,
// the next command is named.
func TestAnUnreachedGatewayNamesTheNextCommand(t *testing.T) {
	for locale, next := range map[string]string{
		"C.UTF-8":     "Next: systemctl status congthu; if it is not running, call the gateway's administrator.",
		"vi_VN.UTF-8": "Tiếp theo: systemctl status congthu; nếu không chạy, báo người quản trị cổng thư.",
	} {
		t.Setenv("LC_ALL", locale)
		for cause, fault := range map[error]bool{fs.ErrNotExist: false, syscall.ECONNREFUSED: true, context.DeadlineExceeded: true} {
			err := (&client{socket: "/nowhere/admin.sock"}).unreached(cause)
			var d downError
			if got := errors.As(err, &d); got != fault {
				t.Errorf("%v: the gateway is said to have a fault: %t", cause, got)
			}
			if !strings.Contains(err.Error(), next) || strings.Contains(err.Error(), "context deadline") {
				t.Errorf("%s, %v: %q", locale, cause, err)
			}
			var screen strings.Builder
			(&client{}).printTellMeanwhile(&screen, "an@example.vn", err)
			if claims := strings.Contains(screen.String(), "is not in order") || strings.Contains(screen.String(), "đang gặp sự cố"); claims != fault || screen.Len() == 0 {
				t.Errorf("%s, %v: the user hears %q", locale, cause, screen.String())
			}
		}
	}
}

func TestAMissingConfigurationIsNamedInTheUsersLanguage(t *testing.T) {
	for locale, want := range map[string]string{
		"C.UTF-8":     "there is no configuration file /etc/nope.yaml: correct the name behind -c",
		"vi_VN.UTF-8": "không có tệp cấu hình /etc/nope.yaml: đề nghị sửa tên sau -c",
	} {
		t.Setenv("LC_ALL", locale)
		_, err := (&connection{file: "/etc/nope.yaml"}).client()
		if err == nil || err.Error() != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
