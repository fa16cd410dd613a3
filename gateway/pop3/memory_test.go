package pop3

import (
	"strings"
	"testing"

	"congthu/gateway/frontend/frontendtest"
)

func TestALoginThatNeverEndsHoldsLittleMemory(t *testing.T) {
	frontendtest.HoldLittleMemory(t, map[string]frontendtest.Attack{
		"nothing":                        {Says: "", Most: 24},
		"many small commands":            {Says: strings.Repeat("CAPA\r\n", 200), Most: 24},
		"names again and again":          {Says: strings.Repeat("USER "+strings.Repeat("x", 1000)+"\r\n", 20), Most: 40},
		"a name up to the bound":         {Says: "USER " + strings.Repeat("x", 16_000), Most: 40},
		"a line without end":             {Says: strings.Repeat("x", 65_000), Most: 40},
		"a mechanism that never goes on": {Says: "AUTH PLAIN\r\n" + strings.Repeat("A", 12_000), Most: 40},
	}, func(t testing.TB) frontendtest.Serve { return newScene(t).server.Serve })
}
