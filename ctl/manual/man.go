package manual

import (
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// About is what a man page says beside the commands.
type About struct {
	Alias string      // the name of etcd's tool, by which the program may be called too
	Exit  [][2]string // exit code, meaning
	Env   string      // a paragraph about variables; empty leaves it out
	See   []string    // other pages, "name(section)"
}

// Man writes the man page of one tool, in section 1.
func Man(w io.Writer, root *cobra.Command, about About) error {
	p := &page{w: w}
	name := strings.ReplaceAll(root.CommandPath(), " ", "-")
	p.line(`.\" Written by: make manual. It says what the commands' help says.`)
	p.line(`.TH %s 1 "" Holdfast`, roff.Replace(strings.ToUpper(name)))
	p.line(".SH NAME")
	p.line(`%s, %s \- %s`, roff.Replace(name), roff.Replace(about.Alias), text(root.Short))
	p.line(".SH SYNOPSIS")
	for _, program := range []string{root.CommandPath(), about.Alias} {
		p.line(`.B %s`, roff.Replace(program))
		p.line(`.I command`)
		p.line(`[options] [arguments]`)
		p.line(".br")
	}
	p.line(".SH DESCRIPTION")
	p.paragraphs(root.Long)
	p.line(".SH OPTIONS OF EVERY COMMAND")
	p.options(flagsOf(root.PersistentFlags()))
	p.line(".SH COMMANDS")
	for _, e := range entries(root) {
		p.line(".SS %s", roff.Replace(strings.TrimPrefix(e.path, root.CommandPath()+" ")))
		p.line(".B %s", roff.Replace(e.usage))
		p.line(".PP")
		p.paragraphs(e.text)
		p.options(e.flags)
		if e.example != "" {
			p.line(".PP")
			p.block(e.example)
		}
	}
	if about.Env != "" {
		p.line(".SH ENVIRONMENT")
		p.paragraphs(about.Env)
	}
	p.line(".SH EXIT STATUS")
	for _, e := range about.Exit {
		p.line(".TP")
		p.line(".B %s", e[0])
		p.line("%s", text(e[1]))
	}
	p.line(".SH SEE ALSO")
	p.line("%s", text(strings.Join(about.See, ", ")))
	return p.err
}

// roff keeps characters that stand for something from being taken for it.
var roff = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`)

// text is roff for one line; a dot at its beginning would be a request.
func text(line string) string {
	line = roff.Replace(line)
	if strings.HasPrefix(line, ".") {
		return `\&` + line
	}
	return line
}

// paragraphs fills lines that are flush, and leaves indented ones as they are.
func (p *page) paragraphs(long string) {
	for i, paragraph := range strings.Split(strings.TrimSpace(long), "\n\n") {
		if i > 0 {
			p.line(".PP")
		}
		if strings.HasPrefix(paragraph, " ") {
			p.block(paragraph)
			continue
		}
		for line := range strings.SplitSeq(paragraph, "\n") {
			p.line("%s", text(strings.TrimSpace(line)))
		}
	}
}

// block is lines that stay as they are.
func (p *page) block(lines string) {
	p.line(".nf")
	for line := range strings.SplitSeq(lines, "\n") {
		p.line("%s", text(line))
	}
	p.line(".fi")
}

func (p *page) options(flags []option) {
	for _, f := range flags {
		p.line(".TP")
		if f.value == "" {
			p.line(`.B %s`, roff.Replace(f.name))
		} else {
			p.line(`.BI "%s " %s`, roff.Replace(f.name), roff.Replace(f.value))
		}
		if f.initial != "" {
			p.line("%s (%s)", text(f.text), roff.Replace(f.initial))
		} else {
			p.line("%s", text(f.text))
		}
	}
}
