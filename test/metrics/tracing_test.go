package metrics

import (
	"context"
	"net"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"

	"holdfast/test/run"
)

// traces is a collector that counts spans by name, and keeps what they say they are of.
type traces struct {
	collector.UnimplementedTraceServiceServer

	mu    sync.Mutex // guards the fields below
	spans map[string]int
	of    map[string]string
}

// Export implements collector.TraceServiceServer.
func (c *traces) Export(_ context.Context, q *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range q.ResourceSpans {
		for _, a := range r.Resource.Attributes {
			c.of[a.Key] = a.Value.GetStringValue()
		}
		for _, s := range r.ScopeSpans {
			for _, span := range s.Spans {
				c.spans[span.Name]++
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// TestTracingFlags: the flags of tracing reach a collector: every call and operation of a load is a span there, also those of the last
// moment before the member ends.
func TestTracingFlags(t *testing.T) {
	if testing.Short() {
		t.Skip("starts members")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, server := &traces{spans: map[string]int{}, of: map[string]string{}}, grpc.NewServer()
	collector.RegisterTraceServiceServer(server, c)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }() // ends with Stop
	defer func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	m := startMembers(t, run.Holdfast(t), 1, "--enable-distributed-tracing", "--distributed-tracing-address="+l.Addr().String(),
		"--distributed-tracing-service-name=store", "--distributed-tracing-instance-id=m0", "--distributed-tracing-sampling-rate=1000000")[0]
	load(t, m)
	if err := m.Stop(); err != nil { // what is left is sent
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, n := range map[string]int{
		"etcdserverpb.KV/Put": 20, "put": 20, "txn": 1, "delete_range": 1, "compact": 1, "lease_grant": 1, "lease_renew": 1, "lease_revoke": 1,
		"watch": 1, "etcdserverpb.Watch/Watch": 1,
	} {
		if c.spans[name] != n {
			t.Errorf("%d spans are called %s, want %d", c.spans[name], name, n)
		}
	}
	if c.of["service.name"] != "store" || c.of["service.instance.id"] != "m0" {
		t.Errorf("the spans are of %v", c.of)
	}
}
