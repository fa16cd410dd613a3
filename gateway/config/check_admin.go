package config

import (
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"congthu/auth"
	"congthu/gateway/scope"
)

// weakTokens are the hashes of tokens that an attacker would try first.
var weakTokens = func() map[SHA256]bool {
	weak := make(map[SHA256]bool)
	for _, t := range []string{"", "\n", "demo", "admin", "secret", "token", "password", "test", "changeme", "congthu"} {
		weak[sum([]byte(t))] = true
	}
	return weak
}()

func (k *checker) checkAdmin() {
	a := k.c.Admin
	k.c.admin = k.checkKeyPair("admin.tls", a.TLS, false)
	if a.Listen == "" {
		if len(a.Tokens) > 0 {
			k.doubt("admin.tokens", "add `admin.listen`, or remove the tokens", "`admin.tokens` are of no use without `admin.listen`: the socket asks the system who is calling")
		}
	} else if k.listenAddress("admin.listen", a.Listen) {
		host, _, _ := splitAddress(a.Listen)
		if !loopback(host) && a.TLS.IsZero() {
			k.wrong("admin.listen", "add `admin.tls` with a certificate and a key, or listen on 127.0.0.1", "`admin.listen` %s can be reached from other machines, but has no TLS: tokens would cross the network in clear text", a.Listen)
		}
		if len(a.Tokens) == 0 {
			k.doubt("admin.listen", "add `admin.tokens`", "`admin.listen` has no tokens: only /metrics and the health checks will answer")
		}
	}
	k.checkSocket(a)
	names, sums := make(map[string]int), make(map[SHA256]int)
	for i := range a.Tokens {
		k.checkToken(i, &a.Tokens[i], names, sums)
	}
}

// longestSocket is sizeof(sockaddr_un.sun_path) on Linux without the final NUL.
const longestSocket = 107

func (k *checker) checkSocket(a Admin) {
	if n := len(a.Socket); n > longestSocket {
		path := "admin.socket"
		if !k.given(path) {
			path = "data_dir"
		}
		k.wrong(path, "set `admin.socket` to a shorter path", "the path of the admin socket is %d characters long; the system takes %d: %s", n, longestSocket, a.Socket)
	}
	if a.SocketGroup == "" {
		return
	}
	if _, err := strconv.ParseUint(a.SocketGroup, 10, 31); err == nil {
		return
	}
	if _, err := user.LookupGroup(a.SocketGroup); err != nil {
		k.wrong("admin.socket_group", "create it (groupadd --system "+a.SocketGroup+"), or name another", "`admin.socket_group`: there is no group %q on this machine", a.SocketGroup)
	}
}

func (k *checker) checkToken(i int, t *Token, names map[string]int, sums map[SHA256]int) {
	path := fmt.Sprintf("admin.tokens[%d]", i)
	if k.refused(path) {
		return
	}
	switch first, again := names[t.Name]; {
	case k.refused(path + ".name"):
	case strings.TrimSpace(t.Name) == "":
		k.wrong(path+".name", "write the name of the person who holds it", "`%s.name` is missing: the audit log could not say who acted", path)
	case again:
		k.wrong(path+".name", "give every person one token, and every token one person", "`%s.name`: %q has a token already, number %d in the list", path, t.Name, first+1)
	case t.Name != strings.TrimSpace(t.Name) || strings.ContainsFunc(t.Name, func(r rune) bool { return !unicode.IsPrint(r) }):
		k.wrong(path+".name", "write the name on one line, without spaces around it", "`%s.name` has spaces around it or unprintable characters", path)
	case t.Name == auth.ByUser, t.Name == auth.ByGateway, strings.HasPrefix(t.Name, "uid:"):
		k.wrong(path+".name", "write the name of a person", "`%s.name`: %q belongs to the gateway's own entries in the audit log", path, t.Name)
	default:
		names[t.Name] = i
	}
	k.tokenSum(path, t)
	if !t.SHA256.IsZero() {
		if first, again := sums[t.SHA256]; again {
			k.wrong(path+".sha256", "make a token of their own for each person", "`%s` is the same token as number %d in the list", path, first+1)
		} else {
			sums[t.SHA256] = i
		}
		if weakTokens[t.SHA256] {
			k.doubt(path+".sha256", "make one with: openssl rand -base64 32", "`%s` is a token that anybody would guess", path)
		}
	}
	if k.refused(path + ".scopes") {
		return
	}
	if len(t.Scopes) == 0 {
		k.wrong(path+".scopes", "list some of "+strings.Join(words(scope.All()...), ", "), "`%s.scopes` is missing: the token would be good for nothing", path)
	}
	for j, s := range t.Scopes {
		if slices.Contains(t.Scopes[:j], s) {
			at := fmt.Sprintf("%s.scopes[%d]", path, j)
			k.wrong(at, "keep one of them", "`%s`: %s is there twice", at, s)
		}
	}
}

// tokenSum sets the hash of a token that is in a file.
func (k *checker) tokenSum(path string, t *Token) {
	if k.refused(path+".sha256") || k.refused(path+".token_file") {
		return
	}
	hasSum, hasFile := k.given(path+".sha256") && !t.SHA256.IsZero(), t.TokenFile != ""
	switch {
	case hasSum && hasFile:
		k.wrong(path+".token_file", "keep one of them", "`%s` has both `sha256` and `token_file`", path)
	case hasFile:
		data, err := readFile(t.TokenFile)
		if err != nil {
			k.wrong(path+".token_file", "put the token there, on one line, readable by the gateway only", "`%s.token_file`: %v", path, err)
			return
		}
		token := firstLine(data)
		if len(token) < 20 {
			k.wrong(path+".token_file", "make one with: openssl rand -base64 32", "`%s.token_file`: the token in %s is shorter than 20 characters", path, t.TokenFile)
			return
		}
		t.SHA256 = sum([]byte(token))
	case !hasSum:
		k.wrong(path+".sha256", "add `sha256`, from: printf %s \"$TOKEN\" | sha256sum", "`%s` has neither `sha256` nor `token_file`", path)
	}
}
