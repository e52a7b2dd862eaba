package ctl

import (
	"fmt"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"holdfast/test/etcd"
)

// help is what --help says of a command.
type help struct {
	usage    string
	commands map[string]string // and what they do
	flags    map[string]string // and shorthand, type and default
}

var (
	helpCommand = regexp.MustCompile(`^  ([a-z-]+) +(\S.*)$`)
	helpFlag    = regexp.MustCompile(`^ +(-[a-z], )?--([a-z-]+)( [a-zA-Z0-9]+)?(?:   .*)?$`)
	helpDefault = regexp.MustCompile(`\(default .*\)$`)
)

func askHelp(t *testing.T, program string, words ...string) help {
	t.Helper()
	text, err := exec.CommandContext(t.Context(), program, append(words, "--help")...).Output()
	if err != nil {
		t.Fatalf("%q --help: %v", words, err)
	}
	return readHelp(string(text))
}

// readHelp takes the parts of a help out of its sections, each of which has a title at the left.
func readHelp(text string) help {
	h := help{commands: map[string]string{}, flags: map[string]string{}}
	title := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		flag, command := helpFlag.FindStringSubmatch(line), helpCommand.FindStringSubmatch(line)
		switch {
		case line != "" && line[0] != ' ':
			title = line
		case title == "Usage:" && line != "":
			h.usage += strings.TrimSpace(line) + "\n"
		case strings.HasSuffix(title, "Flags:") && flag != nil && flag[2] != "help":
			h.flags[flag[2]] = flag[1] + flag[3] + helpDefault.FindString(line)
		case (strings.HasSuffix(title, "ommands") || strings.HasSuffix(title, "ommands:")) && command != nil:
			h.commands[command[1]] = command[2]
		}
	}
	return h
}

// onlyOurs are the commands and flags that etcd's tool does not have.
var onlyOurs = []string{"pki", "check latency", "check tls", "endpoint health --repeat", "--compat"}

// TestHelp holds the help of each command of etcd's tool against ours: its usage, its flags with their types and defaults, the commands
// below it and what is said of each.
func TestHelp(t *testing.T) {
	theirs, own := etcd.Binary(t, "etcdctl"), oursAsEtcdctl(t)
	compared := 0
	var compare func(words []string)
	compare = func(words []string) {
		want, got := askHelp(t, theirs, words...), askHelp(t, own, words...)
		at := strings.Join(words, " ")
		compared++
		if want.usage != strings.Replace(got.usage, " [exec-command arg1 arg2 ...]]", "]", 1) && at == "elect" || want.usage != got.usage && at != "elect" {
			t.Errorf("%s: usage\n%swant\n%s", at, got.usage, want.usage)
		}
		compareNames(t, at, want.flags, got.flags, "--")
		compareNames(t, at, want.commands, got.commands, "")
		for name := range want.commands {
			if at == "" || want.commands[name] != "" {
				compare(append(slices.Clone(words), name))
			}
		}
	}
	compare(nil)
	if compared < 50 {
		t.Errorf("%d helps compared", compared)
	}
	options := func(program string) help {
		text, err := exec.CommandContext(t.Context(), program, "options").Output()
		if err != nil {
			t.Fatal(err)
		}
		return readHelp("Flags:\n" + strings.SplitN(string(text), "\n", 2)[1])
	}
	compareNames(t, "", options(theirs).flags, options(own).flags, "--")
	if n := len(options(theirs).flags); n < 20 {
		t.Errorf("%d global flags", n)
	}
}

func compareNames(t *testing.T, at string, want, got map[string]string, before string) {
	t.Helper()
	for name := range maps.Keys(want) {
		if g, found := got[name]; !found || g != want[name] {
			t.Errorf("%s %s%s: %q (there: %t), want %q", at, before, name, g, found, want[name])
		}
	}
	for name := range maps.Keys(got) {
		if _, found := want[name]; !found && !slices.Contains(onlyOurs, strings.TrimSpace(fmt.Sprintf("%s %s%s", at, before, name))) {
			t.Errorf("%s %s%s: etcd's tool has none", at, before, name)
		}
	}
}
