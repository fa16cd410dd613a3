package grafana

import (
	"fmt"

	"congthu/auth"
)

// Compliance is the dashboard for the officer responsible for the regulation: which
// accounts are refused now, which will be next, and which rules are in warn mode.
func Compliance() Dashboard {
	state := func(s auth.State) string {
		return "max(" + of("congthu_accounts", fmt.Sprintf("state=%q", s)) + ")"
	}
	var runningOut []query
	for _, days := range auth.ExpiryDays() {
		runningOut = append(runningOut, query{fmt.Sprintf("≤ %d ngày / d", days), "max(" + of("congthu_passwords_running_out", fmt.Sprintf(`days="%d"`, days)) + ")"})
	}
	var idle []query
	for months := range auth.MaxIdleMonths + 1 {
		legend := fmt.Sprint(months)
		if months == auth.MaxIdleMonths {
			legend = "≥ " + legend
		}
		idle = append(idle, query{legend, "max(" + of("congthu_accounts_idle", fmt.Sprintf(`months="%02d"`, months)) + ")"})
	}
	mode := map[string]mapped{
		auth.Enforce.String(): {Text: "enforce", Color: good, Index: 0}, auth.Warn.String(): {Text: "warn", Color: notice, Index: 1}, auth.Off.String(): {Text: "off", Color: bad, Index: 2},
	}
	modes := table(text{"Quy tắc và chế độ", "Rules and their modes"}, text{
		"enforce: thi hành. warn: chỉ theo dõi, không chặn ai. off: không xét. Đổi trong cấu hình (rules.*.mode), rồi systemctl reload congthu.",
		"enforce: refuses. warn: only watches and refuses nobody. off: not looked at. Change it in the configuration (rules.*.mode), then systemctl reload congthu.",
	}, 8, map[string]any{"rule": text{"Quy tắc", "Rule"}.title(), "mode": text{"Chế độ", "Mode"}.title()},
		column{text{}, "max by (rule, mode) (" + of("congthu_rule_mode") + ") == 1", nil})
	modes.special = append(modes.special, override{
		Matcher: matcher{ID: "byName", Options: text{"Chế độ", "Mode"}.title()},
		Properties: []property{
			{"mappings", []mapping{{Type: "value", Options: mode}}},
			{"custom.cellOptions", map[string]any{"type": "color-background", "mode": "basic"}},
		},
	})
	perHour := "suffix:/h"

	return dashboard("congthu-compliance",
		text{"Cổng thư: thi hành quy chế", "Mail gate: the regulation"},
		text{
			"Ai đang bị từ chối theo quy chế, ai sắp bị, và quy tắc nào mới chỉ theo dõi. Số tài khoản được đếm 5 phút một lần; tên tài khoản không bao giờ ở đây: dùng congthu account list.",
			"Who is refused by the regulation now, who will be soon, and which rules only watch. Accounts are counted every 5 minutes; names are never here: use congthu account list.",
		}, "now-7d", []row{
			{text{"Hôm nay", "Today"}, []chart{
				big(text{"Đang khóa", "Locked"}, text{
					"Hộp thư đang khóa: quá 5 lần sai mật khẩu (Điều 6.2.d), hoặc do quản trị viên. Mở: congthu account unlock.",
					"Mailboxes that are locked: more than 5 wrong passwords (Art. 6.2.d), or by an administrator. congthu account unlock opens them.",
				}, field{Thresholds: limits(calm, 10.0, notice, 50.0, bad)}, query{"", state(auth.StateLocked)}).at("congthulockburst"),
				big(text{"Mật khẩu hết hạn", "Expired"}, text{
					"Mật khẩu quá 3 tháng (Điều 9): đăng nhập bị từ chối đến khi đổi. Gia hạn tối đa 7 ngày: congthu account grace.",
					"Passwords older than 3 months (Art. 9): refused until they are changed. Up to 7 days of grace: congthu account grace.",
				}, field{Thresholds: limits(calm, 100.0, notice)}, query{"", state(auth.StateExpired)}),
				big(text{"Đã thu hồi", "Revoked"}, text{
					"Tài khoản không đăng nhập quá 12 tháng (Điều 5.3.c). Khôi phục: congthu account restore.",
					"Accounts not logged in to for more than 12 months (Art. 5.3.c). congthu account restore gives one back.",
				}, field{Thresholds: limits(calm)}, query{"", state(auth.StateRevoked)}),
				big(text{"Nghi tấn công", "Attacks"}, text{
					"Nguyên nhân gây khóa trông như tấn công. Khác 0: congthu account causes, chặn nguồn, rồi mở khóa cả nhóm (unlock --cause).",
					"Causes of locks that look like an attack. Not 0: congthu account causes, block the source, then unlock them together (unlock --cause).",
				}, field{Thresholds: limits(good, 1.0, bad)}, query{"", "max(" + of("congthu_suspected_attacks") + ")"}).at("congthususpectedattack"),
				big(text{"Giả người gửi 24 giờ", "Senders refused 24 h"}, text{
					"Thư bị từ chối trong 24 giờ vì người gửi không thuộc tài khoản (Điều 13.8). Nhiều: một tài khoản bị chiếm, hoặc thiếu ủy quyền (delegations). Nhật ký cho biết ai.",
					"Messages refused within 24 hours because the sender is not the account's (Art. 13.8). Many: an account was taken over, or a delegation is missing. The log tells who.",
				}, field{Decimals: new(0), Thresholds: limits(good, 1.0, notice, 50.0, bad)},
					query{"", during("24h", "", "congthu_submitted_messages_total", `result="sender_refused"`)}),
				big(text{"Chỉ theo dõi", "In warn mode"}, text{
					"Số quy tắc ở chế độ warn: không chặn ai. Sau giai đoạn triển khai phải là 0.",
					"Rules in mode warn: they refuse nobody. 0 once the roll-out is over.",
				}, field{Thresholds: limits(good, 1.0, notice)}, query{"", "sum(max by (rule) (" + of("congthu_rule_mode", `mode="warn"`) + "))"}),
			}},
			{text{"Sắp tới", "What comes next"}, []chart{
				bars(text{"Mật khẩu sắp hết hạn", "Passwords running out"}, text{
					"Bao nhiêu người phải đổi mật khẩu trong 1, 3, 7, 14 ngày tới (Điều 9); số sau gồm cả số trước. Nhiều trong 3 ngày: báo trước cho bộ phận hỗ trợ.",
					"How many people must change their password within 1, 3, 7 and 14 days (Art. 9); each figure includes the ones before. Many within 3 days: tell the helpdesk beforehand.",
				}, "horizontal", field{Thresholds: limits(calm, 100.0, notice)}, runningOut...),
				bars(text{"Số tháng không đăng nhập", "Months without a login"}, text{
					"Tài khoản theo số tháng tròn kể từ lần đăng nhập cuối. Cột 11 sẽ bị thu hồi trong tháng tới (Điều 5.3.c): nhắc chủ nhân.",
					"Accounts by whole months since the last login. Those of bar 11 are revoked within a month (Art. 5.3.c): remind their owners.",
				}, "vertical", field{Thresholds: limits(calm)}, idle...),
			}},
			{text{"Diễn biến", "Over time"}, []chart{
				lines(text{"Tài khoản theo trạng thái", "Accounts by state"}, text{
					"Mỗi tài khoản một trạng thái. never_seen: đã nhập danh sách nhưng chưa đăng nhập qua cổng.",
					"One state for each account. never_seen: imported, not logged in through the gateway yet.",
				}, "short", 12, query{"{{state}}", "max by (state) (" + of("congthu_accounts") + ")"}).stacked().
					colored(map[string]string{"active": "green", "expiring": "yellow", "expired": "orange", "locked": "red", "revoked": "purple", "never_seen": "#808080"},
						"active", "expiring", "expired", "locked", "revoked", "never_seen"),
				lines(text{"Khóa, mở khóa, thu hồi", "Locks, unlocks, revocations"}, text{
					"Số lần mỗi giờ, theo nguyên nhân. Nhiều khóa cùng lúc do wrong_passwords: có người dò mật khẩu hàng loạt.",
					"Per hour, by cause. Many locks at once by wrong_passwords: somebody tries passwords on many accounts.",
				}, perHour, 12,
					query{"khóa / lock {{cause}}", during("1h", "cause", "congthu_lockouts_total")},
					query{"mở / unlock {{cause}}", during("1h", "cause", "congthu_unlocks_total")},
					query{"thu hồi / revoke {{cause}}", during("1h", "cause", "congthu_revocations_total")}).at("congthulockburst"),
				lines(text{"Thư theo kết quả", "Messages by result"}, text{
					"sender_refused: cổng thư từ chối người gửi (Điều 13.8). would_refuse: sẽ bị từ chối nếu quy tắc được thi hành.",
					"sender_refused: the gateway's own check of the sender (Art. 13.8). would_refuse: would be, if the rule were enforced.",
				}, perHour, 12,
					query{"{{result}}", during("1h", "result", "congthu_submitted_messages_total")},
					query{"would_refuse", during("1h", "", "congthu_submitted_would_refuse_total")}),
				lines(text{"Lượt được vào dù trái quy tắc", "Let in by a rule in warn mode"}, text{
					"Số lần đăng nhập mỗi giờ được cho vào chỉ vì quy tắc đang ở chế độ warn.",
					"Logins per hour that were let in only because the rule is in mode warn.",
				}, perHour, 12, query{"{{outcome}}", during("1h", "outcome", "congthu_login_would_refuse_total")}),
			}},
			{text{"Quy tắc", "The rules"}, []chart{
				modes,
				lines(text{"Tài khoản trái quy tắc", "Accounts against a rule"}, text{
					"Bao nhiêu tài khoản bị (enforce) hoặc sẽ bị (warn) quy tắc đó từ chối. Xem con số này trước khi chuyển từ warn sang enforce.",
					"How many accounts each rule refuses (enforce) or would refuse (warn). Look here before you turn warn into enforce.",
				}, "short", 16, query{"{{rule}}", "max by (rule) (" + of("congthu_accounts_against_rule") + ")"}),
			}},
			{text{"Chứng cứ", "Evidence"}, []chart{
				big(text{"Chuỗi nhật ký kiểm toán", "Audit chain"}, text{
					"HỎNG: nhật ký kiểm toán đã bị sửa hoặc cắt. Giữ nguyên cơ sở dữ liệu, chạy congthu audit verify.",
					"DOWN: the audit log was changed or cut. Keep the database as it is and run congthu audit verify.",
				}, field{Thresholds: limits(bad, 1.0, good), Mappings: upOrDown()}, query{"", "min(" + of("congthu_audit_chain_ok") + ")"}).wide(6).at("congthuauditbroken"),
				big(text{"Kiểm tra chuỗi cách đây", "Audit verified"}, text{
					"Từ lần kiểm tra toàn bộ nhật ký kiểm toán gần nhất; mỗi ngày một lần.",
					"Since the audit log was last verified from end to end; it is once a day.",
				}, field{Unit: "s", NoValue: "chưa / never", Thresholds: limits(good, 26*3600.0, notice, 50*3600.0, bad)},
					query{"", "time() - max(" + of("congthu_audit_chain_verified_timestamp_seconds") + ")"}).wide(6).at("congthuauditnotverified"),
				big(text{"Rà soát cách đây", "Last sweep"}, text{
					"Từ lần rà soát tài khoản không dùng gần nhất (Điều 5.3.c); mỗi ngày một lần. chưa: chưa lần nào từ khi khởi động.",
					"Since the last sweep for dormant accounts (Art. 5.3.c); it is once a day. never: not since the start.",
				}, field{Unit: "s", NoValue: "chưa / never", Thresholds: limits(good, 26*3600.0, notice, 50*3600.0, bad)},
					query{"", "time() - (max(" + of("congthu_sweep_last_success_timestamp_seconds") + ") > 0)"}).wide(6).at("congthusweepnotdone"),
				big(text{"Tên lạ đang nhớ", "Unknown names"}, text{
					"Tên chưa ai đăng nhập được. Gần store.max_unknown_names (100000): tên mới phải dùng chung bộ đếm; hãy nhập danh sách tài khoản (congthu import accounts).",
					"Names that nobody has ever logged in with. Near store.max_unknown_names (100000): further names share counters; import the accounts (congthu import accounts).",
				}, field{Thresholds: limits(calm, 50000.0, notice, 90000.0, bad)}, query{"", "max(" + of("congthu_unknown_names") + ")"}).wide(6).at("congthuunknownnamesfull"),
			}},
		})
}

func (c chart) wide(n int) chart { c.width = n; return c }
