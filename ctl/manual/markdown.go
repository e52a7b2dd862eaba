package manual

import (
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// Markdown writes one page about all tools.
func Markdown(w io.Writer, tools ...*cobra.Command) error {
	p := &page{w: w}
	p.line("# Commands")
	p.line("")
	p.line("<!-- Written by: make manual. It says what the commands' help says. -->")
	for _, root := range tools {
		p.line("")
		p.line("## %s", root.CommandPath())
		p.line("")
		p.line("%s", strings.TrimSpace(root.Long))
		p.flags("Flags of every command:", flagsOf(root.PersistentFlags()))
		for _, e := range entries(root) {
			p.entry(e)
		}
	}
	return p.err
}

func (p *page) entry(e entry) {
	p.line("")
	p.line("### %s", e.path)
	p.line("")
	p.line("    %s", e.usage)
	p.line("")
	p.line("%s", escaped.Replace(e.text))
	p.flags("", e.flags)
	if e.example != "" {
		p.line("")
		p.line("```sh")
		p.line("%s", e.example)
		p.line("```")
	}
}

// escaped keeps what stands for something from being taken for a tag, a cell's end or emphasis.
var escaped = strings.NewReplacer("<", "&lt;", "|", "\\|", "*", "\\*")

func (p *page) flags(title string, flags []option) {
	if len(flags) == 0 {
		return
	}
	p.line("")
	if title != "" {
		p.line("%s", title)
		p.line("")
	}
	p.line("| flag | default | |")
	p.line("|---|---|---|")
	for _, f := range flags {
		name := f.name
		if f.value != "" {
			name += " " + f.value
		}
		initial := ""
		if f.initial != "" {
			initial = "`" + f.initial + "`"
		}
		p.line("| `%s` | %s | %s |", name, initial, escaped.Replace(f.text))
	}
}
