package admin

import (
	"context"
	"errors"
	"testing"
)

// Who is called about a fault, and what they are told.
func TestAFaultNamesWhomToCall(t *testing.T) {
	ok := Condition{OK: true}
	refused := func(port string) Condition {
		return Condition{Error: "dial tcp 192.0.2.1:" + port + ": connect: connection refused", Address: "192.0.2.1:" + port}
	}
	full := Condition{Error: "database or disk is full"}
	for _, c := range []struct {
		name   string
		checks map[string]Condition
		en, vi string
	}{
		{"nothing", map[string]Condition{"store": ok, "imap upstream": ok}, "", ""},
		{"not known yet", map[string]Condition{"store": ok, "imap upstream": {Error: ErrNotProbed.Error(), Address: "192.0.2.1:143"}}, "", ""},
		{"shutting down", leaving.Checks, "", ""},
		{
			"SMTP", map[string]Condition{"store": ok, "imap upstream": ok, "smtp upstream": refused("25")},
			"call the mail server's administrator: its SMTP at 192.0.2.1:25 does not answer; the gateway is in order.",
			"báo người quản trị máy chủ thư: SMTP ở 192.0.2.1:25 không trả lời; cổng thư không có lỗi.",
		},
		{
			"IMAP and SMTP", map[string]Condition{"store": ok, "imap upstream": refused("143"), "smtp upstream": refused("25")},
			"call the mail server's administrator: its IMAP at 192.0.2.1:143 and its SMTP at 192.0.2.1:25 do not answer; the gateway is in order.",
			"báo người quản trị máy chủ thư: IMAP ở 192.0.2.1:143 và SMTP ở 192.0.2.1:25 không trả lời; cổng thư không có lỗi.",
		},
		{
			"IMAP of an older gateway", map[string]Condition{"imap upstream": {Error: "EOF"}},
			"call the mail server's administrator: its IMAP does not answer; the gateway is in order.",
			"báo người quản trị máy chủ thư: IMAP không trả lời; cổng thư không có lỗi.",
		},
		{
			"a certificate", map[string]Condition{"store": ok, "imap upstream": {Error: "tls: failed to verify certificate: x509: certificate signed by unknown authority", Address: "192.0.2.1:993"}},
			"call the mail server's administrator: its IMAP at 192.0.2.1:993 cannot be used over TLS; if nothing was changed there, congthu check names the setting of the gateway that does not fit.",
			"báo người quản trị máy chủ thư: IMAP ở 192.0.2.1:993 không dùng được qua TLS; nếu ở đó không có gì thay đổi, congthu check cho biết thiết lập nào của cổng thư không phù hợp.",
		},
		{
			"one that does not answer and one with another certificate", map[string]Condition{
				"imap upstream": refused("143"), "smtp upstream": {Error: "STARTTLS: x509: certificate has expired", Address: "192.0.2.1:25"},
			},
			"call the mail server's administrator: its IMAP at 192.0.2.1:143 does not answer, its SMTP at 192.0.2.1:25 cannot be used over TLS; " +
				"if nothing was changed there, congthu check names the setting of the gateway that does not fit.",
			"báo người quản trị máy chủ thư: IMAP ở 192.0.2.1:143 không trả lời, SMTP ở 192.0.2.1:25 không dùng được qua TLS; " +
				"nếu ở đó không có gì thay đổi, congthu check cho biết thiết lập nào của cổng thư không phù hợp.",
		},
		{
			"the store", map[string]Condition{"store": full, "imap upstream": ok},
			"call the gateway's administrator: the gateway's store does not work (read out the fault above); the mail server answers.",
			"báo người quản trị cổng thư: kho dữ liệu của cổng thư không hoạt động (đọc nội dung lỗi ở trên); máy chủ thư vẫn trả lời.",
		},
		{
			"the store, and the mail server is not known yet", map[string]Condition{"store": full, "imap upstream": {Error: ErrNotProbed.Error()}},
			"call the gateway's administrator: the gateway's store does not work (read out the fault above).",
			"báo người quản trị cổng thư: kho dữ liệu của cổng thư không hoạt động (đọc nội dung lỗi ở trên).",
		},
		{
			"both", map[string]Condition{"store": full, "imap upstream": refused("143")},
			"call the gateway's administrator: the gateway's store does not work (read out the fault above); and call the mail server's administrator: its IMAP at 192.0.2.1:143 does not answer.",
			"báo người quản trị cổng thư: kho dữ liệu của cổng thư không hoạt động (đọc nội dung lỗi ở trên); đồng thời báo người quản trị máy chủ thư: IMAP ở 192.0.2.1:143 không trả lời.",
		},
	} {
		f := Readiness{Checks: c.checks}.Fault()
		if f.NextEN != c.en || f.NextVI != c.vi {
			t.Errorf("%s:\n got %q\nwant %q\n got %q\nwant %q", c.name, f.NextEN, c.en, f.NextVI, c.vi)
		}
	}
}

// An account names it as well, once, whatever else is wrong with the account.
func TestAnAccountNamesWhomToCallDuringAnOutage(t *testing.T) {
	f := newFixture(t)
	f.Checks = []Check{up("imap upstream"), {Name: "smtp upstream", Run: func(context.Context) error { return errors.New("refused") }, Address: func() string { return "127.0.0.1:1" }}}
	f.lockedByGuessing("binh@x.vn")
	for _, name := range []string{"an@x.vn", "binh@x.vn", "new@x.vn"} {
		said := 0
		for _, w := range decode[Account](t, f.request("GET", base+"/accounts/"+name, ""), 200).Why {
			switch {
			case w.NextEN == "" && w.NextVI == "":
			case w.NextEN == "call the mail server's administrator: its SMTP at 127.0.0.1:1 does not answer; the gateway is in order." &&
				w.NextVI == "báo người quản trị máy chủ thư: SMTP ở 127.0.0.1:1 không trả lời; cổng thư không có lỗi.":
				said++
			default:
				t.Errorf("%s: %q, %q", name, w.NextEN, w.NextVI)
			}
		}
		if said != 1 {
			t.Errorf("%s: it is said %d times whom to call", name, said)
		}
	}
}
