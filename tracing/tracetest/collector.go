// Package tracetest is a collector of OpenTelemetry for tests: it keeps what it gets.
package tracetest

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
)

// Collector is one that listens. It is safe for concurrent use.
type Collector struct {
	collector.UnimplementedTraceServiceServer
	Address string // host:port

	mu       sync.Mutex // guards the fields below
	resource map[string]string
	got      []*tracepb.Span
}

// Start listens on the loopback until the test ends.
func Start(t testing.TB) *Collector {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, server := &Collector{Address: l.Addr().String(), resource: map[string]string{}}, grpc.NewServer()
	collector.RegisterTraceServiceServer(server, c)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }() // ends with Stop
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c
}

// Export implements collector.TraceServiceServer.
func (c *Collector) Export(_ context.Context, q *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range q.ResourceSpans {
		for _, a := range of.Resource.Attributes {
			c.resource[a.Key] = a.Value.GetStringValue()
		}
		for _, in := range of.ScopeSpans {
			c.got = append(c.got, in.Spans...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// Spans are those that have come.
func (c *Collector) Spans() []*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.got)
}

// Named are those of a name.
func (c *Collector) Named(name string) (found []*tracepb.Span) {
	for _, span := range c.Spans() {
		if span.Name == name {
			found = append(found, span)
		}
	}
	return found
}

// Of is what the spans say they are of: an attribute of their resource.
func (c *Collector) Of(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.resource[name]
}
