package config

import (
	"context"
	"log/slog"
	"strings"
)

// Note is something to be said in the log at start. The message is etcd's wherever etcd says the same.
type Note struct {
	Level slog.Level
	Msg   string
	Attrs []slog.Attr
}

// Notes are in the order in which they came up.
type Notes []Note

// Log writes the notes.
func (n Notes) Log(ctx context.Context, logger *slog.Logger) {
	for _, note := range n {
		logger.LogAttrs(ctx, note.Level, note.Msg, note.Attrs...)
	}
}

// String has a line for each note: level, message and fields.
func (n Notes) String() string {
	var b strings.Builder
	for _, note := range n {
		b.WriteString(note.Level.String() + " " + note.Msg)
		for _, a := range note.Attrs {
			b.WriteString(" " + a.String())
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (n *Notes) info(msg string, attrs ...slog.Attr) {
	*n = append(*n, Note{slog.LevelInfo, msg, attrs})
}

func (n *Notes) warn(msg string, attrs ...slog.Attr) {
	*n = append(*n, Note{slog.LevelWarn, msg, attrs})
}
