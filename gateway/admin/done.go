package admin

import (
	"fmt"
	"strings"

	"congthu/auth"
)

// The result of an act in sentences: for the administrator, and for the user on the
// telephone.

// stands returns the first reason why no login to the account succeeds; ok is false if
// there is none. An outage of only a part of the mail server is none: see [partly].
func stands(v *Account) (why Why, ok bool) {
	for _, w := range v.Why {
		if w.outage == somethingAway {
			continue
		}
		switch w.Outcome {
		case auth.Accepted.String(), auth.PreviousPassword.String(), auth.WrongPassword.String():
		default:
			return w, true
		}
	}
	return Why{}, false
}

// standsNow says whether a login succeeds now.
func standsNow(v *Account) (en, vi string) {
	if w, ok := stands(v); ok {
		return "it cannot be logged in to yet: " + w.EN, "nhưng chưa đăng nhập được: " + w.VI
	}
	return "it can be logged in to at once", "có thể đăng nhập ngay"
}

// unlocked describes what an unlock changed; e explains the account as it was before.
func (e explainer) unlocked(v *Account) {
	nowEN, nowVI := standsNow(v)
	v.DoneEN, v.DoneVI = fmt.Sprintf("%s is unlocked: %s.", v.Address, sentence(nowEN)), fmt.Sprintf("%s đã được mở khóa, %s.", v.Address, sentence(nowVI))
	v.TellEN, v.TellVI = "Your mailbox is unlocked. Log in again.", "Hộp thư của quý vị đã được mở khóa. Đề nghị quý vị đăng nhập lại."
	if e.Lock.Cause == auth.NotLocked {
		v.TellEN, v.TellVI = "Your mailbox was not locked. Log in again.", "Hộp thư của quý vị không bị khóa. Đề nghị quý vị đăng nhập lại."
		if !e.beside.Refused.IsZero() {
			v.TellEN, v.TellVI = "You can log in from your network again. Try it now.", "Quý vị đã có thể đăng nhập trở lại từ mạng của quý vị. Đề nghị quý vị thử ngay."
		}
	}
	defer partly(v)
	w, refused := stands(v)
	if refused {
		v.TellEN, v.TellVI = then("Your mailbox is unlocked.", "Hộp thư của quý vị đã được mở khóa.", w)
		if e.Lock.Cause == auth.NotLocked {
			v.TellEN, v.TellVI = w.TellEN, w.TellVI
		}
	}
	switch {
	case !e.Known() && e.Lock.Cause == auth.ByWrongPasswords:
		v.DoneEN = fmt.Sprintf("%s is no longer locked after %s; no account of this name is known: have the spelling of the address checked.", v.Address, counted(e.Failures, "try", "tries"))
		v.DoneVI = fmt.Sprintf("%s không còn bị khóa sau %d lần thử; chưa có tài khoản nào mang tên này: cần kiểm tra lại cách viết địa chỉ.", v.Address, e.Failures)
		v.TellEN, v.TellVI = "Check the spelling of the address. If it is right, you can log in again now.", "Đề nghị quý vị kiểm tra lại cách viết địa chỉ. Nếu đúng, quý vị có thể đăng nhập lại ngay."
		if refused {
			v.TellEN, v.TellVI = w.TellEN, w.TellVI
		}
		return
	case !e.Known() && e.beside.Refused.Outcome == auth.Throttled && !e.beside.Refused.IsZero():
		from := addressOf(e.beside.Refused.Source)
		v.DoneEN = fmt.Sprintf("Nobody has logged in as %s here yet; the block of %s no longer holds for it.", v.Address, from.en)
		v.DoneVI = fmt.Sprintf("Chưa có ai đăng nhập %s qua cổng thư; từ %s nay đăng nhập được tài khoản này.", v.Address, from.vi)
		if e.Failures > 0 {
			v.DoneEN += " " + counted(e.Failures, "wrong password for it is forgotten.", "wrong passwords for it are forgotten.")
			v.DoneVI += fmt.Sprintf(" Đã xóa %d lần nhập sai đã ghi nhận.", e.Failures)
		}
		v.TellEN, v.TellVI = "Try again now.", "Đề nghị quý vị đăng nhập lại ngay."
		if refused {
			v.DoneEN, v.DoneVI = v.DoneEN+" "+w.EN, v.DoneVI+" "+w.VI
			v.TellEN, v.TellVI = w.TellEN, w.TellVI
		}
		return
	case !e.Known() && e.Lock.Cause == auth.NotLocked && e.Failures > 0:
		v.DoneEN = fmt.Sprintf("%s is no account that the gateway knows: %s.", v.Address, counted(e.Failures, "wrong password for that name is forgotten", "wrong passwords for that name are forgotten"))
		v.DoneVI = fmt.Sprintf("Cổng thư chưa biết tài khoản %s: đã xóa %d lần nhập sai đã ghi nhận.", v.Address, e.Failures)
		w := e.unknown()
		v.TellEN, v.TellVI = w.TellEN, w.TellVI
		return
	case e.Lock.Cause == auth.ByAdmin:
		v.DoneEN += fmt.Sprintf(" It was locked since %s by %s: %s.", e.en(e.Lock.At), e.Lock.By, sentence(e.Lock.Reason))
		v.DoneVI += fmt.Sprintf(" Trước đó bị %s khóa từ %s, lý do: %s.", actorVI(e.Lock.By), e.vi(e.Lock.At), sentence(e.Lock.Reason))
		oldEN, oldVI := e.oldPassword()
		v.DoneEN, v.DoneVI = v.DoneEN+oldEN, v.DoneVI+oldVI
		return
	case e.Lock.Cause == auth.ByWrongPasswords:
		lastEN, lastVI := e.latestMistake()
		v.DoneEN += fmt.Sprintf(" It was locked since %s after %s%s.", e.en(e.Lock.At), count(e.Failures, "wrong password"), lastEN)
		v.DoneVI += fmt.Sprintf(" Trước đó bị khóa từ %s sau %d lần nhập sai mật khẩu%s.", e.vi(e.Lock.At), e.Failures, lastVI)
	case e.Failures > 0:
		lastEN, lastVI := e.latestMistake()
		v.DoneEN = fmt.Sprintf("%s was not locked; %s forgotten%s. Now %s.", v.Address, counted(e.Failures, "wrong password is", "wrong passwords are"), lastEN, sentence(nowEN))
		v.DoneVI = fmt.Sprintf("%s không bị khóa; đã xóa %d lần nhập sai đã ghi nhận%s. Hiện nay %s.", v.Address, e.Failures, lastVI, sentence(nowVI))
	case !e.beside.Refused.IsZero():
		from := addressOf(e.beside.Refused.Source)
		v.DoneEN = fmt.Sprintf("%s was not locked, but refused for now from %s; that is over for this account. Now %s.", v.Address, from.en, sentence(nowEN))
		v.DoneVI = fmt.Sprintf("%s không bị khóa nhưng tạm thời bị từ chối từ %s; tài khoản này không còn bị từ chối. Hiện nay %s.", v.Address, from.vi, sentence(nowVI))
		return
	default:
		v.DoneEN, v.DoneVI = "", ""
		return
	}
	if len(e.Mistakes) == 0 {
		return
	}
	againEN, againVI := "it is locked again", "sẽ lại bị khóa"
	if e.Lock.Cause == auth.NotLocked {
		againEN, againVI = "it may be locked", "tài khoản có thể bị khóa"
	}
	_, _, program, typed := e.whoTries()
	// During an outage "do not change it" is the one thing that the user hears.
	if w.outage == nobodyCanLogIn {
		tellEN, tellVI := v.TellEN, v.TellVI
		defer func() { v.TellEN, v.TellVI = tellEN, tellVI }()
	}
	if typed {
		v.DoneEN += " They were different passwords from one place: somebody types or guesses there."
		v.DoneVI += " Đó là các mật khẩu khác nhau từ một nơi: có người đang gõ hoặc dò mật khẩu ở đó."
		switch {
		case refused:
			v.TellEN, v.TellVI = v.TellEN+" "+keyboardEN, v.TellVI+" "+keyboardVI
		case e.Lock.Cause == auth.NotLocked:
			v.TellEN, v.TellVI = "Your mailbox was not locked. "+keyboardEN, "Hộp thư của quý vị không bị khóa. "+keyboardVI
		default:
			v.TellEN, v.TellVI = "Your mailbox is unlocked. "+keyboardEN, "Hộp thư của quý vị đã được mở khóa. "+keyboardVI
		}
		return
	}
	if program.IsZero() {
		v.DoneEN += fmt.Sprintf(" Have the password saved there corrected now, or %s.", againEN)
		v.DoneVI += fmt.Sprintf(" Đề nghị sửa ngay mật khẩu đã lưu trên thiết bị đó, nếu không %s.", againVI)
		v.TellEN += " Correct the password saved on every device."
		v.TellVI = alsoVI(v.TellVI, "sửa mật khẩu đã lưu trên mọi thiết bị")
		return
	}
	v.DoneEN += fmt.Sprintf(" They came from one program, %s: have the password saved there corrected now, or %s.", program.en, againEN)
	v.DoneVI += fmt.Sprintf(" Tất cả từ một phần mềm, %s: đề nghị sửa ngay mật khẩu đã lưu trên thiết bị đó, nếu không %s.", program.vi, againVI)
	v.TellEN += fmt.Sprintf(" Correct the password saved on %s.", program.device.en)
	v.TellVI = alsoVI(v.TellVI, "sửa mật khẩu đã lưu trên "+program.device.vi)
}

