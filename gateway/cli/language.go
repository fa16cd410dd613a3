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

// The commands speak one language at a time: Vietnamese where the locale of the
// user says so, English otherwise. In the code a text stands in English; the
// catalogue (the files texts_*.go) has the Vietnamese beside it, and tests see that
// none is missing, that both have the same arguments and that no text for people
// goes around it.
//
// What programs read is the same in every language: exit codes, --output json, CSV,
// the words of commands, flags and settings, kinds of events, states as --state has
// them, lines of the log. Errors of the operating system and of libraries stay as
// they are.

// language is one that the commands speak.
type language int

const (
	english language = iota
	vietnamese
)

// languageOf is the language of a locale: the first that is set of LC_ALL,
// LC_MESSAGES and LANG (POSIX.1-2017, XBD section 8.2). LANGUAGE, a list that GNU
// programs put before these, is not read: one variable decides, and the same one that
// decides for the rest of the system. A Vietnamese locale of another code than UTF-8
// (vi_VN.TCVN) is English, since its terminal could not show the letters.
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

// spoken is the language of whoever runs this process.
func spoken() language { return languageOf(os.Getenv) }

// text is a text for people with its translation. Both have the same verbs of
// package fmt; where the order differs they are numbered.
type text struct{ en, vi string }

// catalogue finds the Vietnamese of a text.
var catalogue = sync.OnceValue(func() map[string]string {
	found := make(map[string]string)
	for _, some := range allTexts() {
		for _, t := range some {
			found[t.en] = t.vi
		}
	}
	return found
})

// tr is a text in the language of the user. White space around it is no part of the
// text.
func tr(en string) string { return spoken().of(en) }

// of is a text in a language.
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

// either is the one of two texts that is in the language of the user: the gateway
// answers in both. One that is missing is not held against the other.
func either(en, vi string) string {
	if spoken() == vietnamese && vi != "" || en == "" {
		return vi
	}
	return en
}

// trf is fmt.Sprintf in the language of the user.
func trf(format string, args ...any) string {
	if false {
		_ = fmt.Sprintf(format, args...) // so that go vet checks the arguments
	}
	return fmt.Sprintf(tr(format), args...)
}

// say is fmt.Fprintf in the language of the user.
func say(w io.Writer, format string, args ...any) {
	if false {
		_ = fmt.Sprintf(format, args...) // so that go vet checks the arguments
	}
	fmt.Fprintf(w, tr(format), args...)
}

// errorf is fmt.Errorf in the language of the user.
func errorf(format string, args ...any) error {
	if false {
		_ = fmt.Errorf(format, args...) // so that go vet checks the arguments
	}
	return fmt.Errorf(tr(format), args...)
}

// sentence is an error that is one text.
type sentence string

// Error is the text in the language of the user.
func (s sentence) Error() string { return tr(string(s)) }

// translate puts the texts of a command, of its flags and of those below it into a
// language. Cobra's own texts are among them.
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
	// What the library writes itself.
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

// inReasons puts the reasons in an example into the language of the user.
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

// ours is an error in the language of the user, where the package that it comes from
// says it in both.
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
