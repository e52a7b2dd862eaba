package api

import (
	"log/slog"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc/metadata"

	"holdfast/tracing"
	"holdfast/tracing/tracetest"
)

// traceService runs a member that sends its spans to a collector.
func traceService(t *testing.T, perMillion int) (*service, *tracetest.Collector, *tracing.Tracing) {
	to := tracetest.Start(t)
	traces, err := tracing.Start(t.Context(), tracing.Config{
		Address: to.Address, Service: "etcd", Instance: "m0", PerMillion: perMillion, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	member, cfg := testServerConfig(), testConfig()
	member.Tracing, cfg.Tracing = traces, traces
	return serve(t, member, cfg), to, traces
}

func attributes(s *tracepb.Span) map[string]string {
	says := map[string]string{}
	for _, a := range s.Attributes {
		says[a.Key] = strings.Trim(a.Value.String(), ` `)
	}
	return says
}

// TestTraces: a call and the operation in it are spans of one trace, with etcd's names, what was asked, what was waited for, and what
// went wrong.
func TestTraces(t *testing.T) {
	s, to, traces := traceService(t, 1e6)
	ctx := t.Context()
	s.put("the-key", "the-secret-value")
	if _, err := s.kv.Range(ctx, &pb.RangeRequest{Key: []byte("the-key")}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.kv.Range(ctx, &pb.RangeRequest{Key: []byte("k"), Revision: 1000}); err == nil {
		t.Fatal("a future revision is answered")
	}
	if _, err := s.kv.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("in-txn")}}}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte("the-key")}); err != nil {
		t.Fatal(err)
	}
	grant, err := s.lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 60})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: grant.ID}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.kv.Compact(ctx, &pb.CompactionRequest{Revision: 3}); err != nil {
		t.Fatal(err)
	}
	s.stop()
	if err := traces.Close(); err != nil {
		t.Fatal(err)
	}
	if to.Of("service.name") != "etcd" || to.Of("service.instance.id") != "m0" {
		t.Errorf("the spans are of %q, %q", to.Of("service.name"), to.Of("service.instance.id"))
	}
	for name, n := range map[string]int{
		"put": 1, "range": 2, "txn": 1, "delete_range": 1, "lease_grant": 1, "lease_revoke": 1, "compact": 1,
		"etcdserverpb.KV/Put": 1, "etcdserverpb.KV/Range": 2, "etcdserverpb.Lease/LeaseGrant": 1,
	} {
		if got := len(to.Named(name)); got != n {
			t.Errorf("%d spans are called %s, want %d", got, name, n)
		}
	}
	if t.Failed() {
		return
	}
	put, call := to.Named("put")[0], to.Named("etcdserverpb.KV/Put")[0]
	if !slices.Equal(put.ParentSpanId, call.SpanId) || !slices.Equal(put.TraceId, call.TraceId) {
		t.Error("the put is not within its call")
	}
	if says := attributes(put); says["key"] != `string_value:"the-key"` {
		t.Errorf("the put says %v", says)
	}
	var events []string
	for _, e := range put.Events {
		events = append(events, e.Name)
	}
	if !slices.Equal(events, []string{"Send raft proposal", "Receive raft result"}) {
		t.Errorf("the put waited for %q", events)
	}
	if read := to.Named("range")[0]; len(read.Events) != 1 || read.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR {
		t.Errorf("the range waited for %v, and is %v", read.Events, read.Status)
	}
	if bad := to.Named("range")[1]; bad.Status.GetCode() != tracepb.Status_STATUS_CODE_ERROR {
		t.Errorf("the range of a future revision is %v", bad.Status)
	}
	if says := attributes(to.Named("txn")[0]); says["success_first_key"] != `string_value:"in-txn"` || says["success_len"] != "int_value:1" {
		t.Errorf("the txn says %v", says)
	}
	for _, span := range to.Spans() {
		if strings.Contains(span.String(), "the-secret-value") {
			t.Errorf("a value is in a span: %v", span)
		}
	}
}

// TestTracesAsked: at a rate of 0 only those are traced whose caller is.
func TestTracesAsked(t *testing.T) {
	s, to, traces := traceService(t, 0)
	s.put("k", "v")
	const trace = "0af7651916cd43dd8448eb211c80319c"
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+trace+"-b7ad6b7169203331-01")
	if _, err := s.kv.Put(ctx, &pb.PutRequest{Key: []byte("k")}); err != nil {
		t.Fatal(err)
	}
	s.stop()
	if err := traces.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(to.Named("put")); n != 1 {
		t.Fatalf("%d puts were traced", n)
	}
	if id := to.Named("put")[0].TraceId; !slices.Equal(id, []byte("\x0a\xf7\x65\x19\x16\xcd\x43\xdd\x84\x48\xeb\x21\x1c\x80\x31\x9c")) {
		t.Errorf("the trace is %x", id)
	}
}
