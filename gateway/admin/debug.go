package admin

import (
	"bytes"
	"context"
	"net/http"
	"runtime"
	"runtime/pprof"
	"slices"
	"time"

	"congthu/gateway/scope"
)

type profileInput struct {
	Profile string `path:"profile" enum:"allocs,cpu,goroutine,heap,threadcreate" doc:"cpu is what ran, goroutine what is there, heap and allocs what holds memory and what asked for it."`
	Seconds int    `query:"seconds" minimum:"1" maximum:"60" default:"10" doc:"For how long the processor is watched; for cpu only."`
	Text    bool   `query:"text" doc:"Readable text in place of the format of go tool pprof; not for cpu."`
}

// fileOutput is an answer that is not JSON.
type fileOutput struct {
	ContentType string `header:"Content-Type"`
	Body        []byte
}

// profile answers with a profile of the process. Stacks are printed without arguments,
// which could contain anything.
func (s *Server) profile(ctx context.Context, in *profileInput) (*fileOutput, error) {
	var b bytes.Buffer
	out := &fileOutput{ContentType: "application/octet-stream"}
	if in.Profile == "cpu" {
		if err := pprof.StartCPUProfile(&b); err != nil {
			return nil, problem(http.StatusConflict, "a profile of the processor is being taken already")
		}
		select {
		case <-time.After(time.Duration(in.Seconds) * time.Second):
		case <-ctx.Done():
		}
		pprof.StopCPUProfile()
		out.Body = b.Bytes()
		return out, nil
	}
	format := 0
	if in.Text {
		format, out.ContentType = 1, "text/plain; charset=utf-8"
	}
	if in.Profile == "heap" {
		runtime.GC() // the heap as it is now, and not at the latest collection
	}
	if err := pprof.Lookup(in.Profile).WriteTo(&b, format); err != nil {
		return nil, s.debugFailed("profile", err)
	}
	out.Body = b.Bytes()
	return out, nil
}

type bundleInput struct {
	Names bool `query:"names" doc:"Names of people in clear, and the lists of aliases and delegations."`
}

func (s *Server) bundle(ctx context.Context, in *bundleInput) (*fileOutput, error) {
	if s.Bundle == nil {
		return nil, problem(http.StatusNotFound, "there is no support bundle here")
	}
	// A person who examines the process does not need the names of users.
	if in.Names && !slices.Contains(callerOf(ctx).scopes, scope.Read) {
		return nil, problemf(http.StatusForbidden, "names are for tokens with the scope %q as well", scope.Read)
	}
	made, err := s.Bundle(ctx, in.Names)
	if err != nil {
		return nil, s.debugFailed("support bundle", err)
	}
	return &fileOutput{ContentType: "application/gzip", Body: made}, nil
}

func (s *Server) debugFailed(doing string, err error) error {
	s.log().Error("admin request failed", "doing", doing, "err", err)
	return problem(http.StatusInternalServerError, "internal error; the log says more")
}
