package port

import (
	"context"
	"errors"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// TestSeveral sends three messages at once on a stream of gRPC as it is, which must not have changed what SeveralOf looks for, and none
// where the client wants them compressed.
func TestSeveral(t *testing.T) {
	if SeveralOf(t.Context()) != nil {
		t.Error("something without a stream")
	}
	errNone := errors.New("messages cannot be sent at once")
	messages := "\x00\x00\x00\x00\x03\x0a\x01a" + "\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x04\x0a\x02bc" // of wrapperspb.BytesValue
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		several := SeveralOf(stream.Context())
		if several == nil {
			return errNone
		}
		return several(mem.BufferSlice{mem.SliceBuffer(messages[:10]), mem.SliceBuffer(messages[10:])})
	}))
	door := bufconn.Listen(64 << 10)
	done := make(chan error, 1)
	go func() { done <- server.Serve(door) }()
	defer func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	conn, err := grpc.NewClient("passthrough:///door", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return door.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/any/thing")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a", "", "bc"} {
		var got wrapperspb.BytesValue
		if err := stream.RecvMsg(&got); err != nil || string(got.Value) != want {
			t.Fatalf("received %q, %v, want %q", got.Value, err, want)
		}
	}
	packed, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/any/thing", grpc.UseCompressor("gzip"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(packed.SendMsg(&wrapperspb.BytesValue{}), packed.CloseSend()); err != nil {
		t.Fatal(err)
	}
	if err := packed.RecvMsg(&wrapperspb.BytesValue{}); err == nil {
		t.Error("messages that are not compressed where the client wants them so")
	}
}
