package config

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// versions are etcd's minor versions whose flag names are in testdata, taken from their sources.
var versions = []string{"3.4", "3.5", "3.6", "3.7"}

func names(t *testing.T, file string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(b))
}

// Goal: no flag of any etcd since 3.4 is forgotten, and each row says rightly which versions have it. Method: the rows are
// compared with the names found in etcd's sources, both ways.
func TestTableHasEveryFlagOfEtcd(t *testing.T) {
	has := map[string][]string{}
	for _, v := range versions {
		for _, name := range names(t, "flags-"+v+".txt") {
			has[name] = append(has[name], v)
		}
	}
	rows := map[string]bool{}
	for _, f := range Table() {
		if rows[f.Name] {
			t.Errorf("%s has two rows", f.Name)
		}
		rows[f.Name] = true
		if f.Since == own {
			if has[f.Name] != nil {
				t.Errorf("%s is not ours alone: etcd %v has it", f.Name, has[f.Name])
			}
			continue
		}
		since, until := slices.Index(versions, f.Since), slices.Index(versions, f.Until)
		if f.Until == "" {
			until = len(versions) - 1
		}
		if since < 0 || until < since {
			t.Errorf("%s: since %q until %q", f.Name, f.Since, f.Until)
			continue
		}
		if want := versions[since : until+1]; !slices.Equal(has[f.Name], want) {
			t.Errorf("%s: the row says %v, etcd's sources say %v", f.Name, want, has[f.Name])
		}
	}
	for name, in := range has {
		if !rows[name] {
			t.Errorf("%s of etcd %v has no row", name, in)
		}
	}
}

// Goal: rows are whole. Method: what each kind must say is there.
func TestRowsAreWhole(t *testing.T) {
	for _, f := range Table() {
		inHelp := f.Group != ""
		switch f.Kind {
		case Live, Idle:
			if f.Until != "" || inHelp != (f.Usage != "") || (!inHelp && f.Name != "config-file" && f.Name != "version") {
				t.Errorf("%s: a flag of 3.7 must be in the help", f.Name)
			}
			if (f.Kind == Idle) != (f.Why != "") || (f.Kind == Idle) != strings.HasSuffix(f.Usage, "No effect here.") {
				t.Errorf("%s: Kind, Why and Usage disagree on whether it acts", f.Name)
			}
		case Renamed:
			if target := byName[f.Became]; target == nil || target.Until != "" {
				t.Errorf("%s became %q, which is no flag of 3.7", f.Name, f.Became)
			}
		case Gated:
			if _, ok := gateOf(Feature(f.Became)); !ok {
				t.Errorf("%s became %q, which is no gate", f.Name, f.Became)
			}
		case Ignored, Refused:
			if f.Why == "" || inHelp || (f.Kind == Refused) != (f.asks != nil) {
				t.Errorf("%s: Why, Group and asks do not fit its kind", f.Name)
			}
		}
	}
}

// sample gives a value that is not the default, by what the flag reads.
func sample(f *Flag) string {
	special := map[string]string{
		"initial-cluster-state":     ClusterExisting,
		"auto-compaction-mode":      CompactionRevision,
		"feature-gates":             "PriorityRequest=true",
		"log-format":                "console",
		"log-level":                 "warn",
		"log-rotation-config-json":  `{"maxsize": 7}`,
		"tls-min-version":           "TLS1.3",
		"tls-max-version":           "TLS1.3",
		"cors":                      "http://1.2.3.4:5",
		"discovery-fallback":        fallbackExit,
		"logger":                    loggerZap,
		"v2-deprecation":            "gone",
		"proxy":                     "on",
		"election-timeout":          "2000",
		"heartbeat-interval":        "150",
		"metrics":                   "extensive",
		"cipher-suites":             "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
		"log-outputs":               "stdout",
		"log-output":                "stdout",
		"auto-compaction-retention": "7",
		"memory-limit":              "7MiB",
	}
	if v, ok := special[f.Name]; ok {
		return v
	}
	switch f.binding().form {
	case formTruth:
		if strings.Contains(Help(), "--"+f.target().Name+" 'true'") {
			return "false"
		}
		return "true"
	case formNumber:
		return "7"
	case formDuration:
		return "7m"
	}
	if strings.HasSuffix(f.Name, "-urls") {
		return "http://1.2.3.4:5"
	}
	return "sample"
}

