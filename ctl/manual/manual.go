// Package manual writes what the tools' commands say of themselves as pages: one in Markdown for docs/, and a man page for each tool.
//
// The pages hold what the help of each command does, so that there is one place to write it: the command. They bear no date and no
// version; the same commands give the same bytes.
//
//	Shape   docs/commands.md, docs/man/*.1; the test of this package writes them (-rewrite) and finds those that are not fresh
package manual

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// entry is one command as both kinds of pages show it.
type entry struct {
	path    string // as it is typed
	usage   string
	text    string // paragraphs
	example string // lines, without what they are indented by
	flags   []option
}

// option is one option.
type option struct {
	name    string // with its dashes, and the short form before it
	value   string // what it takes; empty for one that is there or not
	initial string // its default, empty if that says nothing
	text    string
}

// entries lists the commands below root that do something, in the order of the help.
func entries(root *cobra.Command) []entry {
	var list []entry
	for _, c := range root.Commands() {
		if c.Hidden || c.Name() == "help" || c.Deprecated != "" {
			continue
		}
		if c.Runnable() {
			list = append(list, describe(c))
		}
		list = append(list, entries(c)...)
	}
	return list
}

func describe(c *cobra.Command) entry {
	text := c.Long
	if text == "" {
		text = c.Short
	}
	flags := flagsOf(c.NonInheritedFlags())
	usage := strings.TrimSuffix(c.UseLine(), " [flags]") // which is there or not, with what was asked of the command before
	if len(flags) > 0 && !strings.Contains(usage, "[options]") {
		usage += " [options]"
	}
	return entry{path: c.CommandPath(), usage: usage, text: strings.TrimSpace(text), example: unindent(c.Example), flags: flags}
}

func flagsOf(fs *pflag.FlagSet) []option {
	var list []option
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" || f.Deprecated != "" {
			return
		}
		value, text := pflag.UnquoteUsage(f)
		item := option{name: "--" + f.Name, value: value, text: text, initial: f.DefValue}
		if f.Shorthand != "" {
			item.name = "-" + f.Shorthand + ", " + item.name
		}
		if slices.Contains([]string{"false", "0", "[]", "0s"}, item.initial) {
			item.initial = ""
		}
		list = append(list, item)
	})
	return list
}

// unindent takes the indentation of a help's example away.
func unindent(text string) string {
	lines := strings.Split(strings.Trim(text, "\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimPrefix(line, "  ")
	}
	return strings.Join(lines, "\n")
}

// page collects what is written; the writer's first error is the page's.
type page struct {
	w   io.Writer
	err error
}

func (p *page) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}
