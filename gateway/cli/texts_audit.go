package cli

// auditTexts are the texts of `audit`.
var auditTexts = []text{
	{"there is no kind %q: write some of %s", "không có loại %q: hãy ghi một số trong %s"},
	{"--limit is a number from 1 to %d; --before SEQ goes on from there", "--limit là số từ 1 đến %d; --before SEQ xem tiếp từ đó"},
	{"no events.", "không có sự kiện nào."},
	{"Tries at names that are no accounts, and logins that were refused before a password was tried, have no events: congthu source list%s", "Lần thử với tên không phải tài khoản và lần đăng nhập bị từ chối trước khi thử mật khẩu không có sự kiện: congthu source list%s"},
	{"older ones: add --before %d", "các sự kiện cũ hơn: thêm --before %d"},
	{"--noted is SEQ:HASH, as an earlier verification printed it", "--noted là SEQ:HASH, như lần kiểm tra trước đã in ra"},
	{"the audit log was changed from outside: keep a copy of the store as it is, and find out who could write to it", "nhật ký kiểm toán đã bị sửa từ bên ngoài: hãy giữ một bản sao nguyên trạng của kho dữ liệu và xác định ai có thể ghi vào đó"},
	{"the noted head is older than the audit log, which is whole: note a newer one, and more often than audit.keep_days", "đầu chuỗi đã ghi cũ hơn nhật ký kiểm toán, nhật ký vẫn toàn vẹn: hãy ghi lại đầu chuỗi mới hơn, và ghi thường xuyên hơn audit.keep_days"},
	{"verifying %s", "đang kiểm tra %s"},
	{"Note the head elsewhere; congthu audit verify --noted SEQ:HASH compares it later.", "Hãy ghi lại đầu chuỗi ở nơi khác; sau này congthu audit verify --noted SEQ:HASH sẽ so với nó."},
	{"Nothing up to event %s was changed since its head was noted.", "Từ khi ghi lại đầu chuỗi, không sự kiện nào đến số %s bị thay đổi."},
	{"Event %s was removed because of its age: the log cannot tell any more whether it was the one whose head was noted. An archive of it can.", "Sự kiện %s đã bị xóa do quá thời hạn lưu: nhật ký không còn cho biết đó có phải sự kiện mà đầu chuỗi đã được ghi lại hay không. Bản lưu trữ thì có thể."},
	{"But it is NOT the log whose head was noted: event %s is another one, or is gone.", "Nhưng đây KHÔNG phải nhật ký mà đầu chuỗi đã được ghi lại: sự kiện %s là sự kiện khác, hoặc không còn."},
	{"%w (event %d: %s)", "%w (sự kiện %d: %s)"},
	{"%w: event %s is gone, and the chain begins behind event %d", "%w: sự kiện %s không còn, chuỗi bắt đầu sau sự kiện %d"},
	{"%w (event %s is not the one that was noted)", "%w (sự kiện %s không phải sự kiện đã được ghi lại)"},
	{"read noted head: %w", "đọc đầu chuỗi đã ghi: %w"},
	{"BROKEN at event %d: %s", "BỊ ĐỨT ở sự kiện %d: %s"},
	{"%s before it: in order.", "%s trước đó: đúng."},
	{"The audit log is empty.", "Nhật ký kiểm toán trống."},
	{"The audit log is whole: %s, the newest at %s.", "Nhật ký kiểm toán toàn vẹn: %s, mới nhất lúc %s."},
	{"Before it %s, the last of %s: removed because of their age, as an event of kind %s tells.", "Trước đó có %s, sự kiện cuối lúc %s: đã xóa do quá thời hạn lưu, như sự kiện loại %s cho biết."},
	{"Head: %d:%s", "Đầu chuỗi: %d:%s"},
}
