package config

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

const samplePath = "../docs/holdfast.conf.yml"

// TestSample: the sample file has every key with its default, and what it says is what a start without settings does. It is
// generated from the table; -rewrite writes it.
func TestSample(t *testing.T) {
	want := sampleFile(t)
	if rewriting() {
		if err := os.WriteFile(samplePath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(samplePath)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != want {
		t.Errorf("%s is not what the table says; run go test ./config -run TestSample -rewrite", samplePath)
	}
	got, notes, err := Parse(Sources{Args: []string{"--config-file=" + samplePath}, ReadFile: contents(string(text))})
	if err != nil {
		t.Fatal(err)
	}
	plain, _, err := Parse(Sources{})
	if err != nil {
		t.Fatal(err)
	}
	got.ConfigFile = ""
	if !reflect.DeepEqual(got, plain) {
		t.Errorf("the sample says something else than the defaults:\n%s", diff(got, plain))
	}
	if strings.Contains(notes.String(), "no effect") {
		t.Errorf("a key of the sample has no effect:\n%s", notes)
	}
}

// sampleFile writes every place of a file, in the order of the help, each below what it is.
func sampleFile(t *testing.T) string {
	w := sampleWriter{t: t, fs: newParser(Sources{}).fs, written: map[string]bool{}}
	for i := range fileOnly {
		c := Default()
		fileOnly[i].bind.register(w.fs, fileOnly[i].Name, &c)
	}
	w.b.WriteString(`# Every key of a configuration file (--config-file) with its default. A key without a value is as one that is not there.
# With a file, flags and variables do not count. Durations are nanoseconds: 600000000000 is ten minutes.
`)
	for _, group := range groups {
		fmt.Fprintf(&w.b, "\n# %s\n\n", group)
		w.keys("", func(f *Flag) bool { return f.Group == group })
	}
	return w.b.String()
}

type sampleWriter struct {
	t       *testing.T
	b       strings.Builder
	fs      *flag.FlagSet
	written map[string]bool // maps
}

// keys writes what is below a prefix of places. A map stands where the first of its keys is chosen, with all of them.
func (w *sampleWriter) keys(prefix string, chosen func(*Flag) bool) {
	indent := strings.Repeat("  ", strings.Count(prefix, "."))
	for _, rows := range [][]Flag{table, fileOnly} {
		for i := range rows {
			f := &rows[i]
			rest, below := strings.CutPrefix(f.place(), prefix)
			if !below || f.Kind != Live || f.file == noFile || !chosen(f) {
				continue
			}
			name, _, isMap := strings.Cut(rest, ".")
			if !isMap {
				for text := range strings.Lines(f.usage()) {
					fmt.Fprintf(&w.b, "%s# %s\n", indent, strings.TrimSpace(text))
				}
				fmt.Fprintf(&w.b, "%s%s\n", indent, strings.TrimRight(name+": "+fileText(w.t, f, w.fs.Lookup(f.Name).DefValue), " "))
			} else if !w.written[prefix+name] {
				w.written[prefix+name] = true
				fmt.Fprintf(&w.b, "%s%s:\n", indent, name)
				w.keys(prefix+name+".", func(*Flag) bool { return true })
			}
		}
	}
}

// fileText is a flag's default as a file has it.
func fileText(t *testing.T, f *Flag, v string) string {
	if v == "" {
		return ""
	}
	switch f.binding().form {
	case formDuration:
		d, err := time.ParseDuration(v)
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		return fmt.Sprint(int64(d))
	case formList:
		return "[" + strings.ReplaceAll(v, ",", ", ") + "]"
	case formText:
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		return string(text)
	}
	return v
}
