package realtest

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

var update = flag.Bool("update", false, "write what the readers find into the table of forms of From:")

// formsFile is the table of forms of From:. The tests of gateway/smtp compare it with
// what the gateway says, those here with what the readers find.
const formsFile = "../smtp/testdata/from.txt"

// finds holds the authors of a message according to each reader: Python's email package
// with its policies default and compat32, and Dovecot's ENVELOPE.
type finds [3]string

// nobody stands for a reader that finds no author.
const nobody = "-"

// sent is the result of a message.
type sent struct {
	reply string
	finds finds // if it was accepted
}

func (s sent) accepted() bool { return strings.HasPrefix(s.reply, "250 ") }

// correspondents fills in the addresses of a form, and takes them out of what is
// found.
type correspondents struct{ me, boss string }

func (c correspondents) fill(form string) string {
	local, domain, _ := strings.Cut(c.me, "@")
	boss, _, _ := strings.Cut(c.boss, "@")
	return strings.NewReplacer(
		"ME_UPPER", strings.ToUpper(c.me), "ME_TAGGED", local+"+x@"+domain, "ME_LOCAL", local, "ME_DOMAIN", domain, "ME", c.me,
		"BOSS_Q", strings.Replace(c.boss, "@", "=40", 1), "BOSS_LOCAL", boss, "BOSS", c.boss).Replace(form)
}

func (c correspondents) takeOut(found string) string {
	local, domain, _ := strings.Cut(c.me, "@")
	boss, _, _ := strings.Cut(c.boss, "@")
	return strings.NewReplacer(
		strings.ToUpper(c.me), "ME_UPPER", local+"+x@"+domain, "ME_TAGGED", c.me, "ME", local, "ME_LOCAL",
		c.boss, "BOSS", boss, "BOSS_LOCAL").Replace(found)
}

// submitForms submits messages with these headers, and says what became of each.
// from is the address of the client, "" a fresh one: Postfix completes and rewrites
// the header for clients at 127.0.0.1, its own address, as the gateway is one, and
// for no others (local_header_rewrite_clients).
func submitForms(t *testing.T, door Door, from string, c correspondents, heads []string) []sent {
	t.Helper()
	results := make([]sent, len(heads))
	var d *Dialogue
	for i, head := range heads {
		if d == nil {
			var reply string
			if d, reply = door.LoginSMTP(t, from, c.me, Password); !strings.HasPrefix(reply, "235") {
				t.Fatal(reply)
			}
		}
		d.MustReply("250", "MAIL FROM:<"+c.me+">")
		d.MustReply("250", "RCPT TO:<"+c.me+">")
		d.MustReply("354", "DATA")
		d.Say(fmt.Sprintf("%s\r\nX-Form: %d\r\n\r\nbody\r\n.\r\n", c.fill(head), i))
		results[i].reply = d.Reply()
		if !results[i].accepted() {
			d.Close()
			d = nil
		}
	}
	Postfix(t).Settle(t)
	number := regexp.MustCompile(`X-Form: (\d+)`)
	raw, envelopes := inbox(t, c.me)
	python := pythonFinds(t, raw)
	arrived := make(map[int]bool)
	for i, message := range raw {
		match := number.FindStringSubmatch(message)
		if match == nil {
			t.Errorf("nobody sent this: %q", message)
			continue
		}
		n := id(t, match[1])
		arrived[n] = true
		results[n].finds = finds{c.takeOut(authors(python[i][0])), c.takeOut(authors(python[i][1])), c.takeOut(authors(envelopes[i]))}
	}
	for i, r := range results {
		if r.accepted() != arrived[i] {
			t.Errorf("%q: answered %q, delivered: %v", heads[i], r.reply, arrived[i])
		}
	}
	return results
}

// needless are quotes around a local part that needs none.
var needless = regexp.MustCompile(`^"([a-z0-9.]+)"@`)

