package jsonlog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"testing/slogtest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// etcdEncoding is zap's configuration as etcd 3.7 sets it.
var etcdEncoding = zapcore.EncoderConfig{
	TimeKey: "ts", LevelKey: "level", NameKey: "logger", CallerKey: "caller", MessageKey: "msg",
	StacktraceKey: "stacktrace", LineEnding: "\n",
	EncodeLevel:    zapcore.LowercaseLevelEncoder,
	EncodeTime:     func(t time.Time, e zapcore.PrimitiveArrayEncoder) { e.AppendString(t.Format(timeLayout)) },
	EncodeDuration: zapcore.StringDurationEncoder,
	EncodeCaller:   zapcore.ShortCallerEncoder,
}

// Goal: our lines are byte for byte etcd's. Method: the same random fields go through our handler and through zap
// configured as etcd configures it.
func TestLinesEqualEtcds(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for _, format := range []Format{JSON, Console} {
		zapEncoder := zapcore.NewJSONEncoder(etcdEncoding)
		if format == Console {
			zapEncoder = zapcore.NewConsoleEncoder(etcdEncoding)
		}
		for range 500 {
			at := time.UnixMicro(r.Int64N(4e15)).In(time.FixedZone("", (r.IntN(24)-12)*3600))
			msg := randomText(r)
			var with, own []slog.Attr
			var zapFields []zap.Field
			for i := range r.IntN(8) {
				a, z := randomField(r, fmt.Sprintf("k%d", i))
				zapFields = append(zapFields, z)
				if len(own) == 0 && r.IntN(2) == 0 {
					with = append(with, a)
				} else {
					own = append(own, a)
				}
			}
			want, err := zapEncoder.EncodeEntry(zapcore.Entry{Level: zapcore.WarnLevel, Time: at, Message: msg}, zapFields)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			out := NewOutputs(&got, slog.LevelDebug)
			record := slog.NewRecord(at, slog.LevelWarn, msg, 0)
			record.AddAttrs(own...)
			if err := NewHandler(out, out, format).WithAttrs(with).Handle(context.Background(), record); err != nil {
				t.Fatal(err)
			}
			if got.String() != want.String() {
				t.Fatalf("%s\n got  %q\n want %q", format, got.String(), want.String())
			}
		}
	}
}

func randomText(r *rand.Rand) string {
	b := make([]byte, r.IntN(12))
	for i := range b {
		b[i] = byte(r.Uint32())
		if r.IntN(3) > 0 {
			b[i] = "az\"\\\n\t/<é"[r.IntN(10)]
		}
	}
	return string(b)
}

func randomField(r *rand.Rand, key string) (slog.Attr, zap.Field) {
	switch r.IntN(13) {
	case 0:
		v := r.Int64() - r.Int64()
		return slog.Int64(key, v), zap.Int64(key, v)
	case 1:
		v := r.Uint64()
		return slog.Uint64(key, v), zap.Uint64(key, v)
	case 2:
		v := time.Duration(r.Int64N(1e12))
		return slog.Duration(key, v), zap.Duration(key, v)
	case 3:
		v := time.UnixMicro(r.Int64N(4e15))
		return slog.Time(key, v), zap.Time(key, v)
	case 4:
		v := errors.New(randomText(r))
		return slog.Any(key, v), zap.NamedError(key, v)
	case 5:
		v := []string{randomText(r), randomText(r)}[:r.IntN(3)]
		return slog.Any(key, v), zap.Strings(key, v)
	case 6:
		v := []float64{r.NormFloat64(), math.NaN(), math.Inf(1), math.Inf(-1), 1e21}[r.IntN(5)]
		return slog.Float64(key, v), zap.Float64(key, v)
	case 7:
		v := r.IntN(2) == 0
		return slog.Bool(key, v), zap.Bool(key, v)
	case 8:
		v := &url.URL{Scheme: "http", Host: "h:1"}
		return slog.Any(key, v), zap.Stringer(key, v)
	case 9:
		v := map[string]any{"a": "<&>", "b": []int{1}}
		return slog.Any(key, v), zap.Any(key, v)
	case 10:
		v := []byte(randomText(r))
		return slog.Any(key, v), zap.Any(key, v)
	case 11:
		a, z := randomField(r, "inner")
		return slog.Group(key, a), zap.Dict(key, z)
	}
	v := randomText(r)
	return slog.String(key, v), zap.String(key, v)
}

// Goal: what slog promises about groups and empty fields holds.
func TestSlogRules(t *testing.T) {
	for _, format := range []Format{JSON, Console} {
		var b bytes.Buffer
		out := NewOutputs(&b, slog.LevelInfo)
		results := func() []map[string]any {
			var all []map[string]any
			for _, text := range strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n") {
				all = append(all, parseLine(t, format, text))
			}
			return all
		}
		if err := slogtest.TestHandler(NewHandler(out, out, format), results); err != nil {
			t.Errorf("%s: %v", format, err)
		}
	}
}

