package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The commands speak one language at a time: Vietnamese if the user's locale says so,
// otherwise English. The code contains the English texts; the catalogue (the files
// texts_*.go) has the Vietnamese beside each. Tests check that no translation is
// missing, that both have the same arguments, and that every text for people is in the
// catalogue.
//
// What programs read is the same in every language: exit codes, --output json, CSV, the
// words of commands, flags and settings, kinds of events, states as --state accepts
// them, log lines. Errors of the operating system and of libraries are not translated.

// language is a language of the commands.
type language int

const (
	english language = iota
	vietnamese
)

// languageOf returns the language of a locale: of LC_ALL, LC_MESSAGES and LANG the
// first that is set decides (POSIX.1-2017, XBD section 8.2). LANGUAGE, a list that GNU
// programs read before these, is ignored: one variable decides, the same one as for the
// rest of the system. A Vietnamese locale with an encoding other than UTF-8
// (vi_VN.TCVN) means English, since such a terminal could not show the letters.
func languageOf(getenv func(string) string) language {
	for _, name := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		locale := getenv(name)
		if locale == "" {
			continue
		}
		locale, _, _ = strings.Cut(locale, "@") // a modifier
		place, code, _ := strings.Cut(locale, ".")
		spoken, _, _ := strings.Cut(place, "_")
		code = strings.ToLower(strings.ReplaceAll(code, "-", ""))
		if strings.ToLower(spoken) == "vi" && (code == "" || code == "utf8") {
			return vietnamese
		}
		return english
	}
	return english
}

// spoken returns the language of the user who runs this process.
func spoken() language { return languageOf(os.Getenv) }

// text is a text for people with its translation. Both contain the same verbs of
// package fmt, numbered where the order differs.
type text struct{ en, vi string }

// catalogue maps each English text to its Vietnamese.
var catalogue = sync.OnceValue(func() map[string]string {
	found := make(map[string]string)
	for _, some := range allTexts() {
		for _, t := range some {
			found[t.en] = t.vi
		}
	}
	return found
})

// tr returns a text in the user's language. Leading and trailing white space is kept.
func tr(en string) string { return spoken().of(en) }

// of returns a text in the given language.
func (l language) of(en string) string {
	if l == english {
		return en
	}
	key := strings.TrimSpace(en)
	if vi := catalogue()[key]; vi != "" {
		return strings.Replace(en, key, vi, 1)
	}
	return en
}

// either returns one of two texts, in the user's language: the gateway answers in both.
// If one is empty, it returns the other.
func either(en, vi string) string {
	if spoken() == vietnamese && vi != "" || en == "" {
		return vi
	}
	return en
}

// trf is fmt.Sprintf in the user's language.
func trf(format string, args ...any) string {
	if false {
		_ = fmt.Sprintf(format, args...) // so that go vet checks the arguments
	}
	return fmt.Sprintf(runnable(tr(format)), args...)
}

// say is fmt.Fprintf in the user's language.
func say(w io.Writer, format string, args ...any) {
	if false {
		_ = fmt.Sprintf(format, args...) // so that go vet checks the arguments
	}
	fmt.Fprintf(w, runnable(tr(format)), args...)
}

// errorf is fmt.Errorf in the user's language.
func errorf(format string, args ...any) error {
	if false {
		_ = fmt.Errorf(format, args...) // so that go vet checks the arguments
	}
	return fmt.Errorf(runnable(tr(format)), args...)
}

// sentence is an error that consists of one text.
type sentence string

// Error returns the text in the user's language.
func (s sentence) Error() string { return tr(string(s)) }

// translate translates the texts of a command, of its flags and of its subcommands.
// Cobra's own texts are among them.
func translate(root *cobra.Command, l language) {
	if l == english {
		return
	}
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	template := root.UsageTemplate()
	for _, t := range usageTexts {
		template = strings.ReplaceAll(template, t.en, t.vi)
	}
	// The library's own texts.
	cobra.AddTemplateFunc("inVietnamese", func(text string) string {
		for _, t := range flagWords {
			text = strings.ReplaceAll(text, t.en, t.vi)
		}
		return text
	})
	for _, own := range []string{".UseLine", ".LocalFlags.FlagUsages", ".InheritedFlags.FlagUsages"} {
		template = strings.ReplaceAll(template, "{{"+own, "{{"+own+" | inVietnamese")
	}
	root.SetUsageTemplate(template)
	translateCommand(root, l)
}

// inReasons translates the reasons in an example.
func inReasons(example string) string {
	if spoken() == vietnamese {
		for _, t := range exampleReasons {
			example = strings.ReplaceAll(example, `"`+t.en+`"`, `"`+t.vi+`"`)
		}
	}
	return example
}

func translateCommand(cmd *cobra.Command, l language) {
	cmd.Short, cmd.Long, cmd.Example = l.of(cmd.Short), l.of(cmd.Long), inReasons(cmd.Example)
	cmd.InitDefaultHelpFlag()
	cmd.Flags().Lookup("help").Usage = tr("help for this command")
	look := func(f *pflag.Flag) { f.Usage = l.of(f.Usage) }
	cmd.LocalNonPersistentFlags().VisitAll(look)
	cmd.PersistentFlags().VisitAll(look)
	for _, sub := range cmd.Commands() {
		translateCommand(sub, l)
	}
}

// ours returns an error in the user's language, if the package that made it has both
// languages.
func ours(err error) error {
	var both interface {
		error
		Vietnamese() string
	}
	if errors.As(err, &both) && spoken() == vietnamese && both.Vietnamese() != "" {
		return errors.New(both.Vietnamese())
	}
	return err
}
