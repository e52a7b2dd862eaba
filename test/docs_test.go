package test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// quoted is a path in a document that names a file of the tree, perhaps several by a pattern.
var quoted = regexp.MustCompile("`([a-zA-Z0-9_.*-]+(?:/[a-zA-Z0-9_.*-]+)+\\.(?:go|md|txt|yml|proto))`")

// TestPaths looks for the files that documents send their readers to, from the root or from where the document lies.
func TestPaths(t *testing.T) {
	found := 0
	for _, doc := range documents(t) {
		for _, m := range quoted.FindAllStringSubmatch(read(t, doc), -1) {
			found++
			if !slices.ContainsFunc([]string{"..", filepath.Dir(doc)}, func(dir string) bool {
				names, err := filepath.Glob(filepath.Join(dir, m[1]))
				return err == nil && len(names) > 0
			}) {
				t.Errorf("%s names %s, which is not there", doc, m[1])
			}
		}
	}
	if found == 0 {
		t.Error("no document names a file: the test looks for them in a wrong way")
	}
}

// documents are the paths of those that describe the tree.
func documents(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"../*.md", "../docs/*.md"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, names...)
	}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != ".." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case d.Name() == "DESIGN.md":
			all = append(all, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// folder is one in the first column of the table of ARCHITECTURE.md.
var folder = regexp.MustCompile("`([a-z0-9]+(?:/[a-z0-9]+)*)/`")

// TestFolders holds the table of folders against the tree: each is there, and each package has its own or that of what it lies in.
func TestFolders(t *testing.T) {
	_, table, ok := strings.Cut(read(t, "../ARCHITECTURE.md"), "\n| folder | is |\n")
	if !ok {
		t.Fatal("ARCHITECTURE.md has no table of folders")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	named := map[string]bool{}
	for line := range strings.Lines(table) {
		first, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|")
		for _, m := range folder.FindAllStringSubmatch(first, -1) {
			named[m[1]] = true
			if info, err := os.Stat(filepath.Join("..", m[1])); err != nil || !info.IsDir() {
				t.Errorf("ARCHITECTURE.md names the folder %s, which is not there", m[1])
			}
		}
	}
	for _, p := range list(t) {
		if name := short(p.ImportPath); name != "holdfast" && !within(named, name) {
			t.Errorf("ARCHITECTURE.md has no line for the folder %s, nor for one around it", name)
		}
	}
}

// within tells whether a folder or one around it is in the set.
func within(set map[string]bool, name string) bool {
	for ; name != "."; name = filepath.Dir(name) {
		if set[name] {
			return true
		}
	}
	return false
}
