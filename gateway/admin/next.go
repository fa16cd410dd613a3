package admin

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Fault is what is known to be wrong beside accounts: of the mail server, of the
// gateway's store, or of both.
type Fault struct {
	MailServer, Store bool
	// NextEN and NextVI say whom to call and what to tell them; empty where no fault is
	// known. They stand below the faults themselves.
	NextEN, NextVI string
}

// setUp matches errors of a mail server that answers, but not as the configuration says.
var setUp = regexp.MustCompile(`(?i)\btls\b|starttls|certificate|x509`)

// Fault returns what is wrong and whom to call about it.
func (r Readiness) Fault() (f Fault) {
	// Servers that do not answer, and those that answer but cannot be used as set up.
	var silent, unusable servers
	answers := true
	for _, name := range slices.Sorted(maps.Keys(r.Checks)) {
		check := r.Checks[name]
		protocol, upstream := strings.CutSuffix(name, upstreamCheck)
		answers = answers && (check.OK || !upstream)
		switch {
		case check.OK || check.Error == ErrNotProbed.Error():
		case name == storeCheck:
			f.Store = true
		case upstream:
			f.MailServer = true
			if setUp.MatchString(check.Error) {
				unusable.add(protocol, check.Address)
			} else {
				silent.add(protocol, check.Address)
			}
		}
	}
	if f.MailServer {
		var en, vi []string
		if len(silent.en) > 0 {
			does := "does"
			if len(silent.en) > 1 {
				does = "do"
			}
			en, vi = append(en, silent.english()+" "+does+" not answer"), append(vi, silent.vietnamese()+" không trả lời")
		}
		if len(unusable.en) > 0 {
			en, vi = append(en, unusable.english()+" cannot be used over TLS"), append(vi, unusable.vietnamese()+" không dùng được qua TLS")
		}
		f.NextEN = "call the mail server's administrator: " + strings.Join(en, ", ")
		f.NextVI = "báo người quản trị máy chủ thư: " + strings.Join(vi, ", ")
		switch {
		case f.Store:
		case len(unusable.en) > 0:
			f.NextEN += "; if nothing was changed there, congthu check names the setting of the gateway that does not fit"
			f.NextVI += "; nếu ở đó không có gì thay đổi, congthu check cho biết thiết lập nào của cổng thư không phù hợp"
		default:
			f.NextEN, f.NextVI = f.NextEN+"; the gateway is in order", f.NextVI+"; cổng thư không có lỗi"
		}
	}
	if f.Store {
		const storeEN = "call the gateway's administrator: the gateway's store does not work (read out the fault above)"
		const storeVI = "báo người quản trị cổng thư: kho dữ liệu của cổng thư không hoạt động (đọc nội dung lỗi ở trên)"
		switch {
		case f.MailServer:
			f.NextEN, f.NextVI = storeEN+"; and "+f.NextEN, storeVI+"; đồng thời "+f.NextVI
		case answers:
			f.NextEN, f.NextVI = storeEN+"; the mail server answers", storeVI+"; máy chủ thư vẫn trả lời"
		default:
			f.NextEN, f.NextVI = storeEN, storeVI
		}
	}
	if f.NextEN != "" {
		f.NextEN, f.NextVI = f.NextEN+".", f.NextVI+"."
	}
	return f
}

// servers are services of the mail server, in both languages.
type servers struct{ en, vi []string }

// add adds the service of a protocol. Older gateways do not name its address.
func (s *servers) add(protocol, address string) {
	en, vi := "its "+strings.ToUpper(protocol), strings.ToUpper(protocol)
	if address != "" {
		en, vi = en+" at "+address, vi+" ở "+address
	}
	s.en, s.vi = append(s.en, en), append(s.vi, vi)
}

func (s servers) english() string    { return strings.Join(s.en, " and ") }
func (s servers) vietnamese() string { return strings.Join(s.vi, " và ") }
