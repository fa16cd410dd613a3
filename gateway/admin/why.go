package admin

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"congthu/auth"
	"congthu/auth/guard"
)

// Why is one reason why a user cannot log in, or the statement that there is none: the
// text for support staff and the text for the user, in English and in Vietnamese.
type Why struct {
	Outcome string    `json:"outcome" doc:"How an attempt with the correct password would end for this reason; accepted when it would not be refused; previous_password and wrong_password tell of attempts with others."`
	Since   time.Time `json:"since,omitzero" doc:"Since when."`
	EN      string    `json:"en" doc:"For support staff, in English."`
	VI      string    `json:"vi" doc:"For support staff, in Vietnamese."`
	TellEN  string    `json:"tell_en" doc:"What to tell the user, in English; empty where the answer of another reason holds."`
	TellVI  string    `json:"tell_vi" doc:"What to tell the user, in Vietnamese; empty likewise."`
	NextEN  string    `json:"next_en,omitempty" doc:"Whom support staff call about the mail server or the gateway's store, and what they tell them, in English; only while one of these has a fault."`
	NextVI  string    `json:"next_vi,omitempty" doc:"The same in Vietnamese."`
	// AllowSource is set for support staff who know whether the source is an office.
	AllowSource string `json:"allow_source,omitempty" doc:"The source that was refused: when it is an office of yours it may be allowed for a time (/sources/{address}/allow). Left out when an attack from there is suspected."`
	// outage is set for a reason that concerns every account.
	outage outage
	// part and refused are set for the outage of a part: refused is the text for support
	// staff about an account that cannot log in.
	part    part
	refused place
}

// staleFor is how long after its last attempt a device with the previous password is
// still mentioned.
const staleFor = 7 * 24 * time.Hour

// Explain says why no login to an account succeeds, since when, and what to tell the
// user. It is a pure function. The most important reason comes first; if no rule stands
// in the way, the last entry says so. change tells a user how to change the password;
// empty means "ask the helpdesk".
func Explain(a auth.Account, r auth.Rules, beside Lately, now time.Time, change string) []Why {
	e := explainer{a, r, beside, now, change}
	lately, unanswered := beside.Refused, beside.Unanswered
	var reasons []Why
	if r.Locked(a, now) {
		switch {
		case a.Lock.Cause == auth.ByAdmin:
			reasons = append(reasons, e.lockedByAdmin())
		case !a.Known():
			reasons = append(reasons, e.lockedName())
		default:
			reasons = append(reasons, e.lockedByPasswords())
		}
	}
	switch {
	case r.DailyCapReached(a, now):
		reasons = append(reasons, e.strangersOut(lately))
	case !lately.IsZero() && !lately.Unfamiliar: // of an earlier day
		reasons = append(reasons, e.refusedForNow(lately))
	}
	if !unanswered.IsZero() {
		reasons = append(reasons, e.unanswered(unanswered))
	}
	if !a.Known() {
		switch {
		case r.Locked(a, now) && a.Lock.Cause == auth.ByWrongPasswords: // it says so itself
			return reasons
		case !lately.IsZero() && lately.Outcome == auth.Throttled:
			return append(reasons, e.notYetHere())
		}
		return append(reasons, e.unknown())
	}
	if r.Revoked(a, now) {
		reasons = append(reasons, e.revoked())
	}
	if r.Expired(a, now) {
		reasons = append(reasons, e.expired())
	}
	refused := len(reasons) > 0
	if !a.Stale.At.IsZero() && now.Sub(a.Stale.At) < staleFor {
		reasons = append(reasons, e.stale())
	}
	// A lock that has ended by itself is reset together with its failures at the next
	// attempt.
	if a.Lock.Cause == auth.NotLocked && r.Lockout.Mode == auth.Enforce && r.Slots(a, now) <= r.Lockout.Tolerated {
		reasons = append(reasons, e.failures())
	}
	if _, soon := r.ExpiringIn(a, now); soon {
		reasons = append(reasons, e.expiring())
	}
	restored, since := e.restored()
	switch {
	case refused:
	case since:
		reasons = append(reasons, restored)
	case a.FirstLogin.IsZero():
		reasons = append(reasons, e.neverSeen())
	default:
		reasons = append(reasons, e.nothing())
	}
	return reasons
}

// Lately is what is known of an account beside its row; all of it is known to this
// gateway only, except the events. The zero Lately contains nothing.
type Lately struct {
	// Refused is the latest attempt that was refused for now. Unanswered is the latest
	// for which the mail server gave no verdict or which the store could not record.
	Refused, Unanswered guard.Refusal
	// Tried are the wrong passwords since the last unlock.
	Tried []guard.Tried
	// Unlocked and Restored are the latest events of these kinds; zero for none.
	Unlocked, Restored auth.Event
	// Sessions is the number of live sessions.
	Sessions int
}

// standing returns the one reason that names the state of an account.
func standing(a auth.Account, r auth.Rules, now time.Time) Why {
	reasons := Explain(a, r, Lately{}, now, "")
	for _, why := range reasons {
		switch why.Outcome {
		case auth.Locked.String(), auth.Revoked.String(), auth.Expired.String():
			return why
		}
	}
	return reasons[len(reasons)-1]
}

