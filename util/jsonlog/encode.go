package jsonlog

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"strconv"
	"time"
	"unicode/utf8"
)

// line is one log line being built. In spaced form (console) a blank follows each colon and comma.
type line struct {
	buf    []byte
	spaced bool
}

// key begins a field. What was written before decides whether a comma is due: only an opened object needs none.
func (l *line) key(name string) {
	l.comma()
	l.text(name)
	l.buf = append(l.buf, ':')
	if l.spaced {
		l.buf = append(l.buf, ' ')
	}
}

func (l *line) comma() {
	n := len(l.buf)
	if n == 0 || l.buf[n-1] == '{' || l.buf[n-1] == '[' {
		return
	}
	l.buf = append(l.buf, ',')
	if l.spaced {
		l.buf = append(l.buf, ' ')
	}
}

// raw joins fields that were encoded before.
func (l *line) raw(fields []byte) {
	if len(fields) > 0 {
		l.comma()
		l.buf = append(l.buf, fields...)
	}
}

// attr appends one field. A group without a key lends its fields to the object around it, an empty group leaves nothing.
func (l *line) attr(a slog.Attr) {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		l.group(a.Key, v.Group())
		return
	}
	if a.Key == "" && v.Any() == nil {
		return
	}
	l.key(a.Key)
	l.value(v)
}

func (l *line) group(name string, attrs []slog.Attr) {
	if name == "" {
		for _, a := range attrs {
			l.attr(a)
		}
		return
	}
	start := len(l.buf)
	l.key(name)
	l.buf = append(l.buf, '{')
	opened := len(l.buf)
	for _, a := range attrs {
		l.attr(a)
	}
	if len(l.buf) == opened {
		l.buf = l.buf[:start]
		return
	}
	l.buf = append(l.buf, '}')
}

func (l *line) value(v slog.Value) {
	switch v.Kind() {
	case slog.KindString:
		l.text(v.String())
	case slog.KindInt64:
		l.buf = strconv.AppendInt(l.buf, v.Int64(), 10)
	case slog.KindUint64:
		l.buf = strconv.AppendUint(l.buf, v.Uint64(), 10)
	case slog.KindBool:
		l.buf = strconv.AppendBool(l.buf, v.Bool())
	case slog.KindFloat64:
		l.float(v.Float64())
	case slog.KindDuration:
		l.text(v.Duration().String())
	case slog.KindTime:
		l.time(v.Time())
	default:
		l.any(v.Any())
	}
}

func (l *line) any(v any) {
	switch v := v.(type) {
	case nil:
		l.buf = append(l.buf, "null"...)
	case []string:
		l.texts(v)
	case []byte:
		l.text(base64.StdEncoding.EncodeToString(v))
	case error:
		l.text(callText(v, v.Error))
	case fmt.Stringer:
		l.text(callText(v, v.String))
	case []error:
		texts := make([]string, len(v))
		for i, err := range v {
			texts[i] = callText(err, err.Error)
		}
		l.texts(texts)
	default:
		l.reflected(v)
	}
}

// callText calls a method of a value that came from a caller. A nil pointer behind an interface must not end the program
// that only wanted to log it; any other panic is the caller's and goes on.
func callText(v any, method func() string) (s string) {
	defer func() {
		if p := recover(); p != nil {
			if r := reflect.ValueOf(v); r.Kind() != reflect.Pointer || !r.IsNil() {
				panic(p)
			}
			s = "<nil>"
		}
	}()
	return method()
}

func (l *line) texts(v []string) {
	l.buf = append(l.buf, '[')
	for _, s := range v {
		l.comma()
		l.text(s)
	}
	l.buf = append(l.buf, ']')
}

// reflected writes any other value as encoding/json does, without its escapes for HTML.
func (l *line) reflected(v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		l.text(fmt.Sprintf("cannot log a %T: %v", v, err))
		return
	}
	l.buf = append(l.buf, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...)
}

func (l *line) time(t time.Time) {
	l.buf = append(l.buf, '"')
	l.buf = t.AppendFormat(l.buf, timeLayout)
	l.buf = append(l.buf, '"')
}

// float writes what JSON has no number for as text.
func (l *line) float(f float64) {
	switch {
	case math.IsNaN(f):
		l.buf = append(l.buf, `"NaN"`...)
	case math.IsInf(f, 1):
		l.buf = append(l.buf, `"+Inf"`...)
	case math.IsInf(f, -1):
		l.buf = append(l.buf, `"-Inf"`...)
	default:
		l.buf = strconv.AppendFloat(l.buf, f, 'f', -1, 64)
	}
}

// text appends s in quotes. Bytes that are no UTF-8 become the replacement character: a key of a client may hold anything.
func (l *line) text(s string) {
	const hex = "0123456789abcdef"
	l.buf = append(l.buf, '"')
	done := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				l.buf = append(append(l.buf, s[done:i]...), `\ufffd`...)
				done = i + 1
			}
			i += size
			continue
		}
		if c < ' ' || c == '"' || c == '\\' {
			l.buf = append(l.buf, s[done:i]...)
			switch c {
			case '"', '\\':
				l.buf = append(l.buf, '\\', c)
			case '\n':
				l.buf = append(l.buf, `\n`...)
			case '\r':
				l.buf = append(l.buf, `\r`...)
			case '\t':
				l.buf = append(l.buf, `\t`...)
			default:
				l.buf = append(l.buf, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			done = i + 1
		}
		i++
	}
	l.buf = append(append(l.buf, s[done:]...), '"')
}
