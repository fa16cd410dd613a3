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

// marked matches a fault that the gateway's Vietnamese sentences quote.
var marked = regexp.MustCompile(`nguyên văn: «([^»]*)»`)

// An instant begins with the time of day in Vietnamese, and a date does not.
var clockBeforeDay = regexp.MustCompile(`ngày (\d\d:\d\d ngày )`)

const clockOfDay = "lúc $1"

// databaseSays matches an error of PostgreSQL: severity, text and code.
const databaseSays = `(?:server error: )?\p{Lu}+: ([^«»]+?) \(SQLSTATE ([0-9A-Z]{5})\)`

// failureTexts translate failures reported by the operating system and by libraries.
// They are found inside a longer text.
var failureTexts = []struct{ found, en, vi string }{
	// The network.
	{`(?:connect: )?dial tcp ([^\s]+): (?:connect: )?connection refused`, "no program listens at $1", "không có chương trình nào nghe ở $1"},
	{`(?:connect: )?dial tcp ([^\s]+): (?:i/o timeout|connect: connection timed out|context deadline exceeded)`, "$1 does not answer in time", "$1 không trả lời kịp"},
	{`(?:connect: )?dial tcp ([^\s]+): (?:connect: )?(?:no route to host|network is unreachable|host is down)`, "the network has no way to $1", "mạng không có đường tới $1"},
	{`(?:connect: )?dial tcp: lookup ([^\s:]+)(?: on [^\s]+)?: (?:no such host|server misbehaving|i/o timeout|Temporary failure in name resolution|read udp [^)»]*)`, "the name $1 cannot be looked up in the DNS", "không tra được tên $1 trong DNS"},
	{`([^\s(«]+) accepts connections but says nothing within (\d+) s(?:: (?:[a-z ]+: )*read tcp [^\s]+: i/o timeout)?`, "$1 accepts connections but says nothing within $2 s", "$1 nhận kết nối nhưng không trả lời trong $2 giây"},
	{`read greeting of ([^\s]+): not an? (SMTP|IMAP|POP3) (?:reply|greeting)(?:: "(?:[^"\\]|\\.)*")?`, "the program at $1 is not an $2 server", "chương trình ở $1 không phải máy chủ $2"},
	{`read greeting of ([^\s]+): (?:[a-z ]+: )*(?:unexpected )?EOF`, "$1 ends the connection without a greeting", "$1 đóng kết nối mà không gửi lời chào"},
	{`(?:read: |write: )*(?:read|write) tcp [^\s]+->([^\s]+): i/o timeout`, "$1 does not answer in time", "$1 không trả lời kịp"},
	{`(?:read: |write: )*(?:read|write) tcp [^\s]+->([^\s]+): (?:(?:read|write): )?(?:connection reset by peer|broken pipe)`, "$1 ended the connection", "$1 đã ngắt kết nối"},

	// TLS.
	{`(?:STARTTLS: )?(?:TLS handshake: )?(?:tls: failed to verify certificate: )?x509: certificate has expired or is not yet valid(?:: current time [^\s]+ is (?:after|before) [^\s)»]+)?`, "the certificate of the server has run out or is not valid yet", "chứng thư của máy chủ đã hết hạn hoặc chưa có hiệu lực"},
	{`(?:STARTTLS: )?(?:TLS handshake: )?(?:tls: failed to verify certificate: )?x509: certificate signed by unknown authority`, "the certificate of the server is of an authority that is not trusted here", "chứng thư của máy chủ do tổ chức chưa được tin cậy cấp"},
	{`(?:STARTTLS: )?(?:TLS handshake: )?(?:tls: failed to verify certificate: )?x509: certificate is valid for ([^)»]+), not ([^\s)»]+)`, "the certificate of the server is for $1, not for $2", "chứng thư của máy chủ cấp cho $1, không phải cho $2"},
	{`(?:STARTTLS: )?(?:TLS handshake: )?tls: first record does not look like a TLS handshake`, "the server does not answer with TLS", "máy chủ không trả lời bằng TLS"},

	// The disk and the database. What PostgreSQL says stays as it is, in the language of the
	// server, since administrators look it up.
	{databaseSays, `the database said: "$1" (SQLSTATE $2)`, "cơ sở dữ liệu báo: «$1» (SQLSTATE $2)"},
	{`(?:write: )?no space left for the database: free some on the file system of ([^\s]+?)(?:: (?:[^:)»]+: )*(?:database or disk is full(?: \(\d+\))?|no space left on device|disk quota exceeded))`, "the disk of the gateway is full: free some space on the file system of $1", "đĩa của cổng thư đã đầy: cần giải phóng dung lượng ở phân vùng chứa $1"},
	{`(?:write: )?no space left for the database: ([^\s]+) could not be written: look for a full disk, a quota or a limit on file sizes \(ulimit -f\)(?:: disk I/O error(?: \(\d+\))?)?`, "$1 could not be written: look for a full disk, a quota or a limit on file sizes (ulimit -f)", "không ghi được $1: kiểm tra đĩa đầy, hạn mức dung lượng hoặc giới hạn cỡ tệp (ulimit -f)"},
	{`(?:write: )?no space left for the database(?:: (?:database or )?disk (?:is )?full(?: \(\d+\))?)?`, "the disk of the gateway is full", "đĩa của cổng thư đã đầy"},
	{`a file of the database was removed or replaced while the gateway ran: ([^\s]+) [a-z ]+\. Stop the gateway, put the newest backup in its place, without -wal and -shm files beside it, and start again`, "a file of the database was removed or replaced while the gateway ran ($1): stop the gateway, put the newest backup in its place, without -wal and -shm files beside it, and start again", "tệp của cơ sở dữ liệu bị xóa hoặc thay thế khi cổng thư đang chạy ($1): dừng cổng thư, đặt bản sao lưu mới nhất vào chỗ đó, không kèm tệp -wal và -shm, rồi khởi động lại"},
	{`a file of the database was removed or replaced while the gateway ran: ([^\s]+) [a-z ]+\. Without it a second gateway could use the database: make sure that none does, start this one again, and let nobody remove the file`, "a file of the database was removed or replaced while the gateway ran ($1): make sure that no second gateway uses the database, and start this one again", "tệp của cơ sở dữ liệu bị xóa hoặc thay thế khi cổng thư đang chạy ($1): bảo đảm không có cổng thư thứ hai dùng cơ sở dữ liệu, rồi khởi động lại cổng thư này"},
	{`a file of the database was removed or replaced while the gateway ran: ([^\s]+) [a-z ]+\. Stop the gateway without kill -9: as it ends it writes into the database what the file held; then start again`, "a file of the database was removed or replaced while the gateway ran ($1): stop the gateway without kill -9, and start it again", "tệp của cơ sở dữ liệu bị xóa hoặc thay thế khi cổng thư đang chạy ($1): dừng cổng thư, không dùng kill -9, rồi khởi động lại"},
	{`the database is damaged: stop the gateway, keep a copy of ([^\s]+) for examination and put the newest backup in its place, without the -wal and -shm files beside it(?:: [^()»]*(?:\(\d+\))?)?`, "the database $1 is damaged: stop the gateway, keep a copy of it, put the newest backup in its place, without the -wal and -shm files beside it, and start again", "cơ sở dữ liệu $1 bị hỏng: dừng cổng thư, giữ một bản sao, đặt bản sao lưu mới nhất vào chỗ đó, không kèm tệp -wal và -shm, rồi khởi động lại"},
	{`the database cannot be written: ([^\s]+) or its directory is read-only: mount it writable and give both to the user that runs the gateway(?:: [^()»]*(?:\(\d+\))?)?`, "$1 or its directory is read-only: mount it writable and give both to the user that runs the gateway", "$1 hoặc thư mục chứa tệp đó chỉ đọc được: cần cho phép ghi và giao cả hai cho người dùng chạy cổng thư"},
	{`another program keeps ([^\s]+) locked: end it \(fuser -v [^\s]+\)(?:: [^()»]*(?:\(\d+\))?)?`, "another program keeps $1 locked: end it (fuser -v $1)", "một chương trình khác đang khóa $1: cần dừng chương trình đó (fuser -v $1)"},
	{`the disk under ([^\s]+) fails: look into the kernel's log \(dmesg\)(?:: [^()»]*(?:\(\d+\))?)?`, "the disk under $1 fails: look into the kernel's log (dmesg)", "đĩa chứa $1 bị hỏng: kiểm tra nhật ký của nhân hệ điều hành (dmesg)"},

	// Others.
	{`the server takes passwords over TLS only, and offers STARTTLS for it`, "the server takes passwords over TLS only, and offers STARTTLS for it", "máy chủ chỉ nhận mật khẩu qua TLS, và có STARTTLS cho việc đó"},
	{`the server does not offer it`, "the server does not offer it", "máy chủ không có"},
	{`no space left on device`, "the disk is full", "đĩa đã đầy"},
	{`not probed yet`, "not probed yet", "chưa kiểm tra"},
	{`shutting down: no new connections are accepted`, "shutting down: no new connections are accepted", "đang dừng: không nhận kết nối mới"},
	{`context deadline exceeded`, "there was no answer in time", "không có câu trả lời kịp"},
}

// listenTexts are the reasons why the gateway cannot listen on an address.
var listenTexts = []text{
	{"cannot listen on %s (%s): another program has that address", "không nghe được ở %s (%s): một chương trình khác đang dùng địa chỉ đó"},
	{"cannot listen on %s (%s): not permitted (ports below 1024 need congthu.socket or CAP_NET_BIND_SERVICE)", "không nghe được ở %s (%s): không được phép (cổng dưới 1024 cần congthu.socket hoặc CAP_NET_BIND_SERVICE)"},
	{"cannot listen on %s (%s): this machine has no such address", "không nghe được ở %s (%s): máy này không có địa chỉ đó"},
	{"cannot listen on %s (%s): %s", "không nghe được ở %s (%s): %s"},
}
