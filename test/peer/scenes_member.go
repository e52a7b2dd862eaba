package peer

import (
	"strings"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// learnerURL is where the learner that scenes add would listen; nobody does.
const learnerURL = "http://127.0.0.1:9"

func (g *gen) alarm(action pb.AlarmRequest_AlarmAction, member uint64, kind pb.AlarmType) *call {
	return g.call(alarm, &pb.AlarmRequest{Action: action, MemberID: member, Alarm: kind})
}

// status asks for the status once the storage has the version of the server, which takes etcd some seconds after a first
// start.
func (g *gen) status() *call {
	c := g.call(memberStatus, &pb.StatusRequest{})
	c.before = (*world).waitVersion
	return c
}

func (w *world) waitVersion() error {
	if w.versionKnown {
		return nil
	}
	for _, target := range w.targets {
		known := eventually(func() bool {
			r, ok := target.call(0, memberStatus, nil, &pb.StatusRequest{}).only().(*pb.StatusResponse)
			return ok && minor(r.StorageVersion) == minor(r.Version)
		})
		if !known {
			return w.differ("the storage version of %s is never known", target.name)
		}
	}
	w.versionKnown = true
	return nil
}

// minor cuts a version after its minor part.
func minor(version string) string {
	cut := strings.LastIndex(version, ".")
	return version[:max(0, cut)]
}

var memberScenes = []scene{
	func(g *gen) []op { // a learner comes and goes
		add := g.call(memberAdd, &pb.MemberAddRequest{PeerURLs: []string{learnerURL}, IsLearner: true})
		add.chose = func(w *world, want, got proto.Message) {
			a, b := want.(*pb.MemberAddResponse).Member.GetID(), got.(*pb.MemberAddResponse).Member.GetID()
			w.learnerID = [2]uint64{a, b}
			w.chosen[int64(a)] = int64(b)
		}
		return []op{
			g.meet("1.3 the revision of a cluster answer is 0",
				saw(func(r *pb.MemberListResponse) bool { return r.Header.Revision == 0 }),
				memberList, &pb.MemberListRequest{Linearizable: g.chance(2)}),
			add,
			g.call(memberAdd, &pb.MemberAddRequest{PeerURLs: []string{learnerURL + "9"}, IsLearner: true}),
			g.call(memberAdd, &pb.MemberAddRequest{PeerURLs: []string{learnerURL}, IsLearner: true}),
			g.call(memberList, &pb.MemberListRequest{Linearizable: true}),
			g.call(memberPromote, &pb.MemberPromoteRequest{ID: learner()}),
			g.call(memberRemove, &pb.MemberRemoveRequest{ID: learner()}),
			g.call(memberRemove, &pb.MemberRemoveRequest{ID: learner()}),
			g.call(memberPromote, &pb.MemberPromoteRequest{ID: learner()}),
			g.call(memberList, &pb.MemberListRequest{}),
		}
	},
	func(g *gen) []op {
		bad := [][]string{nil, {"ftp://127.0.0.1:1"}, {"http://127.0.0.1"}, {"127.0.0.1:1"}, {"http://127.0.0.1:1/path"}, {""}}
		return []op{
			g.call(memberPromote, &pb.MemberPromoteRequest{ID: self()}),
			g.call(memberPromote, &pb.MemberPromoteRequest{ID: 77}),
			g.call(memberRemove, &pb.MemberRemoveRequest{ID: self()}),
			g.call(memberRemove, &pb.MemberRemoveRequest{ID: 77}),
			g.call(memberUpdate, &pb.MemberUpdateRequest{ID: 77, PeerURLs: []string{learnerURL}}),
			g.call(memberUpdate, &pb.MemberUpdateRequest{ID: self(), PeerURLs: []string{advertisedPeer}}),
			g.call(memberAdd, &pb.MemberAddRequest{PeerURLs: []string{advertisedPeer}}),
			g.call(memberAdd, &pb.MemberAddRequest{PeerURLs: bad[g.rng.IntN(len(bad))], IsLearner: true}),
			g.call(moveLeader, &pb.MoveLeaderRequest{TargetID: 77}),
			g.call(moveLeader, &pb.MoveLeaderRequest{TargetID: self()}),
			g.call(downgrade, &pb.DowngradeRequest{Action: pb.DowngradeRequest_VALIDATE,
				Version: []string{"3.6", "3.6.0", "3.5", "3.8", "x", "", "4.0"}[g.rng.IntN(7)]}),
			g.call(downgrade, &pb.DowngradeRequest{Action: pb.DowngradeRequest_VALIDATE, Version: "3.5"}),
			g.call(downgrade, &pb.DowngradeRequest{Action: pb.DowngradeRequest_VALIDATE, Version: "three"}),
			g.call(downgrade, &pb.DowngradeRequest{Action: pb.DowngradeRequest_CANCEL}),
			g.status(),
		}
	},
	func(g *gen) []op {
		on, off := pb.AlarmRequest_ACTIVATE, pb.AlarmRequest_DEACTIVATE
		read := &pb.RangeRequest{Key: []byte("s/"), RangeEnd: []byte("s0")}
		return append(g.fill("1", "2"),
			g.alarm(on, self(), pb.AlarmType_NOSPACE),
			g.alarm(on, self(), pb.AlarmType_NOSPACE),
			g.put(0, "x"),
			g.call(txn, then(putOf(0))), g.call(txn, then(getOf(0))), g.call(txn, then(deleteOf(1, 2))),
			g.call(txn, &pb.TxnRequest{Success: []*pb.RequestOp{getOf(0)}, Failure: []*pb.RequestOp{putOf(0)}}),
			g.call(txn, then(opTxn(then(putOf(0))))),
			g.call(leaseGrant, &pb.LeaseGrantRequest{ID: leaseIDs[0], TTL: longTTL}),
			g.meet("NOSPACE: deletes and reads are served", done, deleteRange, &pb.DeleteRangeRequest{Key: sceneKey(1)}),
			g.call(kvRange, read), g.compact(atCurrent(0), true), g.status(), g.alarm(pb.AlarmRequest_GET, 0, pb.AlarmType_NONE),
			g.alarm(on, 12345, pb.AlarmType_NOSPACE), g.alarm(pb.AlarmRequest_GET, self(), pb.AlarmType_NOSPACE),
			g.alarm(off, self(), pb.AlarmType_NOSPACE), g.put(0, "y"),
			g.alarm(off, 12345, pb.AlarmType_NOSPACE), g.alarm(off, 12345, pb.AlarmType_NOSPACE), g.alarm(off, 0, pb.AlarmType_CORRUPT),
			g.meet("NOSPACE: disarmed, puts are served", done, put, &pb.PutRequest{Key: sceneKey(0)}),
			g.alarm(pb.AlarmRequest_GET, 0, pb.AlarmType(g.rng.IntN(4))), g.alarm(on, self(), pb.AlarmType_NONE))
	},
	func(g *gen) []op {
		id := self()
		if g.chance(2) {
			id = 4711 // any member's alarm stops all
		}
		return append(g.fill("1"),
			g.call(leaseGrant, &pb.LeaseGrantRequest{ID: leaseIDs[1], TTL: longTTL}),
			g.alarm(pb.AlarmRequest_ACTIVATE, id, pb.AlarmType_CORRUPT),
			g.put(0, "x"), g.call(kvRange, sceneRange()), g.call(kvRange, &pb.RangeRequest{Key: sceneKey(0), Serializable: true}),
			g.call(rangeStream, sceneRange()),
			g.call(deleteRange, &pb.DeleteRangeRequest{Key: sceneKey(0)}), g.call(txn, then(getOf(0))), g.call(txn, then(putOf(0))),
			g.compact(atCurrent(0), false), g.hashKV(0),
			g.call(leaseGrant, &pb.LeaseGrantRequest{ID: leaseIDs[0], TTL: longTTL}), g.call(leaseRevoke,
				&pb.LeaseRevokeRequest{ID: leaseIDs[1]}),
			g.call(leaseTimeToLive, &pb.LeaseTimeToLiveRequest{ID: leaseIDs[1], Keys: true}), g.call(leaseKeepAlive,
				&pb.LeaseKeepAliveRequest{ID: leaseIDs[1]}),
			g.status(), g.alarm(pb.AlarmRequest_GET, 0, pb.AlarmType_CORRUPT),
			g.meet("CORRUPT: member list and status are served", done, memberList, &pb.MemberListRequest{}),
			g.alarm(pb.AlarmRequest_DEACTIVATE, id, pb.AlarmType_CORRUPT),
			g.meet("CORRUPT: disarmed, puts are served", done, put, &pb.PutRequest{Key: sceneKey(0)}))
	},
	authScene,
}

// authScene administers users and roles while authentication is off.
func authScene(g *gen) []op {
	noPassword := &authpb.UserAddOptions{NoPassword: true}
	perm := &authpb.Permission{PermType: authpb.READWRITE, Key: []byte("a"), RangeEnd: []byte("c")}
	calls := []struct {
		method  string
		request proto.Message
	}{
		{"AuthStatus", &pb.AuthStatusRequest{}},
		{"AuthEnable", &pb.AuthEnableRequest{}}, // no root
		{"Authenticate", &pb.AuthenticateRequest{Name: "u", Password: "p"}},
		{"UserAdd", &pb.AuthUserAddRequest{Name: "u", Options: noPassword}},
		{"UserAdd", &pb.AuthUserAddRequest{Name: "u", Password: "p"}},
		{"UserAdd", &pb.AuthUserAddRequest{Password: "p"}},
		{"UserAdd", &pb.AuthUserAddRequest{Name: "v", Password: "p"}},
		{"UserGet", &pb.AuthUserGetRequest{Name: "u"}},
		{"UserGet", &pb.AuthUserGetRequest{Name: "nobody"}},
		{"UserChangePassword", &pb.AuthUserChangePasswordRequest{Name: "v", Password: "q"}},
		{"UserChangePassword", &pb.AuthUserChangePasswordRequest{Name: "nobody", Password: "q"}},
		{"RoleAdd", &pb.AuthRoleAddRequest{Name: "r"}},
		{"RoleAdd", &pb.AuthRoleAddRequest{Name: "r"}},
		{"RoleAdd", &pb.AuthRoleAddRequest{}},
		{"RoleGrantPermission", &pb.AuthRoleGrantPermissionRequest{Name: "r"}},
		{"RoleGrantPermission", &pb.AuthRoleGrantPermissionRequest{Name: "r", Perm: perm}},
		{"RoleGrantPermission", &pb.AuthRoleGrantPermissionRequest{Name: "nothing", Perm: perm}},
		{"RoleGet", &pb.AuthRoleGetRequest{Role: "r"}},
		{"RoleGet", &pb.AuthRoleGetRequest{Role: "nothing"}},
		{"RoleRevokePermission", &pb.AuthRoleRevokePermissionRequest{Role: "r", Key: []byte("x")}},
		{"RoleRevokePermission", &pb.AuthRoleRevokePermissionRequest{Role: "r", Key: perm.Key, RangeEnd: perm.RangeEnd}},
		{"UserGrantRole", &pb.AuthUserGrantRoleRequest{User: "u", Role: "r"}},
		{"UserGrantRole", &pb.AuthUserGrantRoleRequest{User: "u", Role: "nothing"}},
		{"UserGrantRole", &pb.AuthUserGrantRoleRequest{User: "nobody", Role: "r"}},
		{"UserList", &pb.AuthUserListRequest{}},
		{"RoleList", &pb.AuthRoleListRequest{}},
		{"UserRevokeRole", &pb.AuthUserRevokeRoleRequest{Name: "u", Role: "r"}},
		{"UserRevokeRole", &pb.AuthUserRevokeRoleRequest{Name: "u", Role: "r"}},
		{"UserAdd", &pb.AuthUserAddRequest{Name: "root", Options: noPassword}},
		{"AuthEnable", &pb.AuthEnableRequest{}}, // root without its role
		{"UserDelete", &pb.AuthUserDeleteRequest{Name: "root"}},
		{"UserDelete", &pb.AuthUserDeleteRequest{Name: "u"}},
		{"UserDelete", &pb.AuthUserDeleteRequest{Name: "v"}},
		{"UserDelete", &pb.AuthUserDeleteRequest{Name: "v"}},
		{"RoleDelete", &pb.AuthRoleDeleteRequest{Role: "r"}},
		{"RoleDelete", &pb.AuthRoleDeleteRequest{Role: "r"}},
		{"AuthDisable", &pb.AuthDisableRequest{}},
		{"AuthStatus", &pb.AuthStatusRequest{}},
	}
	var ops []op
	for _, c := range calls {
		ops = append(ops, g.call(authPath+c.method, c.request))
	}
	return ops
}
