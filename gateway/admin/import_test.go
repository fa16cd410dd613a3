package admin

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"congthu/auth"
	"congthu/auth/guard"
)

// UpdateBatch implements auth.Importer.
func (m *memory) UpdateBatch(ctx context.Context, names []auth.Name, change auth.Change) error {
	for _, name := range names {
		if _, err := m.Update(ctx, name, 0, change); err != nil {
			return err
		}
	}
	return nil
}

func newImporter(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t)
	f.Server.Own = f.guard.Own
	f.Server.Import = func(ctx context.Context, list []auth.Imported, act auth.Act, o guard.ImportOptions) (guard.Importation, error) {
		return f.guard.Import(ctx, f.store, list, act, o)
	}
	return f
}

// send sends a list as curl --data-binary does.
func (f *fixture) send(list, query string) *httptest.ResponseRecorder {
	return f.request("POST", base+"/import?"+query, list, "Content-Type", "text/csv")
}

var withReason = "reason=" + url.QueryEscape("công văn 12/CV")

func TestAListIsImportedWithItsReason(t *testing.T) {
	f := newImporter(t)
	list := "\ufeffLast_login;Address;unit;registered;password_changed\r\n" +
		"2025-06-01;CU@X.vn;\"Sở \"\"Y\"\"; tế\";15/1/2020;2025-05-01T08:00:00+07:00\r\n" +
		";;;;\r\n" +
		";an@x.vn;;;\r\n"
	dry := decode[ImportReport](t, f.send(list, "dry_run=true"), 200)
	if !dry.DryRun || dry.New != 1 || dry.Unchanged != 1 || len(f.store.events) > 0 {
		t.Errorf("dry run: %+v", dry)
	}
	r := decode[ImportReport](t, f.send(list, withReason), 200)
	want := ImportReport{
		Rows: 2, New: 1, Unchanged: 1, Digest: fmt.Sprintf("%x", sha256.Sum256([]byte(list))), Interrupted: []ImportBegun{}, States: map[string]int{"active": 1, "never_seen": 1},
		Changes: []ImportChange{{
			Address: "cu@x.vn", Before: "no account",
			After: `unit Sở "Y"; tế, registered 2020-01-15 00:00 +07:00, last login 2025-06-01 00:00 +07:00, password since 2025-05-01 08:00 +07:00`,
		}},
	}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	mark := "2 accounts, list sha256:" + want.Digest
	for i, kind := range []auth.EventKind{auth.ImportBegun, auth.AccountImported, auth.ImportFinished} {
		if e := f.store.events[i]; e.Kind != kind || kind != auth.AccountImported && (e.Before != mark || e.Account != "" || e.Reason != "công văn 12/CV") {
			t.Errorf("event %d: %+v", i, e)
		}
	}
	e := f.store.events[1]
	if e.Kind != auth.AccountImported || e.Actor != "Nguyễn Văn A" || e.Source.String() != "192.0.2.7:5050" || e.Reason != "công văn 12/CV" {
		t.Errorf("event %+v", e)
	}
	again := decode[ImportReport](t, f.send(list, withReason), 200)
	if again.New+again.Changed != 0 || again.Unchanged != 2 || again.Resumed || len(f.store.events) != 5 {
		t.Errorf("once more: %+v", again)
	}
	if p := decode[ImportProgress](t, f.request("GET", base+"/import", ""), 200); p.Running || p.Looked != 2 || p.Total != 2 {
		t.Errorf("progress %+v", p)
	}
}

