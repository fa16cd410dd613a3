package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"congthu/auth"
	"congthu/gateway/scope"
)

// base is the path prefix of the API.
const base = "/api/v1"

// handleAPI registers every operation and the document that describes them.
func (s *Server) handleAPI(mux *http.ServeMux) {
	version := s.Version
	if version == "" {
		version = "unknown"
	}
	config := huma.DefaultConfig("congthu admin API", version)
	config.Info.Description = "Why somebody cannot log in, and what to do about it. Every change needs a reason and goes into the audit log under the caller's name."
	// The document is built once, below: huma builds it at the first request, without a
	// lock. Its documentation page loads scripts from other sites.
	config.OpenAPIPath, config.DocsPath, config.SchemasPath, config.CreateHooks = "", "", "", nil
	config.RejectUnknownQueryParameters = true
	config.Transformers = []huma.Transformer{discreet}
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"bearer": {Type: "http", Scheme: "bearer", Description: "The token of a named person. Over the Unix socket none is needed."},
	}
	api := humago.New(mux, config)

	register(s, api, operation{
		id: "list-accounts", method: http.MethodGet, path: "/accounts", scope: scope.Read, tag: "accounts",
		summary: "List accounts, in the order of their names",
	}, s.listAccounts)
	register(s, api, operation{
		id: "get-account", method: http.MethodGet, path: "/accounts/{address}", scope: scope.Read, tag: "accounts",
		summary: "Show one account: why it cannot log in, since when, what to tell the user",
		detail:  "Any address of a domain that is served has an answer, also one that nobody has ever logged in with; aliases show the account that they mean.",
	}, s.getAccount)
	register(s, api, operation{
		id: "unlock-account", method: http.MethodPost, path: "/accounts/{address}/unlock", scope: scope.Unlock, tag: "accounts",
		summary: "End a lock and forget the wrong passwords",
		errors:  []int{http.StatusConflict, http.StatusNotFound},
	}, s.unlock)
	register(s, api, operation{
		id: "lock-account", method: http.MethodPost, path: "/accounts/{address}/lock", scope: scope.Lock, tag: "accounts",
		summary: "Lock an account until somebody unlocks it, and end its live sessions",
		errors:  []int{http.StatusConflict, http.StatusNotFound},
	}, s.lock)
	register(s, api, operation{
		id: "restore-account", method: http.MethodPost, path: "/accounts/{address}/restore", scope: scope.Restore, tag: "accounts",
		summary: "Give a revoked account back; its months of disuse begin again",
		errors:  []int{http.StatusConflict, http.StatusNotFound},
	}, s.restore)
	register(s, api, operation{
		id: "grace-account", method: http.MethodPost, path: "/accounts/{address}/grace", scope: scope.Grace, tag: "accounts",
		summary: "Let an expired password go on for some days",
		errors:  []int{http.StatusConflict, http.StatusNotFound},
	}, s.grace)
	register(s, api, operation{
		id: "merge-accounts", method: http.MethodPost, path: "/merge", scope: scope.Import, tag: "accounts",
		summary: "Join accounts with what the store has of them under other names, the worse of both",
		detail: "A name is another name of an account when it has become an alias, or when its domain is one of several that the mail server takes for one. " +
			"Nothing is forgiven: locks, revocations and the most wrong passwords stay. Merging again is no mistake.",
		errors: []int{http.StatusConflict},
		slow:   true,
	}, s.merge)
	register(s, api, operation{
		id: "list-unknown-names", method: http.MethodGet, path: "/unknown-names", scope: scope.Unlock, tag: "accounts",
		summary: "List names that nobody ever logged in with and for which wrong passwords came, in the order of the names",
		detail:  "They are no accounts: most are mistyped or guessed, and some are passwords that somebody has typed in the wrong place.",
	}, s.listUnknown)
	register(s, api, operation{
		id: "list-causes", method: http.MethodGet, path: "/causes", scope: scope.Read, tag: "accounts",
		summary: "List what has locked accounts by wrong passwords: each cause with its sources and accounts, the latest first",
	}, s.listCauses)
	register(s, api, operation{
		id: "unlock-cause", method: http.MethodPost, path: "/causes/{id}/unlock", scope: scope.Unlock, tag: "accounts",
		summary: "Unlock all accounts of one cause, and the names that nobody ever logged in with that it has locked",
		errors:  []int{http.StatusNotFound},
		slow:    true,
	}, s.unlockCause)
	register(s, api, operation{
		id: "list-sources", method: http.MethodGet, path: "/sources", scope: scope.Read, tag: "sources",
		summary: "List the sources that are allowed whatever they have done, and those that this gateway refuses now",
	}, s.listSources)
	register(s, api, operation{
		id: "allow-source", method: http.MethodPost, path: "/sources/{address}/allow", scope: scope.Unlock, tag: "sources",
		summary: "Let a source go on for some hours, at every gateway: an office behind one address",
		detail:  "Nothing that its addresses or networks have done has it refused until then. No lock and no limit of an account is lifted. Allowed again, the new time counts.",
		errors:  []int{http.StatusConflict},
	}, s.allowSource)
	register(s, api, operation{
		id: "end-allowed-source", method: http.MethodPost, path: "/sources/{address}/end", scope: scope.Unlock, tag: "sources",
		summary: "End what was allowed to a source",
		errors:  []int{http.StatusConflict},
	}, s.endAllowedSource)
	register(s, api, operation{
		id: "sweep", method: http.MethodPost, path: "/sweep", scope: scope.Sweep, tag: "accounts",
		summary: "Revoke the accounts that were not used for too long, as the daily sweep does",
		errors:  []int{http.StatusConflict},
		slow:    true,
	}, s.sweep)
	register(s, api, operation{
		id: "show-clock", method: http.MethodGet, path: "/clock", scope: scope.Read, tag: "clock",
		summary: "Show what time it is for the gateway, and why that is suspect",
	}, s.showClock)
	register(s, api, operation{
		id: "show-rules", method: http.MethodGet, path: "/rules", scope: scope.Read, tag: "rules",
		summary: "Show the settings that the gateways on one database have agreed on, and where this gateway or its file differs",
	}, s.showRules)
	register(s, api, operation{
		id: "adopt-rules", method: http.MethodPost, path: "/rules/adopt", scope: scope.Rules, tag: "rules",
		summary: "Make the settings of this gateway's configuration file those that all gateways on the database work by",
		detail:  "The file is read anew and put into force here. Other gateways whose files have the same settings follow by themselves; the others show that they are behind.",
		errors:  []int{http.StatusConflict},
		slow:    true,
	}, s.adoptRules)
	register(s, api, operation{
		id: "accept-clock", method: http.MethodPost, path: "/clock/accept", scope: scope.Sweep, tag: "clock",
		summary: "Say that the clock is right: accounts are revoked and passwords run out again",
		detail:  "What is known to have happened in the future has then happened now.",
		errors:  []int{http.StatusConflict},
		slow:    true,
	}, s.acceptClock)
	register(s, api, operation{
		id: "list-events", method: http.MethodGet, path: "/events", scope: scope.Audit, tag: "audit",
		summary: "List events of the audit log, newest first",
	}, s.listEvents)
	register(s, api, operation{
		id: "verify-audit", method: http.MethodGet, path: "/audit/verify", scope: scope.Audit, tag: "audit",
		summary: "Verify the hash chain of the whole audit log",
		detail:  "May take minutes; ends when the caller hangs up. A broken chain is a result, not an error: the status is 200 and ok is false. One verification runs at a time.",
		slow:    true,
	}, s.verifyAudit)

	register(s, api, operation{
		id: "import-accounts", method: http.MethodPost, path: "/import", scope: scope.Import, tag: "accounts",
		summary: "Take over a list of accounts, in batches",
		detail: "The body is CSV (RFC 4180, UTF-8, comma or semicolon) with a header row of `address` and any of `unit`, `registered`, `last_login`, `password_changed`. " +
			"The whole list is checked first: when anything in it is wrong the status is 422, nothing is changed, and every error is told with its line, column and field. " +
			"Then the accounts are changed in batches, each a transaction, and the audit log has an `import.begun` before and an `import.finished` after it. " +
			"An import that stops in the middle, with 503 or since the gateway was stopped, is finished by sending the same list again: what is there already is left as it is. " +
			"It goes on when the caller hangs up. One import runs at a time.",
		errors: []int{http.StatusRequestEntityTooLarge},
		slow:   true, body: maxImport, raw: true,
	}, s.importAccounts)
	register(s, api, operation{
		id: "show-import", method: http.MethodGet, path: "/import", scope: scope.Import, tag: "accounts",
		summary: "Tell how far the import has come that is running",
	}, s.showImport)

	register(s, api, operation{
		id: "get-profile", method: http.MethodGet, path: "/debug/pprof/{profile}", scope: scope.Debug, tag: "debug",
		summary: "Profile the process, for go tool pprof",
		detail:  "No profile has data of users in it: they tell which functions run, wait or hold memory.",
		errors:  []int{http.StatusConflict},
		slow:    true,
	}, s.profile)
	register(s, api, operation{
		id: "support-bundle", method: http.MethodGet, path: "/debug/bundle", scope: scope.Debug, tag: "debug",
		summary: "Make a support bundle: a tar.gz with the state of the gateway, without secrets",
		detail:  "manifest.json, its first file, tells what is in it. People are pseudonyms whose key is kept nowhere.",
		errors:  []int{http.StatusNotFound},
		slow:    true,
	}, s.bundle)

	problemSchema(api)
	enumerate(api, "/accounts", "state", anyOf(auth.States()))
	enumerate(api, "/events", "kind", anyOf(auth.EventKinds()))
	documentAdvice(api)
	document, err := json.Marshal(api.OpenAPI())
	if err != nil {
		panic(err) // a mistake in a type above
	}
	mux.HandleFunc("GET "+base+"/openapi.json", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		w.Write(document)
	})
}

