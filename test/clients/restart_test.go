package clients

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// TestRestart kills the server and starts it again while clients that require a leader ask all the time, as a
// kube-apiserver's watches do. A server that starts may refuse connections or keep calls waiting; it must not answer
// that there is no leader, because such an answer ends a watch for good.
func TestRestart(t *testing.T) {
	server := serve(t, binary(t))
	for range 4 {
		server.Kill()
		ctx, stop := context.WithCancel(t.Context())
		var asking sync.WaitGroup
		for range 4 {
			asking.Go(func() { askForLeader(ctx, t, server.Client) })
		}
		if err := server.Restart(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(100 * time.Millisecond) // for calls that were accepted early and are answered late
		stop()
		asking.Wait()
	}
}

// askForLeader opens one watch after the other, each on a new connection, until ctx ends.
func askForLeader(ctx context.Context, t *testing.T, address string) {
	for ctx.Err() == nil {
		if err := openWatch(ctx, address); err != nil && strings.Contains(err.Error(), rpctypes.ErrorDesc(rpctypes.ErrGRPCNoLeader)) {
			t.Errorf("a watch that requires a leader is refused while the server starts: %v", err)
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// openWatch opens a watch and waits until it is created.
func openWatch(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // fails only when closed already
	ctx = metadata.AppendToOutgoingContext(ctx, rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
	watch, err := pb.NewWatchClient(conn).Watch(ctx)
	if err != nil {
		return err
	}
	create := &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("a")}}
	if err := watch.Send(&pb.WatchRequest{RequestUnion: create}); err != nil {
		_, err = watch.Recv() // says why
		return err
	}
	_, err = watch.Recv()
	return err
}
