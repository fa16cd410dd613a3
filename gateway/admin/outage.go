package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"congthu/auth"
)

// outage is how much of what a login needs is away.
type outage int

const (
	notAway        outage = iota
	somethingAway         // sending or reading does not work; the rest does
	nobodyCanLogIn        // whatever the account
)

// part is what a partial outage means to owners that are refused in any case. To these,
// "sending does work" is false.
type part struct {
	// nobody says what does not work for anybody.
	nobody place
	// able is what an owner can do who needs only a new password; back says when the
	// rest works again.
	able, back place
}

// troubles returns the reasons why no user can log in at present: a failed readiness
// check concerns every account.
func (s *Server) troubles(ctx context.Context) (troubles []Why) {
	if s.draining.Load() {
		return nil
	}
	ready := s.ready(ctx)
	fault := ready.Fault()
	// The one reason that is printed first says whom to call about all of them.
	defer func() {
		if len(troubles) > 0 {
			troubles[0].NextEN, troubles[0].NextVI = fault.NextEN, fault.NextVI
		}
	}()
	var away, answering, causes, causesVI []string
	for _, check := range s.Checks {
		condition := ready.Checks[check.Name]
		if condition.unprobed {
			continue
		}
		if check.Name == storeCheck {
			if !condition.OK {
				troubles = append(troubles, Why{
					Outcome: auth.StoreUnavailable.String(),
					EN:      fmt.Sprintf("The gateway's own store has a fault (%s): who was not logged in lately cannot log in, whatever the password.", sentence(condition.Error)),
					VI:      fmt.Sprintf("Kho dữ liệu của cổng thư có sự cố (nguyên văn: «%s»): người chưa đăng nhập gần đây không đăng nhập được, dù mật khẩu đúng.", sentence(condition.Error)),
					TellEN:  tellStoreEN, TellVI: tellStoreVI,
					outage: nobodyCanLogIn,
				})
			}
			continue
		}
		protocol := strings.ToUpper(strings.Fields(check.Name)[0])
		if condition.OK {
			answering = append(answering, protocol)
			continue
		}
		away = append(away, protocol)
		causes = append(causes, fmt.Sprintf("%s (%s)", protocol, sentence(condition.Error)))
		causesVI = append(causesVI, fmt.Sprintf("%s (nguyên văn: «%s»)", protocol, sentence(condition.Error)))
	}
	overEN, overVI := strings.Join(causes, " and over "), strings.Join(causesVI, " và qua ")
	switch {
	case len(away) == 0:
	case len(answering) == 0:
		troubles = append(troubles, Why{
			Outcome: auth.Unavailable.String(),
			EN:      fmt.Sprintf("The mail server does not answer over %s: nobody can log in there at the moment.", overEN),
			VI:      fmt.Sprintf("Máy chủ thư không trả lời qua %s: hiện không ai đăng nhập được qua đó.", overVI),
			TellEN:  "The mail server is not available at the moment. Your password need not be wrong: do not change it, and try again in some minutes; we look into it.",
			TellVI:  "Máy chủ thư hiện không hoạt động. Chưa hẳn là sai mật khẩu: đề nghị quý vị không đổi mật khẩu và thử lại sau ít phút; chúng tôi đang xử lý.",
			outage:  nobodyCanLogIn,
		})
	default:
		does, part := sides(away, answering)
		cause := place{fmt.Sprintf(" The mail server does not answer over %s.", overEN), fmt.Sprintf(" Máy chủ thư không trả lời qua %s.", overVI)}
		troubles = append(troubles, Why{
			Outcome: auth.Unavailable.String(),
			EN:      does.en + cause.en,
			VI:      does.vi + cause.vi,
			TellEN:  does.en + " Try again in some minutes; we look into it.",
			TellVI:  does.vi + " Đề nghị quý vị thử lại sau ít phút; chúng tôi đang xử lý.",
			outage:  somethingAway,
			part:    part,
			refused: place{part.nobody.en + cause.en, part.nobody.vi + cause.vi},
		})
	}
	return troubles
}