// parseLine turns a line back into the map that slogtest wants.
func parseLine(t *testing.T, format Format, text string) map[string]any {
	m := map[string]any{}
	if format == Console {
		parts := strings.Split(text, "\t")
		if strings.HasPrefix(parts[len(parts)-1], "{") {
			if err := json.Unmarshal([]byte(parts[len(parts)-1]), &m); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			parts = parts[:len(parts)-1]
		}
		if parts[0] != "info" {
			m[slog.TimeKey], parts = parts[0], parts[1:]
		}
		m[slog.LevelKey] = parts[0]
		m[slog.MessageKey] = parts[len(parts)-1]
		return m
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if ts, ok := m["ts"]; ok {
		m[slog.TimeKey] = ts
		delete(m, "ts")
	}
	return m
}

type silent struct{ name string }

func (s *silent) Error() string { return s.name }

// Goal: odd values do not end the program or break the line.
func TestOddValues(t *testing.T) {
	var b bytes.Buffer
	out := NewOutputs(&b, slog.LevelInfo)
	logger := slog.New(NewHandler(out, out, JSON))
	var none *silent
	logger.Info("odd", "nil", nil, "err", none, "chan", make(chan int), "errs", []error{none, errors.New("x")})
	var got map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatalf("%s: %v", b.String(), err)
	}
	if got["nil"] != nil || got["err"] != "<nil>" || fmt.Sprint(got["errs"]) != "[<nil> x]" ||
		!strings.HasPrefix(fmt.Sprint(got["chan"]), "cannot log a chan int") {
		t.Errorf("%s", b.String())
	}
	if caller := fmt.Sprint(got["caller"]); !strings.HasPrefix(caller, "jsonlog/handler_test.go:") {
		t.Errorf("caller %q", caller)
	}
}

func TestLevels(t *testing.T) {
	for name, level := range map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
		"dpanic": LevelDPanic, "panic": LevelPanic, "fatal": LevelFatal,
	} {
		for _, text := range []string{name, strings.ToUpper(name)} {
			if got, err := ParseLevel(text); err != nil || got != level {
				t.Errorf("ParseLevel(%q) = %v, %v", text, got, err)
			}
		}
		if got := levelName(level); got != name {
			t.Errorf("levelName(%d) = %q, want %q", level, got, name)
		}
		if got := levelName(level + 1); got != name {
			t.Errorf("levelName(%d) = %q, want %q", level+1, got, name)
		}
	}
	if _, err := ParseLevel("loud"); err == nil || err.Error() != `unrecognized level: "loud"` {
		t.Errorf("ParseLevel(loud): %v", err)
	}
}

func TestLevelChangesAtRunTime(t *testing.T) {
	var b bytes.Buffer
	out := NewOutputs(&b, slog.LevelWarn)
	logger := slog.New(NewHandler(out, out, JSON)).With("a", 1)
	logger.Info("one")
	out.SetLevel(slog.LevelDebug)
	logger.Debug("two")
	out.SetLevel(LevelFatal)
	logger.Error("three")
	if got := b.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `"msg":"two"`) {
		t.Errorf("%s", got)
	}
}

// Goal: a message in a loop is thinned as etcd thins it, others are not touched, and a second later it starts anew.
func TestSampling(t *testing.T) {
	s := newSampler()
	at := time.Unix(1000, 0)
	count := func(at time.Time, msg string, n int) (admitted int) {
		for range n {
			if s.admit(at, slog.LevelInfo, msg) {
				admitted++
			}
		}
		return admitted
	}
	if got := count(at, "loop", 1000); got != 100+9 {
		t.Errorf("1000 in a second: %d written, want 109", got)
	}
	if got := count(at, "other", 3); got != 3 {
		t.Errorf("another message: %d of 3 written", got)
	}
	if got := count(at.Add(sampleTick+1), "loop", 100); got != 100 {
		t.Errorf("in the next second %d of 100 written", got)
	}
}

func TestLinesCostNoAllocation(t *testing.T) {
	out := NewOutputs(discardWriter{}, slog.LevelInfo)
	logger := slog.New(NewHandler(out, out, JSON)).With("member", "a")
	err := errors.New("gone")
	const bound = 2 // what slog itself needs for its arguments
	got := testing.AllocsPerRun(100, func() {
		logger.LogAttrs(context.Background(), slog.LevelInfo, "request",
			slog.String("key", "foo"), slog.Int("size", 3), slog.Duration("took", 5), slog.Any("error", err))
	})
	if got > bound {
		t.Errorf("%v allocations a line, want at most %d", got, bound)
	}
}

type discardWriter struct{}

func (discardWriter) Write(p []byte) (int, error) { return len(p), nil }

func BenchmarkLine(b *testing.B) {
	out := NewOutputs(discardWriter{}, slog.LevelInfo)
	h := NewHandler(out, out, JSON)
	r := slog.NewRecord(time.Unix(1000, 0), slog.LevelInfo, "apply request took too long", 0)
	r.AddAttrs(slog.String("key", "foo"), slog.Int("size", 3), slog.Duration("took", time.Second))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.Time = time.Unix(int64(i), 0) // a new second each: the sampler admits all
		if err := h.Handle(context.Background(), r); err != nil {
			b.Fatal(err)
		}
	}
}
