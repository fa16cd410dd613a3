package cli

// allTexts is the whole catalogue: each text once, with its Vietnamese, in one list for
// each group of commands.
func allTexts() [][]text {
	return [][]text{
		valueTexts, generalTexts, accountTexts, sourceTexts, auditTexts, choresTexts, storeTexts, checkTexts, helpTexts, flagTexts,
		protocolTexts,
	}
}

// valueTexts are words that the gateway's answers contain or that are composed, so that
// the code of the commands does not contain them.
var valueTexts = []text{
	// States.
	{"active", "hoạt động"},
	{"expired", "mật khẩu hết hạn"},
	{"expiring", "mật khẩu sắp hết hạn"},
	{"never_seen", "chưa đăng nhập qua cổng thư"},
	{"unknown", "không có tài khoản"},
	{"active account", "tài khoản đang hoạt động"},
	{"locked account", "tài khoản bị khóa"},
	{"revoked account", "tài khoản bị thu hồi"},
	{"expired account", "tài khoản có mật khẩu hết hạn"},
	{"expiring account", "tài khoản có mật khẩu sắp hết hạn"},
	{"never_seen account", "tài khoản chưa đăng nhập qua cổng thư"},
	// Fields of requests.
	{"address", "địa chỉ"},
	{"days", "số ngày"},
	{"hours", "số giờ"},
	{"source", "nguồn"},
	{"reason", "lý do"},
	// Who locks an account, and why.
	{"gateway", "cổng thư"},
	{"wrong_passwords", "nhập sai mật khẩu"},
	{"admin", "quản trị viên"},
	// Words that are equal in both languages.
	{"pepper", "pepper"},
	// Checks of /readyz.
	{"clock", "đồng hồ"},
	// Parts of a support bundle.
	{"the program and how it was built", "chương trình và cách dựng"},
	{"the configuration in force, with defaults, without secrets", "cấu hình đang dùng, kể cả giá trị mặc định, không có bí mật"},
	{"what /readyz finds", "kết quả của /readyz"},
	{"what /metrics says", "nội dung của /metrics"},
	{"the gateway's memory: sizes and counts", "kho dữ liệu của cổng thư: kích thước và số lượng"},
	{"the machine and the process", "máy và tiến trình"},
	{"what the process is doing: functions, no arguments", "việc tiến trình đang làm: tên hàm, không có tham số"},
	{"what holds memory, for go tool pprof: functions, no contents", "phần chiếm bộ nhớ, dùng cho go tool pprof: tên hàm, không có nội dung"},
	{"the log: it has accounts and addresses of clients; if it is asked for, add the part about the trouble, e.g. journalctl -u congthu --since -1h", "nhật ký hoạt động: có tài khoản và địa chỉ máy khách; khi được yêu cầu, hãy gửi kèm phần liên quan đến sự cố, ví dụ journalctl -u congthu --since -1h"},
	{"accounts, audit log, pepper, keys, tokens and passwords: never send them", "tài khoản, nhật ký kiểm toán, pepper, khóa, token và mật khẩu: tuyệt đối không gửi"},
	// Steps of a copy.
	{"checking the audit log of the source", "kiểm tra nhật ký kiểm toán của nguồn"},
	{"copying the audit log", "sao chép nhật ký kiểm toán"},
	{"copying accounts", "sao chép tài khoản"},
	{"checking the audit log of the copy", "kiểm tra nhật ký kiểm toán của bản sao"},
	{"comparing accounts", "so sánh tài khoản"},
}

// usageTexts are the words of cobra's help.
var usageTexts = []text{
	{"Usage:", "Cách dùng:"},
	{"Aliases:", "Tên khác:"},
	{"Examples:", "Ví dụ:"},
	{"Available Commands:", "Các lệnh:"},
	{"Additional Commands:", "Các lệnh khác:"},
	{"Global Flags:", "Tùy chọn chung:"},
	{"Flags:", "Tùy chọn:"},
	{"Additional help topics:", "Chủ đề trợ giúp khác:"},
	{"[command]", "[lệnh]"},
	{`Use "{{.CommandPath}}`, `Dùng "{{.CommandPath}}`},
	{`--help" for more information about a command.`, `--help" để xem thêm về một lệnh.`},
}

// flagWords are texts of the flag library.
var flagWords = []text{
	{"[flags]", "[tùy chọn]"},
	{"(default ", "(mặc định "},
}

