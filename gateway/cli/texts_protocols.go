package cli

// protocolTexts are the texts of single protocols; those of their names and of what
// /readyz looks at come in the gateway's answers.
var protocolTexts = []text{
	{"imap", "imap"},
	{"smtp", "smtp"},
	{"imap upstream", "máy chủ IMAP"},
	{"smtp upstream", "máy chủ SMTP"},
}