// alsoVI adds a request to a Vietnamese text for a user: two requests in a row become
// one sentence.
func alsoVI(told, request string) string {
	const please = "Đề nghị quý vị "
	if at := strings.LastIndex(told, please); at >= 0 && strings.HasSuffix(told, ".") && !strings.Contains(told[at:len(told)-1], ". ") {
		return strings.TrimSuffix(told, ".") + " và " + request + "."
	}
	return told + " " + please + request + "."
}

// lockDone describes what a lock changed; open is the number of sessions that were live
// at this gateway.
func lockDone(v *Account, open int, shared bool) {
	v.DoneEN = fmt.Sprintf("%s is locked until somebody unlocks it: nobody can log in, whatever the password. %s ended", v.Address, counted(open, "live session is", "live sessions are"))
	v.DoneVI = fmt.Sprintf("%s đã bị khóa cho đến khi được mở khóa: không ai đăng nhập được, dù mật khẩu đúng. %d phiên đang mở đã kết thúc", v.Address, open)
	if shared {
		v.DoneEN += " here; the other gateways end theirs as well"
		v.DoneVI += " tại cổng thư này; các cổng thư khác cũng kết thúc phiên của mình"
	}
	v.DoneEN += ". Lost or stolen device: change the password at the mail server before you unlock, since the device has the old one."
	v.DoneVI += ". Nếu thiết bị bị mất hoặc bị đánh cắp: hãy đổi mật khẩu tại máy chủ thư trước khi mở khóa, vì thiết bị còn lưu mật khẩu cũ."
	v.TellEN = "Your mailbox is locked, and every program is logged out. We unlock it as soon as you have a new password."
	v.TellVI = "Hộp thư của quý vị đã bị khóa, mọi phần mềm đã bị đăng xuất. Chúng tôi sẽ mở khóa ngay khi quý vị có mật khẩu mới."
}

