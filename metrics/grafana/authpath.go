package grafana

// The outcomes that mean a fault of the servers: a person with the right password
// received "try again later".
const trouble = "unavailable|store_unavailable"

// success is the share of accepted logins among those that a healthy system would have
// accepted, as far as that can be known. Wrong passwords, locks and throttled sources
// are not faults, so neither number includes them; nor busy, which an attacker who
// guesses at one account can cause.
func success(by, span string) string {
	attempts := func(which string) string {
		return sumBy(by) + "(rate(" + of("congthu_login_attempts_total", which) + "[" + span + "]))"
	}
	return attempts(`outcome="accepted"`) + " / " + attempts(`outcome=~"accepted|`+trouble+`"`)
}

// The colours of outcomes show who is responsible: green, no one; yellow and grey, the
// user; violet, the regulation; red, the operator.
var (
	outcomeColors = map[string]string{
		"accepted": "green", "wrong_password": "yellow", "previous_password": "light-yellow", "repeated_password": "super-light-yellow",
		"no_such_domain": "#808080", "malformed": "#b8b8b8", "other_identity": "#a0a0a0", "cleartext": "#606060", "refused": "light-orange",
		"locked": "purple", "revoked": "light-purple", "expired": "super-light-purple", "throttled": "blue",
		"busy": "orange", "unavailable": "red", "store_unavailable": "dark-red",
	}
	outcomeOrder = []string{
		"accepted", "wrong_password", "previous_password", "repeated_password", "no_such_domain", "malformed", "other_identity", "cleartext", "refused",
		"locked", "revoked", "expired", "throttled", "busy", "unavailable", "store_unavailable",
	}
)

// quantiles returns three quantiles of one histogram.
func quantiles(metric string, matchers ...string) (queries []query) {
	for _, q := range []string{"0.5", "0.95", "0.99"} {
		queries = append(queries, query{map[string]string{"0.5": "p50", "0.95": "p95", "0.99": "p99"}[q], quantile(q, "", metric, matchers...)})
	}
	return queries
}

const eachSecond = "suffix:/s"

