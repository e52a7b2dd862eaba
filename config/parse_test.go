package config

import (
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"holdfast/util/urllist"
)

// Goal: what a command line, an environment or a file leads to, in etcd's words. Method: scripts in testdata/parse. The input
// of `flags` is one argument or NAME=value of the environment a line, that of `file` a configuration file; the output has the
// fields that differ from their defaults, the notes, or how the start ends. `every` sets each live flag alone and shows the
// fields it reaches. Notes that every start without a name, directory
// and quota has are left out.
func TestParse(t *testing.T) {
	datadriven.Walk(t, "testdata/parse", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var src Sources
			switch d.Cmd {
			case "flags":
				for _, line := range strings.Split(d.Input, "\n") {
					if strings.HasPrefix(line, "ETCD") {
						src.Environ = append(src.Environ, line)
					} else if line != "" {
						src.Args = append(src.Args, line)
					}
				}
			case "file":
				src.Args = []string{"--config-file=etcd.yml"}
				src.ReadFile = contents(d.Input)
			case "every":
				return everyField()
			default:
				d.Fatalf(t, "unknown command %s", d.Cmd)
			}
			if d.HasArg("host") {
				var host string
				d.ScanArgs(t, "host", &host)
				src.DefaultHost = func() (string, error) { return host, nil }
			}
			return outcome(src)
		})
	})
}

func outcome(src Sources) string {
	var b strings.Builder
	c, notes, err := Parse(src)
	var stop *Stop
	if errors.As(err, &stop) {
		notes = append(notes, stop.Notes...)
	} else {
		showFields(&b, "", reflect.ValueOf(c), reflect.ValueOf(Default()))
	}
	for line := range strings.Lines(notes.String()) {
		if !everyday(line) {
			b.WriteString(strings.Replace(line, "ERROR+8", "FATAL", 1))
		}
	}
	if stop != nil {
		fmt.Fprintf(&b, "exit %d\n", stop.Code)
		if text := strings.TrimSuffix(stop.Stderr, Usage("etcd")+"\n"); text != stop.Stderr {
			fmt.Fprintf(&b, "stderr: %s<usage>\n", text)
		}
		switch {
		case stop.Stdout == Help()+"\n":
			b.WriteString("stdout: <help>\n")
		case stop.Stdout != "":
			first, _, _ := strings.Cut(stop.Stdout, "\n")
			fmt.Fprintf(&b, "stdout: %s...\n", first)
		}
	}
	return b.String()
}

func everyField() string {
	var b strings.Builder
	for i := range table {
		f := &table[i]
		if f.Kind != Live || f.Group == "" {
			continue
		}
		c, _, err := Parse(Sources{Args: append([]string{"--" + f.Name + "=" + sample(f)}, beside(f.Name)...)})
		if err != nil {
			fmt.Fprintf(&b, "%s: %v\n", f.Name, err)
			continue
		}
		var fields strings.Builder
		showFields(&fields, "", reflect.ValueOf(c), reflect.ValueOf(Default()))
		fmt.Fprintf(&b, "%s -> %s\n", f.Name, strings.ReplaceAll(strings.TrimSpace(fields.String()), "\n", ", "))
	}
	return b.String()
}

func everyday(note string) bool {
	for _, msg := range []string{"it isn't recommended to use default name", "'data-dir' was empty", "enabled backend quota with default value",
		"loaded server configuration"} {
		if strings.Contains(note, msg) {
			return true
		}
	}
	return false
}

func showFields(b *strings.Builder, prefix string, got, usual reflect.Value) {
	for i := range got.NumField() {
		name := prefix + got.Type().Field(i).Name
		g, u := got.Field(i), usual.Field(i)
		if name == "DataDir" && g.String() == "default.etcd" || name == "ConfigFile" {
			continue
		}
		if _, isGates := g.Interface().(Gates); g.Kind() == reflect.Struct && !isGates {
			showFields(b, name+".", g, u)
			continue
		}
		if reflect.DeepEqual(g.Interface(), u.Interface()) || (g.Kind() == reflect.Slice && g.Len()+u.Len() == 0) {
			continue
		}
		if list, ok := g.Interface().([]url.URL); ok {
			fmt.Fprintf(b, "%s: %v\n", name, urllist.Texts(list))
		} else if text := fmt.Sprint(g.Interface()); text != "" || g.Kind() == reflect.String {
			fmt.Fprintf(b, "%s: %s\n", name, text)
		}
	}
}