// sides says in the words of users what works and what does not, from the names of the
// protocols, for owners that can log in and for others.
func sides(away, answering []string) (does place, _ part) {
	sending := strings.ToUpper(auth.SMTP.String())
	// words names the sides of protocols; the reading side has no protocol in its name if
	// the other list has none of that side.
	words := func(protocols, others []string) (en, vi []string) {
		both := slices.ContainsFunc(others, func(p string) bool { return p != sending })
		reading := false
		for _, p := range protocols {
			switch {
			case p == sending:
			case both:
				en, vi = append(en, "reading%s over "+p), append(vi, "đọc%s thư qua "+p)
			case !reading:
				reading, en, vi = true, append(en, "reading%s"), append(vi, "đọc%s thư")
			}
		}
		if slices.Contains(protocols, sending) {
			en, vi = append(en, "sending%s"), append(vi, "gửi%s thư")
		}
		return en, vi
	}
	form := func(words []string, between, with string) string {
		return strings.ReplaceAll(strings.Join(words, between), "%s", with)
	}
	agree := func(words []string) string {
		if len(words) == 1 {
			return "does"
		}
		return "do"
	}
	noEN, noVI := words(away, answering)
	yesEN, yesVI := words(answering, away)
	no, yes := form(noEN, " and ", ""), form(yesEN, " and ", "")
	first := form(noEN, " and ", " mail")
	works := "works"
	if len(noEN) > 1 {
		works = "work"
	}
	can := strings.NewReplacer("reading", "read", "sending", "send").Replace(yes)
	does = place{
		fmt.Sprintf("%s %s not work at the moment; %s %s.", capital(first), agree(noEN), yes, agree(yesEN)),
		fmt.Sprintf("Hiện chưa %s; việc %s vẫn bình thường.", form(noVI, " và chưa ", " được"), form(yesVI, " và ", "")),
	}
	return does, part{
		nobody: place{
			fmt.Sprintf("%s %s not work for anybody at the moment.", capital(no), agree(noEN)),
			fmt.Sprintf("Hiện không ai %s.", form(noVI, " và không ai ", " được")),
		},
		able: place{
			fmt.Sprintf("Then you can %s at once;", can),
			fmt.Sprintf("Đổi xong quý vị %s ngay;", form(yesVI, " và ", " được")),
		},
		back: place{
			fmt.Sprintf("%s %s again when the mail server answers; we look into it.", no, works),
			fmt.Sprintf("việc %s sẽ trở lại khi máy chủ thư hoạt động, chúng tôi đang xử lý.", form(noVI, " và ", "")),
		},
	}
}

// capital returns a text that begins a sentence.
func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// showTroubles adds these reasons to an account. One that lets nobody log in comes
// first and has the only answer to the user: what is wrong with the account as well
// matters once it is over, and two answers may contradict each other. One of a part
// comes after the reasons that refuse the account in any case, and is added to their
// answer: see [Server.afterObstacles].
func (s *Server) showTroubles(ctx context.Context, v *Account) {
	troubles := s.troubles(ctx)
	if len(troubles) == 0 {
		return
	}
	v.Why = slices.DeleteFunc(v.Why, func(w Why) bool { return w.Outcome == auth.Accepted.String() })
	total := 0
	for total < len(troubles) && troubles[total].outage == nobodyCanLogIn {
		total++
	}
	if total > 0 {
		later(v.Why, troubles[:total])
		if lockedByHand(v) {
			tellOfOutage(&troubles[0], v)
		}
		for i := range troubles[1:] {
			troubles[i+1].TellEN, troubles[i+1].TellVI = "", ""
			if w := &troubles[i+1]; w.outage == somethingAway { // while the store is down, no part works for everybody
				w.EN, w.VI = w.refused.en, w.refused.vi
			}
		}
		v.Why = slices.Concat(troubles, v.Why)
		return
	}
	for i := range v.Why {
		if v.Why[i].Outcome == auth.Unavailable.String() { // an attempt that met this outage
			v.Why[i].TellEN, v.Why[i].TellVI = "", ""
		}
	}
	at := s.afterObstacles(v, &troubles[0])
	v.Why = slices.Insert(v.Why, at, troubles...)
}

