package clientv3

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/mirror"
)

func TestStatus(t *testing.T) {
	ctx, c := connect(t)
	st := must[*clientv3.StatusResponse](t)(c.Status(ctx, os.Getenv("HOLDFAST_ENDPOINT")))
	if !strings.HasPrefix(st.Version, "3.") || st.DbSize <= 0 || st.Leader == 0 || st.RaftTerm == 0 || st.RaftIndex == 0 || st.IsLearner {
		t.Errorf("status %+v", st)
	}
	equal(t, "leader of one member", st.Header.MemberId, st.Leader)
	members := must[*clientv3.MemberListResponse](t)(c.MemberList(ctx))
	equal(t, "members", fmt.Sprint("1 ", st.Header.MemberId), fmt.Sprint(len(members.Members), " ", members.Members[0].ID))
	if err := c.Sync(ctx); err != nil {
		t.Error(err)
	}
	alarms := must[*clientv3.AlarmResponse](t)(c.AlarmList(ctx))
	equal(t, "alarms", 0, len(alarms.Alarms))
	must[*clientv3.DefragmentResponse](t)(c.Defragment(ctx, os.Getenv("HOLDFAST_ENDPOINT")))
}

// TestHashKV asks for the hash at a revision before and after further writes.
func TestHashKV(t *testing.T) {
	ctx, c := connect(t)
	endpoint := os.Getenv("HOLDFAST_ENDPOINT")
	rev := must[*clientv3.PutResponse](t)(c.Put(ctx, "hash/a", "1")).Header.Revision
	before := must[*clientv3.HashKVResponse](t)(c.HashKV(ctx, endpoint, rev))
	must[*clientv3.PutResponse](t)(c.Put(ctx, "hash/a", "2"))
	after := must[*clientv3.HashKVResponse](t)(c.HashKV(ctx, endpoint, rev))
	now := must[*clientv3.HashKVResponse](t)(c.HashKV(ctx, endpoint, 0))
	equal(t, "hash of the same revision", before.Hash, after.Hash)
	if now.Hash == before.Hash {
		t.Errorf("a write leaves the hash at %d", now.Hash)
	}
}

// TestSnapshot reads a snapshot to its end; it closes with the checksum of the rest.
func TestSnapshot(t *testing.T) {
	ctx, c := connect(t)
	must[*clientv3.PutResponse](t)(c.Put(ctx, "snapshot/a", "1"))
	stream := must[io.ReadCloser](t)(c.Snapshot(ctx))
	data := must[[]byte](t)(io.ReadAll(stream))
	if err := stream.Close(); err != nil {
		t.Error(err)
	}
	if len(data)%512 != sha256.Size {
		t.Fatalf("%d bytes are no database followed by a checksum", len(data))
	}
	database, sum := data[:len(data)-sha256.Size], data[len(data)-sha256.Size:]
	if got := sha256.Sum256(database); !bytes.Equal(got[:], sum) {
		t.Errorf("the checksum is %x, the database's %x", sum, got)
	}
}

// TestMirror copies a prefix as make-mirror does: the base first, then the changes.
func TestMirror(t *testing.T) {
	ctx, c := connect(t)
	for i := range 20 {
		must[*clientv3.PutResponse](t)(c.Put(ctx, fmt.Sprintf("mirror/%02d", i), "1"))
	}
	syncer := mirror.NewSyncer(c, "mirror/", 0)
	pages, errs := syncer.SyncBase(ctx)
	keys := 0
	for p := range pages {
		keys += len(p.Kvs)
	}
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	equal(t, "keys of the base", 20, keys)
	updates := syncer.SyncUpdates(ctx)
	must[*clientv3.PutResponse](t)(c.Put(ctx, "mirror/new", "1"))
	equal(t, "change", "PUT mirror/new=1 v1 new", follow(ctx, t, updates, 1))
}

// TestUsers turns authentication on, and off again at its end.
func TestUsers(t *testing.T) {
	if !serves("users") {
		t.Skip("the server refuses everything about users")
	}
	ctx, c := connect(t)
	must[*clientv3.AuthUserAddResponse](t)(c.UserAdd(ctx, "root", "rootpw"))
	must[*clientv3.AuthUserGrantRoleResponse](t)(c.UserGrantRole(ctx, "root", "root"))
	must[*clientv3.AuthRoleAddResponse](t)(c.RoleAdd(ctx, "reader"))
	must[*clientv3.AuthRoleGrantPermissionResponse](t)(c.RoleGrantPermission(ctx, "reader", "users/", clientv3.GetPrefixRangeEnd("users/"),
		clientv3.PermissionType(clientv3.PermRead)))
	must[*clientv3.AuthUserAddResponse](t)(c.UserAdd(ctx, "alice", "alicepw"))
	must[*clientv3.AuthUserGrantRoleResponse](t)(c.UserGrantRole(ctx, "alice", "reader"))
	must[*clientv3.PutResponse](t)(c.Put(ctx, "users/a", "1"))
	must[*clientv3.AuthEnableResponse](t)(c.AuthEnable(ctx))
	_, err := c.Get(ctx, "users/a")
	wants(t, "nobody", rpctypes.ErrUserEmpty, err)

	ctx, root := connectAs(t, "root", "rootpw")
	defer func() {
		must[*clientv3.AuthDisableResponse](t)(root.AuthDisable(ctx))
		must[*clientv3.AuthUserDeleteResponse](t)(root.UserDelete(ctx, "alice"))
		must[*clientv3.AuthRoleDeleteResponse](t)(root.RoleDelete(ctx, "reader"))
		must[*clientv3.AuthUserDeleteResponse](t)(root.UserDelete(ctx, "root"))
	}()
	_, alice := connectAs(t, "alice", "alicepw")
	equal(t, "alice reads", "users/a=1", pairs(must[*clientv3.GetResponse](t)(alice.Get(ctx, "users/a"))))
	_, err = alice.Get(ctx, "other")
	wants(t, "alice reads more", rpctypes.ErrPermissionDenied, err)
	_, err = alice.Put(ctx, "users/a", "2")
	wants(t, "alice writes", rpctypes.ErrPermissionDenied, err)
	watch := alice.Watch(ctx, "other")
	if r := <-watch; !r.Canceled {
		t.Errorf("alice watches another key: %+v", r)
	}
	// A change of the password takes alice's tokens, a change of roles makes the revision of what she asks old; her client
	// logs in again and she notices neither.
	must[*clientv3.AuthUserChangePasswordResponse](t)(root.UserChangePassword(ctx, "alice", "alicepw"))
	equal(t, "alice reads again", "users/a=1", pairs(must[*clientv3.GetResponse](t)(alice.Get(ctx, "users/a"))))
	must[*clientv3.AuthRoleAddResponse](t)(root.RoleAdd(ctx, "other"))
	must[*clientv3.AuthRoleDeleteResponse](t)(root.RoleDelete(ctx, "other"))
	equal(t, "alice reads on", "users/a=1", pairs(must[*clientv3.GetResponse](t)(alice.Get(ctx, "users/a"))))
	user := must[*clientv3.AuthUserGetResponse](t)(root.UserGet(ctx, "alice"))
	equal(t, "roles", "[reader]", user.Roles)
	must[*clientv3.PutResponse](t)(root.Put(ctx, "users/a", "3"))
}
