package config

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
)

// saying is the text of a problem, or of its fix, in both languages. %s stands for
// words of the file and for figures, in the same order in both.
type saying struct{ en, vi string }

// sayings are the texts of problems. A finished text is recognized by its form, since
// texts are composed in many places; one that is not recognized stays in English, as do
// the texts of the YAML parser and of the operating system.
var sayings = []saying{
	// Mistakes.
	{"neither `imap.listen` nor `smtp.listen` has an address: there is nothing to serve", "cả `imap.listen` lẫn `smtp.listen` đều không có địa chỉ: không có gì để phục vụ"},
	{"`%s`: %s is not a domain", "`%s`: %s không phải tên miền"},
	{"`domain` is missing: names without a domain could not be completed", "thiếu `domain`: không bổ sung được tên miền cho tên không có miền"},
	{"`%s`: %s is there already, as `%s`", "`%s`: %s đã có, ở `%s`"},
	{"`%s`: %s is there already, in `%s` %s", "`%s`: %s đã có, trong `%s` %s"},
	{"`hostname`: %s is not a host name", "`hostname`: %s không phải tên máy"},
	{"`%s.address` is missing: the gateway would not know the mail server", "thiếu `%s.address`: cổng thư không biết máy chủ thư ở đâu"},
	{"`%s` is missing: mail clients must be able to encrypt", "thiếu `%s`: phần mềm thư phải mã hóa được"},
	{"`%s.name` is missing: the audit log could not say who acted", "thiếu `%s.name`: nhật ký kiểm toán không ghi được ai đã thao tác"},
	{"`%s.scopes` is missing: the token would be good for nothing", "thiếu `%s.scopes`: token sẽ không dùng được vào việc gì"},
	{"`%s` is missing", "thiếu `%s`"},
	{"`%s.tls` is none: passwords would cross the network in clear text", "`%s.tls` là none: mật khẩu sẽ đi qua mạng không mã hóa"},
	{"`%s.tls` is none, but %s is not on this machine: passwords would cross the network in clear text", "`%s.tls` là none, nhưng %s không ở trên máy này: mật khẩu sẽ đi qua mạng không mã hóa"},
	{"`%s`: %s names no host", "`%s`: %s không ghi tên máy"},
	{"`%s`: port 0 is none", "`%s`: không có cổng số 0"},
	{"`pop3.upstream.spare_connections`: a connection is made for each login over POP3", "`pop3.upstream.spare_connections`: mỗi lần đăng nhập qua POP3 tạo một kết nối riêng"},
	{"`%s.pass_client`: %s cannot be said in %s", "`%s.pass_client`: %s không dùng được với %s"},
	{"`%s` is set, but there is no TLS to verify", "`%s` được đặt, nhưng không có TLS để xác minh"},
	{"`%s` %s is where the gateway itself listens (`%s`)", "`%s` %s là nơi chính cổng thư đang nghe (`%s`)"},
	{"`%s`: %s is not an IP address", "`%s`: %s không phải địa chỉ IP"},
	{"`%s`: %s is not an address with a port", "`%s`: %s không phải địa chỉ kèm số cổng"},
	{"`%s`: %s is not a port", "`%s`: %s không phải số cổng"},
	{"`%s` %s is taken by `%s` %s", "`%s` %s đã được `%s` %s dùng"},
	{"`rules.password.change_url`: %s is not a web address", "`rules.password.change_url`: %s không phải địa chỉ trang web"},
	{"`rules.password` is enforced, but neither `change_url` nor `change_text` says how to change an expired password: nobody must be locked into one, and with it nobody can log in here to change it", "`rules.password` được thực thi, nhưng cả `change_url` lẫn `change_text` đều không cho biết cách đổi mật khẩu hết hạn: không được để ai mắc kẹt với mật khẩu hết hạn, vì với nó không đăng nhập ở đây để đổi được"},
	{"`%s` is %s, out of range", "`%s` là %s, ngoài khoảng cho phép"},
	{"`%s`: %s is out of range", "`%s`: %s ngoài khoảng cho phép"},
	{"`limits.login_total` %s is shorter than `login_timeout` %s, one step of it", "`limits.login_total` %s ngắn hơn `login_timeout` %s, vốn là một bước của nó"},
	{"`admin.listen` %s can be reached from other machines, but has no TLS: tokens would cross the network in clear text", "`admin.listen` %s máy khác kết nối tới được, nhưng không có TLS: token sẽ đi qua mạng không mã hóa"},
	{"the path of the admin socket is %s characters long; the system takes %s: %s", "đường dẫn của socket quản trị dài %s ký tự; hệ thống nhận tối đa %s: %s"},
	{"`admin.socket_group`: there is no group %s on this machine", "`admin.socket_group`: trên máy này không có nhóm %s"},
	{"`%s.name`: %s has a token already, number %s in the list", "`%s.name`: %s đã có token, số %s trong danh sách"},
	{"`%s.name` has spaces around it or unprintable characters", "`%s.name` có dấu cách ở đầu hoặc cuối, hoặc ký tự không in được"},
	{"`%s.name`: %s belongs to the gateway's own entries in the audit log", "`%s.name`: %s dành cho các mục của chính cổng thư trong nhật ký kiểm toán"},
	{"`%s` is the same token as number %s in the list", "`%s` trùng với token số %s trong danh sách"},
	{"`%s`: %s is there twice", "`%s`: %s có hai lần"},
	{"`%s` has both `%s` and `%s`", "`%s` có cả `%s` và `%s`"},
	{"`%s` has neither `sha256` nor `token_file`", "`%s` không có cả `sha256` lẫn `token_file`"},
	{"`%s.token_file`: the token in %s is shorter than 20 characters", "`%s.token_file`: token trong %s ngắn hơn 20 ký tự"},
	{"`%s` is a token that anybody would guess", "`%s` là token ai cũng đoán được"},
	{"`admin.tokens` are of no use without `admin.listen`: the socket asks the system who is calling", "`admin.tokens` không có tác dụng khi không có `admin.listen`: socket hỏi hệ thống xem ai đang gọi"},
	{"`admin.listen` has no tokens: only /metrics and the health checks will answer", "`admin.listen` không có token: chỉ /metrics và các đường dẫn kiểm tra tình trạng trả lời"},
	{"`%s` has %s, which mailbox names need", "`%s` có %s, ký tự mà tên hộp thư cần"},
	{"`%s` is empty, which means the usual \"*%\"", "`%s` trống, nghĩa là dùng mặc định \"*%\""},
	{"`%s` is %s and `%s` is %s, with %s domains: mailboxes of the same name in %s would be one behind one door and several behind the other, so that neither wrong passwords nor locks could be kept right", "`%s` là %s còn `%s` là %s, với %s miền: các hộp thư cùng tên trong %s sẽ là một ở giao thức này và là nhiều ở giao thức kia, nên không đếm đúng được số lần nhập sai và khóa"},
	{"`%s`: the domain of %s is not served here", "`%s`: miền của %s không được phục vụ ở đây"},
	{"`%s`: %s has letters beyond ASCII before the @, which many mail servers take for plain ones", "`%s`: %s có chữ ngoài ASCII trước dấu @, nhiều máy chủ thư coi như chữ không dấu"},
	{"`%s`: %s has a character of master-user syntax, which is never let in", "`%s`: %s có ký tự của cú pháp tài khoản quản trị (master user), không bao giờ được nhận"},
	{"`%s`: %s is not the name of a mailbox", "`%s`: %s không phải tên hộp thư"},
	{"`%s`: %s is not a mail address", "`%s`: %s không phải địa chỉ thư"},
	{"`%s` is an alias of itself", "`%s` là bí danh của chính nó"},
	{"`%s` and `%s` lead to each other", "`%s` và `%s` trỏ qua lại nhau"},
	{"`%s` leads to %s, which is an alias itself", "`%s` trỏ tới %s, mà đó cũng là bí danh"},
	{"`%s` is not needed: with login_name: local %s and %s are one account", "`%s` không cần: với login_name: local thì %s và %s là một tài khoản"},
	{"`%s`: %s may send as %s anyway", "`%s`: %s vốn được gửi với tên %s"},
	{"`%s`: %s is an alias; only accounts log in", "`%s`: %s là bí danh; chỉ tài khoản đăng nhập được"},
	{"`%s` is empty: users would be told nothing", "`%s` trống: người dùng sẽ không được báo gì"},
	{"`%s`: the first line of %s is empty", "`%s`: dòng đầu của %s trống"},
	{"`%s` is empty", "`%s` trống"},
	{"`store.postgres.lock_timeout` %s is not shorter than `statement_timeout` %s: the log would not tell a replica that waits for another from a server that hangs", "`store.postgres.lock_timeout` %s không ngắn hơn `statement_timeout` %s: nhật ký sẽ không phân biệt được cổng thư đang chờ cổng thư khác với máy chủ bị treo"},
	{"`store.postgres.lease` %s is not longer than `statement_timeout` %s: one slow statement would make a replica look dead", "`store.postgres.lease` %s không dài hơn `statement_timeout` %s: một câu lệnh chậm sẽ làm cổng thư bị coi là đã chết"},
	{"`store.driver` is postgres, but `store.postgres` has neither `dsn` nor `dsn_file`", "`store.driver` là postgres, nhưng `store.postgres` không có cả `dsn` lẫn `dsn_file`"},
	{"`%s` is of no use while `store.driver` is %s", "`%s` không có tác dụng khi `store.driver` là %s"},
	{"`%s` is not a connection string of PostgreSQL, or names a file that cannot be read", "`%s` không phải chuỗi kết nối của PostgreSQL, hoặc ghi tên tệp không đọc được"},
	{"`%s` has a password in it: this file is no place for secrets", "`%s` có mật khẩu bên trong: tệp này không phải nơi để bí mật"},
	{"`%s`: everybody on this machine may read %s", "`%s`: mọi người trên máy này đều đọc được %s"},
	{"`%s`: everybody on this machine may use %s", "`%s`: mọi người trên máy này đều dùng được %s"},
	{"`%s` allows a connection without TLS: accounts and audit log would cross the network in clear text", "`%s` cho phép kết nối không có TLS: tài khoản và nhật ký kiểm toán sẽ đi qua mạng không mã hóa"},
	{"`%s` does not verify the server's certificate: anybody in between could be the database", "`%s` không xác minh chứng thư của máy chủ: kẻ đứng giữa có thể giả làm cơ sở dữ liệu"},
	{"`%s`: anchors, aliases and tags are not used in this file", "`%s`: tệp này không dùng anchor, alias và tag"},
	{"`%s` has no value", "`%s` không có giá trị"},
	{"merge keys (<<) are not used in this file", "tệp này không dùng khóa gộp (<<)"},
	{"`%s` is written twice; the first is in line %s", "`%s` được ghi hai lần; lần đầu ở dòng %s"},
	{"`%s` is the same name as in line %s", "`%s` trùng tên với dòng %s"},
	{"unknown field `%s`", "không có mục `%s`"},
	{"the file is %s, not a group of fields", "tệp là %s, không phải một nhóm mục"},
	{"this is not YAML: %s", "đây không phải YAML: %s"},
	{"this is not YAML", "đây không phải YAML"},
	{"this line is not UTF-8", "dòng này không phải UTF-8"},
	{"brackets are nested more than 100 deep", "dấu ngoặc lồng nhau quá 100 lớp"},
	{"a second document begins here", "một tài liệu thứ hai bắt đầu ở đây"},
	{"`%s` begins with [, which mail clients read as a code", "`%s` bắt đầu bằng [, phần mềm thư sẽ hiểu là mã"},
	{"`%s`: nothing is known of %s", "`%s`: không biết %s là gì"},
	{"`%s` is %s characters long with its values put in; %s is the most", "`%s` dài %s ký tự sau khi thay giá trị; nhiều nhất là %s"},
	{"`%s` has a line break: a reply is one line", "`%s` có dấu xuống dòng: câu trả lời chỉ có một dòng"},
	{"`%s` has a control character at position %s", "`%s` có ký tự điều khiển ở vị trí %s"},
	{"`%s` has %s at position %s, which is not ASCII", "`%s` có %s ở vị trí %s, không phải ASCII"},
	{"`%s` is blank", "`%s` chỉ có dấu cách"},
	{"`%s`: there is no certificate in %s", "`%s`: trong %s không có chứng thư"},
	{"`%s`: there is no private key in %s", "`%s`: trong %s không có khóa riêng"},
	{"`%s`: %s and %s do not go together: %s", "`%s`: %s và %s không đi với nhau: %s"},
	{"`%s`: %s is not valid before %s: mail programs warn of it or refuse to connect", "`%s`: %s chưa có hiệu lực trước %s: phần mềm thư sẽ cảnh báo hoặc từ chối kết nối"},
	{"`%s`: %s ran out on %s: mail programs warn of it or refuse to connect", "`%s`: %s đã hết hạn ngày %s: phần mềm thư sẽ cảnh báo hoặc từ chối kết nối"},
	{"`%s`: %s runs out in %s, on %s", "`%s`: %s hết hạn sau %s, ngày %s"},
	{"`%s`: %s is not one of %s", "`%s`: %s không phải một trong %s"},
	{"`%s`: %s is not a duration", "`%s`: %s không phải khoảng thời gian"},
	{"`%s`: %s is none of always, never and a duration", "`%s`: %s không phải always, never hay khoảng thời gian"},
	{"`%s`: %s is not a time zone: days would end differently on each machine", "`%s`: %s không phải múi giờ: ngày sẽ kết thúc khác nhau trên mỗi máy"},
	{"`%s`: %s is not a time zone", "`%s`: %s không phải múi giờ"},
	{"`%s`: an empty pattern fits every reply", "`%s`: mẫu trống khớp với mọi câu trả lời"},
	{"`%s`: %s is not a regular expression: %s", "`%s`: %s không phải biểu thức chính quy: %s"},
	{"`%s`: a connection string is no driver", "`%s`: chuỗi kết nối không phải tên trình điều khiển"},
	{"`%s`: %s is not a time of day", "`%s`: %s không phải giờ trong ngày"},
	{"`%s`: not a SHA-256 sum: want 64 hexadecimal digits, found %s characters", "`%s`: không phải giá trị SHA-256: cần 64 chữ số thập lục phân, nhưng có %s ký tự"},
	{"`%s`: %s is not a network", "`%s`: %s không phải mạng"},
	{"`%s`: %s is an IPv4 network written as IPv6", "`%s`: %s là mạng IPv4 viết dưới dạng IPv6"},
	{"`%s`: %s is everybody: anybody could then claim any address", "`%s`: %s là mọi địa chỉ: khi đó ai cũng có thể tự nhận địa chỉ bất kỳ"},
	{"`%s`: %s is no network: there is something behind its first %s bits", "`%s`: %s không phải mạng: còn phần khác 0 sau %s bit đầu"},
	{"`%s`: %s is a part of one source: an IPv6 /64 is what one customer is given", "`%s`: %s là một phần của một nguồn: mỗi khách hàng được cấp một mạng IPv6 /64"},
	{"`%s`: %s is too wide for an office: strangers are in it, who would have the room of colleagues", "`%s`: %s quá rộng đối với một cơ quan: trong đó có người lạ, họ sẽ được hưởng mức của đồng nghiệp"},
	{"`%s` has no effect with pass_client: proxy: a connection belongs to its client from its first octet, so none can be made in advance", "`%s` không có tác dụng với pass_client: proxy: kết nối thuộc về máy khách ngay từ đầu nên không mở trước được"},
	{"`%s`: port %s usually begins with TLS, but `tls` is not implicit", "`%s`: cổng %s thường bắt đầu bằng TLS, nhưng `tls` không phải implicit"},
	{"`%s`: port %s usually begins in clear text, but `tls` is implicit", "`%s`: cổng %s thường bắt đầu không mã hóa, nhưng `tls` là implicit"},
	{"`proxy_protocol` has no `from`: no PROXY header is read", "`proxy_protocol` không có `from`: không đọc phần đầu PROXY nào"},
	{"`throttle.known_networks` has no effect while `throttle.enabled` is false: no source is refused", "`throttle.known_networks` không có tác dụng khi `throttle.enabled` là false: không nguồn nào bị từ chối"},
	{"`limits.connections_per_source` %s is more than `connections` %s allows altogether", "`limits.connections_per_source` %s nhiều hơn tổng số mà `connections` %s cho phép"},
	{"`%s`: want %s, found %s", "`%s`: cần %s, nhưng có %s"},
	{"`%s`: %s is a directory", "`%s`: %s là thư mục"},
	{"`%s`: %s is larger than 1 MiB", "`%s`: %s lớn hơn 1 MiB"},
	{"`%s`: %s: no such file or directory", "`%s`: %s: không có tệp hoặc thư mục này"},
	{"`%s`: %s: permission denied", "`%s`: %s: không có quyền đọc"},

	// Fixes.
	{"did you mean %s?", "có phải ý quý vị là %s?"},
	{"it belongs elsewhere: %s", "mục này thuộc chỗ khác: %s"},
	{"the fields %s are %s", "các mục %s là %s"},
	{"the words are %s", "các từ dùng được là %s"},
	{"write it without braces", "ghi không có dấu ngoặc nhọn"},
	{"close the brace: %s", "đóng dấu ngoặc nhọn: %s"},
	{"list at least one address in `imap.listen` or `smtp.listen`", "ghi ít nhất một địa chỉ trong `imap.listen` hoặc `smtp.listen`"},
	{"write the part behind the @ only, such as example.org", "chỉ ghi phần sau dấu @, ví dụ example.org"},
	{"add the line domain: example.org, with the part of your addresses behind the @", "thêm dòng domain: example.org, với phần sau dấu @ trong địa chỉ của quý vị"},
	{"remove it here", "xóa ở đây"},
	{"remove it, or write 0", "xóa mục này, hoặc ghi 0"},
	{"remove it, or set enabled: true", "xóa mục này, hoặc đặt enabled: true"},
	{"remove it", "xóa mục này"},
	{"write proxy or none", "ghi proxy hoặc none"},
	{"lower it", "giảm giá trị này"},
	{"write a full name, such as mail.example.org", "ghi tên đầy đủ, ví dụ mail.example.org"},
	{"add tls: starttls, or tls: implicit", "thêm tls: starttls, hoặc tls: implicit"},
	{"write starttls or implicit; for a server with a certificate of its own add ca_file", "ghi starttls hoặc implicit; với máy chủ dùng chứng thư riêng thì thêm ca_file"},
	{"add the mail server's host:port; where there is no such server write %s: { listen: [] }", "thêm host:port của máy chủ thư; nếu không có máy chủ ấy thì ghi %s: { listen: [] }"},
	{"write host:port, or \":port\" for all addresses of the machine", "ghi host:port, hoặc \":port\" cho mọi địa chỉ của máy"},
	{"write host:port; an IPv6 address goes in brackets, [::1]:143", "ghi host:port; địa chỉ IPv6 đặt trong ngoặc vuông, [::1]:143"},
	{"write host:port", "ghi host:port"},
	{"write the port the mail server listens on", "ghi số cổng mà máy chủ thư nghe"},
	{"write tls: starttls or implicit, or remove `%s`", "ghi tls: starttls hoặc implicit, hoặc xóa `%s`"},
	{"move the mail server to another port or address, or set the listen address of the gateway", "chuyển máy chủ thư sang số cổng hoặc địa chỉ khác, hoặc đặt địa chỉ nghe của cổng thư"},
	{"write an IP address of this machine, or \":port\" for all of them", "ghi một địa chỉ IP của máy này, hoặc \":port\" cho mọi địa chỉ"},
	{"give one of them another port or address", "chọn số cổng hoặc địa chỉ khác cho một trong hai"},
	{"remove `metrics.listen`: the admin listener has /metrics too", "xóa `metrics.listen`: địa chỉ quản trị cũng có /metrics"},
	{"write the whole address, such as https://mail.example.org/password", "ghi địa chỉ đầy đủ, ví dụ https://mail.example.org/password"},
	{"set `rules.password.change_url` to the page where passwords are changed without this gateway, or `change_text` to a sentence that tells the way; or mode: warn until there is one", "đặt `rules.password.change_url` là trang đổi mật khẩu không qua cổng thư này, hoặc `change_text` là câu hướng dẫn cách đổi; hoặc mode: warn cho đến khi có"},
	{"write a number from 30 to 36500, or 0 to keep all for ever", "ghi số từ 30 đến 36500, hoặc 0 để giữ tất cả mãi mãi"},
	{"write a number from %s to %s", "ghi số từ %s đến %s"},
	{"write a number with a unit, such as 30s, 10m or 1h30m", "ghi số kèm đơn vị, ví dụ 30s, 10m hoặc 1h30m"},
	{"write a duration from %s to %s", "ghi khoảng thời gian từ %s đến %s"},
	{"write the unit: %s, %s or %s", "ghi đơn vị: %s, %s hoặc %s"},
	{"write it in hours: %s", "ghi theo giờ: %s"},
	{"raise `login_total`, or lower `login_timeout`", "tăng `login_total`, hoặc giảm `login_timeout`"},
	{"add `admin.tls` with a certificate and a key, or listen on 127.0.0.1", "thêm `admin.tls` với chứng thư và khóa, hoặc nghe ở 127.0.0.1"},
	{"add `admin.listen`, or remove the tokens", "thêm `admin.listen`, hoặc xóa các token"},
	{"add `admin.tokens`", "thêm `admin.tokens`"},
	{"set `admin.socket` to a shorter path", "đặt `admin.socket` là đường dẫn ngắn hơn"},
	{"create it (groupadd --system %s), or name another", "tạo nhóm (groupadd --system %s), hoặc ghi nhóm khác"},
	{"write the name of the person who holds it", "ghi tên người giữ token"},
	{"give every person one token, and every token one person", "mỗi người một token, mỗi token một người"},
	{"write the name on one line, without spaces around it", "ghi tên trên một dòng, không có dấu cách ở hai đầu"},
	{"write the name of a person", "ghi tên người"},
	{"make a token of their own for each person", "tạo cho mỗi người một token riêng"},
	{"list some of %s", "ghi một số trong %s"},
	{"keep one of them", "giữ một trong hai"},
	{"put the token there, on one line, readable by the gateway only", "đặt token vào đó, trên một dòng, chỉ cổng thư đọc được"},
	{"make one with: openssl rand -base64 32", "tạo bằng: openssl rand -base64 32"},
	{"add `sha256`, from: printf %s \"$TOKEN\" | sha256sum", "thêm `sha256`, lấy từ: printf %s \"$TOKEN\" | sha256sum"},
	{"take the sum of the token: printf %s \"$TOKEN\" | sha256sum", "lấy giá trị băm của token: printf %s \"$TOKEN\" | sha256sum"},
	{"take the sum of the public key: %s", "lấy giá trị băm của khóa công khai: %s"},
	{"list only characters that no mailbox has, such as \"*%\"", "chỉ ghi những ký tự không hộp thư nào có, ví dụ \"*%\""},
	{"leave it out, or list the characters", "bỏ mục này, hoặc ghi các ký tự"},
	{"write the same in both, as the mail server behind knows its accounts; or serve one domain only", "ghi giống nhau ở cả hai, theo cách máy chủ thư biết tài khoản; hoặc chỉ phục vụ một miền"},
	{"add it to `domains`, or correct it", "thêm vào `domains`, hoặc sửa lại"},
	{"write it without accents; or, if the mail server tells names with accents apart from those without, set names.unicode: true", "ghi không dấu; hoặc, nếu máy chủ thư phân biệt tên có dấu với tên không dấu, đặt names.unicode: true"},
	{"correct it, or change `names.master_separators`", "sửa lại, hoặc đổi `names.master_separators`"},
	{"write the name without + and what follows it", "ghi tên không có dấu + và phần sau nó"},
	{"keep the one whose right side is the account", "giữ mục có vế phải là tài khoản"},
	{"list the accounts that may send as it, or remove it", "ghi các tài khoản được gửi với tên này, hoặc xóa mục này"},
	{"write local@domain", "ghi dạng ten@mien"},
	{"lower `lock_timeout`, or raise `statement_timeout`", "giảm `lock_timeout`, hoặc tăng `statement_timeout`"},
	{"raise `lease`, or lower `statement_timeout`", "tăng `lease`, hoặc giảm `statement_timeout`"},
	{"add dsn: postgres://congthu@db.example.org/congthu?sslmode=verify-full, or dsn_file: with the name of a file that holds one", "thêm dsn: postgres://congthu@db.example.org/congthu?sslmode=verify-full, hoặc dsn_file: với tên tệp chứa chuỗi ấy"},
	{"put the connection string there, on one line, readable by the gateway only", "đặt chuỗi kết nối vào đó, trên một dòng, chỉ cổng thư đọc được"},
	{"put the connection string there, on one line", "đặt chuỗi kết nối vào đó, trên một dòng"},
	{"write postgres://USER@HOST/DATABASE?sslmode=verify-full, all that is special in it percent-encoded, or host=HOST user=USER dbname=DATABASE", "ghi postgres://USER@HOST/DATABASE?sslmode=verify-full, ký tự đặc biệt mã hóa bằng dấu %, hoặc host=HOST user=USER dbname=DATABASE"},
	{"put the whole connection string into a file that only the gateway can read, and name it in `dsn_file`; or let the server know the gateway without a password (a certificate, or peer on a socket)", "đặt cả chuỗi kết nối vào tệp chỉ cổng thư đọc được, và ghi tên tệp trong `dsn_file`; hoặc cho máy chủ nhận ra cổng thư không cần mật khẩu (chứng thư, hoặc peer trên socket)"},
	{"write driver: postgres, and the connection string in `store.postgres.dsn_file`", "ghi driver: postgres, và chuỗi kết nối trong `store.postgres.dsn_file`"},
	{"write driver: postgres, or remove it", "ghi driver: postgres, hoặc xóa mục này"},
	{"add sslmode=verify-full (and sslrootcert=FILE for an authority of your own)", "thêm sslmode=verify-full (và sslrootcert=FILE nếu tổ chức cấp chứng thư là của quý vị)"},
	{"write the value itself", "ghi chính giá trị"},
	{"remove the dash, or write something behind it", "xóa dấu gạch, hoặc ghi giá trị sau nó"},
	{"write one behind the colon, or remove the line", "ghi giá trị sau dấu hai chấm, hoặc xóa dòng"},
	{"write the fields themselves", "ghi chính các mục"},
	{"begin with a field, such as domain: example.org", "bắt đầu bằng một mục, ví dụ domain: example.org"},
	{"compare it with the example", "so với tệp ví dụ"},
	{"save the file as UTF-8", "lưu tệp ở dạng UTF-8"},
	{"indent with spaces; YAML allows no tabs there", "thụt đầu dòng bằng dấu cách; YAML không cho phép tab ở đó"},
	{"check the indentation, the colons and the quotes on this line and the one above", "kiểm tra thụt đầu dòng, dấu hai chấm và dấu ngoặc kép ở dòng này và dòng trên"},
	{"keep one document in the file: remove the line ---", "chỉ giữ một tài liệu trong tệp: xóa dòng ---"},
	{"write a sentence, or remove the line to have the profile's own", "ghi một câu, hoặc xóa dòng để dùng câu của hồ sơ"},
	{"begin with a word", "bắt đầu bằng một từ"},
	{"shorten it, or what is put in for the words in braces", "rút ngắn, hoặc rút ngắn giá trị thay cho các từ trong ngoặc nhọn"},
	{"write it on one line, in quotes", "ghi trên một dòng, trong dấu ngoặc kép"},
	{"write Vietnamese without diacritics; mail clients show replies in ASCII only", "ghi tiếng Việt không dấu; phần mềm thư chỉ hiển thị câu trả lời bằng ASCII"},
	{"write a sentence", "ghi một câu"},
	{"add the line tls: { certificate: cert.pem, key: key.pem }", "thêm dòng tls: { certificate: cert.pem, key: key.pem }"},
	{"name a PEM file: %s", "ghi tên tệp PEM: %s"},
	{"name a readable PEM file", "ghi tên tệp PEM đọc được"},
	{"name the PEM file that begins with -----BEGIN CERTIFICATE-----", "ghi tên tệp PEM bắt đầu bằng -----BEGIN CERTIFICATE-----"},
	{"name the PEM file that begins with -----BEGIN PRIVATE KEY-----, without a passphrase", "ghi tên tệp PEM bắt đầu bằng -----BEGIN PRIVATE KEY-----, không có mật khẩu"},
	{"name the key that the certificate was made for; the server's own certificate comes first in the file", "ghi khóa mà chứng thư được cấp cho; chứng thư của chính máy chủ đứng đầu tệp"},
	{"correct the path; it is relative to the directory of this file", "sửa đường dẫn; đường dẫn tính từ thư mục của tệp này"},
	{"check the clock of this machine, or wait", "kiểm tra đồng hồ của máy này, hoặc chờ"},
	{"renew it; the gateway reads it by itself", "gia hạn chứng thư; cổng thư tự đọc lại"},
	{"write always, never, or for how long the same wrong password counts again, up to 24h, such as 3m", "ghi always, never, hoặc khoảng thời gian mà cùng một mật khẩu sai được tính lại, đến 24h, ví dụ 3m"},
	{"write a name of the IANA list, such as Asia/Ho_Chi_Minh", "ghi một tên trong danh sách IANA, ví dụ Asia/Ho_Chi_Minh"},
	{"write a regular expression, or leave it out", "ghi một biểu thức chính quy, hoặc bỏ mục này"},
	{"see https://pkg.go.dev/regexp/syntax; in single quotes a backslash stands for itself", "xem https://pkg.go.dev/regexp/syntax; trong dấu nháy đơn, dấu \\ là chính nó"},
	{"write HH:MM between \"00:00\" and \"23:59\", such as \"02:30\"", "ghi HH:MM từ \"00:00\" đến \"23:59\", ví dụ \"02:30\""},
	{"write an IP address, or a network such as 192.0.2.0/28 or 2001:db8:1::/64; a name cannot be used", "ghi một địa chỉ IP, hoặc một mạng như 192.0.2.0/28 hoặc 2001:db8:1::/64; không dùng tên được"},
	{"write it as IPv4: %s", "ghi dưới dạng IPv4: %s"},
	{"list the addresses of your own machines only", "chỉ ghi địa chỉ máy của quý vị"},
	{"list the balancers in `from`, or remove `proxy_protocol`", "ghi các bộ cân bằng tải trong `from`, hoặc xóa `proxy_protocol`"},
	{"list the networks or addresses that your offices come from, each of %s bits or more", "ghi các mạng hoặc địa chỉ mà cơ quan của quý vị dùng, mỗi mạng từ %s bit trở lên"},
	{"write %s for the network, or %s for the one address", "ghi %s cho cả mạng, hoặc %s cho một địa chỉ"},
	{"write the /64: %s", "ghi mạng /64: %s"},
	{"write digits only, such as %s", "chỉ ghi chữ số, ví dụ %s"},
	{"write the fields below it, indented, or in { }", "ghi các mục bên dưới, thụt đầu dòng, hoặc trong { }"},
	{"write the items below it, each after a dash", "ghi các phần tử bên dưới, mỗi phần tử sau một dấu gạch"},
	{"write it on the same line as the field, without brackets", "ghi trên cùng dòng với mục, không có ngoặc"},
	{"put it in brackets: %s", "đặt trong ngoặc vuông: %s"},
	{"put it in quotes: %s", "đặt trong dấu ngoặc kép: %s"},
	{"write %s or more", "ghi %s trở lên"},
	{"write %s or %s", "ghi %s hoặc %s"},
	{"write %s", "ghi %s"},
}