// beside are the flags that another one needs in order to be valid.
func beside(name string) []string {
	switch name {
	case "listen-client-urls":
		return []string{"--advertise-client-urls=http://1.2.3.4:5"}
	case "discovery-token":
		return []string{"--discovery-endpoints=a:1"}
	case "discovery-endpoints":
		return []string{"--discovery-token=t"}
	case "discovery-srv-name":
		return []string{"--discovery-srv=d"}
	case "experimental-enable-lease-checkpoint-persist":
		return []string{"--experimental-enable-lease-checkpoint"}
	case "enable-log-rotation":
		return []string{"--log-outputs=a.log"}
	}
	return nil
}

// Goal: every row does what it says, from the command line, from its variable and from a file. Method: each flag is set to a
// value that is not its default; a live one must change the configuration, an idle or ignored one must leave it and be named
// exactly once, an old name must do what the new one does, a refused one must end the start.
func TestB12EveryRow(t *testing.T) {
	for i := range table {
		f := &table[i]
		if f.Name == "version" || f.Name == "config-file" {
			continue // have tests of their own
		}
		t.Run(f.Name, func(t *testing.T) {
			v := sample(f)
			more := beside(f.Name)
			with := Sources{Args: append([]string{"--" + f.Name + "=" + v}, more...)}
			checkRow(t, f, v, with, Sources{Args: more})

			byVariable := Sources{Args: more, Environ: []string{f.variable() + "=" + v}}
			if f.Kind == Refused { // etcd 3.7 starts with such a variable
				checkPassedOver(t, f, byVariable)
				return
			}
			checkRow(t, f, v, byVariable, Sources{Args: more})
			sameOutcome(t, with, byVariable)
		})
	}
}

