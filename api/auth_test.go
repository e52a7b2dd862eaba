package api

import (
	"context"
	"errors"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"holdfast/api/lockpb"
)

// users is a service with authentication on: root may everything, alice reads and writes from a to b, bob nothing.
type users struct {
	*service
	auth pb.AuthClient
}

func withUsers(t testing.TB, s *service) users {
	t.Helper()
	u := users{s, pb.NewAuthClient(s.conn)}
	ctx := t.Context()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"root", "alice", "bob"} {
		must(u.auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: name, Password: "secret of " + name}))
	}
	must(u.auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"}))
	must(u.auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: "letters"}))
	must(u.auth.RoleGrantPermission(ctx, &pb.AuthRoleGrantPermissionRequest{Name: "letters",
		Perm: &authpb.Permission{Key: []byte("a"), RangeEnd: []byte("b"), PermType: authpb.Permission_READWRITE}}))
	must(u.auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "alice", Role: "letters"}))
	must(u.auth.AuthEnable(ctx, &pb.AuthEnableRequest{}))
	return u
}

// with is the context of a call that brings a token.
func (u users) with(text string) context.Context {
	return metadata.AppendToOutgoingContext(u.t.Context(), rpctypes.TokenFieldNameGRPC, text)
}

// as is the context of a call of a user that has just logged in.
func (u users) as(name string) context.Context {
	u.t.Helper()
	return u.with(u.token(name))
}

func (u users) token(name string) string {
	u.t.Helper()
	r, err := u.auth.Authenticate(u.t.Context(), &pb.AuthenticateRequest{Name: name, Password: "secret of " + name})
	if err != nil {
		u.t.Fatal(err)
	}
	return r.Token
}

// answered asks that a call was answered with an error of rpctypes, code and text; nil is none.
func answered(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) && (got == nil || want == nil || got.Error() != want.Error()) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// TestAuthenticate: who is told what, with authentication off and on.
func TestAuthenticate(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		auth := pb.NewAuthClient(s.conn)
		_, err := auth.Authenticate(t.Context(), &pb.AuthenticateRequest{Name: "root", Password: "x"})
		answered(t, "off", err, rpctypes.ErrGRPCAuthNotEnabled)
		_, err = auth.AuthEnable(t.Context(), &pb.AuthEnableRequest{})
		answered(t, "without root", err, rpctypes.ErrGRPCRootUserNotExist)
		u := withUsers(t, s)
		for _, test := range []struct{ name, password string }{
			{"alice", "secret of bob"}, {"alice", ""}, {"nobody", "secret of alice"}, {"nobody", ""}, {"", ""},
		} {
			_, err := u.auth.Authenticate(t.Context(), &pb.AuthenticateRequest{Name: test.name, Password: test.password})
			answered(t, test.name, err, rpctypes.ErrGRPCAuthFailed)
		}
		r, err := u.auth.Authenticate(u.with("worth nothing"), &pb.AuthenticateRequest{Name: "alice", Password: "secret of alice"})
		if err != nil || r.Token == "" || r.Header.GetRevision() != 1 || r.Header.GetMemberId() == 0 {
			t.Errorf("%v, %v", r.GetHeader(), err)
		}
		if _, err := u.auth.UserAdd(u.as("root"), &pb.AuthUserAddRequest{Name: "cert", Options: &authpb.UserAddOptions{NoPassword: true}}); err != nil {
			t.Error(err)
		}
		_, err = u.auth.Authenticate(t.Context(), &pb.AuthenticateRequest{Name: "cert", Password: "x"})
		if want := "rpc error: code = Unknown desc = auth: authentication failed, password was given for no password user"; err == nil || err.Error() != want {
			t.Errorf("%v", err)
		}
		status, err := u.auth.AuthStatus(t.Context(), &pb.AuthStatusRequest{})
		if err != nil || !status.Enabled || status.AuthRevision != s.member.Auth().Revision() {
			t.Errorf("%v, %v", status, err)
		}
		_, err = u.auth.AuthStatus(u.with("worth nothing"), &pb.AuthStatusRequest{})
		answered(t, "status with a bad token", err, rpctypes.ErrGRPCInvalidAuthToken)
	})
}

