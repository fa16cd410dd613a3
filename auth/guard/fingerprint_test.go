package guard

import (
	"slices"
	"testing"

	"congthu/auth"
)

// A digest must not depend on earlier digests, and must show where the name ends.
func TestADigestDependsOnNothingButTheNameAndThePassword(t *testing.T) {
	var g Guard
	g.init()
	first := g.digest("an@congthu.test", auth.NewSecret("mật khẩu"))
	others := []auth.Digest{
		g.digest("an@congthu.tes", auth.NewSecret("tmật khẩu")), g.digest("an@congthu.test", auth.NewSecret("mật khẩu ")),
		g.digest("an@congthu.test", auth.NewSecret("")), g.digest("", auth.NewSecret("an@congthu.testmật khẩu")),
	}
	if slices.Contains(others, first) {
		t.Error("two passwords have one digest")
	}
	if again := g.digest("an@congthu.test", auth.NewSecret("mật khẩu")); again != first {
		t.Error("the same password has another digest than before")
	}
	var other Guard
	other.init()
	if other.digest("an@congthu.test", auth.NewSecret("mật khẩu")) == first {
		t.Error("two guards have one key")
	}
}
