package bench

import (
	"fmt"
	"os"
)

// progress tells what is done. On a terminal a last line, overwritten, says what is being done; anywhere else there are
// only lines that stay.
type progress struct {
	out      *os.File
	terminal bool
}

func newProgress(out *os.File) progress {
	info, err := out.Stat()
	return progress{out: out, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

// eraseLine returns to the start of the line and clears it (ECMA-48).
const eraseLine = "\r\x1b[K"

func (p progress) line(format string, args ...any) {
	if p.terminal {
		fmt.Fprint(p.out, eraseLine)
	}
	fmt.Fprintf(p.out, format+"\n", args...)
}

func (p progress) status(text string) {
	if p.terminal {
		fmt.Fprint(p.out, eraseLine+text)
	}
}
