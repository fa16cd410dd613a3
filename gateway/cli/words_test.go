package cli

import (
	"bytes"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/spf13/cobra"

	"congthu/auth"
	"congthu/gateway/admin"
)

var hanoi = time.FixedZone("+07", 7*60*60)

func TestWhatEventsSayIsInTheLanguageOfTheUser(t *testing.T) {
	for _, c := range []struct{ own, en, vi string }{
		{"", "", ""},
		{"5 wrong passwords", "5 wrong passwords", "5 lần nhập sai mật khẩu"},
		{"1 wrong password", "1 wrong password", "1 lần nhập sai mật khẩu"},
		{"6 wrong passwords, 5 tolerated, from 203.0.113.7, 2001:db8::1", "6 wrong passwords, 5 tolerated, from 203.0.113.7, 2001:db8::1", "6 lần nhập sai mật khẩu, cho phép 5 lần, từ 203.0.113.7, 2001:db8::1"},
		{"locked by 6 wrong passwords, revoked", "locked by 6 wrong passwords, revoked", "bị khóa do 6 lần nhập sai mật khẩu, bị thu hồi"},
		{"locked by Trần Thị B", "locked by Trần Thị B", "bị khóa bởi Trần Thị B"},
		{"locked by uid:0 (root)", "locked by uid:0 (root)", "bị khóa bởi quản trị viên root"},
		{
			"not locked, 3 wrong passwords, 6 wrong passwords on 2026-12-01, 2 more not written yet, refused for now from 10.1.2.3 (throttled)",
			"not locked, 3 wrong passwords, 6 wrong passwords on 2026-12-01, 2 more not written yet, refused for now from 10.1.2.3 (throttled)",
			"không bị khóa, 3 lần nhập sai mật khẩu, 6 lần nhập sai mật khẩu ngày 01/12/2026, 2 lần nữa chưa được ghi, tạm thời bị từ chối từ 10.1.2.3 (throttled)",
		},
		{"no account", "no account", "chưa có tài khoản"},
		{
			"unit Phòng Nội vụ, active, now, registered 2024-01-15 00:00 +07:00, last login 2026-11-01 08:30 +07:00",
			"unit Phòng Nội vụ, active, now, registered 2024-01-15, last login 2026-11-01 08:30 +07",
			"đơn vị Phòng Nội vụ, active, now, cấp ngày 15/01/2024, đăng nhập gần nhất 08:30 ngày 01/11/2026",
		},
		{"grace until 2026-12-04 05:29 +07:00", "grace until 2026-12-04 05:29 +07", "gia hạn đến 05:29 ngày 04/12/2026"},
		{"198.51.100.7/32 allowed until 2026-12-01T02:30:18Z", "198.51.100.7 allowed until 2026-12-01 09:30 +07", "198.51.100.7 được phép đến 09:30 ngày 01/12/2026"},
		{"2001:db8::/64 not allowed", "2001:db8::/64 not allowed", "2001:db8::/64 không được cho phép"},
		{"merged with b@example.org: locked by 6 wrong passwords, revoked", "merged with b@example.org: locked by 6 wrong passwords, revoked", "đã hợp nhất với b@example.org: bị khóa do 6 lần nhập sai mật khẩu, bị thu hồi"},
		{"250 accounts, list sha256:f3e5", "250 accounts, list sha256:f3e5", "250 tài khoản, danh sách sha256:f3e5"},
		{"begun", "begun", "đã bắt đầu"},
		{"150 new, 0 changed, 100 as before", "150 new, 0 changed, 100 as before", "150 mới, 0 thay đổi, 100 giữ nguyên"},
		{"rules.lockout.tolerated 5; domain example.org", "rules.lockout.tolerated 5; domain example.org", "rules.lockout.tolerated 5; domain example.org"},
	} {
		for locale, want := range map[string]string{"C.UTF-8": c.en, "vi_VN.UTF-8": c.vi} {
			t.Setenv("LC_ALL", locale)
			if got := inWords(c.own, hanoi); got != want {
				t.Errorf("%s: %q is\n%q, want\n%q", locale, c.own, got, want)
			}
		}
	}
}

