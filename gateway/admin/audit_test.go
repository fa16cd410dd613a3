package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"congthu/auth"
	"congthu/auth/audit"
)

func (f *fixture) happened(n int) {
	kinds := auth.EventKinds()
	for i := range n {
		name := auth.Name([]string{"an@x.vn", "binh@x.vn"}[i%2])
		f.store.Update(context.Background(), name, 0, func(a *auth.Account) ([]auth.Event, bool) {
			return []auth.Event{{At: f.now, Kind: kinds[i%len(kinds)], Account: name, Actor: auth.ByGateway}}, true
		})
	}
}

func TestEventsAreListedNewestFirstAndByPages(t *testing.T) {
	f := newFixture(t)
	f.happened(25)
	var seqs []int64
	for before := int64(0); ; {
		query := "?limit=10"
		if before > 0 {
			query += fmt.Sprintf("&before=%d", before)
		}
		list := decode[EventList](t, f.request("GET", base+"/events"+query, ""), 200)
		for _, e := range list.Events {
			seqs = append(seqs, e.Seq)
		}
		if before = list.Next; before == 0 {
			break
		}
	}
	want := make([]int64, 25)
	for i := range want {
		want[i] = int64(25 - i)
	}
	if !slices.Equal(seqs, want) {
		t.Errorf("%v", seqs)
	}
	list := decode[EventList](t, f.request("GET", base+"/events?account=VANTHU@x.vn&kind=login.first,account.locked", ""), 200)
	if len(list.Events) == 0 {
		t.Error("no events of one account and two kinds")
	}
	for _, e := range list.Events {
		if e.Account != "an@x.vn" || e.Kind != "login.first" && e.Kind != "account.locked" {
			t.Errorf("%+v", e)
		}
	}
	for query, location := range map[string]string{
		"kind=nothing": "query.kind", "limit=0": "query.limit", "before=0": "query.before", "before=x": "query.before",
		"account=a%20b": "query.account", "account=an@elsewhere.vn": "query.account", "who=me": "query",
	} {
		p := decode[Problem](t, f.request("GET", base+"/events?"+query, ""), 422)
		if len(p.Errors) != 1 || p.Errors[0].Location != location {
			t.Errorf("%s: %+v", query, p)
		}
	}
}

func TestEveryKindAndEveryStateIsAFilter(t *testing.T) {
	f := newFixture(t)
	for _, kind := range auth.EventKinds() {
		decode[EventList](t, f.request("GET", base+"/events?kind="+string(kind), ""), 200)
	}
	for _, state := range auth.States() {
		decode[AccountList](t, f.request("GET", base+"/accounts?state="+state.String(), ""), 200)
	}
	// The document says so as well.
	document := f.request("GET", base+"/openapi.json", "").Body.String()
	for _, values := range [][]any{
		anyOf(auth.EventKinds()), anyOf(auth.States()), append(anyOf(auth.States()), "unknown"), anyOf(auth.LockCauses()),
	} {
		encoded, _ := json.Marshal(values)
		if !strings.Contains(document, `"enum":`+string(encoded)) {
			t.Errorf("%s is not in the document", encoded)
		}
	}
}

func TestTheAuditLogIsVerified(t *testing.T) {
	f := newFixture(t)
	if r := decode[ChainReport](t, f.request("GET", base+"/audit/verify", ""), 200); !r.OK || r.Checked != 0 || r.Seq != 0 {
		t.Errorf("empty: %+v", r)
	}
	f.happened(7)
	r := decode[ChainReport](t, f.request("GET", base+"/audit/verify", ""), 200)
	if !r.OK || r.Checked != 7 || r.Seq != 7 || r.Hash != f.store.events[6].Hash || !r.At.Equal(f.now) {
		t.Errorf("%+v", r)
	}
	if r.Removed != nil {
		t.Errorf("of a log of which nothing was removed: %+v", r.Removed)
	}
	f.store.removed = audit.Head{Seq: 2, Hash: "a1", At: f.now}
	r = decode[ChainReport](t, f.request("GET", base+"/audit/verify", ""), 200)
	if !r.OK || r.Removed == nil || *r.Removed != (Removed{Seq: 2, Hash: "a1", At: f.now.UTC()}) {
		t.Errorf("with two events removed: %+v", r)
	}
	f.store.broken = &audit.BrokenChain{Seq: 4, Why: "the hash differs"}
	w := f.request("GET", base+"/audit/verify", "")
	r = decode[ChainReport](t, w, 200)
	if r.OK || r.Checked != 3 || r.Broken != 4 || r.Why != "the hash differs" || !strings.Contains(w.Body.String(), `"ok":false`) {
		t.Errorf("%s", w.Body)
	}
	if !strings.Contains(f.log.String(), "the audit log is broken") {
		t.Error("the log does not tell")
	}
}

