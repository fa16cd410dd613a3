// Package demo is a mail server small enough to be part of the binary, so that `congthu
// demo` shows the gateway's work on a machine with nothing but Go.
//
// It takes the place of Dovecot and Postfix: it knows the passwords, keeps the
// mailboxes in memory, and trusts all clients on this machine. A message sent through
// its submission port appears in the recipients' INBOX at once. It is not a server for
// any other purpose.
package demo

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"golang.org/x/sync/errgroup"
)

// MailServer is the embedded mail server. Its fields must not change while it serves.
type MailServer struct {
	// Passwords maps addresses to passwords.
	Passwords map[string]string
	// Log receives errors; nil: they are discarded.
	Log *slog.Logger

	boxes map[string]*imapmemserver.User
}

// folders are the folders of every new mailbox.
var folders = []string{"INBOX", "Drafts", "Sent", "Trash", "Công văn"}

// maxMessage limits the size of a message, in octets.
const maxMessage = 25 << 20

// Serve answers IMAP and submission until ctx ends; it closes both listeners.
func (m *MailServer) Serve(ctx context.Context, imapListener, smtpListener net.Listener) error {
	defer imapListener.Close()
	defer smtpListener.Close()
	if m.Log == nil {
		m.Log = slog.New(slog.DiscardHandler)
	}
	memory := imapmemserver.New()
	m.boxes = make(map[string]*imapmemserver.User)
	for address, password := range m.Passwords {
		box := imapmemserver.NewUser(address, password)
		for _, folder := range folders {
			if err := box.Create(folder, nil); err != nil {
				return fmt.Errorf("create %s: %w", folder, err)
			}
		}
		m.boxes[address] = box
		memory.AddUser(box)
		if err := m.deliver(address, strings.NewReader(welcome(address))); err != nil {
			return fmt.Errorf("deliver the first message: %w", err)
		}
	}
	errorLog := slog.NewLogLogger(m.Log.Handler(), slog.LevelDebug)

	imapServer := imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return memory.NewSession(), nil, nil
		},
		Caps:         imap.CapSet{imap.CapIMAP4rev1: {}, imap.CapIMAP4rev2: {}},
		Logger:       errorLog,
		InsecureAuth: true,
	})
	smtpServer := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) {
		return &submission{server: m}, nil
	}))
	smtpServer.Domain = "mailserver.demo"
	smtpServer.AllowInsecureAuth = true
	smtpServer.EnableSMTPUTF8 = true
	smtpServer.MaxMessageBytes = maxMessage
	smtpServer.MaxLineLength = 65536
	smtpServer.ErrorLog = errorLog

	group, ctx := errgroup.WithContext(ctx)
	var serving sync.WaitGroup
	serving.Add(2)
	group.Go(func() error {
		defer serving.Done()
		return ignoreClosed(ctx, imapServer.Serve(imapListener))
	})
	group.Go(func() error {
		defer serving.Done()
		return ignoreClosed(ctx, smtpServer.Serve(smtpListener))
	})
	group.Go(func() error {
		<-ctx.Done()
		// Close of a server must not run while its Serve begins: in go-imap it would
		// wait for connections that Serve is about to count. Closing the listener ends
		// Serve in any case; Close then ends the connections.
		imapListener.Close()
		smtpListener.Close()
		serving.Wait()
		return errors.Join(unlessClosed(imapServer.Close()), unlessClosed(smtpServer.Close()))
	})
	return group.Wait()
}

func ignoreClosed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func unlessClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// deliver puts a message into the INBOX of an account.
func (m *MailServer) deliver(address string, r io.Reader) error {
	message, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	_, err = m.boxes[address].Append("INBOX", bytes.NewReader(message), &imap.AppendOptions{Time: time.Now()})
	return err
}

func welcome(address string) string {
	return strings.Join([]string{
		"From: congthu demo <active@congthu.test>",
		"To: <" + address + ">",
		"Subject: Chao mung / Welcome",
		"Date: " + time.Now().Format(time.RFC1123Z),
		"Message-ID: <welcome." + address + ">",
		"MIME-Version: 1.0",
		"Content-Type: text/plain; charset=utf-8",
		"Content-Transfer-Encoding: 8bit",
		"",
		"Quý vị đang đọc thư này qua congthu. You are reading this through congthu.",
		"",
	}, "\r\n")
}

// submission is one client's session, RFC 6409.
type submission struct {
	server     *MailServer
	user       string
	recipients []string
}

var _ smtp.AuthSession = (*submission)(nil)

// AuthMechanisms implements [smtp.AuthSession].
func (s *submission) AuthMechanisms() []string { return []string{sasl.Plain} }

// Auth implements [smtp.AuthSession].
func (s *submission) Auth(mechanism string) (sasl.Server, error) {
	if mechanism != sasl.Plain {
		return nil, smtp.ErrAuthUnknownMechanism
	}
	return sasl.NewPlainServer(func(_, username, password string) error {
		want, known := s.server.Passwords[username]
		if !known || subtle.ConstantTimeCompare([]byte(want), []byte(password)) != 1 {
			return smtp.ErrAuthFailed
		}
		s.user = username
		return nil
	}), nil
}

// Mail implements [smtp.Session].
func (s *submission) Mail(string, *smtp.MailOptions) error {
	if s.user == "" {
		return &smtp.SMTPError{Code: 530, EnhancedCode: smtp.EnhancedCode{5, 7, 0}, Message: "Authentication required"}
	}
	return nil
}

// Rcpt implements [smtp.Session].
func (s *submission) Rcpt(to string, _ *smtp.RcptOptions) error {
	to = strings.ToLower(to)
	if _, known := s.server.Passwords[to]; !known {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "No such mailbox in the demo"}
	}
	s.recipients = append(s.recipients, to)
	return nil
}

// Data implements [smtp.Session].
func (s *submission) Data(r io.Reader) error {
	message, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	for _, to := range s.recipients {
		if err := s.server.deliver(to, bytes.NewReader(message)); err != nil {
			s.server.Log.Error("deliver", "err", err)
			return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "Not delivered"}
		}
	}
	return &smtp.SMTPError{Code: 250, EnhancedCode: smtp.EnhancedCode{2, 0, 0}, Message: fmt.Sprintf("OK: queued as demo-%d", time.Now().UnixMilli())}
}

// Reset implements [smtp.Session].
func (s *submission) Reset() { s.recipients = nil }

// Logout implements [smtp.Session].
func (s *submission) Logout() error { return nil }