func TestAPersonsOwnReasonStaysAsItWasWritten(t *testing.T) {
	t.Setenv("LC_ALL", "vi_VN.UTF-8")
	for _, c := range []struct{ reason, by, want string }{
		{"locked", "Trần Thị B", "locked"},
		{"a login with another password than before", "uid:0 (root)", "a login with another password than before"},
		{"a login with another password than before", auth.ByUser, "đăng nhập bằng mật khẩu khác trước"},
		{"not logged in to since 2025-10-19 17:30 +07:00", auth.ByGateway, "không đăng nhập từ 17:30 ngày 19/10/2025"},
		{"not logged in to since 2025-10-19 17:30 +07:00: active", "Trần Thị B", "không đăng nhập từ 17:30 ngày 19/10/2025: active"},
	} {
		if got := reasonInWords(c.reason, c.by, hanoi); got != c.want {
			t.Errorf("%q by %s is %q, want %q", c.reason, c.by, got, c.want)
		}
	}
}

// The sentences that package auth writes into events, read from its source code: each
// has a Vietnamese translation, so that a new sentence cannot be forgotten.
func TestEachSentenceOfAnEventHasItsVietnamese(t *testing.T) {
	found := map[string]string{}
	for _, dir := range []string{"../../auth", "../../auth/guard", "../../auth/audit", "../demo"} {
		names, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		set := token.NewFileSet()
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				var from []ast.Expr
				switch n := n.(type) {
				case *ast.KeyValueExpr:
					if key, ok := n.Key.(*ast.Ident); ok && (key.Name == "Reason" || key.Name == "Before" || key.Name == "After") {
						from = append(from, n.Value)
					}
				case *ast.AssignStmt:
					for i, to := range n.Lhs {
						word := ""
						switch to := to.(type) {
						case *ast.Ident:
							word = to.Name
						case *ast.SelectorExpr:
							word = to.Sel.Name
						}
						if i < len(n.Rhs) {
							switch word {
							case "before", "after", "reason", "Reason", "After", "Before":
								from = append(from, n.Rhs[i])
							}
						}
					}
				case *ast.FuncDecl:
					if strings.HasPrefix(n.Name.Name, "Describe") || n.Name.Name == "lockReason" {
						from = append(from, returned(n.Body)...)
					}
				case *ast.CallExpr:
					switch f := n.Fun.(type) {
					case *ast.SelectorExpr:
						if f.Sel.Name == "suspect" || f.Sel.Name == "tell" {
							from = append(from, n.Args...)
						}
					}
				}
				for _, e := range from {
					for _, text := range literals(e) {
						found[text] = set.Position(e.Pos()).String()
					}
				}
				return true
			})
		}
	}
	if len(found) < 25 {
		t.Fatalf("only %d sentences are found: has auth changed its form?", len(found))
	}
	t.Setenv("LC_ALL", "vi_VN.UTF-8")
	for text, where := range found {
		if !regexp.MustCompile(`[a-z]{3}`).MatchString(text) {
			continue
		}
		example := regexp.MustCompile(`%[ds]`).ReplaceAllString(strings.TrimPrefix(strings.Trim(text, " :"), ", "), "7")
		for _, more := range []string{"", " X"} { // a text that continues, such as "unit "
			if inWords(example+more, hanoi) != example+more {
				example = ""
				break
			}
		}
		if example != "" {
			t.Errorf("%s: no Vietnamese in texts_events.go: %q", where, text)
		}
	}
}

// literals returns the texts in an expression.
func literals(e ast.Node) (texts []string) {
	ast.Inspect(e, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit, *ast.IndexExpr:
			return false
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.SelectorExpr); ok && (f.Sel.Name == "Format" || f.Sel.Name == "Join") {
				return false
			}
		case *ast.BasicLit:
			if text, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING {
				texts = append(texts, text)
			}
		}
		return true
	})
	return texts
}

// returned returns what a function returns.
func returned(body *ast.BlockStmt) (found []ast.Expr) {
	ast.Inspect(body, func(n ast.Node) bool {
		if r, ok := n.(*ast.ReturnStmt); ok {
			found = append(found, r.Results...)
		}
		return true
	})
	return found
}

func TestTheTextsOfEventsHaveBothLanguages(t *testing.T) {
	for _, some := range [][]text{eventTexts, listenTexts} {
		seen := map[string]bool{}
		for _, text := range some {
			if text.en == "" || text.vi == "" || seen[text.en] || !norm.NFC.IsNormalString(text.vi) {
				t.Errorf("missing, twice or not composed: %q", text)
			}
			if strings.Count(text.en, "%s") != strings.Count(text.vi, "%s") {
				t.Errorf("the arguments differ: %q", text)
			}
			seen[text.en] = true
		}
	}
}

