package admin

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"

	"congthu/auth"
	"congthu/auth/guard"
)

// instant reads a time in the regulation's zone.
func instant(s string) time.Time {
	t, err := time.ParseInLocation("2006-01-02 15:04", s, auth.DefaultRules().Location)
	if err != nil {
		panic(err)
	}
	return t.UTC()
}

func from(source, at string) auth.Mistake {
	return auth.Mistake{At: instant(at), Source: netip.MustParseAddrPort(source)}
}

func TestWhyAUserCannotLogIn(t *testing.T) {
	now := instant("2025-06-15 10:00")
	// healthy is an account that can log in.
	healthy := auth.Account{
		Name: "an@x.vn", Registered: instant("2024-01-02 08:00"), FirstLogin: instant("2024-01-02 08:00"),
		LastLogin: instant("2025-06-14 17:30"), Password: auth.Password{Since: instant("2025-05-01 09:00")},
	}
	edit := func(f func(*auth.Account)) auth.Account {
		a := healthy
		f(&a)
		return a
	}
	sixMistakes := []auth.Mistake{
		from("203.0.113.5:40000", "2025-06-15 09:00"), from("203.0.113.5:40001", "2025-06-15 09:01"),
		from("203.0.113.5:40002", "2025-06-15 09:02"), from("[2001:db8::1]:50000", "2025-06-15 09:03"),
		from("203.0.113.5:40003", "2025-06-15 09:04"), from("203.0.113.5:40004", "2025-06-15 09:05"),
	}
	lockedByPasswords := edit(func(a *auth.Account) {
		a.Failures, a.Mistakes = 6, sixMistakes
		a.Lock = auth.Lock{Mark: auth.Mark{At: instant("2025-06-15 09:05"), By: auth.ByGateway}, Cause: auth.ByWrongPasswords}
	})
	timed := auth.DefaultRules()
	timed.Lockout.UnlockAfter = 2 * time.Hour
	ended := auth.DefaultRules()
	ended.Lockout.UnlockAfter = 30 * time.Minute
	warning := auth.DefaultRules()
	warning.Lockout.Mode, warning.Dormancy.Mode, warning.Password.Mode = auth.Warn, auth.Warn, auth.Warn
	strict := auth.DefaultRules()
	strict.Lockout.CountPrevious = true

	for _, c := range []struct {
		name    string
		account auth.Account
		rules   auth.Rules
		change  string
		lately  guard.Refusal
		silent  guard.Refusal // the mail server was
		want    []Why
	}{
		{
			name: "locked by wrong passwords", account: lockedByPasswords,
			want: []Why{{
				Outcome: "locked", Since: instant("2025-06-15 09:05"),
				EN:     "Locked since 2025-06-15 09:05 after 6 wrong passwords, the latest at 2025-06-15 09:05, from 203.0.113.5, 2001:db8::1.",
				VI:     "Bị khóa từ 09:05 ngày 15/06/2025 sau 6 lần nhập sai mật khẩu, lần cuối lúc 09:05 ngày 15/06/2025, từ 203.0.113.5, 2001:db8::1.",
				TellEN: "Your mailbox is locked because a wrong password was entered more than 5 times. First correct the password saved on every device, then ask for the mailbox to be unlocked.",
				TellVI: "Hộp thư bị tạm khóa do nhập sai mật khẩu quá 5 lần. Trước hết đề nghị quý vị sửa mật khẩu đã lưu trên mọi thiết bị, sau đó liên hệ lại để được mở khóa.",
			}},
		},
		{
			name: "locked for a time", account: lockedByPasswords, rules: timed,
			want: []Why{{
				Outcome: "locked", Since: instant("2025-06-15 09:05"),
				EN:     "Locked since 2025-06-15 09:05 after 6 wrong passwords, the latest at 2025-06-15 09:05, from 203.0.113.5, 2001:db8::1.",
				VI:     "Bị khóa từ 09:05 ngày 15/06/2025 sau 6 lần nhập sai mật khẩu, lần cuối lúc 09:05 ngày 15/06/2025, từ 203.0.113.5, 2001:db8::1.",
				TellEN: "Your mailbox is locked because a wrong password was entered more than 5 times. Correct the password saved on every device; the mailbox unlocks by itself at 2025-06-15 11:05.",
				TellVI: "Hộp thư bị tạm khóa do nhập sai mật khẩu quá 5 lần. Đề nghị quý vị sửa mật khẩu đã lưu trên mọi thiết bị; hộp thư sẽ tự mở khóa lúc 11:05 ngày 15/06/2025.",
			}},
		},
		{
			name: "a lock that has ended by itself", account: lockedByPasswords, rules: ended,
			want: []Why{nothing("2025-06-14 17:30", "17:30 ngày 14/06/2025")},
		},
		{
			name: "locked by an admin",
			account: edit(func(a *auth.Account) {
				a.Lock = auth.Lock{Mark: auth.Mark{At: instant("2025-06-01 08:00"), By: "Trần Thị B", Reason: "Nghỉ việc."}, Cause: auth.ByAdmin}
			}),
			want: []Why{{
				Outcome: "locked", Since: instant("2025-06-01 08:00"),
				EN:     "Locked since 2025-06-01 08:00 by Trần Thị B: Nghỉ việc. The gateway has seen no new password since the lock: after a lost or stolen device, make sure at the mail server that the password was changed.",
				VI:     "Bị Trần Thị B khóa từ 08:00 ngày 01/06/2025, lý do: Nghỉ việc. Cổng thư chưa thấy mật khẩu mới từ khi khóa: nếu khóa do mất thiết bị, phải kiểm tra tại máy chủ thư để chắc chắn mật khẩu đã được đổi.",
				TellEN: "Your mailbox was locked by an administrator. If it was locked because a device was lost or stolen, we unlock it after you have changed the password.",
				TellVI: "Hộp thư đã bị quản trị viên khóa. Nếu khóa do mất thiết bị, chúng tôi sẽ mở khóa sau khi quý vị đã đổi mật khẩu.",
			}},
		},
		{
			name: "revoked by the sweep",
			account: edit(func(a *auth.Account) {
				a.LastLogin = instant("2024-05-31 12:00")
				a.Revocation = auth.Mark{At: instant("2025-06-01 02:30"), By: auth.ByGateway, Reason: "dormant"}
			}),
			want: []Why{{
				Outcome: "revoked", Since: instant("2025-06-01 02:30"),
				EN:     "Revoked since 2025-06-01 02:30, not used for more than 12 months: the last login was at 2024-05-31 12:00 or up to an hour later.",
				VI:     "Bị thu hồi từ 02:30 ngày 01/06/2025 do không đăng nhập quá 12 tháng: lần đăng nhập cuối là 12:00 ngày 31/05/2024 hoặc sau đó tối đa 1 giờ.",
				TellEN: "Your mailbox was not used for more than 12 months and its account has been revoked. Please ask for it to be restored.",
				TellVI: "Hộp thư không được đăng nhập quá 12 tháng nên tài khoản đã bị thu hồi. Đề nghị quý vị gửi yêu cầu khôi phục tài khoản.",
			}},
		},
		{
			name: "dormant, the sweep to come",
			account: edit(func(a *auth.Account) {
				a.LastLogin = instant("2024-06-13 12:00")
			}),
			want: []Why{{
				Outcome: "revoked", Since: instant("2025-06-14 01:00"), // the day has ended, and the hour of tolerance
				EN:     "Not used for more than 12 months since 2025-06-14 01:00, so every login is refused: the last login was at 2024-06-13 12:00 or up to an hour later.",
				VI:     "Không đăng nhập quá 12 tháng, bị từ chối đăng nhập từ 01:00 ngày 14/06/2025: lần đăng nhập cuối là 12:00 ngày 13/06/2024 hoặc sau đó tối đa 1 giờ.",
				TellEN: "Your mailbox was not used for more than 12 months and its account has been revoked. Please ask for it to be restored.",
				TellVI: "Hộp thư không được đăng nhập quá 12 tháng nên tài khoản đã bị thu hồi. Đề nghị quý vị gửi yêu cầu khôi phục tài khoản.",
			}},
		},
		{
			name: "expired, and nobody said how to change it",
			account: edit(func(a *auth.Account) {
				a.Password.Since = instant("2025-02-28 09:00")
			}),
			want: []Why{{
				Outcome: "expired", Since: instant("2025-05-29 00:00"),
				EN:     "The password has been the same since 2025-02-28 09:00 and expired at 2025-05-29 00:00, after 3 months.",
				VI:     "Mật khẩu không đổi từ 09:00 ngày 28/02/2025, đã hết hạn lúc 00:00 ngày 29/05/2025, quá 3 tháng.",
				TellEN: "Your password is older than 3 months. Change it, then log in with the new one. The helpdesk tells you how.",
				TellVI: "Mật khẩu đã dùng quá 3 tháng. Đề nghị quý vị đổi mật khẩu rồi đăng nhập bằng mật khẩu mới. Bộ phận hỗ trợ sẽ hướng dẫn cách đổi.",
			}},
		},
		{
			name: "expired, with the page where to change it", change: "https://id.x.vn/doi-mat-khau",
			account: edit(func(a *auth.Account) {
				a.Password.Since = instant("2025-02-28 09:00")
			}),
			want: []Why{{
				Outcome: "expired", Since: instant("2025-05-29 00:00"),
				EN:     "The password has been the same since 2025-02-28 09:00 and expired at 2025-05-29 00:00, after 3 months.",
				VI:     "Mật khẩu không đổi từ 09:00 ngày 28/02/2025, đã hết hạn lúc 00:00 ngày 29/05/2025, quá 3 tháng.",
				TellEN: "Your password is older than 3 months. Change it, then log in with the new one. How to change it: https://id.x.vn/doi-mat-khau",
				TellVI: "Mật khẩu đã dùng quá 3 tháng. Đề nghị quý vị đổi mật khẩu rồi đăng nhập bằng mật khẩu mới. Cách đổi mật khẩu: https://id.x.vn/doi-mat-khau",
			}},
		},
		{
			name: "expired, with some days of grace left",
			account: edit(func(a *auth.Account) {
				a.Password.Since, a.GraceUntil = instant("2025-02-28 09:00"), instant("2025-06-18 10:00")
			}),
			want: []Why{{
				Outcome: "accepted",
				EN:      "The password expired at 2025-05-29 00:00; an admin lets it go on until 2025-06-18 10:00, 3 days from now.",
				VI:      "Mật khẩu hết hạn lúc 00:00 ngày 29/05/2025; quản trị viên đã gia hạn đến 10:00 ngày 18/06/2025, còn 3 ngày.",
				TellEN:  "Change your password before 2025-06-18 10:00. The helpdesk tells you how.",
				TellVI:  "Đề nghị quý vị đổi mật khẩu trước 10:00 ngày 18/06/2025. Bộ phận hỗ trợ sẽ hướng dẫn cách đổi.",
			}, nothing("2025-06-14 17:30", "17:30 ngày 14/06/2025")},
		},
		{
			name: "expiring soon",
			account: edit(func(a *auth.Account) {
				a.Password.Since = instant("2025-03-16 09:00")
			}),
			want: []Why{{
				Outcome: "accepted",
				EN:      "The password expires at 2025-06-17 00:00, 1 day from now.",
				VI:      "Mật khẩu sẽ hết hạn lúc 00:00 ngày 17/06/2025, còn 1 ngày.",
				TellEN:  "Change your password before 2025-06-17 00:00. The helpdesk tells you how.",
				TellVI:  "Đề nghị quý vị đổi mật khẩu trước 00:00 ngày 17/06/2025. Bộ phận hỗ trợ sẽ hướng dẫn cách đổi.",
			}, nothing("2025-06-14 17:30", "17:30 ngày 14/06/2025")},
		},
		{
			name: "an earlier password has run out beside the newest",
			account: edit(func(a *auth.Account) {
				a.Password.Known = []auth.KnownPassword{
					{Fingerprint: []byte("1"), Since: instant("2025-01-10 09:00")}, {Fingerprint: []byte("2"), Since: instant("2025-02-28 09:00")},
					{Fingerprint: []byte("3"), Since: instant("2025-05-01 09:00")},
				}
			}),
			want: []Why{beside(nothing("2025-06-14 17:30", "17:30 ngày 14/06/2025"),
				" An earlier password, first used at 2025-02-28 09:00, is older than 3 months: a login with that one is refused; the newest is of 2025-05-01 09:00.",
				" Mật khẩu trước đó, dùng lần đầu lúc 09:00 ngày 28/02/2025, đã quá 3 tháng: đăng nhập bằng mật khẩu ấy bị từ chối; mật khẩu mới nhất có từ 09:00 ngày 01/05/2025.")},
		},
		{
			name: "a device with the previous password",
			account: edit(func(a *auth.Account) {
				a.Stale = from("198.51.100.9:5555", "2025-06-15 08:15")
			}),
			want: []Why{{
				Outcome: "previous_password", Since: instant("2025-06-15 08:15"),
				EN:     "A device still tries a password from before a change, lately at 2025-06-15 08:15 from 198.51.100.9; it is not counted.",
				VI:     "Có thiết bị vẫn dùng mật khẩu cũ (trước khi đổi), gần đây lúc 08:15 ngày 15/06/2025 từ 198.51.100.9; không bị tính là nhập sai.",
				TellEN: "One of your devices still has the old password: it tried from 198.51.100.9 at 2025-06-15 08:15. Put in the new one there. If that is the device that was lost: it does not get in any more; there is nothing to do.",
				TellVI: "Một thiết bị của quý vị vẫn lưu mật khẩu cũ: đã thử từ 198.51.100.9 lúc 08:15 ngày 15/06/2025. Đề nghị quý vị nhập mật khẩu mới trên thiết bị đó. Nếu đó là thiết bị đã mất thì thiết bị đó không vào được nữa, quý vị không cần làm gì.",
			}, nothing("2025-06-14 17:30", "17:30 ngày 14/06/2025")},
		},
		{
			name: "such a device where the strictest reading holds", rules: strict,
			account: edit(func(a *auth.Account) {
				a.Stale = auth.Mistake{At: instant("2025-06-15 08:15")}
			}),
			want: []Why{{
				Outcome: "previous_password", Since: instant("2025-06-15 08:15"),
				EN:     "A device still tries a password from before a change, lately at 2025-06-15 08:15 from an unknown address; it is counted as a wrong password.",
				VI:     "Có thiết bị vẫn dùng mật khẩu cũ (trước khi đổi), gần đây lúc 08:15 ngày 15/06/2025 từ địa chỉ không rõ; bị tính là nhập sai.",
				TellEN: "One of your devices still has the old password: it tried from an unknown address at 2025-06-15 08:15. Put in the new one there. If that is the device that was lost: it does not get in any more; there is nothing to do.",
				TellVI: "Một thiết bị của quý vị vẫn lưu mật khẩu cũ: đã thử từ địa chỉ không rõ lúc 08:15 ngày 15/06/2025. Đề nghị quý vị nhập mật khẩu mới trên thiết bị đó. Nếu đó là thiết bị đã mất thì thiết bị đó không vào được nữa, quý vị không cần làm gì.",
			}, nothing("2025-06-14 17:30", "17:30 ngày 14/06/2025")},
		},
		{
			name: "such a device, long ago",
			account: edit(func(a *auth.Account) {
				a.Stale = from("198.51.100.9:5555", "2025-06-08 10:00")
			}),
			want: []Why{nothing("2025-06-14 17:30", "17:30 ngày 14/06/2025")},
		},
		{
			name: "wrong passwords that have not locked yet",
			account: edit(func(a *auth.Account) {
				a.Failures, a.Mistakes = 1, sixMistakes[:1]
			}),
			want: []Why{{
				Outcome: "wrong_password", Since: instant("2025-06-15 09:00"),
				EN:     "1 wrong password since the last login or unlock, the latest at 2025-06-15 09:00, from 203.0.113.5; 5 more will lock it.",
				VI:     "1 lần nhập sai mật khẩu kể từ lần đăng nhập hoặc mở khóa gần nhất, lần cuối lúc 09:00 ngày 15/06/2025, từ 203.0.113.5; thêm 5 lần nữa sẽ bị khóa.",
				TellEN: "A wrong password is being tried. Correct the password saved on every device: after 5 more your mailbox is locked.",
				TellVI: "Có mật khẩu sai đang được thử. Đề nghị quý vị sửa mật khẩu đã lưu trên mọi thiết bị: sau 5 lần sai nữa hộp thư sẽ bị khóa.",
			}, nothing("2025-06-14 17:30", "17:30 ngày 14/06/2025")},
		},
		{
			name: "rules that only warn stand in nobody's way", rules: warning,
			account: edit(func(a *auth.Account) {
				a.Failures, a.Mistakes = 6, sixMistakes
				a.LastLogin = instant("2023-05-31 12:00")
				a.Password.Since = instant("2023-05-31 12:00")
			}),
			want: []Why{nothing("2023-05-31 12:00", "12:00 ngày 31/05/2023")},
		},
		{
			name:    "imported, never seen",
			account: auth.Account{Name: "moi@x.vn", Registered: instant("2025-06-01 08:00")},
			want: []Why{{
				Outcome: "accepted", Since: instant("2025-06-01 08:00"),
				EN:     "No rule stands in the way; registered at 2025-06-01 08:00, and nobody has logged in through the gateway yet.",
				VI:     "Không vi phạm quy định nào; được đăng ký lúc 08:00 ngày 01/06/2025 và chưa có ai đăng nhập qua cổng thư.",
				TellEN: "Log in with your usual password. If it is refused, the mail server does not take that password.",
				TellVI: "Đề nghị quý vị đăng nhập bằng mật khẩu hiện có. Nếu bị từ chối thì máy chủ thư không chấp nhận mật khẩu đó.",
			}},
		},
		{
			name:    "unknown",
			account: auth.Account{Name: "ai@x.vn", Failures: 2},
			want:    []Why{unknown("2 wrong passwords have been counted", "có 2 lần nhập sai mật khẩu")},
		},
		{
			name:    "unknown, and nobody tried",
			account: auth.Account{Name: "ai@x.vn"},
			want:    []Why{unknown("no wrong password has been counted", "chưa ghi nhận lần nhập sai mật khẩu nào")},
		},
		{
			name: "unknown and locked all the same",
			account: auth.Account{
				Name: "ai@x.vn", Failures: 6,
				Lock: auth.Lock{Mark: auth.Mark{At: instant("2025-06-15 09:05"), By: auth.ByGateway}, Cause: auth.ByWrongPasswords},
			},
			want: []Why{{
				Outcome: "locked", Since: instant("2025-06-15 09:05"),
				EN:     "No account of this name is known; 6 tries with it have locked the name since 2025-06-15 09:05.",
				VI:     "Chưa có tài khoản nào mang tên này; tên này bị khóa sau 6 lần thử, từ 09:05 ngày 15/06/2025.",
				TellEN: "Check the spelling of the address: no mailbox of this name is known here. If it is right, we unlock it.",
				TellVI: "Đề nghị quý vị kiểm tra lại cách viết địa chỉ: cổng thư chưa biết hộp thư nào mang tên này. Nếu địa chỉ đúng, chúng tôi sẽ mở khóa.",
			}},
		},
		{
			name: "its address is throttled", account: healthy,
			lately: guard.Refusal{At: instant("2025-06-15 09:58"), Source: netip.MustParseAddrPort("203.0.113.5:40000"), Outcome: auth.Throttled},
			want: []Why{{
				Outcome: "throttled", Since: instant("2025-06-15 09:58"),
				EN:     "An attempt from 203.0.113.5 at 2025-06-15 09:58 was refused for now: too many wrong passwords came from that address or its network, on whatever accounts. Nothing is held against this one.",
				VI:     "Lần đăng nhập từ 203.0.113.5 lúc 09:58 ngày 15/06/2025 tạm thời bị từ chối: từ địa chỉ đó hoặc mạng của nó có quá nhiều lần nhập sai mật khẩu, kể cả vào tài khoản khác. Tài khoản này không bị ghi lỗi.",
				TellEN: "Too many wrong passwords came from your network. Try again in some minutes, or from another network.",
				TellVI: "Có quá nhiều lần nhập sai mật khẩu từ mạng của quý vị. Đề nghị quý vị thử lại sau ít phút, hoặc từ mạng khác.",

				AllowSource: "203.0.113.5",
			}},
		},
		{
			name: "its address is throttled, and it has wrong passwords", account: edit(func(a *auth.Account) { a.Failures = 2 }),
			lately: guard.Refusal{At: instant("2025-06-15 09:58"), Source: netip.MustParseAddrPort("203.0.113.5:40000"), Outcome: auth.Throttled},
			want: []Why{{
				Outcome: "throttled", Since: instant("2025-06-15 09:58"),
				EN:     "An attempt from 203.0.113.5 at 2025-06-15 09:58 was refused for now: too many wrong passwords came from that address or its network today, on whatever accounts, for it to try one that has 2 wrong passwords. Where this one was logged in to within 30 days it goes on.",
				VI:     "Lần đăng nhập từ 203.0.113.5 lúc 09:58 ngày 15/06/2025 tạm thời bị từ chối: hôm nay từ địa chỉ đó hoặc mạng của nó có quá nhiều lần nhập sai mật khẩu, kể cả vào tài khoản khác, nên không được thử tiếp một tài khoản đã có 2 lần sai. Từ những nơi đã đăng nhập tài khoản này trong 30 ngày qua thì vẫn vào được.",
				TellEN: "Too many wrong passwords came from your network, and some for your mailbox. Log in from where you usually do, or from here once we have unlocked it.",
				TellVI: "Có quá nhiều lần nhập sai mật khẩu từ mạng của quý vị, có cả vào hộp thư của quý vị. Đề nghị quý vị đăng nhập từ nơi quý vị vẫn dùng, hoặc tại đây sau khi được mở khóa.",

				AllowSource: "203.0.113.5",
			}, {
				Outcome: "wrong_password",
				EN:      "2 wrong passwords since the last login or unlock; 4 more will lock it.",
				VI:      "2 lần nhập sai mật khẩu kể từ lần đăng nhập hoặc mở khóa gần nhất; thêm 4 lần nữa sẽ bị khóa.",
				TellEN:  "A wrong password is being tried. Correct the password saved on every device: after 4 more your mailbox is locked.",
				TellVI:  "Có mật khẩu sai đang được thử. Đề nghị quý vị sửa mật khẩu đã lưu trên mọi thiết bị: sau 4 lần sai nữa hộp thư sẽ bị khóa.",
			}},
		},
		{
			name: "somebody guesses at it slowly", account: edit(func(a *auth.Account) { a.WrongOn, a.WrongThatDay = "2025-06-15", 31 }),
			lately: guard.Refusal{At: instant("2025-06-15 09:58"), Source: netip.MustParseAddrPort("203.0.113.5:40000"), Outcome: auth.Throttled},
			want: []Why{{
				Outcome: "throttled", Since: instant("2025-06-15 09:58"),
				EN:     "Somebody guesses: 31 wrong passwords today. Until midnight attempts are let through only from where it was logged in to within 30 days; one from 203.0.113.5 was refused at 2025-06-15 09:58.",
				VI:     "Có người đang dò mật khẩu: hôm nay 31 lần sai. Đến nửa đêm chỉ cho đăng nhập từ những nơi đã đăng nhập trong 30 ngày qua; một lần từ 203.0.113.5 bị từ chối lúc 09:58 ngày 15/06/2025.",
				TellEN: "Somebody tries passwords on your mailbox. Log in from where you usually do, or from here once we have unlocked it.",
				TellVI: "Có người đang thử mật khẩu hộp thư của quý vị. Đề nghị quý vị đăng nhập từ nơi quý vị vẫn dùng, hoặc tại đây sau khi được mở khóa.",
			}},
		},
		{
			name: "too many at once", account: healthy,
			lately: guard.Refusal{At: instant("2025-06-15 09:58"), Outcome: auth.Busy},
			want: []Why{{
				Outcome: "busy", Since: instant("2025-06-15 09:58"),
				EN:     "An attempt from an unknown address at 2025-06-15 09:58 was refused for now: it waited too long for others on this account.",
				VI:     "Lần đăng nhập từ địa chỉ không rõ lúc 09:58 ngày 15/06/2025 tạm thời bị từ chối: chờ quá lâu vì có nhiều lần đăng nhập khác vào tài khoản này.",
				TellEN: "Too many attempts on your mailbox were under way. Try again.",
				TellVI: "Có quá nhiều lần đăng nhập vào hộp thư cùng lúc. Đề nghị quý vị thử lại.",
			}},
		},
		{
			name: "the mail server gave no verdict", account: healthy,
			silent: guard.Refusal{At: instant("2025-06-15 09:58"), Source: netip.MustParseAddrPort("203.0.113.5:40000"), Outcome: auth.Unavailable},
			want: []Why{{
				Outcome: "unavailable", Since: instant("2025-06-15 09:58"),
				EN:     "An attempt from 203.0.113.5 at 2025-06-15 09:58 got no verdict from the mail server; see the gateway's log and the mail server.",
				VI:     "Lần đăng nhập từ 203.0.113.5 lúc 09:58 ngày 15/06/2025: máy chủ thư chưa xác nhận được mật khẩu đúng hay sai; hãy xem nhật ký của cổng thư và máy chủ thư.",
				TellEN: "The mail server did not answer when you logged in. Your password need not be wrong: try again in some minutes; we look into it.",
				TellVI: "Máy chủ thư không trả lời khi quý vị đăng nhập. Chưa hẳn là sai mật khẩu: đề nghị quý vị thử lại sau ít phút; chúng tôi đang kiểm tra.",
			}},
		},
		{
			name: "nothing in the way", account: healthy,
			want: []Why{nothing("2025-06-14 17:30", "17:30 ngày 14/06/2025")},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.rules.Location == nil {
				c.rules = auth.DefaultRules()
			}
			got := Explain(c.account, c.rules, Lately{Refused: c.lately, Unanswered: c.silent}, now, c.change)
			if len(got) != len(c.want) {
				t.Fatalf("%d reasons, want %d: %+v", len(got), len(c.want), got)
			}
			for i := range got {
				if got[i] != c.want[i] {
					t.Errorf("reason %d:\n got %+v\nwant %+v", i, got[i], c.want[i])
				}
			}
			for _, w := range got {
				checkTexts(t, w)
			}
		})
	}
}

