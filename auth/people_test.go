package auth_test

import (
	"time"

	"congthu/auth"
)

// Data that the tests of imports, merges and passwords share: an account, the same
// mailbox under another name, locks of either, and the admin who acts.
const (
	lan  = auth.Name("lan@example.vn")
	twin = auth.Name("lan@other.vn")
)

var (
	hanoi = time.FixedZone("+07", 7*60*60)
	clerk = auth.Act{Actor: "Nguyễn Văn An", Reason: "công văn 12/CV"}

	lastYear   = time.Date(1999, 3, 1, 0, 0, 0, 0, time.UTC)
	adminsLock = auth.Lock{Mark: auth.Mark{At: lastYear, By: "An", Reason: "left the office"}, Cause: auth.ByAdmin}
	wrongLock  = auth.Lock{Mark: auth.Mark{At: lastYear, By: auth.ByGateway, Reason: "6 wrong passwords"}, Cause: auth.ByWrongPasswords}
	sweptAway  = auth.Mark{At: lastYear, By: auth.ByGateway, Reason: "not logged in to"}
)

func day(year int, month time.Month, day int) time.Time {
	return time.Date(year, month, day, 0, 0, 0, 0, hanoi)
}

func known(name auth.Name, change func(*auth.Account)) auth.Account {
	at := auth.AddMonths(lastYear, 9)
	a := auth.Account{Name: name, Registered: at, FirstLogin: at, LastLogin: at}
	if change != nil {
		change(&a)
	}
	return a
}