// generalTexts belong to no single command.
var generalTexts = []text{
	{"write table or json", "hãy ghi table hoặc json"},
	{"%w\nsee %s --help", "%w\nxem %s --help"},
	{"say which configuration: %s -c /etc/congthu/congthu.yaml", "hãy cho biết tệp cấu hình: %s -c /etc/congthu/congthu.yaml"},
	{"; did you mean %s?", "; có phải ý quý vị là %s?"},
	{"or", "hoặc"},
	{"and", "và"},
	{"%s and %s", "%s và %s"},
	{"%s, %s and %d more", "%s, %s và %d mục khác"},
	{"%s has no command %q%s", "%s không có lệnh %q%s"},
	{"%s takes no argument, and there is %q", "%s không nhận tham số, nhưng có %q"},
	{"unknown flag: --%s", "không có tùy chọn --%s"},
	{"unknown flag: -%s", "không có tùy chọn -%s"},
	{"--%s needs a value", "tùy chọn --%s cần có giá trị"},
	{"%q is no value of --%s: %v", "%q không phải giá trị của --%s: %v"},
	{"it is no number", "không phải là số"},
	{"account", "tài khoản"},
	{"name", "tên"},
	{"event", "sự kiện"},
	{"wrong password", "lần nhập sai mật khẩu"},
	{"locked", "bị khóa"},
	{"revoked", "bị thu hồi"},
	{"from %s", "từ %s"},
	{"Fix:", "Xử lý:"},
	{"Tell:", "Trả lời:"},
	{"Next:", "Tiếp theo:"},
	{"call the gateway's administrator: the gateway's store does not work.", "báo người quản trị cổng thư: kho dữ liệu của cổng thư không hoạt động."},
	{"ok", "đạt"},
	{"warning", "lưu ý"},
	{"failed", "lỗi"},
	{"looking at all accounts", "đang xem mọi tài khoản"},
	{"the gateway gives the same page again and again", "cổng thư trả lại mãi một trang"},
	{"%s does not answer like congthu: %w", "%s không trả lời như cổng thư congthu: %w"},
	{"write --socket or -c, not both: each says where the gateway is", "hãy ghi --socket hoặc -c, không ghi cả hai: mỗi tùy chọn đều cho biết cổng thư ở đâu"},
	{"encode request: %w", "tạo nội dung yêu cầu: %w"},
	{"make request: %w", "tạo yêu cầu: %w"},
	{"read answer of the gateway: %w", "đọc câu trả lời của cổng thư: %w"},
	{"there is no socket %s: is congthu serve running?\nSay where its socket is with --socket PATH, or -c FILE to find it in the configuration\n%s", "không có socket %s: congthu serve có đang chạy không?\nĐề nghị cho biết socket bằng --socket PATH, hoặc -c FILE để tìm trong cấu hình\n%s"},
	{"nobody listens on %s: congthu serve has ended, or its socket is elsewhere (--socket PATH)\n%s", "không có chương trình nào nghe ở %s: congthu serve đã dừng, hoặc socket ở chỗ khác (--socket PATH)\n%s"},
	{nextStatus, "Tiếp theo: systemctl status congthu; nếu không chạy, báo người quản trị cổng thư."},
	{"you may not use %s: %s", "quý vị không có quyền dùng %s: %s"},
	{"the gateway does not answer; call the administrator of the gateway\n%s", "cổng thư không trả lời; đề nghị báo người quản trị cổng thư\n%s"},
	{"there is no configuration file %s: correct the name behind -c", "không có tệp cấu hình %s: đề nghị sửa tên sau -c"},
	{"the configuration %s may not be read: run it with sudo", "không được phép đọc cấu hình %s: đề nghị chạy bằng sudo"},
	{"reach the gateway at %s: %w", "kết nối tới cổng thư ở %s: %w"},
	{"the user that the gateway runs as", "người dùng chạy cổng thư"},
	{"user %s", "người dùng %s"},
	{"run it as root or as %s, with sudo\nFor others set `admin.socket_group` in the configuration, put them into that group, and let it enter the directory", "hãy chạy với quyền root hoặc với tư cách %s, bằng sudo\nĐể người khác dùng được, hãy đặt `admin.socket_group` trong cấu hình, thêm họ vào nhóm đó và cho nhóm vào thư mục"},
	{"it is for %s and the group %s\nRun it with sudo, or have an administrator add you: usermod -aG %s %s; then log in again", "socket này dành cho %s và nhóm %s\nHãy chạy bằng sudo, hoặc đề nghị quản trị viên thêm quý vị: usermod -aG %s %s; sau đó đăng nhập lại"},
	{"in the original words: «%s»", "nguyên văn: «%s»"},
	{"user", "người dùng"},
	{"administrator %s", "quản trị viên %s"},
	{"the %s must have at least %s characters", "%s phải có ít nhất %s ký tự"},
	{"the gateway answers %d %s", "cổng thư trả lời %d %s"},
}
