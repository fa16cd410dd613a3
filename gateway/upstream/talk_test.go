package upstream

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"congthu/auth"
	"congthu/gateway/mailtest"
)

// dialogues log in over each protocol, at a server in memory that answers wrong
// passwords with a line and misbehaves.
var dialogues = map[string]func(ctx context.Context, secret, words string, misbehave func(mailtest.Step) mailtest.Misdeed) auth.Answer{
	"IMAP": func(ctx context.Context, secret, words string, misbehave func(mailtest.Step) mailtest.Misdeed) auth.Answer {
		fake := &mailtest.IMAP{Wrong: "NO [AUTHENTICATIONFAILED] " + words, Misbehave: misbehave}
		defer fake.Close()
		_, answer := (&Server{Dial: fake.Dial}).LoginIMAP(ctx, owner, auth.NewSecret(secret), Client{})
		return answer
	},
	"POP3": func(ctx context.Context, secret, words string, misbehave func(mailtest.Step) mailtest.Misdeed) auth.Answer {
		fake := &mailtest.POP3{Wrong: "-ERR [AUTH] " + words, Misbehave: misbehave}
		defer fake.Close()
		_, answer := (&Server{Dial: fake.Dial}).LoginPOP3(ctx, owner, auth.NewSecret(secret), Client{})
		return answer
	},
	"SMTP": func(ctx context.Context, secret, words string, misbehave func(mailtest.Step) mailtest.Misdeed) auth.Answer {
		fake := &mailtest.SMTP{Wrong: "535 " + words, Misbehave: misbehave}
		defer fake.Close()
		_, answer := (&Server{Dial: fake.Dial}).LoginSMTP(ctx, owner, auth.NewSecret(secret), Client{})
		return answer
	},
}

// A server may repeat the password in its answer, in each form that it has on the way.
func TestNoErrorHasThePasswordInAnyForm(t *testing.T) {
	const canary = "canary-5c2d"
	forms := []string{canary, base64.StdEncoding.EncodeToString([]byte(canary)), plainMessage(string(owner), canary)}
	for name, login := range dialogues {
		answer := login(t.Context(), canary, strings.Join(forms, " "), nil)
		if answer.Judgement != auth.JudgedWrong || !strings.Contains(answer.Err.Error(), "*** *** ***") {
			t.Errorf("%s: %v, %v", name, answer.Judgement, answer.Err)
		}
		for _, form := range forms {
			if strings.Contains(answer.Err.Error(), form) {
				t.Errorf("%s: the password is in %q", name, answer.Err)
			}
		}
	}
}

// What a server says is bounded, whatever the protocol: a line, and all lines together.
func TestAServerThatNeverEndsIsNotHeardToTheEnd(t *testing.T) {
	long := strings.Repeat("x", 70<<10)
	many := map[string]string{
		"IMAP": strings.Repeat("* OK still here\r\n", 20_000),
		"POP3": "+OK\r\n" + strings.Repeat("UIDL\r\n", 20_000),
		"SMTP": strings.Repeat("250-STILL-HERE\r\n", 20_000),
	}
	steps := map[string]mailtest.Step{"IMAP": "AUTHENTICATE", "POP3": "CAPA", "SMTP": "EHLO"}
	for name, login := range dialogues {
		if answer := login(t.Context(), password, "", mailtest.At("greeting", mailtest.Misdeed{Say: long})); !errors.Is(answer.Err, errLongLine) || answer.Judgement != auth.Unreached {
			t.Errorf("%s: a long line: %v, %v", name, answer.Judgement, answer.Err)
		}
		want := auth.Unreached
		if name == "IMAP" { // the password is on its way
			want = auth.InDoubt
		}
		if answer := login(t.Context(), password, "", mailtest.At(steps[name], mailtest.Misdeed{Say: many[name]})); !errors.Is(answer.Err, errTalk) || answer.Judgement != want {
			t.Errorf("%s: many lines: %v, %v", name, answer.Judgement, answer.Err)
		}
	}
}

// A login ends with its context, wherever it is, and the error says why.
func TestALoginEndsWithItsContext(t *testing.T) {
	why := errors.New("the gateway has no more time")
	for name, login := range dialogues {
		for step, want := range map[mailtest.Step]auth.Judgement{"greeting": auth.Unreached, "verdict": auth.InDoubt} {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(time.Second, func() { cancel(why) })
				began := time.Now()
				answer := login(ctx, password, "", mailtest.At(step, mailtest.Misdeed{Hang: true}))
				if took := time.Since(began); answer.Judgement != want || !errors.Is(answer.Err, why) || took != time.Second {
					t.Errorf("%s, %s: %v, %v after %s", name, step, answer.Judgement, answer.Err, took)
				}
			})
		}
	}
}
