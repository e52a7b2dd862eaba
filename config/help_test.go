package config

import (
	"bytes"
	"log/slog"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"holdfast/util/jsonlog"
)

// Goal: the help has every flag of etcd's help, under the same heading, and no other but our own. Method: compare with the names and
// headings of etcd 3.7's help. Two names that etcd prints without defining them are left out of the list.
func TestHelpHasEtcdsFlagsAndGroups(t *testing.T) {
	want := map[string]string{}
	for line := range strings.Lines(read(t, "help-3.7.txt")) {
		name, group, _ := strings.Cut(strings.TrimSpace(line), "\t")
		want[name] = group
	}
	heading := regexp.MustCompile(`^(\S.*):$`)
	entry := regexp.MustCompile(`^  --(\S+) '(.*)'$`)
	group, got := "", map[string]string{}
	lines := strings.Split(Help(), "\n")
	for i, line := range lines {
		if m := heading.FindStringSubmatch(line); m != nil {
			group = m[1]
		}
		if m := entry.FindStringSubmatch(line); m != nil {
			got[m[1]] = group
			if !strings.HasPrefix(lines[i+1], "    ") || strings.TrimSpace(lines[i+1]) == "" {
				t.Errorf("--%s has no explanation", m[1])
			}
		}
	}
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("--%s is under %q, in etcd under %q", name, got[name], want[name])
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok && byName[name].Since != own {
			t.Errorf("--%s is not in etcd's help", name)
		}
	}
}

// Goal: the help shows the defaults that hold. Method: each default that is shown is given as a flag and changes nothing.
func TestHelpShowsRealDefaults(t *testing.T) {
	usual, _, err := Parse(Sources{})
	if err != nil {
		t.Fatal(err)
	}
	fs := newParser(Sources{}).fs
	for _, f := range Table() {
		v := f.shown(fs)
		if f.Group == "" || v == "" || f.Name == "data-dir" || f.Name == "listen-client-urls" {
			continue // the last needs another flag beside it
		}
		if f.Name == "watch-progress-notify-interval" {
			continue // 0 stands for it
		}
		got, _, err := Parse(Sources{Args: []string{"--" + f.Name + "=" + v}})
		if err != nil || !reflect.DeepEqual(got, usual) {
			t.Errorf("--%s=%s: %v\n%s", f.Name, v, err, diff(got, usual))
		}
	}
	for flag, want := range map[string]string{"grpc-keepalive-interval": "2h", "compact-hash-check-time": "1m", "corrupt-check-time": "0s",
		"warning-apply-duration": "100ms", "max-concurrent-streams": "4294967295", "name": "default"} {
		if got := byName[flag].shown(fs); got != want {
			t.Errorf("--%s shows %q, want %q", flag, got, want)
		}
	}
}

func TestUsageNamesTheProgram(t *testing.T) {
	_, _, err := Parse(Sources{Program: "holdfast", Args: []string{"--nope"}})
	stop, ok := err.(*Stop)
	if !ok || !strings.Contains(stop.Stderr, "  holdfast [flags]\n") || strings.Contains(stop.Stderr, "PROGRAM") {
		t.Errorf("%v", err)
	}
}

func TestNotesAreLogged(t *testing.T) {
	var b bytes.Buffer
	out := jsonlog.NewOutputs(&b, slog.LevelInfo)
	notes := Notes{{slog.LevelWarn, "one", []slog.Attr{slog.String("a", "b")}}, {jsonlog.LevelFatal, "two", nil}}
	notes.Log(t.Context(), slog.New(jsonlog.NewHandler(out, out, jsonlog.JSON)))
	for _, want := range []string{`{"level":"warn",`, `"msg":"one","a":"b"}`, `{"level":"fatal",`} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%s is not in\n%s", want, b.String())
		}
	}
}

// Goal: whatever a file holds, reading it ends with settings or a *Stop, never a panic.
func FuzzFile(f *testing.F) {
	for _, seed := range []string{"name: a", "{", "client-transport-security: {cert-file: [1]}", "cors: ','", "feature-gates: a=b",
		"log-outputs: []", "heartbeat-interval: 18446744073709551615", "discovery-config: {client: {secure: 1}}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		c, _, err := Parse(Sources{Args: []string{"--config-file=x"}, ReadFile: contents(string(content))})
		if _, ok := err.(*Stop); err != nil && !ok {
			t.Fatalf("error of type %T", err)
		}
		if err == nil && (c.DataDir == "" || c.ElectionTicks() < electionBeats) {
			t.Fatalf("settings that cannot be: %+v", c)
		}
	})
}
