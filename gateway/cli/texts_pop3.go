package cli

func init() {
	protocolTexts = append(protocolTexts,
		text{"pop3", "pop3"},
		text{"pop3 upstream", "máy chủ POP3"},
		text{"the mail server has AUTH-RESP-CODE: only -ERR [AUTH] is a wrong password", "máy chủ thư có AUTH-RESP-CODE: chỉ -ERR [AUTH] là sai mật khẩu"},
		text{"the mail server has no AUTH-RESP-CODE: each -ERR without a code is a wrong password, and it may say the same of a maildrop that another session has locked. Open the maildrop twice, and write what it says then into pop3.upstream.not_wrong", "máy chủ thư không có AUTH-RESP-CODE: mỗi -ERR không có mã đều là sai mật khẩu, và nó có thể nói như vậy cả khi hộp thư đang do một phiên khác khóa. Hãy mở hộp thư hai lần cùng lúc, rồi ghi câu nó trả lời khi ấy vào pop3.upstream.not_wrong"},
		text{"the mail server sees one address for everybody: Dovecot allows 10 connections per user and address, and slows addresses down after wrong passwords. Set haproxy = yes in its inet_listener and pop3.upstream.pass_client: proxy here", "máy chủ thư thấy mọi người dùng chung một địa chỉ: Dovecot cho phép 10 kết nối cho mỗi người dùng và địa chỉ, và làm chậm địa chỉ có nhập sai mật khẩu. Hãy đặt haproxy = yes trong inet_listener của nó, và pop3.upstream.pass_client: proxy ở đây"},
		text{"POP3 with STLS listens on this `HOST:PORT`", "cổng POP3 có STLS nghe ở `HOST:PORT` này"},
		text{"POP3 over TLS listens on this `HOST:PORT`", "cổng POP3 trên TLS nghe ở `HOST:PORT` này"},
	)
}
