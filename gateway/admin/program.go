package admin

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"congthu/auth"
)

// origin describes where a login or a wrong password came from, for support staff.
type origin struct {
	place
	told   place // for the user
	device place // for the user as well: the device with the saved password
}

// cameFrom describes the origin of a login or a wrong password: the address, and the
// program if it gave a name. A client can give any name: the text for users contains
// one of the known names or none.
func cameFrom(source netip.Addr, protocol auth.Protocol, program string) origin {
	from, door := addressOf(netip.AddrPortFrom(source, 0)), strings.ToUpper(protocol.String())
	o := origin{
		place:  place{from.en + " over " + door, from.vi + " qua " + door},
		told:   place{"a device or a mail program at the network address " + from.en, "một thiết bị hoặc phần mềm thư (địa chỉ mạng " + from.vi + ")"},
		device: place{"the device at the network address " + from.en, "thiết bị có địa chỉ mạng " + from.vi},
	}
	if program == "" {
		return o
	}
	named := place{fmt.Sprintf("a program that calls itself «%s»", program), fmt.Sprintf("phần mềm tự xưng là «%s»", program)}
	if known := knownProgram(program); known != "" {
		named = place{known, known}
		o.told = place{known + " at the network address " + from.en, fmt.Sprintf("%s (địa chỉ mạng %s)", known, from.vi)}
	}
	o.place = place{fmt.Sprintf("%s at %s over %s", named.en, from.en, door), fmt.Sprintf("%s tại %s qua %s", named.vi, from.vi, door)}
	return o
}

// knownPrograms maps names from IMAP's ID command to the names of mail programs that
// users may read.
var knownPrograms = map[string]string{
	"thunderbird": "Thunderbird", "mozilla thunderbird": "Thunderbird", "betterbird": "Betterbird",
	"outlook": "Outlook", "microsoft outlook": "Outlook", "microsoft office outlook": "Outlook",
	"apple mail": "Apple Mail", "mac os x mail": "Apple Mail", "macos mail": "Apple Mail",
	"iphone mail": "iPhone Mail", "ipad mail": "iPad Mail", "ios mail": "iPhone Mail",
	"k-9 mail": "K-9 Mail", "gmail": "Gmail", "com.google.android.gm": "Gmail",
	"samsung email": "Samsung Email", "com.samsung.android.email.provider": "Samsung Email",
	"geary": "Geary", "evolution": "Evolution", "kmail": "KMail", "kmail2": "KMail", "fairemail": "FairEmail", "em client": "eM Client",
	"mutt": "Mutt", "neomutt": "NeoMutt", "roundcube": "Roundcube", "windows mail": "Windows Mail", "spark": "Spark",
}

// version matches a version after a program's name. It is too short to hold a telephone
// number.
var version = regexp.MustCompile(`[ /][0-9]{1,3}(\.[0-9]{1,4}){0,2}$`)

// knownProgram returns the proper name of a known mail program; empty for others.
func knownProgram(program string) string {
	return knownPrograms[strings.ToLower(version.ReplaceAllString(program, ""))]
}