type explainer struct {
	auth.Account
	rules  auth.Rules
	beside Lately
	now    time.Time
	change string
}

func (e explainer) lockedByPasswords() Why {
	lastEN, lastVI := e.latestMistake()
	againEN, againVI, byEN, byVI, forgotEN, forgotVI := "", "", "", "", "", ""
	if u := e.beside.Unlocked; u.Seq > 0 && !u.At.After(e.Lock.At) && e.Lock.At.Sub(u.At) < againWithin && strings.HasPrefix(u.Before, "not locked") {
		forgotEN = fmt.Sprintf("; its wrong passwords were forgotten at %s by %s", e.en(u.At), u.Actor)
		forgotVI = fmt.Sprintf("; trước đó %s đã xóa các lần nhập sai lúc %s", actorVI(u.Actor), e.vi(u.At))
	} else if u.Seq > 0 && !u.At.After(e.Lock.At) && e.Lock.At.Sub(u.At) < againWithin {
		againEN, againVI = " again", " lại"
		after := lasted(e.Lock.At.Sub(u.At))
		byEN = fmt.Sprintf(", %s after %s unlocked it at %s,", after.en, u.Actor, e.en(u.At))
		byVI = fmt.Sprintf(", %s sau khi %s mở khóa lúc %s,", after.vi, actorVI(u.Actor), e.vi(u.At))
	}
	w := Why{
		Outcome: auth.Locked.String(),
		Since:   e.Lock.At.UTC(),
		EN:      fmt.Sprintf("Locked%s since %s%s after %s%s%s.", againEN, e.en(e.Lock.At), byEN, count(e.Failures, "wrong password"), lastEN, forgotEN),
		VI:      fmt.Sprintf("Bị khóa%s từ %s%s sau %d lần nhập sai mật khẩu%s%s.", againVI, e.vi(e.Lock.At), byVI, e.Failures, lastVI, forgotVI),
		TellEN: fmt.Sprintf("Your mailbox is locked because a wrong password was entered more than %s. "+
			"First correct the password saved on every device, then ask for the mailbox to be unlocked.", count(e.rules.Lockout.Tolerated, "time")),
		TellVI: fmt.Sprintf("Hộp thư bị tạm khóa do nhập sai mật khẩu quá %d lần. "+
			"Trước hết đề nghị quý vị sửa mật khẩu đã lưu trên mọi thiết bị, sau đó liên hệ lại để được mở khóa.", e.rules.Lockout.Tolerated),
	}
	if after := e.rules.Lockout.UnlockAfter; after > 0 {
		ends := e.Lock.At.Add(after)
		w.TellEN = fmt.Sprintf("Your mailbox is locked because a wrong password was entered more than %s. "+
			"Correct the password saved on every device; the mailbox unlocks by itself at %s.", count(e.rules.Lockout.Tolerated, "time"), e.en(ends))
		w.TellVI = fmt.Sprintf("Hộp thư bị tạm khóa do nhập sai mật khẩu quá %d lần. "+
			"Đề nghị quý vị sửa mật khẩu đã lưu trên mọi thiết bị; hộp thư sẽ tự mở khóa lúc %s.", e.rules.Lockout.Tolerated, e.vi(ends))
	}
	whoEN, whoVI, program, typed := e.whoTries()
	w.EN, w.VI = w.EN+whoEN, w.VI+whoVI
	if !program.IsZero() {
		w.TellEN = fmt.Sprintf("Your mailbox is locked because %s keeps trying a wrong password that is saved there. "+
			"First close it or correct the password there; then ask for the mailbox to be unlocked, or it is locked again.", program.told.en)
		w.TellVI = fmt.Sprintf("Hộp thư bị tạm khóa do %s vẫn dùng mật khẩu sai đã lưu. "+
			"Đề nghị quý vị đóng phần mềm đó hoặc sửa mật khẩu đã lưu, sau đó liên hệ lại để được mở khóa; nếu không hộp thư sẽ lại bị khóa.", program.told.vi)
	}
	if typed {
		endEN, endVI := "Then ask for the mailbox to be unlocked.", "Sau đó liên hệ lại để được mở khóa."
		if after := e.rules.Lockout.UnlockAfter; after > 0 {
			ends := e.Lock.At.Add(after)
			endEN, endVI = fmt.Sprintf("The mailbox unlocks by itself at %s.", e.en(ends)), fmt.Sprintf("Hộp thư sẽ tự mở khóa lúc %s.", e.vi(ends))
		}
		w.TellEN = fmt.Sprintf("Your mailbox is locked because a wrong password was entered more than %s. %s %s", count(e.rules.Lockout.Tolerated, "time"), keyboardEN, endEN)
		w.TellVI = fmt.Sprintf("Hộp thư bị tạm khóa do nhập sai mật khẩu quá %d lần. %s %s", e.rules.Lockout.Tolerated, keyboardVI, endVI)
	}
	if n := e.beside.Sessions; n > 0 {
		w.EN += fmt.Sprintf(" %s here: a lock by wrong passwords ends none.", counted(n, "session that was open before goes on", "sessions that were open before go on"))
		w.VI += fmt.Sprintf(" %d phiên đang mở tại cổng thư này vẫn tiếp tục: khóa do nhập sai mật khẩu không kết thúc phiên nào.", n)
	}
	return w
}