func TestEveryReasonIsGivenWhenThereAreSeveral(t *testing.T) {
	now := instant("2025-06-15 10:00")
	a := auth.Account{
		Name: "an@x.vn", Registered: instant("2020-01-01 08:00"), FirstLogin: instant("2020-01-01 08:00"),
		LastLogin: instant("2024-01-01 08:00"), Password: auth.Password{Since: instant("2024-01-01 08:00")},
		Lock:  auth.Lock{Mark: auth.Mark{At: instant("2025-06-15 09:00"), By: "B", Reason: "thử"}, Cause: auth.ByAdmin},
		Stale: from("198.51.100.9:5555", "2025-06-15 09:30"),
	}
	var outcomes []string
	for _, w := range Explain(a, auth.DefaultRules(), Lately{}, now, "") {
		outcomes = append(outcomes, w.Outcome)
	}
	if got := strings.Join(outcomes, " "); got != "locked revoked expired previous_password" {
		t.Errorf("reasons: %s", got)
	}
	if w := standing(a, auth.DefaultRules(), now); w.Outcome != "locked" {
		t.Errorf("it stands as %s", w.Outcome)
	}
}

// A login within the window after the last written one is not written.
func TestTheLastLoginIsAsExactAsItIsKnown(t *testing.T) {
	now := instant("2025-06-15 10:00")
	a := auth.Account{Name: "an@x.vn", Registered: now, FirstLogin: now, LastLogin: instant("2025-06-14 21:40")}
	for window, want := range map[time.Duration][2]string{
		0:                     {"the last login was at 2025-06-14 21:40.", "lần đăng nhập cuối lúc 21:40 ngày 14/06/2025."},
		time.Hour:             {"at 2025-06-14 21:40 or up to an hour later.", "lúc 21:40 ngày 14/06/2025 hoặc sau đó tối đa 1 giờ."},
		3 * time.Hour:         {"at 2025-06-14 21:40 or up to 3 hours later.", "lúc 21:40 ngày 14/06/2025 hoặc sau đó tối đa 3 giờ."},
		5*time.Minute + 1:     {"at 2025-06-14 21:40 or up to 6 minutes later.", "lúc 21:40 ngày 14/06/2025 hoặc sau đó tối đa 6 phút."},
		100 * time.Nanosecond: {"at 2025-06-14 21:40 or up to 1 minute later.", "lúc 21:40 ngày 14/06/2025 hoặc sau đó tối đa 1 phút."},
	} {
		rules := auth.DefaultRules()
		rules.Dormancy.Slack = window
		why := Explain(a, rules, Lately{}, now, "")[0]
		if !strings.HasSuffix(why.EN, want[0]) || !strings.HasSuffix(why.VI, want[1]) {
			t.Errorf("with a window of %s: %s / %s", window, why.EN, why.VI)
		}
	}
}

