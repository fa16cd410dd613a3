package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"congthu/auth"
)

// The result of an act in sentences: for the administrator, and for the user on the
// telephone.

// stands returns the first reason why no login to the account succeeds; ok is false if
// there is none.
func stands(v *Account) (why Why, ok bool) {
	for _, w := range v.Why {
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
	if w, ok := stands(v); ok {
		v.TellEN, v.TellVI = w.TellEN, w.TellVI
	}
	switch {
	case !e.Known() && e.Lock.Cause == auth.NotLocked:
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
	_, _, program := e.whoTries()
	if program.IsZero() {
		v.DoneEN += fmt.Sprintf(" Have the password saved there corrected now, or %s.", againEN)
		v.DoneVI += fmt.Sprintf(" Đề nghị sửa ngay mật khẩu đã lưu trên thiết bị đó, nếu không %s.", againVI)
		v.TellEN += " Correct the password saved on every device."
		v.TellVI += " Đề nghị quý vị sửa mật khẩu đã lưu trên mọi thiết bị."
		return
	}
	v.DoneEN += fmt.Sprintf(" They came from one program, %s: have the password saved there corrected now, or %s.", program.en, againEN)
	v.DoneVI += fmt.Sprintf(" Tất cả từ một phần mềm, %s: đề nghị sửa ngay mật khẩu đã lưu trên thiết bị đó, nếu không %s.", program.vi, againVI)
	v.TellEN += fmt.Sprintf(" Correct the password saved on %s.", program.device.en)
	v.TellVI += fmt.Sprintf(" Đề nghị quý vị sửa mật khẩu đã lưu trên %s.", program.device.vi)
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
	}
}

// troubles returns the reasons why no user can log in at present: a failed readiness
// check concerns every account.
func (s *Server) troubles(ctx context.Context) (troubles []Why) {
	if s.draining.Load() {
		return nil
	}
	ready := s.ready(ctx)
	var away place // the protocols on which the mail server does not answer
	for _, check := range s.Checks {
		condition := ready.Checks[check.Name]
		if condition.OK || condition.unprobed {
			continue
		}
		if check.Name == storeCheck {
			troubles = append(troubles, Why{
				Outcome: auth.StoreUnavailable.String(),
				EN:      fmt.Sprintf("The gateway's own store has a fault (%s): who was not logged in lately cannot log in, whatever the password.", sentence(condition.Error)),
				VI:      fmt.Sprintf("Kho dữ liệu của cổng thư có sự cố (%s): người chưa đăng nhập gần đây không đăng nhập được, dù mật khẩu đúng.", sentence(condition.Error)),
				TellEN:  tellStoreEN, TellVI: tellStoreVI,
			})
			continue
		}
		door := fmt.Sprintf("%s (%s)", strings.ToUpper(strings.Fields(check.Name)[0]), sentence(condition.Error))
		if away.IsZero() {
			away = place{door, door}
		} else {
			away.en, away.vi = away.en+" and over "+door, away.vi+" và qua "+door
		}
	}
	if !away.IsZero() {
		troubles = append(troubles, Why{
			Outcome: auth.Unavailable.String(),
			EN:      fmt.Sprintf("The mail server does not answer over %s: nobody can log in there at the moment.", away.en),
			VI:      fmt.Sprintf("Máy chủ thư không trả lời qua %s: hiện không ai đăng nhập được qua đó.", away.vi),
			TellEN:  "The mail server is not available at the moment. Your password need not be wrong: do not change it, and try again in some minutes; we look into it.",
			TellVI:  "Máy chủ thư hiện không hoạt động. Chưa hẳn là sai mật khẩu: đề nghị quý vị không đổi mật khẩu và thử lại sau ít phút; chúng tôi đang xử lý.",
		})
	}
	return troubles
}

// showTroubles adds these reasons to an account. They come first, but after a reason
// that refuses the account whatever the state of the servers.
func (s *Server) showTroubles(ctx context.Context, v *Account) {
	troubles := s.troubles(ctx)
	if len(troubles) == 0 {
		return
	}
	v.Why = slices.DeleteFunc(v.Why, func(w Why) bool { return w.Outcome == auth.Accepted.String() })
	at := slices.IndexFunc(v.Why, func(w Why) bool {
		return w.Outcome != auth.Locked.String() && w.Outcome != auth.Revoked.String() && w.Outcome != auth.Expired.String()
	})
	if at < 0 {
		at = len(v.Why)
	}
	v.Why = slices.Insert(v.Why, at, troubles...)
}