// The texts that the rules write in reality.
func TestWhatTheRulesWriteIsAllInVietnamese(t *testing.T) {
	t.Setenv("LC_ALL", "vi_VN.UTF-8")
	rules := auth.DefaultRules()
	now := time.Date(2026, 12, 1, 9, 0, 0, 0, hanoi)
	a := auth.Account{Name: "an@example.org", FirstLogin: now, Registered: now, LastLogin: now}
	var events []auth.Event
	for i := range 6 {
		events = append(events, rules.Reject(&a, now.Add(time.Duration(i)*time.Second), netip.MustParseAddrPort("203.0.113.7:4000"))...)
	}
	events = append(events, rules.Revoke(&a, now, auth.Act{Actor: auth.ByGateway}))
	if len(events) < 7 {
		t.Fatalf("events: %v", events)
	}
	for _, e := range events {
		said := whatHappened(admin.Event{Before: e.Before, After: e.After, Reason: e.Reason, Actor: e.Actor}, hanoi)
		if regexp.MustCompile(`\b(wrong|locked|by|from|since|active|revoked|tolerated|not)\b`).MatchString(said) {
			t.Errorf("English on the Vietnamese screen: %s", said)
		}
	}
}

func TestFailuresAreTranslated(t *testing.T) {
	for _, c := range []struct{ said, en, vi string }{
		{"connect: dial tcp 127.0.0.1:26143: connect: connection refused", "no program listens at 127.0.0.1:26143", "không có chương trình nào nghe ở 127.0.0.1:26143"},
		{"x (context deadline exceeded)", "x (there was no answer in time)", "x (không có câu trả lời kịp)"},
		{"(write: no space left for the database: disk full)", "(the disk of the gateway is full)", "(đĩa của cổng thư đã đầy)"},
		{"(nguyên văn: «no space left for the database: free some on the file system of /var/lib/congthu/congthu.db: database or disk is full (13)»)", "(the disk of the gateway is full: free some space on the file system of /var/lib/congthu/congthu.db)", "(đĩa của cổng thư đã đầy: cần giải phóng dung lượng ở phân vùng chứa /var/lib/congthu/congthu.db)"},
		{"127.0.0.1:28243 accepts connections but says nothing within 30 s: read: read tcp 127.0.0.1:53886->127.0.0.1:28243: i/o timeout", "127.0.0.1:28243 accepts connections but says nothing within 30 s", "127.0.0.1:28243 nhận kết nối nhưng không trả lời trong 30 giây"},
		{"read greeting of 127.0.0.1:28243: not an SMTP reply", "the program at 127.0.0.1:28243 is not an SMTP server", "chương trình ở 127.0.0.1:28243 không phải máy chủ SMTP"},
		{`read greeting of 127.0.0.1:28243: not an IMAP greeting: "220 mail ESMTP"`, "the program at 127.0.0.1:28243 is not an IMAP server", "chương trình ở 127.0.0.1:28243 không phải máy chủ IMAP"},
		{"a file of the database was removed or replaced while the gateway ran: /d/congthu.db is gone. Stop the gateway, put the newest backup in its place, without -wal and -shm files beside it, and start again", "a file of the database was removed or replaced while the gateway ran (/d/congthu.db): stop the gateway, put the newest backup in its place, without -wal and -shm files beside it, and start again", "tệp của cơ sở dữ liệu bị xóa hoặc thay thế khi cổng thư đang chạy (/d/congthu.db): dừng cổng thư, đặt bản sao lưu mới nhất vào chỗ đó, không kèm tệp -wal và -shm, rồi khởi động lại"},
		{"connect: dial tcp 10.1.2.3:143: connect: no route to host", "the network has no way to 10.1.2.3:143", "mạng không có đường tới 10.1.2.3:143"},
		{"connect: dial tcp: lookup mail.example.vn on 10.0.0.53:53: no such host", "the name mail.example.vn cannot be looked up in the DNS", "không tra được tên mail.example.vn trong DNS"},
		{"TLS handshake: tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time 2026-12-01T00:00:00Z is after 2026-11-30T00:00:00Z", "the certificate of the server has run out or is not valid yet", "chứng thư của máy chủ đã hết hạn hoặc chưa có hiệu lực"},
		{"TLS handshake: tls: failed to verify certificate: x509: certificate signed by unknown authority", "the certificate of the server is of an authority that is not trusted here", "chứng thư của máy chủ do tổ chức chưa được tin cậy cấp"},
		{"STARTTLS: TLS handshake: tls: first record does not look like a TLS handshake", "the server does not answer with TLS", "máy chủ không trả lời bằng TLS"},
		{"read: read tcp 10.0.0.1:5000->10.1.2.3:143: read: connection reset by peer", "10.1.2.3:143 ended the connection", "10.1.2.3:143 đã ngắt kết nối"},
		{"the database is damaged: stop the gateway, keep a copy of /d/congthu.db for examination and put the newest backup in its place, without the -wal and -shm files beside it: database disk image is malformed (11)", "the database /d/congthu.db is damaged: stop the gateway, keep a copy of it, put the newest backup in its place, without the -wal and -shm files beside it, and start again", "cơ sở dữ liệu /d/congthu.db bị hỏng: dừng cổng thư, giữ một bản sao, đặt bản sao lưu mới nhất vào chỗ đó, không kèm tệp -wal và -shm, rồi khởi động lại"},
		{"máy chủ (nguyên văn: «flux 7 failed») hỏng", "máy chủ (nguyên văn: «flux 7 failed») hỏng", "máy chủ (nguyên văn: «flux 7 failed») hỏng"},
	} {
		for locale, want := range map[string]string{"C.UTF-8": c.en, "vi_VN.UTF-8": c.vi} {
			t.Setenv("LC_ALL", locale)
			if got := plainly(c.said); got != want {
				t.Errorf("%s: %q, want %q", locale, got, want)
			}
		}
	}
	t.Setenv("LC_ALL", "vi_VN.UTF-8")
	err := errors.New("cannot listen on 127.0.0.1:1143 (imap.listen[0].address): another program has that address")
	said := listening(err)
	if !strings.HasPrefix(said.Error(), "không nghe được ở 127.0.0.1:1143") || !errors.Is(said, err) {
		t.Errorf("said: %v", said)
	}
}