// What to tell a user who types a password wrong.
const (
	keyboardEN = "Check Caps Lock and switch the Vietnamese keyboard off before you type the password; if it was not you who typed, tell us."
	keyboardVI = "Đề nghị quý vị kiểm tra phím Caps Lock và tắt bộ gõ tiếng Việt trước khi nhập mật khẩu; nếu không phải quý vị nhập thì báo cho chúng tôi."
)

// againWithin is the time after an unlock within which a new lock counts as the same
// problem.
const againWithin = 7 * 24 * time.Hour

// whoTries says, as far as that is known, whether the wrong passwords look like one
// program or like an attacker, and returns the program; program is zero if it is not
// one program. typed reports that different passwords came from one place.
func (e explainer) whoTries() (en, vi string, program origin, typed bool) {
	var tried []guard.Tried
	for _, t := range e.beside.Tried {
		// A login has reset the earlier ones: they did not cause the lock.
		if len(e.Mistakes) == 0 || !t.Last.Before(e.Mistakes[0].At) {
			tried = append(tried, t)
		}
	}
	times, passwords, places := 0, make(map[int]bool), make(map[string]bool)
	for _, t := range tried {
		times += t.Times
		passwords[t.Password] = true
		from := cameFrom(t.Source, t.Protocol, t.Program)
		places[from.en] = true
		program = from
	}
	switch {
	case times < 2:
		en, vi = e.oneSource()
		return en, vi, origin{}, false
	case len(passwords) == 1 && len(places) == 1:
		return fmt.Sprintf(" It looks like one program: the same wrong password %d times from %s. Unlocked before it is corrected there, it is locked again.", times, program.en),
			fmt.Sprintf(" Có vẻ là một phần mềm: cùng một mật khẩu sai %d lần, từ %s. Nếu mở khóa trước khi sửa mật khẩu ở đó thì sẽ lại bị khóa.", times, program.vi), program, false
	case len(passwords) == 1:
		return fmt.Sprintf(" It is the same wrong password %d times, from %d programs or addresses: one that is saved in several places.", times, len(places)),
			fmt.Sprintf(" Cùng một mật khẩu sai %d lần, từ %d phần mềm hoặc địa chỉ: mật khẩu đã lưu ở nhiều nơi.", times, len(places)), origin{}, false
	case len(places) == 1:
		return fmt.Sprintf(" They are %d different passwords from %s: somebody types or guesses there.", len(passwords), program.en),
			fmt.Sprintf(" Có %d mật khẩu khác nhau từ %s: có người đang gõ hoặc dò mật khẩu ở đó.", len(passwords), program.vi), origin{}, true
	}
	return fmt.Sprintf(" They are %d different passwords from %d programs or addresses: this may be somebody who guesses.", len(passwords), len(places)),
		fmt.Sprintf(" Có %d mật khẩu khác nhau từ %d phần mềm hoặc địa chỉ: có thể có người đang dò mật khẩu.", len(passwords), len(places)), origin{}, false
}

// oneSource says that all wrong passwords came from one address, if this process has
// not seen them itself.
func (e explainer) oneSource() (en, vi string) {
	if len(e.Mistakes) < 2 {
		return "", ""
	}
	for _, m := range e.Mistakes {
		if !m.Source.IsValid() || m.Source.Addr().Unmap() != e.Mistakes[0].Source.Addr().Unmap() {
			return "", ""
		}
	}
	return " All of them came from that one address.", " Tất cả đều từ một địa chỉ đó."
}

func (e explainer) lockedByAdmin() Why {
	oldEN, oldVI := e.oldPassword()
	return Why{
		Outcome: auth.Locked.String(),
		Since:   e.Lock.At.UTC(),
		EN:      fmt.Sprintf("Locked since %s by %s: %s.%s", e.en(e.Lock.At), e.Lock.By, sentence(e.Lock.Reason), oldEN),
		VI:      fmt.Sprintf("Bị %s khóa từ %s, lý do: %s.%s", actorVI(e.Lock.By), e.vi(e.Lock.At), sentence(e.Lock.Reason), oldVI),
		TellEN:  tellLockedEN,
		TellVI:  tellLockedVI,
	}
}

// What to tell the user of an account that an administrator locked.
const (
	tellLockedEN = "Your mailbox was locked by an administrator. If it was locked because a device was lost or stolen, we unlock it after you have changed the password."
	tellLockedVI = "Hộp thư đã bị quản trị viên khóa. Nếu khóa do mất thiết bị, chúng tôi sẽ mở khóa sau khi quý vị đã đổi mật khẩu."
)