// Three days of grace are three days a moment after they were granted, too.
func TestTheDaysLeftAreThoseOfTheAlert(t *testing.T) {
	now := instant("2025-06-15 10:00")
	for left, want := range map[time.Duration]string{
		3 * 24 * time.Hour:                "3 days from now",
		3*24*time.Hour - time.Microsecond: "2 days and 23 hours from now",
		2*24*time.Hour + 90*time.Minute:   "2 days and 1 hour from now",
		2*24*time.Hour + time.Microsecond: "2 days from now",
		2 * 24 * time.Hour:                "2 days from now",
		time.Minute:                       "less than a day from now",
	} {
		a := auth.Account{
			Name: "an@x.vn", Registered: now, FirstLogin: now, LastLogin: now,
			Password: auth.Password{Since: auth.AddMonths(now, -12)}, GraceUntil: now.Add(left),
		}
		if days, _ := auth.DefaultRules().ExpiringIn(a, now); days > 0 && !strings.HasPrefix(want, fmt.Sprint(days)) {
			t.Errorf("%s before the end the alert says %d days", left, days)
		}
		if why := Explain(a, auth.DefaultRules(), Lately{}, now, "")[0]; !strings.Contains(why.EN, ", "+want) {
			t.Errorf("%s before the end: %s", left, why.EN)
		}
	}
}

