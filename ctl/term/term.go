// Package term is what the tools do where a person sits before them: colours, progress bars, questions, passwords.
//
// Nothing of it appears where output goes to a file or a pipe: scripts read there, and what they read is etcd's.
//
//	Source  https://no-color.org for NO_COLOR; environment variables are asked for through a function, as os.Getenv is
package term

import (
	"io"

	"golang.org/x/term"
)

// file is what a terminal is reached by; *os.File is one.
type file interface{ Fd() uintptr }

// Is tells whether stream, something that is read or written, is a terminal.
func Is(stream any) bool {
	f, ok := stream.(file)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Paint marks words with colours, or leaves them alone. The zero Paint leaves them alone.
type Paint struct{ on bool }

// PaintFor paints what is written to w: only on a terminal that knows colours, and only if nobody has asked for none.
func PaintFor(w io.Writer, getenv func(string) string) Paint {
	return Paint{Is(w) && wanted(getenv)}
}

func wanted(getenv func(string) string) bool {
	return getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}

func (p Paint) mark(code, text string) string {
	if !p.on || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// Bold is for what the eye should find first.
func (p Paint) Bold(text string) string { return p.mark("1", text) }

// Faint is for what may be overlooked.
func (p Paint) Faint(text string) string { return p.mark("2", text) }

// Good is for what is as it should be.
func (p Paint) Good(text string) string { return p.mark("32", text) }

// Odd is for what works and is probably not what was meant.
func (p Paint) Odd(text string) string { return p.mark("33", text) }

// Bad is for what does not work.
func (p Paint) Bad(text string) string { return p.mark("31", text) }
