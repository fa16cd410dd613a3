package realtest
import ("testing";"time")
func TestNoop(t *testing.T) {
	for _, door := range []Door{Straight(t), Congthu(t).Door()} {
		d, _ := door.LoginIMAP(t, "", Dovecot(t).Account(t), Password)
		d.Command("b", "SELECT INBOX")
		s := time.Now()
		for range 100 { d.Command("c", "NOOP") }
		t.Log(door.Name, time.Since(s)/100)
		s = time.Now()
		for range 50 { d.Say("c APPEND INBOX {5}\r\n"); d.Hear(); d.Say("a"); d.Say(": b\n"); d.Say("\r\n"); d.Tagged("c") }
		t.Log(door.Name, time.Since(s)/50)
	}
}
