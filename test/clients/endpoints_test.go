package clients

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"holdfast/proxy/relay"
	"holdfast/test/etcd"
	"holdfast/test/run"
)

// programs are etcd, which shows that the tests ask for what is so, and the binary.
func programs(t *testing.T) map[string]string {
	return map[string]string{"etcd": etcd.Binary(t, "etcd"), "the binary": binary(t)}
}

// connect reaches a server or a proxy.
func connect(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// way is a gateway of the test's own before a member: it counts clients, and can be closed.
type way struct {
	net.Listener
	clients atomic.Int32 // connections over which something was said
}

// Accept implements net.Listener.
func (w *way) Accept() (net.Conn, error) {
	c, err := w.Listener.Accept()
	return &visit{Conn: c, of: w}, err
}

// visit is one connection.
type visit struct {
	net.Conn
	of    *way
	first sync.Once
}

// Read implements net.Conn.
func (v *visit) Read(p []byte) (int, error) {
	n, err := v.Conn.Read(p)
	if n > 0 {
		v.first.Do(func() { v.of.clients.Add(1) })
	}
	return n, err
}

// open serves a way to a member until it is closed; then the connections over it end as well.
func (w *way) open(t *testing.T, to string) (shut func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- relay.New(relay.Config{Targets: []relay.Target{{Address: to}}, Log: slog.New(slog.DiscardHandler)}).Run(ctx, w)
	}()
	shut = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		ended <- nil // for the next call
	}
	t.Cleanup(shut)
	return shut
}

// TestProxySyncsEndpoints: a proxy that knows one way to a member of two learns the other by --endpoints-auto-sync-interval, and goes on
// when the first is closed. One without the flag does not.
func TestProxySyncsEndpoints(t *testing.T) {
	for name, program := range programs(t) {
		t.Run(name, func(t *testing.T) {
			var ways [2]way
			var urls []string
			for i := range ways {
				l, err := net.Listen("tcp", etcd.FreeAddress(t))
				if err != nil {
					t.Fatal(err)
				}
				ways[i].Listener = l
				urls = append(urls, "http://"+l.Addr().String())
			}
			// The member is an etcd: ours looks whether its addresses lead to it, and would count as a client.
			member := serveWith(t, run.Config{Binary: etcd.Binary(t, "etcd"), Dir: t.TempDir(), AdvertiseClient: strings.Join(urls, ",")})
			first := ways[0].open(t, member.Client)
			ways[1].open(t, member.Client)
			through := func(flags ...string) *grpc.ClientConn {
				flags = append([]string{"--endpoints", urls[0]}, flags...)
				return connect(t, run.Beside{Program: program, Kind: "grpc-proxy", Flags: flags}.Start(t))
			}
			synced, fixed := through("--endpoints-auto-sync-interval", "100ms"), through()
			for _, conn := range []*grpc.ClientConn{synced, fixed} {
				if err := putOnce(t, conn, "before"); err != nil {
					t.Fatal(err)
				}
			}
			for deadline := time.Now().Add(30 * time.Second); ways[1].clients.Load() == 0; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("nobody takes the other way")
				}
			}
			first()
			err := putOnce(t, synced, "after")
			for deadline := time.Now().Add(30 * time.Second); err != nil && time.Now().Before(deadline); {
				err = putOnce(t, synced, "after") // the first may have been on the way that was closed
			}
			if err != nil {
				t.Errorf("through the proxy that asks for the members: %v", err)
			}
			if err := putOnce(t, fixed, "after"); err == nil {
				t.Error("the proxy without the flag has found the other way")
			}
		})
	}
}

// putOnce writes.
func putOnce(t *testing.T, conn *grpc.ClientConn, key string) error {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, err := pb.NewKVClient(conn).Put(ctx, &pb.PutRequest{Key: []byte(key)})
	return err
}

// behind is a member that answers every read at one revision.
type behind struct {
	pb.UnimplementedKVServer
	revision int64
	asked    atomic.Int32
}

// Range implements pb.KVServer.
func (b *behind) Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
	b.asked.Add(1)
	return &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: b.revision}}, nil
}

// TestProxyOrdersReads: of two members one lags behind. With --experimental-serializable-ordering serializable reads never go back to an
// older revision; without it they do, and through etcd's proxy with it as well.
func TestProxyOrdersReads(t *testing.T) {
	for name, program := range programs(t) {
		t.Run(name, func(t *testing.T) {
			orders := name != "etcd"
			members := []*behind{{revision: 5}, {revision: 9}}
			var addresses []string
			for _, m := range members {
				addresses = append(addresses, answering(t, m))
			}
			flags := []string{"--endpoints", strings.Join(addresses, ",")}
			for ordered, flags := range map[bool][]string{true: append(flags, "--experimental-serializable-ordering"), false: flags} {
				kv := pb.NewKVClient(connect(t, run.Beside{Program: program, Kind: "grpc-proxy", Flags: flags}.Start(t)))
				var last int64
				back := 0
				for i := range 100 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					r, err := kv.Range(ctx, &pb.RangeRequest{Key: fmt.Append(nil, i), Serializable: true}) // a key that no cache knows
					cancel()
					if err != nil {
						t.Fatalf("ordered %v: %v", ordered, err)
					}
					if r.Header.Revision < last {
						back++
					}
					last = r.Header.Revision
				}
				if (ordered && orders) != (back == 0) {
					t.Errorf("ordered %v: %d reads of 100 went back in time", ordered, back)
				}
			}
			for _, m := range members {
				if m.asked.Load() == 0 {
					t.Errorf("the member at revision %d was never asked", m.revision)
				}
			}
		})
	}
}

// answering serves a member until the test ends and returns its address.
func answering(t *testing.T, kv pb.KVServer) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	pb.RegisterKVServer(s, kv)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}