// oldPassword warns, for an account that an administrator locked, that its password may
// still be the old one: a locked account accepts no login, so the gateway cannot see a
// new password.
func (e explainer) oldPassword() (en, vi string) {
	if e.Password.Since.After(e.Lock.At) {
		return "", ""
	}
	return " The gateway has seen no new password since the lock: after a lost or stolen device, make sure at the mail server that the password was changed.",
		" Cổng thư chưa thấy mật khẩu mới từ khi khóa: nếu khóa do mất thiết bị, phải kiểm tra tại máy chủ thư để chắc chắn mật khẩu đã được đổi."
}

func (e explainer) revoked() Why {
	months := e.rules.Dormancy.Months
	usedEN, usedVI := "nobody has ever logged in to it", "chưa từng có ai đăng nhập"
	if !e.LastLogin.IsZero() {
		lastEN, lastVI := e.lastLogin()
		usedEN, usedVI = "the last login was at "+lastEN, "lần đăng nhập cuối là "+lastVI
	}
	w := Why{
		Outcome: auth.Revoked.String(),
		TellEN: fmt.Sprintf("Your mailbox was not used for more than %s and its account has been revoked. "+
			"Please ask for it to be restored.", count(months, "month")),
		TellVI: fmt.Sprintf("Hộp thư không được đăng nhập quá %d tháng nên tài khoản đã bị thu hồi. Đề nghị quý vị gửi yêu cầu khôi phục tài khoản.", months),
	}
	if e.Revocation.IsZero() {
		at := e.rules.DormantAt(e.Account)
		w.Since = at.UTC()
		w.EN = fmt.Sprintf("Not used for more than %s since %s, so every login is refused: %s.", count(months, "month"), e.en(at), usedEN)
		w.VI = fmt.Sprintf("Không đăng nhập quá %d tháng, bị từ chối đăng nhập từ %s: %s.", months, e.vi(at), usedVI)
		return w
	}
	w.Since = e.Revocation.At.UTC()
	if e.Revocation.By == auth.ByGateway { // the sweep revokes for this reason only
		w.EN = fmt.Sprintf("Revoked since %s, not used for more than %s: %s.", e.en(e.Revocation.At), count(months, "month"), usedEN)
		w.VI = fmt.Sprintf("Bị thu hồi từ %s do không đăng nhập quá %d tháng: %s.", e.vi(e.Revocation.At), months, usedVI)
		return w
	}
	w.EN = fmt.Sprintf("Revoked since %s by %s: %s.", e.en(e.Revocation.At), e.Revocation.By, usedEN)
	w.VI = fmt.Sprintf("Bị %s thu hồi từ %s: %s.", actorVI(e.Revocation.By), e.vi(e.Revocation.At), usedVI)
	return w
}

func (e explainer) expired() Why {
	at, months := e.rules.PasswordExpiry(e.Account), e.rules.Password.Months
	howEN, howVI := e.how()
	return Why{
		Outcome: auth.Expired.String(),
		Since:   at.UTC(),
		EN: fmt.Sprintf("The password has been the same since %s and expired at %s, after %s.",
			e.en(e.Password.Since), e.en(at), count(months, "month")),
		VI: fmt.Sprintf("Mật khẩu không đổi từ %s, đã hết hạn lúc %s, quá %d tháng.",
			e.vi(e.Password.Since), e.vi(at), months),
		TellEN: fmt.Sprintf("Your password is older than %s. Change it, then log in with the new one. %s", count(months, "month"), howEN),
		TellVI: fmt.Sprintf("Mật khẩu đã dùng quá %d tháng. Đề nghị quý vị đổi mật khẩu rồi đăng nhập bằng mật khẩu mới. %s", months, howVI),
	}
}

func (e explainer) strangersOut(lately guard.Refusal) Why {
	lastEN, lastVI := "", ""
	if !lately.IsZero() {
		from := addressOf(lately.Source)
		lastEN = fmt.Sprintf("; one from %s was refused at %s", from.en, e.en(lately.At))
		lastVI = fmt.Sprintf("; một lần từ %s bị từ chối lúc %s", from.vi, e.vi(lately.At))
	}
	return Why{
		Outcome: auth.Throttled.String(),
		Since:   lately.At.UTC(),
		EN: fmt.Sprintf("Somebody guesses: %s today. Until midnight attempts are let through only from where it was logged in to within 30 days%s.",
			count(e.WrongThatDay, "wrong password"), lastEN),
		VI: fmt.Sprintf("Có người đang dò mật khẩu: hôm nay %d lần sai. Đến nửa đêm chỉ cho đăng nhập từ những nơi đã đăng nhập trong 30 ngày qua%s.",
			e.WrongThatDay, lastVI),
		TellEN: "Somebody tries passwords on your mailbox. Log in from where you usually do, or from here once we have unlocked it.",
		TellVI: "Có người đang thử mật khẩu hộp thư của quý vị. Đề nghị quý vị đăng nhập từ nơi quý vị vẫn dùng, hoặc tại đây sau khi được mở khóa.",
	}
}

