package imap

import (
	"fmt"
	"path/filepath"
	"strconv"
	"testing"

	"congthu/auth"
	"congthu/gateway/mailtest"
)

// Each file of testdata is one row of the reply table, or one rule of the wire,
// as a transcript.
func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/*.dialogue")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dialogues: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			s := newScene(t)
			mailtest.Play(t, file, mailtest.Stage{Dial: s.dial, TLS: mailtest.ClientTLS(), Set: s.set})
		})
	}
}

func TestEveryOutcomeHasADialogue(t *testing.T) {
	for _, o := range auth.Outcomes() {
		files, _ := filepath.Glob("testdata/outcome_" + o.String() + ".dialogue")
		if len(files) != 1 {
			t.Errorf("no dialogue for %s", o)
		}
		if _, ok := replies[o]; !ok && o != auth.Accepted {
			t.Errorf("no reply for %s", o)
		}
	}
}

// set does the settings and checks of a dialogue.
func (s *scene) set(name, value string) error {
	switch name {
	case "tls": // "implicit": from the first byte
		s.implicit = value == "implicit"
	case "before", "after": // what the guard says before, or after, a right password
		for _, o := range auth.Outcomes() {
			if o.String() == value && name == "before" {
				s.guard.before = o
				return nil
			} else if o.String() == value {
				s.guard.after = o
				return nil
			}
		}
		return fmt.Errorf("no such outcome")
	case "alert": // the password runs out in so many days
		days, err := strconv.Atoi(value)
		s.guard.alert, s.guard.expiresIn = true, days
		return err
	case "says": // the mail server, to a wrong password
		s.fake.Wrong = value
	case "welcomes": // the mail server, after a right password
		s.fake.OK = value
	case "down": // where the mail server hangs up
		s.fake.Misbehave = mailtest.At(mailtest.Step(value), mailtest.Misdeed{Close: true})
	case "judged": // what the mail server was asked to judge
		v := s.fake.Verdicts(owner)
		if got := fmt.Sprintf("%d right, %d wrong", v.Right, v.Wrong); got != value {
			return fmt.Errorf("the mail server judged %s", got)
		}
	case "attempts": // how many the guard was asked about
		if got := strconv.Itoa(len(s.guard.made())); got != value {
			return fmt.Errorf("the guard was asked about %s", got)
		}
	case "refused": // what was recorded without asking the guard
		if got := fmt.Sprint(s.recorder.outcomes); got != "["+value+"]" {
			return fmt.Errorf("recorded: %s", got)
		}
	default:
		return fmt.Errorf("no such setting: %s", name)
	}
	return nil
}
