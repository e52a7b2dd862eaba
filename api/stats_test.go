package api

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"

	"holdfast/api/calls"
)

func metricsOf(s *service) string {
	w := httptest.NewRecorder()
	s.api.web.Metrics().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

// TestCallsAreCounted: calls of every outcome, what goes over streams, and what clients say of themselves.
func TestCallsAreCounted(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		s.put("k", "v")
		s.put("k", "w")
		kv := s.kv
		if _, err := kv.Put(t.Context(), &pb.PutRequest{}); err == nil {
			t.Error("a put without key passes")
		}
		for i := range 40 {
			ctx := metadata.AppendToOutgoingContext(t.Context(), rpctypes.MetadataClientAPIVersionKey, fmt.Sprintf("9.%d", i))
			if _, err := kv.Range(ctx, &pb.RangeRequest{Key: []byte("k")}); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := s.watch.Watch(ctx)
		if err != nil {
			t.Fatal(err)
		}
		create := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("k"), StartRevision: 1}}}
		if err := stream.Send(create); err != nil {
			t.Fatal(err)
		}
		for range 2 { // created, and both events
			if _, err := stream.Recv(); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		if _, err := stream.Recv(); err == nil {
			t.Fatal("the watch goes on")
		}
		synctest.Wait()
		text := metricsOf(s)
		const kvPut = `grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"`
		const watch = `grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"`
		for _, want := range []string{
			"grpc_server_started_total{" + kvPut + "} 3", `grpc_server_handled_total{grpc_code="OK",` + kvPut + "} 2",
			`grpc_server_handled_total{grpc_code="InvalidArgument",` + kvPut + "} 1", "grpc_server_msg_received_total{" + kvPut + "} 3",
			"grpc_server_started_total{" + watch + "} 1", `grpc_server_handled_total{grpc_code="Canceled",` + watch + "} 1",
			"grpc_server_msg_received_total{" + watch + "} 1", "grpc_server_msg_sent_total{" + watch + "} 2",
			`etcd_server_client_requests_total{client_api_version="9.0",type="unary"} 1`,
			`etcd_server_client_requests_total{client_api_version="unknown",type="stream"} 1`,
			`grpc_server_handled_total{grpc_code="OK",grpc_method="Snapshot",grpc_service="etcdserverpb.Maintenance",grpc_type="server_stream"} 0`,
		} {
			if !strings.Contains(text, "\n"+want+"\n") {
				t.Errorf("%s is missing", want)
			}
		}
		if n := strings.Count(text, "\netcd_server_client_requests_total{"); n > calls.ClientVersionsMax+2 {
			t.Errorf("%d kinds of clients are told apart", n)
		}
		for _, family := range []string{"etcd_network_client_grpc_sent_bytes_total", "etcd_network_client_grpc_received_bytes_total"} {
			if strings.Contains(text, "\n"+family+" 0\n") {
				t.Errorf("%s is 0", family)
			}
		}
		if strings.Contains(text, "grpc_server_handling_seconds") {
			t.Error("durations of calls are shown, and were not asked for")
		}
	})
}
