package admin

import (
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// problem describes what went wrong (RFC 9457).
func problem(status int, detail string, fields ...*huma.ErrorDetail) *huma.ErrorModel {
	return &huma.ErrorModel{Status: status, Title: http.StatusText(status), Detail: detail, Errors: fields}
}

// field says what is wrong with one field of a request.
func field(location, message string) *huma.ErrorDetail {
	return &huma.ErrorDetail{Location: location, Message: message}
}

// invalid is the problem of a single field.
func invalid(location, message string) *huma.ErrorModel {
	return problem(http.StatusUnprocessableEntity, "validation failed", field(location, message))
}

// advice is a problem that support staff have to tell a user of (RFC 9457 section 3.2
// has such members).
type advice struct {
	*huma.ErrorModel
	adviceMembers
}

type adviceMembers struct {
	TellEN string `json:"tell_en,omitempty" doc:"What to tell the user meanwhile, in English."`
	TellVI string `json:"tell_vi,omitempty" doc:"The same in Vietnamese."`
	// DetailVI is of a problem with one field.
	DetailVI string `json:"detail_vi,omitempty" doc:"What is wrong, in Vietnamese."`
}

// documentAdvice puts the members of an advice into the schema of problems: huma knows one
// type of these.
func documentAdvice(api huma.API) {
	all := api.OpenAPI().Components.Schemas
	problems := all.Map()["ErrorModel"]
	for name, member := range huma.SchemaFromType(all, reflect.TypeFor[adviceMembers]()).Properties {
		problems.Properties[name] = member
	}
}

// unavailable asks the caller to come back.
func unavailable(detail string) error {
	return comeBack(problem(http.StatusServiceUnavailable, detail))
}

func comeBack(err error) error {
	return huma.ErrorWithHeaders(err, http.Header{"Retry-After": {"5"}})
}

// discreet is a huma.Transformer. It takes out of an answer what the caller sent
// and what only the operator should read: huma repeats rejected values, the names
// of unknown fields and the messages of decoders.
func discreet(ctx huma.Context, _ string, body any) (any, error) {
	m, ok := body.(*huma.ErrorModel)
	if !ok { // advice is made of our own words
		return body, nil
	}
	clean := problem(m.Status, m.Detail)
	switch {
	case m.Status == http.StatusInternalServerError:
		clean.Detail = "internal error; the log says more"
		return clean, nil
	case m.Status == http.StatusUnsupportedMediaType:
		clean.Detail = "the body must be application/json"
		return clean, nil
	}
	op := ctx.Operation()
	for _, d := range m.Errors {
		clean.Errors = append(clean.Errors, discreetDetail(op, d))
	}
	return clean, nil
}

func discreetDetail(op *huma.Operation, d *huma.ErrorDetail) *huma.ErrorDetail {
	part, name, _ := strings.Cut(d.Location, ".")
	name, _, _ = strings.Cut(name, "[") // element of a list
	known := fields(op, part)
	switch {
	case name == "" && part == "body":
		// The body as a whole: what huma says of its shape is ours, what a
		// decoder says of it quotes it.
		if strings.HasPrefix(d.Message, "expected ") {
			return field("body", d.Message)
		}
		return field("body", "is not the JSON that is expected: an object of "+strings.Join(known, ", "))
	case contains(known, name):
		return field(part+"."+name, d.Message)
	case len(known) == 0:
		return field(part, "takes nothing here")
	}
	return field(part, "has something that is not known here; known: "+strings.Join(known, ", "))
}

// fields are the names that an operation knows in a part of the request.
func fields(op *huma.Operation, part string) (names []string) {
	if part == "body" && op.RequestBody != nil {
		return op.Metadata["body"].([]string)
	}
	for _, p := range op.Parameters {
		if p.In == part {
			names = append(names, p.Name)
		}
	}
	return names
}

func contains(names []string, name string) bool {
	for _, n := range names {
		if n == name && n != "" {
			return true
		}
	}
	return false
}
