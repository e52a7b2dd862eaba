package holdfast_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"holdfast"
)

func startMember(t *testing.T, cfg holdfast.Config) *holdfast.Member {
	t.Helper()
	m, err := holdfast.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Stop(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// TestStartRefuses is the table of configurations with which no member can be started; each says which field is wrong.
func TestStartRefuses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := filepath.Join(t.TempDir(), "d")
	for _, c := range []struct {
		cfg  holdfast.Config
		want string
	}{
		{holdfast.Config{}, "Config.DataDir"},
		{holdfast.Config{DataDir: dir, ListenClient: []string{"127.0.0.1:1"}}, "Config.ListenClient"},
		{holdfast.Config{DataDir: dir, ListenClient: []string{"http://" + l.Addr().String()}}, "in use"},
	} {
		m, err := holdfast.Start(t.Context(), c.cfg)
		if m != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want an error about %s", c.cfg, err, c.want)
		}
	}
}

// TestMemberInAProgram starts, uses, stops and starts again: over the connection within the process and over a socket; two
// members beside each other, but not two on one directory.
func TestMemberInAProgram(t *testing.T) {
	ctx := t.Context()
	cfg := holdfast.Config{DataDir: t.TempDir(), ListenClient: []string{"http://127.0.0.1:0"}}
	m := startMember(t, cfg)
	if _, err := pb.NewKVClient(m.Conn()).Put(ctx, &pb.PutRequest{Key: []byte("k"), Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	other := startMember(t, holdfast.Config{DataDir: t.TempDir(), Name: "other"})
	if r, err := pb.NewKVClient(other.Conn()).Range(ctx, &pb.RangeRequest{Key: []byte("k")}); err != nil || r.Count != 0 {
		t.Errorf("another member has %v, %v", r, err)
	}
	if len(other.ClientAddrs()) != 0 {
		t.Errorf("a member that was not asked to listens on %v", other.ClientAddrs())
	}
	if twice, err := holdfast.Start(ctx, holdfast.Config{DataDir: cfg.DataDir}); err == nil {
		t.Errorf("two members on one directory: %v", errors.Join(errors.New("started"), twice.Stop()))
	}

	conn, err := grpc.NewClient(m.ClientAddrs()[0].String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if r, err := pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte("k")}); err != nil || r.Count != 1 {
		t.Errorf("over the socket: %v, %v", r, err)
	}
	list, err := pb.NewClusterClient(other.Conn()).MemberList(ctx, &pb.MemberListRequest{})
	if err != nil || list.Members[0].Name != "other" {
		t.Errorf("members %v, %v", list, err)
	}

	if m.Err() != nil {
		t.Errorf("while it runs: %v", m.Err())
	}
	if err := errors.Join(m.Stop(), m.Stop()); err != nil {
		t.Error(err)
	}
	<-m.Done()
	if m.Err() != nil {
		t.Errorf("after an orderly stop: %v", m.Err())
	}
	if _, err := pb.NewKVClient(m.Conn()).Range(ctx, &pb.RangeRequest{Key: []byte("k")}); err == nil {
		t.Error("a stopped member answers")
	}
	again := startMember(t, cfg)
	if r, err := pb.NewKVClient(again.Conn()).Range(ctx, &pb.RangeRequest{Key: []byte("k")}); err != nil || r.Count != 1 {
		t.Errorf("after a restart: %v, %v", r, err)
	}
}

// TestStartCanBeGivenUp: a context that ends leaves nothing behind, and does not end a member that serves.
func TestStartCanBeGivenUp(t *testing.T) {
	cfg := holdfast.Config{DataDir: t.TempDir()}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if m, err := holdfast.Start(ctx, cfg); err == nil {
		t.Log("it was ready at once")
		if err := m.Stop(); err != nil {
			t.Error(err)
		}
	} else if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
	m, err := holdfast.Start(ctx, cfg)
	cancel()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pb.NewKVClient(m.Conn()).Put(t.Context(), &pb.PutRequest{Key: []byte("k")}); err != nil {
		t.Errorf("after the context of Start has ended: %v", err)
	}
	if err := m.Stop(); err != nil {
		t.Error(err)
	}
}

// TestHugeRevision deletes a million keys with one request: one revision with a million events. A watcher that takes fragments
// and one that does not get every event, in the order of the keys, once, and other calls are answered meanwhile.
func TestHugeRevision(t *testing.T) {
	keys := 1_000_000
	if testing.Short() {
		keys = 150_000 // more than a response with fragments holds
	}
	m := startMember(t, holdfast.Config{DataDir: t.TempDir()})
	kv := pb.NewKVClient(m.Conn())
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	const perTxn = 128
	for n := 0; n < keys; n += perTxn {
		q := new(pb.TxnRequest)
		for i := n; i < min(n+perTxn, keys); i++ {
			q.Success = append(q.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: fmt.Appendf(nil, "k%07d", i)}}})
		}
		if _, err := kv.Txn(ctx, q); err != nil {
			t.Fatal(err)
		}
	}
	streams := map[bool]pb.Watch_WatchClient{}
	for _, fragment := range []bool{false, true} {
		w, err := pb.NewWatchClient(m.Conn()).Watch(ctx, grpc.MaxCallRecvMsgSize(1<<30))
		if err != nil {
			t.Fatal(err)
		}
		create := &pb.WatchCreateRequest{Key: []byte("k"), RangeEnd: []byte("l"), Fragment: fragment}
		if err := w.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}); err != nil {
			t.Fatal(err)
		}
		if r, err := w.Recv(); err != nil || !r.Created {
			t.Fatal(r, err)
		}
		streams[fragment] = w
	}
	r, err := kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte("k"), RangeEnd: []byte("l")})
	if err != nil || r.Deleted != int64(keys) {
		t.Fatal(r, err)
	}
	for fragment, w := range streams {
		responses := 0
		for n := 0; n < keys; responses++ {
			got, err := w.Recv()
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range got.Events {
				if want := fmt.Sprintf("k%07d", n); string(e.Kv.Key) != want || e.Kv.ModRevision != r.Header.Revision || e.Type != mvccpb.DELETE {
					t.Fatalf("event %d is %v of %s at %d, want the deletion of %s at %d", n, e.Type, e.Kv.Key, e.Kv.ModRevision, want, r.Header.Revision)
				}
				n++
			}
			if more := n < keys; got.Fragment != more || !fragment && more {
				t.Fatalf("fragments asked for: %t; after %d of %d events the response says %t", fragment, n, keys, got.Fragment)
			}
		}
		if put, err := kv.Put(ctx, &pb.PutRequest{Key: []byte("other")}); err != nil {
			t.Fatal(put, err)
		}
		if fragment != (responses > 1) {
			t.Errorf("fragments asked for: %t; the events came in %d responses", fragment, responses)
		}
	}
}
