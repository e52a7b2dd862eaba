package peer

import (
	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

const (
	authService = "etcdserverpb.Auth"
	authPath    = "/" + authService + "/"
)

// The users of the part with authentication on, and a token that nobody was given.
const (
	nobody   = ""
	rootUser = "root"
	reader   = "reader" // may read keys that begin with "r", write "w", and nothing else
	stranger = "stranger"
)

// guarded is the part of an episode with authentication on: two users and two who are none ask for what each may and may
// not have. It is a list, not a draw: what matters is who asks what.
func (w *world) guarded() error {
	read := &authpb.Permission{PermType: authpb.READ, Key: []byte("r"), RangeEnd: []byte("s")}
	write := &authpb.Permission{PermType: authpb.WRITE, Key: []byte("w")}
	for _, c := range []struct {
		method  string
		request proto.Message
	}{
		{"UserAdd", &pb.AuthUserAddRequest{Name: rootUser, Password: "top"}},
		{"RoleAdd", &pb.AuthRoleAddRequest{Name: rootUser}},
		{"UserGrantRole", &pb.AuthUserGrantRoleRequest{User: rootUser, Role: rootUser}},
		{"UserAdd", &pb.AuthUserAddRequest{Name: reader, Password: "read"}},
		{"UserAdd", &pb.AuthUserAddRequest{Name: "locked", Options: &authpb.UserAddOptions{NoPassword: true}}},
		{"RoleAdd", &pb.AuthRoleAddRequest{Name: reader}},
		{"RoleGrantPermission", &pb.AuthRoleGrantPermissionRequest{Name: reader, Perm: read}},
		{"RoleGrantPermission", &pb.AuthRoleGrantPermissionRequest{Name: reader, Perm: write}},
		{"UserGrantRole", &pb.AuthUserGrantRoleRequest{User: reader, Role: reader}},
		{"AuthEnable", &pb.AuthEnableRequest{}},
		{"AuthEnable", &pb.AuthEnableRequest{}},
		{"Authenticate", &pb.AuthenticateRequest{Name: reader, Password: "wrong"}},
		{"Authenticate", &pb.AuthenticateRequest{Name: stranger, Password: "read"}},
		{"Authenticate", &pb.AuthenticateRequest{Name: "locked", Password: "any"}},
	} {
		if _, err := w.as(0, [2]string{}, authPath+c.method, c.request); err != nil {
			return err
		}
	}
	tokens := map[string][2]string{nobody: {}, stranger: {"no.token", "no.token"}}
	for _, r := range []*pb.AuthenticateRequest{{Name: rootUser, Password: "top"}, {Name: reader, Password: "read"}} {
		given, err := w.as(0, [2]string{}, authPath+"Authenticate", r)
		if err != nil {
			return err
		}
		tokens[r.Name] = given
	}
	w.introduce(tokens[rootUser])
	for _, user := range []string{nobody, stranger, reader, rootUser} {
		for _, q := range guardedRequests() {
			if _, err := w.as(0, tokens[user], q.path, q.request); err != nil {
				return err
			}
		}
	}
	_, err := w.as(0, tokens[rootUser], authPath+"AuthDisable", &pb.AuthDisableRequest{})
	w.introduce([2]string{})
	return err
}

// introduce gives the harness' own questions tokens to carry, none while authentication is off.
func (w *world) introduce(token [2]string) {
	for t := range w.targets {
		w.targets[t].identity = nil
		if token[t] != "" {
			w.targets[t].identity = metadata.Pairs("token", token[t])
		}
	}
}

type guardedRequest struct {
	path    string
	request proto.Message
}

// guardedRequests are what each user asks for, in this order: reads and writes with and without permission, operations for
// administrators, and the changes that authentication forbids while it is on.
func guardedRequests() []guardedRequest {
	get := func(key, end string) *pb.RangeRequest {
		return &pb.RangeRequest{Key: []byte(key), RangeEnd: []byte(end)}
	}
	set := func(key string) *pb.PutRequest { return &pb.PutRequest{Key: []byte(key), Value: []byte("v")} }
	return []guardedRequest{
		{kvRange, get("r", "")}, {kvRange, get("r", "rz")}, {kvRange, get("q", "")}, {kvRange, get("q", "rz")}, {kvRange, get("r", "\x00")},
		{rangeStream, get("r", "")}, {rangeStream, get("q", "")},
		{put, set("w")}, {put, set("r")}, {put, &pb.PutRequest{Key: []byte("w"), PrevKv: true}},
		{deleteRange, &pb.DeleteRangeRequest{Key: []byte("w")}}, {deleteRange, &pb.DeleteRangeRequest{Key: []byte("w"), PrevKv: true}},
		{deleteRange, &pb.DeleteRangeRequest{Key: []byte("v"), RangeEnd: []byte("x")}},
		{txn, then(opPut(set("w")), opRange(get("r", "")))},
		{txn, then(opPut(set("w")), opRange(get("q", "")))},
		{txn, &pb.TxnRequest{Success: []*pb.RequestOp{opRange(get("r", ""))}, Failure: []*pb.RequestOp{opPut(set("q"))}}},
		{txn, then(opTxn(then(opPut(set("q")))))},
		{txn, when(&pb.Compare{Key: []byte("q")})},
		{txn, &pb.TxnRequest{Compare: []*pb.Compare{{Key: []byte("w"), Target: pb.Compare_MOD}}}},
		{compact, &pb.CompactionRequest{Revision: 1}},
		{leaseGrant, &pb.LeaseGrantRequest{ID: 601, TTL: longTTL}}, {put, &pb.PutRequest{Key: []byte("w"), Lease: 601}},
		{leaseTimeToLive, &pb.LeaseTimeToLiveRequest{ID: 601, Keys: true}}, {leaseLeases, &pb.LeaseLeasesRequest{}},
		{leaseKeepAlive, &pb.LeaseKeepAliveRequest{ID: 601}}, {leaseRevoke, &pb.LeaseRevokeRequest{ID: 601}},
		{memberList, &pb.MemberListRequest{}}, {memberRemove, &pb.MemberRemoveRequest{ID: 77}},
		{alarm, &pb.AlarmRequest{}}, {alarm, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, Alarm: pb.AlarmType_CORRUPT}},
		{memberStatus, &pb.StatusRequest{}}, {hashKV, &pb.HashKVRequest{}}, {hash, &pb.HashRequest{}}, {defragment, &pb.DefragmentRequest{}},
		{moveLeader, &pb.MoveLeaderRequest{TargetID: 77}}, {downgrade, &pb.DowngradeRequest{Version: "3.6"}},
		{authPath + "AuthStatus", &pb.AuthStatusRequest{}},
		{authPath + "UserGet", &pb.AuthUserGetRequest{Name: reader}}, {authPath + "UserGet", &pb.AuthUserGetRequest{Name: rootUser}},
		{authPath + "RoleGet", &pb.AuthRoleGetRequest{Role: reader}}, {authPath + "RoleGet", &pb.AuthRoleGetRequest{Role: rootUser}},
		{authPath + "UserList", &pb.AuthUserListRequest{}}, {authPath + "RoleList", &pb.AuthRoleListRequest{}},
		{authPath + "UserAdd", &pb.AuthUserAddRequest{Name: reader, Password: "x"}},
		{authPath + "UserDelete", &pb.AuthUserDeleteRequest{Name: rootUser}},
		{authPath + "RoleDelete", &pb.AuthRoleDeleteRequest{Role: rootUser}},
		{authPath + "UserRevokeRole", &pb.AuthUserRevokeRoleRequest{Name: rootUser, Role: rootUser}},
	}
}

// as makes a call on a connection with a user's token, which differs between the servers, and returns the tokens of an answer
// that has one. Of a watch it takes the first answer.
func (w *world) as(conn int, token [2]string, path string, request proto.Message) (given [2]string, err error) {
	if w.methodLine(w.omitted, path) != "" {
		return given, nil
	}
	waits := path
	if token[1] != "" {
		// Whatever is asked, the member has to know the token: etcd waits for the entry before the one that gave it.
		waits = ""
	}
	if err := w.catchUp(w.targets[1], conn, waits, []proto.Message{request}); err != nil {
		return given, err
	}
	want, got, err := w.exchange(request, func(t int) answer {
		var md metadata.MD
		if token[t] != "" {
			md = metadata.Pairs("token", token[t])
		}
		if create, is := request.(*pb.WatchCreateRequest); is {
			return w.targets[t].firstOfWatch(conn, md, create)
		}
		return joined(w.targets[t].call(conn, path, md, request))
	}, nil)
	if err != nil {
		return given, err
	}
	for t, a := range []answer{want, got} {
		if r, ok := a.only().(*pb.AuthenticateResponse); ok {
			given[t] = r.Token
		}
	}
	return given, nil
}
