package api

import (
	"context"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"
)

// TestTokenInEveryField: a token comes in the field of gRPC or in that of HTTP, with and without what HTTP puts before it.
func TestTokenInEveryField(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		u := withUsers(t, s)
		good := u.token("alice")
		for _, test := range []struct {
			fields []string
			err    error
		}{
			{[]string{"token", good}, nil},
			{[]string{"token", bearer + good}, nil},
			{[]string{"authorization", good}, nil},
			{[]string{"authorization", bearer + good}, nil},
			{[]string{"token", good, "authorization", "bad"}, nil},
			{[]string{"token", "bad", "authorization", good}, rpctypes.ErrGRPCInvalidAuthToken},
			{[]string{"token", ""}, rpctypes.ErrGRPCInvalidAuthToken},
			{[]string{"token", good + "0"}, rpctypes.ErrGRPCInvalidAuthToken},
			{[]string{"token", good[:17] + "18446744073709551615"}, rpctypes.ErrGRPCInvalidAuthToken},
			{[]string{"x", good}, rpctypes.ErrGRPCUserEmpty},
		} {
			ctx := metadata.AppendToOutgoingContext(t.Context(), test.fields...)
			_, err := u.kv.Range(ctx, &pb.RangeRequest{Key: []byte("a")})
			answered(t, test.fields[0], err, test.err)
		}
	})
}

// TestTokensEnd: a token is good as long as it is used and its user has the password it had.
func TestTokensEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		u := withUsers(t, s)
		read := func(what string, ctx context.Context, want error) {
			t.Helper()
			_, err := u.kv.Range(ctx, &pb.RangeRequest{Key: []byte("a")})
			answered(t, what, err, want)
		}
		alice, idle := u.as("alice"), u.as("alice")
		for range 3 {
			time.Sleep(200 * time.Second)
			read("used", alice, nil)
		}
		read("not used", idle, rpctypes.ErrGRPCInvalidAuthToken)
		if n := u.api.cfg.Logins.Tokens(); n != 1 {
			t.Errorf("%d tokens are kept", n)
		}
		other := u.as("bob")
		change := &pb.AuthUserChangePasswordRequest{Name: "alice", Password: "secret of alice"}
		if _, err := u.auth.UserChangePassword(u.as("root"), change); err != nil {
			t.Fatal(err)
		}
		read("another password", alice, rpctypes.ErrGRPCInvalidAuthToken)
		read("of another user", other, rpctypes.ErrGRPCPermissionDenied)
		alice = u.as("alice")
		read("logged in again", alice, nil)
		if _, err := u.auth.UserRevokeRole(u.as("root"), &pb.AuthUserRevokeRoleRequest{Name: "alice", Role: "letters"}); err != nil {
			t.Fatal(err)
		}
		read("without the role", alice, rpctypes.ErrGRPCPermissionDenied)
		if _, err := u.auth.UserDelete(u.as("root"), &pb.AuthUserDeleteRequest{Name: "alice"}); err != nil {
			t.Fatal(err)
		}
		read("deleted", alice, rpctypes.ErrGRPCInvalidAuthToken)
		root := u.as("root")
		if _, err := u.auth.AuthDisable(root, &pb.AuthDisableRequest{}); err != nil {
			t.Fatal(err)
		}
		read("authentication is off", alice, nil)
		if _, err := u.auth.AuthEnable(t.Context(), &pb.AuthEnableRequest{}); err != nil {
			t.Fatal(err)
		}
		read("from before", root, rpctypes.ErrGRPCInvalidAuthToken)
	})
}

// TestStreamsOutliveTokens: a stream goes on when its token has ended, but whatever is asked on it then is refused.
func TestStreamsOutliveTokens(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		u := withUsers(t, s)
		alice := u.as("alice")
		watch, err := u.watch.Watch(alice)
		if err != nil {
			t.Fatal(err)
		}
		alive, err := u.lease.LeaseKeepAlive(alice)
		if err != nil {
			t.Fatal(err)
		}
		lease, err := u.lease.LeaseGrant(alice, &pb.LeaseGrantRequest{TTL: 10000})
		if err != nil {
			t.Fatal(err)
		}
		create := func(key string) *pb.WatchResponse {
			t.Helper()
			err := watch.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte(key)}}})
			if err != nil {
				t.Fatal(err)
			}
			r, err := watch.Recv()
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		renew := func() error {
			t.Helper()
			if err := alive.Send(&pb.LeaseKeepAliveRequest{ID: lease.ID}); err != nil {
				t.Fatal(err)
			}
			return second(alive.Recv())
		}
		if r := create("a"); r.Canceled || !r.Created {
			t.Errorf("%v", r)
		}
		if r := create("k"); !r.Canceled || r.WatchId != -1 || r.CancelReason != rpctypes.ErrGRPCPermissionDenied.Error() {
			t.Errorf("%v", r)
		}
		answered(t, "renew", renew(), nil)
		time.Sleep(301 * time.Second)
		if r := create("a"); !r.Canceled || r.WatchId != -1 || r.CancelReason != rpctypes.ErrGRPCInvalidAuthToken.Error() {
			t.Errorf("%v", r)
		}
		if _, err := u.kv.Put(u.as("root"), &pb.PutRequest{Key: []byte("a")}); err != nil {
			t.Fatal(err)
		}
		if r, err := watch.Recv(); err != nil || len(r.Events) != 1 {
			t.Errorf("an event for a watch that was allowed: %v, %v", r, err)
		}
		answered(t, "renew after the end of the token", renew(), rpctypes.ErrGRPCInvalidAuthToken)
	})
}
