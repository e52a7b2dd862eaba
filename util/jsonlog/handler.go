package jsonlog

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
)

// Format is how a line looks.
type Format string

// The values of etcd's --log-format.
const (
	JSON    Format = "json"
	Console Format = "console"
)

// lineBytesKept is how large a buffer may be and still be reused: an ordinary line has a few hundred bytes, and one with
// a huge value should not stay in memory for ever.
const lineBytesKept = 16 << 10

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// Handler is a slog.Handler that writes etcd's lines to its Outputs.
type Handler struct {
	out    *Outputs
	level  slog.Leveler
	format Format

	fields  []byte   // what With added, encoded; it may end inside opened groups
	opened  int      // groups that fields has opened and not closed
	pending []string // groups named after that: opened by the first field inside them
}

// NewHandler returns a handler that writes records of at least the given level.
func NewHandler(out *Outputs, level slog.Leveler, format Format) *Handler {
	return &Handler{out: out, level: level, format: format}
}

// Enabled implements slog.Handler.
func (h *Handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	l := line{buf: slices.Clone(h.fields), spaced: h.format == Console}
	if !h.grow(&l, func() { l.group("", attrs) }) {
		return h
	}
	c := *h
	c.fields, c.opened, c.pending = l.buf, h.opened+len(h.pending), nil
	return &c
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	c := *h
	c.pending = append(slices.Clone(h.pending), name)
	return &c
}

// grow opens the pending groups and lets add write fields into them. Without a field the line is as before: groups
// without content are not shown.
func (h *Handler) grow(l *line, add func()) bool {
	start := len(l.buf)
	for _, name := range h.pending {
		l.key(name)
		l.buf = append(l.buf, '{')
	}
	opened := len(l.buf)
	add()
	if len(l.buf) == opened {
		l.buf = l.buf[:start]
		return false
	}
	return true
}

// Handle implements slog.Handler.
func (h *Handler) Handle(_ context.Context, r slog.Record) error {
	if !h.out.sample.admit(r.Time, r.Level, r.Message) {
		return nil
	}
	p := buffers.Get().(*[]byte)
	l := line{buf: (*p)[:0], spaced: h.format == Console}
	caller := callerOf(r.PC)
	if h.format == Console {
		h.console(&l, r, caller)
	} else {
		h.json(&l, r, caller)
	}
	err := h.out.write(r.Level, caller, l.buf)
	if cap(l.buf) <= lineBytesKept {
		*p = l.buf
		buffers.Put(p)
	}
	return err
}

func (h *Handler) json(l *line, r slog.Record, caller string) {
	l.buf = append(l.buf, `{"level":"`...)
	l.buf = append(l.buf, levelName(r.Level)...)
	l.buf = append(l.buf, '"')
	if !r.Time.IsZero() {
		l.key("ts")
		l.time(r.Time)
	}
	if caller != "" {
		l.key("caller")
		l.text(caller)
	}
	l.key("msg")
	l.text(r.Message)
	h.context(l, r)
	l.buf = append(l.buf, '}', '\n')
}

func (h *Handler) console(l *line, r slog.Record, caller string) {
	if !r.Time.IsZero() {
		l.buf = r.Time.AppendFormat(l.buf, timeLayout)
		l.buf = append(l.buf, '\t')
	}
	l.buf = append(l.buf, levelName(r.Level)...)
	if caller != "" {
		l.buf = append(append(l.buf, '\t'), caller...)
	}
	l.buf = append(append(l.buf, '\t'), r.Message...)
	start := len(l.buf)
	l.buf = append(l.buf, '\t', '{')
	opened := len(l.buf)
	h.context(l, r)
	if len(l.buf) == opened {
		l.buf = l.buf[:start]
	} else {
		l.buf = append(l.buf, '}')
	}
	l.buf = append(l.buf, '\n')
}

// context writes the fields of With, then the record's own, then closes the groups.
func (h *Handler) context(l *line, r slog.Record) {
	l.raw(h.fields)
	closing := h.opened
	if h.grow(l, func() {
		r.Attrs(func(a slog.Attr) bool {
			l.attr(a)
			return true
		})
	}) {
		closing += len(h.pending)
	}
	for range closing {
		l.buf = append(l.buf, '}')
	}
}

// callers keeps the text of each call site, so that a line costs no look-up of symbols. Its bound is the number of
// places in the program that log.
var callers sync.Map // uintptr -> string

// callerOf is the last directory, the file and the line of a call site; "" if the record has none.
func callerOf(pc uintptr) string {
	if pc == 0 {
		return ""
	}
	if s, ok := callers.Load(pc); ok {
		return s.(string)
	}
	frame, _ := runtime.CallersFrames([]uintptr{pc}).Next()
	dir, file := filepath.Split(frame.File)
	s := fmt.Sprintf("%s/%s:%d", filepath.Base(dir), file, frame.Line)
	callers.Store(pc, s)
	return s
}