func (e explainer) refusedForNow(lately guard.Refusal) Why {
	from := addressOf(lately.Source)
	w := Why{
		Outcome: lately.Outcome.String(),
		Since:   lately.At.UTC(),
		EN: fmt.Sprintf("An attempt from %s at %s was refused for now: too many wrong passwords came from that address or its network, on whatever accounts. Nothing is held against this one.",
			from.en, e.en(lately.At)),
		VI: fmt.Sprintf("Lần đăng nhập từ %s lúc %s tạm thời bị từ chối: từ địa chỉ đó hoặc mạng của nó có quá nhiều lần nhập sai mật khẩu, kể cả vào tài khoản khác. Tài khoản này không bị ghi lỗi.",
			from.vi, e.vi(lately.At)),
		TellEN: "Too many wrong passwords came from your network. Try again in some minutes, or from another network.",
		TellVI: "Có quá nhiều lần nhập sai mật khẩu từ mạng của quý vị. Đề nghị quý vị thử lại sau ít phút, hoặc từ mạng khác.",
	}
	if e.Failures > 0 {
		w.EN = fmt.Sprintf("An attempt from %s at %s was refused for now: too many wrong passwords came from that address or its network today, on whatever accounts, for it to try one that has %s. Where this one was logged in to within 30 days it goes on.",
			from.en, e.en(lately.At), count(e.Failures, "wrong password"))
		w.VI = fmt.Sprintf("Lần đăng nhập từ %s lúc %s tạm thời bị từ chối: hôm nay từ địa chỉ đó hoặc mạng của nó có quá nhiều lần nhập sai mật khẩu, kể cả vào tài khoản khác, nên không được thử tiếp một tài khoản đã có %d lần sai. Từ những nơi đã đăng nhập tài khoản này trong 30 ngày qua thì vẫn vào được.",
			from.vi, e.vi(lately.At), e.Failures)
		w.TellEN = "Too many wrong passwords came from your network, and some for your mailbox. Log in from where you usually do, or from here once we have unlocked it."
		w.TellVI = "Có quá nhiều lần nhập sai mật khẩu từ mạng của quý vị, có cả vào hộp thư của quý vị. Đề nghị quý vị đăng nhập từ nơi quý vị vẫn dùng, hoặc tại đây sau khi được mở khóa."
	}
	if lately.Outcome == auth.Throttled && lately.Source.IsValid() {
		w.AllowSource = sourceName(auth.Source(lately.Source.Addr()))
	}
	if lately.Outcome == auth.Busy {
		w.EN = fmt.Sprintf("An attempt from %s at %s was refused for now: it waited too long for others on this account.", from.en, e.en(lately.At))
		w.VI = fmt.Sprintf("Lần đăng nhập từ %s lúc %s tạm thời bị từ chối: chờ quá lâu vì có nhiều lần đăng nhập khác vào tài khoản này.", from.vi, e.vi(lately.At))
		w.TellEN = "Too many attempts on your mailbox were under way. Try again."
		w.TellVI = "Có quá nhiều lần đăng nhập vào hộp thư cùng lúc. Đề nghị quý vị thử lại."
	}
	return w
}

// sharedFull explains that a name without an account is refused like a locked one,
// because of the counter of wrong passwords that it shares with other names.
func sharedFull(until time.Time, rules auth.Rules) Why {
	e := explainer{rules: rules}
	return Why{
		Outcome: auth.Locked.String(),
		EN: fmt.Sprintf("Refused like a locked account until %s, though nothing is locked: nobody has logged in with this name yet, and wrong passwords for such names "+
			"are counted for many of them together while the memory for them is full (store.max_unknown_names). An unlock does not help. "+
			"If the mailbox exists, import it (congthu import accounts): then its owner can log in at once.", e.en(until)),
		VI: fmt.Sprintf("Bị từ chối như tài khoản bị khóa đến %s, dù không có gì bị khóa: chưa có ai đăng nhập bằng tên này, và khi bộ nhớ cho những tên như vậy đã đầy "+
			"(store.max_unknown_names) thì mật khẩu sai được đếm chung cho nhiều tên. Mở khóa không có tác dụng. "+
			"Nếu hộp thư có thật, hãy nhập hộp thư đó (congthu import accounts): chủ hộp thư sẽ đăng nhập được ngay.", e.vi(until)),
		TellEN: "Your mailbox is not known to the mail gateway yet, and others have tried wrong passwords. We register it now; then log in again.",
		TellVI: "Cổng thư chưa biết hộp thư của quý vị, và có người khác đã thử mật khẩu sai. Chúng tôi đăng ký hộp thư ngay; sau đó đề nghị quý vị đăng nhập lại.",
	}
}