// authors writes a list of addresses as the table has it.
func authors(list []string) string {
	var all []string
	for _, a := range list {
		// Python and Dovecot have these for what they cannot read.
		a = strings.TrimSuffix(a, "@MISSING_DOMAIN")
		a = needless.ReplaceAllString(a, "$1@")
		if a == "" || a == "<>" || a == "MISSING_MAILBOX" {
			continue
		}
		a = strconv.QuoteToASCII(a)
		all = append(all, a[1:len(a)-1])
	}
	if len(all) == 0 {
		return nobody
	}
	return strings.Join(all, ", ")
}

// inbox returns all messages of an account, and the authors that Dovecot finds.
func inbox(t *testing.T, user string) (raw []string, envelopes [][]string) {
	t.Helper()
	client := imapclient.New(DialTLS(t, Dovecot(t).IMAPS, "").Conn, nil)
	defer client.Close()
	if err := client.Login(user, Password).Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	section := &imap.FetchItemBodySection{}
	messages, err := client.Fetch(imap.SeqSet{{Start: 1, Stop: 0}}, &imap.FetchOptions{Envelope: true, BodySection: []*imap.FetchItemBodySection{section}}).Collect()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		var list []string
		for _, a := range m.Envelope.From {
			switch {
			case a.IsGroupStart():
				list = append(list, a.Mailbox+":")
			case !a.IsGroupEnd():
				list = append(list, a.Mailbox+"@"+a.Host)
			}
		}
		raw, envelopes = append(raw, string(m.FindBodySection(section))), append(envelopes, list)
	}
	return raw, envelopes
}

// pythonFinds reads the authors of messages with both policies of Python's email.
func pythonFinds(t *testing.T, messages []string) (found [][2][]string) {
	t.Helper()
	const program = `
import email, email.policy, email.utils, json, sys
found = []
for raw in json.load(sys.stdin):
    raw = raw.encode("latin-1")
    try:
        new = [a.addr_spec for h in email.message_from_bytes(raw, policy=email.policy.default).get_all("from", []) for a in h.addresses]
    except AttributeError: # a mistake in its parser
        new = []
    old = email.message_from_bytes(raw).get_all("from", [])
    found.append([new, [a for _, a in email.utils.getaddresses([str(h) for h in old])]])
json.dump(found, sys.stdout)`
	octets := make([]string, len(messages)) // one character for each octet
	for i, m := range messages {
		runes := make([]rune, len(m))
		for j := range len(m) {
			runes[j] = rune(m[j])
		}
		octets[i] = string(runes)
	}
	in, err := json.Marshal(octets)
	if err != nil {
		t.Fatal(err)
	}
	python := exec.Command("/usr/bin/python3", "-B", "-E", "-s", "-c", program)
	python.Stdin = strings.NewReader(string(in))
	out, err := python.CombinedOutput()
	if err != nil {
		t.Fatalf("python: %v: %s", err, out)
	}
	if err := json.Unmarshal(out, &found); err != nil {
		t.Fatal(err)
	}
	return found
}

// ownOrNobody reports whether no reader finds an author but the sender.
func (f finds) ownOrNobody() bool {
	for _, reader := range f {
		for _, a := range strings.Split(reader, ", ") {
			if a != nobody && a != "ME" && a != "ME_UPPER" && a != "ME_TAGGED" {
				return false
			}
		}
	}
	return true
}