// TestEveryCallAsksWhoAsks goes through all calls of all services, as every kind of caller.
func TestEveryCallAsksWhoAsks(t *testing.T) {
	inBubble(t, func(t *testing.T, s *service) {
		u := withUsers(t, s)
		root, bob, bad, none := u.as("root"), u.as("bob"), u.with("worth nothing"), t.Context()
		denied, empty, invalid := rpctypes.ErrGRPCPermissionDenied, rpctypes.ErrGRPCUserEmpty, rpctypes.ErrGRPCInvalidAuthToken
		key := []byte("k")
		lease, err := u.lease.LeaseGrant(root, &pb.LeaseGrantRequest{TTL: 1000})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.kv.Put(root, &pb.PutRequest{Key: key, Lease: lease.ID}); err != nil {
			t.Fatal(err)
		}
		admin, user := []error{empty, denied}, []error{empty, nil}
		for _, test := range []struct {
			name string
			// told is what nobody and bob are told; root is never told that.
			told []error
			call func(context.Context) error
		}{
			{"Range", admin, func(ctx context.Context) error { return second(u.kv.Range(ctx, &pb.RangeRequest{Key: key})) }},
			{"serializable Range", admin, func(ctx context.Context) error {
				return second(u.kv.Range(ctx, &pb.RangeRequest{Key: key, Serializable: true}))
			}},
			{"RangeStream", admin, func(ctx context.Context) error {
				stream, err := u.kv.RangeStream(ctx, &pb.RangeRequest{Key: key})
				if err != nil {
					return err
				}
				return second(stream.Recv())
			}},
			{"Put", admin, func(ctx context.Context) error { return second(u.kv.Put(ctx, &pb.PutRequest{Key: []byte("other")})) }},
			{"DeleteRange", admin, func(ctx context.Context) error {
				return second(u.kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte("none")}))
			}},
			{"Txn", admin, func(ctx context.Context) error {
				return second(u.kv.Txn(ctx, &pb.TxnRequest{Compare: []*pb.Compare{{Key: key}}}))
			}},
			{"Compact", admin, func(ctx context.Context) error { return second(u.kv.Compact(ctx, &pb.CompactionRequest{Revision: 99})) }},
			{"LeaseGrant", user, func(ctx context.Context) error { return second(u.lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 9})) }},
			{"LeaseTimeToLive", user, func(ctx context.Context) error {
				return second(u.lease.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: 99}))
			}},
			{"LeaseTimeToLive with keys", admin, func(ctx context.Context) error {
				return second(u.lease.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: lease.ID, Keys: true}))
			}},
			{"LeaseLeases", admin, func(ctx context.Context) error { return second(u.lease.LeaseLeases(ctx, &pb.LeaseLeasesRequest{})) }},
			{"LeaseRevoke", []error{empty, denied}, func(ctx context.Context) error {
				if ctx == root { // the rows behind need the lease
					return nil
				}
				return second(u.lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: lease.ID}))
			}},
			{"LeaseKeepAlive", admin, func(ctx context.Context) error {
				stream, err := u.lease.LeaseKeepAlive(ctx)
				if err != nil {
					return err
				}
				if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: lease.ID}); err != nil {
					return err
				}
				return second(stream.Recv())
			}},
			{"Lock", admin, func(ctx context.Context) error {
				return coded(u.conn.Invoke(ctx, "/v3lockpb.Lock/Lock", &lockpb.LockRequest{Name: []byte("lock"), Lease: lease.ID}, &lockpb.LockResponse{}))
			}},
			{"Unlock", admin, func(ctx context.Context) error {
				return coded(u.conn.Invoke(ctx, "/v3lockpb.Lock/Unlock", &lockpb.UnlockRequest{Key: []byte("lock/x")}, &lockpb.UnlockResponse{}))
			}},
			{"Leader", admin, func(ctx context.Context) error {
				return coded(u.conn.Invoke(ctx, "/v3electionpb.Election/Leader", &lockpb.LeaderRequest{Name: []byte("election")}, &lockpb.LeaderResponse{}))
			}},
			{"Alarm GET", user, func(ctx context.Context) error { return second(u.maintenance.Alarm(ctx, &pb.AlarmRequest{})) }},
			{"Alarm DEACTIVATE", admin, func(ctx context.Context) error {
				return second(u.maintenance.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, Alarm: pb.AlarmType_NOSPACE}))
			}},
			{"Status", user, func(ctx context.Context) error { return second(u.maintenance.Status(ctx, &pb.StatusRequest{})) }},
			{"Defragment", admin, func(ctx context.Context) error { return second(u.maintenance.Defragment(ctx, &pb.DefragmentRequest{})) }},
			{"Hash", admin, func(ctx context.Context) error { return second(u.maintenance.Hash(ctx, &pb.HashRequest{})) }},
			{"HashKV", admin, func(ctx context.Context) error { return second(u.maintenance.HashKV(ctx, &pb.HashKVRequest{})) }},
			{"Snapshot", admin, func(ctx context.Context) error {
				stream, err := u.maintenance.Snapshot(ctx, &pb.SnapshotRequest{})
				if err != nil {
					return err
				}
				return second(stream.Recv())
			}},
			{"MoveLeader", admin, func(ctx context.Context) error {
				return second(u.maintenance.MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: 1}))
			}},
			{"Downgrade", admin, func(ctx context.Context) error { return second(u.maintenance.Downgrade(ctx, &pb.DowngradeRequest{})) }},
			{"MemberAdd", admin, func(ctx context.Context) error {
				return second(u.cluster.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{"http://localhost:2380"}}))
			}},
			{"MemberRemove", admin, func(ctx context.Context) error {
				return second(u.cluster.MemberRemove(ctx, &pb.MemberRemoveRequest{ID: 1}))
			}},
			{"MemberUpdate", admin, func(ctx context.Context) error {
				return second(u.cluster.MemberUpdate(ctx, &pb.MemberUpdateRequest{ID: 1}))
			}},
			{"MemberPromote", admin, func(ctx context.Context) error {
				return second(u.cluster.MemberPromote(ctx, &pb.MemberPromoteRequest{ID: 1}))
			}},
			{"MemberList", user, func(ctx context.Context) error { return second(u.cluster.MemberList(ctx, &pb.MemberListRequest{})) }},
			{"AuthEnable", admin, func(ctx context.Context) error { return second(u.auth.AuthEnable(ctx, &pb.AuthEnableRequest{})) }},
			{"AuthDisable", []error{empty, denied}, func(ctx context.Context) error {
				if ctx == root { // would end the test
					return nil
				}
				return second(u.auth.AuthDisable(ctx, &pb.AuthDisableRequest{}))
			}},
			{"UserAdd", admin, func(ctx context.Context) error {
				return second(u.auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "bob", Password: "x"}))
			}},
			{"UserGet", admin, func(ctx context.Context) error {
				return second(u.auth.UserGet(ctx, &pb.AuthUserGetRequest{Name: "alice"}))
			}},
			{"UserList", admin, func(ctx context.Context) error { return second(u.auth.UserList(ctx, &pb.AuthUserListRequest{})) }},
			{"UserDelete", admin, func(ctx context.Context) error {
				return second(u.auth.UserDelete(ctx, &pb.AuthUserDeleteRequest{Name: "x"}))
			}},
			{"UserChangePassword", admin, func(ctx context.Context) error {
				return second(u.auth.UserChangePassword(ctx, &pb.AuthUserChangePasswordRequest{Name: "x", Password: "x"}))
			}},
			{"UserGrantRole", admin, func(ctx context.Context) error {
				return second(u.auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "x", Role: "x"}))
			}},
			{"UserRevokeRole", admin, func(ctx context.Context) error {
				return second(u.auth.UserRevokeRole(ctx, &pb.AuthUserRevokeRoleRequest{Name: "x", Role: "x"}))
			}},
			{"RoleAdd", admin, func(ctx context.Context) error {
				return second(u.auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: "letters"}))
			}},
			{"RoleGet", admin, func(ctx context.Context) error {
				return second(u.auth.RoleGet(ctx, &pb.AuthRoleGetRequest{Role: "letters"}))
			}},
			{"RoleList", admin, func(ctx context.Context) error { return second(u.auth.RoleList(ctx, &pb.AuthRoleListRequest{})) }},
			{"RoleDelete", admin, func(ctx context.Context) error {
				return second(u.auth.RoleDelete(ctx, &pb.AuthRoleDeleteRequest{Role: "x"}))
			}},
			{"RoleGrantPermission", admin, func(ctx context.Context) error {
				return second(u.auth.RoleGrantPermission(ctx, &pb.AuthRoleGrantPermissionRequest{Name: "x"}))
			}},
			{"RoleRevokePermission", admin, func(ctx context.Context) error {
				return second(u.auth.RoleRevokePermission(ctx, &pb.AuthRoleRevokePermissionRequest{Role: "x"}))
			}},
		} {
			answered(t, test.name+" by nobody", test.call(none), test.told[0])
			answered(t, test.name+" by bob", test.call(bob), test.told[1])
			answered(t, test.name+" with a bad token", test.call(bad), invalid)
			if err := test.call(root); err != nil {
				for _, refusal := range []error{denied, empty, invalid, rpctypes.ErrGRPCAuthOldRevision} {
					if err.Error() == refusal.Error() {
						t.Errorf("%s by root: %v", test.name, err)
					}
				}
			}
		}
		if r, err := u.auth.UserGet(bob, &pb.AuthUserGetRequest{Name: "bob"}); err != nil || len(r.Roles) > 0 {
			t.Errorf("bob asks for bob: %v, %v", r, err)
		}
		if r, err := u.auth.RoleGet(u.as("alice"), &pb.AuthRoleGetRequest{Role: "letters"}); err != nil || len(r.Perm) != 1 {
			t.Errorf("alice asks for her role: %v, %v", r, err)
		}
	})
}

// coded gives a refusal by a lock or an election the code that the refusal has elsewhere. With etcd they come without.
func coded(err error) error {
	for _, refusal := range []error{rpctypes.ErrGRPCPermissionDenied, rpctypes.ErrGRPCUserEmpty, rpctypes.ErrGRPCInvalidAuthToken} {
		if status.Code(err) == codes.Unknown && status.Convert(err).Message() == status.Convert(refusal).Message() {
			return refusal
		}
	}
	return err
}

func second[T any](_ T, err error) error { return err }

// BenchmarkWhoAsks: what a call costs more when authentication is on: the token is looked up in the metadata and in the table.
func BenchmarkWhoAsks(b *testing.B) {
	s := serve(b, testServerConfig(), testConfig())
	u := withUsers(b, s)
	in := metadata.NewIncomingContext(b.Context(), metadata.Pairs(":authority", "member", "content-type", "application/grpc",
		"user-agent", "grpc-go/1.85.0", "token", u.token("alice")))
	b.ReportAllocs()
	for b.Loop() {
		if err := u.member.CheckUser(u.api.withCaller(in)); err != nil {
			b.Fatal(err)
		}
	}
}