func TestTheRefusalOfAShortReasonIsTranslated(t *testing.T) {
	inBothLanguages(t, func(t *testing.T) {
		err := refused(422, []byte(`{"title":"Unprocessable Entity","detail":"validation failed","errors":[{"location":"body.reason","message":"expected length >= 3"}]}`))
		want := "the reason must have at least 3 characters"
		if spoken() == vietnamese {
			want = "lý do phải có ít nhất 3 ký tự"
		}
		if err.Error() != want {
			t.Errorf("error: %v", err)
		}
	})
}

func TestInstantsOnOneScreenAreAlike(t *testing.T) {
	utc := time.Date(2026, 12, 1, 2, 30, 18, 0, time.UTC)
	for _, c := range []struct {
		at     time.Time
		zone   *time.Location
		en, vi string
	}{
		{utc, hanoi, "2026-12-01 09:30 +07", "09:30 ngày 01/12/2026"},
		{utc, time.UTC, "2026-12-01 02:30 +00", "02:30 +00 ngày 01/12/2026"},
		{time.Date(2026, 12, 1, 0, 0, 0, 0, hanoi), hanoi, "2026-12-01", "01/12/2026"},
		{time.Date(2026, 12, 1, 0, 0, 1, 0, hanoi), hanoi, "2026-12-01 00:00 +07", "00:00 ngày 01/12/2026"},
		{time.Time{}, hanoi, "-", "-"},
	} {
		for locale, want := range map[string]string{"C.UTF-8": c.en, "vi_VN.UTF-8": c.vi} {
			t.Setenv("LC_ALL", locale)
			if got := when(c.at, c.zone); got != want {
				t.Errorf("%s: %q, want %q", locale, got, want)
			}
		}
	}
}

// narrow is a terminal with few columns.
type narrow struct {
	bytes.Buffer
	width int
}

func (n *narrow) Columns() int { return n.width }

func TestOnATerminalTheAnswerFitsIn(t *testing.T) {
	t.Setenv("LC_ALL", "C.UTF-8")
	long := strings.TrimSpace(strings.Repeat("mailbox ", 40))
	a := admin.Account{Summary: admin.Summary{Address: "an@example.org"}, Why: []admin.Why{{Outcome: "locked", EN: long, VI: long, TellEN: long, TellVI: long}}}
	c := &client{flags: " -c /etc/congthu/congthu.yaml", zone: hanoi}
	terminal := &narrow{width: 60}
	c.printAnswer(terminal, a)
	for line := range strings.Lines(terminal.String()) {
		if n := len(strings.TrimRight(line, "\n")); n > 60 && !strings.Contains(line, "congthu account unlock") {
			t.Errorf("%d letters: %s", n, line)
		}
	}
	if strings.Count(terminal.String(), "mailbox") != 80 || !strings.Contains(terminal.String(), `-c /etc/congthu/congthu.yaml --reason "..."`) {
		t.Errorf("not all is there:\n%s", terminal)
	}
	var file bytes.Buffer
	if c.printAnswer(&file, a); strings.Count(file.String(), "\n") != 3 {
		t.Errorf("wrapped in a file:\n%s", &file)
	}
}

