package api

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"sync"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// overheard is the client's side of a connection that keeps what the server says.
type overheard struct {
	net.Conn
	mu   sync.Mutex // guards the field below
	said bytes.Buffer
}

func (o *overheard) Read(p []byte) (int, error) {
	n, err := o.Conn.Read(p)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.said.Write(p[:n])
	return n, err
}

// frames counts what the server has said by the type of the frame; answers to pings do not count.
func (o *overheard) frames() map[byte]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	const head, typePing, ack = 9, 6, 1
	count := map[byte]int{}
	for rest := o.said.Bytes(); len(rest) >= head; {
		if kind := rest[3]; kind != typePing || rest[4]&ack == 0 {
			count[kind]++
		}
		rest = rest[min(len(rest), head+int(binary.BigEndian.Uint32(rest)>>8)):]
	}
	return count
}

// TestNoMeasuring listens to what the server sends beside answers while requests come one after the other: no pings, by which gRPC measures
// how large a window should be, and no window for each request. A request of the largest size comes in.
func TestNoMeasuring(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		var heard overheard
		conn, err := grpc.NewClient("passthrough:///member", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				c, err := s.door.DialContext(ctx)
				heard.Conn = c
				return &heard, err
			}), grpc.WithIdleTimeout(0))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		put := func(size int) {
			if _, err := pb.NewKVClient(conn).Put(t.Context(), &pb.PutRequest{Key: []byte("k"), Value: make([]byte, size)}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		const calls, typePing, typeWindow = 50, 6, 8
		for range calls {
			put(1 << 10)
		}
		if n := heard.frames(); n[typePing] > 0 || n[typeWindow] >= calls/2 {
			t.Errorf("frames by type with %d answers: %v", calls, n)
		}
		put(1<<20 - 1000)
	})
}
