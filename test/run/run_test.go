package run

import (
	"context"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"holdfast/test/etcd"
)

// TestServer starts an etcd, writes, kills it, starts it again and reads: data and address stay, processes do not.
func TestServer(t *testing.T) {
	if testing.Short() {
		t.Skip("starts etcd")
	}
	ctx := t.Context()
	s, err := Start(ctx, Config{Binary: etcd.Binary(t, "etcd"), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Kill()
	conn, err := grpc.NewClient(s.Client, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	kv := pb.NewKVClient(conn)
	if _, err := kv.Put(ctx, &pb.PutRequest{Key: []byte("k"), Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	first := s.Pid()
	s.Kill()
	if s.Pid() != 0 {
		t.Fatalf("process %d after Kill", s.Pid())
	}
	if err := s.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	if s.Pid() == first {
		t.Fatalf("process %d is the one that was killed", first)
	}
	r, err := kv.Range(ctx, &pb.RangeRequest{Key: []byte("k")}, grpc.WaitForReady(true))
	if err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "v" {
		t.Fatalf("after kill and restart: %v, %v", r, err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
}

// TestStartReportsTheLog starts a program that ends at once and expects what it said in the error.
func TestStartReportsTheLog(t *testing.T) {
	_, err := Start(context.Background(), Config{Binary: "/bin/echo", Dir: t.TempDir(), Args: []string{"said goodbye"}})
	if err == nil || !strings.Contains(err.Error(), "said goodbye") {
		t.Fatalf("error without the program's words: %v", err)
	}
}
