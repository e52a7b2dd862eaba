package term

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// redraw is how often a bar is drawn at most: often enough to be seen moving, seldom enough to cost nothing.
const redraw = 100 * time.Millisecond

// Unit is what a bar counts.
type Unit string

// Bytes are shown with their prefixes; any other unit is the word behind the rate.
const (
	Bytes Unit = "B"
	Keys  Unit = "keys"
	Steps Unit = "steps"
)

// Progress is a bar with count, rate and, where the total is known, what time is left. It is drawn when something is added,
// starts no goroutine, and is silent where nobody looks. One goroutine uses it at a time.
type Progress struct {
	bar *progressbar.ProgressBar // nil where nobody looks
	w   io.Writer
}

// NewProgress begins a bar on w, which should be standard error. total 0 or less is not known yet; SetTotal may say it later.
func NewProgress(w io.Writer, what string, total int64, unit Unit) *Progress {
	if !Is(w) {
		return &Progress{}
	}
	return newProgress(w, what, total, unit)
}

func newProgress(w io.Writer, what string, total int64, unit Unit) *Progress {
	if total <= 0 {
		total = -1
	}
	options := []progressbar.Option{
		progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(what), progressbar.OptionThrottle(redraw),
		progressbar.OptionSetSpinnerChangeInterval(0), // or it draws in a goroutine
		progressbar.OptionShowCount(), progressbar.OptionUseANSICodes(true), progressbar.OptionSetWidth(30),
		progressbar.OptionSetElapsedTime(true), progressbar.OptionSetPredictTime(true),
	}
	if unit == Bytes {
		options = append(options, progressbar.OptionShowBytes(true), progressbar.OptionUseIECUnits(true))
	} else {
		options = append(options, progressbar.OptionShowIts(), progressbar.OptionSetItsString(string(unit)))
	}
	return &Progress{bar: progressbar.NewOptions64(total, options...), w: w}
}

// SetTotal says how much there is, once that is known, or that it has grown.
func (p *Progress) SetTotal(total int64) {
	if p.bar != nil && total > 0 && total != p.bar.GetMax64() {
		p.bar.ChangeMax64(total)
	}
}

// Add says that n more are done. More than the total is the total's mistake and only raises it.
func (p *Progress) Add(n int64) {
	if p.bar == nil || n <= 0 {
		return
	}
	if state := p.bar.State(); p.bar.GetMax64() > 0 && state.CurrentNum+n > state.Max {
		p.bar.ChangeMax64(state.CurrentNum + n)
	}
	_ = p.bar.Add64(n) // a terminal that cannot be written to is no reason to stop the work
}

// Done ends the bar's line, which stays: what was done, and how fast. Call it once, also after a failure.
func (p *Progress) Done() {
	if p.bar == nil {
		return
	}
	_ = p.bar.Exit()
	fmt.Fprintln(p.w) // what comes next stands below it
}

// Reader counts what is read from r.
func (p *Progress) Reader(r io.Reader) io.Reader { return counted{reader: r, p: p} }

// Writer counts what is written to w.
func (p *Progress) Writer(w io.Writer) io.Writer { return counted{writer: w, p: p} }

type counted struct {
	reader io.Reader
	writer io.Writer
	p      *Progress
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.reader.Read(b)
	c.p.Add(int64(n))
	return n, err
}

func (c counted) Write(b []byte) (int, error) {
	n, err := c.writer.Write(b)
	c.p.Add(int64(n))
	return n, err
}

// Size writes a number of bytes for people: 1.5 GiB.
func Size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, at := float64(n)/1024, 0
	for value >= 1024 && at < len(units)-1 {
		value, at = value/1024, at+1
	}
	return fmt.Sprintf("%.1f %ciB", value, units[at])
}
