package utl

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"holdfast/test/run"
)

// password is root's, once authentication is on.
const password = "secret"

// client asks one server, as root if there is one.
type client struct {
	t    *testing.T
	ctx  context.Context
	conn *grpc.ClientConn
}

// dial waits until a server answers. What it holds may ask for a login.
func dial(t *testing.T, s *run.Server) *client {
	t.Helper()
	conn, err := s.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &client{t: t, ctx: t.Context(), conn: conn}
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		err := c.login()
		if err == nil {
			return c
		}
		if time.Since(began) > 30*time.Second {
			t.Fatalf("%v\n%s", err, s.LogTail(20))
		}
		conn.ResetConnectBackoff()
	}
}

func (c *client) login() error {
	ctx, cancel := context.WithTimeout(c.ctx, 5*time.Second)
	defer cancel()
	status, err := pb.NewAuthClient(c.conn).AuthStatus(ctx, &pb.AuthStatusRequest{})
	if err == nil && !status.Enabled {
		_, err = pb.NewKVClient(c.conn).Range(ctx, &pb.RangeRequest{Key: []byte{0}})
		return err
	}
	a, err := pb.NewAuthClient(c.conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: "root", Password: password})
	if err != nil {
		return err
	}
	c.ctx = metadata.AppendToOutgoingContext(c.ctx, "token", a.Token)
	return nil
}

// ask makes a call that has to succeed.
func ask[Q, A any](c *client, call func(context.Context, Q, ...grpc.CallOption) (A, error), q Q) A {
	c.t.Helper()
	a, err := call(c.ctx, q)
	if err != nil {
		c.t.Fatalf("%T %v: %v", q, q, err)
	}
	return a
}

func (c *client) put(key, value string, lease int64) int64 {
	c.t.Helper()
	return ask(c, pb.NewKVClient(c.conn).Put, &pb.PutRequest{Key: []byte(key), Value: []byte(value), Lease: lease}).Header.Revision
}

// history writes keys in many versions, some of them deleted, some in transactions, and compacts half of it.
func (c *client) history(name string) {
	c.t.Helper()
	kv := pb.NewKVClient(c.conn)
	var rev int64
	for i := range 150 {
		rev = c.put(fmt.Sprint(name, i%40), fmt.Sprint(name, " ", i), 0)
	}
	ask(c, kv.DeleteRange, &pb.DeleteRangeRequest{Key: []byte(name + "1"), RangeEnd: []byte(name + "15")})
	put := func(key string) *pb.RequestOp {
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), Value: []byte("t")}}}
	}
	ask(c, kv.Txn, &pb.TxnRequest{Success: []*pb.RequestOp{put(name + "x"), put(name + "y"), put(name + "2")}})
	ask(c, kv.Compact, &pb.CompactionRequest{Revision: rev - 60})
	for i := range 20 {
		c.put(fmt.Sprint(name, "tail", i), "v", 0)
	}
}

// alarm raises one, or takes it back.
func (c *client) alarm(action pb.AlarmRequest_AlarmAction) {
	c.t.Helper()
	ask(c, pb.NewMaintenanceClient(c.conn).Alarm, &pb.AlarmRequest{Action: action, MemberID: 0xabcd, Alarm: pb.AlarmType_NOSPACE})
}

// populate puts one of everything into a new server: history with tombstones and a compaction that its settings keep from coming to
// its end, leases, users and roles, authentication, an alarm.
func (c *client) populate() {
	c.t.Helper()
	lease, auth := pb.NewLeaseClient(c.conn), pb.NewAuthClient(c.conn)
	for id := int64(1000); id < 1003; id++ {
		ask(c, lease.LeaseGrant, &pb.LeaseGrantRequest{ID: id, TTL: 3600 * id})
		c.put(fmt.Sprint("leased", id), "v", id)
	}
	c.history("k")
	ask(c, auth.RoleAdd, &pb.AuthRoleAddRequest{Name: "root"})
	ask(c, auth.RoleAdd, &pb.AuthRoleAddRequest{Name: "app"})
	ask(c, auth.UserAdd, &pb.AuthUserAddRequest{Name: "root", Password: password})
	ask(c, auth.UserAdd, &pb.AuthUserAddRequest{Name: "app", Password: "app"})
	ask(c, auth.UserGrantRole, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"})
	ask(c, auth.UserGrantRole, &pb.AuthUserGrantRoleRequest{User: "app", Role: "app"})
	ask(c, auth.AuthEnable, &pb.AuthEnableRequest{})
	if err := c.login(); err != nil {
		c.t.Fatal(err)
	}
	c.alarm(pb.AlarmRequest_ACTIVATE)
}

// hash is what HashKV answers.
func (c *client) hash() string {
	c.t.Helper()
	h := ask(c, pb.NewMaintenanceClient(c.conn).HashKV, &pb.HashKVRequest{})
	return fmt.Sprintf("%d, %d, %d", h.Hash, h.HashRevision, h.CompactRevision)
}

// fingerprint writes down what a server holds: two that hold the same give the same.
func (c *client) fingerprint() string {
	c.t.Helper()
	var out strings.Builder
	say := func(what string, m proto.Message) {
		if f := m.ProtoReflect().Descriptor().Fields().ByName("header"); f != nil {
			m.ProtoReflect().Clear(f)
		}
		text, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			c.t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s %q\n", what, text)
	}
	kv, lease, auth := pb.NewKVClient(c.conn), pb.NewLeaseClient(c.conn), pb.NewAuthClient(c.conn)
	all := ask(c, kv.Range, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}) // first: it waits until the member is level
	rev := all.Header.Revision
	say("keys", all)
	hash := ask(c, pb.NewMaintenanceClient(c.conn).HashKV, &pb.HashKVRequest{})
	hash.HashRevision = cmp.Or(hash.HashRevision, hash.Header.GetRevision()) // etcd 3.5 leaves it out
	say("hash", hash)
	if rev-15 >= hash.CompactRevision {
		say("keys before", ask(c, kv.Range, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: rev - 15}))
	}
	leases := ask(c, lease.LeaseLeases, &pb.LeaseLeasesRequest{}).Leases
	slices.SortFunc(leases, func(a, b *pb.LeaseStatus) int { return cmp.Compare(a.ID, b.ID) }) // etcd's come by what is left of them
	for _, l := range leases {
		ttl := ask(c, lease.LeaseTimeToLive, &pb.LeaseTimeToLiveRequest{ID: l.ID, Keys: true})
		ttl.TTL = 0 // what is left passes
		say("lease", ttl)
	}
	say("alarms", ask(c, pb.NewMaintenanceClient(c.conn).Alarm, &pb.AlarmRequest{Action: pb.AlarmRequest_GET}))
	say("auth", ask(c, auth.AuthStatus, &pb.AuthStatusRequest{}))
	for _, u := range ask(c, auth.UserList, &pb.AuthUserListRequest{}).Users {
		say("user "+u, ask(c, auth.UserGet, &pb.AuthUserGetRequest{Name: u}))
	}
	for _, r := range ask(c, auth.RoleList, &pb.AuthRoleListRequest{}).Roles {
		say("role "+r, ask(c, auth.RoleGet, &pb.AuthRoleGetRequest{Role: r}))
	}
	return out.String()
}

// member is the id of the server's member and of its cluster.
func (c *client) member() string {
	c.t.Helper()
	h := ask(c, pb.NewKVClient(c.conn).Range, &pb.RangeRequest{Key: []byte{0}}).Header
	return fmt.Sprintf("%x of %x", h.MemberId, h.ClusterId)
}
