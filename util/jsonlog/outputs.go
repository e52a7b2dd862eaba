package jsonlog

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Names of outputs that are no files, as in etcd's --log-outputs.
const (
	Default = "default" // standard error; only alone
	Stderr  = "stderr"
	Stdout  = "stdout"
	Journal = "systemd/journal" // only alone
	discard = "/dev/null"       // beside others it silences them too, as in etcd
)

// Config says where the log goes and how it looks.
type Config struct {
	Outputs  []string // Default, Stderr, Stdout, Journal or file paths; none means Default
	Level    string   // least level written, see ParseLevel; "" means info
	Format   string   // JSON or Console; "" means JSON
	Rotate   bool     // rotate the one file among Outputs
	Rotation string   // JSON settings of the rotation, see DefaultRotation; read only with Rotate
}

// ErrRotationOutput is a rotation without exactly one file to rotate. The text, and its flag name, are etcd's.
var ErrRotationOutput = errors.New("--log-outputs requires a single file path when --log-rotate-config-json is defined")

// Check returns what is wrong with the settings, without opening anything.
func (c Config) Check() error {
	if len(c.Outputs) > 1 && slices.Contains(c.Outputs, Default) {
		return fmt.Errorf("multi logoutput for %q is not supported yet", Default)
	}
	if len(c.Outputs) > 1 && slices.Contains(c.Outputs, Journal) {
		return fmt.Errorf("running with systemd/journal but other '--log-outputs' values (%q) are configured with 'default'; "+
			"override 'default' value with something else", c.Outputs)
	}
	if c.Rotate {
		if c.files() > 1 || (c.files() == 0 && len(c.Outputs) <= 1) {
			return ErrRotationOutput
		}
		if _, err := parseRotation(c.Rotation); err != nil {
			return err
		}
	}
	if _, err := ParseLevel(c.Level); err != nil {
		return err
	}
	switch Format(c.Format) {
	case JSON, Console, "":
		return nil
	}
	return fmt.Errorf("unknown log format: %s, supported values json, console", c.Format)
}

func (c Config) files() int {
	n := 0
	for _, name := range c.Outputs {
		if name != Default && name != Stderr && name != Stdout {
			n++
		}
	}
	return n
}

// Open returns a logger with the given settings and what is behind it, to be closed after the last line.
func Open(c Config) (*slog.Logger, *Outputs, error) {
	if err := c.Check(); err != nil {
		return nil, nil, err
	}
	out := &Outputs{sample: newSampler()}
	level, _ := ParseLevel(c.Level) // checked above
	out.level.Set(level)

	names := slices.Clone(c.Outputs)
	if len(names) == 0 {
		names = []string{Default}
	}
	if slices.Contains(names, discard) {
		names = []string{discard}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		o, err := open(name, c)
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("open log output %q: %w", name, err), out.Close())
		}
		out.to = append(out.to, o)
	}
	format := Format(c.Format)
	if format == "" {
		format = JSON
	}
	return slog.New(NewHandler(out, &out.level, format)), out, nil
}

func open(name string, c Config) (output, error) {
	switch name {
	case Default, Stderr:
		return stream{os.Stderr}, nil
	case Stdout:
		return stream{os.Stdout}, nil
	case Journal:
		return openJournal(journalSocket, os.Stderr)
	case discard:
		return stream{io.Discard}, nil
	}
	if c.Rotate {
		r, err := parseRotation(c.Rotation)
		if err != nil {
			return nil, err
		}
		return openRotated(name, r, time.Now)
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	return file{f}, nil
}

// output takes whole lines.
type output interface {
	write(level slog.Level, caller string, line []byte) error
	Close() error
}

// stream is a writer that outlives the log.
type stream struct{ io.Writer }

func (s stream) write(_ slog.Level, _ string, line []byte) error {
	_, err := s.Write(line)
	return err
}

func (s stream) Close() error { return nil }

type file struct{ *os.File }

func (f file) write(_ slog.Level, _ string, line []byte) error {
	_, err := f.Write(line)
	return err
}

// Outputs is where the lines go. The level may be changed while the program runs.
type Outputs struct {
	level  slog.LevelVar
	sample *sampler
	lost   atomic.Uint64

	mu sync.Mutex // guards to; held while writing, so that lines do not mix
	to []output
}

// NewOutputs writes to one writer that the caller owns; level is the least one written.
func NewOutputs(w io.Writer, level slog.Level) *Outputs {
	o := &Outputs{sample: newSampler(), to: []output{stream{w}}}
	o.level.Set(level)
	return o
}

// Level is the least level written now; it is a slog.Leveler for NewHandler.
func (o *Outputs) Level() slog.Level { return o.level.Level() }

// SetLevel changes the least level written, from the next record on.
func (o *Outputs) SetLevel(l slog.Level) { o.level.Set(l) }

// Lost is the number of lines that at least one output could not take.
func (o *Outputs) Lost() uint64 { return o.lost.Load() }

func (o *Outputs) write(level slog.Level, caller string, line []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var errs error
	for _, to := range o.to {
		if err := to.write(level, caller, line); err != nil {
			errs = errors.Join(errs, err)
		}
	}
	if errs != nil {
		o.lost.Add(1)
	}
	return errs
}

// Close flushes and closes files; lines after it are lost. Standard output and error stay open.
func (o *Outputs) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var errs error
	for _, to := range o.to {
		errs = errors.Join(errs, to.Close())
	}
	return errs
}