func TestEveryErrorOfAListIsReportedAndNothingIsImported(t *testing.T) {
	f := newImporter(t)
	const canary = "Mat-khau-bi-mat"
	list := "address,registered,last_login,unit,password_changed\n" +
		"new@x.vn,2025-01-01,,,\n" +
		canary + ",,,,\n" +
		"c@elsewhere.vn,31/02/2025," + canary + ",,2025-06-16\n" +
		"vanthu@x.vn,1970-01-01,1899-12-30,,\n" +
		"NEW@x.vn,,,,\n" +
		"\"quoted\nname\"@x.vn,,,,\n" +
		"d@x.vn,,,,,more\n" +
		"e@x.vn,,," + "\xc4" + ",\n" +
		"f*g@x.vn,,,,\n" +
		",,,only a unit,\n" +
		"h@x.vn,,," + strings.Repeat("đ", 201) + ",\n" +
		"i@x.vn,,,\"a\nb\",2025-06-15T10:00:01+07:00\n"
	res := f.send(list, withReason)
	p := decode[listProblem](t, res, 422)
	got := ""
	for _, e := range p.Errors {
		got += fmt.Sprintf("%d:%d %s %s\n", e.Line, e.Column, e.Field, e.Message)
	}
	want := `3:1 address is no address: want local@domain, without +detail
4:1 address is of a domain that is not served here
4:16 registered is no date: want 2026-01-31, 31/01/2026, 2026-01-31T08:00:00+07:00 or 20260131010000Z
4:27 last_login is no date: want 2026-01-31, 31/01/2026, 2026-01-31T08:00:00+07:00 or 20260131010000Z
4:44 password_changed is in the future
5:1 address is an alias of an@x.vn: write the account itself, once
5:13 registered is before 1990: leave it empty where it stands for never
5:24 last_login is before 1990: leave it empty where it stands for never
6:1 address is the account of line 2 again: write it once
8:5  has a quoted field, begun in line 7, that does not end as it must: write "" for each " in it
9:12  the row has 6 fields, and the first row names 5: put a field with , in it in "..."
10:10 unit is not UTF-8: save the list as "CSV UTF-8"
11:1 address has a character that separates master users
12:1 address is empty
13:10 unit is longer than 200 characters
14:10 unit has characters that cannot be printed, perhaps a line break
15:4 password_changed is in the future
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if res.Header().Get("Content-Type") != "application/problem+json" || p.Detail != "nothing was imported: the list has 17 errors" {
		t.Errorf("%s: %q", res.Header().Get("Content-Type"), p.Detail)
	}
	if len(f.store.events) > 0 || f.store.accounts["new@x.vn"].Known() {
		t.Error("something was imported all the same")
	}
	if strings.Contains(res.Body.String(), canary) || strings.Contains(f.log.String(), canary) {
		t.Error("what was refused is repeated")
	}
}

func TestAListThatCannotBeReadSaysWhatItMustBe(t *testing.T) {
	f := newImporter(t)
	rows := func(n int, row func(i int) string) string {
		var b strings.Builder
		b.WriteString("address\n")
		for i := range n {
			b.WriteString(row(i) + "\n")
		}
		return b.String()
	}
	for name, c := range map[string]struct{ list, want string }{
		"an empty list":        {" \n", "is empty: the first row names the columns"},
		"a list of no account": {"address\n\n", "has no accounts"},
		"no header":            {"an@x.vn,2025-01-01\n", "names a column that is not known"},
		"no address":           {"unit,registered\nA,\n", "names no column address"},
		"a column twice":       {"address,Address\n", "names the column address again"},
		"other separators":     {"address|unit\nan@x.vn|A\n", "separated by , or ; or tabs"},
		"half of UTF-16":       {"\xff\xfea\x00d", "is UTF-16"},
		"too many accounts":    {rows(maxImportRows+1, func(i int) string { return fmt.Sprintf("a%d@x.vn", i) }), "is one more than the 200000 accounts"},
		"too many errors":      {rows(3*maxListErrors, func(int) string { return "?" }), "is as far as the list was read"},
		"too many bad quotes":  {rows(3*maxListErrors, func(int) string { return `a"b` }), `has a " within a field`},
	} {
		t.Run(name, func(t *testing.T) {
			p := decode[listProblem](t, f.send(c.list, withReason), 422)
			if last := p.Errors[len(p.Errors)-1]; !strings.Contains(last.Message, c.want) || len(p.Errors) > maxListErrors+5 {
				t.Errorf("%d errors, the last %+v; want %q", len(p.Errors), last, c.want)
			}
		})
	}
	if res := f.send(strings.Repeat("x", maxImport+1), withReason); res.Code != 413 {
		t.Errorf("too large: %d", res.Code)
	}
}

func TestAnImportNeedsItsScopeAndAReason(t *testing.T) {
	f := newImporter(t)
	const list = "address\nnew@x.vn\n"
	decode[Problem](t, f.request("POST", base+"/import?"+withReason, list, "Authorization", "Bearer "+reader), 403)
	decode[Problem](t, f.request("GET", base+"/import", "", "Authorization", "Bearer "+reader), 403)
	for _, query := range []string{"", "reason=x", "reason=" + url.QueryEscape("hai\ndòng")} {
		if p := decode[Problem](t, f.send(list, query), 422); !strings.Contains(fmt.Sprint(p), "one line of 3 to 500") {
			t.Errorf("%q: %+v", query, p)
		}
	}
	f.importing.Lock()
	decode[Problem](t, f.send(list, withReason), 503)
	f.importing.Unlock()
	f.store.fail = errors.New("disk I/O error at /var/lib/secret-path")
	res := f.send(list, withReason)
	if p := decode[importProblem](t, res, 503); !strings.Contains(p.Detail, "import the same list again") || !p.Stopped || p.Looked != 0 || p.Total != 1 || p.DetailVI == "" || strings.Contains(res.Body.String(), "secret-path") {
		t.Errorf("%+v", p)
	}
	f.store.fail = nil
	if len(f.store.events) > 0 {
		t.Error("something was imported")
	}
	f.Import = nil
	decode[Problem](t, f.send(list, withReason), 503)
}

func TestAnInterruptedImportIsReportedUntilItIsFinished(t *testing.T) {
	f := newImporter(t)
	var list strings.Builder
	list.WriteString("address\n")
	for i := range 250 {
		fmt.Fprintf(&list, "n%d@x.vn\n", i)
	}
	f.store.failAt = 202 // the beginning, two batches, and one account of the third
	p := decode[importProblem](t, f.send(list.String(), withReason), 503)
	if !p.Stopped || p.Looked != 200 || p.Total != 250 || p.New != 200 || !strings.Contains(p.Detail, "after 200 of 250 accounts") {
		t.Errorf("%+v", p)
	}
	f.store.failAt = 0
	const small = "address\nother@x.vn\n"
	other := decode[ImportReport](t, f.send(small, withReason), 200)
	if len(other.Interrupted) != 1 || other.Interrupted[0].Accounts != 250 || other.Interrupted[0].Reason != "công văn 12/CV" || other.Resumed {
		t.Errorf("the next import says %+v", other)
	}
	dry := decode[ImportReport](t, f.send(list.String(), "dry_run=true"), 200)
	if !dry.Resumed || dry.Unchanged+dry.New != 250 {
		t.Errorf("dry run: %+v", dry)
	}
	rest := decode[ImportReport](t, f.send(list.String(), withReason), 200)
	if !rest.Resumed || len(rest.Interrupted) != 0 || rest.New+rest.Unchanged != 250 || rest.Unchanged < 200 {
		t.Errorf("finished: %+v", rest)
	}
	if after := decode[ImportReport](t, f.send(small, withReason), 200); len(after.Interrupted) != 0 {
		t.Errorf("after the end: %+v", after)
	}
	seen := make(map[auth.Name]int)
	for _, e := range f.store.events {
		if e.Kind == auth.AccountImported {
			seen[e.Account]++
		}
	}
	for name, n := range seen {
		if n != 1 {
			t.Errorf("%s has %d events", name, n)
		}
	}
	if len(seen) != 251 {
		t.Errorf("%d accounts have an event, want 251", len(seen))
	}
}

func TestAnImportGoesOnWhenItsCallerHangsUp(t *testing.T) {
	f := newImporter(t)
	ctx, hangUp := context.WithCancel(t.Context())
	into := f.Server.Import
	f.Server.Import = func(ctx context.Context, list []auth.Imported, act auth.Act, o guard.ImportOptions) (guard.Importation, error) {
		o.Progress = func(int) { hangUp() }
		return into(ctx, list, act, o)
	}
	var list strings.Builder
	list.WriteString("address\n")
	for i := range 250 {
		fmt.Fprintf(&list, "n%d@x.vn\n", i)
	}
	f.init()
	out, err := f.importAccounts(ctx, &importInput{Reason: "công văn 12/CV", RawBody: []byte(list.String())})
	if err != nil || out.Body.New != 250 || ctx.Err() == nil {
		t.Errorf("%+v, %v", out, err)
	}
}