func (e explainer) unanswered(last guard.Refusal) Why {
	from := addressOf(last.Source)
	if last.Outcome == auth.StoreUnavailable {
		return Why{
			Outcome: last.Outcome.String(),
			Since:   last.At.UTC(),
			EN: fmt.Sprintf("An attempt from %s at %s could not be decided: the gateway's own store could not be read or written, for example because its disk is full. Nothing is wrong with the account or its password; see the gateway's log.",
				from.en, e.en(last.At)),
			VI: fmt.Sprintf("Lần đăng nhập từ %s lúc %s chưa xử lý được: kho dữ liệu của cổng thư không đọc hoặc ghi được, chẳng hạn do đầy ổ đĩa. Tài khoản và mật khẩu không có lỗi; hãy xem nhật ký của cổng thư.",
				from.vi, e.vi(last.At)),
			TellEN: "The mail gateway had a fault when you logged in. Your password need not be wrong: log in again.",
			TellVI: "Cổng thư gặp sự cố khi quý vị đăng nhập. Chưa hẳn là sai mật khẩu: đề nghị quý vị đăng nhập lại.",
		}
	}
	return Why{
		Outcome: last.Outcome.String(),
		Since:   last.At.UTC(),
		EN: fmt.Sprintf("An attempt from %s at %s got no verdict from the mail server; see the gateway's log and the mail server.",
			from.en, e.en(last.At)),
		VI: fmt.Sprintf("Lần đăng nhập từ %s lúc %s: máy chủ thư chưa xác nhận được mật khẩu đúng hay sai; hãy xem nhật ký của cổng thư và máy chủ thư.",
			from.vi, e.vi(last.At)),
		TellEN: "The mail server did not answer when you logged in. Your password need not be wrong: try again in some minutes; we look into it.",
		TellVI: "Máy chủ thư không trả lời khi quý vị đăng nhập. Chưa hẳn là sai mật khẩu: đề nghị quý vị thử lại sau ít phút; chúng tôi đang kiểm tra.",
	}
}

func (e explainer) stale() Why {
	from := addressOf(e.Stale.Source)
	countedEN, countedVI := "it is not counted", "không bị tính là nhập sai"
	if e.rules.Lockout.CountPrevious {
		countedEN, countedVI = "it is counted as a wrong password", "bị tính là nhập sai"
	}
	return Why{
		Outcome: auth.PreviousPassword.String(),
		Since:   e.Stale.At.UTC(),
		EN: fmt.Sprintf("A device still tries a password from before a change, lately at %s from %s; %s.",
			e.en(e.Stale.At), from.en, countedEN),
		VI: fmt.Sprintf("Có thiết bị vẫn dùng mật khẩu cũ (trước khi đổi), gần đây lúc %s từ %s; %s.",
			e.vi(e.Stale.At), from.vi, countedVI),
		TellEN: fmt.Sprintf("One of your devices still has the old password: it tried from %s at %s. Put in the new one there. If that is the device that was lost: it does not get in any more; there is nothing to do.",
			from.en, e.en(e.Stale.At)),
		TellVI: fmt.Sprintf("Một thiết bị của quý vị vẫn lưu mật khẩu cũ: đã thử từ %s lúc %s. Đề nghị quý vị nhập mật khẩu mới trên thiết bị đó. Nếu đó là thiết bị đã mất thì thiết bị đó không vào được nữa, quý vị không cần làm gì.",
			from.vi, e.vi(e.Stale.At)),
	}
}

func (e explainer) failures() Why {
	left := e.rules.Slots(e.Account, e.now)
	lastEN, lastVI := e.latestMistake()
	w := Why{
		Outcome: auth.WrongPassword.String(),
		EN: fmt.Sprintf("%s since the last login or unlock%s; %d more will lock it.",
			count(e.Failures, "wrong password"), lastEN, left),
		VI: fmt.Sprintf("%d lần nhập sai mật khẩu kể từ lần đăng nhập hoặc mở khóa gần nhất%s; thêm %d lần nữa sẽ bị khóa.",
			e.Failures, lastVI, left),
		TellEN: fmt.Sprintf("A wrong password is being tried. Correct the password saved on every device: after %d more your mailbox is locked.", left),
		TellVI: fmt.Sprintf("Có mật khẩu sai đang được thử. Đề nghị quý vị sửa mật khẩu đã lưu trên mọi thiết bị: sau %d lần sai nữa hộp thư sẽ bị khóa.", left),
	}
	if len(e.Mistakes) > 0 {
		w.Since = e.Mistakes[0].At.UTC()
	}
	return w
}

func (e explainer) expiring() Why {
	at := e.rules.PasswordExpiry(e.Account)
	howEN, howVI := e.how()
	w := Why{
		Outcome: auth.Accepted.String(),
		EN:      fmt.Sprintf("The password expires at %s, %s from now.", e.en(at), e.left(at).en),
		VI:      fmt.Sprintf("Mật khẩu sẽ hết hạn lúc %s, còn %s.", e.vi(at), e.left(at).vi),
	}
	if e.GraceUntil.After(at) {
		expires := "expires"
		if !at.After(e.now) {
			expires = "expired"
		}
		left := e.leftExactly(e.GraceUntil)
		w.EN = fmt.Sprintf("The password %s at %s; an admin lets it go on until %s, %s from now.", expires, e.en(at), e.en(e.GraceUntil), left.en)
		w.VI = fmt.Sprintf("Mật khẩu hết hạn lúc %s; quản trị viên đã gia hạn đến %s, còn %s.", e.vi(at), e.vi(e.GraceUntil), left.vi)
		at = e.GraceUntil
	}
	w.TellEN = fmt.Sprintf("Change your password before %s. %s", e.en(at), howEN)
	w.TellVI = fmt.Sprintf("Đề nghị quý vị đổi mật khẩu trước %s. %s", e.vi(at), howVI)
	return w
}

