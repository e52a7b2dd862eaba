package peer

import (
	"context"
	"math/rand/v2"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// usersRequests is how many requests are made in the names of users with permissions drawn at random.
const usersRequests = 400

// userNames are users with permissions of their own, and one more role than users.
var (
	userNames = []string{"ann", "bob", "eve"}
	roleNames = []string{"one", "two", "three", "four"}
)

// guardedKeys and the ends beside them leave ranges that touch, overlap, hold one another, and hold keys that nothing names.
var (
	guardedKeys = []string{"p/a", "p/a\x00", "p/b", "p/bb", "p/c", "p/d"}
	guardedEnds = []string{"", "", "", "\x00", "p/a\x00", "p/b", "p/bb", "p/c", "p/d", "p0", "q"}
	// guardedLeases may hold keys of anybody.
	guardedLeases = []int64{701, 702, 703}
)

// requester asks in the names of users, who gain and lose roles and permissions meanwhile.
type requester struct {
	*world
	rng    *rand.Rand
	tokens map[string][2]string
}

// users is the part of an episode in which users ask for whatever a seed says: both servers permit and refuse the same, and in
// the end hold the same.
func (w *world) users(seed uint64) error {
	r := &requester{world: w, rng: newRand(seed ^ 0x75736572), tokens: map[string][2]string{nobody: {}, stranger: {"no.token", "no.token"}}}
	if err := r.setUp(); err != nil {
		return err
	}
	for range usersRequests {
		if err := r.step(); err != nil {
			return err
		}
	}
	everything := &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}
	for _, q := range []guardedRequest{{kvRange, everything}, {hashKV, &pb.HashKVRequest{}}, {authPath + "AuthStatus", &pb.AuthStatusRequest{}},
		{authPath + "AuthDisable", &pb.AuthDisableRequest{}}} {
		if err := r.ask(rootUser, q); err != nil {
			return err
		}
	}
	w.introduce([2]string{})
	return r.clear()
}

// setUp makes users and roles, switches authentication on and logs everybody in.
func (r *requester) setUp() error {
	asks := []guardedRequest{{authPath + "UserAdd", &pb.AuthUserAddRequest{Name: rootUser, Password: "top"}}}
	asks = append(asks, guardedRequest{authPath + "UserGrantRole", &pb.AuthUserGrantRoleRequest{User: rootUser, Role: rootUser}})
	for _, name := range userNames {
		asks = append(asks, guardedRequest{authPath + "UserAdd", &pb.AuthUserAddRequest{Name: name, Password: name}})
	}
	for i, name := range roleNames {
		asks = append(asks, guardedRequest{authPath + "RoleAdd", &pb.AuthRoleAddRequest{Name: name}},
			guardedRequest{authPath + "UserGrantRole", &pb.AuthUserGrantRoleRequest{User: userNames[i%len(userNames)], Role: name}})
		for range 3 {
			asks = append(asks, guardedRequest{authPath + "RoleGrantPermission", &pb.AuthRoleGrantPermissionRequest{Name: name, Perm: r.permission()}})
		}
	}
	asks = append(asks, guardedRequest{authPath + "AuthEnable", &pb.AuthEnableRequest{}})
	for _, q := range asks {
		if err := r.ask(nobody, q); err != nil {
			return err
		}
	}
	for _, name := range append([]string{rootUser}, userNames...) {
		password := name
		if name == rootUser {
			password = "top"
		}
		if err := r.logIn(name, password); err != nil {
			return err
		}
	}
	r.introduce(r.tokens[rootUser])
	return nil
}

func (r *requester) logIn(name, password string) (err error) {
	r.tokens[name], err = r.as(r.rng.IntN(clients), [2]string{}, authPath+"Authenticate", &pb.AuthenticateRequest{Name: name, Password: password})
	return err
}

// clear removes what setUp made.
func (r *requester) clear() error {
	for _, name := range append([]string{rootUser, reader, "locked"}, userNames...) {
		if err := r.ask(nobody, guardedRequest{authPath + "UserDelete", &pb.AuthUserDeleteRequest{Name: name}}); err != nil {
			return err
		}
	}
	for _, name := range append([]string{rootUser, reader}, roleNames...) {
		if err := r.ask(nobody, guardedRequest{authPath + "RoleDelete", &pb.AuthRoleDeleteRequest{Role: name}}); err != nil {
			return err
		}
	}
	return nil
}

// ask makes one request in a user's name, on any connection.
func (r *requester) ask(name string, q guardedRequest) error {
	conn := r.rng.IntN(clients)
	_, err := r.as(conn, r.tokens[name], q.path, q.request)
	if d, is := err.(*difference); is {
		return r.differ("%q asks on connection %d %s {%s}:\n%s", name, conn, q.path, short(q.request), d.text)
	}
	return err
}

// firstOfWatch asks for a watch on a stream of its own and returns the first answer.
func (t *target) firstOfWatch(conn int, md metadata.MD, request *pb.WatchCreateRequest) answer {
	ctx, cancel := context.WithTimeout(metadata.NewOutgoingContext(context.Background(), md), callTimeout)
	defer cancel()
	stream, err := pb.NewWatchClient(t.conns[conn]).Watch(ctx)
	if err == nil {
		err = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: request}})
	}
	if err != nil {
		return t.ended(watchPath, nil, err)
	}
	first, err := stream.Recv()
	if err != nil {
		return t.ended(watchPath, nil, err)
	}
	if err := t.checkOrigin(conn, first); err != nil {
		return answer{code: codes.DataLoss, text: err.Error()}
	}
	return answer{messages: []proto.Message{first}}
}

