package admin

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"congthu/auth"
)

// Rules are the settings that all gateways on one store share.
type Rules struct {
	Shared          bool              `json:"shared" doc:"Whether other gateways may use the store: PostgreSQL. If not, the settings are those in force."`
	Settings        []Setting         `json:"settings" nullable:"false" doc:"What is agreed on."`
	Differences     []auth.Difference `json:"differences,omitempty" doc:"Where this gateway works by something else."`
	FileDifferences []auth.Difference `json:"file_differences,omitempty" doc:"Where this gateway's configuration file has something else: what an adoption would change."`
	FileError       string            `json:"file_error,omitempty" doc:"Why the file cannot be read."`
}

// Setting is one of the shared settings.
type Setting struct {
	Name  string `json:"name" doc:"Its path in the configuration."`
	Value string `json:"value" doc:"A scalar, or a JSON array of strings."`
}

// SettingsOf lists settings in the order of their names.
func SettingsOf(a auth.Agreement) []Setting {
	list := make([]Setting, 0, len(a))
	for _, name := range slices.Sorted(maps.Keys(a)) {
		list = append(list, Setting{name, a[name]})
	}
	return list
}

// ErrConfiguration reports an invalid configuration file.
var ErrConfiguration = errors.New("the configuration file of this gateway cannot be put into force")

var errNoRules = problem(http.StatusConflict, "nothing to do: this gateway agrees with no other on rules")

type rulesOutput struct{ Body Rules }

func (s *Server) showRules(ctx context.Context, _ *struct{}) (*rulesOutput, error) {
	if s.ShowRules == nil {
		return nil, errNoRules
	}
	r, err := s.ShowRules(ctx)
	if err != nil {
		return nil, s.rulesFailed("show rules", err)
	}
	return &rulesOutput{r}, nil
}

type adoptRulesInput struct {
	Body struct {
		Reason string `json:"reason" minLength:"3" maxLength:"500" doc:"Why; an auditor will read it. One line of 3 to 500 characters."`
	}
}

func (s *Server) adoptRules(ctx context.Context, in *adoptRulesInput) (*rulesOutput, error) {
	if s.AdoptRules == nil {
		return nil, errNoRules
	}
	reason, ok := tidyReason(in.Body.Reason)
	if !ok {
		return nil, badReason()
	}
	who := callerOf(ctx)
	// An act that has begun is finished.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	r, err := s.AdoptRules(ctx, auth.Act{Actor: who.actor, Source: who.source, Reason: reason})
	if err != nil {
		return nil, s.rulesFailed("adopt rules", err)
	}
	return &rulesOutput{r}, nil
}

func (s *Server) rulesFailed(doing string, err error) error {
	switch {
	case errors.Is(err, auth.ErrNothingToDo):
		return problem(http.StatusConflict, err.Error()).vi(inVietnamese("nothing to do"))
	case errors.Is(err, ErrConfiguration):
		// The mistakes in the file follow, as `check` prints them.
		return problem(http.StatusConflict, err.Error()).vi(inVietnamese(ErrConfiguration.Error()) + strings.TrimPrefix(err.Error(), ErrConfiguration.Error()))
	case errors.Is(err, auth.ErrAgreementVersion):
		return problem(http.StatusConflict, err.Error()).vi(inVietnamese(auth.ErrAgreementVersion.Error()))
	}
	return s.storeFailed(doing, err)
}
