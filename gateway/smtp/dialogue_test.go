package smtp

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"testing"

	"congthu/gateway/mailtest"
)

// Each file of testdata is one rule of the wire, as a transcript.
func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/*.dialogue")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dialogues: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			g := start(t, nil)
			address := g.starttls
			mailtest.Play(t, file, mailtest.Stage{
				Dial: func() (net.Conn, error) { return net.Dial("tcp", address) }, TLS: mailtest.ClientTLS(),
				Set: func(name, value string) error {
					switch name {
					case "tls": // "implicit": from the first byte
						address = g.implicit
					case "attempts": // how many the guard was asked about
						if got := strconv.Itoa(len(g.guard.asked())); got != value {
							return fmt.Errorf("the guard was asked about %s", got)
						}
					default:
						return fmt.Errorf("no such setting")
					}
					return nil
				},
			})
		})
	}
}
