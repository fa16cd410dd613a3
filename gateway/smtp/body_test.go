package smtp

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// stuffed is a message with everything in it that a line may be, and as it is
// sent.
const (
	everyLine = "From: " + owner + "\r\nSubject: lines\r\n\r\n" +
		"plain\r\n\r\n.\r\n..\r\n.a\r\n...b\r\na.b\r\n.\r\n\r\nlast\r\n"
	everyLineSent = "From: " + owner + "\r\nSubject: lines\r\n\r\n" +
		"plain\r\n\r\n..\r\n...\r\n.a\r\n....b\r\na.b\r\n..\r\n\r\nlast\r\n.\r\n" // ".a" is no mistake of ours
)

// delivers wants these messages, and no more, at the mail server.
func (g *gateway) delivers(what string, want ...string) {
	g.t.Helper()
	if got := g.delivered(); len(got) < len(want) || strings.Join(got[len(got)-len(want):], "|") != strings.Join(want, "|") {
		g.t.Fatalf("%s: delivered %q, want %q", what, got[max(0, len(got)-len(want)):], want)
	}
}

func TestAMessageIsTheSameInWhateverPiecesItComes(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	want := strings.Replace(everyLine, "\r\n.a\r\n", "\r\na\r\n", 1)
	for at := range len(everyLineSent) {
		c.envelope()
		c.do("DATA", "354")
		// Each is a record of TLS, and is read by itself.
		c.send(everyLineSent[:at])
		c.send(everyLineSent[at:])
		c.want("250")
		g.delivers(fmt.Sprintf("cut at %d", at), want)
	}
	if n := len(g.delivered()); n != len(everyLineSent) {
		t.Errorf("%d messages delivered, want %d", n, len(everyLineSent))
	}
}

// However much is sent ahead, nothing of it is lost, and nothing is taken for
// something else.
func TestWhatIsSentAheadOfAMessageOrAfterItStaysWhereItIs(t *testing.T) {
	transaction := "MAIL FROM:<" + owner + ">\r\nRCPT TO:<b@congthu.test>\r\n"
	want := strings.Replace(everyLine, "\r\n.a\r\n", "\r\na\r\n", 1)
	sent := transaction + "DATA\r\n" + everyLineSent +
		// go-smtp reads as much as it can after a chunk, the next message too.
		transaction + fmt.Sprintf("BDAT %d LAST\r\n%s", len(hello), hello) +
		transaction + "DATA\r\n" + everyLineSent + "NOOP\r\n"
	for _, at := range []int{0, 1, strings.Index(sent, "DATA") + 3, strings.Index(sent, "plain"), strings.Index(sent, "BDAT"), strings.LastIndex(sent, "DATA") + 6} {
		g := start(t, nil)
		c := g.login()
		c.send(sent[:at])
		c.send(sent[at:])
		for _, code := range []string{"250", "250", "354", "250", "250", "250", "250", "250", "250", "354", "250", "250"} {
			c.want(code)
		}
		g.wantDelivered(want, hello, want)
		g.stop()
	}
}

func TestLinesAndMessagesOfEveryLengthAreRead(t *testing.T) {
	g := start(t, nil)
	c := g.login()
	for _, length := range []int{1, 998, 4095, 4096, 4097, 16<<10 - 1, 16 << 10, 32<<10 - 3, 32 << 10, 60000} {
		for _, before := range []int{0, 1, 50, 500} {
			text := hello + strings.Repeat(strings.Repeat("x", 70)+"\r\n", before) + strings.Repeat("y", length) + "\r\n.z\r\nend\r\n"
			c.envelope()
			c.do("DATA", "354")
			c.send(strings.Replace(text, "\r\n.", "\r\n..", 1) + ".\r\n")
			c.want("250")
			g.delivers(fmt.Sprintf("a line of %d after %d", length, before), text)
		}
	}
}

func TestAHeaderLongerThanABufferIsCheckedAsAWhole(t *testing.T) {
	for _, lines := range []int{50, 500, 3000} {
		g := start(t, nil)
		c := g.login()
		header := "From: " + owner + "\r\n" + strings.Repeat("X-Line: "+strings.Repeat("x", 62)+"\r\n", lines)
		text := header + "Subject: end\r\n\r\nbody\r\n"
		if got := c.message(text); !strings.HasPrefix(got, "250") {
			t.Errorf("%d lines: %q", lines, got)
		}
		if got := c.message(header + "From: boss@congthu.test\r\n\r\nbody\r\n"); !strings.HasPrefix(got, "550 5.7.1") {
			t.Errorf("a second sender after %d lines: %q", lines, got)
		}
		g.wantDelivered(text)
		g.stop()
	}
}

func TestAMessageAsLongAsAdvertisedIsAccepted(t *testing.T) {
	const size = 50000
	g := start(t, func(g *gateway) { g.fake.Extensions = []string{"PIPELINING", fmt.Sprint("SIZE ", size)} })
	text := hello + strings.Repeat(strings.Repeat("x", 78)+"\r\n", size/80)
	text = text[:size-2] + "\r\n"
	text = strings.ReplaceAll(text, "\r\r\n", "x\r\n")
	c := g.login()
	c.envelope()
	c.do("DATA", "354")
	c.send(text + ".\r\n")
	c.want("250")
	c.envelope()
	c.do("DATA", "354")
	c.send("X: y\r\n" + text + ".\r\n")
	c.want("552 5.3.4")
	c.do("NOOP", "250")
	g.wantDelivered(text)
}

func TestAReplyOfManyLinesIsWrittenAtOnce(t *testing.T) {
	g := start(t, nil)
	c := g.connect()
	c.send("EHLO client.test\r\n")
	// TLS gives one record at a time.
	b := make([]byte, 16<<10)
	n, err := c.conn.Read(b)
	if last := b[bytes.LastIndexByte(b[:max(0, n-1)], '\n')+1 : n]; err != nil || !bytes.HasPrefix(last, []byte("250 ")) || bytes.Count(b[:n], []byte("\n")) < 5 {
		t.Errorf("%q %v", b[:n], err)
	}
}
