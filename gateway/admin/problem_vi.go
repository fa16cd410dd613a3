package admin

import "fmt"

// problemTexts maps the English text of a problem to the Vietnamese one. Both contain
// the same verbs of package fmt.
var problemTexts = map[string]string{
	// Requests.
	"validation failed":                                              "yêu cầu không hợp lệ",
	"there is nothing at this path":                                  "không có gì ở đường dẫn này",
	"this path takes %s only":                                        "đường dẫn này chỉ nhận %s",
	"internal error; the log says more":                              "lỗi nội bộ; nhật ký có thêm chi tiết",
	"the body must be application/json":                              "nội dung phải là application/json",
	"the query must be name=value pairs joined by &, each name once": "phần truy vấn phải gồm các cặp name=value nối bằng &, mỗi tên một lần",
	"the token lacks the scope %q":                                   "token không có phạm vi %q",
	"a bearer token is required":                                     "cần có bearer token",
	"the Authorization header is no single bearer token":             "phần đầu Authorization không phải một bearer token duy nhất",
	"the bearer token is not known":                                  "bearer token không được biết",
	"is required":                                                    "là bắt buộc",
	"takes nothing here":                                             "không nhận gì ở đây",
	"is not the JSON that is expected: an object of %s":              "không phải JSON như yêu cầu: một đối tượng gồm %s",
	"has something that is not known here; known: %s":                "có mục không được biết; các mục được biết: %s",
	sayWhy:                          "phải ghi lý do trong một dòng có từ 3 đến 500 ký tự in được, vì người kiểm tra sẽ đọc",
	"must be printable text":        "phải là chữ in được",
	"must be 1 to %d":               "phải từ 1 đến %d",
	"is no cursor of a page before": "không phải con trỏ của một trang trước",
	"give the address of one account, or set all":       "hãy cho địa chỉ của một tài khoản, hoặc đặt all",
	"names are for tokens with the scope %q as well":    "tên người chỉ dành cho token có thêm phạm vi %q",
	"a profile of the processor is being taken already": "đang đo bộ xử lý rồi",
	"there is no support bundle here":                   "ở đây không có gói hỗ trợ",
	"over the loopback interface only the names of this machine are answered: ask for an IP address, localhost, or the name in the setting hostname": "qua giao diện loopback chỉ trả lời cho tên của máy này: hãy dùng địa chỉ IP, localhost, hoặc tên trong thiết lập hostname",

	"must be 1 to %d, until %s at the latest (rules.password.max_grace_days)": "phải từ 1 đến %d, chậm nhất đến %s (rules.password.max_grace_days)",

	// Names and sources.
	"is of a domain that is not served here":                                           "thuộc miền không được phục vụ ở đây",
	"has a character that separates master users":                                      "có ký tự phân cách tài khoản quản trị (master user)",
	"is no address: want local@domain":                                                 "không đúng dạng: cần ten@mien",
	"is a network: write one address; an IPv6 address stands for its /64":              "là một mạng: hãy ghi một địa chỉ; địa chỉ IPv6 đại diện cho mạng /64 của nó",
	"is the address of no client":                                                      "không thể là địa chỉ của máy khách",
	"is no address: did you mean %s?":                                                  "không phải địa chỉ: có phải ý quý vị là %s?",
	"is no network: did you mean %s?":                                                  "không phải mạng: có phải ý quý vị là %s?",
	"is no address: write an IPv4 or IPv6 address, such as 203.0.113.7 or 2001:db8::7": "không phải địa chỉ: hãy ghi địa chỉ IPv4 hoặc IPv6, ví dụ 203.0.113.7 hoặc 2001:db8::7",
	"nothing to do: throttle.enabled is false, so that no source is refused":           "không cần xử lý: throttle.enabled là false nên không nguồn nào bị từ chối",
	"nothing to do: %s is not allowed now":                                             "không cần xử lý: %s hiện không được cho phép",

	// Acts.
	"nothing to do": "không cần xử lý",
	"nothing to do: the password expires by itself at %s, which is later than %s from now": "không cần xử lý: mật khẩu đến %s mới hết hạn, muộn hơn %s kể từ bây giờ",
	"nothing to do: grace until %s is granted already":                                     "không cần xử lý: đã gia hạn đến %s",
	"no such account": "không có tài khoản này",
	"To lock a mailbox that has not been logged in to here yet, import it first (congthu import accounts).": "Để khóa hộp thư chưa từng đăng nhập qua cổng thư, trước hết phải nhập hộp thư đó (congthu import accounts).",
	"no such cause: its first account may have been unlocked meanwhile; list the causes again":              "không có nguyên nhân này: tài khoản đầu tiên của nó có thể đã được mở khóa; hãy liệt kê lại các nguyên nhân",
	"nothing to do: the account has no other name in the store":                                             "không cần xử lý: tài khoản không có tên khác trong kho dữ liệu",
	"nothing to do: this gateway agrees with no other on rules":                                             "không cần xử lý: cổng thư này không có quy tắc chung với cổng thư nào khác",
	"the gateway's store is not available; try again":                                                       "kho dữ liệu của cổng thư không hoạt động; hãy thử lại",
	"another verification is running":                                                                       "đang có một lần kiểm tra khác",
	"the verification was ended before it was complete":                                                     "việc kiểm tra bị dừng trước khi xong",
	"the gateway's store failed after %s; merge again: what is merged stays so":                             "kho dữ liệu gặp sự cố sau %s; hãy hợp nhất lại: những gì đã hợp nhất vẫn giữ nguyên",

	"the settings that were agreed on are of a newer version: run the version of the other gateways": "quy tắc chung thuộc phiên bản mới hơn: hãy chạy phiên bản của các cổng thư khác",
	"two clocks differ":                                               "hai đồng hồ lệch nhau: hãy chỉnh đồng hồ sai trước",
	"the clock is suspect":                                            "đồng hồ đang bị nghi ngờ: hãy kiểm tra đồng hồ, rồi: congthu clock accept",
	"too many accounts at once would be revoked":                      "quá nhiều tài khoản sẽ bị thu hồi cùng lúc, có thể đồng hồ sai: congthu sweep --dry-run cho xem đó là những tài khoản nào, congthu sweep --force thu hồi chúng",
	"the configuration file of this gateway cannot be put into force": "tệp cấu hình của cổng thư này không áp dụng được",

	"it is no longer locked": "không còn bị khóa",

	// Lists of accounts.
	`is not UTF-8: save the list as "CSV UTF-8"`:                                                      `không phải UTF-8: hãy lưu danh sách ở dạng "CSV UTF-8"`,
	`the row has %d fields, and the first row names %d: put a field with %s in it in "..."`:           `dòng có %d ô, còn dòng đầu ghi %d tên: hãy đặt ô có %s bên trong trong "..."`,
	"nothing was imported: the list has %d errors":                                                    "chưa nhập gì: danh sách có %d lỗi",
	`is UTF-16 that is damaged: save it as "CSV UTF-8"`:                                               `là UTF-16 bị hỏng: hãy lưu lại ở dạng "CSV UTF-8"`,
	`has a " within a field: put the field in "..." and write "" for each " in it`:                    `có dấu " trong ô: hãy đặt ô trong "..." và ghi "" cho mỗi dấu " bên trong`,
	`has a quoted field, begun in line %d, that does not end as it must: write "" for each " in it`:   `có ô trong dấu ngoặc kép, bắt đầu ở dòng %d, không kết thúc đúng: hãy ghi "" cho mỗi dấu " bên trong`,
	`has a ?, which spreadsheets write for letters that a format lacks: save the list as "CSV UTF-8"`: `có dấu ?, bảng tính ghi thay cho chữ mà định dạng không có: hãy lưu danh sách ở dạng "CSV UTF-8"`,
	"this gateway takes no lists":                                                                     "cổng thư này không nhận danh sách",
	"another import is running":                                                                       "đang có một lần nhập khác",
	"the import stopped after %d of %d accounts, since the gateway's store failed; import the same list again: what is there already is left as it is, and the rest is done": "việc nhập đã dừng sau %d trong số %d tài khoản, vì kho dữ liệu gặp sự cố; hãy nhập lại đúng danh sách này: những gì đã có được giữ nguyên, phần còn lại sẽ được nhập",
	"is empty: the first row names the columns: %s":                           "trống: dòng đầu ghi tên các cột: %s",
	"is one more than the %d accounts that a list may have: divide it":        "vượt quá %d tài khoản mà một danh sách được có: hãy chia danh sách",
	"is as far as the list was read: there are more than %d errors before it": "là chỗ danh sách được đọc tới: trước đó có hơn %d lỗi",
	"has no accounts, only the names of the columns":                          "không có tài khoản nào, chỉ có tên các cột",
	"cannot be read": "không đọc được",
	"names a column that is not known: the known ones are %s, separated by , or ; or tabs": "ghi tên cột không được biết: các cột được biết là %s, phân cách bằng , hoặc ; hoặc tab",
	"names the column %s again":                                   "ghi tên cột %s lần nữa",
	"names no column %s":                                          "không ghi cột %s",
	"is longer than %d characters":                                "dài hơn %d ký tự",
	"has characters that cannot be printed, perhaps a line break": "có ký tự không in được, có thể là dấu xuống dòng",
	"is empty": "trống",
	"is an alias of %s: write the account itself, once": "là bí danh của %s: hãy ghi chính tài khoản đó, một lần",
	"has letters beyond ASCII before the @: write it without accents, or set names.unicode: true if the mail server tells them apart": "có chữ ngoài ASCII trước dấu @: hãy ghi không dấu, hoặc đặt names.unicode: true nếu máy chủ thư phân biệt dấu",
	"is no address: want local@domain, without +detail":                                     "không đúng dạng: cần ten@mien, không có +chi-tiet",
	"is the account of line %d again: write it once":                                        "lặp lại tài khoản ở dòng %d: hãy ghi một lần",
	"is no date: want 2026-01-31, 31/01/2026, 2026-01-31T08:00:00+07:00 or 20260131010000Z": "không phải ngày: cần 2026-01-31, 31/01/2026, 2026-01-31T08:00:00+07:00 hoặc 20260131010000Z",
	"is in the future": "ở trong tương lai",
	"is before %d: leave it empty where it stands for never":                                                    "trước năm %d: hãy để trống nếu có nghĩa là chưa bao giờ",
	"is cut: make the column wider in the spreadsheet, and save again":                                          "bị cắt: hãy mở rộng cột trong bảng tính rồi lưu lại",
	"is an error of the spreadsheet: correct the formula of the cell":                                           "là lỗi của bảng tính: hãy sửa công thức của ô",
	"is a number of days, as a spreadsheet keeps a date: give the column the format dd/mm/yyyy, and save again": "là số ngày, cách bảng tính lưu ngày: hãy định dạng cột là dd/mm/yyyy rồi lưu lại",
	"has a year of two digits: give the column the format dd/mm/yyyy, and save again":                           "ghi năm bằng hai chữ số: hãy định dạng cột là dd/mm/yyyy rồi lưu lại",
}

// inVietnamese returns the Vietnamese text of a problem; empty if there is none, as for
// a library's text.
func inVietnamese(format string, args ...any) string {
	vi := problemTexts[format]
	if vi == "" || len(args) == 0 {
		return vi
	}
	return fmt.Sprintf(vi, args...)
}
