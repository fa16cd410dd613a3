package realtest

import (
	"encoding/base64"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// spelling is a way to say something before login.
type spelling struct {
	name string
	// say is what the client says. At ⏎ it waits for an answer. U and P in braces
	// stand for the name and the password, {IR} for both as AUTHENTICATE PLAIN has
	// them, {U64} and {P64} for each as AUTHENTICATE LOGIN has it.
	say string
}

var imapSpellings = []spelling{
	// Blanks.
	{"LOGIN and a blank", "a LOGIN {U} {P} \r\n"},
	{"LOGIN and two blanks", "a LOGIN {U} {P}  \r\n"},
	{"LOGIN, two blanks before the name", "a LOGIN  {U} {P}\r\n"},
	{"LOGIN, two blanks before the password", "a LOGIN {U}  {P}\r\n"},
	{"LOGIN, two blanks before the command", "a  LOGIN {U} {P}\r\n"},
	{"a blank before the tag", " a LOGIN {U} {P}\r\n"},
	{"LOGIN quoted and a blank", "a LOGIN \"{U}\" \"{P}\" \r\n"},
	{"LOGIN by literals and a blank", "a LOGIN {+U} {+P} \r\n"},
	{"LOGIN by literals, two blanks", "a LOGIN  {+U}  {+P}\r\n"},
	{"LOGIN and a tab", "a LOGIN {U} {P}\t\r\n"},
	{"LOGIN with tabs", "a LOGIN\t{U}\t{P}\r\n"},
	{"CAPABILITY and a blank", "a CAPABILITY \r\n"},
	{"two blanks before CAPABILITY", "a  CAPABILITY\r\n"},
	{"CAPABILITY and a word", "a CAPABILITY x\r\n"},
	{"NOOP and a blank", "a NOOP \r\n"},
	{"NOOP and two blanks", "a NOOP  \r\n"},
	{"NOOP and a word", "a NOOP x\r\n"},
	{"NOOP and a list", "a NOOP (\r\n"},
	{"NOOP and a literal", "a NOOP {3+}\r\nabc\r\n"},
	{"LOGOUT and a blank", "a LOGOUT \r\n"},
	{"LOGOUT and a word", "a LOGOUT x\r\n"},
	{"STARTTLS under TLS", "a STARTTLS\r\n"},
	{"STARTTLS and a blank, under TLS", "a STARTTLS \r\n"},
	// AUTHENTICATE.
	{"PLAIN", "a AUTHENTICATE PLAIN\r\n⏎{IR}\r\n"},
	{"PLAIN and a blank", "a AUTHENTICATE PLAIN \r\n⏎{IR}\r\n"},
	{"two blanks before PLAIN", "a AUTHENTICATE  PLAIN\r\n⏎{IR}\r\n"},
	{"PLAIN in lower case", "a authenticate plain {IR}\r\n"},
	{"PLAIN, initial response", "a AUTHENTICATE PLAIN {IR}\r\n"},
	{"PLAIN, initial response and a blank", "a AUTHENTICATE PLAIN {IR} \r\n"},
	{"PLAIN, two blanks, initial response", "a AUTHENTICATE PLAIN  {IR}\r\n"},
	{"PLAIN, initial response in quotes", "a AUTHENTICATE PLAIN \"{IR}\"\r\n"},
	{"PLAIN in quotes", "a AUTHENTICATE \"PLAIN\" {IR}\r\n"},
	{"PLAIN by a literal", "a AUTHENTICATE {5+}\r\nPLAIN {IR}\r\n"},
	{"PLAIN, initial response by a literal", "a AUTHENTICATE PLAIN {+IR}\r\n"},
	{"PLAIN, two responses", "a AUTHENTICATE PLAIN {IR} x\r\n"},
	{"PLAIN, empty initial response", "a AUTHENTICATE PLAIN =\r\n"},
	{"PLAIN cancelled", "a AUTHENTICATE PLAIN\r\n⏎*\r\n"},
	{"PLAIN, a response and a blank", "a AUTHENTICATE PLAIN\r\n⏎{IR} \r\n"},
	{"PLAIN, a blank and a response", "a AUTHENTICATE PLAIN\r\n⏎ {IR}\r\n"},
	{"PLAIN, an empty response", "a AUTHENTICATE PLAIN\r\n⏎\r\n"},
	{"PLAIN, no base64", "a AUTHENTICATE PLAIN\r\n⏎!!!!\r\n"},
	{"PLAIN, initial response no base64", "a AUTHENTICATE PLAIN !!!!\r\n"},
	{"PLAIN, response ends with LF", "a AUTHENTICATE PLAIN\r\n⏎{IR}\n"},
	{"LOGIN mechanism", "a AUTHENTICATE LOGIN\r\n⏎{U64}\r\n⏎{P64}\r\n"},
	{"LOGIN mechanism and a blank", "a AUTHENTICATE LOGIN \r\n⏎{U64}\r\n⏎{P64}\r\n"},
	{"LOGIN mechanism, the name at once", "a AUTHENTICATE LOGIN {U64}\r\n⏎{P64}\r\n"},
	{"LOGIN mechanism, cancelled late", "a AUTHENTICATE LOGIN\r\n⏎{U64}\r\n⏎*\r\n"},
	{"another mechanism", "a AUTHENTICATE CRAM-MD5\r\n"},
	{"no mechanism", "a AUTHENTICATE\r\n"},
	{"no mechanism, a blank", "a AUTHENTICATE \r\n"},
	// ID.
	{"ID NIL", "a ID NIL\r\n"},
	{"ID nil and a blank", "a ID nil \r\n"},
	{"ID", "a ID\r\n"},
	{"ID and a blank", "a ID \r\n"},
	{"ID, blanks in the list", "a ID ( \"a\" \"b\" )\r\n"},
	{"ID, two blanks in the list", "a ID (\"a\"  \"b\"  \"c\" \"d\")\r\n"},
	{"ID and a blank behind the list", "a ID (\"a\" \"b\") \r\n"},
	{"ID, two blanks before the list", "a ID  (\"a\" \"b\")\r\n"},
	{"ID, no list", "a ID ()\r\n"},
	{"ID, a blank in the list", "a ID ( )\r\n"},
	{"ID of atoms", "a ID (a b)\r\n"},
	{"ID, no value", "a ID (\"a\")\r\n"},
	{"ID, NIL for a value", "a ID (\"a\" NIL)\r\n"},
	{"ID, NIL for a name", "a ID (NIL \"b\")\r\n"},
	{"ID without a list", "a ID \"a\" \"b\"\r\n"},
	{"ID with a literal", "a ID (\"a\" {1+}\r\nb)\r\n"},
	{"ID with a literal, blanks", "a ID ( {1+}\r\na  {1+}\r\nb )\r\n"},
	{"ID, no end", "a ID (\"a\" \"b\"\r\n"},
	{"ID, nothing between the strings", "a ID (\"a\"\"b\")\r\n"},
	{"ID and something behind", "a ID (\"a\" \"b\") x\r\n"},
	{"ID, the same twice", "a ID (\"a\" \"b\" \"a\" \"c\")\r\n"},
	{"ID, a long name", "a ID (\"" + strings.Repeat("n", 31) + "\" \"b\")\r\n"},
	{"ID, a long value", "a ID (\"a\" \"" + strings.Repeat("v", 1025) + "\")\r\n"},
	{"ID, many fields", "a ID (" + strings.TrimSpace(strings.Repeat("\"a\" \"b\" ", 31)) + ")\r\n"},
	{"ID, a list in the list", "a ID (\"a\" (\"b\"))\r\n"},
	// Words of LOGIN.
	{"LOGIN", "a LOGIN {U} {P}\r\n"},
	{"login in lower case", "a login {U} {P}\r\n"},
	{"LOGIN quoted", "a LOGIN \"{U}\" \"{P}\"\r\n"},
	{"LOGIN by literals", "a LOGIN {+U} {+P}\r\n"},
	{"LOGIN by a literal that waits", "a LOGIN {U} {10}\r\n⏎{P}\r\n"},
	{"LOGIN with an escaped letter", "a LOGIN \"{U}\" \"\\{P}\"\r\n"},
	{"LOGIN with a list", "a LOGIN ({U} {P})\r\n"},
	{"LOGIN, one word", "a LOGIN {U}\r\n"},
	{"LOGIN, one word and a blank", "a LOGIN {U} \r\n"},
	{"LOGIN, no word", "a LOGIN\r\n"},
	{"LOGIN, three words", "a LOGIN {U} {P} x\r\n"},
	{"LOGIN, nothing between", "a LOGIN \"{U}\"\"{P}\"\r\n"},
	{"LOGIN, no end of a string", "a LOGIN {U} \"{P}\r\n"},
	{"LOGIN NIL", "a LOGIN NIL NIL\r\n"},
	{"LOGIN, empty password", "a LOGIN {U} \"\"\r\n"},
	{"LOGIN, a NUL", "a LOGIN {U} \"{P}\x00\"\r\n"},
	{"LOGIN, no literal's size", "a LOGIN {U} {+}\r\n"},
	{"LOGIN, a binary literal", "a LOGIN {U} ~{10+}\r\n{P}\r\n"},
	// Lines and tags.
	{"a line that ends with LF", "a LOGIN {U} {P}\n"},
	{"a line that ends with CR CR LF", "a LOGIN {U} {P}\r\r\n"},
	{"an empty line", "\r\na NOOP\r\n"},
	{"a blank line", " \r\na NOOP\r\n"},
	{"a tag alone", "a\r\n"},
	{"a tag and a blank", "a \r\n"},
	{"a tag +", "+ NOOP\r\n"},
	{"a tag *", "* NOOP\r\n"},
	{"a tag with +", "a+b NOOP\r\n"},
	{"a tag with a parenthesis", "a(b NOOP\r\n"},
	{"a tag in quotes", "\"a\" NOOP\r\n"},
	{"a tag of 300 octets", strings.Repeat("a", 300) + " NOOP\r\n"},
	{"a tag with ]", "a] NOOP\r\n"},
	{"two commands at once", "a NOOP\r\nb LOGIN {U} {P}\r\n"},
	// Not now.
	{"ENABLE", "a ENABLE CONDSTORE\r\n"},
	{"SELECT", "a SELECT INBOX\r\n"},
	{"IDLE", "a IDLE\r\n"},
	{"NAMESPACE", "a NAMESPACE\r\n"},
	{"unknown", "a XYZ\r\n"},
	{"APPEND with a literal", "a APPEND INBOX {3+}\r\nabc\r\n"},
}

// in says it for an account.
func (s spelling) in(user string) []string {
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	ir := plain("", user, Password)
	said := strings.NewReplacer("{U}", user, "{P}", Password, "{IR}", ir, "{U64}", b64(user), "{P64}", b64(Password),
		"{+U}", literal(user), "{+P}", literal(Password), "{+IR}", literal(ir)).Replace(s.say)
	return strings.Split(said, "⏎")
}

var codeOf = regexp.MustCompile(`^(\+|\S+ NO \[[A-Z]+\]|\* [A-Z]+|\S+ (?:OK|NO|BAD))`)

// hears says it on a connection, logs out, and returns what is answered: of each
// line what a program looks at.
func (s spelling) hears(t *testing.T, door Door, user string) string {
	t.Helper()
	d := door.DialIMAP(t, "")
	defer d.Close()
	var heard []string
	hear := func() (line string, err error) {
		d.SetReadDeadline(time.Now().Add(4 * time.Second)) // beyond Dovecot's delay of a failure
		line, err = d.r.ReadString('\n')
		line = strings.TrimRight(line, "\r\n")
		if err == nil {
			short := codeOf.FindString(line)
			if short == "" {
				short = line
			}
			heard = append(heard, short)
		}
		return line, err
	}
	for i, said := range s.in(user) {
		if i > 0 {
			if line, err := hear(); err != nil || !strings.HasPrefix(line, "+") {
				break // refused before it was complete
			}
		}
		d.Say(said)
	}
	d.Say("zz LOGOUT\r\n")
	for {
		_, err := hear()
		var slow net.Error
		switch {
		case errors.As(err, &slow) && slow.Timeout():
			return strings.Join(append(heard, "waits"), ", ")
		case err != nil:
			if !errors.Is(err, io.EOF) {
				heard = append(heard, err.Error())
			}
			return strings.Join(heard, ", ")
		}
	}
}

// reasons are why an answer before login is another one than Dovecot's.
var reasons = []struct {
	why                    string
	say, straight, through *regexp.Regexp
}{
	{"what is no base64, or no complete credentials, is BAD, as is a cancelled exchange (RFC 9051 section 6.2.2): nothing was judged",
		regexp.MustCompile(`(?i)AUTHENTICATE`), regexp.MustCompile(`^(\+, )*\S+ NO \[(ALERT|AUTHENTICATIONFAILED)\]`), regexp.MustCompile(`^(\+, )*\S+ BAD`)},
	{"no alert about a mechanism: mail programs show alerts to people, who can do nothing about it",
		regexp.MustCompile(`(?i)AUTHENTICATE`), regexp.MustCompile(`^\S+ NO \[ALERT\]`), regexp.MustCompile(`^\S+ NO,`)},
	{"a literal that is refused but coming is swallowed, never parsed as commands (RFC 7888 section 4)",
		regexp.MustCompile(`\{(\d+\+|\+[A-Z]+)\}`), regexp.MustCompile(`(BAD|NO \[ALERT\]), \S+ (BAD|OK)`), regexp.MustCompile(`BAD, \* BYE, zz OK$`)},
	{"a literal without a size is none (RFC 9051 section 9, number64): Dovecot waits for it, or takes it for an empty one",
		regexp.MustCompile(`\{\+?\}`), regexp.MustCompile(`waits$|^\+`), regexp.MustCompile(`^\S+ BAD`)},
	{"a literal's size ends its line (RFC 9051 section 4.3): nothing is asked for where something follows",
		regexp.MustCompile(`\{\d+\}[^\r\n]`), regexp.MustCompile(`^\+`), regexp.MustCompile(`^\S+ BAD`)},
	{"atoms and NIL in ID are taken for what they mean",
		regexp.MustCompile(`(?i) ID `), regexp.MustCompile(`^\S+ BAD`), regexp.MustCompile(`^\* ID, \S+ OK`)},
	{"ID with a value longer than 1024 octets (RFC 2971 section 3.3) is BAD: Dovecot hangs up",
		regexp.MustCompile(`v{1000}`), regexp.MustCompile(`\* BYE$`), regexp.MustCompile(`^\S+ BAD`)},
	{"a tag may have ] (RFC 9051 section 9, ASTRING-CHAR)",
		regexp.MustCompile(`\]`), regexp.MustCompile(`^\* BAD`), regexp.MustCompile(`^[^ ]*\]`)},
	{"after bad commands the connection closes, here after five and there after three",
		regexp.MustCompile(`.`), regexp.MustCompile(`BAD, \S+ BAD, \* BYE$`), regexp.MustCompile(`BAD, \S+ BAD`)},
	{"a name with the separator of a master user is refused as another's identity, unasked",
		regexp.MustCompile(`[*%]`), regexp.MustCompile(`NO \[AUTHENTICATIONFAILED\]`), regexp.MustCompile(`NO \[AUTHORIZATIONFAILED\]`)},
}

// reasoned reports whether a difference has its reason in the list.
func reasoned(say, straight, through string) bool {
	for _, r := range reasons {
		if r.say.MatchString(say) && r.straight.MatchString(straight) && r.through.MatchString(through) {
			return true
		}
	}
	return false
}

// What a client may say before login is understood as Dovecot understands it,
// blanks too many included.
func TestBeforeLoginTheGatewayIsAsTolerantAsDovecot(t *testing.T) {
	t.Parallel()
	g, user := Congthu(t), Dovecot(t).Account(t)
	for _, s := range imapSpellings {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			if straight, through := s.hears(t, Straight(t), user), s.hears(t, g.Door(), user); straight != through && !reasoned(s.say, straight, through) {
				t.Errorf("%q\nstraight: %s\nthrough:  %s", s.say, straight, through)
			}
		})
	}
}

