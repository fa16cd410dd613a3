package imap

import (
	"path/filepath"
	"strconv"
	"testing"

	"congthu/auth"
	"congthu/gateway/frontend/frontendtest"
)

// Each file of testdata is one row of the reply table, or one rule of the wire,
// as a transcript.
func TestDialogues(t *testing.T) { frontendtest.Play(t, newScene, (*scene).set) }

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

// set does the settings of a dialogue.
func (s *scene) set(name, value string) (err error) {
	if name != "alert" {
		return s.Set(name, value)
	}
	s.Guard.Alert = true // the password runs out in so many days
	s.Guard.ExpiresIn, err = strconv.Atoi(value)
	return err
}
