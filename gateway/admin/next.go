package admin

import (
	"fmt"
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
	var en, vi []string
	answers := true
	ends, endsVI := "does not answer", "không trả lời"
	order, orderVI := "the gateway is in order", "cổng thư không có lỗi"
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
			whereEN, whereVI := "", ""
			if check.Address != "" {
				whereEN, whereVI = " at "+check.Address, " ở "+check.Address
			}
			en, vi = append(en, "its "+strings.ToUpper(protocol)+whereEN), append(vi, strings.ToUpper(protocol)+whereVI)
			if setUp.MatchString(check.Error) {
				order, orderVI = "if nothing was changed there, congthu check names the setting of the gateway that does not fit", "nếu ở đó không có gì thay đổi, congthu check cho biết thiết lập nào của cổng thư không phù hợp"
				ends, endsVI = "cannot be used over TLS", "không dùng được qua TLS"
			}
		}
	}
	if f.MailServer {
		if len(en) > 1 {
			ends = strings.Replace(ends, "does not", "do not", 1)
		}
		f.NextEN = fmt.Sprintf("call the mail server's administrator: %s %s", strings.Join(en, " and "), ends)
		f.NextVI = fmt.Sprintf("báo người quản trị máy chủ thư: %s %s", strings.Join(vi, " và "), endsVI)
		if !f.Store {
			f.NextEN, f.NextVI = f.NextEN+"; "+order, f.NextVI+"; "+orderVI
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