// operation describes one operation. An empty scope means that none is needed.
type operation struct {
	id, method, path, tag string
	summary, detail       string
	scope                 scope.Scope
	errors                []int
	slow                  bool  // no time limit for the answer
	raw                   bool  // the body is not JSON
	body                  int64 // its largest size in octets; 0: maxBody
}

func register[I, O any](s *Server, api huma.API, o operation, handler func(context.Context, *I) (*O, error)) {
	op := huma.Operation{
		OperationID: o.id,
		Method:      o.method,
		Path:        base + o.path,
		Summary:     o.summary,
		Description: strings.TrimSpace(o.detail + "\n\nScope: `" + string(o.scope) + "`."),
		Tags:        []string{o.tag},
		// HTTP bearer schemes can list scopes since OpenAPI 3.1.
		Security:        []map[string][]string{{"bearer": {string(o.scope)}}},
		MaxBodyBytes:    cmp.Or(o.body, maxBody),
		BodyReadTimeout: 10 * time.Second,
		Errors: append([]int{
			http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusUnprocessableEntity,
			http.StatusServiceUnavailable,
		}, o.errors...),
		Metadata:    map[string]any{"body": bodyFields(reflect.TypeFor[I]())},
		Middlewares: huma.Middlewares{require(o.scope), strictQuery},
	}
	if o.raw {
		op.BodyReadTimeout = 5 * time.Minute
	}
	if o.method == http.MethodPost && !o.raw {
		op.Middlewares = append(op.Middlewares, takeJSON)
	}
	if o.slow {
		op.Middlewares = append(op.Middlewares, unhurried)
	}
	huma.Register(api, op, handler)
}

