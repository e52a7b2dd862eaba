package port

import (
	"context"
	"reflect"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// PrefixBytes is what precedes each message on a stream of gRPC: one byte that tells whether the message is compressed, and its length in four.
const PrefixBytes = 5

var sliceType, buffersType, errorType = reflect.TypeFor[[]byte](), reflect.TypeFor[mem.BufferSlice](), reflect.TypeFor[error]()

// SeveralOf gives what sends several messages on the stream of ctx at once: they lie one behind the other, each with its prefix, uncompressed, and are the
// caller's to free. It is nil where that cannot be, and counts nothing; SendMsg does both.
//
// gRPC's own interface takes a message at a time, and each goes through a dozen steps and the hands of two goroutines: with ten watchers of one key on a stream,
// an eighth of what an event cost us, and a fifth of what it cost the client (row watch-1000). What lies behind SendMsg takes bytes, and a frame of HTTP/2
// may hold several messages; but that method has an argument of a package which is not for others, so it is looked for by its name and form.
func SeveralOf(ctx context.Context) func(mem.BufferSlice) error {
	stream := grpc.ServerTransportStreamFromContext(ctx)
	compressing, is := stream.(interface{ SendCompress() string })
	if !is || compressing.SendCompress() != "" {
		return nil
	}
	write := reflect.ValueOf(stream).MethodByName("Write") // (head []byte, data mem.BufferSlice, options *transport.WriteOptions) error
	if !write.IsValid() || !isWrite(write.Type()) {
		return nil
	}
	head, options := reflect.Zero(sliceType), reflect.Zero(write.Type().In(2))
	return func(messages mem.BufferSlice) error {
		err, _ := write.Call([]reflect.Value{head, reflect.ValueOf(messages), options})[0].Interface().(error)
		if _, is := status.FromError(err); !is { // the connection is gone
			err = status.Error(codes.Unavailable, err.Error())
		}
		return err
	}
}

func isWrite(t reflect.Type) bool {
	return t.NumIn() == 3 && t.In(0) == sliceType && t.In(1) == buffersType && t.In(2).Kind() == reflect.Pointer &&
		t.NumOut() == 1 && t.Out(0) == errorType
}