func TestAnAliasIsNamedAsSuch(t *testing.T) {
	t.Setenv("LC_ALL", "C.UTF-8")
	for _, c := range []struct{ asked, address, want string }{
		{"vanthu", "an@example.org", "vanthu is another name of an@example.org."},
		{"AN", "an@example.org", ""},
		{"an+list@example.org", "an@example.org", ""},
	} {
		if got := otherName(c.asked, c.address); got != c.want {
			t.Errorf("%s: %q", c.asked, got)
		}
	}
}

// The next command is printed with --reason "...": copied as it is, it has no reason.
func TestTheDotsOfAPrintedCommandAreNoReason(t *testing.T) {
	cmd := &cobra.Command{Use: "unlock"}
	for reason, ok := range map[string]bool{"": false, "...": false, " … ": false, "#17": true, "đã gọi": true} {
		err := checkReason(cmd, []string{"an@example.org"}, reason, `"called"`, "")
		if (err == nil) != ok || !ok && !strings.Contains(err.Error(), "an@example.org --reason") {
			t.Errorf("%q: %v", reason, err)
		}
	}
}

// A locked name without a mailbox is freed only where the mailbox exists, and names that
// are counted together not at all.
func TestALockedNameHasAFixWithACondition(t *testing.T) {
	c := new(client)
	a := admin.Account{Summary: admin.Summary{Address: "quocc@example.org", State: "locked", Locked: &admin.Lock{}}}
	if got := c.fix(a, "locked"); !strings.HasPrefix(got, "only if the mailbox really exists: congthu account unlock quocc@example.org") {
		t.Error(got)
	}
	a.State, a.Locked = "unknown", nil
	if got := c.fix(a, "locked"); got != "" {
		t.Error(got)
	}
}

// A fault that the table does not know stands in quotes behind words of the user's
// language, so that support staff can read it out.
func TestAnUnknownFaultIsQuoted(t *testing.T) {
	for locale, want := range map[string]string{"C.UTF-8": "flux 7 failed", "vi_VN.UTF-8": "nguyên văn: «flux 7 failed»"} {
		t.Setenv("LC_ALL", locale)
		if got := faultInWords("flux 7 failed"); got != want {
			t.Errorf("%s: %q, want %q", locale, got, want)
		}
	}
	t.Setenv("LC_ALL", "vi_VN.UTF-8")
	if got, want := faultInWords("no space left on device"), "đĩa đã đầy"; got != want {
		t.Errorf("known: %q, want %q", got, want)
	}
}

// Errors are wrapped on a terminal as answers are; a command in them is not.
func TestOnATerminalARefusalFitsIn(t *testing.T) {
	inBothLanguages(t, func(t *testing.T) {
		terminal := &narrow{width: 80}
		complaint(terminal, "congthu: an@example.org: "+strings.TrimSpace(strings.Repeat("hộp thư ", 30)))
		for line := range strings.Lines(terminal.String()) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 80 {
				t.Errorf("%d letters: %s", n, line)
			}
		}
		if strings.Count(terminal.String(), "hộp thư")+strings.Count(terminal.String(), "hộp\n  thư") != 30 {
			t.Error(terminal)
		}
		for _, command := range []string{
			"  congthu account unlock nguyenvan.an@binhphuoc.gov.vn --reason \"called 0912345678, identity checked\"",
			"congthu: say for how many days: congthu account grace nguyenvan.an@binhphuoc.gov.vn --days 3 --reason \"on a mission\"",
		} {
			terminal.Reset()
			if complaint(terminal, command); terminal.String() != command+"\n" {
				t.Error(terminal)
			}
		}
		terminal.Reset()
		var out strings.Builder
		Run(t.Context(), []string{"account", "show", "an@example.org", "--socket", "/nowhere/" + strings.Repeat("x/", 20) + "admin.sock"}, strings.NewReader(""), &out, terminal)
		for line := range strings.Lines(terminal.String()) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 80 {
				t.Errorf("%d letters: %s", n, line)
			}
		}
	})
}