// Some clients look for IDLE only before login.
func TestWhatDovecotShowsBeforeLoginIsShown(t *testing.T) {
	t.Parallel()
	shown := func(door Door) []string {
		d := DialTLS(t, door.IMAPS, "")
		defer d.Close()
		list, ok := strings.CutPrefix(d.Hear(), "* OK [CAPABILITY ")
		if !ok {
			t.Fatal("the greeting has no capabilities")
		}
		list, _, _ = strings.Cut(list, "]")
		names := strings.Fields(list)
		slices.Sort(names)
		return names
	}
	want := slices.DeleteFunc(shown(Straight(t)), func(name string) bool {
		return name == "LOGIN-REFERRALS" // RFC 2221: a referral would lead past the rules
	})
	if !slices.Contains(want, "IDLE") || !slices.Contains(want, "ENABLE") {
		t.Fatalf("Dovecot shows %q", want)
	}
	g := Congthu(t)
	Eventually(t, "the gateway to show them", func() bool { return slices.Equal(shown(g.Door()), want) })
}

// mutated says it another way.
func (s spelling) mutated(r *rand.Rand) spelling {
	words := regexp.MustCompile(`\{\+?[A-Z]+[0-9]*\}|[A-Za-z0-9]+|\r\n|.|\n`).FindAllString(s.say, -1)
	for range 1 + r.IntN(3) {
		at := r.IntN(len(words))
		switch r.IntN(6) {
		case 0, 1:
			words = slices.Insert(words, at, " ")
		case 2:
			words = slices.Insert(words, at, []string{"\"", "(", ")", "NIL", "x", "\"x\"", "{1+}\r\nx", "\\", "*", "%", "[", "]", "\t", "\xe1", "{+}", "~", "+"}[r.IntN(17)])
		case 3:
			if words[at] != "\r\n" && words[at] != "⏎" && len(words) > 2 {
				words = slices.Delete(words, at, at+1)
			}
		case 4:
			if !strings.ContainsAny(words[at], "{\r⏎") {
				words[at] = strings.ToLower(words[at])
			}
		case 5:
			words = slices.Insert(words, at, words[at])
		}
	}
	return spelling{say: strings.Join(words, "")}
}