func nothing(en, vi string) Why {
	return Why{
		Outcome: "accepted",
		EN:      "Nothing stands in the way: it can log in; the last login was at " + en + " or up to an hour later.",
		VI:      "Không có gì cản trở: có thể đăng nhập; lần đăng nhập cuối lúc " + vi + " hoặc sau đó tối đa 1 giờ.",
		TellEN:  "Your mailbox is in order. If mail does not work, check the password and the server settings of your mail program.",
		TellVI:  "Hộp thư hoạt động bình thường. Nếu không dùng được, đề nghị quý vị kiểm tra mật khẩu và cấu hình máy chủ trong phần mềm thư.",
	}
}

func unknown(en, vi string) Why {
	return Why{
		Outcome: "wrong_password",
		EN:      "No account of this name has ever logged in or been imported; " + en + ".",
		VI:      "Chưa có tài khoản nào mang tên này từng đăng nhập hoặc được nhập vào hệ thống; " + vi + ".",
		TellEN:  "Check the spelling of the address. If it is right, the mail server does not take the password, or does not know the mailbox.",
		TellVI:  "Đề nghị quý vị kiểm tra lại cách viết địa chỉ. Nếu đúng thì máy chủ thư không chấp nhận mật khẩu hoặc chưa có hộp thư này.",
	}
}

// checkTexts checks every text: one line, a sentence, and Vietnamese with its
// diacritics.
func checkTexts(t *testing.T, w Why) {
	t.Helper()
	for _, text := range []string{w.EN, w.VI, w.TellEN, w.TellVI} {
		if strings.ContainsFunc(text, unicode.IsControl) || strings.Contains(text, "  ") || strings.Contains(text, "%!") {
			t.Errorf("%q", text)
		}
	}
	for _, text := range []string{w.VI, w.TellVI} {
		if !strings.ContainsAny(text, "ạảãàáâậầấẩẫăắằặẳẵóòọõỏôộổỗồốơờớợởỡéèẻẹẽêếềệểễúùụủũưựữửừứíìịỉĩýỳỷỵỹđ") {
			t.Errorf("%q has no diacritics", text)
		}
	}
}

// beside adds what is said of a password beside the newest.
func beside(w Why, en, vi string) Why {
	w.EN, w.VI = w.EN+en, w.VI+vi
	return w
}
