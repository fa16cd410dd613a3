package config

import (
	"embed"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// profiles are fragments of configuration files, one for each regulation that
// is built in: figures, time zone and the words that users are told.
//
//go:embed profiles/*.yaml
var profiles embed.FS

// Profiles lists the built-in profiles.
func Profiles() []string {
	entries, err := profiles.ReadDir("profiles")
	if err != nil {
		panic(fmt.Sprintf("config: built-in profiles: %v", err)) // they are part of the program
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), ".yaml")
	}
	return names
}

func isProfile(name string) bool { return slices.Contains(Profiles(), name) }

// apply lays a profile over the defaults.
func (c *Config) apply(profile string) {
	data, err := profiles.ReadFile("profiles/" + profile + ".yaml")
	if err != nil {
		panic(fmt.Sprintf("config: built-in profile %s: %v", profile, err))
	}
	s := newSource("profiles/"+profile+".yaml", data)
	root := s.tree()
	if root != nil {
		s.decode("", root, reflect.ValueOf(c).Elem())
	}
	if len(s.problems) > 0 {
		panic("config: built-in profile: " + Render(s.problems))
	}
}