func checkRow(t *testing.T, f *Flag, v string, with, without Sources) {
	t.Helper()
	base, _, err := Parse(without)
	if err != nil {
		base, _, _ = Parse(Sources{}) // the flags beside it are not valid alone
	}
	got, notes, err := Parse(with)
	if f.Kind == Refused {
		want := fmt.Sprintf("--%s=%s %s", f.Name, v, f.Why)
		if err == nil || err.Error() != want {
			t.Errorf("%v, want the refusal %q", err, want)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	changed := !reflect.DeepEqual(got, base)
	if want := acts(f); changed != want {
		t.Errorf("changed the configuration: %v, want %v", changed, want)
	}
	var word string
	switch f.Kind {
	case Idle, Ignored:
		word = fmt.Sprintf("flag has no effect flag=%s reason=%s\n", f.Name, f.Why)
	case Renamed:
		word = fmt.Sprintf("flag has a new name flag=%s use=%s\n", f.Name, f.Became)
	case Gated:
		word = fmt.Sprintf("flag became a feature gate flag=%s use=feature-gates=%s=%s\n", f.Name, f.Became, v)
	}
	if n := strings.Count(notes.String(), "="+f.Name+" "); word != "" && (n != 1 || !strings.Contains(notes.String(), word)) {
		t.Errorf("named %d times, want once as %q in\n%s", n, word, notes)
	}
}

func checkPassedOver(t *testing.T, f *Flag, with Sources) {
	t.Helper()
	_, notes, err := Parse(with)
	if word := fmt.Sprintf("flag has no effect flag=%s reason=it %s\n", f.Name, f.Why); err != nil || !strings.Contains(notes.String(), word) {
		t.Errorf("%v, want %q in\n%s", err, word, notes)
	}
}

// acts reports whether a value other than the default changes the configuration.
func acts(f *Flag) bool {
	switch f.Name {
	case "discovery-fallback", "logger": // have one value left
		return false
	case "max-snapshots", "max-wals": // are told in the start-up line
		return true
	}
	return f.target().Kind == Live || f.Kind == Gated
}

func sameOutcome(t *testing.T, a, b Sources) {
	t.Helper()
	first, _, errFirst := Parse(a)
	second, _, errSecond := Parse(b)
	if fmt.Sprint(errFirst) != fmt.Sprint(errSecond) || !reflect.DeepEqual(first, second) {
		t.Errorf("%v and %v differ:\n%s%v, %v", a.Args, b, diff(first, second), errFirst, errSecond)
	}
}

// diff has a line for each field that differs.
func diff(got, want Config) string {
	var b strings.Builder
	g, w := reflect.ValueOf(got), reflect.ValueOf(want)
	for i := range g.NumField() {
		if x, y := g.Field(i).Interface(), w.Field(i).Interface(); !reflect.DeepEqual(x, y) {
			fmt.Fprintf(&b, "%s: got %+v, want %+v\n", g.Type().Field(i).Name, x, y)
		}
	}
	return b.String()
}

// Goal: an old name does exactly what the new one does.
func TestOldNamesEqualNewOnes(t *testing.T) {
	for i := range table {
		f := &table[i]
		v := sample(f)
		var now []string
		switch {
		case f.Kind == Renamed && f.apply == nil:
			now = []string{"--" + f.Became + "=" + v}
		case f.Kind == Renamed:
			now = []string{"--log-level=debug"}
		case f.Kind == Gated:
			now = []string{"--feature-gates=" + f.Became + "=" + v}
			if f.Became == string(LeaseCheckpointPersist) {
				now[0] += ",LeaseCheckpoint=true"
			}
		default:
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			sameOutcome(t, Sources{Args: append([]string{"--" + f.Name + "=" + v}, beside(f.Name)...)}, Sources{Args: now})
		})
	}
}

// Goal: a file sets what a flag sets. Method: the same samples as YAML, at the flag's place.
func TestEveryRowInAFile(t *testing.T) {
	for i := range table {
		f := &table[i]
		if f.file == noFile || f.Kind == Refused || f.Kind == Ignored {
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			v := sample(f)
			more := map[string]any{}
			for _, arg := range append(beside(f.Name), "--"+f.Name+"="+v) {
				name, value, ok := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
				if !ok {
					value = "true"
				}
				put(t, more, byName[name], value)
			}
			content, err := json.Marshal(more)
			if err != nil {
				t.Fatal(err)
			}
			got, _, err := Parse(Sources{Args: []string{"--config-file=x"}, ReadFile: contents(string(content))})
			if err != nil {
				t.Fatalf("%s: %v", content, err)
			}
			want, _, err := Parse(Sources{Args: append([]string{"--" + f.Name + "=" + v}, beside(f.Name)...)})
			if err != nil {
				t.Fatal(err)
			}
			got.ConfigFile = ""
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s differs from the flag:\n%s", content, diff(got, want))
			}
		})
	}
}

func contents(s string) func(string) ([]byte, error) {
	return func(string) ([]byte, error) { return []byte(s), nil }
}

// put writes the value of a flag to its place in a tree of maps.
func put(t *testing.T, tree map[string]any, f *Flag, v string) {
	t.Helper()
	path := []string{f.Name}
	if f.file != "" {
		path = strings.Split(f.file, ".")
	}
	for _, key := range path[:len(path)-1] {
		if tree[key] == nil {
			tree[key] = map[string]any{}
		}
		tree = tree[key].(map[string]any)
	}
	var typed any = v
	switch f.binding().form {
	case formNumber, formTruth:
		typed = json.RawMessage(v)
	case formDuration:
		typed = json.RawMessage("420000000000") // 7m, the sample
	case formList:
		typed = strings.Split(v, ",")
	}
	tree[path[len(path)-1]] = typed
}