// restoreDone describes what restoring an account changed.
func restoreDone(v *Account) {
	w, refused := stands(v)
	if !refused {
		w = v.Why[len(v.Why)-1]
	}
	v.DoneEN = fmt.Sprintf("%s is given back. %s", v.Address, w.EN)
	v.DoneVI = fmt.Sprintf("%s đã được khôi phục. %s", v.Address, w.VI)
	v.TellEN, v.TellVI = w.TellEN, w.TellVI
	const givenEN, givenVI = "Your mailbox has been given back.", "Hộp thư của quý vị đã được khôi phục."
	if !strings.HasPrefix(w.TellEN, givenEN) {
		v.TellEN, v.TellVI = givenEN+" "+w.TellEN, givenVI+" "+w.TellVI
	}
	if !refused && w.outage == notAway {
		partly(v)
	}
}

// graceGranted says until when a password stays valid.
func (e explainer) graceGranted(v *Account, days int) {
	howEN, howVI := e.how()
	v.DoneEN = fmt.Sprintf("The password of %s is accepted for %s more, until %s; after that it is refused until it is changed.", v.Address, count(days, "day"), e.dateEN(e.GraceUntil))
	v.DoneVI = fmt.Sprintf("Mật khẩu của %s được dùng thêm %d ngày, đến %s; sau đó bị từ chối cho đến khi được đổi.", v.Address, days, e.dateVI(e.GraceUntil))
	v.TellEN = fmt.Sprintf("You can use your password until %s. Change it before then. %s", e.dateEN(e.GraceUntil), howEN)
	v.TellVI = fmt.Sprintf("Quý vị được dùng mật khẩu hiện tại đến %s. Đề nghị quý vị đổi mật khẩu trước lúc đó. %s", e.dateVI(e.GraceUntil), howVI)
	if w, ok := stands(v); ok {
		v.DoneEN += " But it cannot be logged in to: " + w.EN
		v.DoneVI += " Nhưng chưa đăng nhập được: " + w.VI
		v.TellEN, v.TellVI = w.TellEN, w.TellVI
		if w.outage == nobodyCanLogIn {
			v.TellEN = fmt.Sprintf("You can use your password until %s. %s", e.dateEN(e.GraceUntil), w.TellEN)
			v.TellVI = fmt.Sprintf("Quý vị được dùng mật khẩu hiện tại đến %s. %s", e.dateVI(e.GraceUntil), w.TellVI)
		}
	}
	partly(v)
}

// then returns what the user hears after an act: what it did, and the reason that still
// refuses a login. A lock that remains would contradict the act.
func then(didEN, didVI string, w Why) (en, vi string) {
	if w.Outcome == auth.Locked.String() {
		return w.TellEN, w.TellVI
	}
	return didEN + " " + w.TellEN, didVI + " " + w.TellVI
}

// partly adds to the answer of an act that a part of the mail server is away, unless the
// reason that still refuses the account has said so.
func partly(v *Account) {
	for _, w := range v.Why {
		if w.outage == somethingAway && v.DoneEN != "" {
			v.DoneEN, v.DoneVI = v.DoneEN+" "+w.EN, v.DoneVI+" "+w.VI
			switch {
			case w.TellEN != "":
				v.TellEN, v.TellVI = v.TellEN+" "+w.TellEN, v.TellVI+" "+w.TellVI
			case !strings.Contains(v.TellEN, w.part.nobody.en) && !strings.Contains(v.TellEN, w.part.back.en):
				v.TellEN, v.TellVI = v.TellEN+" "+w.part.nobody.en, v.TellVI+" "+w.part.nobody.vi
			}
		}
	}
}
