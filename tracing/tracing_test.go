package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/trace"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"holdfast/tracing/tracetest"
)

// start begins to trace to a collector.
func start(t *testing.T, address string, perMillion int, log *slog.Logger) *Tracing {
	t.Helper()
	traces, err := Start(t.Context(), Config{Address: address, Service: "store", Instance: "m0", PerMillion: perMillion, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return traces
}

var quiet = slog.New(slog.DiscardHandler)

// TestSpans: what was begun and ended is at the collector once the tracing is closed: nested, with what it says, what happened and what
// went wrong, under the names of cluster and member.
func TestSpans(t *testing.T) {
	c := tracetest.Start(t)
	traces := start(t, c.Address, 1e6, quiet)
	ctx, outer := traces.Begin(t.Context(), "outer", Text("key", []byte("a\x00")), Int("limit", 3), Bool("keys_only", true))
	inner, span := traces.Begin(ctx, "inner")
	traces.Event(inner, "waited")
	span.End(errors.New("it failed"))
	outer.End(nil)
	if err := traces.Close(); err != nil {
		t.Fatal(err)
	}
	if len(c.Named("outer")) != 1 || len(c.Named("inner")) != 1 {
		t.Fatalf("spans %v", c.Spans())
	}
	out, in := c.Named("outer")[0], c.Named("inner")[0]
	says := map[string]string{}
	for _, a := range out.Attributes {
		says[a.Key] = fmt.Sprint(a.Value)
	}
	if len(says) != 3 || !strings.Contains(says["limit"], "3") || !strings.Contains(says["keys_only"], "true") {
		t.Errorf("the outer one says %v", says)
	}
	if string(in.ParentSpanId) != string(out.SpanId) || string(in.TraceId) != string(out.TraceId) {
		t.Error("the inner one is not within the outer one")
	}
	if len(in.Events) != 2 || in.Events[0].Name != "waited" { // the second is the error
		t.Errorf("what happened: %v", in.Events)
	}
	if in.Status.Code != tracepb.Status_STATUS_CODE_ERROR || in.Status.Message != "it failed" || out.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR {
		t.Errorf("what went wrong: %v and %v", in.Status, out.Status)
	}
	if c.Of("service.name") != "store" || c.Of("service.instance.id") != "m0" {
		t.Errorf("the spans are of %q, %q", c.Of("service.name"), c.Of("service.instance.id"))
	}
}

// TestSampling: how many are traced is a matter of the setting, unless the caller has decided.
func TestSampling(t *testing.T) {
	for _, parts := range []struct {
		perMillion   int
		alone        [2]int // at least and at most, of a thousand without a caller's word
		wanted, kept int    // of one that the caller wants traced, and of one that it does not
	}{
		{0, [2]int{0, 0}, 1, 0}, {-1, [2]int{0, 0}, 1, 0}, {1e6, [2]int{1000, 1000}, 1, 0},
		{500_000, [2]int{300, 700}, 1, 0}, // twelve deviations
	} {
		c := tracetest.Start(t)
		traces := start(t, c.Address, parts.perMillion, quiet)
		for range 1000 {
			_, span := traces.Begin(t.Context(), "alone")
			span.End(nil)
		}
		for name, flags := range map[string]trace.TraceFlags{"wanted": trace.FlagsSampled, "unwanted": 0} {
			caller := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: flags, Remote: true})
			_, span := traces.Begin(trace.ContextWithSpanContext(t.Context(), caller), name)
			span.End(nil)
		}
		if err := traces.Close(); err != nil {
			t.Fatal(err)
		}
		if n := len(c.Named("alone")); n < parts.alone[0] || n > parts.alone[1] {
			t.Errorf("%d per million: %d of 1000", parts.perMillion, n)
		}
		if wanted, unwanted := len(c.Named("wanted")), len(c.Named("unwanted")); wanted != parts.wanted || unwanted != parts.kept {
			t.Errorf("%d per million: %d of a caller who wants it, %d of one who does not", parts.perMillion, wanted, unwanted)
		}
	}
}

// said collects a log.
type said struct {
	mu sync.Mutex // guards b
	b  strings.Builder
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestNoCollector: where nobody listens, spans are dropped beyond a bound and nobody waits for them; the end takes no longer than it may
// and tells.
func TestNoCollector(t *testing.T) {
	words := new(said)
	traces := start(t, "127.0.0.1:1", 1e6, slog.New(slog.NewTextHandler(words, nil)))
	for range 10 * spansMax {
		_, span := traces.Begin(t.Context(), "lost")
		span.End(nil)
	}
	if err := traces.Close(); err == nil && !strings.Contains(words.String(), "could not send traces") {
		t.Error("nobody says that the spans are lost")
	}
}

// TestNil: a member without tracing may close it and tell it of events.
func TestNil(t *testing.T) {
	var traces *Tracing
	traces.Event(context.Background(), "nothing")
	if err := traces.Close(); err != nil {
		t.Error(err)
	}
}