// AuthPath is the dashboard for the administrator on call: can people log in, and if
// not, which part has the fault?
func AuthPath() Dashboard {
	word := map[string]any{"mappings": upOrDown(), "thresholds": limits(bad, 1.0, good), "custom.cellOptions": map[string]any{"type": "color-background", "mode": "basic"}}
	return dashboard("congthu-auth-path",
		text{"Cổng thư: đăng nhập", "Mail gate: logins"},
		text{
			"Đọc từ trên xuống, từ trái sang phải: có ai không đăng nhập được không, và lỗi nằm ở đâu: máy chủ thư, kho dữ liệu, hay chính cổng thư.",
			"Read it from the top left: can people log in, and if not, is it the mail server, the store or the gateway itself?",
		}, "now-3h", []row{
			{text{"Có đăng nhập được không?", "Can people log in?"}, []chart{
				big(text{"Đăng nhập được", "Success"}, text{
					"Trong 5 phút qua, bao nhiêu phần lượt đăng nhập đúng được vào. Sai mật khẩu, bị khóa, bị chặn nguồn không tính. Dưới 99%: xem các ô bên phải, ô đỏ là nguyên nhân.",
					"Of the last 5 minutes' logins that should have been let in, the share that was. Wrong passwords, locks and throttled sources are not counted. Below 99 %: the red one of the next panels is the reason.",
				}, field{Unit: "percentunit", Decimals: new(1), Thresholds: limits(bad, 0.95, notice, 0.99, good), Mappings: noValue()},
					query{"", success("", "5m")}).at("congthunobodycanlogin"),
				big(text{"Máy chủ thư", "Mail server"}, text{
					"Máy chủ thư có trả lời lần thăm dò gần nhất không (15 giây một lần), theo từng giao thức. HỎNG: không ai đăng nhập được; cổng thư chỉ trả lời \"thử lại sau\" và không khóa ai.",
					"Whether the mail server answered the latest probe (every 15 s), by protocol. DOWN: nobody can log in; the gateway says \"try again later\" and locks nobody.",
				}, field{Thresholds: limits(bad, 1.0, good), Mappings: upOrDown()},
					query{"{{protocol}}", "min by (protocol) (" + of("congthu_upstream_up") + ")"}).at("congthuupstreamdown"),
				big(text{"Kho dữ liệu", "Store"}, text{
					"Kho dữ liệu (SQLite hoặc PostgreSQL) có dùng được không. HỎNG: chỉ người vừa đăng nhập đúng mới vào được, tối đa store.grace (1 giờ). Xem đĩa, cơ sở dữ liệu và nhật ký.",
					"Whether the store (SQLite or PostgreSQL) can be used. DOWN: only people whose password was seen lately get in, for store.grace (1 h). Look at the disk, the database and the log.",
				}, field{Thresholds: limits(bad, 1.0, good), Mappings: upOrDown()},
					query{"", "min(" + of("congthu_store_up") + ")"}).at("congthustoredown"),
				big(text{"Cổng không trả lời", "Gateways gone"}, text{
					"Số cổng thư mà Prometheus không đọc được. Khác 0: xem máy đó có chạy không (systemctl status congthu).",
					"Gateways that Prometheus cannot read. Not 0: see whether that machine runs (systemctl status congthu).",
				}, field{Thresholds: limits(good, 1.0, bad)},
					query{"", "sum(1 - " + of("up") + ")"}).at("congthutargetdown"),
				big(text{"Đang chờ", "Waiting"}, text{
					"Lượt đăng nhập đang chờ một chỗ trống của tài khoản mình. Nhiều và lâu: có người dò mật khẩu, hoặc máy chủ thư chậm.",
					"Attempts that wait for a free slot of their account. Many for long: somebody guesses passwords, or the mail server is slow.",
				}, field{Thresholds: limits(good, 20.0, notice, 100.0, bad)},
					query{"", "sum(" + of("congthu_login_slots_waiting") + ")"}),
				big(text{"Chứng thư còn", "Certificate"}, text{
					"Số ngày còn lại của chứng thư mà phần mềm thư nhìn thấy. Hết hạn là mọi phần mềm thư từ chối kết nối. Thay tệp rồi systemctl reload congthu.",
					"Days left of the certificate that mail programs see. When it runs out they all refuse to connect. Replace the files, then systemctl reload congthu.",
				}, field{Unit: "suffix: d", Decimals: new(0), Thresholds: limits(bad, 7.0, notice, 21.0, good)},
					query{"", "(min(" + of("congthu_certificate_expiry_timestamp_seconds", `certificate="clients"`) + ") - time()) / 86400"}).at("congthucertificateexpiresin7days"),
			}},
			{text{"Các lượt đăng nhập", "The attempts"}, []chart{
				lines(text{"Lượt đăng nhập theo kết quả", "Attempts by outcome"}, text{
					"Đỏ và cam là lỗi của hệ thống; tím là quy định chặn; vàng là gõ sai; xanh dương là nguồn bị chặn tạm. Tên kết quả giống trong nhật ký.",
					"Red and orange are the system's fault, violet is the regulation, yellow is mistyped, blue is a source that is held off. The names are those of the log.",
				}, eachSecond, 12, query{"{{outcome}}", perSecond("outcome", "congthu_login_attempts_total")}).stacked().colored(outcomeColors, outcomeOrder...),
				func() chart {
					c := lines(text{"Tỉ lệ đăng nhập được", "Success ratio"}, text{
						"Như ô đầu tiên, theo thời gian và giao thức. Khoảng trống là lúc không ai đăng nhập.",
						"As the first figure, over time and by protocol. A gap is a time without logins.",
					}, "percentunit", 12, query{"{{protocol}}", success("protocol", "$__rate_interval")}).drawn(limits(bad, 0.95, notice, 0.99, good)).at("congthuloginerrorsfast")
					c.field.Max = new(1.0)
					return c
				}(),
			}},
			{text{"Mất bao lâu, và ở đâu", "How long it takes, and where"}, []chart{
				lines(text{"Cả lượt", "Whole login"}, text{
					"Từ lúc nhận đủ mật khẩu đến lúc được vào. So với hai ô bên phải để biết thời gian mất ở đâu.",
					"From complete credentials to being let in. The next two panels tell where the time goes.",
				}, "s", 8, quantiles("congthu_login_duration_seconds", `result="accepted"`)...).drawn(limits(good, 2.0, notice, 5.0, bad)).at("congthuloginsslow"),
				lines(text{"Xét vào", "Admission"}, text{
					"Đọc tài khoản và chờ chỗ trống, trước khi hỏi máy chủ thư. Cao: kho dữ liệu chậm, hoặc nhiều lượt cùng một tài khoản.",
					"Reading the account and waiting for a slot, before the mail server is asked. High: the store is slow, or many try one account.",
				}, "s", 8, quantiles("congthu_login_admission_duration_seconds")...),
				lines(text{"Máy chủ thư", "Mail server"}, text{
					"Máy chủ thư mất bao lâu để nhận kết nối và xét mật khẩu. Dovecot cố ý trả lời mật khẩu sai sau 2 giây: p99 cao khi nhiều người gõ sai.",
					"How long the mail server takes to connect and to judge. Dovecot answers a wrong password after 2 s on purpose: p99 is high when many mistype.",
				}, "s", 8, quantiles("congthu_login_upstream_duration_seconds")...),
			}},
			{text{"Ai phải chờ, ai bị giữ lại", "Who waits, who is held off"}, []chart{
				lines(text{"Đang chờ lượt", "Slots waiting"}, text{
					"Lượt đang chờ chỗ trống, theo từng máy.",
					"Attempts that wait for a slot, by gateway.",
				}, "short", 8, query{"{{instance}}", "sum by (instance) (" + of("congthu_login_slots_waiting") + ")"}),
				lines(text{"Nguồn bị giữ lại", "Throttled"}, text{
					"Lượt bị từ chối tạm vì nguồn đó sai quá nhiều: không hỏi máy chủ thư và không tính vào tài khoản. Một đợt cao: có người dò mật khẩu (congthu account causes). Mạng của cơ quan mình: khai báo trong throttle.known_networks. dùng chung: tên chưa ai đăng nhập được, bị từ chối vì bộ đếm dùng chung đã đầy; trong đó có thể có người mới (congthu import accounts).",
					"Attempts refused for a while because of their source: the mail server is not asked and nothing is counted on accounts. A wave: somebody guesses (congthu account causes). Networks of your own offices belong in throttle.known_networks. shared: names that nobody logged in with, refused because their shared counter is full; newcomers may be among them (congthu import accounts).",
				}, eachSecond, 8, query{"{{protocol}}", perSecond("protocol", "congthu_login_attempts_total", `outcome="throttled"`)},
					query{"dùng chung / shared", perSecond("", "congthu_login_shared_total", `result="denied"`)}).at("congthususpectedattack"),
				lines(text{"Máy chủ thư trả lời", "Mail server's answers"}, text{
					"none là không có phán quyết: không tới được, quá chậm, hoặc không hiểu. refused là máy chủ từ chối vì lý do riêng.",
					"none is no verdict at all: not reached, too slow, or not understood. refused is a reason of its own.",
				}, eachSecond, 8, query{"{{judgement}}", perSecond("judgement", "congthu_upstream_answers_total")}).stacked().
					colored(map[string]string{"right": "green", "wrong": "yellow", "refused": "light-orange", "none": "red", "unsettled": "dark-red"},
						"right", "wrong", "refused", "none", "unsettled"),
			}},
			{text{"Những gì ở phía sau", "What stands behind"}, []chart{
				states(text{"Chạy và hỏng", "Up and down"}, text{
					"Máy chủ thư (imap, smtp) và kho dữ liệu theo thời gian: bắt đầu hỏng từ lúc nào thì nhìn ở đây.",
					"The mail server (imap, smtp) and the store over time: here is when it began.",
				}, 8, query{"{{protocol}}", "min by (protocol) (" + of("congthu_upstream_up") + ")"}, query{"store", "min(" + of("congthu_store_up") + ")"}),
				lines(text{"Kho dữ liệu lỗi", "Store failures"}, text{
					"Thao tác hỏng của kho dữ liệu. Bình thường là 0. lost_slots: chỗ đang giữ mà PostgreSQL đã làm mất, như khi máy dự phòng không đồng bộ thay thế; câu trả lời vẫn được tính.",
					"Operations of the store that failed. Normally 0. lost_slots: slots that PostgreSQL has lost, as when an asynchronous standby takes over; their answers were counted all the same.",
				}, eachSecond, 8, query{"{{operation}}", perSecond("operation", "congthu_store_operations_total", `result="failed"`)},
					query{"lost_slots", perSecond("", "congthu_store_lost_slots_total")}),
				lines(text{"Ghi xuống đĩa", "Commits"}, text{
					"Một lần ghi an toàn xuống đĩa (fsync) mất bao lâu. Trên 50 ms mãi: đĩa không theo kịp.",
					"How long one transaction takes until it is safe on disk (fsync). Above 50 ms all the time: the disk cannot keep up.",
				}, "s", 8, quantiles("congthu_store_commit_duration_seconds")...).drawn(limits(good, 0.05, notice, 0.5, bad)),
			}},
			{text{"Kết nối", "Connections"}, []chart{
				lines(text{"Kết nối đang mở", "Open connections"}, text{
					"Kết nối của phần mềm thư, và phiên đã đăng nhập. Rơi xuống đột ngột: mạng, bộ cân bằng tải, hoặc cổng thư vừa khởi động lại.",
					"Connections of mail programs, and sessions that are logged in. A sudden drop: the network, the load balancer, or a restart.",
				}, "short", 8, query{"{{protocol}}", "sum by (protocol) (" + of("congthu_connections_active") + ")"},
					query{"phiên / sessions", "sum(" + of("congthu_sessions_live") + ")"}),
				lines(text{"Bắt tay TLS", "TLS handshakes"}, text{
					"failed tăng ngay sau khi thay chứng thư: phần mềm thư không tin chứng thư mới (thiếu chứng thư trung gian?).",
					"failed jumps after a change of the certificate: clients do not trust the new one (an intermediate missing?).",
				}, eachSecond, 8, query{"{{protocol}} {{result}}", perSecond("protocol, result", "congthu_tls_handshakes_total")}),
				lines(text{"Lưu lượng chuyển tiếp", "Relay throughput"}, text{
					"Dữ liệu chuyển giữa phần mềm thư đã đăng nhập và máy chủ thư.",
					"Data between logged-in clients and the mail server.",
				}, "Bps", 8, query{"{{protocol}} {{direction}}", perSecond("protocol, direction", "congthu_relay_bytes_total")}),
			}},
			{text{"Từng máy", "Each gateway"}, []chart{
				table(text{"Từng cổng thư", "Each gateway"}, text{
					"Một dòng cho mỗi máy. Máy nào khác các máy kia là máy có vấn đề. Cấu hình HỎNG: lần nạp lại gần nhất bị từ chối, cấu hình cũ vẫn chạy. Đồng hồ HỎNG: đồng hồ bị nghi ngờ (congthu clock). Quy tắc chung HỎNG: cổng này dùng quy tắc khác các cổng kia (congthu rules show).",
					"One line for each. The one that differs from the others is the one to look at. Configuration DOWN: the last reload was refused and the old one is in force. Clock DOWN: the clock is suspect (congthu clock). Agreed rules DOWN: this gateway works by other rules than the others (congthu rules show).",
				}, 24, map[string]any{"instance": text{"Máy", "Instance"}.title(), "version": text{"Phiên bản", "Version"}.title()},
					column{text{"Chạy", "Up"}, "max by (instance) (" + of("up") + ")", word},
					column{text{}, "max by (instance, version) (" + of("congthu_build_info") + ")", nil},
					column{text{"Lượt/s", "Attempts/s"}, "sum by (instance) (rate(" + of("congthu_login_attempts_total") + "[5m]))", map[string]any{"decimals": 2}},
					column{text{"Đăng nhập được", "Success"}, success("instance", "5m"), map[string]any{
						"unit": "percentunit", "decimals": 1, "thresholds": limits(bad, 0.95, notice, 0.99, good), "mappings": noValue(),
						"custom.cellOptions": map[string]any{"type": "color-background", "mode": "basic"}}},
					column{text{"p99", "p99"}, "histogram_quantile(0.99, sum by (le, instance) (rate(" + of("congthu_login_duration_seconds_bucket", `result="accepted"`) + "[5m])))", map[string]any{"unit": "s"}},
					column{text{"Phiên", "Sessions"}, "sum by (instance) (" + of("congthu_sessions_live") + ")", nil},
					column{text{"Kho", "Store"}, "min by (instance) (" + of("congthu_store_up") + ")", word},
					column{text{"Cấu hình", "Configuration"}, "min by (instance) (" + of("congthu_config_last_reload_successful") + ")", word},
					column{text{"Đồng hồ", "Clock"}, "1 - max by (instance) (" + of("congthu_clock_suspect") + ")", word},
					column{text{"Quy tắc chung", "Agreed rules"}, "1 - max by (instance) (" + of("congthu_rules_behind") + ")", word},
					column{text{"Lỗi chương trình 24 giờ", "Panics 24 h"}, "sum by (instance) (increase(" + of("congthu_panics_total") + "[24h]))", map[string]any{"decimals": 0}},
					column{text{"Bộ nhớ", "Memory"}, "sum by (instance) (" + of("process_resident_memory_bytes") + ")", map[string]any{"unit": "bytes"}},
				),
			}},
		})
}