// The table of forms contains what the readers find in the messages that Postfix
// delivers. A message that the gateway accepts is delivered as without the gateway, and
// no reader finds another person in it; the table also lists what it refuses.
func TestNobodyReadsAnotherAuthorInWhatTheGatewayLetsThrough(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(formsFile)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	var rows [][]string
	var at []int // the line of a row
	var heads []string
	for i, line := range lines {
		if strings.HasPrefix(line, "#") {
			continue
		}
		cells := strings.Split(line, "\t")
		head, err := strconv.Unquote(cells[1])
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		rows, at, heads = append(rows, append(cells, make([]string, max(0, 10-len(cells)))...)), append(at, i), append(heads, head)
	}
	somebody := func() correspondents { return correspondents{Dovecot(t).Account(t), Dovecot(t).Account(t)} }
	var straight [2][]sent
	for way, from := range []string{FreshAddress(), "127.0.0.1"} {
		column := 4 + 3*way
		straight[way] = submitForms(t, Straight(t), from, somebody(), heads)
		for i, s := range straight[way] {
			if !s.accepted() {
				t.Errorf("%s: Postfix itself says %q", rows[i][0], s.reply)
			}
			if got := s.finds[:]; !slices.Equal(got, rows[i][column:column+3]) {
				if !*update {
					t.Errorf("%s: the readers find %q, the table has %q (go test -update writes it)", rows[i][0], got, rows[i][column:column+3])
				}
				copy(rows[i][column:], got)
			}
		}
	}
	for i, s := range submitForms(t, Congthu(t).Door(), "", somebody(), heads) {
		switch {
		case s.accepted() != (rows[i][2] == "accepted"):
			t.Errorf("%s: answered %q, and the table has %q", rows[i][0], s.reply, rows[i][2])
		case !s.accepted() && !strings.HasPrefix(s.reply, "550 5.7.1"):
			t.Errorf("%s: answered %q", rows[i][0], s.reply)
		case s.accepted() && !s.finds.ownOrNobody():
			t.Errorf("%s: let through, and the readers find %q", rows[i][0], s.finds)
		case s.accepted() && s.finds != straight[0][i].finds && s.finds != straight[1][i].finds:
			t.Errorf("%s: the readers find %q, and straight at Postfix %q", rows[i][0], s.finds, straight[1][i].finds)
		}
	}
	if *update {
		for i, row := range rows {
			lines[at[i]] = strings.Join(row, "\t")
		}
		if err := os.WriteFile(formsFile, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Random values of From: are made of these: what programs write, and what could lead
// a reader astray.
var (
	usual = []string{"ME", "<ME>", "<ME>", "A", "B.", "[HCC]", "(c)", "\"q\"", "=?utf-8?q?A?=", "ễ", "\xea", "'", ";", ",", "\r\n "}
	odd   = []string{"BOSS", "<BOSS>", "BOSS_LOCAL", "[", "]", "(", ")", "\"", "\"<BOSS>\"", ":", "\\", "<", ">", "@", "=?utf-8?q?=3CBOSS=3E?=", "\x83", "\t", "mailto:", "\u00a0"}
)

// Random values, with and without Postfix's rewriting: a wrong reading of ours would
// appear as another person's name.
func TestNobodyReadsAnotherAuthorInRandomForms(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(20260105, 1))
	var heads []string
	for range 500 {
		var value strings.Builder
		for n := 1 + random.IntN(6); n > 0; n-- {
			pieces := usual
			if random.IntN(5) == 0 {
				pieces = odd
			}
			value.WriteString(pieces[random.IntN(len(pieces))])
			if random.IntN(2) == 0 {
				value.WriteByte(' ')
			}
		}
		// An address of one's own at the end is what most of them need to be let through.
		if random.IntN(2) == 0 {
			value.WriteString(" <ME>")
		}
		heads = append(heads, "From: "+strings.TrimRight(value.String(), " \r\n\t"))
	}
	c := correspondents{Dovecot(t).Account(t), Dovecot(t).Account(t)}
	var let []string
	for i, s := range submitForms(t, Congthu(t).Door(), "", c, heads) {
		if s.accepted() {
			let = append(let, heads[i])
			if !s.finds.ownOrNobody() {
				t.Errorf("%q: let through, and the readers find %q", heads[i], s.finds)
			}
		}
	}
	// Behind the gateway Postfix has rewritten the header; without that:
	c.me = Dovecot(t).Account(t)
	for i, s := range submitForms(t, Straight(t), FreshAddress(), c, let) {
		if !s.finds.ownOrNobody() {
			t.Errorf("%q: let through, and without rewriting the readers find %q", let[i], s.finds)
		}
	}
	if len(let) < 40 {
		t.Errorf("only %d were let through: the test sees too little", len(let))
	}
	t.Logf("%d of %d were let through", len(let), len(heads))
}
