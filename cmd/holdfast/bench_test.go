package main

import (
	"strings"
	"testing"
)

// TestBenchTakesTheEnvironment sets flags from variables, lets the command line win, and refuses what is no number rather than ignoring it.
func TestBenchTakesTheEnvironment(t *testing.T) {
	vars := map[string]string{"ROWS": "put", "ROUNDS": "2", "KEEP": "true", "LIST": "true"}
	f := benchCommand().Flags()
	if err := takeEnvironment(f, func(name string) string { return vars[name] }); err != nil {
		t.Fatal(err)
	}
	if err := f.Parse([]string{"--rounds=7"}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"rows": "put", "rounds": "7", "keep": "true", "list": "false", "etcd": ""} {
		if got := f.Lookup(name).Value.String(); got != want {
			t.Errorf("--%s is %q, want %q", name, got, want)
		}
	}
	err := takeEnvironment(benchCommand().Flags(), func(string) string { return "many" })
	if err == nil || !strings.HasPrefix(err.Error(), "KEEP=many") && !strings.HasPrefix(err.Error(), "ROUNDS=many") {
		t.Errorf("ROUNDS=many: %v", err)
	}
}
