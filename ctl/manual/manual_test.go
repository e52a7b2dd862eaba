package manual

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"holdfast/ctl"
	"holdfast/ctl/utl"
)

var rewrite = flag.Bool("rewrite", false, "write docs/commands.md and docs/man anew")

var exitCodes = [][2]string{
	{"0", "it worked"}, {"1", "it did not: the server, the file or the command said no"}, {"2", "no client could be made, or a question about a lease failed"},
	{"3", "standard input holds what cannot be read"}, {"4", "a flag has a value that there is not"}, {"5", "the server ended a watch"},
	{"6", "the answer could not be written"}, {"128", "arguments or flags do not fit together"},
}

// pages are the files and who writes them.
func pages() map[string]func(io.Writer) error {
	client, files := ctl.Command(ctl.System("holdfast ctl", nil)), utl.Command(false)
	return map[string]func(io.Writer) error{
		"commands.md": func(w io.Writer) error { return Markdown(w, client, files) },
		"man/holdfast-ctl.1": func(w io.Writer) error {
			return Man(w, client, About{Alias: "etcdctl", Exit: exitCodes, See: []string{"holdfast-utl(1)"},
				Env: "Each option of every command has a variable: ETCDCTL_ENDPOINTS stands for --endpoints, ETCDCTL_DIAL_TIMEOUT for --dial-timeout. " +
					"A variable and its option at once are refused. ETCDCTL_WATCH_KEY and ETCDCTL_WATCH_RANGE_END stand for the arguments of watch. " +
					"ETCDCTL_API, which older tools needed, is accepted in silence."})
		},
		"man/holdfast-utl.1": func(w io.Writer) error {
			return Man(w, files, About{Alias: "etcdutl", Exit: [][2]string{exitCodes[0], exitCodes[1], exitCodes[4], exitCodes[7]}, See: []string{"holdfast-ctl(1)"}})
		},
	}
}

// TestPagesAreFresh: the pages say what the commands say. They are generated; -rewrite writes them (make manual).
func TestPagesAreFresh(t *testing.T) {
	for name, write := range pages() {
		path := filepath.Join("..", "..", "docs", filepath.FromSlash(name))
		var want, again bytes.Buffer
		if err := errors.Join(write(&want), write(&again)); err != nil {
			t.Fatal(err)
		}
		if want.String() != again.String() {
			t.Errorf("%s differs from one writing to the next", name)
		}
		if *rewrite {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, want.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		have, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(have, want.Bytes()) {
			t.Errorf("docs/%s is not what the commands say: make manual", name)
		}
	}
}

// TestEveryCommandHasAnExample, and says in a sentence what it does.
func TestEveryCommandHasAnExample(t *testing.T) {
	for _, root := range []*cobra.Command{ctl.Command(ctl.System("holdfast ctl", nil)), utl.Command(false)} {
		for _, e := range entries(root) {
			if e.example == "" || e.text == "" {
				t.Errorf("%s: no example, or no text", e.path)
			}
			if e.example != "" && !strings.Contains(e.example, root.CommandPath()+" ") {
				t.Errorf("%s: its example does not call it: %s", e.path, e.example)
			}
		}
	}
}

// TestManPagesAreWellFormed asks groff, where there is one.
func TestManPagesAreWellFormed(t *testing.T) {
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("needs groff")
	}
	for name, write := range pages() {
		if !strings.HasSuffix(name, ".1") {
			continue
		}
		var text, said bytes.Buffer
		if err := write(&text); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(groff, "-man", "-Tascii", "-ww", "-z")
		cmd.Stdin, cmd.Stderr = &text, &said
		if err := cmd.Run(); err != nil || said.Len() > 0 {
			t.Errorf("%s: %v\n%s", name, err, &said)
		}
	}
}

// TestExamples: the help of each command that does something has examples, and these call commands that there are, with flags that
// these have.
func TestExamples(t *testing.T) {
	roots := map[string]*cobra.Command{"holdfast ctl": ctl.Command(ctl.System("holdfast ctl", nil)), "holdfast utl": utl.Command(false)}
	calls := 0
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		if c.Runnable() && c.Name() != "help" && strings.TrimSpace(c.Example) == "" {
			t.Errorf("%s: no example", c.CommandPath())
		}
		for line := range strings.Lines(c.Example) {
			for program, root := range roots {
				_, call, found := strings.Cut(line, program+" ")
				if !found || strings.HasPrefix(strings.TrimSpace(line), "#") {
					continue
				}
				calls++
				if err := parses(root, strings.Fields(call)); err != nil {
					t.Errorf("%s: %s: %v", c.CommandPath(), strings.TrimSpace(line), err)
				}
			}
		}
		for _, below := range c.Commands() {
			visit(below)
		}
	}
	for _, root := range roots {
		visit(root)
	}
	if calls < 100 {
		t.Errorf("%d calls looked at", calls)
	}
}

// parses looks for the command and the flags that words name, up to the end of the call.
func parses(root *cobra.Command, words []string) error {
	c, rest, err := root.Find(words)
	if err != nil {
		return err
	}
	if !c.Runnable() {
		return fmt.Errorf("%s does nothing by itself", c.CommandPath())
	}
	for _, word := range rest {
		if strings.ContainsAny(word[:1], "|<>#") || word == "--" || word == "&&" {
			return nil
		}
		name, long := strings.CutPrefix(word, "--")
		name, _, _ = strings.Cut(name, "=")
		if long && c.Flag(name) == nil {
			return fmt.Errorf("%s has no --%s", c.CommandPath(), name)
		}
	}
	return nil
}