// restored explains, for an account that was restored and not logged in to since, who
// restored it and until when it has to be used. ok is false for other accounts.
func (e explainer) restored() (w Why, ok bool) {
	if e.Restored.IsZero() || e.LastLogin.After(e.Restored) {
		return w, false
	}
	byEN, byVI := "", ""
	if r := e.beside.Restored; r.Seq > 0 && r.At.Equal(e.Restored) {
		byEN, byVI = " by "+r.Actor, actorVI(r.Actor)+" "
	}
	w = Why{
		Outcome: auth.Accepted.String(),
		Since:   e.Restored.UTC(),
		EN:      fmt.Sprintf("It can log in: it was restored at %s%s, and nobody has logged in since.", e.en(e.Restored), byEN),
		VI:      fmt.Sprintf("Có thể đăng nhập: đã được %skhôi phục lúc %s, từ đó chưa có ai đăng nhập.", byVI, e.vi(e.Restored)),
		TellEN:  "Your mailbox has been given back. Log in with your usual password.",
		TellVI:  "Hộp thư của quý vị đã được khôi phục. Đề nghị quý vị đăng nhập bằng mật khẩu hiện có.",
	}
	if until := e.rules.DormantAt(e.Account); e.rules.Dormancy.Mode == auth.Enforce && !until.IsZero() {
		w.EN += fmt.Sprintf(" It is revoked again unless somebody logs in before %s.", e.dateEN(until))
		w.VI += fmt.Sprintf(" Sẽ lại bị thu hồi nếu không có ai đăng nhập trước %s.", e.dateVI(until))
		w.TellEN += fmt.Sprintf(" It is revoked again if it is not used before %s.", e.dateEN(until))
		w.TellVI += fmt.Sprintf(" Nếu không được sử dụng trước %s thì sẽ lại bị thu hồi.", e.dateVI(until))
	}
	return w, true
}

// neverSeen explains an account that was imported and has not logged in since. The list
// may contain its last login; that date revokes the account only where every login
// passes through the gateway.
func (e explainer) neverSeen() Why {
	lastEN, lastVI := "", ""
	if !e.LastLogin.IsZero() {
		lastEN = fmt.Sprintf("; the last login before, as it was imported, was at %s", e.en(e.LastLogin))
		lastVI = fmt.Sprintf("; lần đăng nhập cuối trước đó, theo danh sách đã nhập, lúc %s", e.vi(e.LastLogin))
	}
	counts := e.rules
	counts.Dormancy.DoorsComplete = true
	if counts.Revoked(e.Account, e.now) {
		lastEN += fmt.Sprintf(". That is more than %s ago, but Article 5.3.c is not applied before the first login here: there may be doors past the gateway (rules.dormancy.doors_complete)", count(e.rules.Dormancy.Months, "month"))
		lastVI += fmt.Sprintf(". Đã quá %d tháng, nhưng Điều 5.3.c chưa áp dụng trước lần đăng nhập đầu tiên qua cổng thư vì có thể còn đường vào khác (rules.dormancy.doors_complete)", e.rules.Dormancy.Months)
	}
	return Why{
		Outcome: auth.Accepted.String(),
		Since:   e.Registered.UTC(),
		EN:      fmt.Sprintf("No rule stands in the way; registered at %s, and nobody has logged in through the gateway yet%s.", e.en(e.Registered), lastEN),
		VI:      fmt.Sprintf("Không vi phạm quy định nào; được đăng ký lúc %s và chưa có ai đăng nhập qua cổng thư%s.", e.vi(e.Registered), lastVI),
		TellEN:  "Log in with your usual password. If it is refused, the mail server does not take that password.",
		TellVI:  "Đề nghị quý vị đăng nhập bằng mật khẩu hiện có. Nếu bị từ chối thì máy chủ thư không chấp nhận mật khẩu đó.",
	}
}

// lockedName explains a locked name that is no account: most often a misspelt address.
func (e explainer) lockedName() Why {
	lastEN, lastVI := e.latestMistake()
	whoEN, whoVI, _, _ := e.whoTries()
	return Why{
		Outcome: auth.Locked.String(),
		Since:   e.Lock.At.UTC(),
		EN:      fmt.Sprintf("No account of this name is known; %s with it have locked the name since %s%s.%s", counted(e.Failures, "try", "tries"), e.en(e.Lock.At), lastEN, whoEN),
		VI:      fmt.Sprintf("Chưa có tài khoản nào mang tên này; tên này bị khóa sau %d lần thử, từ %s%s.%s", e.Failures, e.vi(e.Lock.At), lastVI, whoVI),
		TellEN:  "Check the spelling of the address: no mailbox of this name is known here. If it is right, we unlock it.",
		TellVI:  "Đề nghị quý vị kiểm tra lại cách viết địa chỉ: cổng thư chưa biết hộp thư nào mang tên này. Nếu địa chỉ đúng, chúng tôi sẽ mở khóa.",
	}
}