// The same for random spellings: some in each run, others as long as [testenv.SoakVariable]
// lasts. What differs has a reason in the list, or is a mistake.
func TestRandomSpellingsBeforeLoginAreUnderstoodAlike(t *testing.T) {
	t.Parallel()
	seed, until := uint64(1), time.Time{}
	if long := soak(t); long > 0 {
		seed, until = uint64(time.Now().UnixNano()), time.Now().Add(long)
		t.Logf("seed %d", seed)
	}
	r := rand.New(rand.NewPCG(seed, seed))
	d := OwnDovecot(t)
	g := OwnCongthu(t, Setup{Dovecot: d})
	straight := Door{IMAPS: d.IMAPS}
	var cases sync.WaitGroup
	defer cases.Wait()
	const together = 6 // Dovecot makes those wait who give a wrong password
	for range together {
		turn := rand.New(rand.NewPCG(seed, r.Uint64()))
		cases.Go(func() {
			for n := 0; n < 10 || time.Now().Before(until); n++ {
				user := accountName(1 + turn.IntN(accounts-10)) // few wrong passwords for each
				s := imapSpellings[turn.IntN(len(imapSpellings))].mutated(turn)
				direct, through := s.hears(t, straight, user), s.hears(t, g.Door(), user)
				if direct != through && !reasoned(s.say, direct, through) {
					t.Errorf("%q\nstraight: %s\nthrough:  %s", s.say, direct, through)
				}
				if strings.Contains(through, "[AUTHENTICATIONFAILED]") {
					tryIMAP(t, g.Door(), "", user, Password) // and forgives
				}
			}
		})
	}
}
