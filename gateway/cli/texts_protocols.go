package cli

// protocolTexts are the texts that concern single protocols. Those for their names and
// for the checks of /readyz come with the gateway's answers.
var protocolTexts = []text{
	{"imap", "imap"},
	{"smtp", "smtp"},
	{"imap upstream", "máy chủ IMAP"},
	{"smtp upstream", "máy chủ SMTP"},
}