// problemSchema adds the Vietnamese fields of problems to the document; huma knows only
// its own fields.
func problemSchema(api huma.API) {
	schemas := api.OpenAPI().Components.Schemas.Map()
	schemas["ErrorModel"].Properties["detail_vi"] = &huma.Schema{Type: huma.TypeString, Description: "The detail in Vietnamese; left out where a library says it."}
	schemas["ErrorDetail"].Properties["message_vi"] = &huma.Schema{Type: huma.TypeString, Description: "The message in Vietnamese; left out where a library says it."}
}

// enumerate lists the permitted values of a query parameter, for the document and for
// validation: struct tags cannot call package auth.
func enumerate(api huma.API, path, name string, values []any) {
	for _, p := range api.OpenAPI().Paths[base+path].Get.Parameters {
		if p.Name != name {
			continue
		}
		s := p.Schema
		if s.Type == huma.TypeArray {
			s = s.Items
		}
		s.Enum = values
		s.PrecomputeMessages()
		return
	}
	panic("no parameter " + name)
}

// anyOf returns the names of the values of an enum.
func anyOf[E any](values []E) []any {
	names := make([]any, 0, len(values))
	for _, v := range values {
		names = append(names, fmt.Sprint(v))
	}
	return names
}

// bodyFields returns the JSON names of the fields of the input's Body.
func bodyFields(input reflect.Type) (names []string) {
	body, ok := input.FieldByName("Body")
	if !ok {
		return nil
	}
	for _, f := range reflect.VisibleFields(body.Type) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// require passes on requests of callers with a scope. It runs before any other part of
// the request is read.
func require(needed scope.Scope) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		_, w := humago.Unwrap(ctx)
		id := callerOf(ctx.Context())
		switch {
		case id.err != nil:
			// RFC 6750 section 3: no error code if there was no token at all.
			challenge := `Bearer realm="congthu"`
			if id.err != errNoToken {
				challenge += `, error="invalid_token"`
			}
			w.Header().Set("WWW-Authenticate", challenge)
			write(w, problem(http.StatusUnauthorized, id.err.Error()))
		case !slices.Contains(id.scopes, needed):
			// RFC 6750 section 3.1.
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="congthu", error="insufficient_scope", scope=%q`, needed))
			writeProblem(w, http.StatusForbidden, "the token lacks the scope %q", needed)
		default:
			next(ctx)
		}
	}
}

// strictQuery refuses ambiguous queries: huma uses the first of repeated parameters and
// skips malformed ones.
func strictQuery(ctx huma.Context, next func(huma.Context)) {
	_, w := humago.Unwrap(ctx)
	u := ctx.URL()
	if u.RawQuery != "" {
		values, err := url.ParseQuery(u.RawQuery)
		repeated := false
		for _, v := range values {
			repeated = repeated || len(v) > 1
		}
		for pair := range strings.SplitSeq(u.RawQuery, "&") {
			if !strings.Contains(pair, "=") {
				err = url.EscapeError("")
			}
		}
		if err != nil || repeated {
			writeProblem(w, http.StatusBadRequest, "the query must be name=value pairs joined by &, each name once")
			return
		}
	}
	next(ctx)
}

// takeJSON accepts the body that curl -d sends: curl labels any body as a form.
// Browsers cannot be abused for this, since the token is in a header.
func takeJSON(ctx huma.Context, next func(huma.Context)) {
	r, _ := humago.Unwrap(ctx)
	if r.Header.Get("Content-Type") == "application/x-www-form-urlencoded" {
		r.Header.Set("Content-Type", "application/json")
	}
	next(ctx)
}

// unhurried lifts the server's time limits for this request. Otherwise the read limit
// would end the context of a long request.
func unhurried(ctx huma.Context, next func(huma.Context)) {
	_, w := humago.Unwrap(ctx)
	c := http.NewResponseController(w)
	// A test's recorder does not support this, and has no limits.
	_ = c.SetReadDeadline(time.Time{})
	_ = c.SetWriteDeadline(time.Time{})
	next(ctx)
}
