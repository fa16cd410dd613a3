package admin

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// problemModel describes a problem (RFC 9457) in English and, if the text is ours and
// not a library's, in Vietnamese (RFC 9457 section 3.2 permits extension members).
type problemModel struct {
	huma.ErrorModel
	DetailVI string          `json:"detail_vi,omitempty"`
	Errors   []*problemField `json:"errors,omitempty"`
}

// problemField describes the mistake in one field of a request.
type problemField struct {
	huma.ErrorDetail
	MessageVI string `json:"message_vi,omitempty"`
}

// problem returns a problem whose detail is a text of [problemTexts].
func problem(status int, detail string, fields ...*problemField) *problemModel {
	return &problemModel{
		ErrorModel: huma.ErrorModel{Status: status, Title: http.StatusText(status), Detail: detail},
		DetailVI:   inVietnamese(detail), Errors: fields,
	}
}

// problemf is problem for a text with arguments.
func problemf(status int, format string, args ...any) *problemModel {
	f := field("", format, args...)
	return problem(status, f.Message).vi(f.MessageVI)
}

// vi sets the Vietnamese text of the detail, or of the only field.
func (p *problemModel) vi(text string) *problemModel {
	if len(p.Errors) == 1 {
		p.Errors[0].MessageVI = text
	} else {
		p.DetailVI = text
	}
	return p
}

// and appends a sentence, a text of [problemTexts].
func (p *problemModel) and(text string) *problemModel {
	p.Detail += " " + text
	p.DetailVI += " " + inVietnamese(text)
	return p
}

// plain is field for a text without arguments that is listed elsewhere.
func plain(location, message string) *problemField {
	return &problemField{ErrorDetail: huma.ErrorDetail{Location: location, Message: message}, MessageVI: inVietnamese(message)}
}

// field describes the mistake in one field of a request, with a text of [problemTexts].
func field(location, format string, args ...any) *problemField {
	return &problemField{ErrorDetail: huma.ErrorDetail{Location: location, Message: fmt.Sprintf(format, args...)}, MessageVI: inVietnamese(format, args...)}
}

// invalid returns the problem of a single field.
func invalid(location, format string, args ...any) *problemModel {
	return problem(http.StatusUnprocessableEntity, "validation failed", field(location, format, args...))
}

// advice is a problem with a text that support staff should pass on to the user (RFC
// 9457 section 3.2 permits such members).
type advice struct {
	*problemModel
	adviceMembers
}

type adviceMembers struct {
	TellEN string `json:"tell_en,omitempty" doc:"What to tell the user meanwhile, in English."`
	TellVI string `json:"tell_vi,omitempty" doc:"The same in Vietnamese."`
}

// documentAdvice adds the members of advice to the schema of problems: huma knows only
// one type of problem.
func documentAdvice(api huma.API) {
	all := api.OpenAPI().Components.Schemas
	problems := all.Map()["ErrorModel"]
	for name, member := range huma.SchemaFromType(all, reflect.TypeFor[adviceMembers]()).Properties {
		problems.Properties[name] = member
	}
}

// unavailable asks the caller to try again later.
func unavailable(format string, args ...any) error {
	return comeBack(problemf(http.StatusServiceUnavailable, format, args...))
}

// comeBack adds the time after which to try again.
func comeBack(err error) error {
	return huma.ErrorWithHeaders(err, http.Header{"Retry-After": {"5"}})
}

// bothLanguages is an error in both languages.
type bothLanguages struct{ en, vi string }

func (b *bothLanguages) Error() string { return b.en }

// Vietnamese returns the Vietnamese text of the error.
func (b *bothLanguages) Vietnamese() string { return b.vi }

// explained returns an error whose text is one of [problemTexts].
func explained(format string, args ...any) error {
	return &bothLanguages{field("", format, args...).Message, inVietnamese(format, args...)}
}

// discreet is a huma.Transformer. It removes from an answer what the caller sent and
// what only the operator should read: huma repeats rejected values, the names of
// unknown fields and the messages of decoders.
func discreet(ctx huma.Context, _ string, body any) (any, error) {
	var m *problemModel
	switch found := body.(type) {
	case *problemModel:
		m = found
	case *huma.ErrorModel: // huma's own
		m = problem(found.Status, found.Detail)
		for _, d := range found.Errors {
			m.Errors = append(m.Errors, plain(d.Location, d.Message))
		}
	default: // advice consists of our own words
		return body, nil
	}
	clean := problem(m.Status, m.Detail)
	clean.DetailVI = m.DetailVI
	switch {
	case m.Status == http.StatusInternalServerError:
		return problem(m.Status, "internal error; the log says more"), nil
	case m.Status == http.StatusUnsupportedMediaType:
		return problem(m.Status, "the body must be application/json"), nil
	}
	op := ctx.Operation()
	for _, d := range m.Errors {
		clean.Errors = append(clean.Errors, discreetDetail(op, d))
	}
	return clean, nil
}

func discreetDetail(op *huma.Operation, d *problemField) *problemField {
	part, name, _ := strings.Cut(d.Location, ".")
	name, _, _ = strings.Cut(name, "[") // an element of a list
	known := fields(op, part)
	switch {
	case name == "" && part == "body":
		// The body as a whole: huma's text about its shape is safe, but a decoder's
		// text quotes the body.
		if strings.HasPrefix(d.Message, "expected ") {
			return plain("body", d.Message)
		}
		return field("body", "is not the JSON that is expected: an object of %s", strings.Join(known, ", "))
	case contains(known, name):
		f := plain(part+"."+name, d.Message)
		f.MessageVI = d.MessageVI
		return f
	case len(known) == 0:
		return field(part, "takes nothing here")
	}
	return field(part, "has something that is not known here; known: %s", strings.Join(known, ", "))
}

// fields returns the names that an operation knows in a part of the request.
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
