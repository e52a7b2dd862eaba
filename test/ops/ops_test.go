package ops

import (
	"context"
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"holdfast/test/etcd"
	"holdfast/test/mixed"
	"holdfast/test/run"
)

// patience bounds what has no bound of its own: only what is broken takes so long.
const patience = 2 * time.Minute

// client asks one member.
type client struct {
	t    *testing.T
	ctx  context.Context
	conn *grpc.ClientConn
	pb.KVClient
	pb.MaintenanceClient
}

func dial(t *testing.T, address string) *client {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableServiceConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return &client{t, t.Context(), conn, pb.NewKVClient(conn), pb.NewMaintenanceClient(conn)}
}

// three starts a cluster of three members and returns a client of each.
func three(t *testing.T, flags ...string) []*client {
	t.Helper()
	if testing.Short() {
		t.Skip("starts clusters")
	}
	binaries := [2]string{etcd.Binary(t, "etcd"), run.Holdfast(t)}
	cluster, err := mixed.Open(t.Context(), t.TempDir(), binaries, flags, mixed.Holdfast, mixed.Holdfast, mixed.Holdfast)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	var clients []*client
	for _, address := range cluster.Clients() {
		clients = append(clients, dial(t, address))
	}
	return clients
}

// one starts a member alone.
func one(t *testing.T, dir string, flags ...string) *run.Server {
	t.Helper()
	if testing.Short() {
		t.Skip("starts servers")
	}
	server, err := run.Start(t.Context(), run.Config{Binary: run.Holdfast(t), Dir: dir, Args: flags})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Kill)
	return server
}

func (c *client) status() *pb.StatusResponse {
	c.t.Helper()
	s, err := c.Status(c.ctx, &pb.StatusRequest{})
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

// noise is a value that no storage makes smaller.
func noise(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}

func (c *client) put(key string, value []byte) error {
	_, err := c.Put(c.ctx, &pb.PutRequest{Key: []byte(key), Value: value})
	return err
}

// everything is the range of all keys.
var everything = []byte{0}

// clear deletes every key and drops the history.
func (c *client) clear() {
	c.t.Helper()
	r, err := c.DeleteRange(c.ctx, &pb.DeleteRangeRequest{Key: everything, RangeEnd: everything})
	if err == nil {
		_, err = c.Compact(c.ctx, &pb.CompactionRequest{Revision: r.Header.Revision, Physical: true})
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("wait for %s: %v", what, err)
		}
	}
}

// mustNot is a reason to go on waiting.
func mustNot(wrong bool, format string, args ...any) error {
	if wrong {
		return fmt.Errorf(format, args...)
	}
	return nil
}
