package smtp

import (
	"flag"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the verdicts into the table of forms of From:")

// formsFile is the table of forms, which explains itself. The tests of
// gateway/realtest compare what its readers find.
const formsFile = "testdata/from.txt"

const formColumns = 10

func TestFormsOfFrom(t *testing.T) {
	text, err := os.ReadFile(formsFile)
	if err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer(
		"ME_UPPER", strings.ToUpper(owner), "ME_TAGGED", "nguyen.van.a+x@congthu.test", "ME_LOCAL", "nguyen.van.a", "ME_DOMAIN", "congthu.test", "ME", owner,
		"BOSS_Q", "boss=40congthu.test", "BOSS_LOCAL", "boss", "BOSS", "boss@congthu.test")
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	forms := 0
	var guides []string
	for _, file := range []string{"../../deploy/guide/senders.md", "../../deploy/guide/senders.vi.md"} {
		guide, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		guides = append(guides, string(guide))
	}
	for i, line := range lines {
		if strings.HasPrefix(line, "#") {
			continue
		}
		forms++
		cells := strings.Split(line, "\t")
		header, err := strconv.Unquote(cells[1])
		if err != nil || len(cells) != formColumns && !*update {
			t.Fatalf("line %d: %d columns, %v", i+1, len(cells), err)
		}
		cells = append(cells, make([]string, formColumns-len(cells))...)
		verdict := "accepted"
		// With a sender in the envelope, a message without From: is let through.
		if err := checkHeader([]byte(fill.Replace(header)+"\r\n"), mineOnly); err != nil && err != errNoFrom {
			verdict = err.Error()
		}
		if *update {
			cells[2] = verdict
			lines[i] = strings.Join(cells, "\t")
			continue
		}
		if verdict != cells[2] {
			t.Errorf("%s: %s, want %s", cells[0], verdict, cells[2])
		}
		// The guides have the words of each refusal, without the field and the advice.
		words := strings.TrimSuffix(verdict, quoteName)
		for _, field := range []string{"From: ", "Sender: ", "Resent-From: ", "mbox line: "} {
			words = strings.TrimPrefix(words, field)
		}
		words = strings.Replace(words, "Sender: field", "From: field", 1) // told of together
		for _, guide := range guides {
			if verdict != "accepted" && !strings.Contains(guide, "`"+words+"`") {
				t.Errorf("%s: a guide has no word of %s", cells[0], words)
			}
		}
		found := cells[4:]
		own, others := true, false // every reader finds the sender; some find another
		for _, reader := range found {
			addresses := strings.Split(reader, ", ")
			foreign := slices.ContainsFunc(addresses, func(a string) bool { return !slices.Contains([]string{"ME", "ME_UPPER", "ME_TAGGED", "-"}, a) })
			own = own && !foreign && reader != "-"
			others = others || foreign
		}
		switch {
		case verdict == "accepted" && others:
			t.Errorf("%s: accepted, and readers find %q", cells[0], found)
		case (verdict != "accepted" && own) != (cells[3] != ""):
			t.Errorf("%s: %s, readers find %q, and the reason given is %q", cells[0], verdict, found, cells[3])
		}
	}
	if *update {
		if err := os.WriteFile(formsFile, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if forms < 200 {
		t.Errorf("only %d forms", forms)
	}
}
