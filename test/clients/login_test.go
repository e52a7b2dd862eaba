package clients

import (
	"context"
	"errors"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// TestLoginsAfterRestart: a member that was stopped has forgotten its tokens. Who shows one is told so, and a client that
// knows its password logs in again by itself.
func TestLoginsAfterRestart(t *testing.T) {
	server := serve(t, binary(t))
	ctx, cancel := context.WithTimeout(t.Context(), clientTimeout)
	defer cancel()
	connect := func(user, password string) *clientv3.Client {
		t.Helper()
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Client}, DialTimeout: 10 * time.Second, Username: user, Password: password})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() }) // its connection is gone with the server
		return c
	}
	admin := connect("", "")
	_, added := admin.UserAdd(ctx, "root", "top")
	_, granted := admin.UserGrantRole(ctx, "root", "root")
	_, enabled := admin.AuthEnable(ctx)
	if err := errors.Join(added, granted, enabled); err != nil {
		t.Fatal(err)
	}
	root := connect("root", "top")
	if _, err := root.Put(ctx, "a", "1"); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(server.Client, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // fails only when closed already
	given, err := pb.NewAuthClient(conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: "root", Password: "top"})
	if err != nil {
		t.Fatal(err)
	}
	withToken := metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, given.Token)
	get := func() error {
		_, err := pb.NewKVClient(conn).Range(withToken, &pb.RangeRequest{Key: []byte("a")}, grpc.WaitForReady(true))
		return err
	}
	if err := get(); err != nil {
		t.Fatal(err)
	}
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := server.Launch(); err != nil { // Restart would ask for a key, and nobody may
		t.Fatal(err)
	}
	if err := get(); err == nil || err.Error() != rpctypes.ErrGRPCInvalidAuthToken.Error() {
		t.Errorf("with the token of an earlier life: %v", err)
	}
	if _, err := root.Put(ctx, "a", "2"); err != nil {
		t.Errorf("the client did not log in again: %v", err)
	}
}
