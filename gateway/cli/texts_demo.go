package cli

import "strings"

// demoTexts are the words of the demo's guide; the lines between them are commands.
var demoTexts = []text{
	{"congthu demo: a mail server in memory, and the gateway in front of it", "congthu demo: máy chủ thư thử nghiệm trong bộ nhớ, và cổng thư đứng trước nó"},
	{"submission  {{", "gửi thư     {{"},
	{"admin       http", "quản trị    http"},
	{"state       {{", "trạng thái  {{"},
	{"removed at the end; --dir DIRECTORY keeps it", "xóa khi dừng; --dir DIRECTORY thì giữ lại"},
	{"Accounts, all with the password {{", "Các tài khoản, cùng một mật khẩu {{"},
	{"can log in\n", "đăng nhập được\n"},
	{"is told that the password runs out", "được báo mật khẩu sắp hết hạn"},
	{"password older than 3 months (Art. 9)", "mật khẩu quá 3 tháng (Điều 9)"},
	{"not logged in to for 13 months (Art. 5.3.c)", "không đăng nhập 13 tháng (Điều 5.3.c)"},
	{"6 wrong passwords (Art. 6.2.d)", "6 lần nhập sai mật khẩu (Điều 6.2.d)"},
	{"had the password {{.Previous}} before: a phone still tries it", "trước đây có mật khẩu {{.Previous}}: một điện thoại vẫn dùng mật khẩu đó"},
	{"Try, in another terminal:", "Thử, ở một cửa sổ dòng lệnh khác:"},
	{"# log in and list folders", "# đăng nhập và liệt kê thư mục"},
	{"# send a mail, and read it back", "# gửi một thư, rồi đọc lại"},
	{"# read it over POP3", "# đọc thư đó qua POP3"},
	{"# seven wrong passwords: the sixth locks, the seventh is told so", "# bảy lần nhập sai mật khẩu: lần thứ sáu khóa, lần thứ bảy được báo bị khóa"},
	{"# why can somebody not log in?", "# vì sao không đăng nhập được?"},
	{"# unlock\n", "# mở khóa\n"},
	{"# the same on the command line", "# xem bằng dòng lệnh"},
	{"# what Prometheus sees", "# những gì Prometheus thấy"},
	{"# a device with the password from before a change; an account not used for 12 months", "# thiết bị còn mật khẩu cũ (trước khi đổi); tài khoản không đăng nhập quá 12 tháng"},
	{"called, identity checked", "đã gọi lại, xác minh danh tính"},
	{"Ready. Stop with Ctrl-C.", "Đã sẵn sàng. Dừng bằng Ctrl-C."},
}

// demoGuideIn returns the demo's guide in a language.
func demoGuideIn(l language) string {
	guide := demoGuideText
	if l == vietnamese {
		for _, t := range demoTexts {
			guide = strings.Replace(guide, t.en, t.vi, 1)
		}
	}
	return guide
}
