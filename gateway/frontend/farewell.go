package frontend

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"time"
)

// Farewell is a reason to end a connection, as text for the client: Vietnamese without
// diacritics and English, since some mail programs show it. As an error it ends a
// dialogue.
type Farewell string

const (
	MuchData     Farewell = "Qua nhieu du lieu truoc khi dang nhap / Too much data before login"
	ShuttingDown Farewell = "May chu dang dung, vui long thu lai / The server is shutting down, please try again"
	TooSlow      Farewell = "Qua thoi gian cho / Too slow"
	BadCommands  Farewell = "Qua nhieu lenh sai / Too many bad commands"
	ManyRefusals Farewell = "Qua nhieu lan dang nhap bi tu choi / Too many refusals"
	NoWebServer  Farewell = "Day khong phai may chu web / This is no web server"
	EarlyOctets  Farewell = "Khong duoc gui gi sau STARTTLS / Nothing may follow STARTTLS"
	LoggedOut    Farewell = "Da dang xuat / Logging out"
	// Crowded is for clients that are not accepted, and for those that lose their place
	// to another.
	Crowded Farewell = "Qua nhieu ket noi, vui long thu lai sau / Too many connections, please try again later"
)

// Error implements error.
func (f Farewell) Error() string { return string(f) }

// TooMuch names the limit on data before login that a client exceeded. It ends the
// connection with [MuchData].
type TooMuch string

// Error implements error.
func (t TooMuch) Error() string { return string(t) }

// farewell writes the farewell for an error, if there is one (RFC 9051 section 7.1.5).
func (c *Client) farewell(err error) {
	c.mu.Lock()
	draining, displaced, ended := c.draining, c.displaced, c.ended
	c.mu.Unlock()
	var f Farewell
	var much TooMuch
	var timeout net.Error
	switch {
	case ended:
		return
	case errors.As(err, &f):
	case errors.As(err, &much):
		f = MuchData
	case errors.As(err, &timeout) && timeout.Timeout() && draining:
		f = ShuttingDown
	case errors.As(err, &timeout) && timeout.Timeout() && displaced:
		f = Crowded
	case errors.As(err, &timeout) && timeout.Timeout():
		f = TooSlow // RFC 9051 section 5.4
	default:
		// The client logged out or hung up, or needs no farewell.
		c.Log.Debug("connection ends", "why", err)
		return
	}
	c.Log.Debug("connection ends", "why", err)
	if c.Say(c.serving.protocol.Bye(f)+"\r\n") == nil && !draining && !displaced {
		c.linger()
	}
}

// linger lets the client read the farewell: closing a socket with unread data would
// discard it.
func (c *Client) linger() {
	c.gate.Open() // input is discarded
	if secured, ok := c.conn.(*tls.Conn); ok {
		secured.CloseWrite()
	}
	half, ok := c.raw.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.mu.Lock()
	if !c.ended && !c.draining {
		c.raw.SetReadDeadline(time.Now().Add(time.Second))
	}
	c.mu.Unlock()
	io.CopyN(io.Discard, c.raw, maxTalk)
}

// OneLine turns a text into one line of printable ASCII.
func OneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
}
