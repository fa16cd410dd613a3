package cli

import (
	"net/http"
	"testing"

	"congthu/gateway/admin"
)

func TestHealthTellsAnAnsweringGatewayFromAReadyOne(t *testing.T) {
	inBothLanguages(t, func(t *testing.T) {
		f := newFake(t)
		t.Setenv(socketVariable, f.socket)
		f.expect(0, "health")
		f.expect(0, "health", "--ready", "--socket", f.socket)
		f.health = http.StatusServiceUnavailable
		f.readiness = admin.Readiness{Checks: map[string]admin.Condition{
			"store": {OK: true}, "imap upstream": {Error: "dial tcp 127.0.0.1:10143: connect: connection refused\x1b[2J"},
		}}
		f.expect(1, "health", "--ready")
		f.expect(1, "health")
		f.expect(1, "health", "--socket", f.dir+"/none.sock")
		f.compare("health")
	})
}