// notYetHere explains a name without a login that was refused because of its address:
// nothing suggests that it is misspelt.
func (e explainer) notYetHere() Why {
	w := e.unknown()
	w.TellEN, w.TellVI = "", ""
	if e.Failures == 0 {
		w.EN = fmt.Sprintf("Nobody has logged in as %s here yet.", e.Name)
		w.VI = fmt.Sprintf("Chưa có ai đăng nhập %s qua cổng thư.", e.Name)
	}
	return w
}

func (e explainer) unknown() Why {
	triedEN, triedVI := "no wrong password has been counted", "chưa ghi nhận lần nhập sai mật khẩu nào"
	if e.Failures > 0 {
		triedEN = counted(e.Failures, "wrong password has been counted", "wrong passwords have been counted")
		triedVI = fmt.Sprintf("có %d lần nhập sai mật khẩu", e.Failures)
	}
	return Why{
		Outcome: auth.WrongPassword.String(),
		EN:      fmt.Sprintf("No account of this name has ever logged in or been imported; %s.", triedEN),
		VI:      fmt.Sprintf("Chưa có tài khoản nào mang tên này từng đăng nhập hoặc được nhập vào hệ thống; %s.", triedVI),
		TellEN:  "Check the spelling of the address. If it is right, the mail server does not take the password, or does not know the mailbox.",
		TellVI:  "Đề nghị quý vị kiểm tra lại cách viết địa chỉ. Nếu đúng thì máy chủ thư không chấp nhận mật khẩu hoặc chưa có hộp thư này.",
	}
}

func (e explainer) nothing() Why {
	lastEN, lastVI := e.lastLogin()
	besideEN, besideVI := e.runOutBeside()
	return Why{
		Outcome: auth.Accepted.String(),
		EN:      fmt.Sprintf("Nothing stands in the way: it can log in; the last login was at %s.%s", lastEN, besideEN),
		VI:      fmt.Sprintf("Không có gì cản trở: có thể đăng nhập; lần đăng nhập cuối lúc %s.%s", lastVI, besideVI),
		TellEN:  "Your mailbox is in order. If mail does not work, check the password and the server settings of your mail program.",
		TellVI:  "Hộp thư hoạt động bình thường. Nếu không dùng được, đề nghị quý vị kiểm tra mật khẩu và cấu hình máy chủ trong phần mềm thư.",
	}
}

// runOutBeside mentions an earlier password that has expired: logins with it are
// refused although the mail server accepts it. It is empty if there is none.
func (e explainer) runOutBeside() (en, vi string) {
	since := e.rules.RunOutBeside(e.Account, e.now)
	if since.IsZero() {
		return "", ""
	}
	return fmt.Sprintf(" An earlier password, first used at %s, is older than %s: a login with that one is refused; the newest is of %s.",
			e.en(since), count(e.rules.Password.Months, "month"), e.en(e.Password.Since)),
		fmt.Sprintf(" Mật khẩu trước đó, dùng lần đầu lúc %s, đã quá %d tháng: đăng nhập bằng mật khẩu ấy bị từ chối; mật khẩu mới nhất có từ %s.",
			e.vi(since), e.rules.Password.Months, e.vi(e.Password.Since))
}

// latestMistake says when the latest wrong password came and where all came from; empty
// if that is not known.
func (e explainer) latestMistake() (en, vi string) {
	if len(e.Mistakes) == 0 {
		return "", ""
	}
	var sources []string
	seen := make(map[netip.Addr]bool)
	for _, m := range e.Mistakes {
		if addr := m.Source.Addr().Unmap(); addr.IsValid() && !seen[addr] {
			seen[addr] = true
			sources = append(sources, addr.String())
		}
	}
	last := e.Mistakes[len(e.Mistakes)-1].At
	en, vi = ", the latest at "+e.en(last), ", lần cuối lúc "+e.vi(last)
	if len(sources) > 0 {
		en += ", from " + strings.Join(sources, ", ")
		vi += ", từ " + strings.Join(sources, ", ")
	}
	return en, vi
}

// changeNow tells the owner of an expired password to change it, as the first part of an
// answer.
func (e explainer) changeNow() place {
	old := place{fmt.Sprintf("Your password is older than %s: ", count(e.rules.Password.Months, "month")), fmt.Sprintf("Mật khẩu đã dùng quá %d tháng: ", e.rules.Password.Months)}
	if strings.HasPrefix(e.change, "https://") || strings.HasPrefix(e.change, "http://") {
		return place{old.en + "change it at " + e.change + ".", old.vi + "đề nghị quý vị đổi tại " + e.change + "."}
	}
	howEN, howVI := e.how()
	return place{old.en + "change it. " + sentence(howEN) + ".", old.vi + "đề nghị quý vị đổi mật khẩu. " + sentence(howVI) + "."}
}

// how says how to change a password.
func (e explainer) how() (en, vi string) {
	if e.change == "" {
		return "The helpdesk tells you how.", "Bộ phận hỗ trợ sẽ hướng dẫn cách đổi."
	}
	return "How to change it: " + e.change, "Cách đổi mật khẩu: " + e.change
}
