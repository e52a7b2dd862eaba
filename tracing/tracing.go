// Package tracing sends what becomes of requests to a collector of OpenTelemetry, over OTLP and gRPC.
//
// A member without it holds a nil *Tracing, and pays for that one comparison in each request.
//
//	Shape   gRPC's span of the call > a span of the operation > events: what the request waited for
//	Errors  of settings, at Start. A collector that cannot be reached is logged; spans are dropped, never waited for
//	Source  etcd 3.7 for names, attributes and sampling
package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/stats"
)

// Config says where spans go, and which.
type Config struct {
	Address           string // of the collector, host:port, in plaintext
	Service, Instance string // names of the cluster and, unless empty, of the member
	// PerMillion is how many of a million requests are traced of those whose caller does not say whether they are to be.
	PerMillion int
	Log        *slog.Logger
}

const (
	// spansMax bounds the spans that wait to be sent; more are dropped. It is the library's number: a second of a busy member, and a
	// few megabytes.
	spansMax = 2048
	// closeTimeout is how long the last spans may take to be sent when the member ends.
	closeTimeout = 2 * time.Second
)

// Tracing sends spans. A nil one sends none; only Close and Event may be called on it.
type Tracing struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	handler  stats.Handler
}

// Start makes the connection to the collector, which need not be there yet. What goes wrong with it is logged by the Tracing that was
// started last in the process.
func Start(ctx context.Context, cfg Config) (*Tracing, error) {
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithInsecure(), otlptracegrpc.WithEndpoint(cfg.Address))
	if err != nil {
		return nil, fmt.Errorf("trace to %s: %w", cfg.Address, err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		cfg.Log.Warn("could not send traces", "address", cfg.Address, "error", err)
	}))
	names := []attribute.KeyValue{attribute.String("service.name", cfg.Service)}
	if cfg.Instance != "" {
		names = append(names, attribute.String("service.instance.id", cfg.Instance))
	}
	t := &Tracing{provider: sdk.NewTracerProvider(
		sdk.WithBatcher(exporter, sdk.WithMaxQueueSize(spansMax)),
		sdk.WithResource(resource.NewSchemaless(names...)),
		sdk.WithSampler(sdk.ParentBased(sampler(cfg.PerMillion))),
	)}
	t.tracer = t.provider.Tracer("holdfast")
	t.handler = otelgrpc.NewServerHandler(otelgrpc.WithTracerProvider(t.provider),
		otelgrpc.WithPropagators(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})))
	return t, nil
}

func sampler(perMillion int) sdk.Sampler {
	if perMillion <= 0 {
		return sdk.NeverSample()
	}
	return sdk.TraceIDRatioBased(float64(perMillion) / 1e6)
}

// Handler makes the spans of calls, by the name of the method.
func (t *Tracing) Handler() stats.Handler { return t.handler }

// Close sends what waits.
func (t *Tracing) Close() error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("send the last traces: %w", err)
	}
	return nil
}

// Attribute is one thing a span says.
type Attribute = attribute.KeyValue

// Text is an attribute of bytes that are shown as text.
func Text(name string, v []byte) Attribute { return attribute.String(name, string(v)) }

// Int is an attribute of a number.
func Int[T ~int | ~int64](name string, v T) Attribute { return attribute.Int64(name, int64(v)) }

// Bool is an attribute of a yes or no.
func Bool(name string, v bool) Attribute { return attribute.Bool(name, v) }

// Span is a piece of work under way.
type Span struct{ span trace.Span }

// Begin begins a span within that of ctx, if any.
func (t *Tracing) Begin(ctx context.Context, name string, says ...Attribute) (context.Context, Span) {
	ctx, span := t.tracer.Start(ctx, name, trace.WithAttributes(says...))
	return ctx, Span{span}
}

// End ends the span, with what went wrong if something did.
func (s Span) End(err error) {
	if err != nil {
		s.span.RecordError(err)
		s.span.SetStatus(codes.Error, err.Error())
	}
	s.span.End()
}

// Event notes on the span of ctx that something has happened.
func (t *Tracing) Event(ctx context.Context, name string) {
	if t != nil {
		trace.SpanFromContext(ctx).AddEvent(name)
	}
}
