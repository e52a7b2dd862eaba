package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// silent are the fields of config.Config that nothing here acts on, with the reason.
var silent = map[string]string{
	"ConfigFile":   "has been read",
	"MaxSnapshots": "without effect, which the start says",
	"MaxWALs":      "without effect, which the start says",
}

// parseFiles reads the sources of a folder, without tests.
func parseFiles(t *testing.T, pattern string) (files []*ast.File) {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}

// selected adds the names behind a dot within a piece of source.
func selected(in ast.Node, to map[string]bool) {
	ast.Inspect(in, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			to[s.Sel.Name] = true
		}
		return true
	})
}

// TestNoSettingIsSilent reads the sources: every field of the configuration is used where a member is made of it, by this package
// or by a method of the configuration that it calls. That it is shown in the start-up line does not count.
func TestNoSettingIsSilent(t *testing.T) {
	used := map[string]bool{}
	for _, file := range parseFiles(t, "*.go") {
		selected(file, used)
	}
	methods, fields := map[string]*ast.FuncDecl{}, map[string][]string{} // of types, by name
	for _, file := range parseFiles(t, "../../config/*.go") {
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv != nil && f.Name.Name != "Echo" {
				methods[f.Name.Name] = f
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				if s, ok := spec.Type.(*ast.StructType); ok {
					for _, field := range s.Fields.List {
						for _, name := range field.Names {
							fields[spec.Name.Name] = append(fields[spec.Name.Name], name.Name)
						}
					}
				}
			}
			return true
		})
	}
	for range methods { // methods may call each other
		for name, f := range methods {
			if used[name] {
				selected(f.Body, used)
			}
		}
	}
	found := 0
	for _, of := range []string{"Config", "TLS", "Discovery", "Tracing"} {
		for _, name := range fields[of] {
			found++
			if used[name] == (silent[name] != "") {
				t.Errorf("%s.%s: used %t, and the list of silent settings says %q", of, name, used[name], silent[name])
			}
		}
	}
	if found < 80 {
		t.Errorf("found %d settings only: the search looks in the wrong place", found)
	}
}