// afterObstacles returns the place of a partial outage among the reasons of an account:
// after those that refuse it. If there are such reasons, the user hears of the outage
// with the first of them, in words that are true for this owner.
func (s *Server) afterObstacles(v *Account, trouble *Why) (at int) {
	var obstacles []int
	for i, w := range v.Why {
		if refuses(w) || w.Outcome == auth.Throttled.String() || w.Outcome == auth.Busy.String() ||
			w.Outcome == auth.WrongPassword.String() && v.Registered.IsZero() { // no mailbox of this name is known
			obstacles = append(obstacles, i)
		}
	}
	if len(obstacles) == 0 {
		return 0
	}
	trouble.EN, trouble.VI = trouble.refused.en, trouble.refused.vi
	trouble.TellEN, trouble.TellVI = "", ""
	first := &v.Why[obstacles[0]]
	if len(obstacles) == 1 && first.Outcome == auth.Expired.String() {
		change := explainer{rules: s.Guard.Rules(), change: s.changePassword()}.changeNow()
		first.TellEN = change.en + " " + trouble.part.able.en + " " + trouble.part.back.en
		first.TellVI = change.vi + " " + trouble.part.able.vi + " " + trouble.part.back.vi
	} else if first.TellEN != "" {
		first.TellEN, first.TellVI = first.TellEN+" "+trouble.part.nobody.en, first.TellVI+" "+trouble.part.nobody.vi
	}
	return obstacles[len(obstacles)-1] + 1
}

// refuses reports whether a reason refuses the account whatever the state of the
// servers.
func refuses(w Why) bool {
	switch w.Outcome {
	case auth.Locked.String(), auth.Revoked.String(), auth.Expired.String():
		return true
	}
	return false
}

// later marks what is wrong with an account as what comes after an outage.
func later(why, outages []Why) {
	en, vi := "Once the mail server answers again: ", "Khi máy chủ thư hoạt động trở lại: "
	switch {
	case len(outages) > 1:
		en, vi = "Once both work again: ", "Khi cả hai hoạt động trở lại: "
	case outages[0].Outcome == auth.StoreUnavailable.String():
		en, vi = "Once the gateway's store works again: ", "Khi kho dữ liệu của cổng thư hoạt động trở lại: "
	}
	for i := range why {
		w := &why[i]
		w.TellEN, w.TellVI, w.AllowSource = "", "", ""
		if refuses(*w) || w.Outcome == auth.Throttled.String() || w.Outcome == auth.Busy.String() {
			w.EN, w.VI = en+w.EN, vi+w.VI
		}
	}
}

// lockedByHand reports whether an administrator locked the account, now or lately: a
// device may be lost, and its owner was told to change the password.
func lockedByHand(v *Account) bool {
	if v.Locked != nil && v.Locked.Cause == auth.ByAdmin.String() {
		return true
	}
	return slices.ContainsFunc(v.Events, func(e Event) bool {
		return e.Kind == string(auth.AccountLocked) && e.Actor != auth.ByGateway
	})
}

// What to tell users while the store is down.
const (
	tellStoreEN = "The mail gateway has a fault of its own at the moment. Your password need not be wrong: do not change it, and try again in some minutes; we look into it."
	tellStoreVI = "Cổng thư đang gặp sự cố. Chưa hẳn là sai mật khẩu: đề nghị quý vị không đổi mật khẩu và thử lại sau ít phút; chúng tôi đang xử lý."
)

// What to tell a user who may have been told to change the password, while the store is
// down.
const (
	calmStoreEN = "The mail gateway has a fault of its own at the moment; try again in some minutes; we look into it."
	calmStoreVI = "Cổng thư đang gặp sự cố; đề nghị quý vị thử lại sau ít phút; chúng tôi đang xử lý."
)

// tellOfOutage words the answer to a user who may have been told to change the
// password: it must not say the contrary.
func tellOfOutage(w *Why, v *Account) {
	en, vi := "The mail server is not available at the moment; try again in some minutes; we look into it.",
		"Máy chủ thư hiện không hoạt động; đề nghị quý vị thử lại sau ít phút; chúng tôi đang xử lý."
	if w.Outcome == auth.StoreUnavailable.String() {
		en, vi = calmStoreEN, calmStoreVI
	}
	if v.Locked != nil && v.Locked.Cause == auth.ByAdmin.String() {
		en, vi = tellLockedEN, tellLockedVI
	}
	w.TellEN, w.TellVI = en, vi
}