func TestOneVerificationRunsAtATimeAndEndsWithItsCaller(t *testing.T) {
	f := newFixture(t)
	started := make(chan struct{})
	f.store.verify = func(ctx context.Context) error {
		close(started)
		<-ctx.Done()
		return ctx.Err()
	}
	ctx, hangUp := context.WithCancel(t.Context())
	done := make(chan int)
	go func() {
		r := httptest.NewRequestWithContext(ctx, "GET", base+"/audit/verify", nil)
		r.Header.Set("Authorization", "Bearer "+master)
		w := httptest.NewRecorder()
		f.Handler().ServeHTTP(w, r)
		done <- w.Code
	}()
	<-started
	p := decode[Problem](t, f.request("GET", base+"/audit/verify", ""), 503)
	if p.Detail != "another verification is running" {
		t.Errorf("%+v", p)
	}
	hangUp()
	if status := <-done; status != http.StatusServiceUnavailable {
		t.Errorf("status %d", status)
	}
	f.store.verify = nil
	decode[ChainReport](t, f.request("GET", base+"/audit/verify", ""), 200)
}

// The server's time limits are meant for slow clients. A verification of years of
// events must be able to take longer.
func TestAVerificationOutlastsTheTimeLimitsOfTheServer(t *testing.T) {
	f := newFixture(t)
	const limit = time.Second // the request has to be read within it, on a busy machine too
	f.store.verify = func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return errors.New("ended by a time limit")
		case <-time.After(2 * limit):
			return nil
		}
	}
	server := httptest.NewUnstartedServer(nil)
	server.Config = f.HTTPServer(f.Handler())
	server.Config.ReadTimeout, server.Config.WriteTimeout = limit, limit
	server.Start()
	defer server.Close()
	r, _ := http.NewRequestWithContext(t.Context(), "GET", server.URL+base+"/audit/verify", nil)
	r.Header.Set("Authorization", "Bearer "+master)
	answer, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != 200 {
		t.Errorf("status %d: %s", answer.StatusCode, f.log)
	}
}

func TestEventsAreFoundByWhereTheyCameFrom(t *testing.T) {
	f := newFixture(t)
	happened := func(source, after string, kind auth.EventKind) {
		e := auth.Event{At: f.now, Kind: kind, Actor: "Nguyễn Văn A", After: after}
		if source != "" {
			e.Source = netip.MustParseAddrPort(source)
		}
		f.store.Update(t.Context(), "an@x.vn", 0, func(*auth.Account) ([]auth.Event, bool) { return []auth.Event{e}, true })
	}
	happened("203.0.113.7:50001", "", auth.PasswordWrong)                                                // 1
	happened("203.0.113.77:50001", "", auth.PasswordWrong)                                               // 2
	happened("[::ffff:203.0.113.7]:50002", "", auth.AccountLocked)                                       // 3
	happened("[2001:db8::7]:993", "", auth.NameLocked)                                                   // 4
	happened("[2001:db8:0:1::7]:993", "", auth.NameLocked)                                               // 5
	happened("10.0.0.1:40000", "203.0.113.7/32 allowed until 2025-06-15T08:00:00Z", auth.SourceAllowed)  // 6
	happened("10.0.0.1:40000", "203.0.113.77/32 allowed until 2025-06-15T08:00:00Z", auth.SourceAllowed) // 7
	happened("", "", auth.AccountRevoked)                                                                // 8
	for query, want := range map[string][]int64{
		"source=203.0.113.7":                     {6, 3, 1},
		"source=203.0.113.7/32":                  {6, 3, 1},
		"source=203.0.113.0/24":                  {7, 6, 3, 2, 1},
		"source=203.0.113.7&kind=password.wrong": {1},
		"source=203.0.113.7&before=6":            {3, 1},
		"source=203.0.113.7&account=binh@x.vn":   nil,
		"source=2001:db8::abcd":                  {4},
		"source=2001:db8::/32":                   {5, 4},
		"source=10.0.0.1":                        {7, 6},
		"source=192.0.2.1":                       nil,
	} {
		var seqs []int64
		list := decode[EventList](t, f.request("GET", base+"/events?"+query, ""), 200)
		for _, e := range list.Events {
			seqs = append(seqs, e.Seq)
		}
		if !slices.Equal(seqs, want) || list.Next != 0 || list.Events == nil {
			t.Errorf("%s: %v, want %v; next %d", query, seqs, want, list.Next)
		}
	}
	first := decode[EventList](t, f.request("GET", base+"/events?source=203.0.113.7&limit=2", ""), 200)
	if len(first.Events) != 2 || first.Next != 3 {
		t.Errorf("%+v", first)
	}
	for source, want := range map[string]string{
		"203.0.113.7/24": "is no network: did you mean 203.0.113.0/24?", "203.0.113.7:993": "is no address: did you mean 203.0.113.7?",
		"0.0.0.0": "is the address of no client", "huyen": "is no address: write an IPv4 or IPv6 address, such as 203.0.113.7 or 2001:db8::7",
	} {
		p := decode[Problem](t, f.request("GET", base+"/events?source="+source, ""), 422)
		if len(p.Errors) != 1 || p.Errors[0].Location != "query.source" || p.Errors[0].Message != want {
			t.Errorf("%s: %+v", source, p)
		}
	}
	f.store.fail = errDisk
	decode[Problem](t, f.request("GET", base+"/events?source=203.0.113.7", ""), 503)
}