// sayingPatterns are the patterns of the sayings, in the same order: the first match is
// used.
var sayingPatterns = sync.OnceValue(func() []*regexp.Regexp {
	found := make([]*regexp.Regexp, len(sayings))
	for i, s := range sayings {
		parts := strings.Split(s.en, "%s")
		for j := range parts {
			parts[j] = regexp.QuoteMeta(parts[j])
		}
		found[i] = regexp.MustCompile(`^` + strings.Join(parts, `(.+?)`) + `$`)
	}
	return found
})

// inVietnamese returns a problem's text in Vietnamese, or unchanged.
func inVietnamese(text string) string {
	for i, p := range sayingPatterns() {
		found := p.FindStringSubmatch(text)
		if found == nil {
			continue
		}
		parts := strings.Split(sayings[i].vi, "%s")
		vi := parts[0]
		for j, word := range found[1:] {
			word = kindInVietnamese(word)
			vi += word + parts[j+1]
		}
		return vi
	}
	return text
}

// kindInVietnamese translates the expected or found kind of a value; other words are
// those of the file.
func kindInVietnamese(word string) string {
	if number, ok := strings.CutPrefix(word, "the number "); ok {
		return "số " + number
	}
	if text, ok := strings.CutPrefix(word, "the text "); ok {
		return "chữ " + text
	}
	if group, ok := strings.CutPrefix(word, "in `"); ok {
		return "trong `" + group
	}
	vi, ok := map[string]string{
		"at the top": "ở cấp cao nhất",
		"a list":     "một danh sách", "text": "chữ", "a number": "một số", "a whole number": "một số nguyên", "a group of fields": "một nhóm mục",
		"true or false": "true hoặc false", "something else": "thứ khác",
	}[word]
	if ok {
		return vi
	}
	return word
}

// InVietnamese returns the problem in Vietnamese.
func (p Problem) InVietnamese() Problem {
	p.Message, p.Fix, p.vietnamese = inVietnamese(p.Message), inVietnamese(p.Fix), true
	return p
}

// ReportInVietnamese is [Error.Report] in Vietnamese.
func (e *Error) ReportInVietnamese() string {
	problems := make([]Problem, len(e.Problems))
	for i, p := range e.Problems {
		problems[i] = p.InVietnamese()
	}
	return Render(problems) + fmt.Sprintf("\n%s: %d lỗi, chưa khởi động gì\n", e.File, len(problems))
}
