package upstream

import (
	"io"
	"net"
	"time"
)

// SMTPConn is a connection to the mail server on which a user is logged in. Its holder
// owns it: carry it on, or call Logout.
type SMTPConn struct {
	net.Conn
	// Ahead is what was read behind the server's last reply: it belongs to the client.
	Ahead []byte
	// OK is the server's reply to the credentials, as it stands on the wire, such as
	// "235 2.7.0 Authentication successful" and CRLF.
	OK string
	// Extensions are what the server offered before the login.
	Extensions Extensions
}

// Logout takes leave, without waiting for an answer, and closes the connection.
func (c *SMTPConn) Logout() {
	c.SetDeadline(time.Now().Add(time.Second))
	io.WriteString(c, "QUIT\r\n")
	c.Close()
}

// release gives the connection away.
func (d *smtpDialogue) release() (*SMTPConn, error) {
	ahead, err := d.giveAway()
	if err != nil {
		return nil, err
	}
	return &SMTPConn{Conn: d.conn, Ahead: ahead, OK: d.ok.raw(), Extensions: d.extensions}, nil
}
