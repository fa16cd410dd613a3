package cli

import "regexp"

// How texts of the gateway begin, and how they differ from a person's.
const (
	unitText   = "unit "
	mergedText = "merged with "
	unusedText = "not logged in to since "
)

var (
	// importedField matches what follows the name of a unit.
	importedField = regexp.MustCompile(`^(registered|last login|password since) \d{4}-`)
	// ownReason matches the beginning of the reason of a revocation, to which an
	// administrator may have added.
	ownReason = regexp.MustCompile(`^` + unusedText + `(\d{4}-\d\d-\d\d \d\d:\d\d [-+]\d\d:\d\d)(?:: (.*))?$`)
	// tooShort is the API's answer to a text that is too short.
	tooShort = regexp.MustCompile(`^expected length >= (\d+)$`)
)

// eventTexts are the texts that the gateway writes into events. The events stay English
// because hashes cover them. %s stands for names, figures and instants, in the same
// order in both languages. A finished text is recognized by its form: the first pattern
// that matches is used.
var eventTexts = []text{
	// The result of an act; what follows the colon is one of these texts.
	{"merged with another name: %s", "đã hợp nhất với một tên khác: %s"},
	{"merged with %s: %s", "đã hợp nhất với %s: %s"},
	{"merged into %s", "đã hợp nhất vào %s"},

	// An import.
	{"%s accounts, list %s", "%s tài khoản, danh sách %s"},
	{"begun", "đã bắt đầu"},
	{"%s new, %s changed, %s as before", "%s mới, %s thay đổi, %s giữ nguyên"},

	// The state of an account.
	{"no account", "chưa có tài khoản"},
	{"nothing known", "chưa ghi nhận gì"},
	{"unknown", "chưa biết"},
	{"imported", "đã nhập từ danh sách"},
	{"active", "hoạt động"},
	{"unlocked", "đã mở khóa"},
	{"not locked", "không bị khóa"},
	{"locked", "bị khóa"},
	{"revoked", "bị thu hồi"},
	{"restored", "đã khôi phục"},
	{"now", "bây giờ"},
	{"nothing to unlock; forgiven at every gateway", "không có gì phải mở khóa; mọi cổng thư đã xóa các lần nhập sai"},
	{"locked by %s wrong password", "bị khóa do %s lần nhập sai mật khẩu"},
	{"locked by %s wrong passwords", "bị khóa do %s lần nhập sai mật khẩu"},
	{"locked by admin", "bị quản trị viên khóa"},
	{"locked by %s", "bị khóa bởi %s"},
	{"%s wrong password on %s", "%s lần nhập sai mật khẩu ngày %s"},
	{"%s wrong passwords on %s", "%s lần nhập sai mật khẩu ngày %s"},
	{"%s wrong password", "%s lần nhập sai mật khẩu"},
	{"%s wrong passwords", "%s lần nhập sai mật khẩu"},
	{"%s tolerated", "cho phép %s lần"},
	{"%s more not written yet", "%s lần nữa chưa được ghi"},
	{"refused for now from %s (%s)", "tạm thời bị từ chối từ %s (%s)"},
	{"from %s", "từ %s"},
	{"the lock ended by itself after %s", "khóa tự hết hạn sau %s"},

	// The known facts of an account.
	{"unit %s", "đơn vị %s"},
	{"registered %s", "cấp ngày %s"},
	{"last login %s", "đăng nhập gần nhất %s"},
	{"password since %s", "mật khẩu từ %s"},
	{"restored %s", "khôi phục %s"},
	{"no grace", "không có gia hạn"},
	{"grace until %s", "gia hạn đến %s"},

	// The reasons.
	{"the mail server gave no answer after the password was sent", "máy chủ thư không trả lời sau khi nhận mật khẩu"},
	{"the gateway ended before it could note what the mail server answered", "cổng thư dừng trước khi ghi được câu trả lời của máy chủ thư"},
	{"a login with another password than before", "đăng nhập bằng mật khẩu khác trước"},
	{"unused since %s", "không sử dụng từ %s"},
	{"not logged in to since %s", "không đăng nhập từ %s"},
	{"the configuration has changed, and no other gateway runs", "cấu hình đã thay đổi, và không có cổng thư nào khác đang chạy"},
	{"%s events are removed, the last of them of %s: the audit log is kept for %s days", "đã xóa %s sự kiện, sự kiện cuối trong số đó lúc %s: nhật ký kiểm toán được giữ %s ngày"},
	{"account of the demo", "tài khoản của bản chạy thử"},

	// Sources.
	{"%s not allowed", "%s không được cho phép"},
	{"%s allowed until %s", "%s được phép đến %s"},

	// The clock.
	{"the clock was set ahead by %s, or the machine was suspended for that long", "đồng hồ bị chỉnh nhanh thêm %s, hoặc máy tạm ngừng lâu như vậy"},
	{"the clock was set back by %s", "đồng hồ bị chỉnh lùi %s"},
	{"the database's clock shows %s and this machine's %s", "đồng hồ của cơ sở dữ liệu là %s và của máy này là %s"},
	{"the newest event of the audit log is of %s, and the clock shows %s: it is behind, or it was ahead", "sự kiện mới nhất của nhật ký kiểm toán lúc %s, còn đồng hồ chỉ %s: đồng hồ chậm, hoặc trước đó đã nhanh"},
	{"the clock is right", "đồng hồ đúng"},
}

// failureTexts translate failures reported by the operating system and by libraries.
// They are found inside a longer text.
var failureTexts = []struct{ found, en, vi string }{
	{`(?:connect: )?dial tcp ([^\s]+): (?:connect: )?connection refused`, "no program listens at $1 (connection refused)", "không có chương trình nào nghe ở $1 (connection refused)"},
	{`(?:connect: )?dial tcp ([^\s]+): (?:i/o timeout|connect: connection timed out)`, "$1 does not answer in time", "$1 không trả lời kịp"},
	{`(?:write: )?no space left for the database[^:)]*`, "the disk of the gateway is full", "đĩa của cổng thư đã đầy"},
	{`the server takes passwords over TLS only, and offers STARTTLS for it`, "the server takes passwords over TLS only, and offers STARTTLS for it", "máy chủ chỉ nhận mật khẩu qua TLS, và có STARTTLS cho việc đó"},
	{`the server does not offer it`, "the server does not offer it", "máy chủ không có"},
	{`no space left on device`, "the disk is full", "đĩa đã đầy"},
	{`context deadline exceeded`, "there was no answer in time", "không có câu trả lời kịp"},
}

// listenTexts are the reasons why the gateway cannot listen on an address.
var listenTexts = []text{
	{"cannot listen on %s (%s): another program has that address", "không nghe được ở %s (%s): một chương trình khác đang dùng địa chỉ đó"},
	{"cannot listen on %s (%s): not permitted (ports below 1024 need congthu.socket or CAP_NET_BIND_SERVICE)", "không nghe được ở %s (%s): không được phép (cổng dưới 1024 cần congthu.socket hoặc CAP_NET_BIND_SERVICE)"},
	{"cannot listen on %s (%s): this machine has no such address", "không nghe được ở %s (%s): máy này không có địa chỉ đó"},
	{"cannot listen on %s (%s): %s", "không nghe được ở %s (%s): %s"},
}
