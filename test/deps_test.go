package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write modules.txt anew")

// rules are what deps.txt says.
type rules struct {
	own     map[string][]string // package -> what it may import
	foreign map[string][]string // path of a library -> packages that may import it
}

func readRules(t *testing.T) rules {
	t.Helper()
	text, err := os.ReadFile("deps.txt")
	if err != nil {
		t.Fatal(err)
	}
	r := rules{own: map[string][]string{}, foreign: map[string][]string{}}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		line := strings.TrimSpace(s.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, may, found := strings.Cut(line, ":")
		if !found {
			t.Fatalf("deps.txt: %q has no colon", line)
		}
		if path, is := strings.CutPrefix(name, "foreign "); is {
			r.foreign[path] = strings.Fields(may)
			continue
		}
		r.own[name] = strings.Fields(may)
	}
	return r
}

// may tells whether pkg may import other, following "...".
func (r rules) may(pkg, other string) bool {
	for _, name := range r.own[pkg] {
		base, all := strings.CutSuffix(name, "...")
		if base == other || (all && r.may(base, other)) {
			return true
		}
	}
	return false
}

// home finds the rule for a foreign import: that of the longest path that contains it.
func (r rules) home(path string) (rule string, ok bool) {
	for lib := range r.foreign {
		if (path == lib || strings.HasPrefix(path, lib+"/")) && len(lib) > len(rule) {
			rule, ok = lib, true
		}
	}
	return rule, ok
}

// pkg is what the go tool says of one package.
type pkg struct {
	ImportPath string
	Doc        string
	Imports    []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	// Built by a profile, what a command imports would have names of its own.
	cmd := exec.Command("go", "list", "-pgo=off", "-json=ImportPath,Doc,Imports", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func short(path string) string {
	if path == "holdfast" {
		return path
	}
	return strings.TrimPrefix(path, "holdfast/")
}

// TestImports compares the imports of every package with deps.txt, and asks for a package comment.
func TestImports(t *testing.T) {
	r := readRules(t)
	for _, p := range list(t) {
		name := short(p.ImportPath)
		if _, known := r.own[name]; !known {
			t.Errorf("package %s has no line in test/deps.txt: say there what it may import", name)
			continue
		}
		if p.Doc == "" {
			t.Errorf("package %s has no comment: say in one sentence what it is for, in doc.go if there are only tests", name)
		}
		for _, path := range p.Imports {
			if path == "holdfast" || strings.HasPrefix(path, "holdfast/") {
				if other := short(path); !r.may(name, other) {
					t.Errorf("%s imports %s: dependencies point down (test/deps.txt); let %s declare the interface it needs and the package above join the two", name, other, name)
				}
				continue
			}
			if lib, ok := r.home(path); ok && !slices.Contains(r.foreign[lib], name) {
				t.Errorf("%s imports %s, which is at home in %s (test/deps.txt): ask that package instead", name, path, strings.Join(r.foreign[lib], ", "))
			}
		}
	}
}

// TestModules shows a new module, or a new version, as a change of modules.txt.
func TestModules(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}} {{.Version}}{{end}}", "./cmd/holdfast")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(lines)
	lines = slices.DeleteFunc(slices.Compact(lines), func(s string) bool { return strings.TrimSpace(s) == "" || strings.TrimSpace(s) == "holdfast" })
	got := "# The modules that the binary is built from. Written by: go test ./test -run TestModules -rewrite\n" + strings.Join(lines, "\n") + "\n"
	if *rewrite {
		if err := os.WriteFile("modules.txt", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile("modules.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the binary is built from other modules than test/modules.txt says; if that is wanted, run: go test ./test -run TestModules -rewrite\n%s", got)
	}
}