// step makes one request, or changes what users may do, and now and then a password, which ends the user's logins.
func (r *requester) step() error {
	name := userNames[r.rng.IntN(len(userNames))]
	switch r.rng.IntN(40) {
	case 0:
		name = nobody
	case 1:
		name = stranger
	case 2, 3:
		name = rootUser
	case 4, 5, 6, 7:
		return r.ask(rootUser, r.change())
	case 8:
		if err := r.ask(rootUser, guardedRequest{authPath + "UserChangePassword", &pb.AuthUserChangePasswordRequest{Name: name, Password: name}}); err != nil {
			return err
		}
		if err := r.ask(name, r.request()); err != nil {
			return err
		}
		return r.logIn(name, name)
	}
	return r.ask(name, r.request())
}

// change draws a change of roles and permissions, and a look at them.
func (r *requester) change() guardedRequest {
	user, role := userNames[r.rng.IntN(len(userNames))], roleNames[r.rng.IntN(len(roleNames))]
	switch r.rng.IntN(8) {
	case 0:
		return guardedRequest{authPath + "UserGrantRole", &pb.AuthUserGrantRoleRequest{User: user, Role: role}}
	case 1:
		return guardedRequest{authPath + "UserRevokeRole", &pb.AuthUserRevokeRoleRequest{Name: user, Role: role}}
	case 2:
		p := r.permission()
		return guardedRequest{authPath + "RoleRevokePermission", &pb.AuthRoleRevokePermissionRequest{Role: role, Key: p.Key, RangeEnd: p.RangeEnd}}
	case 3:
		return guardedRequest{authPath + "RoleGet", &pb.AuthRoleGetRequest{Role: role}}
	case 4:
		return guardedRequest{authPath + "UserGet", &pb.AuthUserGetRequest{Name: user}}
	}
	return guardedRequest{authPath + "RoleGrantPermission", &pb.AuthRoleGrantPermissionRequest{Name: role, Perm: r.permission()}}
}

func (r *requester) key() []byte { return []byte(guardedKeys[r.rng.IntN(len(guardedKeys))]) }
func (r *requester) end() []byte { return []byte(guardedEnds[r.rng.IntN(len(guardedEnds))]) }

func (r *requester) permission() *authpb.Permission {
	return &authpb.Permission{PermType: authpb.Permission_Type(r.rng.IntN(3)), Key: r.key(), RangeEnd: r.end()}
}

func (r *requester) prev() bool { return r.rng.IntN(3) == 0 }

func (r *requester) lease() int64 { return guardedLeases[r.rng.IntN(len(guardedLeases))] }

// request draws a request for keys or leases, with one key more often than a range.
func (r *requester) request() guardedRequest {
	switch r.rng.IntN(16) {
	case 0, 1:
		return guardedRequest{kvRange, &pb.RangeRequest{Key: r.key(), RangeEnd: r.end(), Serializable: r.prev()}}
	case 2:
		return guardedRequest{rangeStream, &pb.RangeRequest{Key: r.key(), RangeEnd: r.end()}}
	case 3, 4:
		return guardedRequest{put, r.put()}
	case 5:
		return guardedRequest{deleteRange, r.delete()}
	case 6:
		return guardedRequest{watchPath, &pb.WatchCreateRequest{Key: r.key(), RangeEnd: r.end(), PrevKv: r.prev(), StartRevision: r.rng.Int64N(3) - 1}}
	case 7:
		return guardedRequest{leaseGrant, &pb.LeaseGrantRequest{ID: r.lease(), TTL: longTTL}}
	case 8:
		return guardedRequest{leaseRevoke, &pb.LeaseRevokeRequest{ID: r.lease()}}
	case 9:
		return guardedRequest{leaseTimeToLive, &pb.LeaseTimeToLiveRequest{ID: r.lease(), Keys: r.prev()}}
	case 10:
		return guardedRequest{leaseKeepAlive, &pb.LeaseKeepAliveRequest{ID: r.lease()}}
	case 11:
		return guardedRequest{leaseLeases, &pb.LeaseLeasesRequest{}}
	}
	return guardedRequest{txn, r.txn(2)}
}

func (r *requester) put() *pb.PutRequest {
	q := &pb.PutRequest{Key: r.key(), Value: []byte("v"), PrevKv: r.prev()}
	if r.prev() {
		q.Lease = r.lease()
	}
	return q
}

func (r *requester) delete() *pb.DeleteRangeRequest {
	q := &pb.DeleteRangeRequest{Key: r.key(), PrevKv: r.prev()}
	if r.prev() {
		q.RangeEnd = r.end()
	}
	return q
}

// txn draws a transaction with at most one operation in each branch, so that no two writes meet.
func (r *requester) txn(depth int) *pb.TxnRequest {
	q := &pb.TxnRequest{}
	if r.prev() {
		q.Compare = append(q.Compare, &pb.Compare{Key: r.key(), RangeEnd: r.end(), Target: pb.Compare_VERSION, Result: pb.Compare_GREATER})
	}
	for _, branch := range []*[]*pb.RequestOp{&q.Success, &q.Failure} {
		switch n := r.rng.IntN(6); {
		case n == 0:
		case n == 1:
			*branch = append(*branch, opRange(&pb.RangeRequest{Key: r.key(), RangeEnd: r.end()}))
		case n == 2:
			*branch = append(*branch, opDelete(r.delete()))
		case n == 3 && depth > 0:
			*branch = append(*branch, opTxn(r.txn(depth-1)))
		default:
			*branch = append(*branch, opPut(r.put()))
		}
	}
	return q
}
