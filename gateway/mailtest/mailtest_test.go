package mailtest

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/smtp"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestADialogueSaysWhatWentWrong(t *testing.T) {
	fake := &IMAP{Greeting: "* OK hi"}
	defer fake.Close()
	for line, want := range map[string]string{
		"":                  "",
		"# anything":        "",
		"c <- * OK hi":      "",
		"c <- * OK ...":     "",
		"c <~ . (OK|NO) hi": "",
		"c <- * OK":         `got "* OK hi"`,
		"c <~ (":            "missing closing",
		"c closed":          `got "* OK hi\r\n"`,
		"c => \"":           "not a Go string",
		"c says hello":      "no such verb",
		"scene: night":      "no night here",
		`c => "a NOOP\r\n"`: "",
		"c -> a NOOP":       "",
		"c close":           "",
	} {
		p := &player{clients: make(map[string]*playing), stage: Stage{
			Dial: func() (net.Conn, error) { return fake.Dial(context.Background(), "", "") },
			Set:  func(_, value string) error { return errors.New("no " + value + " here") },
		}}
		if strings.Contains(line, "NOOP") {
			if err := p.play("c <- * OK hi"); err != nil {
				t.Fatal(err)
			}
		}
		err := p.play(line)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", line, err, want)
		}
		p.close()
	}
}

func TestTheSMTPServerDeliversAndCounts(t *testing.T) {
	fake := &SMTP{Accounts: map[string]string{"a@congthu.test": "1"}, TLS: ServerTLS(), XClient: true}
	defer fake.Close()
	address, err := fake.Start()
	if err != nil {
		t.Fatal(err)
	}
	for _, password := range []string{"2", "1"} {
		c, err := smtp.Dial(address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.StartTLS(ClientTLS()); err != nil {
			t.Fatal(err)
		}
		if err := c.Auth(smtp.PlainAuth("", "a@congthu.test", password, "127.0.0.1")); (err == nil) != (password == "1") {
			t.Fatalf("password %s: %v", password, err)
		}
		if password != "1" {
			continue
		}
		c.Mail("a@congthu.test")
		c.Rcpt("b@congthu.test")
		w, err := c.Data()
		if err != nil {
			t.Fatal(err)
		}
		w.Write([]byte("Subject: x\r\n\r\n.dot\r\n"))
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	got := fake.Messages()
	if len(got) != 1 || got[0].User != "a@congthu.test" || !bytes.Equal(got[0].Data, []byte("Subject: x\r\n\r\n.dot\r\n")) {
		t.Errorf("delivered %+v", got)
	}
	if v := fake.Verdicts("a@congthu.test"); v != (Verdicts{Right: 1, Wrong: 1}) {
		t.Errorf("verdicts %+v", v)
	}
}
