package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestVersionIsTheOneRequired compares version with the requirement in the module that is built.
func TestVersionIsTheOneRequired(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join("module", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "k8s.io/kubernetes v" + version + " "; !strings.Contains(string(mod), want) {
		t.Errorf("module/go.mod does not require %q", want)
	}
}
